//! Reads `[nat]`.

use net::Ipv4Net;

use super::Names;
use super::reader::Reader;
use crate::defaults;
use crate::model::{Masquerade, Nat, PortForward, Timers, VpcTimers};

pub(super) fn nat(reader: &mut Reader<'_, '_>, names: &Names) -> Nat {
    let timers = reader.table("timers", "[nat.timers]", |reader| timers(reader, &default_timers()));
    Nat {
        pick_up: reader.or("pick-up", defaults::PICK_UP),
        vpc_timers: reader.tables("vpc-timers", "timers", "vpc", |reader| {
            Some(VpcTimers {
                vpc: names.vpc(reader, "vpc")?,
                timers: self::timers(reader, &timers),
            })
        }),
        timers,
        masquerades: reader.tables("masquerade", "masquerade", "vpc", |reader| masquerade(reader, names)),
        port_forwards: reader.tables("port-forward", "port forward", "address", |reader| {
            port_forward(reader, names)
        }),
    }
}

fn default_timers() -> Timers {
    Timers {
        tcp_established: defaults::TCP_ESTABLISHED,
        tcp_transitory: defaults::TCP_TRANSITORY,
        udp: defaults::UDP,
        icmp: defaults::ICMP,
        other: defaults::OTHER,
    }
}

/// What the file does not say is as in `otherwise`.
fn timers(reader: &mut Reader<'_, '_>, otherwise: &Timers) -> Timers {
    Timers {
        tcp_established: reader.or("tcp-established", otherwise.tcp_established),
        tcp_transitory: reader.or("tcp-transitory", otherwise.tcp_transitory),
        udp: reader.or("udp", otherwise.udp),
        icmp: reader.or("icmp", otherwise.icmp),
        other: reader.or("other", otherwise.other),
    }
}

fn masquerade(reader: &mut Reader<'_, '_>, names: &Names) -> Option<Masquerade> {
    let vpc = names.vpc(reader, "vpc");
    let sources = reader.list("sources").unwrap_or_else(|| vec![Ipv4Net::default()]);
    let pool = reader.required_list("pool");
    let ports = reader.or("ports", defaults::masquerade_ports());
    Some(Masquerade {
        vpc: vpc?,
        sources,
        pool: pool?,
        ports,
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
