//! A configuration becomes rows.

use std::fmt::Display;

use super::policy;
use super::rows::{Cell, Row, Rows, table};
use crate::model::{
    Bgp, Config, Filter, Nat, Password, Peer, Port, PortChoice, Rib, RouteTarget, Segment, SessionLog, StaticRoute,
    Timers, Vpc,
};
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
    if let Some(standby) = &config.standby {
        let listen = standby.listen.as_ref();
        let row = vec![
            ONE,
            optional(standby.peer, text),
            optional(listen.map(|listen| listen.address), text),
            optional(listen.map(|listen| listen.primary), text),
        ];
        rows.add(table::STANDBY, row);
    }
    if config.nat.log_sessions != SessionLog::Off {
        rows.add(table::SESSION_LOG, vec![ONE, text(config.nat.log_sessions.word())]);
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
    let (dataplane, kernel) = (&config.dataplane, &config.kernel);
    let mut row = vec![
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
        number(kernel.audit_interval),
    ];
    row.extend(timers(&config.nat.timers));
    row.extend([number(config.nat.pick_up), text(config.api.socket.display())]);
    row
}

fn timers(timers: &Timers) -> [Cell; 5] {
    [
        number(timers.tcp_established),
        number(timers.tcp_transitory),
        number(timers.udp),
        number(timers.icmp),
        number(timers.other),
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
        number(rib.publish_interval),
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
        optional(vpc.kernel_table, number),
        vni,
        vlan_port,
        vlan_id,
    ];
    rows.add(table::VPC, row);
    rows.add(table::VRF, vec![id(), id()]);
    if let Some(evpn) = &vpc.evpn {
        let policy = |name: &Option<String>| optional(name.as_ref(), text);
        let row = vec![
            id(),
            optional(evpn.rd, text),
            policy(&evpn.redistribute_connected),
            policy(&evpn.redistribute_static),
            policy(&evpn.redistribute_kernel),
        ];
        rows.add(table::VPC_EVPN, row);
        for (direction, targets) in [("import", &evpn.import_rt), ("export", &evpn.export_rt)] {
            for target in targets {
                rows.add(table::VPC_EVPN_TARGET, vec![id(), text(direction), text(target)]);
            }
        }
        for prefix in &evpn.announce {
            rows.add(table::VPC_EVPN_ANNOUNCE, vec![id(), text(prefix)]);
        }
    }
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
            number(bgp.selection_deferral_time),
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
        peer(item, &item.address.to_string(), None, None, rows);
    }
    for rpki in &bgp.rpki {
        let row = [ONE, text(rpki.cache), number(rpki.preference)];
        rows.add(table::BGP_RPKI, row.to_vec());
    }
    for bmp in &bgp.bmp {
        let row = [
            ONE,
            text(bmp.collector),
            number(bmp.pre_policy),
            number(bmp.post_policy),
            number(bmp.statistics_interval),
        ];
        rows.add(table::BGP_BMP, row.to_vec());
    }
    for dynamic in &bgp.dynamic {
        let key = dynamic.prefix.to_string();
        peer(&dynamic.template, &key, Some(dynamic.limit), None, rows);
    }
    for unnumbered in &bgp.unnumbered {
        let interface = unnumbered.interface.as_str();
        let key = format!("interface {interface}");
        peer(&unnumbered.template, &key, None, Some(interface), rows);
    }
}

/// A peer under its address, dynamic peers under their prefix, or an unnumbered peer under its interface.
fn peer(peer: &Peer, address: &str, dynamic_limit: Option<u32>, interface: Option<&str>, rows: &mut Rows) {
    rows.add(
        table::BGP_PEER,
        vec![
            ONE,
            text(address),
            optional(peer.asn.number(), number),
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
            number(peer.long_lived_stale_time),
            optional(peer.role.map(Word::word), text),
            number(peer.strict_role),
            optional(peer.bfd.map(|bfd| bfd.min_tx_ms), number),
            optional(peer.bfd.map(|bfd| bfd.min_rx_ms), number),
            optional(peer.bfd.map(|bfd| bfd.multiplier), number),
            optional(dynamic_limit, number),
            optional(interface, text),
            number(peer.add_path.receive),
            text(peer.add_path.send),
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
        let blocks = match rule.choice {
            PortChoice::Blocks(blocks) => Some(blocks),
            PortChoice::Free | PortChoice::Deterministic => None,
        };
        let choices = [
            number(rule.ports.first()),
            number(rule.ports.last()),
            text(rule.mapping.word()),
            text(rule.filtering.word()),
            text(rule.pairing.word()),
            number(u8::from(rule.parity)),
            number(u8::from(rule.choice == PortChoice::Deterministic)),
            optional(blocks, |blocks| number(blocks.size)),
            optional(blocks, |blocks| number(blocks.count)),
            optional(blocks, |blocks| number(blocks.quarantine)),
        ];
        rows.add(table::MASQUERADE, key().into_iter().chain(choices).collect());
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
    for limit in &nat.limits {
        rows.add(
            table::NAT_LIMIT,
            vec![
                number(limit.vpc.value()),
                optional(limit.sessions, number),
                optional(limit.new_sessions, number),
                optional(limit.subscriber_sessions, number),
                optional(limit.subscriber_new_sessions, number),
            ],
        );
    }
    for rule in &nat.statics {
        rows.add(
            table::STATIC_NAT,
            vec![
                number(rule.vpc.value()),
                number(rule.peer.map_or(0, |peer| peer.value())),
                text(rule.inside),
                text(rule.outside),
            ],
        );
    }
    for rule in &nat.npt {
        let row = vec![number(rule.vpc.value()), text(rule.inside), text(rule.outside)];
        rows.add(table::NAT_NPT, row);
    }
    for row in &nat.vpc_timers {
        let vpc = [number(row.vpc.value())];
        rows.add(table::VPC_TIMERS, vpc.into_iter().chain(timers(&row.timers)).collect());
    }
    for forward in &nat.port_forwards {
        let key = || {
            let protocol = text(forward.protocol.word());
            vec![text(forward.address), protocol, number(forward.ports.first())]
        };
        let rest = [
            number(forward.ports.last()),
            number(forward.vpc.value()),
            number(u8::from(forward.affinity)),
        ];
        rows.add(table::PORT_FORWARD, key().into_iter().chain(rest).collect());
        for (position, target) in (0_i64..).zip(&forward.targets) {
            let rest = [
                number(position),
                text(target.address),
                number(target.port),
                number(target.weight),
            ];
            rows.add(table::PORT_FORWARD_TARGET, key().into_iter().chain(rest).collect());
        }
    }
}
