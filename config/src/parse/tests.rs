//! What reading a file yields: defaults, and the faults of single values.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::{Action, Config, Filter, PeerPolicy, PrefixFilter, PrefixRule, RouteTarget, Via};
use crate::{Candidate, Error};

const EXAMPLE: &str = include_str!("../../turnpike.example.toml");

fn checked(text: &str) -> Config {
    Candidate::new("test.toml", text)
        .check()
        .map(crate::Checked::into_config)
        .map_err(|e| e.to_string())
        .expect("valid")
}

/// Each problem as `line:column: what (remedy)`.
fn problems(text: &str) -> Vec<String> {
    let error = Candidate::new("t", text).check().expect_err("refused");
    assert!(matches!(error, Error::Invalid(_)));
    error
        .to_string()
        .lines()
        .skip(1)
        .map(|line| line.trim_start_matches("t:").to_owned())
        .collect()
}

#[test]
fn smallest_file_is_all_defaults() {
    let config = checked("[gateway]\nname = \"a\"\n");
    assert_eq!(config.dataplane.workers, [0]);
    assert_eq!(config.dataplane.connections, 65_536);
    assert_eq!(
        (config.kernel.table, config.kernel.protocol, config.kernel.metric),
        (254, 212, 10)
    );
    assert_eq!(config.kernel.audit_interval, 30);
    assert_eq!((config.rib.batch.size, config.rib.large_batch.size), (4_096, 200_000));
    assert_eq!((config.rib.distance.fixed, config.rib.distance.ibgp), (1, 200));
    assert_eq!((config.nat.timers.tcp_established, config.nat.pick_up), (7440, 120));
    assert_eq!(config.api.socket.to_str(), Some("/run/turnpike/api.sock"));
    assert!(config.bgp.is_none() && config.vxlan.is_none() && config.ports.is_empty());
}

#[test]
fn timers_of_a_vpc_are_those_of_all_where_it_says_nothing() {
    let text = "[gateway]\nname = \"a\"\n[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n\
                [[vpc]]\nid = 1\nname = \"red\"\nvlan = { port = \"p\", id = 5 }\naddresses = [\"10.0.0.1/24\"]\n\
                [nat.timers]\nudp = 30\n[[nat.vpc-timers]]\nvpc = \"red\"\nicmp = 5\n";
    let config = checked(text);
    let timers = &config.nat.vpc_timers[0].timers;
    assert_eq!((timers.udp, timers.icmp, timers.other), (30, 5, 600));
    assert_eq!(config.nat.timers.icmp, 60);
}

#[test]
fn a_static_route_without_a_distance_takes_that_of_its_source() {
    let text = "[gateway]\nname = \"a\"\n[rib.distance]\nstatic = 7\n\
                [[route]]\nprefix = \"10.0.0.0/8\"\nkind = \"blackhole\"\n\
                [[route]]\nprefix = \"11.0.0.0/8\"\nkind = \"blackhole\"\ndistance = 9\n";
    let distances: Vec<u8> = checked(text).routes.iter().map(|route| route.distance).collect();
    assert_eq!(distances, [7, 9]);
}

#[test]
fn a_next_hop_is_an_address_or_a_table() {
    let text = "[gateway]\nname = \"a\"\n[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n\
                [[route]]\nprefix = \"2001:db8::/32\"\n\
                via = [\"2001:db8:1::1\", { gateway = \"fe80::1\", interface = \"p\", weight = 3 }, { interface = \"p\" }]\n";
    let config = checked(text);
    let RouteTarget::Via(hops) = &config.routes[0].target else {
        panic!("{:?}", config.routes[0])
    };
    let on_link = Via {
        gateway: None,
        interface: Some("p".to_owned()),
        vrf: None,
        weight: 1,
    };
    let link_local = Via {
        gateway: Some("fe80::1".parse().expect("valid")),
        weight: 3,
        ..on_link.clone()
    };
    let plain = Via::gateway("2001:db8:1::1".parse().expect("valid"));
    assert_eq!(*hops, [on_link, plain, link_local]);
    let wrong = |via: &str| problems(&text.replace("{ interface = \"p\" }", via));
    for (via, reason) in [
        ("\"fe80::2\"", "fe80::2 is link-local, and no interface is named"),
        ("{ weight = 2 }", "a next hop names neither a gateway nor an interface"),
        ("{ interface = \"q\" }", "there is no port or VPC `q`"),
        ("{ gateway = \"10.0.0.1\" }", "is of the other address family"),
        ("{ gateway = \"2001:db8::1\", weight = 0 }", "weight 0 is out of range"),
        (
            "{ gateway = \"2001:db8::1\", metric = 0 }",
            "a next hop has no `metric`",
        ),
        ("{ gateway = \"2001:db8::1\", vrf = \"red\" }", "red"),
        ("{ gateway = 5 }", "`gateway` is a whole number"),
    ] {
        let problems = wrong(via);
        assert!(
            problems.len() == 1 && problems[0].contains(reason),
            "{via}: {problems:?}"
        );
    }
}

#[test]
fn example_is_valid() {
    let config = checked(EXAMPLE);
    assert_eq!(
        config.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(),
        ["fabric", "tenants"]
    );
    assert_eq!(config.ports[1].host_interface, "tp-tenants");
    assert_eq!(config.vpcs[1].mac.to_string(), "02:54:50:00:00:02");
    let bgp = config.bgp.expect("configured");
    let rule = |prefix: &str, ge, le, action| PrefixRule {
        prefix: prefix.parse().expect("valid"),
        ge,
        le,
        action,
    };
    let rules = vec![
        rule("10.66.0.0/16", 16, 16, Action::Deny),
        rule("0.0.0.0/0", 0, 24, Action::Accept),
    ];
    assert_eq!(
        bgp.peers[0].import,
        PeerPolicy::all(Filter::Rules(PrefixFilter {
            rules,
            default: Action::Deny
        }))
    );
    let by_family = PeerPolicy {
        ipv4_unicast: Some(Filter::Named("to-fabric".into())),
        ipv6_unicast: Some(Filter::Rules(PrefixFilter::all(Action::Accept))),
        l2vpn_evpn: Some(Filter::Rules(PrefixFilter::all(Action::Accept))),
    };
    assert_eq!(bgp.peers[0].export, by_family);
    let terms = &bgp.policies.policies[0].terms;
    let texts: Vec<String> = terms[2]
        .changes
        .iter()
        .map(|change| format!("{} {}", change.key(), change.value()))
        .collect();
    assert_eq!(
        texts,
        [
            "local-pref 200",
            "next-hop self",
            "communities 65001:1",
            "remove-communities 65001:*",
            "add-communities no-export"
        ]
    );
    assert_eq!(
        (terms[3].conditions.len(), terms[3].then),
        (0, net::policy::Then::Accept)
    );
}

#[test]
fn example_shows_every_key() {
    let mut sink = Sink::default();
    let root = DeTable::parse(EXAMPLE).expect("TOML");
    let mut reader = Reader::root(root.get_ref(), &mut sink);
    config(&mut reader);
    reader.finish();
    // A group, a range and an unnumbered peer have the keys of a peer, which the example shows there.
    let plain = |path: &str| {
        let path = path
            .replace("bgp.peer-group", "bgp.peer")
            .replace("bgp.dynamic", "bgp.peer")
            .replace("bgp.unnumbered", "bgp.peer");
        path.split(['[', ']']).step_by(2).collect::<String>()
    };
    let shown: BTreeSet<_> = sink.spans.paths().map(plain).collect();
    let asked: BTreeSet<_> = sink.asked.iter().map(|path| plain(path)).collect();
    assert!(asked.len() > 80, "keys are recorded: {}", asked.len());
    assert_eq!(asked.difference(&shown).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn a_peer_says_what_its_group_does_not_and_what_it_wants_otherwise() {
    let config = checked(
        r#"
[gateway]
name = "gw1"
[[port]]
name = "fabric"
device = "net_tap0"
[bgp]
asn = 65001
router-id = "192.0.2.1"
[[bgp.peer-group]]
name = "spines"
asn = 65000
hold-time = 9
multihop = 3
import = "accept"
[[bgp.peer]]
address = "192.0.2.2"
group = "spines"
[[bgp.peer]]
address = "192.0.2.4"
group = "spines"
asn = 65001
hold-time = 30
ttl-security = 1
[[bgp.peer]]
address = "192.0.2.6"
asn = 65002
[[bgp.dynamic]]
prefix = "10.1.0.0/16"
group = "spines"
limit = 8
[[bgp.unnumbered]]
interface = "fabric"
group = "spines"
asn = "external"
"#,
    );
    let bgp = config.bgp.expect("configured");
    let said = |index: usize| {
        let peer = &bgp.peers[index];
        (peer.asn.number(), peer.hold_time, peer.multihop, peer.ttl_security)
    };
    assert_eq!(said(0), (Some(65000), 9, Some(3), None));
    assert_eq!(said(1), (Some(65001), 30, None, Some(1)));
    assert_eq!(said(2), (Some(65002), 90, None, None));
    let accepts = PeerPolicy::all(Filter::Rules(PrefixFilter::all(Action::Accept))).for_families(&[]);
    assert_eq!((&bgp.peers[0].import, &bgp.peers[1].import), (&accepts, &accepts));
    assert_eq!(bgp.peers[2].import, PeerPolicy::default());
    let unnumbered = &bgp.unnumbered[0];
    assert_eq!(
        (
            unnumbered.interface.as_str(),
            unnumbered.template.asn,
            unnumbered.template.hold_time
        ),
        ("fabric", crate::PeerAs::External, 9)
    );
    let dynamic = &bgp.dynamic[0];
    assert_eq!(
        (dynamic.limit, dynamic.template.hold_time, dynamic.template.passive),
        (8, 9, true)
    );
}

#[test]
fn bfd_of_a_peer_fills_up_from_its_group_and_then_from_the_defaults() {
    let text = r#"
        gateway.name = "a"
        [bgp]
        asn = 65001
        router-id = "192.0.2.1"
        peer-group = [{ name = "fast", asn = 65000, bfd = { min-tx-ms = 50, min-rx-ms = 60 } }]
        peer = [
            { address = "192.0.2.8", group = "fast" },
            { address = "192.0.2.9", group = "fast", bfd = { min-rx-ms = 100, multiplier = 5 } },
            { address = "192.0.2.10", asn = 65000, bfd = {} },
            { address = "192.0.2.11", asn = 65000 },
        ]
    "#;
    let bgp = checked(text).bgp.expect("configured");
    let bfd = |index: usize| {
        let bfd = bgp.peers[index].bfd;
        bfd.map(|bfd| (bfd.min_tx_ms, bfd.min_rx_ms, bfd.multiplier))
    };
    assert_eq!(bfd(0), Some((50, 60, 3)));
    assert_eq!(bfd(1), Some((50, 100, 5)));
    assert_eq!(bfd(2), Some((300, 300, 3)));
    assert_eq!(bfd(3), None);
}

#[test]
fn a_peer_has_no_policy_by_default() {
    let text = r#"
        gateway.name = "a"
        [bgp]
        asn = 65001
        router-id = "192.0.2.1"
        peer = [{ address = "192.0.2.8", asn = 65000 }, { address = "192.0.2.9", asn = 65001 }]
    "#;
    let bgp = checked(text).bgp.expect("configured");
    assert_eq!(bgp.listen, ["[::]:179".parse().expect("valid")]);
    let defaults: Vec<_> = bgp.peers.iter().map(|peer| (&peer.import, &peer.export)).collect();
    let none = PeerPolicy::default();
    assert_eq!(
        defaults,
        [(&none, &none), (&none, &none)],
        "the speaker knows what that means"
    );
}

#[test]
fn every_fault_of_single_values_is_reported_with_its_place() {
    let text = r#"[gateway]
nmae = "a"
[dataplane]
workers = ["0", 70000, 1]
poll = "lazy"
memory-mb = 1
[[port]]
name = "p0"
device = 5
mac = "02:00"
addresses = ["192.0.2.1", "2001:db8::1/64"]
[[port]]
device = "net_tap0"
mtu = 1.5
[[vpc]]
id = 0
name = "red"
[[vpc]]
id = 2
name = "blue"
vni = 16777216
vlan = { port = "p0", id = 4095, tag = 1 }
[[route]]
prefix = "10.0.0.1/8"
vrf = "blu"
via = ["192.0.2.9"]
kind = "reject"
[[route]]
prefix = "10.0.0.0/8"
[bgp]
asn = -1
[nat]
masquerade = [{ vpc = "red", pool = ["2001:db8::/32.5"], ports = "9-1" }]
port-forward = { }
[apis]
"#;
    assert_eq!(problems(text), EXPECTED_FAULTS.lines().collect::<Vec<_>>());
}

const EXPECTED_FAULTS: &str = r#"1:1: [gateway] has no `name` (add `name = …`)
2:1: [gateway] has no key `nmae` (did you mean `name`?)
4:12: `workers` is a text, not a whole number (write a number, without quotes)
4:17: `workers`: 70000 is out of range (write a number from 0 to 65535)
5:8: `poll`: there is no `lazy` (write "adaptive" or "busy")
6:13: `memory-mb`: 1 is out of range (write a number from 64 to 1048576)
9:10: `device` is a whole number, not a text (write a text in quotes)
10:7: `mac`: `02:00` is not a MAC address (write six hexadecimal bytes, as in "02:00:00:00:00:01")
11:14: `addresses`: `192.0.2.1` is not an address with the length of its subnet (write "192.0.2.1/31" or "2001:db8::1/64")
12:1: port number 2 has no `name` (add `name = …`)
14:7: `mtu` is a fraction, not a whole number (write a number, without quotes)
15:1: vpc `red` has none of `vni`, `vlan` (give exactly one of `vni`, `vlan`)
16:6: `id`: 0 is out of range (write a number from 1 to 65535)
21:7: `vni`: 16777216 is out of range (write a number from 1 to 16777215)
22:8: vpc `blue` has more than one of `vni`, `vlan` (give exactly one of `vni`, `vlan`)
22:28: `id`: 4095 is out of range (write a number from 1 to 4094)
22:34: vlan of vpc `blue` has no key `tag` (the keys are id, port)
24:10: `prefix`: `10.0.0.1/8` has host bits set (write "10.0.0.0/8")
25:7: no vrf is called `blu` (did you mean `blue`?)
27:8: `kind`: there is no `reject` (write "blackhole" or "unreachable" or "prohibit")
27:8: route `10.0.0.1/8` has more than one of `via`, `in-vrf`, `kind` (give exactly one of `via`, `in-vrf`, `kind`)
28:1: route `10.0.0.0/8` has none of `via`, `in-vrf`, `kind` (give exactly one of `via`, `in-vrf`, `kind`)
30:1: [bgp] has no `router-id` (add `router-id = …`)
31:7: `asn`: -1 is out of range (write a number from 0 to 4294967295)
33:38: `pool`: `2001:db8::/32.5` is not a prefix (write a prefix such as "10.0.0.0/8" or "2001:db8::/32")
33:66: `ports`: `9-1` is not a range of ports (write "1024-65535", lowest port first, without port 0)
34:16: `port-forward` is a table, not a list of tables (write [[…]] before each)
35:2: the file has no key `apis` (did you mean `api`?)"#;

#[test]
fn syntax_is_reported_with_its_place() {
    let expected = "2:10: syntax: invalid basic string, expected `\"` (the file is TOML: https://toml.io)";
    assert_eq!(problems("[gateway]\nname = \"a\nx = 1\n"), [expected]);
}

#[test]
fn report_shows_the_snippet() {
    let error = Candidate::new("gw.toml", "[gateway]\nnmae = \"a\"\n")
        .check()
        .expect_err("refused");
    let mut shown = String::new();
    let theme = miette::GraphicalTheme::unicode_nocolor();
    miette::GraphicalReportHandler::new_themed(theme)
        .render_report(&mut shown, &error)
        .expect("renders");
    assert!(
        shown.contains("[gw.toml:2:1]") && shown.contains("did you mean `name`?"),
        "{shown}"
    );
}

#[test]
fn file_that_is_not_there_is_named() {
    let error = Candidate::read(std::path::Path::new("/nonexistent/gw.toml")).expect_err("absent");
    assert!(
        error
            .to_string()
            .starts_with("cannot read the configuration /nonexistent/gw.toml: "),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Lines of the example lost, doubled, moved, or with a word replaced: refused or not, but never a panic, and every
    /// problem has a place inside the file.
    #[test]
    fn mangled_files_never_panic(
        lines in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), mangle()), 1..6)
    ) {
        let mut text: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
        for (from, to, mangle) in lines {
            let line = text.remove(from.index(text.len()));
            let line = mangle.map_or(line.clone(), |word| {
                let mut words: Vec<_> = line.split(' ').collect();
                let position = to.index(words.len());
                words[position] = &word;
                words.join(" ")
            });
            text.insert(to.index(text.len()), line);
        }
        let text = text.join("\n");
        if let Err(Error::Invalid(invalid)) = Candidate::new("t", text.clone()).check() {
            prop_assert!(!invalid.problems().is_empty());
            for problem in invalid.problems() {
                let place = problem.place().expect("of a file");
                prop_assert!(place.span.end <= text.len() && place.line <= text.lines().count() + 1);
            }
        }
    }
}

/// Nothing, or a word to put in a line.
fn mangle() -> impl Strategy<Value = Option<String>> {
    let words = [
        "0",
        "-1",
        "99999999999999999999999",
        "\"\"",
        "[]",
        "{}",
        "nan",
        "1979-05-27",
        "\"é/0\"",
        "\"::/0\"",
        "vrf",
        "\"\\u0000\"",
    ];
    prop::option::of(prop_oneof![
        prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        "\\PC{0,6}"
    ])
}
