//! Policies of one term that accepts everything.

use std::sync::Arc;

use bgp::{Policy, PolicyTable};
use net::policy::{self, Change, Community, Policies, Term, Then};

/// One that makes these changes.
pub(crate) fn changing(changes: Vec<Change>) -> Policy {
    let policies = Policies {
        policies: vec![policy::Policy {
            name: "changing".into(),
            terms: vec![Term {
                name: "all".into(),
                conditions: Vec::new(),
                changes,
                then: Then::Accept,
            }],
            accept_by_default: true,
        }],
        ..Policies::default()
    };
    let table = PolicyTable::compile(&policies).expect("compiles");
    Policy::Program(Arc::clone(table.get("changing").expect("there")))
}

/// One that gives a route so many communities, 4 octets each.
pub(crate) fn loading(communities: u16) -> Policy {
    let communities = (0..communities).map(|i| Community::Standard(0xfde8_0000 | u32::from(i)));
    changing(vec![Change::AddCommunities(communities.collect())])
}
