//! Masquerade of a VPC's UDP: packets of known connections (`nat-hit-*`) and first packets (`nat-new`).

use std::net::{IpAddr, Ipv4Addr};

use dataplane::Memory;
use softasic::generator;

use super::frames;
use super::gateway::{DEVICE, Gateway, Plan, TAGGED, UNTAGGED};
use super::measure::Measurement;
use super::random::Random;
use super::scenario::Options;

/// Connections of one host of the VPC.
const EACH: u32 = 32;
/// Connections that `nat-new` opens, and those of them before the timed part begins.
const NEW: u32 = 4_000_000;
const NEW_BEFORE: u32 = 1_000_000;

/// What the default VRF needs to send packets on.
pub fn plan(memory: Memory, connections: u32) -> Plan {
    Plan {
        prefixes: vec![net::Prefix::DEFAULT_V4],
        connections,
        masquerade: true,
        offload: false,
        memory,
    }
}

/// Ends of connection `n` in the VPC, and its server. Distinct for distinct `n`.
pub fn ends(n: u32) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    let host = Ipv4Addr::from(0x0a00_0000 + 1 + n / EACH);
    let port = 20_000 + (n % EACH) as u16 * 1009;
    let server = Random::new(u64::from(n)).public_v4();
    ((host, port), (server, 443))
}

/// First packets of `count` connections.
pub fn first_packets(count: u32) -> Vec<Vec<u8>> {
    let make = |n| {
        let ((host, port), (server, service)) = ends(n);
        frames::udp(&TAGGED, (IpAddr::V4(host), port), (IpAddr::V4(server), service))
    };
    (0..count).map(make).collect()
}

/// Packets of `connections` established connections, in random order.
///
/// # Errors
/// As [`Gateway::measure`], or if not every connection came about.
pub fn hit(options: &Options, connections: u32) -> Result<Measurement, String> {
    let gateway = established(options.memory, connections)?;
    let measured = gateway.measure(options.window)?;
    let made = gateway.connections()?.created;
    if made != u64::from(connections) {
        return Err(format!("{made} connections were made, {connections} wanted"));
    }
    Ok(measured)
}

/// A gateway with so many established connections, whose packets from the VPC come in random order.
///
/// # Errors
/// If a connection was not established.
pub fn established(memory: Memory, connections: u32) -> Result<Gateway, String> {
    let all = u64::from(connections);
    let mut random = Random::new(7);
    let mut frames = first_packets(connections);
    random.shuffle(&mut frames);
    let gateway = Gateway::start(plan(memory, connections), &frames)?;
    gateway.await_sent(&Default::default(), all)?;
    generator::pause(DEVICE, true);

    let mut replies = replies(&gateway)?;
    random.shuffle(&mut replies);
    let before = gateway.reading();
    play(&replies);
    drop(replies);
    gateway.await_sent(&before, all)?;
    // Replies that come while the next frames are loaded would count as those.
    generator::pause(DEVICE, true);

    // Another order than the one in which they were made: neighbours in time are not neighbours in memory.
    random.shuffle(&mut frames);
    let before = gateway.reading();
    play(&frames);
    drop(frames);
    // The fourth packet of a UDP connection establishes it.
    gateway.await_sent(&before, all * 5 / 2)?;
    let established = gateway.connections()?.udp.established;
    if established != all {
        return Err(format!("{established} of {connections} connections were established"));
    }
    Ok(gateway)
}

/// Hands out `frames` from now on.
pub fn play(frames: &[Vec<u8>]) {
    generator::replace(DEVICE, frames);
    generator::pause(DEVICE, false);
}

/// The servers' answers of every connection, as they come from the fabric.
fn replies(gateway: &Gateway) -> Result<Vec<Vec<u8>>, String> {
    const PAGE: usize = 1 << 16;
    let mut replies = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let (page, rest) = gateway.ask(move |engine| {
            let mut page = Vec::with_capacity(PAGE);
            let rest = engine.snapshot(from, PAGE, &mut page);
            (page, rest)
        })?;
        replies.extend(page.iter().map(|connection| {
            let seen = connection.translated;
            let from = (seen.destination, seen.destination_port);
            frames::udp(&UNTAGGED, from, (seen.source, seen.source_port))
        }));
        next = rest;
    }
    Ok(replies)
}

/// Each packet opens a connection, in a table that has a million already.
///
/// # Errors
/// As [`Gateway::measure`], or if a packet did not open a connection.
pub fn new(options: &Options) -> Result<Measurement, String> {
    let mut frames = first_packets(NEW);
    Random::new(8).shuffle(&mut frames);
    let gateway = Gateway::start(plan(options.memory, NEW), &frames)?;
    gateway.await_sent(&Default::default(), u64::from(NEW_BEFORE))?;
    let start = gateway.reading();
    let measured = gateway.measure(options.window)?;
    let sent = gateway.reading().sent;
    if sent > u64::from(NEW) {
        return Err(format!(
            "{sent} packets were sent, but only {NEW} are first ones: choose a shorter `--seconds`"
        ));
    }
    generator::pause(DEVICE, true);
    let made = gateway.connections()?.created;
    let sent = gateway.reading().sent;
    if made != sent || sent <= start.sent {
        return Err(format!("{sent} packets made {made} connections"));
    }
    Ok(Measurement {
        value: 1e9 / measured.value,
        by_wall_clock: 1e9 / measured.by_wall_clock,
        count: measured.count,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn connections_are_distinct_and_within_the_vpc() {
        let all: HashSet<_> = (0..100_000).map(ends).collect();
        assert_eq!(all.len(), 100_000);
        let ((last, port), _) = ends(NEW - 1);
        assert!(last.octets()[0] == 10 && last.octets()[1] < 128 && port > 20_000);
    }
}
