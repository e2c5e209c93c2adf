//! The kernel's side of a host interface, by a packet socket: what the kernel receives there, and frames that it sends.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send, socket,
};

/// A packet socket on one interface. It does not see what it sends itself.
pub struct Tap(OwnedFd);

impl Tap {
    /// Binds to an interface of this thread's namespace.
    pub fn open(name: &str) -> Self {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .expect("a packet socket");
        let address = getifaddrs()
            .expect("interfaces")
            .filter(|interface| interface.interface_name == name)
            .filter_map(|interface| interface.address)
            .find(|address| address.family() == Some(AddressFamily::Packet))
            .unwrap_or_else(|| panic!("no interface {name}"));
        bind(
            socket.as_raw_fd(),
            address.as_link_addr().expect("an address of the link layer"),
        )
        .expect("bound");
        Self(socket)
    }

    /// Has the kernel send a frame.
    pub fn send(&self, frame: &[u8]) {
        let sent = send(self.0.as_raw_fd(), frame, MsgFlags::empty()).expect("sent");
        assert_eq!(sent, frame.len());
    }

    /// The next frame that the kernel received or sent.
    pub fn receive(&self) -> Vec<u8> {
        let start = crate::gateway::now();
        let mut buffer = [0; 4096];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => return buffer[..length].to_vec(),
                Err(Errno::EAGAIN) => {}
                Err(error) => panic!("packet socket: {error}"),
            }
            assert!(start.elapsed() < crate::gateway::PATIENCE, "nothing came to the tap");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// True if nothing more has come.
    pub fn is_quiet(&self) -> bool {
        recv(self.0.as_raw_fd(), &mut [0; 4096], MsgFlags::empty()) == Err(Errno::EAGAIN)
    }
}
