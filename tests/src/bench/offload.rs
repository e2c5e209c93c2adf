//! `offload-install`: connections a second that become rules, from the packet that establishes them to the completion
//! of both rules, through the emulated ASIC.
//!
//! TCP connections are opened by their first two packets; then the third packets of one batch after the other come at
//! once, each asking for an offload, and the time until all are live is taken. A batch fits into the ring between
//! worker and offload thread, so that none is refused.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use nat::ConnectionView;
use softasic::generator;

use super::frames::{self, Segment};
use super::gateway::{DEVICE, Gateway, TAGGED, UNTAGGED};
use super::measure::Measurement;
use super::nat::{ends, plan, play};
use super::scenario::Options;

const BATCH: usize = 8_000;
const BATCHES: usize = 12;
const CONNECTIONS: usize = BATCH * BATCHES;
/// Between two looks at the counters.
const STEP: Duration = Duration::from_micros(50);
/// A batch that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures installation.
///
/// # Errors
/// If a connection does not come about, or is refused.
pub fn install(options: &Options) -> Result<Measurement, String> {
    let plan = super::gateway::Plan {
        offload: true,
        ..plan(options.memory, CONNECTIONS as u32)
    };
    let originals = |segment| -> Vec<Vec<u8>> {
        let make = |n| {
            let (host, server) = ends(n);
            frames::tcp(&TAGGED, host, server, segment)
        };
        (0..CONNECTIONS as u32).map(make).collect()
    };
    let gateway = Gateway::start(plan, &originals(Segment::Syn))?;
    gateway.await_sent(&Default::default(), CONNECTIONS as u64)?;
    generator::pause(DEVICE, true);
    let replies: Vec<Vec<u8>> = gateway.ask(all)?.iter().map(reply).collect();
    if replies.len() != CONNECTIONS {
        return Err(format!("{} of {CONNECTIONS} connections were made", replies.len()));
    }
    let before = gateway.reading();
    play(&replies);
    gateway.await_sent(&before, CONNECTIONS as u64)?;
    generator::pause(DEVICE, true);
    let replied = gateway.connections()?.tcp.replied;
    if replied != CONNECTIONS as u64 {
        return Err(format!("{replied} of {CONNECTIONS} connections saw their reply"));
    }

    let third = originals(Segment::Ack);
    let mut taken = Duration::ZERO;
    for (number, batch) in third.chunks(BATCH).enumerate() {
        let start = now();
        play(batch);
        let wanted = ((number + 1) * BATCH) as u64;
        loop {
            let counters = gateway.dataplane().offload_counters();
            if counters.refused.get() > 0 {
                return Err(format!("{} connections were refused", counters.refused.get()));
            }
            if counters.installed.get() >= wanted {
                break;
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("{} of {wanted} connections are live", counters.installed.get()));
            }
            thread::sleep(STEP);
        }
        taken += start.elapsed();
        generator::pause(DEVICE, true);
    }
    let lost = gateway.reading().lost;
    if lost > 0 {
        return Err(format!("{lost} packets were not forwarded"));
    }
    let rate = CONNECTIONS as f64 / taken.as_secs_f64();
    Ok(Measurement {
        value: rate,
        by_wall_clock: rate,
        count: CONNECTIONS as u64,
    })
}

fn all(engine: &nat::Engine) -> Vec<ConnectionView> {
    let mut connections = Vec::new();
    engine.snapshot(0, usize::MAX, &mut connections);
    connections
}

/// The server's answer, as it comes from the fabric.
fn reply(connection: &ConnectionView) -> Vec<u8> {
    let seen = connection.translated;
    let end = |address: IpAddr, port| match address {
        IpAddr::V4(address) => (address, port),
        IpAddr::V6(address) => unreachable!("the pool is IPv4, and this is {address}"),
    };
    frames::tcp(
        &UNTAGGED,
        end(seen.destination, seen.destination_port),
        end(seen.source, seen.source_port),
        Segment::SynAck,
    )
}

fn now() -> Instant {
    Instant::now()
}
