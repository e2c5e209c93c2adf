//! Reads `[bgp]`.

use net::Prefix;

use super::reader::Reader;
use crate::defaults;
use crate::model::{Action, Bgp, Peer, Policy, PrefixRule};

pub(super) fn bgp(reader: &mut Reader<'_, '_>) -> Option<Bgp> {
    let asn = reader.required("asn");
    let router_id = reader.required("router-id");
    let listen = reader.list("listen").unwrap_or_else(|| vec![defaults::bgp_listen()]);
    let announce = reader.list("announce").unwrap_or_default();
    let multipath = reader.optional("multipath").unwrap_or(defaults::MULTIPATH);
    let peers = reader.tables("peer", "bgp peer", "address", |reader| peer(reader, asn));
    Some(Bgp {
        asn: asn?,
        router_id: router_id?,
        listen,
        announce,
        multipath,
        peers,
    })
}

fn peer(reader: &mut Reader<'_, '_>, ours: Option<u32>) -> Option<Peer> {
    let address = reader.required("address");
    let asn = reader.required("asn");
    let port = reader.optional("port").unwrap_or(defaults::BGP_PORT);
    let passive = reader.or("passive", false);
    let hold_time = reader.optional("hold-time").unwrap_or(defaults::HOLD_TIME);
    let connect_retry = reader.optional("connect-retry").unwrap_or(defaults::CONNECT_RETRY);
    let families = reader.list("families").unwrap_or_else(|| defaults::FAMILIES.to_vec());
    let default = defaults::policy(asn == ours);
    let import = policy(reader, "import").unwrap_or(default.clone());
    let export = policy(reader, "export").unwrap_or(default);
    let max_prefixes = reader.optional("max-prefixes");
    let (address, asn) = (address?, asn?);
    Some(Peer {
        address,
        asn,
        port,
        passive,
        hold_time,
        connect_retry,
        families,
        import,
        export,
        max_prefixes,
    })
}

/// `"accept"`, `"deny"`, or a table of rules.
fn policy(reader: &mut Reader<'_, '_>, key: &'static str) -> Option<Policy> {
    if !reader.is_table(key) {
        return reader.optional(key).map(Policy::all);
    }
    let object = format!("{key} of {}", reader.object());
    let policy = reader.table(key, &object, |reader| {
        let rules = reader.tables("prefixes", "rule", "prefix", rule);
        Policy {
            rules,
            default: reader.or("default", Action::Deny),
        }
    });
    Some(policy)
}

/// Without `ge` and `le` the prefix alone; with `ge` alone all longer ones; with `le` alone from the prefix up to there.
fn rule(reader: &mut Reader<'_, '_>) -> Option<PrefixRule> {
    let prefix: Option<Prefix> = reader.required("prefix");
    let ge: Option<u8> = reader.optional("ge");
    let le: Option<u8> = reader.optional("le");
    let action = reader.or("action", Action::Accept);
    let prefix = prefix?;
    let longest = prefix.net().max_prefix_len();
    let le = le.unwrap_or(if ge.is_some() { longest } else { prefix.len() });
    Some(PrefixRule {
        prefix,
        ge: ge.unwrap_or(prefix.len()),
        le,
        action,
    })
}
