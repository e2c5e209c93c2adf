//! Rows become a configuration. What the rows cannot mean is damage, and is said as such.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use net::{Prefix, VlanId, Vni, VpcId, VrfId};

use super::encode::ONE;
use super::policy;
use super::rows::{Cell, Row, Rows, TABLES, table};
use crate::model::{
    Action, AddPath, Api, BatchBounds, Bfd, Bgp, Bmp, Config, Dataplane, Distances, DynamicPeers, Family, Filter,
    ForwardTarget, Fpm, Gateway, Kernel, Masquerade, Nat, NatLimit, Npt, Peer, PeerAs, PeerPolicy, Port, PortBlocks,
    PortChoice, PortForward, PortRange, PrefixFilter, PrefixRule, Rib, RouteTarget, RpkiCache, Segment, Standby,
    StandbyListen, StaticNat, StaticRoute, Timers, UnnumberedPeer, Via, Vpc, VpcEvpn, VpcTimers, Vxlan,
};
use crate::words::Word;

/// What cannot be: table and column.
pub(super) type Damage = String;

/// The configuration that the rows say.
pub(super) fn config(rows: &Rows) -> Result<Config, Damage> {
    let settings = rows
        .of(table::SETTINGS, &[ONE])
        .next()
        .ok_or("table settings is empty")?;
    let mut fields = Fields::after(table::SETTINGS, settings, 1);
    let gateway = Gateway { name: fields.text()? };
    let workers = list(rows, table::WORKER, &[], Fields::number)?;
    let dataplane = Dataplane {
        workers,
        poll: fields.word()?,
        memory: fields.word()?,
        memory_mb: fields.number()?,
        buffers: fields.number()?,
        connections: fields.number()?,
    };
    let kernel = Kernel {
        table: fields.number()?,
        protocol: fields.number()?,
        metric: fields.number()?,
        audit_interval: fields.number()?,
    };
    let timers = self::timers(&mut fields)?;
    let pick_up = fields.number()?;
    let api = Api {
        socket: fields.text()?.into(),
    };
    let vxlan = list(rows, table::VXLAN, &[ONE], |fields| {
        Ok(Vxlan {
            address: fields.parse()?,
            port: fields.number()?,
        })
    })?;
    let rib = rows.of(table::RIB, &[ONE]).next().ok_or("table rib is empty")?;
    let rib = rib_section(&mut Fields::after(table::RIB, rib, 1))?;
    let fpm = list(rows, table::FPM, &[ONE], |fields| {
        Ok(Fpm {
            listen: fields.parse()?,
            stale_time: fields.number()?,
        })
    })?;
    let standby = list(rows, table::STANDBY, &[ONE], |fields| {
        let peer = fields.parse_optional()?;
        let listen = (fields.parse_optional()?, fields.parse_optional()?);
        Ok(Standby {
            peer,
            listen: match listen {
                (Some(address), Some(primary)) => Some(StandbyListen { address, primary }),
                _ => None,
            },
        })
    })?;
    let session_log = list(rows, table::SESSION_LOG, &[ONE], Fields::word)?;
    let config = Config {
        gateway,
        dataplane,
        vxlan: vxlan.into_iter().next(),
        ports: list(rows, table::PORT, &[], |fields| port(rows, fields))?,
        vpcs: list(rows, table::VPC, &[], |fields| vpc(rows, fields))?,
        routes: list(rows, table::ROUTE, &[], |fields| route(rows, fields))?,
        rib,
        kernel,
        fpm: fpm.into_iter().next(),
        bgp: list(rows, table::BGP, &[ONE], |fields| bgp(rows, fields))?
            .into_iter()
            .next(),
        standby: standby.into_iter().next(),
        nat: Nat {
            pick_up,
            log_sessions: session_log.into_iter().next().unwrap_or_default(),
            timers,
            vpc_timers: list(rows, table::VPC_TIMERS, &[], |fields| {
                Ok(VpcTimers {
                    vpc: fields.id::<VpcId, u16>()?,
                    timers: self::timers(fields)?,
                })
            })?,
            masquerades: list(rows, table::MASQUERADE, &[], |fields| masquerade(rows, fields))?,
            limits: list(rows, table::NAT_LIMIT, &[], limit)?,
            statics: list(rows, table::STATIC_NAT, &[], static_nat)?,
            npt: list(rows, table::NAT_NPT, &[], |fields| {
                Ok(Npt {
                    vpc: fields.id::<VpcId, u16>()?,
                    inside: fields.parse()?,
                    outside: fields.parse()?,
                })
            })?,
            port_forwards: list(rows, table::PORT_FORWARD, &[], |fields| port_forward(rows, fields))?,
        },
        api,
    };
    Ok(config.canonical())
}

fn rib_section(fields: &mut Fields<'_>) -> Result<Rib, Damage> {
    let mut bounds = || -> Result<BatchBounds, Damage> {
        Ok(BatchBounds {
            size: fields.number()?,
            time: fields.number()?,
        })
    };
    Ok(Rib {
        batch: bounds()?,
        large_batch: bounds()?,
        publish_interval: fields.number()?,
        distance: Distances {
            fixed: fields.number()?,
            ebgp: fields.number()?,
            ibgp: fields.number()?,
            kernel: fields.number()?,
            fpm: fields.number()?,
        },
    })
}

/// Reads the rows that begin with `key`, each from the value after it.
pub(super) fn list<'r, T>(
    rows: &'r Rows,
    table: usize,
    key: &[Cell],
    read: impl Fn(&mut Fields<'r>) -> Result<T, Damage>,
) -> Result<Vec<T>, Damage> {
    rows.of(table, key)
        .map(|row| read(&mut Fields::after(table, row, key.len())))
        .collect()
}

/// The values of a row, one after another.
pub(super) struct Fields<'r> {
    table: usize,
    row: &'r Row,
    next: usize,
}

impl<'r> Fields<'r> {
    fn after(table: usize, row: &'r Row, next: usize) -> Self {
        Self { table, row, next }
    }

    pub(super) fn damage(&self) -> Damage {
        format!(
            "a row of table {} has an impossible value in column {}",
            TABLES[self.table].name, self.next
        )
    }

    fn cell(&mut self) -> Result<&'r Cell, Damage> {
        let cell = self.row.get(self.next).ok_or_else(|| self.damage())?;
        self.next += 1;
        Ok(cell)
    }

    pub(super) fn text(&mut self) -> Result<String, Damage> {
        self.parse()
    }

    pub(super) fn parse<T: FromStr>(&mut self) -> Result<T, Damage> {
        self.parse_optional()?.ok_or_else(|| self.damage())
    }

    fn parse_optional<T: FromStr>(&mut self) -> Result<Option<T>, Damage> {
        match self.cell()? {
            Cell::Null => Ok(None),
            Cell::Text(text) => text.parse().map(Some).map_err(|_| self.damage()),
            Cell::Integer(_) => Err(self.damage()),
        }
    }

    pub(super) fn number<T: TryFrom<i64>>(&mut self) -> Result<T, Damage> {
        self.number_optional()?.ok_or_else(|| self.damage())
    }

    fn number_optional<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, Damage> {
        match self.cell()? {
            Cell::Null => Ok(None),
            Cell::Integer(number) => T::try_from(*number).map(Some).map_err(|_| self.damage()),
            Cell::Text(_) => Err(self.damage()),
        }
    }

    pub(super) fn flag(&mut self) -> Result<bool, Damage> {
        Ok(self.number::<u8>()? != 0)
    }

    fn word<T: Word>(&mut self) -> Result<T, Damage> {
        let text = self.text()?;
        T::from_word(&text).ok_or_else(|| self.damage())
    }

    fn word_optional<T: Word>(&mut self) -> Result<Option<T>, Damage> {
        match self.parse_optional::<String>()? {
            None => Ok(None),
            Some(text) => T::from_word(&text).map(Some).ok_or_else(|| self.damage()),
        }
    }

    fn id<T: TryFrom<N>, N: TryFrom<i64>>(&mut self) -> Result<T, Damage> {
        let number = self.number::<N>()?;
        T::try_from(number).map_err(|_| self.damage())
    }

    fn vrf(&mut self) -> Result<VrfId, Damage> {
        self.number().map(VrfId)
    }

    /// The first values of the row: the key under which other tables refer to it.
    pub(super) fn key(&self, length: usize) -> &'r [Cell] {
        &self.row[..length]
    }
}

fn port(rows: &Rows, fields: &mut Fields<'_>) -> Result<Port, Damage> {
    Ok(Port {
        addresses: list(rows, table::PORT_ADDRESS, fields.key(1), Fields::parse)?,
        name: fields.text()?,
        device: fields.text()?,
        host_interface: fields.text()?,
        mac: fields.parse_optional()?,
        mtu: fields.number()?,
        offload: fields.flag()?,
    })
}

fn vpc(rows: &Rows, fields: &mut Fields<'_>) -> Result<Vpc, Damage> {
    let key = fields.key(1);
    let id = fields.id::<VpcId, u16>()?;
    let (name, host_interface) = (fields.text()?, fields.text()?);
    let (mac, mtu) = (fields.parse()?, fields.number()?);
    let kernel_table = fields.number_optional()?;
    let vni = fields.number_optional::<u32>()?;
    let vlan_port = fields.parse_optional::<String>()?;
    let segment = match (vni, vlan_port) {
        (Some(vni), None) => Segment::Vxlan {
            vni: Vni::new(vni).map_err(|error| error.to_string())?,
            vteps: list(rows, table::VPC_VTEP, key, Fields::parse)?,
        },
        (None, Some(port)) => Segment::Vlan {
            port,
            id: fields.id::<VlanId, u16>()?,
        },
        _ => return Err(fields.damage()),
    };
    let addresses = list(rows, table::VPC_ADDRESS, key, Fields::parse)?;
    let evpn = list(rows, table::VPC_EVPN, key, |fields| evpn(rows, fields))?.pop();
    Ok(Vpc {
        id,
        name,
        segment,
        host_interface,
        mac,
        mtu,
        addresses,
        kernel_table,
        evpn,
    })
}

fn evpn(rows: &Rows, fields: &mut Fields<'_>) -> Result<VpcEvpn, Damage> {
    let targets = |direction: &str| {
        let key = [fields.key(1), &[Cell::Text(direction.to_owned())]].concat();
        list(rows, table::VPC_EVPN_TARGET, &key, Fields::parse)
    };
    Ok(VpcEvpn {
        import_rt: targets("import")?,
        export_rt: targets("export")?,
        announce: list(rows, table::VPC_EVPN_ANNOUNCE, fields.key(1), Fields::parse)?,
        rd: fields.parse_optional()?,
        redistribute_connected: fields.parse_optional()?,
        redistribute_static: fields.parse_optional()?,
        redistribute_kernel: fields.parse_optional()?,
    })
}

fn route(rows: &Rows, fields: &mut Fields<'_>) -> Result<StaticRoute, Damage> {
    let gateways = list(rows, table::ROUTE_VIA, fields.key(2), |fields| {
        fields.number::<i64>()?; // the position: rows come in its order
        Ok(Via {
            gateway: fields.parse_optional()?,
            interface: fields.parse_optional()?,
            vrf: fields.number_optional()?.map(VrfId),
            weight: fields.number()?,
        })
    })?;
    let (vrf, prefix) = (fields.vrf()?, fields.parse()?);
    let target = fields.text()?;
    let in_vrf = fields.number_optional()?.map(VrfId);
    let target = match (target.as_str(), in_vrf) {
        ("via", None) => RouteTarget::Via(gateways),
        ("in-vrf", Some(vrf)) => RouteTarget::InVrf(vrf),
        ("blackhole", None) => RouteTarget::Blackhole,
        ("unreachable", None) => RouteTarget::Unreachable,
        ("prohibit", None) => RouteTarget::Prohibit,
        _ => return Err(fields.damage()),
    };
    Ok(StaticRoute {
        prefix,
        vrf,
        target,
        distance: fields.number()?,
        metric: fields.number()?,
    })
}

fn bgp(rows: &Rows, fields: &mut Fields<'_>) -> Result<Bgp, Damage> {
    let (mut peers, mut dynamic, mut unnumbered) = (Vec::new(), Vec::new(), Vec::new());
    for found in list(rows, table::BGP_PEER, &[ONE], |fields| peer(rows, fields))? {
        match found {
            Member::One(peer) => peers.push(*peer),
            Member::Range(range) => dynamic.push(*range),
            Member::Unnumbered(peer) => unnumbered.push(*peer),
        }
    }
    Ok(Bgp {
        asn: fields.number()?,
        router_id: fields.parse()?,
        listen: list(rows, table::BGP_LISTEN, &[ONE], Fields::parse)?,
        announce: list(rows, table::BGP_ANNOUNCE, &[ONE], Fields::parse)?,
        multipath: fields.number()?,
        multipath_internal: fields.number()?,
        always_compare_med: fields.flag()?,
        prefer_oldest: fields.flag()?,
        advertise_installed: fields.flag()?,
        selection_deferral_time: fields.number()?,
        redistribute_connected: fields.parse_optional()?,
        redistribute_static: fields.parse_optional()?,
        redistribute_kernel: fields.parse_optional()?,
        policies: policy::policies(rows)?,
        peers,
        dynamic,
        unnumbered,
        bmp: list(rows, table::BGP_BMP, &[ONE], bmp)?,
        rpki: list(rows, table::BGP_RPKI, &[ONE], rpki)?,
    })
}

fn rpki(fields: &mut Fields<'_>) -> Result<RpkiCache, Damage> {
    Ok(RpkiCache {
        cache: fields.parse()?,
        preference: fields.number()?,
    })
}

fn bmp(fields: &mut Fields<'_>) -> Result<Bmp, Damage> {
    Ok(Bmp {
        collector: fields.parse()?,
        pre_policy: fields.flag()?,
        post_policy: fields.flag()?,
        statistics_interval: fields.number()?,
    })
}

/// What a row of peers is.
enum Member {
    One(Box<Peer>),
    Range(Box<DynamicPeers>),
    Unnumbered(Box<UnnumberedPeer>),
}

fn peer(rows: &Rows, fields: &mut Fields<'_>) -> Result<Member, Damage> {
    let key = [fields.key(2)[1].clone()];
    let policy = |direction: &str| {
        let key = [key[0].clone(), Cell::Text(direction.to_owned())];
        let filters = list(rows, table::BGP_PEER_POLICY, &key, |fields| filter(rows, fields))?;
        let of = |wanted| {
            let found = filters.iter().find(|(family, _)| *family == wanted);
            found.map(|(_, filter)| filter.clone())
        };
        Ok::<_, Damage>(PeerPolicy {
            ipv4_unicast: of(Family::Ipv4Unicast),
            ipv6_unicast: of(Family::Ipv6Unicast),
            l2vpn_evpn: of(Family::L2vpnEvpn),
        })
    };
    let address = fields.text()?;
    let mut peer = Peer {
        families: list(rows, table::BGP_PEER_FAMILY, &key, Fields::word)?,
        address: Ipv4Addr::UNSPECIFIED.into(),
        asn: fields.number_optional()?.map_or(PeerAs::External, PeerAs::Number),
        port: fields.number()?,
        passive: fields.flag()?,
        advertise_learned: fields.flag()?,
        hold_time: fields.number()?,
        connect_retry: fields.number()?,
        import: policy("import")?,
        export: policy("export")?,
        max_prefixes: fields.number_optional()?,
        max_prefixes_warn: fields.number()?,
        max_prefixes_restart: fields.number_optional()?,
        local_address: fields.parse_optional()?,
        password: fields.parse_optional()?,
        ttl_security: fields.number_optional()?,
        multihop: fields.number_optional()?,
        send_hold_time: fields.number()?,
        graceful_restart: fields.word()?,
        restart_time: fields.number()?,
        stale_time: fields.number()?,
        long_lived_stale_time: fields.number()?,
        role: fields.word_optional()?,
        strict_role: fields.flag()?,
        bfd: bfd(fields)?,
        add_path: AddPath::default(),
    };
    let (limit, interface) = (fields.number_optional()?, fields.parse_optional()?);
    peer.add_path = AddPath {
        receive: fields.flag()?,
        send: fields.parse()?,
    };
    if let Some(interface) = interface {
        peer.address = Ipv6Addr::UNSPECIFIED.into();
        return Ok(Member::Unnumbered(Box::new(UnnumberedPeer {
            interface,
            template: peer,
        })));
    }
    let Some(limit) = limit else {
        peer.address = address.parse().map_err(|_| fields.damage())?;
        return Ok(Member::One(Box::new(peer)));
    };
    let prefix: Prefix = address.parse().map_err(|_| fields.damage())?;
    peer.address = prefix.net().network();
    Ok(Member::Range(Box::new(DynamicPeers {
        prefix,
        limit,
        template: peer,
    })))
}

fn bfd(fields: &mut Fields<'_>) -> Result<Option<Bfd>, Damage> {
    let (tx, rx, multiplier) = (
        fields.number_optional()?,
        fields.number_optional()?,
        fields.number_optional()?,
    );
    match (tx, rx, multiplier) {
        (None, None, None) => Ok(None),
        (Some(min_tx_ms), Some(min_rx_ms), Some(multiplier)) => Ok(Some(Bfd {
            min_tx_ms,
            min_rx_ms,
            multiplier,
        })),
        _ => Err(fields.damage()),
    }
}

fn filter(rows: &Rows, fields: &mut Fields<'_>) -> Result<(Family, Filter), Damage> {
    let key = fields.key(3);
    let family = fields.word()?;
    let named = fields.parse_optional::<String>()?;
    let filter = match (named, fields.parse_optional::<String>()?) {
        (Some(name), None) => Filter::Named(name),
        (None, Some(fallback)) => Filter::Rules(PrefixFilter {
            rules: list(rows, table::BGP_PEER_RULE, key, rule)?,
            default: Action::from_word(&fallback).ok_or_else(|| fields.damage())?,
        }),
        _ => return Err(fields.damage()),
    };
    Ok((family, filter))
}

fn rule(fields: &mut Fields<'_>) -> Result<PrefixRule, Damage> {
    fields.number::<i64>()?; // the position: rows come in its order
    let (prefix, ge, le) = (fields.parse()?, fields.number()?, fields.number()?);
    let action = fields.word()?;
    Ok(PrefixRule { prefix, ge, le, action })
}

fn masquerade(rows: &Rows, fields: &mut Fields<'_>) -> Result<Masquerade, Damage> {
    let key = fields.key(2);
    let vpc = fields.id::<VpcId, u16>()?;
    fields.number::<i64>()?; // the position: rows come in its order
    let ports = PortRange::new(fields.number()?, fields.number()?).ok_or_else(|| fields.damage())?;
    let (mapping, filtering, pairing, parity) = (fields.word()?, fields.word()?, fields.word()?, fields.flag()?);
    let deterministic = fields.flag()?;
    let blocks = (
        fields.number_optional()?,
        fields.number_optional()?,
        fields.number_optional()?,
    );
    let choice = match (deterministic, blocks) {
        (false, (Some(size), Some(count), Some(quarantine))) => PortChoice::Blocks(PortBlocks {
            size,
            count,
            quarantine,
        }),
        (true, (None, None, None)) => PortChoice::Deterministic,
        (false, (None, None, None)) => PortChoice::Free,
        _ => return Err(fields.damage()),
    };
    let sources = list(rows, table::MASQUERADE_SOURCE, key, Fields::parse)?;
    Ok(Masquerade {
        vpc,
        sources,
        pool: list(rows, table::MASQUERADE_POOL, key, Fields::parse)?,
        ports,
        mapping,
        filtering,
        pairing,
        parity,
        choice,
    })
}

fn limit(fields: &mut Fields<'_>) -> Result<NatLimit, Damage> {
    Ok(NatLimit {
        vpc: fields.id::<VpcId, u16>()?,
        sessions: fields.number_optional()?,
        new_sessions: fields.number_optional()?,
        subscriber_sessions: fields.number_optional()?,
        subscriber_new_sessions: fields.number_optional()?,
    })
}

fn static_nat(fields: &mut Fields<'_>) -> Result<StaticNat, Damage> {
    Ok(StaticNat {
        vpc: fields.id::<VpcId, u16>()?,
        peer: match fields.number::<u16>()? {
            0 => None,
            peer => Some(VpcId::new(peer).map_err(|_| fields.damage())?),
        },
        inside: fields.parse()?,
        outside: fields.parse()?,
    })
}

fn timers(fields: &mut Fields<'_>) -> Result<Timers, Damage> {
    Ok(Timers {
        tcp_established: fields.number()?,
        tcp_transitory: fields.number()?,
        udp: fields.number()?,
        icmp: fields.number()?,
        other: fields.number()?,
    })
}

fn port_forward(rows: &Rows, fields: &mut Fields<'_>) -> Result<PortForward, Damage> {
    let key = fields.key(3);
    let (address, protocol) = (fields.parse()?, fields.word()?);
    let ports = PortRange::new(fields.number()?, fields.number()?).ok_or_else(|| fields.damage())?;
    Ok(PortForward {
        vpc: fields.id::<VpcId, u16>()?,
        address,
        protocol,
        ports,
        affinity: fields.flag()?,
        targets: list(rows, table::PORT_FORWARD_TARGET, key, |fields| {
            fields.number::<i64>()?; // the position: rows come in its order
            Ok(ForwardTarget {
                address: fields.parse()?,
                port: fields.number()?,
                weight: fields.number()?,
            })
        })?,
    })
}
