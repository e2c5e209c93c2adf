//! Every policy of a configuration, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use net::policy::{AsPathMatcher, AsPathPatternError, CommunityPattern, Policies};

use super::program::{PrefixMatcher, Program, Test};

/// Compiled policies, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyTable {
    programs: BTreeMap<String, Arc<Program>>,
}

/// Why policies do not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A term names a set that is not there.
    #[error("policy `{policy}`, term `{term}`: there is no {kind} `{name}`; add it, or name another")]
    UnknownSet {
        /// The policy.
        policy: String,
        /// The term.
        term: String,
        /// Which kind of set.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The patterns of a set are too large together.
    #[error("as-path-set `{name}`: {source}; split it into several sets")]
    Patterns {
        /// The set.
        name: String,
        /// What the engine says.
        #[source]
        source: AsPathPatternError,
    },
    /// Positions of terms are counted in 16 bits.
    #[error("policy `{0}` has more than 65535 terms; merge some of them")]
    TooManyTerms(String),
}

/// Sets by name, each compiled once and shared by the terms that name it.
#[derive(Debug, Default)]
pub(super) struct Sets {
    pub(super) prefixes: BTreeMap<String, Arc<PrefixMatcher>>,
    pub(super) as_paths: BTreeMap<String, Arc<AsPathMatcher>>,
    pub(super) communities: BTreeMap<String, Arc<[CommunityPattern]>>,
}

impl PolicyTable {
    /// Compiles policies and the sets they name.
    ///
    /// # Errors
    /// [`PolicyError`]: the first policy or set that cannot be.
    pub fn compile(data: &Policies) -> Result<Self, PolicyError> {
        let sets = sets(data)?;
        let mut programs = BTreeMap::new();
        for policy in &data.policies {
            if policy.terms.len() > usize::from(u16::MAX) {
                return Err(PolicyError::TooManyTerms(policy.name.clone()));
            }
            let mut tests = Vec::with_capacity(policy.terms.len());
            for term in &policy.terms {
                let compiled = term.conditions.iter().map(|condition| {
                    Test::new(condition, &sets).ok_or_else(|| {
                        let (kind, name) = condition.set().map_or(("set", ""), |(kind, name)| (kind.word(), name));
                        PolicyError::UnknownSet {
                            policy: policy.name.clone(),
                            term: term.name.clone(),
                            kind,
                            name: name.to_owned(),
                        }
                    })
                });
                tests.push(compiled.collect::<Result<_, _>>()?);
            }
            programs.insert(policy.name.clone(), Arc::new(Program::new(policy.clone(), tests)));
        }
        Ok(Self { programs })
    }

    /// The policy of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Program>> {
        self.programs.get(name)
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.programs.keys().map(String::as_str)
    }
}

fn sets(data: &Policies) -> Result<Sets, PolicyError> {
    let mut sets = Sets::default();
    for set in &data.prefix_sets {
        let matcher = Arc::new(PrefixMatcher::new(&set.prefixes));
        sets.prefixes.insert(set.name.clone(), matcher);
    }
    for set in &data.as_path_sets {
        let matcher = AsPathMatcher::new(&set.patterns).map_err(|source| PolicyError::Patterns {
            name: set.name.clone(),
            source,
        })?;
        sets.as_paths.insert(set.name.clone(), Arc::new(matcher));
    }
    for set in &data.community_sets {
        sets.communities
            .insert(set.name.clone(), set.communities.clone().into());
    }
    Ok(sets)
}
