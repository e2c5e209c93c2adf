//! BGP's next hops, followed through the generations: the speaker asks which of them are reachable and how far, and is told
//! again whenever that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp::NextHopAnswers;
use net::{Prefix, VrfId};
use rib::Rib;

/// The next hops that the speaker asked for.
#[derive(Debug, Default)]
pub(crate) struct NextHops {
    /// What was said last; nothing yet for `None`.
    said: BTreeMap<IpAddr, Option<Option<u32>>>,
    /// Those that may have changed, or were never answered.
    open: BTreeSet<IpAddr>,
}

impl NextHops {
    /// The speaker wants to know of exactly these.
    pub(crate) fn wanted(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.said.retain(|address, _| addresses.contains(address));
        self.open.retain(|address| addresses.contains(address));
        for address in addresses {
            if !self.said.contains_key(address) {
                self.said.insert(*address, None);
                self.open.insert(*address);
            }
        }
    }

    /// The way to a prefix has changed.
    pub(crate) fn changed(&mut self, vrf: VrfId, prefix: &Prefix) {
        if vrf == VrfId::DEFAULT {
            let net = prefix.net();
            let within = self.said.range(net.network()..=net.broadcast());
            self.open.extend(within.map(|(address, _)| *address));
        }
    }

    /// What is different from what was said. To be called when everything that the RIB was told is decided.
    pub(crate) fn news(&mut self, rib: &Rib) -> NextHopAnswers {
        let mut news = NextHopAnswers::new();
        for address in std::mem::take(&mut self.open) {
            let metric = rib.metric_to(VrfId::DEFAULT, address);
            let Some(said) = self.said.get_mut(&address) else {
                continue;
            };
            if *said != Some(metric) {
                *said = Some(metric);
                tracing::debug!(next_hop = %address, ?metric, "next hop of BGP");
                news.push((address, metric));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use net::{NextHop, Route, RouteChange, RouteKind, Source};
    use rib::RibConfig;

    use super::*;

    fn set(rib: &mut Rib, next_hops: &mut NextHops, prefix: &str, route: Option<Route>) {
        rib.route(RouteChange {
            vrf: VrfId::DEFAULT,
            prefix: prefix.parse().expect("prefix"),
            source: Source::Static,
            route,
        });
        let published = rib.publish().expect("nobody reads");
        for winner in &published.winners {
            next_hops.changed(winner.vrf, &winner.prefix);
        }
    }

    #[test]
    fn each_is_answered_once_and_again_when_its_way_changes() {
        let (mut rib, _reader) = Rib::new(RibConfig::default());
        let mut next_hops = NextHops::default();
        let address: IpAddr = "192.0.2.7".parse().expect("address");
        next_hops.wanted(&[address].into());
        assert_eq!(next_hops.news(&rib), [(address, None)]);
        assert_eq!(next_hops.news(&rib), []);

        // A route that discards leads nowhere, and one elsewhere does not matter.
        set(
            &mut rib,
            &mut next_hops,
            "192.0.2.0/24",
            Some(Route::special(RouteKind::Blackhole)),
        );
        let mut leaked = Route::unicast(NextHop::in_vrf(VrfId(1)));
        leaked.metric = 7;
        set(&mut rib, &mut next_hops, "10.0.0.0/8", Some(leaked.clone()));
        assert_eq!(next_hops.news(&rib), []);
        set(&mut rib, &mut next_hops, "192.0.2.0/28", Some(leaked));
        assert_eq!(next_hops.news(&rib), [(address, Some(7))]);
        next_hops.wanted(&BTreeSet::new());
        set(&mut rib, &mut next_hops, "192.0.2.0/24", None);
        assert!(next_hops.open.is_empty());
    }
}
