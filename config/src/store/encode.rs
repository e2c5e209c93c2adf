//! A configuration becomes rows.

use std::fmt::Display;

use super::policy;
use super::rows::{Cell, Row, Rows, table};
use crate::model::{Bgp, Config, Filter, Nat, Password, Peer, Port, Rib, RouteTarget, Segment, StaticRoute, Vpc};
use crate::words::Word;

/// The rows of a configuration.
pub(super) fn rows(config: &Config) -> Rows {
    let mut rows = Rows::new();
    rows.add(table::SETTINGS, settings(config));
    rows.add(table::RIB, rib(&config.rib));
    for core in &config.dataplane.workers {
        rows.add(table::WORKER, vec![number(*core)]);
    }
    if let Some(fpm) = &config.fpm {
        rows.add(table::FPM, vec![ONE, text(fpm.listen), number(fpm.stale_time)]);
    }
    if let Some(vxlan) = &config.vxlan {
        rows.add(table::VXLAN, vec![ONE, text(vxlan.address), number(vxlan.port)]);
    }
    rows.add(table::VRF, vec![number(0), Cell::Null]);
    config.ports.iter().for_each(|item| port(item, &mut rows));
    config.vpcs.iter().for_each(|item| vpc(item, &mut rows));
    config.routes.iter().for_each(|item| route(item, &mut rows));
    config.bgp.iter().for_each(|item| bgp(item, &mut rows));
    nat(&config.nat, &mut rows);
    rows
}

/// Key of a table with one row.
pub(super) const ONE: Cell = Cell::Integer(1);

pub(super) fn number(value: impl Into<i64>) -> Cell {
    Cell::Integer(value.into())
}

pub(super) fn text(value: impl Display) -> Cell {
    Cell::Text(value.to_string())
}

fn optional<T>(value: Option<T>, cell: impl FnOnce(T) -> Cell) -> Cell {
    value.map_or(Cell::Null, cell)
}

fn settings(config: &Config) -> Row {
    let (dataplane, kernel, timers) = (&config.dataplane, &config.kernel, &config.nat.timers);
    vec![
        ONE,
        text(&config.gateway.name),
        text(dataplane.poll.word()),
        text(dataplane.memory.word()),
        number(dataplane.memory_mb),
        number(dataplane.buffers),
        number(dataplane.connections),
        number(kernel.table),
        number(kernel.protocol),
        number(kernel.metric),
        number(timers.tcp_established),
        number(timers.tcp_transitory),
        number(timers.udp),
        number(timers.icmp),
        text(config.api.socket.display()),
    ]
}

fn rib(rib: &Rib) -> Row {
    let (batch, large, distance) = (&rib.batch, &rib.large_batch, &rib.distance);
    vec![
        ONE,
        number(batch.size),
        number(batch.time),
        number(large.size),
        number(large.time),
        number(distance.fixed),
        number(distance.ebgp),
        number(distance.ibgp),
        number(distance.kernel),
        number(distance.fpm),
    ]
}

fn port(port: &Port, rows: &mut Rows) {
    rows.add(
        table::PORT,
        vec![
            text(&port.name),
            text(&port.device),
            text(&port.host_interface),
            optional(port.mac, text),
            number(port.mtu),
            number(port.offload),
        ],
    );
    for address in &port.addresses {
        rows.add(table::PORT_ADDRESS, vec![text(&port.name), text(address)]);
    }
}

fn vpc(vpc: &Vpc, rows: &mut Rows) {
    let id = || number(vpc.id.value());
    let (vni, vlan_port, vlan_id) = match &vpc.segment {
        Segment::Vxlan { vni, vteps } => {
            for vtep in vteps {
                rows.add(table::VPC_VTEP, vec![id(), text(vtep)]);
            }
            (number(vni.value()), Cell::Null, Cell::Null)
        }
        Segment::Vlan { port, id } => (Cell::Null, text(port), number(id.value())),
    };
    let (name, host_interface) = (text(&vpc.name), text(&vpc.host_interface));
    let row = vec![
        id(),
        name,
        host_interface,
        text(vpc.mac),
        number(vpc.mtu),
        vni,
        vlan_port,
        vlan_id,
    ];
    rows.add(table::VPC, row);
    rows.add(table::VRF, vec![id(), id()]);
    for address in &vpc.addresses {
        rows.add(table::VPC_ADDRESS, vec![id(), text(address)]);
    }
}

fn route(route: &StaticRoute, rows: &mut Rows) {
    let key = || [number(route.vrf.0), text(route.prefix)];
    let (target, in_vrf) = match &route.target {
        RouteTarget::Via(gateways) => {
            for (position, via) in (0_u32..).zip(gateways) {
                let hop = [
                    number(position),
                    optional(via.gateway, text),
                    optional(via.interface.as_deref(), text),
                    optional(via.vrf, |vrf| number(vrf.0)),
                    number(via.weight),
                ];
                rows.add(table::ROUTE_VIA, key().into_iter().chain(hop).collect());
            }
            ("via", Cell::Null)
        }
        RouteTarget::InVrf(vrf) => ("in-vrf", number(vrf.0)),
        RouteTarget::Blackhole => ("blackhole", Cell::Null),
        RouteTarget::Unreachable => ("unreachable", Cell::Null),
        RouteTarget::Prohibit => ("prohibit", Cell::Null),
    };
    let rest = [text(target), in_vrf, number(route.distance), number(route.metric)];
    rows.add(table::ROUTE, key().into_iter().chain(rest).collect());
}

fn bgp(bgp: &Bgp, rows: &mut Rows) {
    rows.add(
        table::BGP,
        vec![
            ONE,
            number(bgp.asn),
            text(bgp.router_id),
            number(bgp.multipath),
            number(bgp.multipath_internal),
            number(bgp.always_compare_med),
            number(bgp.prefer_oldest),
            number(bgp.advertise_installed),
            optional(bgp.redistribute_connected.as_ref(), text),
            optional(bgp.redistribute_static.as_ref(), text),
            optional(bgp.redistribute_kernel.as_ref(), text),
        ],
    );
    for address in &bgp.listen {
        rows.add(table::BGP_LISTEN, vec![ONE, text(address)]);
    }
    for prefix in &bgp.announce {
        rows.add(table::BGP_ANNOUNCE, vec![ONE, text(prefix)]);
    }
    policy::rows(&bgp.policies, rows);
    for item in &bgp.peers {
        peer(item, &item.address.to_string(), None, rows);
    }
    for dynamic in &bgp.dynamic {
        let key = dynamic.prefix.to_string();
        peer(&dynamic.template, &key, Some(dynamic.limit), rows);
    }
}

/// A peer under its address, or dynamic peers under their prefix.
fn peer(peer: &Peer, address: &str, dynamic_limit: Option<u32>, rows: &mut Rows) {
    rows.add(
        table::BGP_PEER,
        vec![
            ONE,
            text(address),
            number(peer.asn),
            number(peer.port),
            number(peer.passive),
            number(peer.advertise_learned),
            number(peer.hold_time),
            number(peer.connect_retry),
            optional(peer.max_prefixes, number),
            number(peer.max_prefixes_warn),
            optional(peer.max_prefixes_restart, number),
            optional(peer.local_address, text),
            optional(peer.password.as_ref().map(Password::reveal), text),
            optional(peer.ttl_security, number),
            optional(peer.multihop, number),
            number(peer.send_hold_time),
            text(peer.graceful_restart.word()),
            number(peer.restart_time),
            number(peer.stale_time),
            optional(dynamic_limit, number),
        ],
    );
    for family in &peer.families {
        rows.add(table::BGP_PEER_FAMILY, vec![text(address), text(family.word())]);
    }
    for (direction, policy) in [("import", &peer.import), ("export", &peer.export)] {
        for (family, filter) in policy.filters() {
            let key = || vec![text(address), text(direction), text(family.word())];
            let (named, fallback) = match filter {
                Filter::Named(name) => (text(name), Cell::Null),
                Filter::Rules(rules) => {
                    rows.add_list(table::BGP_PEER_RULE, key, &rules.rules, |rule| {
                        let lengths = [number(rule.ge), number(rule.le)];
                        [text(rule.prefix)]
                            .into_iter()
                            .chain(lengths)
                            .chain([text(rule.action.word())])
                    });
                    (Cell::Null, text(rules.default.word()))
                }
            };
            let row = key().into_iter().chain([named, fallback]);
            rows.add(table::BGP_PEER_POLICY, row.collect());
        }
    }
}

fn nat(nat: &Nat, rows: &mut Rows) {
    let mut position = 0_i64;
    let mut previous = None;
    for rule in &nat.masquerades {
        position = if previous == Some(rule.vpc) { position + 1 } else { 0 };
        previous = Some(rule.vpc);
        let key = || [number(rule.vpc.value()), number(position)];
        let ports = [number(rule.ports.first()), number(rule.ports.last())];
        rows.add(table::MASQUERADE, key().into_iter().chain(ports).collect());
        for prefix in &rule.sources {
            rows.add(
                table::MASQUERADE_SOURCE,
                key().into_iter().chain([text(prefix)]).collect(),
            );
        }
        for prefix in &rule.pool {
            rows.add(
                table::MASQUERADE_POOL,
                key().into_iter().chain([text(prefix)]).collect(),
            );
        }
    }
    for forward in &nat.port_forwards {
        rows.add(
            table::PORT_FORWARD,
            vec![
                text(forward.address),
                text(forward.protocol.word()),
                number(forward.port),
                number(forward.vpc.value()),
                text(forward.target),
                number(forward.target_port),
            ],
        );
    }
}
