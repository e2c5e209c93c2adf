//! EVPN routes that a peer still has to be told: the newest of each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use crate::rib::Outgoing;
use crate::wire::{self, Attributes, Context, EvpnKey, EvpnRoute};

/// What a peer is told of a route; `None` withdraws it.
pub(crate) type Word = Option<(Arc<Attributes>, EvpnRoute)>;

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Pending(BTreeMap<EvpnKey, Word>);

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn put(&mut self, routes: impl Iterator<Item = (EvpnKey, Word)>) {
        self.0.extend(routes);
    }

    /// Takes up to `limit` routes: withdrawals, then announcements by attributes, in order of their first route.
    pub(crate) fn take(&mut self, limit: usize, outgoing: &mut Vec<Outgoing>) {
        let mut withdrawn = Vec::new();
        let mut announced: Vec<(Arc<Attributes>, Vec<EvpnRoute>)> = Vec::new();
        let mut places: HashMap<*const Attributes, usize> = HashMap::new();
        for _ in 0..limit {
            match self.0.pop_first() {
                None => break,
                Some((key, None)) => withdrawn.push(key),
                Some((_, Some((attributes, route)))) => {
                    // Attributes are interned: equal ones are at one address.
                    let place = *places.entry(Arc::as_ptr(&attributes)).or_insert_with(|| {
                        announced.push((attributes, Vec::new()));
                        announced.len() - 1
                    });
                    announced[place].1.push(route);
                }
            }
        }
        if !withdrawn.is_empty() {
            outgoing.push(Outgoing::WithdrawEvpn(withdrawn));
        }
        outgoing.extend(
            announced
                .into_iter()
                .map(|(attributes, routes)| Outgoing::AnnounceEvpn(attributes, routes)),
        );
    }
}

/// As UPDATE messages. What cannot be written is withdrawn, so that the peer does not keep what it had before.
pub(crate) fn announcement(attributes: &Attributes, routes: &[EvpnRoute], context: &Context) -> Vec<Bytes> {
    wire::encode_evpn_announcement(attributes, routes, context).unwrap_or_else(|error| {
        warn!(route = %routes[0].key, routes = routes.len(), %error, "EVPN routes cannot be announced");
        let keys: Vec<EvpnKey> = routes.iter().map(|route| route.key).collect();
        wire::encode_evpn_withdrawal(&keys, context)
    })
}
