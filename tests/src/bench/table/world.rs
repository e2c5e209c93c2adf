//! A RIB behind eight routers, the routes that it is given, and this thread's clock.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use net::{
    AddressChange, IfIndex, InterfaceId, KernelEvent, Mac, NeighborChange, NeighborState, NextHop, PortId, Prefix,
    Route, RouteChange, Source, VrfId,
};
use nix::time::{ClockId, clock_gettime};
use rib::{Attachment, Interface, Published, Reader, Rib, RibConfig};

/// Routers that announce.
pub const PEERS: u8 = 8;
/// The host interface towards them.
pub const HOST: IfIndex = IfIndex(2);

/// A RIB with one port and eight resolved routers on it.
pub fn fabric() -> (Rib, Reader) {
    let (mut rib, reader) = Rib::new(RibConfig::default());
    rib.set_interface(Interface {
        id: InterfaceId(0),
        name: "fabric".into(),
        host: Some(HOST),
        vrf: VrfId::DEFAULT,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        attachment: Attachment::Port(PortId(0)),
    });
    rib.kernel(KernelEvent::Address(AddressChange {
        interface: HOST,
        address: "10.0.0.254/24".parse().expect("an address"),
        present: true,
    }));
    for peer in 0..PEERS {
        rib.kernel(KernelEvent::Neighbor(NeighborChange {
            interface: HOST,
            address: router(peer),
            state: NeighborState::Reachable(Mac([2, 0, 0, 0, 1, peer])),
        }));
    }
    publish(&mut rib);
    (rib, reader)
}

/// A router's address.
pub const fn router(peer: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, peer))
}

/// What BGP says when `peer` announces a prefix.
pub fn announced(prefix: Prefix, peer: u8) -> RouteChange {
    RouteChange {
        vrf: VrfId::DEFAULT,
        prefix,
        source: Source::Ebgp,
        route: Some(Route::unicast(NextHop::via(router(peer)))),
    }
}

/// Every prefix once, each router in turn.
pub fn table(prefixes: &[Prefix]) -> Vec<RouteChange> {
    let peers = (0..PEERS).cycle();
    prefixes
        .iter()
        .zip(peers)
        .map(|(prefix, peer)| announced(*prefix, peer))
        .collect()
}

/// A loaded RIB whose two copies of the tables are alike.
pub fn loaded(prefixes: &[Prefix]) -> (Rib, Reader) {
    let (mut rib, reader) = fabric();
    table(prefixes).into_iter().for_each(|change| rib.route(change));
    publish(&mut rib);
    publish(&mut rib);
    (rib, reader)
}

/// Publishes; while a reader is inside, as the gateway's manager does it, again after a millisecond.
pub fn publish(rib: &mut Rib) -> Published {
    loop {
        match rib.publish() {
            Ok(published) => return published,
            Err(_stalled) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Processor time that this thread has had.
///
/// # Panics
/// If the kernel has no such clock; Linux has.
pub fn thread_time() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has a clock for each thread"))
}

/// Processor time of this thread for `work`, in seconds.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = thread_time();
    let result = work();
    (result, (thread_time() - start).as_secs_f64())
}

/// Resident memory of this process, bytes.
///
/// # Errors
/// If the kernel does not say.
pub fn resident() -> Result<usize, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kibibytes
        .map(|kibibytes| kibibytes << 10)
        .ok_or_else(|| "/proc/self/status has no VmRSS".to_owned())
}
