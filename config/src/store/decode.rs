//! Rows become a configuration. What the rows cannot mean is damage, and is said as such.

use std::net::Ipv4Addr;
use std::str::FromStr;

use net::{Prefix, VlanId, Vni, VpcId, VrfId};

use super::encode::ONE;
use super::policy;
use super::rows::{Cell, Row, Rows, TABLES, table};
use crate::model::{
    Action, Api, BatchBounds, Bgp, Config, Dataplane, Distances, DynamicPeers, Family, Filter, Fpm, Gateway, Kernel,
    Masquerade, Nat, Peer, PeerPolicy, Port, PortForward, PortRange, PrefixFilter, PrefixRule, Rib, RouteTarget,
    Segment, StaticRoute, Timers, Via, Vpc, Vxlan,
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
    };
    let timers = Timers {
        tcp_established: fields.number()?,
        tcp_transitory: fields.number()?,
        udp: fields.number()?,
        icmp: fields.number()?,
    };
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
        nat: Nat {
            timers,
            masquerades: list(rows, table::MASQUERADE, &[], |fields| masquerade(rows, fields))?,
            port_forwards: list(rows, table::PORT_FORWARD, &[], port_forward)?,
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
    Ok(Vpc {
        id,
        name,
        segment,
        host_interface,
        mac,
        mtu,
        addresses,
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
    let (mut peers, mut dynamic) = (Vec::new(), Vec::new());
    for found in list(rows, table::BGP_PEER, &[ONE], |fields| peer(rows, fields))? {
        match found {
            Member::One(peer) => peers.push(*peer),
            Member::Range(range) => dynamic.push(*range),
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
        redistribute_connected: fields.parse_optional()?,
        redistribute_static: fields.parse_optional()?,
        redistribute_kernel: fields.parse_optional()?,
        policies: policy::policies(rows)?,
        peers,
        dynamic,
    })
}

/// What a row of peers is.
enum Member {
    One(Box<Peer>),
    Range(Box<DynamicPeers>),
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
        })
    };
    let address = fields.text()?;
    let mut peer = Peer {
        families: list(rows, table::BGP_PEER_FAMILY, &key, Fields::word)?,
        address: Ipv4Addr::UNSPECIFIED.into(),
        asn: fields.number()?,
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
    };
    let Some(limit) = fields.number_optional()? else {
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
    let sources = list(rows, table::MASQUERADE_SOURCE, key, Fields::parse)?;
    Ok(Masquerade {
        vpc,
        sources,
        pool: list(rows, table::MASQUERADE_POOL, key, Fields::parse)?,
        ports,
    })
}

fn port_forward(fields: &mut Fields<'_>) -> Result<PortForward, Damage> {
    let (address, protocol, port) = (fields.parse()?, fields.word()?, fields.number()?);
    let vpc = fields.id::<VpcId, u16>()?;
    Ok(PortForward {
        vpc,
        address,
        protocol,
        port,
        target: fields.parse()?,
        target_port: fields.number()?,
    })
}
