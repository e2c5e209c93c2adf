//! Forwarding by routes: `forward-v4-1m`, `forward-v6-200k`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::Prefix;

use super::frames;
use super::gateway::{Gateway, Plan, UNTAGGED};
use super::measure::Measurement;
use super::random::Random;
use super::scenario::Options;

/// Different destinations; the frames alone are 16 MiB.
pub const DESTINATIONS: usize = 1 << 18;
/// Packets before the timed part.
const WARM_UP: u64 = 1 << 20;

/// IPv4, a million prefixes.
///
/// # Errors
/// As [`Gateway::measure`].
pub fn forward_v4(options: &Options) -> Result<Measurement, String> {
    let mut random = Random::new(4);
    let prefixes = random.prefixes_v4(1_000_000);
    let frames = frames_into(&mut random, &prefixes, DESTINATIONS);
    forward(options, prefixes, &frames)
}

/// IPv6, 200,000 prefixes.
///
/// # Errors
/// As [`Gateway::measure`].
pub fn forward_v6(options: &Options) -> Result<Measurement, String> {
    let mut random = Random::new(6);
    let prefixes = random.prefixes_v6(200_000);
    let frames = frames_into(&mut random, &prefixes, DESTINATIONS);
    forward(options, prefixes, &frames)
}

/// UDP from random ports to random addresses within random ones of `prefixes`.
pub fn frames_into(random: &mut Random, prefixes: &[Prefix], count: usize) -> Vec<Vec<u8>> {
    let make = |_| {
        let to = random.address_in(prefixes);
        let from = match to {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        };
        frames::udp(&UNTAGGED, (from, random.bits() as u16 | 1024), (to, 443))
    };
    (0..count).map(make).collect()
}

fn forward(options: &Options, prefixes: Vec<Prefix>, frames: &[Vec<u8>]) -> Result<Measurement, String> {
    let plan = Plan {
        prefixes,
        connections: 1024,
        masquerade: false,
        offload: false,
        memory: options.memory,
    };
    let gateway = Gateway::start(plan, frames)?;
    gateway.await_sent(&gateway.reading(), WARM_UP)?;
    gateway.measure(options.window)
}
