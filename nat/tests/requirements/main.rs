//! What the IETF asks of a NAT, requirement by requirement; each test is named by its number. The list with the status
//! of each is `docs/reference/nat-requirements.md`, and `page.rs` sees to it that the two agree.

mod page;
mod rfc4787;
mod rfc5382;
mod rfc5508;
mod rfc6888;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use nat::{Engine, Filtering, Mapping, Masquerade, Millis, Policy, PoolOptions};
use support::*;

const NOW: Millis = Millis(1);
const SERVER: &str = "198.51.100.9";
const OTHER: &str = "203.0.113.3";

fn seconds(n: u64) -> Millis {
    Millis(1 + n * 1000)
}

/// Endpoint-independent mapping and filtering.
fn open() -> PoolOptions {
    PoolOptions {
        mapping: Mapping::EndpointIndependent,
        filtering: Filtering::EndpointIndependent,
        ..PoolOptions::default()
    }
}

fn pool(addresses: &[&str], ports: (u16, u16), options: PoolOptions) -> Arc<Policy> {
    let rule = Masquerade {
        options,
        ..masquerade(1, addresses, ports)
    };
    policy(vec![rule], vec![])
}

/// A gateway for VPC 1 with one public address.
fn nat(options: PoolOptions) -> Engine {
    engine(1000, pool(&["192.0.2.1"], (1024, 65535), options))
}

/// From a host of VPC 1.
fn out(engine: &mut Engine, h: &Headers, now: Millis) -> Fate {
    deliver(engine, &routes(), 1, &build(h, b"data"), now)
}

/// From the fabric.
fn back(engine: &mut Engine, h: &Headers, now: Millis) -> Fate {
    deliver(engine, &routes(), 0, &build(h, b"data"), now)
}

/// The public end of a new flow.
fn shown(engine: &mut Engine, h: &Headers) -> Headers {
    out(engine, h, NOW).headers()
}
