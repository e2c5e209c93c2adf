//! Reads `[bgp]`. Peer groups end here: a peer of the model says all that its group says.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::Prefix;
use net::policy::PrefixRange;

use super::policy;
use super::reader::Reader;
use crate::defaults;
use crate::fault::Fault;
use crate::model::{
    Action, Bfd, Bgp, Bmp, DynamicPeers, Family, Filter, GracefulRestart, Password, Peer, PeerAs, PeerPolicy,
    PrefixFilter, PrefixRule, Role, RpkiCache, UnnumberedPeer,
};
use crate::words::Word;

/// The section, and whether something is wrong with its sets or policies, so that nothing can be said to be absent.
pub(super) fn bgp(reader: &mut Reader<'_, '_>) -> (Option<Bgp>, bool) {
    let asn = reader.required("asn");
    let router_id = reader.required("router-id");
    let listen = reader.list("listen").unwrap_or_else(|| vec![defaults::bgp_listen()]);
    let announce = reader.list("announce").unwrap_or_default();
    let multipath = reader.optional("multipath").unwrap_or(defaults::MULTIPATH);
    let selection_deferral_time = reader.or("selection-deferral-time", defaults::SELECTION_DEFERRAL_TIME);
    let multipath_internal = reader.or("multipath-internal", defaults::MULTIPATH_INTERNAL);
    let always_compare_med = reader.or("always-compare-med", false);
    let prefer_oldest = reader.or("prefer-oldest", false);
    let advertise_installed = reader.or("advertise-installed", false);
    let [redistribute_connected, redistribute_static, redistribute_kernel] =
        ["redistribute-connected", "redistribute-static", "redistribute-kernel"].map(|key| reader.optional(key));
    let faults = reader.faults();
    let policies = policy::policies(reader);
    let incomplete = reader.faults() > faults;
    let groups = groups(reader);
    let peers = reader.tables("peer", "bgp peer", "address", |reader| peer(reader, &groups));
    let dynamic = reader.tables("dynamic", "bgp dynamic", "prefix", |reader| dynamic(reader, &groups));
    let unnumbered = reader.tables("unnumbered", "bgp unnumbered", "interface", |reader| {
        unnumbered(reader, &groups)
    });
    let bmp = reader.tables("bmp", "bgp bmp", "collector", bmp);
    let rpki = reader.tables("rpki", "bgp rpki", "cache", rpki);
    let bgp = asn.zip(router_id).map(|(asn, router_id)| Bgp {
        asn,
        router_id,
        listen,
        announce,
        redistribute_connected,
        redistribute_static,
        redistribute_kernel,
        multipath,
        advertise_installed,
        always_compare_med,
        multipath_internal,
        prefer_oldest,
        selection_deferral_time,
        policies,
        peers,
        dynamic,
        bmp,
        rpki,
        unnumbered,
    });
    (bgp, incomplete)
}

/// What a peer may say itself or leave to its group.
#[derive(Clone)]
struct Settings {
    asn: Option<PeerAs>,
    port: u16,
    local_address: Option<IpAddr>,
    password: Option<Password>,
    ttl_security: Option<u8>,
    multihop: Option<u8>,
    passive: bool,
    advertise_learned: bool,
    hold_time: u16,
    send_hold_time: u32,
    connect_retry: u16,
    families: Vec<Family>,
    import: Option<PeerPolicy>,
    export: Option<PeerPolicy>,
    max_prefixes: Option<u32>,
    max_prefixes_warn: u8,
    max_prefixes_restart: Option<u32>,
    graceful_restart: GracefulRestart,
    restart_time: u16,
    stale_time: u32,
    long_lived_stale_time: u32,
    role: Option<Role>,
    strict_role: bool,
    bfd: Option<Bfd>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            asn: None,
            port: defaults::BGP_PORT,
            local_address: None,
            password: None,
            ttl_security: None,
            multihop: None,
            passive: false,
            advertise_learned: false,
            hold_time: defaults::HOLD_TIME,
            send_hold_time: defaults::SEND_HOLD_TIME,
            connect_retry: defaults::CONNECT_RETRY,
            families: defaults::FAMILIES.to_vec(),
            import: None,
            export: None,
            max_prefixes: None,
            max_prefixes_warn: defaults::MAX_PREFIXES_WARN,
            max_prefixes_restart: None,
            graceful_restart: defaults::GRACEFUL_RESTART,
            restart_time: defaults::RESTART_TIME,
            stale_time: defaults::STALE_TIME,
            long_lived_stale_time: defaults::LONG_LIVED_STALE_TIME,
            role: None,
            strict_role: false,
            bfd: None,
        }
    }
}

/// Reads every key that a group and a peer share; one that is absent is as in `base`.
fn settings(reader: &mut Reader<'_, '_>, base: Settings) -> Settings {
    let (ttl_security, multihop) = distance(reader, &base);
    Settings {
        asn: reader.optional("asn").or(base.asn),
        port: reader.or("port", base.port),
        local_address: reader.optional("local-address").or(base.local_address),
        password: reader.optional("password").or(base.password),
        ttl_security,
        multihop,
        passive: reader.or("passive", base.passive),
        advertise_learned: reader.or("advertise-learned", base.advertise_learned),
        hold_time: reader.or("hold-time", base.hold_time),
        send_hold_time: reader.or("send-hold-time", base.send_hold_time),
        connect_retry: reader.or("connect-retry", base.connect_retry),
        families: reader.list("families").unwrap_or(base.families),
        import: peer_policy(reader, "import").or(base.import),
        export: peer_policy(reader, "export").or(base.export),
        max_prefixes: reader.optional("max-prefixes").or(base.max_prefixes),
        max_prefixes_warn: reader.or("max-prefixes-warn", base.max_prefixes_warn),
        max_prefixes_restart: reader.optional("max-prefixes-restart").or(base.max_prefixes_restart),
        graceful_restart: reader.or("graceful-restart", base.graceful_restart),
        restart_time: reader.or("restart-time", base.restart_time),
        stale_time: reader.or("stale-time", base.stale_time),
        long_lived_stale_time: reader.or("long-lived-stale-time", base.long_lived_stale_time),
        role: reader.optional("role").or(base.role),
        strict_role: reader.or("strict-role", base.strict_role),
        bfd: bfd(reader, base.bfd),
    }
}

/// What the table leaves out is as in the group.
fn bfd(reader: &mut Reader<'_, '_>, base: Option<Bfd>) -> Option<Bfd> {
    if !reader.has("bfd") {
        return reader.absent("bfd").or(base);
    }
    let (object, base) = (format!("bfd of {}", reader.object()), base.unwrap_or(defaults::BFD));
    Some(reader.table("bfd", &object, |reader| Bfd {
        min_tx_ms: reader.or("min-tx-ms", base.min_tx_ms),
        min_rx_ms: reader.or("min-rx-ms", base.min_rx_ms),
        multiplier: reader.or("multiplier", base.multiplier),
    }))
}

/// Either of the two limits of distance replaces both of the group's.
fn distance(reader: &mut Reader<'_, '_>, base: &Settings) -> (Option<u8>, Option<u8>) {
    match (reader.optional("ttl-security"), reader.optional("multihop")) {
        (None, None) => (base.ttl_security, base.multihop),
        own => own,
    }
}

fn groups(reader: &mut Reader<'_, '_>) -> BTreeMap<String, Settings> {
    let mut groups = BTreeMap::new();
    reader.tables("peer-group", "bgp peer-group", "name", |reader| {
        let name: Option<String> = reader.required("name");
        let settings = settings(reader, Settings::default());
        let name = name?;
        if groups.contains_key(&name) {
            let fault = Fault::PeerGroupTwice { name: name.clone() };
            reader.fault_at("name", fault);
        }
        groups.insert(name, settings);
        Some(())
    });
    groups
}

fn peer(reader: &mut Reader<'_, '_>, groups: &BTreeMap<String, Settings>) -> Option<Peer> {
    let address = reader.required("address");
    let peer = member(reader, groups);
    Some(Peer {
        address: address?,
        ..peer?
    })
}

fn dynamic(reader: &mut Reader<'_, '_>, groups: &BTreeMap<String, Settings>) -> Option<DynamicPeers> {
    let prefix: Option<Prefix> = reader.required("prefix");
    let limit = reader.or("limit", defaults::DYNAMIC_PEERS);
    let template = member(reader, groups);
    let (prefix, template) = (prefix?, template?);
    Some(DynamicPeers {
        prefix,
        limit,
        template: Peer {
            address: prefix.net().network(),
            passive: true,
            ..template
        },
    })
}

fn unnumbered(reader: &mut Reader<'_, '_>, groups: &BTreeMap<String, Settings>) -> Option<UnnumberedPeer> {
    let interface = reader.required("interface");
    let template = member(reader, groups);
    let (interface, template) = (interface?, template?);
    Some(UnnumberedPeer {
        interface,
        template: Peer {
            address: Ipv6Addr::UNSPECIFIED.into(),
            ..template
        },
    })
}

fn rpki(reader: &mut Reader<'_, '_>) -> Option<RpkiCache> {
    let cache = reader.required("cache");
    let preference = reader.or("preference", defaults::RPKI_PREFERENCE);
    Some(RpkiCache {
        cache: cache?,
        preference,
    })
}

fn bmp(reader: &mut Reader<'_, '_>) -> Option<Bmp> {
    let collector = reader.required("collector");
    let (pre_policy, post_policy) = (reader.or("pre-policy", true), reader.or("post-policy", true));
    let statistics_interval = reader.or("statistics-interval", defaults::STATISTICS_INTERVAL);
    Some(Bmp {
        collector: collector?,
        pre_policy,
        post_policy,
        statistics_interval,
    })
}

/// What a peer, or each of a range, says itself and leaves to its group; its address is the caller's to say.
fn member(reader: &mut Reader<'_, '_>, groups: &BTreeMap<String, Settings>) -> Option<Peer> {
    let group: Option<String> = reader.optional("group");
    let base = match &group {
        None => Settings::default(),
        Some(name) => groups.get(name).cloned().unwrap_or_else(|| {
            let fault = Fault::NoPeerGroup { name: name.clone() };
            reader.fault_at("group", fault);
            Settings::default()
        }),
    };
    let settings = settings(reader, base);
    if settings.asn.is_none() && !reader.has("asn") {
        let object = reader.object();
        reader.fault(Fault::MissingKey { object, key: "asn" });
    }
    let asn = settings.asn?;
    Some(Peer {
        address: Ipv4Addr::UNSPECIFIED.into(),
        asn,
        port: settings.port,
        local_address: settings.local_address,
        password: settings.password,
        ttl_security: settings.ttl_security,
        multihop: settings.multihop,
        passive: settings.passive,
        advertise_learned: settings.advertise_learned,
        hold_time: settings.hold_time,
        send_hold_time: settings.send_hold_time,
        connect_retry: settings.connect_retry,
        import: settings.import.unwrap_or_default().for_families(&settings.families),
        export: settings.export.unwrap_or_default().for_families(&settings.families),
        families: settings.families,
        max_prefixes: settings.max_prefixes,
        max_prefixes_warn: settings.max_prefixes_warn,
        max_prefixes_restart: settings.max_prefixes_restart,
        graceful_restart: settings.graceful_restart,
        restart_time: settings.restart_time,
        stale_time: settings.stale_time,
        long_lived_stale_time: settings.long_lived_stale_time,
        role: settings.role,
        strict_role: settings.strict_role,
        bfd: settings.bfd,
    })
}

const IPV4: &str = "ipv4-unicast";
const IPV6: &str = "ipv6-unicast";
const EVPN: &str = "l2vpn-evpn";

/// One policy for every family, or a table with one for each.
fn peer_policy(reader: &mut Reader<'_, '_>, key: &'static str) -> Option<PeerPolicy> {
    if !reader.has_inside(key, &[IPV4, IPV6, EVPN]) {
        return filter(reader, key).map(PeerPolicy::all);
    }
    let object = format!("{key} of {}", reader.object());
    Some(reader.table(key, &object, |reader| PeerPolicy {
        ipv4_unicast: filter(reader, IPV4),
        ipv6_unicast: filter(reader, IPV6),
        l2vpn_evpn: filter(reader, EVPN),
    }))
}

/// `"accept"`, `"deny"`, the name of a policy, or a table of rules.
fn filter(reader: &mut Reader<'_, '_>, key: &'static str) -> Option<Filter> {
    if !reader.is_table(key) {
        let word: String = reader.optional(key)?;
        return Some(match Action::from_word(&word) {
            Some(action) => Filter::Rules(PrefixFilter::all(action)),
            None => Filter::Named(word),
        });
    }
    let object = format!("{key} of {}", reader.object());
    let filter = reader.table(key, &object, |reader| PrefixFilter {
        rules: reader.tables("prefixes", "rule", "prefix", rule),
        default: reader.or("default", Action::Deny),
    });
    Some(Filter::Rules(filter))
}

fn rule(reader: &mut Reader<'_, '_>) -> Option<PrefixRule> {
    let range = policy::range(reader);
    let action = reader.or("action", Action::Accept);
    let PrefixRange { prefix, ge, le } = range?;
    Some(PrefixRule { prefix, ge, le, action })
}
