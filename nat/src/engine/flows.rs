//! Flows of either family: from whole addresses to what the table finds, and back.

use net::VrfId;
use net::checksum::Delta;

use super::Engine;
use crate::address::Address;
use crate::entry::{Entry, EntryRef};
use crate::flow::Flow;
use crate::key::FlowKey;
use crate::ports::Subscriber;
use crate::rewrite::Rewrite;
use crate::rewrite_v6::RewriteV6;

impl Engine {
    /// Finds the connection of a flow of either family.
    pub fn find(&self, flow: &Flow) -> Option<EntryRef> {
        self.lookup(&self.key_of(flow)?)
    }

    /// What packets of a direction are found by, with whole addresses.
    ///
    /// # Panics
    /// If `at` is of another engine.
    pub fn flow(&self, at: EntryRef) -> Flow {
        self.flow_of(&self.entry(at).key)
    }

    /// What packets of a direction leave as, in the VRF in which they are found again: the opposite of what the other
    /// direction is found by.
    ///
    /// # Panics
    /// If `at` is of another engine.
    pub fn translated(&self, at: EntryRef) -> Flow {
        self.flow(at.opposite()).reversed()
    }

    /// What is done to the packets of a direction whose packets leave as IPv6.
    ///
    /// # Panics
    /// If `at` is of another engine.
    pub fn rewrite_v6(&self, at: EntryRef) -> RewriteV6 {
        let rewrite = self.entry(at).rewrite;
        RewriteV6::of(&rewrite, self.translated(at))
    }

    /// The key of a flow; `None` if it is IPv6 and no connection has one of its addresses.
    #[inline]
    pub(super) fn key_of(&self, flow: &Flow) -> Option<FlowKey> {
        match flow.key_v4() {
            Some(key) => Some(key),
            None => self.key_v6(flow),
        }
    }

    fn key_v6(&self, flow: &Flow) -> Option<FlowKey> {
        let [source, destination] = [flow.source, flow.destination].map(|end| self.book.number(end.to_bits()));
        let ports = (flow.source_port, flow.destination_port);
        Some(FlowKey::v6(flow.vrf, flow.protocol, source?, destination?, ports))
    }

    /// The key of a flow that becomes a direction of a connection; its addresses are in the book from here on.
    #[inline]
    pub(super) fn enter_book(&mut self, flow: &Flow) -> FlowKey {
        match flow.key_v4() {
            Some(key) => key,
            None => {
                let [source, destination] = [flow.source, flow.destination].map(|end| self.book.enter(end.to_bits()));
                let ports = (flow.source_port, flow.destination_port);
                FlowKey::v6(flow.vrf, flow.protocol, source, destination, ports)
            }
        }
    }

    /// Takes the addresses of a connection out of the book.
    #[inline]
    pub(super) fn leave_book(&mut self, connection: u32) {
        for Entry { key, .. } in self.connections.pair(connection) {
            if key.is_v6() {
                self.book.leave(key.source());
                self.book.leave(key.destination());
            }
        }
    }

    /// Whole addresses instead of numbers.
    pub(super) fn flow_of(&self, key: &FlowKey) -> Flow {
        let end = |address| match key.is_v6() {
            false => Address::v4(address),
            true => Address::v6(self.book.address(address)),
        };
        Flow {
            vrf: key.vrf(),
            protocol: key.protocol(),
            source: end(key.source()),
            destination: end(key.destination()),
            source_port: key.source_port(),
            destination_port: key.destination_port(),
        }
    }

    /// The rewrites of both directions of a connection with these keys.
    #[inline]
    pub(super) fn rewrites(&self, original: &FlowKey, reply: &FlowKey) -> [Rewrite; 2] {
        if original.is_v6() || reply.is_v6() {
            let [there, back] = [self.flow_of(original), self.flow_of(reply).reversed()];
            let layer4 = RewriteV6::layer4(&there, &back);
            let undo: Delta = layer4.reversed();
            return [
                Rewrite::short(&reply.reversed(), layer4),
                Rewrite::short(&original.reversed(), undo),
            ];
        }
        Rewrite::both(original, reply)
    }

    /// The host of a VPC that a connection counts for: the one that opened it, or that somebody from outside opened it to.
    pub(super) fn subscriber(&self, connection: u32) -> Subscriber {
        let [original, reply] = self.connections.pair(connection);
        let inner = match original.key.vrf() {
            VrfId::DEFAULT => reply,
            _ => original,
        };
        let flow = self.flow_of(&inner.key);
        Subscriber {
            vrf: flow.vrf,
            address: flow.source,
        }
    }

    /// Makes room for IPv6 addresses when the policy has to do with them.
    pub(super) fn follow_families(&mut self) {
        if !self.policy.is_empty_v6() {
            // A connection has two ends, and most of them share one of these with another connection.
            self.book.reserve(self.capacity as usize * 2);
        }
    }
}
