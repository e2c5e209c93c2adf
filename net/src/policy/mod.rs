//! Routing policy as data: what `config` reads and `bgp` compiles.
//!
//! A policy is a list of terms. A route goes through them from the top: a term whose conditions all hold makes its
//! changes and says what follows; what comes to the end meets the policy's default. Sets of prefixes, AS path patterns
//! and communities have names, so that several terms share them.

mod as_path;
mod community;
mod term;

use serde::Serialize;

use crate::Prefix;

pub use as_path::{AsPathMatcher, AsPathPattern, AsPathPatternError};
pub use community::{Community, CommunityError, CommunityPattern};
pub use term::{Change, Condition, MedChange, NextHopChange, Origin, RouteSource, SetKind, Then, Validity};

/// Every set and policy of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policies {
    /// By name.
    pub prefix_sets: Vec<PrefixSet>,
    /// By name.
    pub as_path_sets: Vec<AsPathSet>,
    /// By name.
    pub community_sets: Vec<CommunitySet>,
    /// By name.
    pub policies: Vec<Policy>,
}

/// Prefixes under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PrefixSet {
    /// What terms call it.
    pub name: String,
    /// A prefix is in the set if any of these matches.
    pub prefixes: Vec<PrefixRange>,
}

/// Prefixes inside another one, with lengths in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PrefixRange {
    /// Covers what may match.
    pub prefix: Prefix,
    /// Shortest length that matches.
    pub ge: u8,
    /// Longest length that matches.
    pub le: u8,
}

impl PrefixRange {
    /// True if `prefix` lies in the range.
    pub fn matches(&self, prefix: &Prefix) -> bool {
        self.prefix.covers(prefix) && (self.ge..=self.le).contains(&prefix.len())
    }
}

/// AS path patterns under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AsPathSet {
    /// What terms call it.
    pub name: String,
    /// An AS path is in the set if any of these matches.
    #[serde(serialize_with = "texts")]
    pub patterns: Vec<AsPathPattern>,
}

/// Communities under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CommunitySet {
    /// What terms call it.
    pub name: String,
    /// The communities, or patterns for them.
    #[serde(serialize_with = "texts")]
    pub communities: Vec<CommunityPattern>,
}

/// Terms under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// What peers call it.
    pub name: String,
    /// From the first to the last.
    pub terms: Vec<Term>,
    /// Whether a route is accepted that no term decided.
    pub accept_by_default: bool,
}

/// One step of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Term {
    /// What dry runs and reasons call it; unique in its policy.
    pub name: String,
    /// All have to hold; none holds always.
    pub conditions: Vec<Condition>,
    /// What is done to the route, in this order.
    pub changes: Vec<Change>,
    /// What follows.
    pub then: Then,
}

fn texts<T: ToString, S: serde::Serializer>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(T::to_string))
}
