//! What rules may say: items and actions, checked and compiled.
//!
//! Group 0: `ETH any -> JUMP 1`, without which nothing in group 1 matches. Group 1, where `FLOW` stands for
//! `IPV4 {version_ihl, fragment 0xbfff, protocol, src, dst} / TCP {src, dst, flags SYN|FIN|RST} or UDP {src, dst}`:
//!
//! - `[REPRESENTED_PORT] / ETH / FLOW`
//! - `[REPRESENTED_PORT] / ETH {dst} / VLAN {vid} / FLOW`
//! - `[REPRESENTED_PORT] / ETH / IPV4 {dst} / UDP {dst} / VXLAN {vni} / ETH {dst} / FLOW`
//!
//! `ETH` without fields matches frames to the port's own address, `ETH {dst}` those to `dst`,
//!
//! and the actions, in this order, `OF_POP_VLAN` behind a VLAN pattern, `VXLAN_DECAP` behind a VXLAN pattern,
//! `SET_IPV4_SRC, SET_IPV4_DST, SET_TP_SRC, SET_TP_DST, DEC_TTL, SET_MAC_DST, SET_MAC_SRC`, then nothing, or
//! `OF_PUSH_VLAN, OF_SET_VLAN_VID`, or `VXLAN_ENCAP`; `COUNT` and `AGE` if wanted; and `REPRESENTED_PORT` or
//! `PORT_ID`. Or `COUNT` and `AGE` if wanted, and `DROP`.

use std::net::{IpAddr, Ipv4Addr};

use dpdk_sys::PortId;
use dpdk_sys::flow::{
    Action, Eth, FlowError, FlowErrorKind, Ipv4, Item, Match, Tcp, TemplateAction, Udp, Vlan, Vxlan, VxlanTunnel,
};
use net::checksum::Delta;
use net::eth::ether_type;
use net::parse::{protocol, tcp_flag};
use net::vxlan::{OUTER_V4, OuterV4, write_outer_v4};
use net::{Mac, Vni, eth, ipv4};

use super::RULES;
use crate::rule::{Age, Fate, FiveTuple, Framing, Key, MAX_HEADER, Rewrite, Rule, Tunnel};

/// The rule of items and actions; `known` says which ports the e-switch has.
pub(super) fn rule(
    items: &[Item],
    actions: &[Action],
    owner: u16,
    now: impl FnOnce() -> u32,
    known: impl Fn(u16) -> bool,
) -> Result<Rule, FlowError> {
    let pattern = pattern(items, true)?;
    let steps = steps(actions)?;
    let mut key = Key::new(pattern.framing, pattern.flow);
    if let Some(PortId(port)) = pattern.ingress {
        if !known(port) {
            return Err(bad_item(format!("REPRESENTED_PORT {port} is no port of this e-switch")));
        }
        key = key.on_port(port);
    }
    let fate = match steps.path {
        None => Fate::Drop,
        Some(path) => {
            if !known(path.egress.0) {
                return Err(bad_action(format!("port {} is no port of this e-switch", path.egress)));
            }
            Fate::Forward(compile(&pattern, &path, key.hash_value())?)
        }
    };
    let age = steps.age.map(|(seconds, context)| Age::new(seconds, context, now()));
    Ok(Rule::new(key, fate, owner, steps.count, age))
}

/// The one rule that group 0 takes.
pub(super) fn check_entrance(items: &[Item], actions: &[Action]) -> Result<(), FlowError> {
    match items {
        [Item::Eth(eth)] if eth.mask == Eth::default() => {}
        _ => return Err(bad_item("group 0 takes one pattern: ETH any".to_owned())),
    }
    match actions {
        [Action::Jump(RULES)] => Ok(()),
        _ => Err(bad_action("group 0 takes one action: JUMP to group 1".to_owned())),
    }
}

/// Is this the shape of a pattern that rules can have?
pub(super) fn check_pattern_template(items: &[Item]) -> Result<(), FlowError> {
    pattern(items, false).map(|_| ())
}

/// Is this the shape of actions that rules can have?
pub(super) fn check_actions_template(actions: &[TemplateAction]) -> Result<(), FlowError> {
    let actions: Vec<Action> = actions.iter().map(|template| template.action).collect();
    steps(&actions).map(|_| ())
}

struct Pattern {
    ingress: Option<PortId>,
    framing: Framing,
    flow: FiveTuple,
}

/// Items as one of the three patterns. A template has no values yet, so `values` says whether to look at them.
fn pattern(items: &[Item], values: bool) -> Result<Pattern, FlowError> {
    let (ingress, items) = match items {
        [Item::RepresentedPort(port), rest @ ..] => (Some(*port), rest),
        _ => (None, items),
    };
    let (framing, flow) = match items {
        [Item::Eth(eth), flow @ ..] if flow.len() == 2 => {
            check_any_eth(eth)?;
            (Framing::Untagged, flow)
        }
        [Item::Eth(eth), Item::Vlan(vlan), flow @ ..] if flow.len() == 2 => {
            (vlan_framing(tenant_mac(eth, values)?, vlan, values)?, flow)
        }
        [
            Item::Eth(eth),
            Item::Ipv4(ip),
            Item::Udp(udp),
            Item::Vxlan(vxlan),
            Item::Eth(inner),
            flow @ ..,
        ] if flow.len() == 2 => {
            check_any_eth(eth)?;
            (vxlan_framing(ip, udp, vxlan, tenant_mac(inner, values)?)?, flow)
        }
        _ => {
            let names: Vec<&str> = items.iter().map(Item::name).collect();
            return Err(FlowError::unsupported(format!(
                "pattern {}: give ETH / IPV4 / TCP or UDP, the same behind VLAN, or behind ETH / IPV4 / UDP / VXLAN",
                names.join(" / ")
            )));
        }
    };
    let flow = five_tuple(flow, values)?;
    Ok(Pattern { ingress, framing, flow })
}

fn check_any_eth(eth: &Match<Eth>) -> Result<(), FlowError> {
    mask_is("ETH", "nothing", eth.mask == Eth::default())
}

/// The address of the network behind a tag or a tunnel.
fn tenant_mac(eth: &Match<Eth>, values: bool) -> Result<[u8; 6], FlowError> {
    let exact = Eth {
        dst: [0xff; 6],
        ..Eth::default()
    };
    mask_is("ETH with VLAN or in VXLAN", "the destination", eth.mask == exact)?;
    if values && Mac(eth.spec.dst).is_multicast() {
        return Err(FlowError::unsupported("ETH: group addresses always go to software"));
    }
    Ok(eth.spec.dst)
}

fn vlan_framing(mac: [u8; 6], vlan: &Match<Vlan>, values: bool) -> Result<Framing, FlowError> {
    let exact = Vlan {
        tci: 0x0fff,
        inner_type: 0,
    };
    mask_is("VLAN", "the VLAN ID", vlan.mask == exact)?;
    let id = vlan.spec.tci & 0x0fff;
    if values && !(1..0x0fff).contains(&id) {
        return Err(bad_item(format!("VLAN {id}: IDs are 1 to 4094")));
    }
    Ok(Framing::Vlan { id, mac })
}

fn vxlan_framing(ip: &Match<Ipv4>, udp: &Match<Udp>, vxlan: &Match<Vxlan>, mac: [u8; 6]) -> Result<Framing, FlowError> {
    let exact = Ipv4 {
        dst: Ipv4Addr::BROADCAST,
        ..Ipv4::default()
    };
    mask_is("outer IPV4", "the destination", ip.mask == exact)?;
    let exact = Udp { src: 0, dst: u16::MAX };
    mask_is("outer UDP", "the destination port", udp.mask == exact)?;
    mask_is("VXLAN", "the VNI", vxlan.mask.vni == 0x00ff_ffff)?;
    Ok(Framing::Vxlan {
        destination: u32::from(ip.spec.dst),
        port: udp.spec.dst,
        vni: vxlan.spec.vni & 0x00ff_ffff,
        mac,
    })
}

fn five_tuple(items: &[Item], values: bool) -> Result<FiveTuple, FlowError> {
    let [Item::Ipv4(ip), layer4] = items else {
        let names: Vec<&str> = items.iter().map(Item::name).collect();
        let message = format!("{} where IPV4 / TCP or UDP is wanted", names.join(" / "));
        return Err(FlowError::unsupported(message));
    };
    let exact = Ipv4 {
        version_ihl: 0xff,
        tos: 0,
        fragment: 0xbfff,
        ttl: 0,
        protocol: 0xff,
        src: Ipv4Addr::BROADCAST,
        dst: Ipv4Addr::BROADCAST,
    };
    let fields = "version_ihl, the fragment field without DF, protocol, source and destination";
    mask_is("IPV4", fields, ip.mask == exact)?;
    let (number, source_port, destination_port) = match layer4 {
        Item::Tcp(tcp) => {
            let flags = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;
            let (src, dst) = (u16::MAX, u16::MAX);
            mask_is(
                "TCP",
                "both ports and the flags SYN, FIN, RST",
                tcp.mask == Tcp { src, dst, flags },
            )?;
            if values && tcp.spec.flags & flags != 0 {
                return Err(FlowError::unsupported("TCP: SYN, FIN and RST always go to software"));
            }
            (protocol::TCP, tcp.spec.src, tcp.spec.dst)
        }
        Item::Udp(udp) => {
            let (src, dst) = (u16::MAX, u16::MAX);
            mask_is("UDP", "both ports", udp.mask == Udp { src, dst })?;
            (protocol::UDP, udp.spec.src, udp.spec.dst)
        }
        other => {
            let message = format!("{} where TCP or UDP is wanted", other.name());
            return Err(FlowError::unsupported(message));
        }
    };
    if values && (ip.spec.version_ihl != 0x45 || ip.spec.fragment & 0xbfff != 0) {
        let message = "IPV4: only version_ihl 0x45 and no fragments, the rest always goes to software";
        return Err(FlowError::unsupported(message));
    }
    if values && ip.spec.protocol != number {
        return Err(bad_item(format!(
            "IPV4 of protocol {} before {}",
            ip.spec.protocol,
            layer4.name()
        )));
    }
    Ok(FiveTuple {
        source: u32::from(ip.spec.src),
        destination: u32::from(ip.spec.dst),
        protocol: number,
        source_port,
        destination_port,
    })
}

fn mask_is(item: &str, fields: &str, exact: bool) -> Result<(), FlowError> {
    if exact {
        Ok(())
    } else {
        Err(FlowError::unsupported(format!(
            "mask of {item}: it must cover {fields}, whole and alone"
        )))
    }
}

struct Steps {
    /// None drops.
    path: Option<Path>,
    count: bool,
    age: Option<(u32, u64)>,
}

struct Path {
    strip: Strip,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    source_port: u16,
    destination_port: u16,
    destination_mac: [u8; 6],
    source_mac: [u8; 6],
    push: Push,
    egress: PortId,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strip {
    Nothing,
    Vlan,
    Vxlan,
}

enum Push {
    Nothing,
    Vlan { tpid: u16, id: u16 },
    Vxlan(VxlanTunnel),
}

/// Actions in their one order.
fn steps(actions: &[Action]) -> Result<Steps, FlowError> {
    let mut rest = actions;
    let (count, age) = tail(&mut rest);
    if let [Action::Drop] = rest {
        return Ok(Steps { path: None, count, age });
    }
    if count || age.is_some() {
        return Err(bad_action("COUNT and AGE come last, before the port".to_owned()));
    }
    let strip = match rest {
        [Action::OfPopVlan, after @ ..] => {
            rest = after;
            Strip::Vlan
        }
        [Action::VxlanDecap, after @ ..] => {
            rest = after;
            Strip::Vxlan
        }
        _ => Strip::Nothing,
    };
    let [
        Action::SetIpv4Src(source),
        Action::SetIpv4Dst(destination),
        Action::SetTpSrc(source_port),
        Action::SetTpDst(destination_port),
        Action::DecTtl,
        Action::SetMacDst(destination_mac),
        Action::SetMacSrc(source_mac),
        after @ ..,
    ] = rest
    else {
        return Err(bad_action(
            "SET_IPV4_SRC, SET_IPV4_DST, SET_TP_SRC, SET_TP_DST, DEC_TTL, SET_MAC_DST and SET_MAC_SRC are wanted, \
             all of them, in this order"
                .to_owned(),
        ));
    };
    let (push, mut rest) = match after {
        [Action::OfPushVlan(tpid), Action::OfSetVlanVid(id), after @ ..] => {
            (Push::Vlan { tpid: *tpid, id: *id }, after)
        }
        [Action::VxlanEncap(tunnel), after @ ..] => (Push::Vxlan(*tunnel), after),
        _ => (Push::Nothing, after),
    };
    let (count, age) = tail(&mut rest);
    let [Action::RepresentedPort(egress) | Action::PortId(egress)] = rest else {
        return Err(bad_action(
            "one REPRESENTED_PORT or PORT_ID ends the actions".to_owned(),
        ));
    };
    let path = Path {
        strip,
        source: *source,
        destination: *destination,
        source_port: *source_port,
        destination_port: *destination_port,
        destination_mac: *destination_mac,
        source_mac: *source_mac,
        push,
        egress: *egress,
    };
    Ok(Steps {
        path: Some(path),
        count,
        age,
    })
}

/// Takes COUNT and AGE off the front.
fn tail(rest: &mut &[Action]) -> (bool, Option<(u32, u64)>) {
    let (mut count, mut age) = (false, None);
    if let [Action::Count, after @ ..] = rest {
        count = true;
        *rest = after;
    }
    if let [Action::Age { seconds, context }, after @ ..] = rest {
        age = Some((*seconds, *context));
        *rest = after;
    }
    (count, age)
}

/// What the actions make of packets that match the pattern.
fn compile(pattern: &Pattern, path: &Path, hash: u64) -> Result<Rewrite, FlowError> {
    let wanted = match pattern.framing {
        Framing::Untagged => Strip::Nothing,
        Framing::Vlan { .. } => Strip::Vlan,
        Framing::Vxlan { .. } => Strip::Vxlan,
    };
    if path.strip != wanted {
        let message = match wanted {
            Strip::Nothing => "OF_POP_VLAN or VXLAN_DECAP, but the pattern has neither VLAN nor VXLAN",
            Strip::Vlan => "a VLAN pattern wants OF_POP_VLAN",
            Strip::Vxlan => "a VXLAN pattern wants VXLAN_DECAP",
        };
        return Err(bad_action(message.to_owned()));
    }
    let flow = &pattern.flow;
    let (source, destination) = (u32::from(path.source), u32::from(path.destination));
    let addresses = Delta::NONE
        .word32(flow.source, source)
        .word32(flow.destination, destination);
    let ports = Delta::NONE
        .word(flow.source_port, path.source_port)
        .word(flow.destination_port, path.destination_port);
    let ttl_down = Delta::NONE.word(0x0100, 0);
    let mut header = [0; MAX_HEADER];
    let (header_length, tunnel) = write_header(path, hash, &mut header)?;
    Ok(Rewrite {
        source,
        destination,
        source_port: path.source_port,
        destination_port: path.destination_port,
        header_delta: addresses.and(ttl_down),
        layer4_delta: addresses.and(ports),
        header,
        header_length,
        tunnel,
        egress: path.egress.0,
    })
}

/// Writes what goes in front of the IPv4 header, and returns its length.
fn write_header(path: &Path, hash: u64, out: &mut [u8; MAX_HEADER]) -> Result<(u8, Option<Tunnel>), FlowError> {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    let mut tunnel = None;
    let tag = |id: u16| match id {
        1..0x0fff => {
            let [[a, b], [c, d]] = [ether_type::VLAN.to_be_bytes(), id.to_be_bytes()];
            Ok([a, b, c, d])
        }
        _ => Err(bad_action(format!("VLAN {id}: IDs are 1 to 4094"))),
    };
    if let Push::Vxlan(wanted) = &path.push {
        let outer = outer_headers(wanted)?;
        put(&outer[..12]);
        if let Some(id) = wanted.vlan {
            put(&tag(id)?);
        }
        put(&outer[12..]);
        let udp_source = match wanted.udp_src {
            0 => net::vxlan::entropy_port(hash as u32),
            port => port,
        };
        tunnel = Some(Tunnel { udp_source });
    }
    put(&path.destination_mac);
    put(&path.source_mac);
    if let Push::Vlan { tpid, id } = path.push {
        if tpid != ether_type::VLAN {
            return Err(FlowError::unsupported(format!(
                "OF_PUSH_VLAN of {tpid:#06x}: only 0x8100"
            )));
        }
        put(&tag(id)?);
    }
    put(&ether_type::IPV4.to_be_bytes());
    Ok((at as u8, tunnel))
}

fn outer_headers(tunnel: &VxlanTunnel) -> Result<[u8; OUTER_V4], FlowError> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (tunnel.src, tunnel.dst) else {
        return Err(FlowError::unsupported("VXLAN_ENCAP over IPv6"));
    };
    let vni = Vni::new(tunnel.vni).map_err(|error| bad_action(format!("VXLAN_ENCAP: {error}")))?;
    let mut outer = [0; OUTER_V4];
    write_outer_v4(
        &mut outer,
        &OuterV4 {
            destination_mac: Mac(tunnel.dst_mac),
            source_mac: Mac(tunnel.src_mac),
            source: u32::from(source),
            destination: u32::from(destination),
            vni,
            ttl: tunnel.ttl,
            tos: tunnel.tos,
        },
    );
    let port_at = eth::LENGTH + ipv4::LENGTH + 2;
    outer[port_at..port_at + 2].copy_from_slice(&tunnel.udp_dst.to_be_bytes());
    Ok(outer)
}

fn bad_item(message: String) -> FlowError {
    FlowError::new(FlowErrorKind::Item, libc::EINVAL, message)
}

fn bad_action(message: String) -> FlowError {
    FlowError::new(FlowErrorKind::Action, libc::EINVAL, message)
}

#[cfg(test)]
mod tests;
