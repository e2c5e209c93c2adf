//! A policy of the configuration decides which router is preferred, what the fabric is told, and says so when asked.

use serde_json::Value;
use turnpike_tests::config::Memory;
use turnpike_tests::topology::{FABRIC, PUBLIC, SERVER_PREFIXES};
use turnpike_tests::turnpiked::{Turnpiked, rows};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

/// Prefers the router whose paths are longer, and marks what is announced.
const POLICIES: &str = r#"
[[bgp.prefix-set]]
name = "servers"
prefixes = [{ prefix = "198.51.100.0/24", le = 32 }]

[[bgp.as-path-set]]
name = "long-way"
patterns = ["^65002_65002_"]

[[bgp.policy]]
name = "from-fabric2"
term = [
    { name = "nothing-of-ours", match = { as-path-set = "long-way", med = 4242 }, then = "reject" },
    { name = "servers", match = { prefix-set = "servers" }, set = { local-pref = 200 }, then = "accept" },
]

[[bgp.policy]]
name = "to-fabric2"
default = "accept"
term = [{ name = "mark", set = { add-communities = ["65010:7"], prepend = 1 }, then = "accept" }]
"#;

/// The scenario's configuration, with the policies on the IPv4 session with fabric2.
fn config(net: &Topology) -> String {
    let text = net.config(Memory::NoHuge);
    let (before, session) = text
        .split_once(&format!("address = \"{}\"", FABRIC[1]))
        .expect("fabric2 is a peer");
    let session = session
        .replacen("import = \"accept\"", "import = \"from-fabric2\"", 1)
        .replacen("export = \"accept\"", "export = { ipv4-unicast = \"to-fabric2\" }", 1);
    format!("{before}address = \"{}\"{session}{POLICIES}", FABRIC[1])
}

fn asked(gateway: &Turnpiked, arguments: &[&str]) -> Value {
    let text = gateway.cli(arguments).expect("answers");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_policy_prefers_marks_and_explains() {
    let net = Topology::new();
    let gateway = Turnpiked::start(&net.gateway, &config(&net), &net.scratch);
    let prefix = SERVER_PREFIXES[0];
    eventually(SOON, || gateway.routed_via(prefix, FABRIC[1]));
    eventually(SOON, || {
        let path = gateway.bgp_path(prefix, FABRIC[0]);
        let reason = path.map_or(Value::Null, |path| path["reason"].clone());
        ensure(reason == "local preference", || format!("fabric1's path: {reason}"))
    });

    let routes = asked(&gateway, &["show", "bgp", "routes", prefix, "--json"]);
    let best = &rows(&routes)[0]["paths"][0];
    assert_eq!(best["local_pref"], 200, "{routes}");
    assert_eq!(best["changed_by_policy"], true, "{routes}");
    let shown = gateway.cli(&["show", "bgp", "routes", prefix]).expect("answers");
    assert!(shown.contains("not used: local preference"), "{shown}");

    let test = |more: &[&str]| {
        let fixed = ["policy", "test", "from-fabric2", "--prefix", prefix, "--json"];
        asked(&gateway, &[&fixed, more].concat())
    };
    let answer = test(&["--received-from", FABRIC[1]]);
    assert_eq!(answer["decided_by"], "term servers", "{answer}");
    assert_eq!(answer["after"]["local_pref"], 200, "{answer}");
    let answer = test(&["--received-from", FABRIC[1], "--med", "4242"]);
    assert_eq!(answer["accepted"], false, "{answer}");
    assert_eq!(answer["decided_by"], "term nothing-of-ours", "{answer}");
    let answer = test(&["--as-path", "65002 65002 65100", "--community", "no-export"]);
    assert_eq!(answer["terms"][0]["failed"], "med 4242", "{answer}");
    let refused = gateway.cli(&["policy", "test", "from-fabric", "--prefix", prefix]);
    let refused = refused.expect_err("no such policy");
    assert!(refused.contains("from-fabric2"), "{refused}");

    // fabric2 is told with a community and a longer path; fabric1 is not.
    let told = |router: usize| {
        let text = net.fabric_frr[router].vtysh(&[&format!("show bgp ipv4 unicast {PUBLIC} json")]);
        let shown: Value = serde_json::from_str(&text).unwrap_or_default();
        let paths = rows(&shown["paths"]).to_vec();
        let ours = paths.into_iter().find(|path| {
            path["aspath"]["string"]
                .as_str()
                .is_some_and(|p| p.starts_with("65010"))
        });
        ours.ok_or_else(|| format!("fabric{} has {shown}", router + 1))
    };
    eventually(SOON, || {
        let path = told(1)?;
        let as_wanted = path["aspath"]["string"] == "65010 65010" && path["community"]["string"] == "65010:7";
        ensure(as_wanted, || format!("fabric2 has {path}"))
    });
    let path = eventually(SOON, || told(0));
    assert_eq!(
        (&path["aspath"]["string"], &path["community"]),
        (&"65010".into(), &Value::Null),
        "{path}"
    );
}
