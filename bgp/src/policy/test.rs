//! A dry run: what a policy makes of a route, and which term decided.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::Prefix;
use net::policy::{Community, Origin, RouteSource};
use serde::{Deserialize, Serialize};

use super::{Marks, PolicyRoute, Program, TermTrace};
use crate::rpki::{self, VrpSet};
use crate::wire::{self, AsPath, AsPathSegment, Attributes, NextHop};

/// A route to try, and the policy to try it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyQuestion {
    /// Name of the policy.
    pub policy: String,
    /// Destination.
    pub prefix: Prefix,
    /// Take the route as this peer announced it; the fields below then replace what they say.
    pub received_from: Option<IpAddr>,
    /// AS path, nearest AS first.
    pub as_path: Option<Vec<u32>>,
    /// Communities.
    pub communities: Option<Vec<Community>>,
    /// Next hop.
    pub next_hop: Option<IpAddr>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// Tag.
    pub tag: u32,
    /// Where the route comes from.
    pub source: Option<RouteSource>,
    /// The peer that it comes from or goes to.
    pub neighbor: Option<IpAddr>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTest {
    /// The policy.
    pub policy: String,
    /// Destination.
    pub prefix: Prefix,
    /// The route passes.
    pub accepted: bool,
    /// What decided: a term, or the default.
    pub decided_by: String,
    /// Every term that was looked at, in order.
    pub terms: Vec<TermTrace>,
    /// The route before.
    pub before: RouteText,
    /// The route after; nothing if it does not pass.
    pub after: Option<RouteText>,
}

/// A route as people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteText {
    /// Next hop, or `self`.
    pub next_hop: String,
    /// AS path.
    pub as_path: String,
    /// Origin: igp, egp or incomplete.
    pub origin: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Communities of all kinds.
    pub communities: Vec<String>,
    /// Weight.
    pub weight: u32,
    /// Tag.
    pub tag: u32,
    /// Traffic is discarded.
    pub blackhole: bool,
}

impl RouteText {
    pub(crate) fn of(route: &PolicyRoute<'_>) -> Self {
        let attributes = &route.attributes;
        Self {
            next_hop: match route.next_hop {
                Some(wanted) => wanted.to_string(),
                None => attributes.next_hop.address.to_string(),
            },
            as_path: attributes.as_path.to_aspath_string(),
            origin: attributes.origin_word().to_string(),
            med: attributes.med,
            local_pref: attributes.local_pref,
            communities: attributes.every_community().iter().map(ToString::to_string).collect(),
            weight: route.marks.weight,
            tag: route.marks.tag,
            blackhole: route.marks.blackhole,
        }
    }

    /// What of it is something else in `after`.
    pub(crate) fn differences(&self, after: &Self) -> Vec<Difference> {
        let number = |value: Option<u32>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        let texts = |route: &Self| {
            [
                ("next hop", route.next_hop.clone()),
                ("AS path", route.as_path.clone()),
                ("origin", route.origin.clone()),
                ("MED", number(route.med)),
                ("local preference", number(route.local_pref)),
                ("communities", route.communities.join(" ")),
                ("weight", route.weight.to_string()),
                ("tag", route.tag.to_string()),
                ("blackhole", route.blackhole.to_string()),
            ]
        };
        let pairs = texts(self).into_iter().zip(texts(after));
        pairs
            .filter(|((_, before), (_, after))| before != after)
            .map(|((what, before), (_, after))| Difference {
                what: what.to_owned(),
                before,
                after,
            })
            .collect()
    }
}

/// Something that a policy has changed of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What.
    pub what: String,
    /// As it came; empty if there was none.
    pub before: String,
    /// As it is.
    pub after: String,
}

impl PolicyQuestion {
    /// Asks `policy` about `prefix`; nothing else is known of the route.
    pub fn new(policy: impl Into<String>, prefix: Prefix) -> Self {
        Self {
            policy: policy.into(),
            prefix,
            received_from: None,
            as_path: None,
            communities: None,
            next_hop: None,
            med: None,
            local_pref: None,
            origin: None,
            tag: 0,
            source: None,
            neighbor: None,
        }
    }

    /// Runs the policy. `received` is the route as a peer announced it.
    pub(crate) fn answer(
        &self,
        program: &Program,
        local_as: u32,
        received: Option<(&Attributes, RouteSource)>,
        vrps: Option<&VrpSet>,
    ) -> PolicyTest {
        let unspecified = if self.prefix.is_v4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let mut attributes = match received {
            Some((attributes, _)) => attributes.clone(),
            None => Attributes::originated(NextHop::from(unspecified)),
        };
        self.overwrite(&mut attributes);
        let source = received.map_or(RouteSource::Ebgp, |(_, source)| source);
        let validity = vrps.map(|vrps| vrps.validate(&self.prefix, rpki::origin(&attributes, local_as)));
        let mut route = PolicyRoute {
            prefix: self.prefix,
            attributes: Cow::Owned(attributes),
            marks: Marks {
                tag: self.tag,
                validity: validity.unwrap_or_default(),
                ..Marks::default()
            },
            neighbor: self.neighbor.or(self.received_from),
            source: self.source.unwrap_or(source),
            local_as,
            next_hop: None,
        };
        let before = RouteText::of(&route);
        let mut terms = Vec::new();
        let verdict = program.evaluate(&mut route, Some(&mut terms));
        let decided_by = match verdict.decision {
            super::Decision::Term(at) => format!("term {}", program.term_name(at).unwrap_or("?")),
            _ => "default".to_owned(),
        };
        PolicyTest {
            policy: program.name().to_owned(),
            prefix: self.prefix,
            accepted: verdict.accept,
            decided_by,
            terms,
            before,
            after: verdict.accept.then(|| RouteText::of(&route)),
        }
    }

    fn overwrite(&self, attributes: &mut Attributes) {
        if let Some(ases) = &self.as_path {
            let segments = if ases.is_empty() {
                Vec::new()
            } else {
                vec![AsPathSegment::AsSequence(ases.clone())]
            };
            attributes.as_path = AsPath { segments };
        }
        if let Some(communities) = &self.communities {
            attributes.set_communities(communities.iter().copied());
        }
        if let Some(address) = self.next_hop {
            attributes.next_hop = NextHop::from(address);
        }
        attributes.med = self.med.or(attributes.med);
        attributes.local_pref = self.local_pref.or(attributes.local_pref);
        if let Some(origin) = self.origin {
            attributes.origin = wire::origin(origin);
        }
    }
}
