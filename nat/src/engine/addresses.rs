//! Protocols without ports (GRE, ESP, SCTP and the rest): translated by addresses alone.
//!
//! Static NAT does that as it is. Behind a masquerade, one host at a time can use one of them to one remote host from one pool address; a second host gets the pool's next
//! address, or none. Nothing of them is rewritten but the IP header. The worker that owns such a connection follows from
//! the remote host, which both directions name.

use net::{Drop, VrfId, protocol};

use super::Engine;
use crate::flow::Flow;
use crate::ports::{Lease, Subscriber};
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
        outward: Resolution,
        resolver: &impl Resolver,
    ) -> Result<Verdict, Drop> {
        let inward = self.inward(resolver, packet.vrf, packet.source, packet.flow_hash)?;
        self.make_room(packet.vrf, packet.source)?;
        let reply = |address| Flow {
            vrf: VrfId::DEFAULT,
            protocol: packet.protocol,
            source: packet.destination,
            destination: address,
            ..Flow::default()
        };
        let subscriber = Subscriber {
            vrf: packet.vrf,
            address: packet.source,
        };
        let free = self
            .ports
            .addresses(&self.policy.rules()[rule], rule, subscriber)
            .find(|(_, address)| self.find(&reply(*address)).is_none());
        let (pool, address) = free.ok_or(Drop::NatPortsExhausted)?;
        let lease = Lease {
            pool,
            address,
            port: 0,
            shared: false,
        };
        let at = self.create(packet, reply(address), [outward, inward], Some(lease), resolver);
        Ok(Verdict::Connection(at))
    }
}
