//! Reads `[nat]`.

use net::{IpNet, Ipv4Net, Ipv6Net};

use super::Names;
use super::reader::Reader;
use super::value::{Hosts, Ports, SixNet};
use crate::defaults;
use crate::fault::Fault;
use crate::model::{
    Filtering, ForwardTarget, Mapping, Masquerade, Nat, NatLimit, Npt, Pairing, PortBlocks, PortChoice, PortForward,
    PortRange, SessionLog, StaticNat, Timers, VpcTimers,
};

pub(super) fn nat(reader: &mut Reader<'_, '_>, names: &Names) -> Nat {
    let timers = reader.table("timers", "[nat.timers]", |reader| timers(reader, &default_timers()));
    Nat {
        pick_up: reader.or("pick-up", defaults::PICK_UP),
        log_sessions: reader.or("log-sessions", SessionLog::Off),
        vpc_timers: reader.tables("vpc-timers", "timers", "vpc", |reader| {
            Some(VpcTimers {
                vpc: names.vpc(reader, "vpc")?,
                timers: self::timers(reader, &timers),
            })
        }),
        timers,
        masquerades: reader.tables("masquerade", "masquerade", "vpc", |reader| masquerade(reader, names)),
        limits: reader.tables("limit", "NAT limit", "vpc", |reader| limit(reader, names)),
        npt: reader.tables("npt", "NPTv6 rule", "vpc", |reader| npt(reader, names)),
        statics: reader.tables("static", "static NAT", "vpc", |reader| static_nat(reader, names)),
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
    let sources = reader.list("sources").map(nets);
    let pool = reader.required_list("pool").map(nets);
    let ports = reader.or("ports", defaults::masquerade_ports());
    let mapping = reader.or("mapping", Mapping::PerConnection);
    let filtering = reader.or("filtering", Filtering::AddressAndPortDependent);
    let pairing = reader.or("pairing", Pairing::Soft);
    let parity = reader.or("parity", false);
    let choice = port_choice(reader);
    let pool = pool?;
    let all = match pool.first() {
        Some(IpNet::V6(_)) => IpNet::V6(Ipv6Net::default()),
        _ => IpNet::V4(Ipv4Net::default()),
    };
    Some(Masquerade {
        vpc: vpc?,
        sources: sources.unwrap_or_else(|| vec![all]),
        pool,
        ports,
        mapping,
        filtering,
        pairing,
        parity,
        choice: choice?,
    })
}

fn nets(hosts: Vec<Hosts>) -> Vec<IpNet> {
    hosts.into_iter().map(|Hosts(net)| net).collect()
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

fn limit(reader: &mut Reader<'_, '_>, names: &Names) -> Option<NatLimit> {
    let vpc = names.vpc(reader, "vpc");
    let (sessions, new_sessions) = (reader.optional("sessions"), reader.optional("new-sessions"));
    let subscriber_sessions = reader.optional("subscriber-sessions");
    let subscriber_new_sessions = reader.optional("subscriber-new-sessions");
    Some(NatLimit {
        vpc: vpc?,
        sessions,
        new_sessions,
        subscriber_sessions,
        subscriber_new_sessions,
    })
}

fn static_nat(reader: &mut Reader<'_, '_>, names: &Names) -> Option<StaticNat> {
    let vpc = names.vpc(reader, "vpc");
    let inside = reader.required("inside").map(|Hosts(net)| net);
    let outside = reader.required("outside").map(|Hosts(net)| net);
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

fn npt(reader: &mut Reader<'_, '_>, names: &Names) -> Option<Npt> {
    let vpc = names.vpc(reader, "vpc");
    let inside = reader.required("inside").map(|SixNet(net)| net);
    let outside = reader.required("outside").map(|SixNet(net)| net);
    Some(Npt {
        vpc: vpc?,
        inside: inside?,
        outside: outside?,
    })
}

fn port_forward(reader: &mut Reader<'_, '_>, names: &Names) -> Option<PortForward> {
    let vpc = names.vpc(reader, "vpc");
    let address = reader.required("address");
    let protocol = reader.required("protocol");
    let ports = reader.required("port").map(|Ports(ports)| ports);
    let targets = targets(reader, ports);
    let affinity = reader.or("affinity", false);
    Some(PortForward {
        vpc: vpc?,
        address: address?,
        protocol: protocol?,
        ports: ports?,
        targets: targets?,
        affinity,
    })
}

/// `target` with its `target-port`, or `targets`.
fn targets(reader: &mut Reader<'_, '_>, ports: Option<PortRange>) -> Option<Vec<ForwardTarget>> {
    let same = ports.map(PortRange::first);
    if reader.has("targets") {
        reader.absent::<()>("target-port");
        reader.absent::<()>("target");
        let targets = reader.tables("targets", "target", "address", |target| {
            let address = target.required("address");
            let port = target.optional("port").or(same);
            let weight = target.or("weight", 1);
            Some(ForwardTarget {
                address: address?,
                port: port?,
                weight,
            })
        });
        for key in ["target", "target-port"] {
            if reader.has(key) {
                let (object, reason) = (reader.object(), "it has `targets`, which say each their own");
                reader.fault_at(key, Fault::Meaningless { object, key, reason });
            }
        }
        return Some(targets);
    }
    reader.absent::<()>("targets");
    let address = reader.required("target");
    let port = reader.optional("target-port").or(same);
    Some(vec![ForwardTarget {
        address: address?,
        port: port?,
        weight: 1,
    }])
}
