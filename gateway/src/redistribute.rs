//! What the gateway forwards by that BGP does not know: offered to the speaker, whose policies say what of it is announced.

use std::collections::BTreeMap;
use std::net::IpAddr;

use net::policy::RouteSource;
use net::{Prefix, RouteKind, Source, VrfId};
use rib::Winner;

/// Winners of the default VRF that may be announced.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    offered: BTreeMap<Prefix, RouteSource>,
    news: Vec<(Prefix, Option<RouteSource>)>,
}

impl Offers {
    /// A winner of the generation just published.
    pub(crate) fn winner(&mut self, winner: &Winner) {
        if winner.vrf != VrfId::DEFAULT || !is_routed(&winner.prefix) {
            return;
        }
        let source = winner.route.as_ref().and_then(|route| source(route.source, route.kind));
        let before = match source {
            Some(source) => self.offered.insert(winner.prefix, source),
            None => self.offered.remove(&winner.prefix),
        };
        if before != source {
            self.news.push((winner.prefix, source));
        }
    }

    /// What is different since the last time.
    pub(crate) fn news(&mut self) -> Vec<(Prefix, Option<RouteSource>)> {
        std::mem::take(&mut self.news)
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
        let both = [(one, Some(RouteSource::Static)), (two, Some(RouteSource::Kernel))];
        assert_eq!(offers.news(), both);
        offers.winner(&winner("10.1.0.0/16", Some((Source::Static, RouteKind::Unicast))));
        assert_eq!(offers.news(), []);
        offers.winner(&winner("10.1.0.0/16", Some((Source::Ebgp, RouteKind::Unicast))));
        offers.winner(&winner("10.2.0.0/16", None));
        assert_eq!(offers.news(), [(one, None), (two, None)]);
    }
}
