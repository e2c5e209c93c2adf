//! The log of sessions, on its own target `nat::session`, so that these lines can be kept elsewhere and shorter than others:
//! the fields of RFC 8158 section 5.6.1 by their names, and flowEndReason of IPFIX.
//!
//! A task of its own takes the events from the workers' rings: a log that is slow makes rings full and events lost, which
//! are counted, and nothing else wait.

use std::net::IpAddr;
use std::time::Duration;

use config::SessionLog;
use dataplane::SessionRing;
use nat::{EndReason, SessionEvent};

/// Pause when every ring was empty.
const PAUSE: Duration = Duration::from_millis(10);
/// Events of a ring before the next one has its turn.
const TURN: usize = 256;

/// Runs until it is aborted.
pub(crate) async fn run(mut rings: Vec<SessionRing>, what: SessionLog) {
    loop {
        let mut found = false;
        for ring in &mut rings {
            for _ in 0..TURN {
                let Ok(event) = ring.pop() else { break };
                log(&event, what);
                found = true;
            }
        }
        if found {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn log(event: &SessionEvent, what: SessionLog) {
    let (original, translated) = (&event.original, &event.translated);
    let destinations = what == SessionLog::Destinations;
    // IPv6 to IPv6 has no event in the registry.
    let nat_event = match (event.ended.is_some(), original.source.is_ipv4()) {
        (false, true) => "nat44-session-create",
        (true, true) => "nat44-session-delete",
        (false, false) => "nat66-session-create",
        (true, false) => "nat66-session-delete",
    };
    let v4 = |address: IpAddr| address.is_ipv4().then(|| tracing::field::display(address));
    let v6 = |address: IpAddr| address.is_ipv6().then(|| tracing::field::display(address));
    let destination = destinations.then_some(original.destination);
    let post_destination = destinations.then_some(translated.destination);
    tracing::info!(
        target: "nat::session",
        nat_event,
        vrf = %event.vrf,
        protocol_identifier = event.protocol,
        nat_originating_address_realm = if event.from_inside { "private" } else { "public" },
        source_ipv4_address = v4(original.source),
        source_ipv6_address = v6(original.source),
        source_transport_port = original.source_port,
        post_nat_source_ipv4_address = v4(translated.source),
        post_nat_source_ipv6_address = v6(translated.source),
        post_napt_source_transport_port = translated.source_port,
        destination_ipv4_address = destination.and_then(v4),
        destination_ipv6_address = destination.and_then(v6),
        destination_transport_port = destinations.then_some(original.destination_port),
        post_nat_destination_ipv4_address = post_destination.and_then(v4),
        post_nat_destination_ipv6_address = post_destination.and_then(v6),
        post_napt_destination_transport_port = destinations.then_some(translated.destination_port),
        flow_end_reason = event.ended.map(|ended| end_reason(ended.reason)),
        initiator_packets = event.ended.map(|ended| ended.packets[0]),
        responder_packets = event.ended.map(|ended| ended.packets[1]),
        initiator_octets = event.ended.map(|ended| ended.bytes[0]),
        responder_octets = event.ended.map(|ended| ended.bytes[1]),
        "session"
    );
}

/// The words of IANA's registry of flowEndReason.
const fn end_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Idle => "idle-timeout",
        EndReason::Closed => "end-of-flow-detected",
        EndReason::Unrouted | EndReason::Policy => "forced-end",
        EndReason::Evicted => "lack-of-resources",
    }
}
