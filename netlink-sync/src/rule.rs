//! Policy rules: which of the kernel's tables it looks up for which packets. Mirrored in to be shown; the gateway's own
//! lookups do not go by them.

use net::Prefix;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use serde::Serialize;

/// One rule of the kernel. In order of precedence: family, then priority.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct KernelRule {
    /// `ipv4` or `ipv6`.
    pub family: RuleFamily,
    /// The lowest is asked first.
    pub priority: u32,
    /// What it does with a packet that matches.
    pub action: RuleTarget,
    /// Source of the packet; `None` for any.
    pub from: Option<Prefix>,
    /// Destination of the packet; `None` for any.
    pub to: Option<Prefix>,
    /// Interface that it came in on.
    pub in_interface: Option<String>,
    /// Interface that its socket is bound to.
    pub out_interface: Option<String>,
    /// Its mark, and the bits of it that count.
    pub mark: Option<(u32, u32)>,
    /// The table is the one of the VRF device that the packet belongs to.
    pub vrf_device: bool,
    /// Matches what does not match the rest.
    pub inverted: bool,
    /// There are conditions besides these (ports, users, TOS, a tunnel).
    pub more: bool,
    /// `rtm_protocol` of who made it.
    pub protocol: u8,
}

/// Family of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleTarget {
    /// Looks up this table.
    Lookup(u32),
    /// Goes on with the rule of this priority.
    Goto(u32),
    /// Nothing.
    Nop,
    /// Drops silently.
    Blackhole,
    /// Drops with an ICMP error.
    Unreachable,
    /// Drops with an ICMP error.
    Prohibit,
    /// Something that this program does not know.
    Other,
}

/// The rule of a message; `None` for other families than IPv4 and IPv6.
pub(crate) fn observe_rule(message: &RuleMessage) -> Option<KernelRule> {
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => RuleFamily::Ipv4,
        AddressFamily::Inet6 => RuleFamily::Ipv6,
        _ => return None,
    };
    let mut rule = KernelRule {
        family,
        priority: 0,
        action: RuleTarget::Other,
        from: None,
        to: None,
        in_interface: None,
        out_interface: None,
        mark: None,
        vrf_device: false,
        inverted: header.flags.contains(RuleFlags::Invert),
        more: header.tos != 0,
        protocol: 0,
    };
    let (mut table, mut goto) = (u32::from(header.table), 0);
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Destination(address) => rule.to = Prefix::containing(*address, header.dst_len).ok(),
            RuleAttribute::Source(address) => rule.from = Prefix::containing(*address, header.src_len).ok(),
            RuleAttribute::Iifname(name) => rule.in_interface = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.out_interface = Some(name.clone()),
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Goto(priority) => goto = *priority,
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::L3MDev(yes) => rule.vrf_device = *yes,
            RuleAttribute::Protocol(protocol) => rule.protocol = (*protocol).into(),
            RuleAttribute::UidRange(_)
            | RuleAttribute::TunId(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_) => rule.more = true,
            _ => {} // what a lookup that was chosen then does
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    rule.action = match header.action {
        RuleAction::ToTable => RuleTarget::Lookup(table),
        RuleAction::Goto => RuleTarget::Goto(goto),
        RuleAction::Nop => RuleTarget::Nop,
        RuleAction::Blackhole => RuleTarget::Blackhole,
        RuleAction::Unreachable => RuleTarget::Unreachable,
        RuleAction::Prohibit => RuleTarget::Prohibit,
        _ => RuleTarget::Other,
    };
    Some(rule)
}
