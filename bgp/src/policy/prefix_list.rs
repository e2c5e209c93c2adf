//! Prefix lists: the short form of a policy, for a peer that needs no more.
//!
//! A list is read from the top; the first rule that matches decides, and what no rule matches is denied.

use std::fmt;

use net::Prefix;
use serde::{Deserialize, Serialize};

/// What a rule does with a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Let it through.
    Accept,
    /// Keep it out.
    Deny,
}

/// Rules in order; the first match decides, no match denies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrefixList {
    /// The rules.
    pub rules: Vec<PrefixRule>,
}

/// One line of a prefix list. Without `ge` and `le` it matches its prefix exactly; with `ge` alone, lengths from `ge` to
/// the address length; with `le` alone, lengths from the prefix's to `le`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixRule {
    /// What to do on a match.
    pub action: Action,
    /// Covers what may match.
    pub prefix: Prefix,
    /// Shortest length that matches.
    pub ge: Option<u8>,
    /// Longest length that matches.
    pub le: Option<u8>,
}

impl PrefixList {
    /// Position of the rule that decides `prefix`, and what it says.
    pub fn decide(&self, prefix: &Prefix) -> Option<(usize, Action)> {
        let at = self.rules.iter().position(|rule| rule.matches(prefix))?;
        Some((at, self.rules[at].action))
    }

    /// The first rule that can match nothing.
    pub(super) fn empty_rule(&self) -> Option<&PrefixRule> {
        self.rules.iter().find(|rule| rule.is_empty())
    }
}

impl PrefixRule {
    /// True if the rule applies to `prefix`.
    pub fn matches(&self, prefix: &Prefix) -> bool {
        let (shortest, longest) = self.lengths();
        self.prefix.covers(prefix) && (shortest..=longest).contains(&prefix.len())
    }

    fn lengths(&self) -> (u8, u8) {
        let shortest = self.ge.unwrap_or(self.prefix.len());
        let longest = self.le.unwrap_or(if self.ge.is_some() {
            self.address_length()
        } else {
            self.prefix.len()
        });
        (shortest, longest)
    }

    fn address_length(&self) -> u8 {
        if self.prefix.is_v4() { 32 } else { 128 }
    }

    fn is_empty(&self) -> bool {
        let (shortest, longest) = self.lengths();
        shortest < self.prefix.len() || shortest > longest || longest > self.address_length()
    }
}

impl fmt::Display for PrefixRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Accept => "accept",
            Action::Deny => "deny",
        };
        write!(f, "{action} {}", self.prefix)?;
        if let Some(ge) = self.ge {
            write!(f, " ge {ge}")?;
        }
        if let Some(le) = self.le {
            write!(f, " le {le}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("prefix")
    }

    fn rule(action: Action, text: &str, ge: Option<u8>, le: Option<u8>) -> PrefixRule {
        PrefixRule {
            action,
            prefix: prefix(text),
            ge,
            le,
        }
    }

    #[test]
    fn ge_and_le_bound_the_length() {
        let exact = rule(Action::Accept, "10.0.0.0/8", None, None);
        assert!(exact.matches(&prefix("10.0.0.0/8")) && !exact.matches(&prefix("10.0.0.0/9")));
        let ge = rule(Action::Accept, "10.0.0.0/8", Some(16), None);
        assert!(!ge.matches(&prefix("10.0.0.0/8")) && ge.matches(&prefix("10.1.2.3/32")));
        let le = rule(Action::Accept, "10.0.0.0/8", None, Some(16));
        assert!(le.matches(&prefix("10.0.0.0/8")) && !le.matches(&prefix("10.1.2.0/24")));
        let both = rule(Action::Accept, "2001:db8::/32", Some(48), Some(64));
        assert!(both.matches(&prefix("2001:db8:1::/48")) && !both.matches(&prefix("2001:db9::/48")));
    }

    #[test]
    fn first_match_decides_and_no_match_denies() {
        let list = PrefixList {
            rules: vec![
                rule(Action::Deny, "10.1.0.0/16", None, Some(32)),
                rule(Action::Accept, "10.0.0.0/8", None, Some(32)),
            ],
        };
        assert_eq!(list.decide(&prefix("10.1.2.0/24")), Some((0, Action::Deny)));
        assert_eq!(list.decide(&prefix("10.2.0.0/16")), Some((1, Action::Accept)));
        assert_eq!(list.decide(&prefix("192.0.2.0/24")), None);
    }
}
