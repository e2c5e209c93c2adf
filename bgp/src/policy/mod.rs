//! Import and export policy: data from the configuration, compiled once, evaluated a route at a time.
//!
//! An external session for which nothing is configured accepts and announces nothing (RFC 8212). Named policies are
//! [`Program`]s of terms (`program.rs`), which may change what they accept; prefix lists (`prefix_list.rs`) are the short
//! form. [`PolicyTable`] compiles everything that a configuration names. `test.rs` runs a policy on a route that nobody
//! has announced, and tells what each term did.

mod prefix_list;
mod program;
mod route;
mod table;
mod test;

use std::fmt;
use std::sync::Arc;

use net::Prefix;
use net::policy::Community;

pub use prefix_list::{Action, PrefixList, PrefixRule};
pub use program::{Program, TermTrace};
pub use route::{Marks, PolicyRoute};
pub use table::{PolicyError, PolicyTable};
pub use test::{Difference, PolicyQuestion, PolicyTest, RouteText};

/// Policy of one peer in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Policy {
    /// Nothing configured: deny on an external session (RFC 8212), accept on an internal one.
    #[default]
    Unset,
    /// Everything passes.
    Accept,
    /// Nothing passes.
    Deny,
    /// As a list of prefixes says.
    PrefixList(PrefixList),
    /// As terms say.
    Program(Arc<Program>),
    /// One policy for each address family.
    PerFamily {
        /// For IPv4 unicast.
        ipv4: Box<Policy>,
        /// For IPv6 unicast.
        ipv6: Box<Policy>,
        /// For EVPN, whatever the destination is.
        evpn: Box<Policy>,
    },
}

/// What decided about a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// There is no policy: external sessions deny (RFC 8212), internal ones accept.
    NoPolicy,
    /// The policy says the same of every route.
    Everything,
    /// The rule of a prefix list at this position.
    Rule(u16),
    /// The term at this position.
    Term(u16),
    /// Nothing matched: the default of the policy.
    Default,
}

/// What a policy says of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The route passes.
    pub accept: bool,
    /// What decided.
    pub decision: Decision,
}

impl Policy {
    /// Decides a route on a session that is external (`ebgp`) or internal, and changes it as its terms say.
    pub fn evaluate(&self, ebgp: bool, route: &mut PolicyRoute<'_>) -> Verdict {
        let verdict = |accept, decision| Verdict { accept, decision };
        match self.of(&route.prefix) {
            Self::Unset => verdict(!ebgp, Decision::NoPolicy),
            Self::Accept => verdict(true, Decision::Everything),
            // `of` leaves no policy for each family.
            Self::Deny | Self::PerFamily { .. } => verdict(false, Decision::Everything),
            Self::PrefixList(list) => match list.decide(&route.prefix) {
                Some((at, action)) => verdict(action == Action::Accept, Decision::Rule(position(at))),
                None => verdict(false, Decision::Default),
            },
            Self::Program(program) => program.evaluate(route, None),
        }
    }

    /// The policy for the family of `prefix`.
    pub fn of(&self, prefix: &Prefix) -> &Self {
        match self {
            Self::PerFamily { ipv4, ipv6, .. } => (if prefix.is_v4() { ipv4 } else { ipv6 }).of(prefix),
            policy => policy,
        }
    }

    /// The policy for EVPN.
    pub fn for_evpn(&self) -> &Self {
        match self {
            Self::PerFamily { evpn, .. } => evpn.for_evpn(),
            policy => policy,
        }
    }

    /// True if the policy says the same of every prefix of a family that has these attributes.
    pub fn is_uniform(&self) -> bool {
        match self {
            Self::Unset | Self::Accept | Self::Deny => true,
            Self::PrefixList(_) => false,
            Self::Program(program) => program.is_uniform(),
            Self::PerFamily { ipv4, ipv6, .. } => ipv4.is_uniform() && ipv6.is_uniform(),
        }
    }

    /// True if what it says may depend on who the peer is.
    pub fn asks_for_neighbor(&self) -> bool {
        match self {
            Self::Program(program) => program.asks_for_neighbor(),
            Self::PerFamily { ipv4, ipv6, evpn } => [ipv4, ipv6, evpn].iter().any(|policy| policy.asks_for_neighbor()),
            _ => false,
        }
    }

    /// What decided about `prefix`, with the names of the configuration.
    pub fn explain(&self, prefix: &Prefix, decision: Decision) -> String {
        match (self.of(prefix), decision) {
            (Self::Program(program), Decision::Term(at)) => {
                format!(
                    "policy {}, term {}",
                    program.name(),
                    program.term_name(at).unwrap_or("?")
                )
            }
            (Self::Program(program), Decision::Default) => format!("policy {}, its default", program.name()),
            (_, decision) => decision.to_string(),
        }
    }

    /// The first prefix rule that can match nothing.
    pub(crate) fn empty_rule(&self) -> Option<&PrefixRule> {
        match self {
            Self::PrefixList(list) => list.empty_rule(),
            Self::PerFamily { ipv4, ipv6, evpn } => {
                [ipv4, ipv6, evpn].into_iter().find_map(|policy| policy.empty_rule())
            }
            _ => None,
        }
    }
}

/// Positions are counted in 16 bits; a policy of more terms does not compile.
fn position(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// RFC 8326 section 4.2: a path that its external peer is about to take away is the least preferred. It follows the
/// policy, so that a policy which raises the preference of everything does not undo it; one that wants to, removes the
/// community.
pub fn honour_graceful_shutdown(ebgp: bool, route: &mut PolicyRoute<'_>) {
    if ebgp && route.attributes.has_community(Community::GRACEFUL_SHUTDOWN) {
        route.attributes.to_mut().local_pref = Some(0);
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("no policy on an external session (RFC 8212)"),
            Self::Everything => f.write_str("everything"),
            Self::Rule(at) => write!(f, "rule {}", at + 1),
            Self::Term(at) => write!(f, "term {}", at + 1),
            Self::Default => f.write_str("no rule matches"),
        }
    }
}

#[cfg(test)]
mod tests;
