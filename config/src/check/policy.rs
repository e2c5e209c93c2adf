//! The sets and policies of `[bgp]`: names, references, ranges.

use net::policy::{AsPathMatcher, Change, Condition, NextHopChange, Policies, Policy, PrefixRange, SetKind, Term};

use super::bgp::autonomous_system;
use super::limits::name;
use super::{Claim, Findings, not_a_host, unique};
use crate::fault::Fault;
use crate::parse::nearest;

/// Names that mean something else where a policy is named.
const RESERVED: [&str; 2] = ["accept", "deny"];

pub(super) fn check(policies: &Policies, findings: &mut Findings) {
    names(policies, findings);
    for (index, set) in policies.prefix_sets.iter().enumerate() {
        let path = format!("bgp.prefix-set[{index}]");
        not_empty(
            set.prefixes.is_empty(),
            "prefix-set",
            &set.name,
            "prefixes",
            &path,
            findings,
        );
        for (index, item) in set.prefixes.iter().enumerate() {
            range(item, &format!("{path}.prefixes[{index}]"), findings);
        }
    }
    for (index, set) in policies.as_path_sets.iter().enumerate() {
        let path = format!("bgp.as-path-set[{index}]");
        not_empty(
            set.patterns.is_empty(),
            "as-path-set",
            &set.name,
            "patterns",
            &path,
            findings,
        );
        if let Err(error) = AsPathMatcher::new(&set.patterns) {
            let fault = Fault::InvalidValue {
                key: "patterns".to_owned(),
                reason: error.to_string(),
                example: "fewer or smaller patterns, in several sets".to_owned(),
            };
            findings.at(format!("{path}.patterns"), fault);
        }
    }
    for (index, set) in policies.community_sets.iter().enumerate() {
        let path = format!("bgp.community-set[{index}]");
        let empty = set.communities.is_empty();
        not_empty(empty, "community-set", &set.name, "communities", &path, findings);
    }
    for (index, policy) in policies.policies.iter().enumerate() {
        check_policy(policies, policy, &format!("bgp.policy[{index}]"), findings);
    }
}

/// Lengths that a prefix inside the range's own may have.
pub(super) fn range(range: &PrefixRange, path: &str, findings: &mut Findings) {
    let longest = range.prefix.net().max_prefix_len();
    if range.ge < range.prefix.len() || range.le < range.ge || range.le > longest {
        let fault = Fault::RuleLengths {
            prefix: range.prefix,
            ge: range.ge,
            le: range.le,
            longest,
        };
        findings.at(path, fault);
    }
}

/// A policy that something refers to.
pub(super) fn exists(policies: &Policies, wanted: &str, path: &str, findings: &mut Findings) {
    let known: Vec<&str> = policies.policies.iter().map(|policy| policy.name.as_str()).collect();
    if !known.contains(&wanted) {
        let known = known.into_iter().chain(RESERVED);
        absent(
            "policy",
            wanted,
            nearest::remedy(wanted, known, "policies"),
            path,
            findings,
        );
    }
}

fn absent(kind: &'static str, wanted: &str, remedy: String, path: &str, findings: &mut Findings) {
    let fault = Fault::Unknown {
        kind,
        name: wanted.to_owned(),
        remedy,
    };
    findings.absent(path, "bgp", fault);
}

fn not_empty(empty: bool, kind: &str, name: &str, key: &'static str, path: &str, findings: &mut Findings) {
    if empty {
        let object = format!("{kind} `{name}`");
        empty_list(object, key, path, findings);
    }
}

/// A list that was read incompletely may be empty because of that.
fn empty_list(object: String, key: &'static str, path: &str, findings: &mut Findings) {
    findings.absent(path, "bgp", Fault::Empty { object, key });
}

/// The names of a kind of set, in the order of the configuration.
fn of_kind(policies: &Policies, kind: SetKind) -> Vec<&str> {
    match kind {
        SetKind::Prefix => policies.prefix_sets.iter().map(|set| set.name.as_str()).collect(),
        SetKind::AsPath => policies.as_path_sets.iter().map(|set| set.name.as_str()).collect(),
        SetKind::Community => policies.community_sets.iter().map(|set| set.name.as_str()).collect(),
    }
}

fn names(policies: &Policies, findings: &mut Findings) {
    let sets = SetKind::WORDS
        .iter()
        .map(|(word, kind)| (*word, of_kind(policies, *kind)));
    let named = policies.policies.iter().map(|policy| policy.name.as_str()).collect();
    for (kind, names) in sets.chain([("policy", named)]) {
        check_names(kind, &format!("bgp.{kind}"), &names, findings);
    }
    for (index, policy) in policies.policies.iter().enumerate() {
        let terms: Vec<&str> = policy.terms.iter().map(|term| term.name.as_str()).collect();
        check_names("term", &format!("bgp.policy[{index}].term"), &terms, findings);
        if RESERVED.contains(&policy.name.as_str()) {
            let name = policy.name.clone();
            findings.at(format!("bgp.policy[{index}].name"), Fault::ReservedPolicyName { name });
        }
    }
}

fn check_names(kind: &'static str, path: &str, names: &[&str], findings: &mut Findings) {
    let mut claims = Vec::with_capacity(names.len());
    for (index, text) in names.iter().enumerate() {
        let path = format!("{path}[{index}].name");
        name(findings, &path, kind, text);
        claims.push(Claim {
            value: (*text).to_owned(),
            path,
            owner: format!("number {}", index + 1),
        });
    }
    unique(claims, findings, |value, first, second| Fault::Duplicate {
        what: kind,
        value,
        first,
        second,
        remedy: "give each a name of its own",
    });
}

fn check_policy(policies: &Policies, policy: &Policy, path: &str, findings: &mut Findings) {
    not_empty(policy.terms.is_empty(), "policy", &policy.name, "term", path, findings);
    for (index, term) in policy.terms.iter().enumerate() {
        let object = format!("term `{}` of policy `{}`", term.name, policy.name);
        check_term(policies, term, &object, &format!("{path}.term[{index}]"), findings);
    }
}

fn check_term(policies: &Policies, term: &Term, object: &str, path: &str, findings: &mut Findings) {
    for condition in &term.conditions {
        let path = format!("{path}.match.{}", condition.key());
        if let Some((kind, wanted)) = condition.set() {
            let known = of_kind(policies, kind);
            if !known.contains(&wanted) {
                let remedy = nearest::remedy(wanted, known.into_iter(), &format!("{kind}s"));
                absent(kind.word(), wanted, remedy, &path, findings);
            }
        }
        let empty = match condition {
            Condition::Neighbor(peers) => peers.is_empty(),
            Condition::Source(sources) => sources.is_empty(),
            Condition::Rpki(validities) => validities.is_empty(),
            _ => false,
        };
        if empty {
            let (object, key) = (object.to_owned(), condition.key());
            empty_list(object, key, &path, findings);
        }
    }
    for change in &term.changes {
        let path = format!("{path}.set.{}", change.key());
        match change {
            Change::Prepend { asn, count } => {
                if let Some(asn) = asn {
                    autonomous_system(*asn, object, &path, findings);
                }
                if !(1..=32).contains(count) {
                    let fault = Fault::InvalidValue {
                        key: "prepend".to_owned(),
                        reason: format!("{count} is out of range"),
                        example: "a number from 1 to 32".to_owned(),
                    };
                    findings.at(path, fault);
                }
            }
            Change::NextHop(NextHopChange::Address(address)) => {
                if let Some(what) = not_a_host(*address) {
                    let fault = Fault::NotAHost {
                        object: object.to_owned(),
                        address: *address,
                        what,
                    };
                    findings.at(path, fault);
                }
            }
            Change::AddCommunities(list) if list.is_empty() => {
                let (object, key) = (object.to_owned(), change.key());
                empty_list(object, key, &path, findings);
            }
            Change::RemoveCommunities(list) if list.is_empty() => {
                let (object, key) = (object.to_owned(), change.key());
                empty_list(object, key, &path, findings);
            }
            _ => {}
        }
    }
}
