//! What the gateway forwards by that BGP does not know: offered to the speaker, whose policies say what of it is announced.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bgp::Feedback;
use net::policy::RouteSource;
use net::{Prefix, RouteKind, Source, VrfId};
use rib::Winner;

/// Winners that may be announced: those of the default VRF, and of VPCs, for EVPN.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    offered: BTreeMap<(VrfId, Prefix), RouteSource>,
    news: Vec<(VrfId, Prefix, Option<RouteSource>)>,
}

impl Offers {
    /// A winner of the generation just published.
    pub(crate) fn winner(&mut self, winner: &Winner) {
        if !is_routed(&winner.prefix) {
            return;
        }
        let key = (winner.vrf, winner.prefix);
        let source = winner.route.as_ref().and_then(|route| source(route.source, route.kind));
        let before = match source {
            Some(source) => self.offered.insert(key, source),
            None => self.offered.remove(&key),
        };
        if before != source {
            self.news.push((winner.vrf, winner.prefix, source));
        }
    }

    /// What is different since the last time.
    pub(crate) fn news(&mut self) -> impl Iterator<Item = Feedback> + use<> {
        let news = std::mem::take(&mut self.news).into_iter();
        let (own, of_vpcs): (Vec<_>, Vec<_>) = news.partition(|(vrf, ..)| *vrf == VrfId::DEFAULT);
        let own: Vec<_> = own.into_iter().map(|(_, prefix, source)| (prefix, source)).collect();
        let own = (!own.is_empty()).then_some(Feedback::Offers(own));
        let of_vpcs = (!of_vpcs.is_empty()).then_some(Feedback::VrfOffers(of_vpcs));
        own.into_iter().chain(of_vpcs)
    }
}

/// Addresses of the gateway and of NAT are no routes to announce.
const fn source(source: Source, kind: RouteKind) -> Option<RouteSource> {
    match (source, kind) {
        (_, RouteKind::Local | RouteKind::Nat) => None,
        (Source::Connected, _) => Some(RouteSource::Connected),
        (Source::Static, _) => Some(RouteSource::Static),
        (Source::Kernel, _) => Some(RouteSource::Kernel),
        _ => None,
    }
}

/// False for what has a meaning on its own link or host alone.
fn is_routed(prefix: &Prefix) -> bool {
    match prefix.address() {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_multicast() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_multicast() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use rib::WinnerRoute;

    use super::*;

    #[test]
    fn routes_of_three_sources_are_offered_once() {
        let winner = |prefix: &str, route: Option<(Source, RouteKind)>| Winner {
            vrf: VrfId::DEFAULT,
            prefix: prefix.parse().expect("prefix"),
            route: route.map(|(source, kind)| WinnerRoute {
                source,
                kind,
                next_hops: [].into(),
            }),
        };
        let mut offers = Offers::default();
        for (prefix, source, kind) in [
            ("10.1.0.0/16", Source::Static, RouteKind::Blackhole),
            ("10.2.0.0/16", Source::Kernel, RouteKind::Unicast),
            ("10.3.0.1/32", Source::Connected, RouteKind::Local),
            ("10.4.0.0/16", Source::Ebgp, RouteKind::Unicast),
            ("fe80::/64", Source::Connected, RouteKind::Unicast),
        ] {
            offers.winner(&winner(prefix, Some((source, kind))));
        }
        let prefix = |text: &str| text.parse::<Prefix>().expect("prefix");
        let (one, two) = (prefix("10.1.0.0/16"), prefix("10.2.0.0/16"));
        let both = vec![(one, Some(RouteSource::Static)), (two, Some(RouteSource::Kernel))];
        assert_eq!(offers.news().collect::<Vec<_>>(), [Feedback::Offers(both)]);
        offers.winner(&winner("10.1.0.0/16", Some((Source::Static, RouteKind::Unicast))));
        offers.winner(&Winner {
            vrf: VrfId(1),
            ..winner("10.1.0.0/16", Some((Source::Connected, RouteKind::Unicast)))
        });
        let of_vpc = vec![(VrfId(1), one, Some(RouteSource::Connected))];
        assert_eq!(offers.news().collect::<Vec<_>>(), [Feedback::VrfOffers(of_vpc)]);
        offers.winner(&winner("10.1.0.0/16", Some((Source::Ebgp, RouteKind::Unicast))));
        offers.winner(&winner("10.2.0.0/16", None));
        let gone = vec![(one, None), (two, None)];
        assert_eq!(offers.news().collect::<Vec<_>>(), [Feedback::Offers(gone)]);
    }
}
