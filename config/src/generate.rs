//! Random valid configurations, for the property tests.
//!
//! What must be unique is derived from a position, so that every value that is drawn fits with the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use net::policy::{self, AsPathSet, Change, CommunitySet, Condition, Policies, PrefixRange, PrefixSet, Term, Then};
use net::{IpNet, Ipv6Net, Mac, Prefix, VlanId, Vni, VpcId, VrfId};
use proptest::prelude::*;
use proptest::{collection, option, sample};

use crate::model::{
    Action, AddPath, Api, BatchBounds, Bfd, Bgp, Bmp, Config, Dataplane, Distances, DynamicPeers, Family, Filter,
    Filtering, ForwardTarget, Fpm, Gateway, GracefulRestart, Kernel, Mapping, Masquerade, Memory, Nat, NatLimit, Npt,
    Pairing, Peer, PeerAs, PeerPolicy, Poll, Port, PortBlocks, PortChoice, PortForward, PortRange, PrefixFilter,
    PrefixRule, Protocol, Rib, Role, RouteTarget, RpkiCache, Segment, SendPaths, SessionLog, Standby, StandbyListen,
    StaticNat, StaticRoute, Timers, UnnumberedPeer, Via, Vpc, VpcEvpn, VpcTimers, Vxlan,
};
use crate::words::Word;

/// A configuration that passes every check.
pub(crate) fn config() -> impl Strategy<Value = Config> {
    let parts = (
        (
            "[a-z0-9-]{1,20}",
            dataplane(),
            rib(),
            kernel(),
            option::of(fpm()),
            (timers(), 0..=3600_u32, session_log(), option::of(standby())),
        ),
        collection::vec(port(), 1..4),
        collection::btree_map(1..9_u16, vpc(), 0..5),
        collection::btree_map((0..9_u16, 0..12_u8), route(), 0..8),
        option::of(bgp()),
        collection::vec((0..9_u16, masquerade()), 0..5),
        (
            collection::btree_set((0..9_u16, 0..9_u16, 0..4_u8), 0..5),
            collection::btree_map(0..9_u16, (option::of(1..9_u32), option::of(1..9_u32)), 0..4),
            collection::vec((0..9_u16, 24..=64_u8), 0..4),
        ),
        collection::btree_map(
            (0..4_u8, any::<bool>(), 1..1024_u16),
            (0..9_u16, targets(), any::<bool>()),
            0..5,
        ),
        collection::btree_map(1..9_u16, timers(), 0..3),
    );
    parts.prop_map(
        |(
            (name, dataplane, rib, kernel, fpm, nat),
            ports,
            vpcs,
            routes,
            bgp,
            masquerades,
            (statics, limits, npt),
            forwards,
            timers,
        )| {
            let ports: Vec<_> = (0..).zip(ports).map(|(index, port)| port.place(index)).collect();
            let vpcs: Vec<_> = vpcs
                .into_iter()
                .map(|(id, vpc)| vpc.place(id, &ports, bgp.is_some()))
                .collect();
            let ids: BTreeSet<_> = vpcs.iter().map(|vpc| vpc.id).collect();
            let known = |number: u16| VpcId::new(number).ok().filter(|id| ids.contains(id));
            let routes = routes.into_iter().filter_map(|((vrf, index), route)| {
                let vrf = if vrf == 0 { VrfId::DEFAULT } else { known(vrf)?.vrf() };
                Some(route.place(vrf, index))
            });
            let masquerades = (0..)
                .zip(masquerades)
                .filter_map(|(index, (vpc, rule))| Some(rule.place(known(vpc)?, index)));
            // Prefixes of their own for each pair, so that rules neither clash nor overlap.
            let statics = (0..).zip(statics).filter_map(|(index, (vpc, peer, host))| {
                let vpc = known(vpc)?;
                Some(StaticNat {
                    vpc,
                    inside: net_of([10, 0, index, host], host.is_multiple_of(2)),
                    outside: net_of([198, 18, index, host], host.is_multiple_of(2)),
                    peer: known(peer).filter(|peer| *peer != vpc),
                })
            });
            // Told apart by the second word, so that none is in another.
            let npt = (0..).zip(npt).filter_map(|(index, (vpc, length))| {
                Some(Npt {
                    vpc: known(vpc)?,
                    inside: six_prefix(0xfd00, index, length),
                    outside: six_prefix(0x2001, index, length),
                })
            });
            let mut npt: Vec<_> = npt.collect();
            npt.sort_by_key(|rule| (rule.vpc, rule.inside));
            let limits = limits.into_iter().filter_map(|(vpc, (one, other))| {
                Some(NatLimit {
                    vpc: known(vpc)?,
                    sessions: Some(9),
                    new_sessions: one,
                    subscriber_sessions: other,
                    subscriber_new_sessions: one.or(other),
                })
            });
            let port_forwards = forwards
                .into_iter()
                .filter_map(|((address, tcp, port), (vpc, targets, affinity))| {
                    Some(PortForward {
                        vpc: known(vpc)?,
                        address: net_of([203, 0, 113, address + 1], targets_v4(&targets)).addr(),
                        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
                        ports: PortRange::new(port, port)?,
                        targets,
                        affinity,
                    })
                });
            let vpc_timers = timers.into_iter().filter_map(|(vpc, timers)| {
                let vpc = known(vpc)?;
                Some(VpcTimers { vpc, timers })
            });
            Config {
                gateway: Gateway { name },
                dataplane,
                vxlan: Some(Vxlan {
                    address: ports[0].addresses[0].addr(),
                    port: 4789,
                }),
                routes: routes.collect(),
                rib,
                kernel,
                fpm,
                bgp,
                nat: Nat {
                    pick_up: nat.1,
                    log_sessions: nat.2,
                    timers: nat.0,
                    vpc_timers: vpc_timers.collect(),
                    masquerades: masquerades.collect(),
                    limits: limits.collect(),
                    statics: statics.collect(),
                    npt,
                    port_forwards: port_forwards.collect(),
                },
                standby: nat.3,
                api: Api {
                    socket: "/run/x.sock".into(),
                },
                ports,
                vpcs,
            }
        },
    )
}

fn dataplane() -> impl Strategy<Value = Dataplane> {
    let workers = collection::btree_set(any::<u16>(), 1..4);
    (workers, any::<bool>(), any::<bool>(), 64..9999_u32, 1024..99_999_u32).prop_map(
        |(workers, busy, huge, memory_mb, buffers)| Dataplane {
            workers: workers.into_iter().collect(),
            poll: if busy { Poll::Busy } else { Poll::Adaptive },
            memory: if huge { Memory::Hugepages } else { Memory::NoHuge },
            memory_mb,
            buffers,
            connections: buffers,
        },
    )
}

fn rib() -> impl Strategy<Value = Rib> {
    let distances = proptest::array::uniform5(1..=u8::MAX);
    (1..9_999_u32, 1..999_u32, distances).prop_map(|(size, time, [fixed, ebgp, ibgp, kernel, fpm])| Rib {
        batch: BatchBounds { size, time },
        large_batch: BatchBounds {
            size: size * 2,
            time: time * 2,
        },
        publish_interval: time,
        distance: Distances {
            fixed,
            ebgp,
            ibgp,
            kernel,
            fpm,
        },
    })
}

fn kernel() -> impl Strategy<Value = Kernel> {
    (1..=u32::MAX, 5..=u8::MAX, any::<u32>(), 1..=86_400_u32).prop_map(|(table, protocol, metric, audit_interval)| {
        Kernel {
            table,
            protocol,
            metric,
            audit_interval,
        }
    })
}

fn fpm() -> impl Strategy<Value = Fpm> {
    (any::<u8>(), 1..=u16::MAX, 1..=86_400_u32).prop_map(|(host, port, stale_time)| Fpm {
        listen: SocketAddr::from(([127, 0, 0, host], port)),
        stale_time,
    })
}

fn session_log() -> impl Strategy<Value = SessionLog> {
    (0..3_u8).prop_map(|which| match which {
        0 => SessionLog::Off,
        1 => SessionLog::Sources,
        _ => SessionLog::Destinations,
    })
}

fn standby() -> impl Strategy<Value = Standby> {
    let listen = (any::<u8>(), 1..=u16::MAX).prop_map(|(host, port)| StandbyListen {
        address: SocketAddr::from(([100, 64, 0, 1], port)),
        primary: IpAddr::from([100, 64, 1, host]),
    });
    (any::<bool>(), 1..=u16::MAX, listen).prop_map(|(both, port, listen)| Standby {
        peer: both.then(|| SocketAddr::from(([100, 64, 1, 1], port))),
        listen: Some(listen),
    })
}

fn timers() -> impl Strategy<Value = Timers> {
    (1..9999_u32, 1..9999_u32).prop_map(|(tcp, udp)| Timers {
        tcp_established: tcp,
        tcp_transitory: tcp,
        udp,
        icmp: udp,
        other: udp,
    })
}

#[derive(Debug, Clone)]
struct DrawnPort {
    mac: Option<u32>,
    mtu: u16,
    hosts: BTreeSet<u8>,
    v6: bool,
    offload: bool,
}

fn port() -> impl Strategy<Value = DrawnPort> {
    let hosts = collection::btree_set(1..255_u8, 1..4);
    (
        option::of(any::<u32>()),
        1280..=9000_u16,
        hosts,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(mac, mtu, hosts, v6, offload)| DrawnPort {
            mac,
            mtu,
            hosts,
            v6,
            offload,
        })
}

impl DrawnPort {
    fn place(self, index: u8) -> Port {
        let v4 = self
            .hosts
            .iter()
            .map(|host| subnet(Ipv4Addr::new(192, 0, index, *host), 24));
        let v6 = self
            .v6
            .then(|| subnet(Ipv6Addr::new(0x2001, 0xdb8, 0, index.into(), 0, 0, 0, 1), 64));
        Port {
            name: format!("p{index}"),
            device: format!("net_tap{index},iface=\"x\""),
            host_interface: format!("tp-{index}"),
            mac: self.mac.map(mac),
            mtu: self.mtu,
            addresses: v4.chain(v6).collect(),
            offload: self.offload,
        }
    }
}

fn subnet(address: impl Into<IpAddr>, length: u8) -> IpNet {
    IpNet::new(address.into(), length).expect("a length of the family")
}

fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([2, 0, a, b, c, d])
}

#[derive(Debug, Clone)]
struct DrawnVpc {
    name: String,
    host_interface: String,
    vlan: bool,
    mac: u32,
    mtu: u16,
    hosts: BTreeSet<u8>,
    vteps: BTreeSet<u8>,
    kernel_table: bool,
    evpn: Option<VpcEvpn>,
}

/// Policies go by names that every drawn speaker has.
fn evpn() -> impl Strategy<Value = VpcEvpn> {
    let targets = || collection::btree_set((1..=u16::MAX, any::<u32>()), 1..4);
    let named = || option::of((0..3_u8).prop_map(|index| format!("policy-{index}")));
    let prefixes = collection::btree_set((any::<u32>(), 0..=32_u8).prop_map(prefix), 0..3);
    (
        option::of(any::<u32>()),
        targets(),
        targets(),
        prefixes,
        named(),
        named(),
        named(),
    )
        .prop_map(
            |(rd, import, export, announce, redistribute_connected, redistribute_static, redistribute_kernel)| {
                let target = |(asn, number)| format!("{asn}:{number}").parse().expect("a target");
                VpcEvpn {
                    // A number of its own is added for each VPC.
                    rd: rd.map(|number| format!("65000:{number}").parse().expect("a distinguisher")),
                    import_rt: import.into_iter().map(target).collect(),
                    export_rt: export.into_iter().map(target).collect(),
                    announce: announce.into_iter().collect(),
                    redistribute_connected,
                    redistribute_static,
                    redistribute_kernel,
                }
            },
        )
}

fn vpc() -> impl Strategy<Value = DrawnVpc> {
    let hosts = collection::btree_set(1..255_u8, 0..4);
    let vteps = collection::btree_set(1..255_u8, 1..4);
    (
        "[a-z]{1,8}",
        "[a-z]{1,8}",
        any::<bool>(),
        any::<u32>(),
        68..=9000_u16,
        hosts,
        vteps,
        any::<bool>(),
        option::of(evpn()),
    )
        .prop_map(
            |(name, host_interface, vlan, mac, mtu, hosts, vteps, kernel_table, evpn)| DrawnVpc {
                name,
                host_interface,
                vlan,
                mac,
                mtu,
                hosts,
                vteps,
                kernel_table,
                evpn,
            },
        )
}

impl DrawnVpc {
    /// `speaks` BGP: else there is no EVPN.
    fn place(self, id: u16, ports: &[Port], speaks: bool) -> Vpc {
        let vni = format!("65000:{id}").parse().expect("a distinguisher");
        let evpn = self.evpn.filter(|_| speaks && !self.vlan);
        let evpn = evpn.map(|evpn| VpcEvpn {
            rd: evpn.rd.map(|_| vni),
            ..evpn
        });
        let segment = if self.vlan {
            Segment::Vlan {
                port: ports[0].name.clone(),
                id: VlanId::new(id).expect("small"),
            }
        } else {
            let vteps = self.vteps.iter().map(|host| Ipv4Addr::new(198, 51, 100, *host).into());
            Segment::Vxlan {
                vni: Vni::new(id.into()).expect("small"),
                vteps: vteps.collect(),
            }
        };
        Vpc {
            id: VpcId::new(id).expect("not 0"),
            name: format!("{}-{id}", self.name),
            segment,
            host_interface: format!("v{id}-{}", self.host_interface),
            mac: mac(self.mac),
            mtu: self.mtu,
            addresses: self
                .hosts
                .iter()
                .map(|host| subnet(Ipv4Addr::new(10, 0, 0, *host), 24))
                .collect(),
            kernel_table: self.kernel_table.then(|| 1000 + u32::from(id)),
            evpn,
        }
    }
}

#[derive(Debug, Clone)]
struct DrawnRoute {
    target: u8,
    hosts: BTreeSet<u8>,
    distance: u8,
    metric: u32,
}

fn route() -> impl Strategy<Value = DrawnRoute> {
    (
        0..5_u8,
        collection::btree_set(1..255_u8, 1..4),
        1..=u8::MAX,
        any::<u32>(),
    )
        .prop_map(|(target, hosts, distance, metric)| DrawnRoute {
            target,
            hosts,
            distance,
            metric,
        })
}

impl DrawnRoute {
    fn place(self, vrf: VrfId, index: u8) -> StaticRoute {
        let target = match self.target {
            // Leaks lead to the default VRF only, which has none: they cannot go in a circle.
            0 if vrf != VrfId::DEFAULT => RouteTarget::InVrf(VrfId::DEFAULT),
            1 => RouteTarget::Blackhole,
            2 => RouteTarget::Unreachable,
            3 => RouteTarget::Prohibit,
            _ => RouteTarget::Via(
                self.hosts
                    .iter()
                    .map(|host| Via {
                        weight: self.metric as u16 % 7 + 1,
                        vrf: (*host % 5 == 0).then_some(VrfId::DEFAULT),
                        ..Via::gateway(Ipv4Addr::new(192, 0, 9, *host).into())
                    })
                    .collect(),
            ),
        };
        let prefix = Prefix::from(subnet(Ipv4Addr::new(172, index, 0, 0), 12 + index));
        StaticRoute {
            prefix,
            vrf,
            target,
            distance: self.distance,
            metric: self.metric,
        }
    }
}

fn bgp() -> impl Strategy<Value = Bgp> {
    let announce = collection::btree_set((any::<u32>(), 0..=32_u8), 0..4);
    let listen = collection::btree_set(any::<u16>(), 0..3);
    let peers = collection::btree_map(1..255_u8, peer(), 0..4);
    let dynamic = collection::btree_map((any::<u32>(), 0..=32_u8), (1..=100_000_u32, peer()), 0..3);
    (
        1..23_456_u32,
        1..=u32::MAX,
        listen,
        announce,
        (
            1..=256_u16,
            1..=256_u16,
            any::<[bool; 3]>(),
            0..=3600_u32,
            option::of(peer()),
        ),
        policies(),
        peers,
        dynamic,
        collectors(),
        caches(),
    )
        .prop_map(
            |(asn, router_id, listen, announce, rules, policies, peers, dynamic, bmp, rpki): (
                _,
                _,
                _,
                _,
                _,
                Policies,
                _,
                _,
                _,
                _,
            )| Bgp {
                asn,
                router_id: router_id.into(),
                listen: listen
                    .into_iter()
                    .map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
                    .collect(),
                announce: announce.into_iter().map(prefix).collect(),
                redistribute_connected: policies.policies.first().map(|policy| policy.name.clone()),
                redistribute_static: policies.policies.last().map(|policy| policy.name.clone()),
                redistribute_kernel: None,
                selection_deferral_time: rules.3,
                multipath: rules.0,
                multipath_internal: rules.1,
                always_compare_med: rules.2[0],
                prefer_oldest: rules.2[1],
                advertise_installed: rules.2[2],
                policies,
                peers: peers
                    .into_iter()
                    .map(|(host, peer)| Peer {
                        address: [198, 18, 0, host].into(),
                        ..within(asn, peer)
                    })
                    .collect(),
                dynamic: ranges(asn, dynamic),
                // The first port is always there.
                unnumbered: rules.4.into_iter().map(|peer| at_port(within(asn, peer))).collect(),
                bmp,
                rpki,
            },
        )
}

fn at_port(peer: Peer) -> UnnumberedPeer {
    UnnumberedPeer {
        interface: "p0".to_owned(),
        template: Peer {
            address: Ipv6Addr::UNSPECIFIED.into(),
            password: None,
            local_address: None,
            ..peer
        },
    }
}

/// A peer of a speaker of this AS: roles are for external ones.
fn within(asn: u32, mut peer: Peer) -> Peer {
    if peer.asn == PeerAs::Number(asn) {
        (peer.role, peer.strict_role) = (None, false);
    }
    peer
}

fn caches() -> impl Strategy<Value = Vec<RpkiCache>> {
    collection::btree_map((any::<u32>(), 1..=u16::MAX), any::<u8>(), 0..3).prop_map(|drawn| {
        let cache = |((address, port), preference): ((u32, u16), u8)| RpkiCache {
            cache: SocketAddr::from((Ipv4Addr::from(address), port)),
            preference,
        };
        drawn.into_iter().map(cache).collect()
    })
}

fn collectors() -> impl Strategy<Value = Vec<Bmp>> {
    let drawn = (any::<bool>(), any::<bool>(), 0..=86_400_u32);
    collection::btree_map((any::<u32>(), 1..=u16::MAX), drawn, 0..3).prop_map(|drawn| {
        let collector = |((address, port), (pre, post, statistics_interval)): ((u32, u16), (bool, bool, u32))| Bmp {
            collector: SocketAddr::from((Ipv4Addr::from(address), port)),
            pre_policy: pre || !post,
            post_policy: post,
            statistics_interval,
        };
        drawn.into_iter().map(collector).collect()
    })
}

/// Prefixes that are equal once their host bits are gone count once.
fn ranges(asn: u32, drawn: BTreeMap<(u32, u8), (u32, Peer)>) -> Vec<DynamicPeers> {
    let unique: BTreeMap<Prefix, (u32, Peer)> = drawn.into_iter().map(|(bits, drawn)| (prefix(bits), drawn)).collect();
    let range = |(prefix, (limit, peer)): (Prefix, (u32, Peer))| DynamicPeers {
        prefix,
        limit,
        template: Peer {
            address: prefix.net().network(),
            passive: true,
            local_address: None,
            ..within(asn, peer)
        },
    };
    unique.into_iter().map(range).collect()
}

fn prefix((address, length): (u32, u8)) -> Prefix {
    Prefix::containing(Ipv4Addr::from(address).into(), length).expect("a length of IPv4")
}

fn peer() -> impl Strategy<Value = Peer> {
    let peer = (
        session(),
        restart(),
        role(),
        bfd(),
        add_path(),
        peer_policy(),
        peer_policy(),
    );
    peer.prop_map(|(peer, restart, role, bfd, add_path, import, export)| Peer {
        import,
        export,
        role: role.0,
        strict_role: role.1,
        // For peers on the same link alone.
        bfd: bfd.filter(|_| peer.ttl_security.or(peer.multihop).unwrap_or(1) == 1),
        graceful_restart: restart.0,
        restart_time: restart.1,
        stale_time: restart.2,
        long_lived_stale_time: restart.3,
        add_path,
        ..peer
    })
}

/// A role, and whether the peer has to say its own.
fn role() -> impl Strategy<Value = (Option<Role>, bool)> {
    let roles = Role::WORDS.iter().map(|(_, role)| *role).collect::<Vec<_>>();
    let some = (sample::select(roles), any::<bool>()).prop_map(|(role, strict)| (Some(role), strict));
    prop_oneof![Just((None, false)), some]
}

fn bfd() -> impl Strategy<Value = Option<Bfd>> {
    let drawn = (10..=60_000_u32, 10..=60_000_u32, 1..=255_u8);
    option::of(drawn.prop_map(|(min_tx_ms, min_rx_ms, multiplier)| Bfd {
        min_tx_ms,
        min_rx_ms,
        multiplier,
    }))
}

fn add_path() -> impl Strategy<Value = AddPath> {
    let best = (1..=u8::MAX).prop_map(|most| SendPaths::Best(most.try_into().expect("not zero")));
    let send = prop_oneof![Just(SendPaths::None), Just(SendPaths::All), best];
    (any::<bool>(), send).prop_map(|(receive, send)| AddPath { receive, send })
}

fn restart() -> impl Strategy<Value = (GracefulRestart, u16, u32, u32)> {
    let modes = vec![GracefulRestart::Off, GracefulRestart::Helper, GracefulRestart::Full];
    (sample::select(modes), 1..=4095_u16, 1..=86_400_u32, 0..=0x00ff_ffff_u32)
}

/// A peer without policy and with the default restart.
fn session() -> impl Strategy<Value = Peer> {
    let families = vec![Family::Ipv4Unicast, Family::Ipv6Unicast, Family::L2vpnEvpn];
    let families = sample::subsequence(families, 1..=3);
    let numbers = (1..23_456_u32, 1..=u16::MAX, 3..=u16::MAX, 1..=u16::MAX);
    let distance = prop_oneof![
        Just((None, None)),
        (1..=254_u8).prop_map(|hops| (Some(hops), None)),
        (1..=254_u8).prop_map(|hops| (None, Some(hops))),
    ];
    let secret = option::of("[ -~]{1,80}").prop_map(|text| text.map(|text| text.parse().expect("1 to 80 bytes")));
    let local = option::of(any::<u32>()).prop_map(|bits| bits.map(|bits| Ipv4Addr::from(bits).into()));
    let prefixes = (option::of(1..=u32::MAX), 1..=100_u8, option::of(1..=604_800_u32));
    (numbers, any::<[bool; 3]>(), families, distance, secret, local, prefixes).prop_map(
        |(
            (asn, port, hold_time, connect_retry),
            [passive, external, advertise_learned],
            families,
            distance,
            password,
            local_address,
            prefixes,
        )| {
            Peer {
                address: Ipv4Addr::UNSPECIFIED.into(),
                asn: if external {
                    PeerAs::External
                } else {
                    PeerAs::Number(asn)
                },
                port,
                local_address,
                password,
                ttl_security: distance.0,
                multihop: distance.1,
                passive,
                advertise_learned,
                hold_time,
                send_hold_time: 65_536 + u32::from(hold_time) % 20_000,
                connect_retry,
                families,
                import: PeerPolicy::default(),
                export: PeerPolicy::default(),
                max_prefixes: prefixes.0,
                max_prefixes_warn: prefixes.1,
                max_prefixes_restart: prefixes.2,
                graceful_restart: GracefulRestart::Helper,
                restart_time: 120,
                stale_time: 360,
                long_lived_stale_time: 0,
                role: None,
                strict_role: false,
                bfd: None,
                add_path: AddPath::default(),
            }
        },
    )
}

fn peer_policy() -> impl Strategy<Value = PeerPolicy> {
    let rule = ((any::<u32>(), 0..=32_u8), 0..=32_u8, any::<bool>()).prop_map(|(drawn, le, accept)| {
        let prefix = prefix(drawn);
        PrefixRule {
            prefix,
            ge: prefix.len(),
            le: le.max(prefix.len()),
            action: action(accept),
        }
    });
    let rules = (collection::vec(rule, 0..4), any::<bool>()).prop_map(|(rules, accept)| {
        Filter::Rules(PrefixFilter {
            rules,
            default: action(accept),
        })
    });
    let filter = prop_oneof![
        rules,
        (0..3_u8).prop_map(|index| Filter::Named(format!("policy-{index}")))
    ];
    let filter = || option::of(filter.clone());
    (filter(), filter(), filter()).prop_map(|(ipv4_unicast, ipv6_unicast, l2vpn_evpn)| PeerPolicy {
        ipv4_unicast,
        ipv6_unicast,
        l2vpn_evpn,
    })
}

/// Sets and policies with fixed names, so that every reference leads somewhere.
fn policies() -> impl Strategy<Value = Policies> {
    let range = ((any::<u32>(), 0..=32_u8), 0..=32_u8).prop_map(|(drawn, le)| {
        let prefix = prefix(drawn);
        PrefixRange {
            prefix,
            ge: prefix.len(),
            le: le.max(prefix.len()),
        }
    });
    let patterns = sample::subsequence(vec!["^$", "_65010_", "^6501[0-9] .*"], 1..=3);
    let communities = sample::subsequence(vec!["65001:*", "no-export", "1:2:3", "rt:65001:7"], 1..=4);
    let terms = || collection::vec(term(), 1..4);
    let policies = [
        (terms(), any::<bool>()),
        (terms(), any::<bool>()),
        (terms(), any::<bool>()),
    ];
    (collection::btree_set(range, 1..4), patterns, communities, policies).prop_map(
        |(ranges, patterns, communities, policies)| Policies {
            prefix_sets: vec![PrefixSet {
                name: "set".into(),
                prefixes: ranges.into_iter().collect(),
            }],
            as_path_sets: vec![AsPathSet {
                name: "set".into(),
                patterns: patterns.into_iter().map(parsed).collect(),
            }],
            community_sets: vec![CommunitySet {
                name: "set".into(),
                communities: communities.into_iter().map(parsed).collect(),
            }],
            policies: (0..)
                .zip(policies)
                .map(|(index, (terms, accept_by_default))| policy::Policy {
                    name: format!("policy-{index}"),
                    terms: numbered(terms),
                    accept_by_default,
                })
                .collect(),
        },
    )
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("valid")
}

/// Terms need names of their own.
fn numbered(terms: Vec<Term>) -> Vec<Term> {
    let names = (0..).map(|index: u8| format!("term-{index}"));
    terms
        .into_iter()
        .zip(names)
        .map(|(term, name)| Term { name, ..term })
        .collect()
}

fn term() -> impl Strategy<Value = Term> {
    let set = || "set".to_owned();
    let conditions = sample::subsequence(
        vec![
            Condition::PrefixSet(set()),
            Condition::AsPathSet(set()),
            Condition::CommunityAny(set()),
            Condition::NextHopSet(set()),
            Condition::Med(1),
            Condition::Neighbor(vec![parsed("192.0.2.1"), parsed("2001:db8::1")]),
            Condition::V4(true),
            Condition::Source(vec![parsed("announced"), parsed("ebgp")]),
            Condition::Rpki(vec![parsed("invalid"), parsed("not-found")]),
        ],
        0..=9,
    );
    let changes = sample::subsequence(
        vec![
            Change::LocalPref(7),
            Change::Med(parsed("+7")),
            Change::Prepend { asn: Some(7), count: 3 },
            Change::NextHop(parsed("self")),
            Change::SetCommunities(Vec::new()),
            Change::RemoveCommunities(vec![parsed("7:*")]),
            Change::AddCommunities(vec![parsed("no-export"), parsed("7:7:7")]),
            Change::Blackhole,
        ],
        0..=8,
    );
    let then = sample::select(Then::WORDS.to_vec());
    (conditions, changes, then).prop_map(|(conditions, changes, (_, then))| Term {
        name: String::new(),
        conditions,
        changes,
        then,
    })
}

fn action(accept: bool) -> Action {
    if accept { Action::Accept } else { Action::Deny }
}

/// An address of IPv4, or of IPv6 with the same last octets.
fn net_of(octets: [u8; 4], v4: bool) -> IpNet {
    let address = Ipv4Addr::from(octets);
    if v4 {
        return IpNet::from(IpAddr::V4(address));
    }
    IpNet::from(IpAddr::V6(Ipv6Addr::from_bits(
        0x2001_0db8 << 96 | u128::from(address.to_bits()),
    )))
}

fn six_prefix(first: u16, second: u8, length: u8) -> Ipv6Net {
    let address = u128::from(first) << 112 | u128::from(second) << 104;
    Ipv6Net::new(Ipv6Addr::from_bits(address), length)
        .expect("at most 128")
        .trunc()
}

fn targets_v4(targets: &[ForwardTarget]) -> bool {
    targets.first().is_none_or(|target| target.address.is_ipv4())
}

fn targets() -> impl Strategy<Value = Vec<ForwardTarget>> {
    let each = collection::vec((1..255_u8, 1..=u16::MAX, 1..1000_u16), 1..4);
    (each, any::<bool>()).prop_map(|(targets, v4)| {
        let target = |(host, port, weight)| ForwardTarget {
            address: net_of([10, 0, 0, host], v4).addr(),
            port,
            weight,
        };
        targets.into_iter().map(target).collect()
    })
}

#[derive(Debug, Clone)]
struct DrawnMasquerade {
    pools: BTreeSet<u8>,
    ports: PortRange,
    behavior: (Mapping, Filtering),
    choice: (Pairing, bool, PortChoice),
}

fn masquerade() -> impl Strategy<Value = DrawnMasquerade> {
    let behavior = sample::select(vec![
        (Mapping::PerConnection, Filtering::AddressAndPortDependent),
        (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent),
        (Mapping::EndpointIndependent, Filtering::AddressDependent),
        (Mapping::EndpointIndependent, Filtering::EndpointIndependent),
    ]);
    let choice = (any::<bool>(), any::<bool>(), 0..3_u8, 1..500_u16, 1..9_u16, 0..900_u32).prop_map(
        |(strict, parity, choice, size, count, quarantine)| {
            let pairing = if strict { Pairing::Strict } else { Pairing::Soft };
            let blocks = PortBlocks {
                size,
                count,
                quarantine,
            };
            match choice {
                0 => (pairing, parity, PortChoice::Free),
                1 => (pairing, false, PortChoice::Blocks(blocks)),
                _ => (pairing, parity, PortChoice::Deterministic),
            }
        },
    );
    let pools = collection::btree_set(any::<u8>(), 1..3);
    // As many ports as a rule's sources have addresses, which is enough for determined ones.
    (pools, 1024..60_000_u16, 500..5000_u16, behavior, choice).prop_map(|(pools, first, more, behavior, choice)| {
        DrawnMasquerade {
            pools,
            ports: PortRange::new(first, first + more).expect("not empty"),
            behavior,
            choice,
        }
    })
}

impl DrawnMasquerade {
    /// Determined ports are IPv4's alone.
    fn v4(&self) -> bool {
        self.choice.2 == PortChoice::Deterministic || self.ports.first().is_multiple_of(2)
    }

    /// Pools and sources of its own for each position, so that rules neither clash nor shadow each other.
    fn place(self, vpc: VpcId, index: u8) -> Masquerade {
        let pool = self.pools.iter().map(|host| net_of([100, 64, index, *host], self.v4()));
        let sources = net_of([10, index, 0, 0], self.v4());
        let sources =
            vec![IpNet::new(sources.addr(), sources.max_prefix_len() - 8).expect("no longer than the family's")];
        Masquerade {
            vpc,
            sources,
            pool: pool.collect(),
            ports: self.ports,
            mapping: self.behavior.0,
            filtering: self.behavior.1,
            pairing: self.choice.0,
            parity: self.choice.1,
            choice: self.choice.2,
        }
    }
}
