//! A policy of terms, compiled: sets are resolved, prefixes are in a trie, patterns in one automaton.

use std::net::IpAddr;
use std::sync::Arc;

use net::policy::{
    AsPathMatcher, Change, Community, CommunityPattern, Condition, MedChange, NextHopChange, Origin, Policy as Data,
    PrefixRange, RouteSource, Then, Validity,
};
use net::{IpNet, Ipv4Net, Ipv6Net, Prefix};
use prefix_trie::PrefixMap;
use serde::{Deserialize, Serialize};

use super::{Decision, PolicyRoute, Verdict, position};
use crate::wire;

/// LOCAL_PREF that a route without one stands for.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// A compiled policy. Two are equal if they were compiled from equal data, the sets they use included.
#[derive(Debug)]
pub struct Program {
    data: Data,
    terms: Vec<Term>,
}

#[derive(Debug, PartialEq, Eq)]
struct Term {
    tests: Vec<Test>,
}

/// A condition with its set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Test {
    Prefix(Arc<PrefixMatcher>),
    AsPath(Arc<AsPathMatcher>),
    CommunityAny(Arc<[CommunityPattern]>),
    CommunityAll(Arc<[CommunityPattern]>),
    NextHop(Arc<PrefixMatcher>),
    Med(u32),
    LocalPref(u32),
    Origin(Origin),
    Tag(u32),
    Neighbor(Vec<IpAddr>),
    V4(bool),
    Source(Vec<RouteSource>),
    Rpki(Vec<Validity>),
}

/// What a term did to a route in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermTrace {
    /// The term.
    pub term: String,
    /// Every condition holds.
    pub matched: bool,
    /// The first condition that does not hold.
    pub failed: Option<String>,
    /// What was changed, in order.
    pub changes: Vec<String>,
    /// What followed; nothing if the term did not match.
    pub then: Option<String>,
}

impl Program {
    /// From a policy and the tests of each of its terms.
    pub(super) fn new(data: Data, tests: Vec<Vec<Test>>) -> Self {
        let terms = tests.into_iter().map(|tests| Term { tests }).collect();
        Self { data, terms }
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.data.name
    }

    /// The name of the term at a position.
    pub fn term_name(&self, at: u16) -> Option<&str> {
        self.data.terms.get(usize::from(at)).map(|term| term.name.as_str())
    }

    /// True if no term looks at the prefix, beyond its family.
    pub(super) fn is_uniform(&self) -> bool {
        let mut tests = self.terms.iter().flat_map(|term| &term.tests);
        !tests.any(|test| matches!(test, Test::Prefix(_)))
    }

    /// True if a term looks at the peer.
    pub(super) fn asks_for_neighbor(&self) -> bool {
        let mut tests = self.terms.iter().flat_map(|term| &term.tests);
        tests.any(|test| matches!(test, Test::Neighbor(_)))
    }

    /// True if a term may change the AS path.
    pub(super) fn changes_as_path(&self) -> bool {
        let mut changes = self.data.terms.iter().flat_map(|term| &term.changes);
        changes.any(|change| matches!(change, Change::Prepend { .. }))
    }

    /// Sends a route through the terms, which may change it. With a trace, says what each term did.
    pub fn evaluate(&self, route: &mut PolicyRoute<'_>, mut trace: Option<&mut Vec<TermTrace>>) -> Verdict {
        let mut facts = Facts::default();
        for (at, (data, term)) in self.data.terms.iter().zip(&self.terms).enumerate() {
            let failed = term.tests.iter().position(|test| !test.holds(route, &mut facts));
            if let Some(trace) = trace.as_deref_mut() {
                let text = |key, value| format!("{key} {value}");
                let matched = failed.is_none();
                let changes = data.changes.iter().filter(|_| matched);
                trace.push(TermTrace {
                    term: data.name.clone(),
                    matched,
                    failed: failed.map(|at| text(data.conditions[at].key(), data.conditions[at].value())),
                    changes: changes.map(|change| text(change.key(), change.value())).collect(),
                    then: matched.then(|| data.then.to_string()),
                });
            }
            if failed.is_some() {
                continue;
            }
            // What is not accepted needs no changes.
            if data.then != Then::Reject && !data.changes.is_empty() {
                data.changes.iter().for_each(|change| apply(change, route));
                facts = Facts::default();
            }
            if data.then != Then::NextTerm {
                return Verdict {
                    accept: data.then == Then::Accept,
                    decision: Decision::Term(position(at)),
                };
            }
        }
        Verdict {
            accept: self.data.accept_by_default,
            decision: Decision::Default,
        }
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data && self.terms == other.terms
    }
}

impl Eq for Program {}

/// What tests derive from the attributes, kept from term to term until one changes the route.
#[derive(Default)]
struct Facts {
    as_path: Option<String>,
    communities: Option<Vec<Community>>,
}

impl Facts {
    fn as_path(&mut self, route: &PolicyRoute<'_>) -> &str {
        self.as_path
            .get_or_insert_with(|| route.attributes.as_path.to_aspath_string())
    }

    fn communities(&mut self, route: &PolicyRoute<'_>) -> &[Community] {
        self.communities
            .get_or_insert_with(|| route.attributes.every_community())
    }
}

impl Test {
    /// With `sets` to resolve names by; `None` if there is no such set.
    pub(super) fn new(condition: &Condition, sets: &super::table::Sets) -> Option<Self> {
        Some(match condition {
            Condition::PrefixSet(name) => Self::Prefix(Arc::clone(sets.prefixes.get(name)?)),
            Condition::NextHopSet(name) => Self::NextHop(Arc::clone(sets.prefixes.get(name)?)),
            Condition::AsPathSet(name) => Self::AsPath(Arc::clone(sets.as_paths.get(name)?)),
            Condition::CommunityAny(name) => Self::CommunityAny(Arc::clone(sets.communities.get(name)?)),
            Condition::CommunityAll(name) => Self::CommunityAll(Arc::clone(sets.communities.get(name)?)),
            Condition::Med(value) => Self::Med(*value),
            Condition::LocalPref(value) => Self::LocalPref(*value),
            Condition::Origin(value) => Self::Origin(*value),
            Condition::Tag(value) => Self::Tag(*value),
            Condition::Neighbor(addresses) => Self::Neighbor(addresses.clone()),
            Condition::V4(v4) => Self::V4(*v4),
            Condition::Source(sources) => Self::Source(sources.clone()),
            Condition::Rpki(validities) => Self::Rpki(validities.clone()),
        })
    }

    fn holds(&self, route: &PolicyRoute<'_>, facts: &mut Facts) -> bool {
        let attributes = &route.attributes;
        match self {
            Self::Prefix(set) => set.matches(&route.prefix),
            Self::NextHop(set) => set.matches(&Prefix::host(attributes.next_hop.address)),
            Self::AsPath(set) => set.matches(facts.as_path(route)),
            Self::CommunityAny(set) => {
                let carried = facts.communities(route);
                set.iter()
                    .any(|pattern| carried.iter().any(|community| pattern.matches(*community)))
            }
            Self::CommunityAll(set) => {
                let carried = facts.communities(route);
                set.iter()
                    .all(|pattern| carried.iter().any(|community| pattern.matches(*community)))
            }
            Self::Med(value) => attributes.med == Some(*value),
            Self::LocalPref(value) => attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF) == *value,
            Self::Origin(value) => attributes.origin == wire::origin(*value),
            Self::Tag(value) => route.marks.tag == *value,
            Self::Neighbor(addresses) => route.neighbor.is_some_and(|peer| addresses.contains(&peer)),
            Self::V4(v4) => route.prefix.is_v4() == *v4,
            Self::Source(sources) => sources.contains(&route.source),
            Self::Rpki(validities) => validities.contains(&route.marks.validity),
        }
    }
}

pub(super) fn apply(change: &Change, route: &mut PolicyRoute<'_>) {
    match change {
        Change::Tag(value) => route.marks.tag = *value,
        Change::Weight(value) => route.marks.weight = *value,
        Change::Blackhole => route.marks.blackhole = true,
        Change::NextHop(wanted) => next_hop(*wanted, route),
        _ => change_attributes(change, route),
    }
}

/// An address of the other family is no next hop for the prefix and changes nothing.
fn next_hop(wanted: NextHopChange, route: &mut PolicyRoute<'_>) {
    if let NextHopChange::Address(address) = wanted {
        if address.is_ipv4() != route.prefix.is_v4() {
            return;
        }
        route.attributes.to_mut().next_hop = wire::NextHop::from(address);
    }
    route.next_hop = Some(wanted);
}

fn change_attributes(change: &Change, route: &mut PolicyRoute<'_>) {
    let local_as = route.local_as;
    let attributes = route.attributes.to_mut();
    match change {
        Change::LocalPref(value) => attributes.local_pref = Some(*value),
        Change::Med(change) => {
            let old = attributes.med.unwrap_or(0);
            attributes.med = Some(match change {
                MedChange::Set(value) => *value,
                MedChange::Add(value) => old.saturating_add(*value),
                MedChange::Subtract(value) => old.saturating_sub(*value),
            });
        }
        Change::Prepend { asn, count } => {
            for _ in 0..*count {
                attributes.as_path = attributes.prepended(asn.unwrap_or(local_as));
            }
        }
        Change::Origin(value) => attributes.origin = wire::origin(*value),
        Change::RemoveCommunities(patterns) => {
            let mut carried = attributes.every_community();
            carried.retain(|community| !patterns.iter().any(|pattern| pattern.matches(*community)));
            attributes.set_communities(carried);
        }
        Change::AddCommunities(more) => {
            let mut carried = attributes.every_community();
            carried.extend(more);
            attributes.set_communities(carried);
        }
        Change::SetCommunities(communities) => attributes.set_communities(communities.iter().copied()),
        Change::Tag(_) | Change::Weight(_) | Change::Blackhole | Change::NextHop(_) => {}
    }
}

/// A prefix set as a trie: a prefix is looked up along its own bits, however large the set.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PrefixMatcher {
    /// Ranges of lengths under each covering prefix.
    v4: PrefixMap<Ipv4Net, Vec<(u8, u8)>>,
    v6: PrefixMap<Ipv6Net, Vec<(u8, u8)>>,
}

impl PrefixMatcher {
    pub(super) fn new(ranges: &[PrefixRange]) -> Self {
        let (mut v4, mut v6) = (PrefixMap::<Ipv4Net, Vec<_>>::new(), PrefixMap::<Ipv6Net, Vec<_>>::new());
        for range in ranges {
            let lengths = (range.ge, range.le);
            match range.prefix.net() {
                IpNet::V4(net) => v4.entry(net).or_default().push(lengths),
                IpNet::V6(net) => v6.entry(net).or_default().push(lengths),
            }
        }
        Self { v4, v6 }
    }

    fn matches(&self, prefix: &Prefix) -> bool {
        let fits = |ranges: &Vec<(u8, u8)>| ranges.iter().any(|(ge, le)| (*ge..=*le).contains(&prefix.len()));
        match prefix.net() {
            IpNet::V4(net) => self.v4.cover(&net).any(|(_, ranges)| fits(ranges)),
            IpNet::V6(net) => self.v6.cover(&net).any(|(_, ranges)| fits(ranges)),
        }
    }
}
