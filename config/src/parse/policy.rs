//! Reads the sets and policies of `[bgp]`.

use net::Prefix;
use net::policy::{AsPathSet, Change, CommunitySet, Condition, Policies, Policy, PrefixRange, PrefixSet, Term};

use super::reader::Reader;
use crate::fault::Fault;
use crate::model::{Action, Family};

pub(super) fn policies(reader: &mut Reader<'_, '_>) -> Policies {
    Policies {
        prefix_sets: reader.tables("prefix-set", "prefix-set", "name", prefix_set),
        as_path_sets: reader.tables("as-path-set", "as-path-set", "name", as_path_set),
        community_sets: reader.tables("community-set", "community-set", "name", community_set),
        policies: reader.tables("policy", "policy", "name", policy),
    }
}

fn prefix_set(reader: &mut Reader<'_, '_>) -> Option<PrefixSet> {
    let name = reader.required("name");
    let prefixes = reader.tables("prefixes", "range", "prefix", range);
    Some(PrefixSet { name: name?, prefixes })
}

/// Without `ge` and `le` the prefix alone; with `ge` alone all longer ones; with `le` alone from the prefix up to there.
pub(super) fn range(reader: &mut Reader<'_, '_>) -> Option<PrefixRange> {
    let prefix: Option<Prefix> = reader.required("prefix");
    let ge: Option<u8> = reader.optional("ge");
    let le: Option<u8> = reader.optional("le");
    let prefix = prefix?;
    let longest = prefix.net().max_prefix_len();
    let le = le.unwrap_or(if ge.is_some() { longest } else { prefix.len() });
    Some(PrefixRange {
        prefix,
        ge: ge.unwrap_or(prefix.len()),
        le,
    })
}

fn as_path_set(reader: &mut Reader<'_, '_>) -> Option<AsPathSet> {
    let name = reader.required("name");
    let patterns = reader.list("patterns").unwrap_or_default();
    Some(AsPathSet { name: name?, patterns })
}

fn community_set(reader: &mut Reader<'_, '_>) -> Option<CommunitySet> {
    let name = reader.required("name");
    let communities = reader.list("communities").unwrap_or_default();
    Some(CommunitySet {
        name: name?,
        communities,
    })
}

fn policy(reader: &mut Reader<'_, '_>) -> Option<Policy> {
    let name = reader.required("name");
    let terms = reader.tables("term", "term", "name", term);
    let accept_by_default = reader.or("default", Action::Deny) == Action::Accept;
    Some(Policy {
        name: name?,
        terms,
        accept_by_default,
    })
}

fn term(reader: &mut Reader<'_, '_>) -> Option<Term> {
    let name = reader.required("name");
    let object = format!("match of {}", reader.object());
    let conditions = reader.table("match", &object, conditions);
    let object = format!("set of {}", reader.object());
    let changes = reader.table("set", &object, changes);
    let then = reader.required("then");
    Some(Term {
        name: name?,
        conditions,
        changes,
        then: then?,
    })
}

fn conditions(reader: &mut Reader<'_, '_>) -> Vec<Condition> {
    let all = [
        reader.optional("prefix-set").map(Condition::PrefixSet),
        reader.optional("as-path-set").map(Condition::AsPathSet),
        reader.optional("community-any").map(Condition::CommunityAny),
        reader.optional("community-all").map(Condition::CommunityAll),
        reader.optional("next-hop-set").map(Condition::NextHopSet),
        reader.optional("med").map(Condition::Med),
        reader.optional("local-pref").map(Condition::LocalPref),
        reader.optional("origin").map(Condition::Origin),
        reader.optional("tag").map(Condition::Tag),
        reader.list("neighbor").map(Condition::Neighbor),
        family(reader),
        reader.list("source").map(Condition::Source),
        reader.list("rpki").map(Condition::Rpki),
    ];
    all.into_iter().flatten().collect()
}

/// That of the destination: the policy of a peer says itself whether it is for EVPN.
fn family(reader: &mut Reader<'_, '_>) -> Option<Condition> {
    let family: Family = reader.optional("family")?;
    if family == Family::L2vpnEvpn {
        let fault = Fault::InvalidValue {
            key: "family".to_owned(),
            reason: "a destination is IPv4 or IPv6".to_owned(),
            example: "\"ipv4-unicast\" or \"ipv6-unicast\"; a peer has a policy of its own for EVPN".to_owned(),
        };
        reader.fault_at("family", fault);
        return None;
    }
    Some(Condition::V4(family == Family::Ipv4Unicast))
}

/// In the order in which they are made: what takes communities away comes before what adds them.
fn changes(reader: &mut Reader<'_, '_>) -> Vec<Change> {
    let all = [
        reader.optional("local-pref").map(Change::LocalPref),
        reader.optional("med").map(Change::Med),
        prepend(reader),
        reader.optional("origin").map(Change::Origin),
        reader.optional("next-hop").map(Change::NextHop),
        reader.list("communities").map(Change::SetCommunities),
        reader.list("remove-communities").map(Change::RemoveCommunities),
        reader.list("add-communities").map(Change::AddCommunities),
        reader.optional("tag").map(Change::Tag),
        reader.optional("weight").map(Change::Weight),
        reader.or("blackhole", false).then_some(Change::Blackhole),
    ];
    all.into_iter().flatten().collect()
}

/// A number of times, or a table that also says which AS.
fn prepend(reader: &mut Reader<'_, '_>) -> Option<Change> {
    const KEY: &str = "prepend";
    if !reader.is_table(KEY) {
        let count = reader.optional(KEY)?;
        return Some(Change::Prepend { asn: None, count });
    }
    let object = format!("prepend of {}", reader.object());
    reader.table(KEY, &object, |reader| {
        let (asn, count) = (reader.required("asn"), reader.optional("count").unwrap_or(1));
        Some(Change::Prepend { asn: Some(asn?), count })
    })
}
