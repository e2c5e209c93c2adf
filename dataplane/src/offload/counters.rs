//! What is counted and shown of offload.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::counters::Counter;

/// Why a connection stays in software.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NotOffloaded {
    /// Neither TCP nor UDP.
    Protocol,
    /// A direction has no next hop with a MAC address.
    NextHop,
    /// The network that a direction comes from has no interface that is up and that frames tell apart.
    Interface,
    /// A direction comes in or leaves by a port that takes no rules.
    Port,
    /// The way out takes less than its port does, which rules cannot match.
    Mtu,
    /// More requests than the offload thread keeps up with.
    QueueFull,
    /// The NIC holds as many rules as it can.
    NicFull,
    /// The NIC refused a rule.
    NicRefused,
    /// It is IPv6, or becomes it.
    Ipv6,
}

impl NotOffloaded {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Protocol,
        Self::NextHop,
        Self::Interface,
        Self::Port,
        Self::Mtu,
        Self::QueueFull,
        Self::NicFull,
        Self::NicRefused,
        Self::Ipv6,
    ];

    /// Its name in what is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::NextHop => "next-hop",
            Self::Interface => "interface",
            Self::Port => "port",
            Self::Mtu => "mtu",
            Self::QueueFull => "queue-full",
            Self::NicFull => "nic-full",
            Self::NicRefused => "nic-refused",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// How often one worker's connections stayed in software, by reason; that worker is the only writer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Reasons([Counter; NotOffloaded::ALL.len()]);

impl Reasons {
    pub(crate) fn count(&self, reason: NotOffloaded) {
        self.0[reason as usize].add(1);
    }
}

/// Counters of offload. The offload thread is the only writer of those that are public.
#[derive(Debug)]
pub struct OffloadCounters {
    /// Gauge: connections in the NIC.
    pub live: Counter,
    /// Connections installed since the start; one that is replaced counts again.
    pub installed: Counter,
    /// Connections whose rules were taken out.
    pub removed: Counter,
    /// Connections that the NIC refused.
    pub refused: Counter,
    /// How often the NIC did not remove rules that it was told to remove.
    pub removals_refused: Counter,
    /// Gauge: connections that are in the NIC still for that reason. Their NAT ports stay taken, and it is asked again.
    pub stuck: Counter,
    /// Packets that the NIC forwarded by our rules.
    pub packets: Counter,
    /// Bytes that the NIC forwarded by our rules.
    pub bytes: Counter,
    /// By worker.
    pub(crate) reasons: Box<[Reasons]>,
}

impl OffloadCounters {
    /// All zero.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            live: Counter::default(),
            installed: Counter::default(),
            removed: Counter::default(),
            refused: Counter::default(),
            removals_refused: Counter::default(),
            stuck: Counter::default(),
            packets: Counter::default(),
            bytes: Counter::default(),
            reasons: (0..workers).map(|_| Reasons::default()).collect(),
        }
    }

    /// How often a connection stayed in software for `reason`.
    pub fn not_offloaded(&self, reason: NotOffloaded) -> u64 {
        self.reasons
            .iter()
            .map(|reasons| reasons.0[reason as usize].get())
            .sum()
    }

    /// A copy to show.
    pub fn view(&self) -> OffloadCountersView {
        OffloadCountersView {
            live: self.live.get(),
            installed_total: self.installed.get(),
            destroyed_total: self.removed.get(),
            refused: self.refused.get(),
            destroy_refused_total: self.removals_refused.get(),
            stuck: self.stuck.get(),
            hits_packets: self.packets.get(),
            hits_bytes: self.bytes.get(),
            not_offloaded: NotOffloaded::ALL
                .into_iter()
                .map(|reason| (reason.name(), self.not_offloaded(reason)))
                .collect(),
        }
    }
}

/// Copy of the offload counters, as shown by `turnpike show offloads`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are those of `OffloadCounters`, documented there")]
pub struct OffloadCountersView {
    pub live: u64,
    pub installed_total: u64,
    pub destroyed_total: u64,
    pub refused: u64,
    pub destroy_refused_total: u64,
    pub stuck: u64,
    pub hits_packets: u64,
    pub hits_bytes: u64,
    /// By [`NotOffloaded::name`]; reasons that did not occur are there too.
    pub not_offloaded: BTreeMap<&'static str, u64>,
}

/// How a rule stands in the NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleState {
    /// It forwards.
    Live,
    /// The NIC was told to remove the rules of its connection, and did not remove all of them.
    Stuck,
}

/// One direction of a connection in the NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OffloadedRule {
    /// Worker that owns the connection.
    pub worker: u16,
    /// How it stands.
    pub state: RuleState,
    /// What the rule matches and what it makes of it.
    pub rule: String,
    /// Packets that it forwarded.
    pub packets: u64,
    /// Bytes that it forwarded.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_summed_over_workers_and_all_are_shown() {
        for (index, reason) in NotOffloaded::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
        let counters = OffloadCounters::new(2);
        counters.reasons[0].count(NotOffloaded::Mtu);
        counters.reasons[1].count(NotOffloaded::Mtu);
        counters.reasons[1].count(NotOffloaded::NicRefused);
        let shown = counters.view().not_offloaded;
        assert_eq!(shown.len(), NotOffloaded::ALL.len(), "no two reasons have one name");
        assert_eq!(
            shown.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
            [("mtu", 2), ("nic-refused", 1)]
        );
    }
}
