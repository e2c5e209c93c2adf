//! Which worker owns the connection of a packet: every worker knows, from the packet and the policy alone.

use net::{VrfId, protocol};

use super::Engine;
use super::addresses::is_by_address;
use crate::flow::Flow;

impl Engine {
    /// Owner of what comes from the fabric to a public end, if the policy tells it apart and there are others than us.
    pub(super) fn owner_outside(&self, flow: &Flow) -> Option<u16> {
        if self.slice.workers() == 1 {
            return None;
        }
        let (protocol, address, port) = (flow.protocol, flow.destination, flow.destination_port);
        let by_client = self.policy.is_forwarded(address, protocol, port)
            || self.policy.static_target(VrfId::DEFAULT, address).is_some()
            || (is_by_address(protocol) && self.policy.is_pool(address));
        if by_client {
            Some(self.slice.client_owner(flow.source, flow.source_port, protocol))
        } else {
            self.policy.is_pool(address).then(|| self.slice.owner(port))
        }
    }

    /// Owner of what comes from a VPC; `None` if it is the worker that the NIC gave the packet to, whichever that is.
    pub(super) fn owner_inside(&self, flow: &Flow) -> Option<u16> {
        if self.slice.workers() == 1 {
            return None;
        }
        let (vrf, protocol) = (flow.vrf, flow.protocol);
        if let Some((peer, _)) = self.policy.static_target(vrf, flow.destination) {
            let source = self.policy.static_source(vrf, peer, flow.source);
            let ends = [
                (source.unwrap_or(flow.source), flow.source_port),
                (flow.destination, flow.destination_port),
            ];
            return Some(self.slice.pair_owner(ends, protocol));
        }
        let by_client = self.policy.is_target(vrf, flow.source, protocol, flow.source_port)
            || self.policy.static_source(vrf, VrfId::DEFAULT, flow.source).is_some();
        let client_owner = || {
            let (client, port) = (flow.destination, flow.destination_port);
            self.slice.client_owner(client, port, protocol)
        };
        if by_client {
            return Some(client_owner());
        }
        if !is_by_address(protocol) && !self.policy.owns_subscribers() {
            return None;
        }
        let (_, rule) = self.policy.masquerade(vrf, flow.source)?;
        if is_by_address(protocol) {
            return Some(client_owner());
        }
        let parity = (rule.options.parity && protocol == protocol::UDP).then_some(flow.source_port);
        let limited = self
            .policy
            .limits(vrf)
            .is_some_and(|limits| !limits.subscriber.is_none());
        (rule.is_by_subscriber() || limited || parity.is_some())
            .then(|| self.slice.subscriber_owner(vrf, flow.source, parity))
    }
}
