//! Finds the router at the other end of an interface by its router advertisements, and advertises this one (RFC 4861).
//!
//! One task an interface. What it sends says that it is no default router (lifetime 0) and nothing else: it is there to be
//! heard. Advertisements count only if no router has passed them on (hop limit 255) and they come from a link-local
//! address.

use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::Duration;

use net::IfIndex;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

/// Pause between advertisements; the first ones follow each other faster (RFC 4861 section 6.2.4).
const INTERVAL: Duration = Duration::from_secs(10);
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const FIRST: u32 = 3;
/// Least pause before an advertisement that a host or router has asked for (RFC 4861 section 10).
const SOLICITED: Duration = Duration::from_secs(3);
/// Pause before the interface is looked for again.
const ABSENT: Duration = Duration::from_secs(1);

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Type, code, checksum (the kernel's to fill in), no hop limit, no flags, no lifetime, no timers.
const ADVERTISEMENT: [u8; 16] = [ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A router that has advertised itself on an interface.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) interface: String,
    pub(super) index: IfIndex,
    pub(super) address: Ipv6Addr,
}

/// What a received message means.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Router,
    Question,
}

/// Looks for routers on `interface` until the task is aborted.
pub(super) async fn discover(interface: String, found: mpsc::Sender<Found>) {
    let mut reported = None;
    loop {
        let error = match open(&interface) {
            Ok((socket, index)) => attend(&interface, socket, index, &found).await,
            Err(error) => error,
        };
        // An interface that is not there yet, or not any more, would fill the log.
        let text = error.to_string();
        if reported.as_ref() != Some(&text) {
            info!(
                interface,
                error = text,
                "cannot look for the BGP peer on the interface: trying again"
            );
            reported = Some(text);
        }
        sleep(ABSENT).await;
    }
}

/// The socket is a raw one. That Tokio takes it for UDP does not matter to what is asked of it: readiness, and sending to an
/// address.
fn open(interface: &str) -> io::Result<(UdpSocket, u32)> {
    let index = if_nametoindex(interface)?;
    let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_hops_v6(255)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_recv_hoplimit_v6(true)?;
    socket.join_multicast_v6(&ALL_NODES, index)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    Ok((UdpSocket::from_std(socket.into())?, index))
}

/// Advertises and listens until something fails.
async fn attend(interface: &str, socket: UdpSocket, index: u32, found: &mpsc::Sender<Found>) -> io::Error {
    let mut sent = 0;
    let mut last: Option<Instant> = None;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(next) => {
                let to = SocketAddr::V6(SocketAddrV6::new(ALL_NODES, 0, 0, index));
                match socket.try_send_to(&ADVERTISEMENT, to) {
                    Ok(_) => sent += 1,
                    // No address of ours yet, or the link is down.
                    Err(error) => debug!(interface, %error, "cannot advertise this router"),
                }
                last = Some(Instant::now());
                next = Instant::now() + if sent < FIRST { FIRST_INTERVAL } else { INTERVAL };
                if let Err(error) = if_nametoindex(interface) {
                    return error.into();
                }
            }
            heard = socket.async_io(Interest::READABLE, || receive(&socket)) => match heard {
                Ok(Some((Heard::Router, address))) => {
                    let interface = interface.to_owned();
                    let index = IfIndex(index);
                    // A speaker that has ended needs no neighbours.
                    if found.send(Found { interface, index, address }).await.is_err() {
                        return io::ErrorKind::BrokenPipe.into();
                    }
                }
                Ok(Some((Heard::Question, _))) => {
                    let earliest = last.map_or_else(Instant::now, |last| last + SOLICITED);
                    next = next.min(earliest);
                }
                Ok(None) => {}
                Err(error) => return error,
            },
        }
    }
}

/// One message, and who sent it; `None` if it is nothing that matters here.
fn receive(socket: &UdpSocket) -> io::Result<Option<(Heard, Ipv6Addr)>> {
    let mut buffer = [0; 1500];
    let mut control = nix::cmsg_space!(libc::c_int);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let from = message.address.map(|address| address.ip());
    let hop_limit = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6HopLimit(limit) => Some(limit),
        _ => None,
    });
    let length = message.bytes;
    Ok(from.and_then(|from| Some((heard(&buffer[..length], from, hop_limit)?, from))))
}

/// RFC 4861 sections 6.1.1 and 6.1.2; the kernel has checked the checksum.
fn heard(message: &[u8], from: Ipv6Addr, hop_limit: Option<i32>) -> Option<Heard> {
    if hop_limit != Some(255) {
        return None;
    }
    match message {
        [ROUTER_ADVERTISEMENT, 0, rest @ ..] if rest.len() >= 14 && from.is_unicast_link_local() => Some(Heard::Router),
        [ROUTER_SOLICITATION, 0, rest @ ..] if rest.len() >= 6 => Some(Heard::Question),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_neighbour_sent_itself_counts() {
        let (local, global) = (
            "fe80::1".parse().expect("address"),
            "2001:db8::1".parse().expect("address"),
        );
        assert_eq!(heard(&ADVERTISEMENT, local, Some(255)), Some(Heard::Router));
        assert_eq!(heard(&ADVERTISEMENT, local, Some(254)), None);
        assert_eq!(heard(&ADVERTISEMENT, local, None), None);
        assert_eq!(heard(&ADVERTISEMENT, global, Some(255)), None);
        assert_eq!(heard(&ADVERTISEMENT[..15], local, Some(255)), None);
        let mut code = ADVERTISEMENT;
        code[1] = 1;
        assert_eq!(heard(&code, local, Some(255)), None);
        assert_eq!(
            heard(&[133, 0, 0, 0, 0, 0, 0, 0], Ipv6Addr::UNSPECIFIED, Some(255)),
            Some(Heard::Question)
        );
        assert_eq!(heard(&[133, 0, 0, 0, 0, 0, 0], local, Some(255)), None);
        assert_eq!(heard(&[], local, Some(255)), None);
    }
}
