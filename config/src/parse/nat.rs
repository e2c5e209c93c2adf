//! Reads `[nat]`.

use net::Ipv4Net;

use super::Names;
use super::reader::Reader;
use crate::defaults;
use crate::fault::Fault;
use crate::model::{
    Filtering, Mapping, Masquerade, Nat, Pairing, PortBlocks, PortChoice, PortForward, StaticNat, Timers,
};

pub(super) fn nat(reader: &mut Reader<'_, '_>, names: &Names) -> Nat {
    let timers = reader.table("timers", "[nat.timers]", timers);
    Nat {
        timers,
        masquerades: reader.tables("masquerade", "masquerade", "vpc", |reader| masquerade(reader, names)),
        statics: reader.tables("static", "static NAT", "vpc", |reader| static_nat(reader, names)),
        port_forwards: reader.tables("port-forward", "port forward", "address", |reader| {
            port_forward(reader, names)
        }),
    }
}

fn timers(reader: &mut Reader<'_, '_>) -> Timers {
    Timers {
        tcp_established: reader.optional("tcp-established").unwrap_or(defaults::TCP_ESTABLISHED),
        tcp_transitory: reader.optional("tcp-transitory").unwrap_or(defaults::TCP_TRANSITORY),
        udp: reader.optional("udp").unwrap_or(defaults::UDP),
        icmp: reader.optional("icmp").unwrap_or(defaults::ICMP),
    }
}

fn masquerade(reader: &mut Reader<'_, '_>, names: &Names) -> Option<Masquerade> {
    let vpc = names.vpc(reader, "vpc");
    let sources = reader.list("sources").unwrap_or_else(|| vec![Ipv4Net::default()]);
    let pool = reader.required_list("pool");
    let ports = reader.or("ports", defaults::masquerade_ports());
    let mapping = reader.or("mapping", Mapping::PerConnection);
    let filtering = reader.or("filtering", Filtering::AddressAndPortDependent);
    let pairing = reader.or("pairing", Pairing::Soft);
    let parity = reader.or("parity", false);
    let choice = port_choice(reader);
    Some(Masquerade {
        vpc: vpc?,
        sources,
        pool: pool?,
        ports,
        mapping,
        filtering,
        pairing,
        parity,
        choice: choice?,
    })
}

/// `blocks`, `deterministic`, or neither.
fn port_choice(reader: &mut Reader<'_, '_>) -> Option<PortChoice> {
    let blocks = if reader.has("blocks") {
        let object = format!("blocks of {}", reader.object());
        let blocks = reader.table("blocks", &object, |blocks| {
            let (size, count) = (blocks.required("size"), blocks.or("count", defaults::BLOCK_COUNT));
            let quarantine = blocks.or("quarantine", defaults::BLOCK_QUARANTINE);
            size.map(|size| PortBlocks {
                size,
                count,
                quarantine,
            })
        });
        Some(blocks?)
    } else {
        reader.absent("blocks")
    };
    match (blocks, reader.or("deterministic", false)) {
        (Some(_), true) => {
            let (object, reason) = (reader.object(), "ports of blocks are not determined");
            reader.fault_at(
                "deterministic",
                Fault::Meaningless {
                    object,
                    key: "deterministic",
                    reason,
                },
            );
            None
        }
        (Some(blocks), false) => Some(PortChoice::Blocks(blocks)),
        (None, true) => Some(PortChoice::Deterministic),
        (None, false) => Some(PortChoice::Free),
    }
}

fn static_nat(reader: &mut Reader<'_, '_>, names: &Names) -> Option<StaticNat> {
    let vpc = names.vpc(reader, "vpc");
    let inside = reader.required("inside");
    let outside = reader.required("outside");
    let peer = if reader.has("peer") {
        names.vpc(reader, "peer").map(Some)
    } else {
        reader.absent::<()>("peer");
        Some(None)
    };
    Some(StaticNat {
        vpc: vpc?,
        inside: inside?,
        outside: outside?,
        peer: peer?,
    })
}

fn port_forward(reader: &mut Reader<'_, '_>, names: &Names) -> Option<PortForward> {
    let vpc = names.vpc(reader, "vpc");
    let address = reader.required("address");
    let protocol = reader.required("protocol");
    let port = reader.required("port");
    let target = reader.required("target");
    let target_port = reader.optional("target-port").or(port);
    Some(PortForward {
        vpc: vpc?,
        address: address?,
        protocol: protocol?,
        port: port?,
        target: target?,
        target_port: target_port?,
    })
}
