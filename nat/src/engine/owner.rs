//! Which worker owns the connection of a packet: every worker knows, from the packet and the policy alone.

use net::{VrfId, protocol};

use super::Engine;
use crate::key::FlowKey;

impl Engine {
    /// Owner of what comes from the fabric to a public end, if the policy tells it apart.
    pub(super) fn owner_outside(&self, key: &FlowKey) -> Option<u16> {
        let (protocol, address, port) = (key.protocol(), key.destination(), key.destination_port());
        let by_client = self.policy.is_forwarded(address, protocol, port)
            || self.policy.static_target(VrfId::DEFAULT, address).is_some();
        if by_client {
            Some(self.slice.client_owner(key.source(), key.source_port(), protocol))
        } else {
            self.policy.is_pool(address).then(|| self.slice.owner(port))
        }
    }

    /// Owner of what comes from a VPC; `None` if it is the worker that the NIC gave the packet to, whichever that is.
    pub(super) fn owner_inside(&self, key: &FlowKey) -> Option<u16> {
        let (vrf, protocol) = (key.vrf(), key.protocol());
        if let Some((peer, _)) = self.policy.static_target(vrf, key.destination()) {
            let source = self.policy.static_source(vrf, peer, key.source());
            let ends = [
                (source.unwrap_or(key.source()), key.source_port()),
                (key.destination(), key.destination_port()),
            ];
            return Some(self.slice.pair_owner(ends, protocol));
        }
        let by_client = self.policy.is_target(vrf, key.source(), protocol, key.source_port())
            || self.policy.static_source(vrf, VrfId::DEFAULT, key.source()).is_some();
        if by_client {
            let (client, port) = (key.destination(), key.destination_port());
            return Some(self.slice.client_owner(client, port, protocol));
        }
        let (_, rule) = self.policy.masquerade(vrf, key.source())?;
        let parity = (rule.options.parity && protocol == protocol::UDP).then(|| key.source_port());
        (rule.is_by_subscriber() || parity.is_some()).then(|| self.slice.subscriber_owner(vrf, key.source(), parity))
    }
}
