//! What the engine asks of the route tables: where a destination resolves to in the current generation.

use net::{Drop, Generation, NextHopId, RouteKind, VrfId};

use crate::address::Address;

/// What a destination resolves to in the current generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Entry of the next-hop table.
    pub next_hop: NextHopId,
    /// VRF in which the lookup ended (a leaked route ends in another one than it began in).
    pub vrf: VrfId,
    /// What the route says to do.
    pub kind: RouteKind,
}

/// One generation's route tables, as far as connections need them.
pub trait Resolver {
    /// The generation that answers.
    fn generation(&self) -> Generation;

    /// Where a packet in `vrf` to `destination` (host order) goes; `flow_hash` decides between equal next hops.
    ///
    /// # Errors
    /// The reason to drop the packet when nothing forwards it.
    fn resolve(&self, vrf: VrfId, destination: u32, flow_hash: u32) -> Result<Resolution, Drop>;

    /// The same for IPv6.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    fn resolve_v6(&self, vrf: VrfId, destination: u128, flow_hash: u32) -> Result<Resolution, Drop>;
}

/// The way to an address of either family.
#[inline]
pub(crate) fn resolve(
    resolver: &impl Resolver,
    vrf: VrfId,
    destination: Address,
    flow_hash: u32,
) -> Result<Resolution, Drop> {
    match destination.to_v4() {
        Some(destination) => resolver.resolve(vrf, destination, flow_hash),
        None => resolver.resolve_v6(vrf, destination.to_bits(), flow_hash),
    }
}

/// A resolution that a packet can be sent by, or why it cannot.
pub(crate) fn forwarding(resolution: Resolution) -> Result<Resolution, Drop> {
    match resolution.kind {
        RouteKind::Unicast => Ok(resolution),
        RouteKind::Local | RouteKind::Nat => Err(Drop::NoRoute),
        RouteKind::Blackhole => Err(Drop::Blackhole),
        RouteKind::Unreachable => Err(Drop::Unreachable),
        RouteKind::Prohibit => Err(Drop::Prohibited),
    }
}
