//! What a packet that no connection was found for is going to read, asked for ahead of it.

use net::VrfId;

use super::Engine;
use crate::key::FlowKey;

impl Engine {
    /// Asks for memory that [`Engine::miss`] will read for a packet with this key, as far as that follows from the packet, so
    /// that the cache misses of a burst overlap. Changes nothing, and need not be called.
    ///
    /// What finds the packet itself was read by [`Engine::lookup_burst`]; this is about what finds its replies behind a port
    /// forward. Those of a masquerade depend on a port that is not chosen yet.
    #[inline]
    pub fn expect(&self, key: &FlowKey) {
        if key.vrf() == VrfId::DEFAULT {
            let client = (key.source(), key.source_port());
            let public = (key.destination(), key.destination_port());
            let to = self
                .policy
                .forward(public.0.into(), key.protocol(), public.1, (client.0.into(), client.1));
            if let Some((to, address)) = to.and_then(|to| Some((to, to.address.to_v4()?))) {
                let reply = FlowKey::v4(to.vrf, key.protocol(), address, client.0, to.port, client.1);
                self.table.expect(&reply);
            }
        }
    }
}
