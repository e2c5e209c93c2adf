//! Linux's nf_conntrack with nftables, driven as far as it can be: the peer of `make bench-nat`.
//!
//! A namespace is the router between two taps. A frame that is written to the first is received, tracked, translated,
//! routed and queued on the second by the writing thread itself, so that its processor time is what the packet costs; the
//! second tap drops what nobody reads. The same frames without a rule say what all but tracking and NAT costs, system
//! call included, and the figure of NAT is the difference.

use std::net::{IpAddr, Ipv4Addr};

use super::frames::{self, Link};
use super::random::Random;
use crate::{Namespace, Wire};

/// Flows that are opened, and then repeated. The kernel's own limit is 262,144 unless somebody raised it.
const FLOWS: u32 = 1 << 16;
/// Packets of each flow after its first.
const PASSES: usize = 4;
const DESTINATIONS: &str = "48.0.0.0/8";
const POOL: &str = "198.18.0.0-198.18.0.7";

/// What tracking and translation cost Linux.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// A packet of a known connection, nanoseconds.
    pub hit: f64,
    /// A packet that opens one, nanoseconds.
    pub new: f64,
}

/// Measures both, with `scale` times fewer flows.
///
/// # Errors
/// If a packet was not tracked.
///
/// # Panics
/// Without root, or without nftables.
pub fn run(scale: u32) -> Result<Kernel, String> {
    let flows = FLOWS / scale;
    let plain = Router::new(false, flows);
    let (_, routed) = plain.drive()?;
    let translating = Router::new(true, flows);
    let (first, later) = translating.drive()?;
    let tracked = translating.tracked()?;
    if tracked < flows {
        return Err(format!("{tracked} connections instead of {flows}"));
    }
    Ok(Kernel {
        hit: later - routed,
        new: first - routed,
    })
}

struct Router {
    namespace: Namespace,
    source: Wire,
    _sink: Wire,
    frames: Vec<Vec<u8>>,
}

impl Router {
    fn new(translating: bool, flows: u32) -> Self {
        let namespace = Namespace::new("linux");
        let (source, sink) = (Wire::new(&namespace, "in"), Wire::new(&namespace, "out"));
        namespace.sysctl("ipv4/ip_forward", 1);
        namespace.ip("addr add 10.0.0.1/16 dev in");
        namespace.ip("addr add 172.31.1.1/24 dev out");
        namespace.ip("neigh add 172.31.1.2 lladdr 02:00:00:00:00:0a dev out nud permanent");
        namespace.ip(&format!("route add {DESTINATIONS} via 172.31.1.2"));
        if translating {
            namespace.run("nft add table ip nat");
            namespace.run("nft add chain ip nat out { type nat hook postrouting priority 100 ; }");
            namespace.run(&format!("nft add rule ip nat out oifname out snat to {POOL}"));
        }
        let link = Link {
            from: [2, 0, 0, 0, 0, 9],
            to: mac_of(&namespace, "in"),
            vlan: None,
        };
        let frame = |n: u32| {
            let from = Ipv4Addr::from(0x0a00_0100 + n / 32);
            let to = Ipv4Addr::from(0x3000_0000 | Random::new(u64::from(n)).bits() as u32 & 0x00ff_ffff);
            let port = 20_000 + (n % 32) as u16 * 1009;
            frames::udp(&link, (IpAddr::V4(from), port), (IpAddr::V4(to), 443))
        };
        let mut frames: Vec<_> = (0..flows).map(frame).collect();
        Random::new(3).shuffle(&mut frames);
        Self {
            namespace,
            source,
            _sink: sink,
            frames,
        }
    }

    /// Nanoseconds of a flow's first packet, and of each later one.
    fn drive(&self) -> Result<(f64, f64), String> {
        let pass = || -> Result<f64, String> {
            let start = super::connections::time()?;
            self.frames.iter().for_each(|frame| self.source.send(frame));
            Ok((super::connections::time()? - start) as f64 / self.frames.len() as f64)
        };
        let first = pass()?;
        let later: Vec<_> = (0..PASSES).map(|_| pass()).collect::<Result<_, _>>()?;
        Ok((first, super::report::median(&later)))
    }

    /// Connections of the namespace.
    fn tracked(&self) -> Result<u32, String> {
        let read = || std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
        let text = self.namespace.enter(read).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|error| format!("`{text}`: {error}"))
    }
}

fn mac_of(namespace: &Namespace, interface: &str) -> [u8; 6] {
    let listing = namespace.ip(&format!("-json link show dev {interface}"));
    let links: serde_json::Value = serde_json::from_str(&listing).expect("ip prints JSON");
    let text = links[0]["address"].as_str().expect("a tap has a MAC");
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).expect("ip prints a MAC");
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs what every scenario needs, and nftables.
    #[test]
    fn the_kernel_tracks_what_it_is_given() {
        let kernel = run(256).unwrap_or_else(|error| panic!("{error}"));
        assert!(kernel.hit.is_finite() && kernel.new.is_finite());
    }
}
