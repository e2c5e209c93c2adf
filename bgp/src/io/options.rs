//! Socket options that `socket2` has no word for: TCP MD5 signatures (RFC 2385) and the lowest TTL taken (RFC 5082).
//!
//! They go through `nix`, whose macro writes the system call, so that no `unsafe` is needed here.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use net::Prefix;
use nix::sys::socket::sockopt::SetStruct;
use nix::sys::socket::{SetSockOpt, setsockopt};
use socket2::SockRef;

use crate::config::Password;

/// Linux `TCP_MD5SIG_EXT`, and its flag for a key that is good for a whole prefix (`linux/tcp.h`).
const TCP_MD5SIG_EXT: i32 = 32;
const FLAG_PREFIX: u8 = 1;
/// Linux `IPV6_MINHOPCOUNT` (`linux/in6.h`).
const IPV6_MINHOPCOUNT: i32 = 73;

/// `struct tcp_md5sig` of `linux/tcp.h`; the first field is a `struct sockaddr_storage`.
#[derive(Clone)]
#[repr(C)]
pub(super) struct Signature {
    address: [u8; 128],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: u32,
    key: [u8; Password::LONGEST],
}

#[derive(Clone, Copy)]
struct Md5;
nix::setsockopt_impl!(
    Md5,
    libc::IPPROTO_TCP,
    TCP_MD5SIG_EXT,
    Signature,
    SetStruct<'_, Signature>
);

#[derive(Clone, Copy)]
struct MinTtl;
nix::setsockopt_impl!(MinTtl, libc::IPPROTO_IP, libc::IP_MINTTL, i32, SetStruct<'_, i32>);

#[derive(Clone, Copy)]
struct MinHopCount;
nix::setsockopt_impl!(
    MinHopCount,
    libc::IPPROTO_IPV6,
    IPV6_MINHOPCOUNT,
    i32,
    SetStruct<'_, i32>
);

/// Signs and checks every segment to and from `peers` with the password; `None` takes the key away. `v6` tells an IPv6
/// socket, which knows IPv4 peers by their mapped address.
pub(super) fn sign(socket: &impl AsFd, v6: bool, peers: Prefix, password: Option<&Password>) -> io::Result<()> {
    let mut address = [0; 128];
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    address[..2].copy_from_slice(&u16::try_from(family).map_err(io::Error::other)?.to_ne_bytes());
    // sockaddr_in: port, address. sockaddr_in6: port, flow label, address.
    match (peers.net().addr(), v6) {
        (IpAddr::V4(v4), false) => address[4..8].copy_from_slice(&v4.octets()),
        (IpAddr::V4(v4), true) => address[8..24].copy_from_slice(&v4.to_ipv6_mapped().octets()),
        (IpAddr::V6(v6), _) => address[8..24].copy_from_slice(&v6.octets()),
    }
    let password = password.map_or("", Password::as_str);
    let mut key = [0; Password::LONGEST];
    key[..password.len()].copy_from_slice(password.as_bytes());
    let signature = Signature {
        address,
        flags: FLAG_PREFIX,
        prefix_length: peers.len(),
        key_length: u16::try_from(password.len()).map_err(io::Error::other)?,
        interface: 0,
        key,
    };
    set(socket, Md5, &signature)
}

/// Sends with this TTL, in both families as far as the socket has them.
pub(super) fn send_ttl(socket: &impl AsFd, v6: bool, ttl: u8) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if v6 {
        socket.set_unicast_hops_v6(u32::from(ttl))?;
    }
    // An IPv6 socket may have an IPv4 peer.
    socket.set_ttl_v4(u32::from(ttl))
}

/// Takes no segment with a lower TTL.
pub(super) fn lowest_ttl(socket: &impl AsFd, v6: bool, ttl: u8) -> io::Result<()> {
    if v6 {
        set(socket, MinHopCount, &i32::from(ttl))?;
    }
    set(socket, MinTtl, &i32::from(ttl))
}

fn set<O: SetSockOpt>(socket: &impl AsFd, option: O, value: &O::Val) -> io::Result<()> {
    setsockopt(socket, option, value).map_err(io::Error::from)
}
