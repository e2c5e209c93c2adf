//! Protocols without ports (GRE, ESP, SCTP and the rest): masqueraded by addresses alone.
//!
//! One host at a time can use one of them to one remote host from one pool address; a second host gets the pool's next
//! address, or none. Nothing of them is rewritten but the IP header. The worker that owns such a connection follows from
//! the remote host, which both directions name.

use net::{Drop, VrfId, protocol};

use super::Engine;
use crate::key::FlowKey;
use crate::ports::Lease;
use crate::resolve::{Resolution, Resolver};
use crate::verdict::{NewPacket, Verdict};

/// DCCP (RFC 4340) and UDP-Lite (RFC 3828): their checksums cover the addresses.
const DCCP: u8 = 33;
const UDP_LITE: u8 = 136;

/// True if a protocol is told by addresses alone.
pub(super) const fn is_by_address(protocol: u8) -> bool {
    !matches!(
        protocol,
        protocol::TCP | protocol::UDP | protocol::ICMP | protocol::ICMPV6 | DCCP | UDP_LITE
    )
}

impl Engine {
    /// A packet of a VPC, which rule number `rule` masquerades, and that no connection was found for.
    pub(super) fn miss_by_address(
        &mut self,
        packet: &NewPacket,
        rule: usize,
        resolution: Resolution,
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        if !is_by_address(packet.protocol) {
            return Err(Drop::NatUnsupported);
        }
        let owner = self.slice.client_owner(packet.destination, 0, packet.protocol);
        if owner != self.slice.worker() {
            return Ok(Verdict::HandOver(owner));
        }
        let inward = self.inward(resolver, packet.vrf, packet.source, packet.flow_hash)?;
        self.make_room()?;
        let reply = |address| FlowKey::v4(VrfId::DEFAULT, packet.protocol, packet.destination, address, 0, 0);
        let free = self
            .ports
            .addresses(rule, packet.source)
            .find(|(_, address)| self.lookup(&reply(*address)).is_none());
        let (pool, address) = free.ok_or(Drop::NatPortsExhausted)?;
        let lease = Lease { pool, address, port: 0 };
        let at = self.create(packet, reply(address), [resolution, inward], Some(lease), resolver);
        Ok(Verdict::Connection(at))
    }

    /// A packet from the fabric to a pool address, that no connection was found for.
    pub(super) fn miss_outside_by_address(&self, packet: &NewPacket) -> Result<Verdict, Drop> {
        if !is_by_address(packet.protocol) {
            return Err(Drop::NatUnsupported);
        }
        match self.slice.client_owner(packet.source, 0, packet.protocol) {
            owner if owner != self.slice.worker() => Ok(Verdict::HandOver(owner)),
            _ => Err(Drop::NatNoMapping),
        }
    }
}
