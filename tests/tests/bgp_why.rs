//! `turnpike show bgp why` says of a prefix what decided about each path, what policy did, whether it forwards, and who is told.

use serde_json::{Value, json};
use turnpike_tests::topology::{FABRIC, FABRIC_V6, GATEWAY, PUBLIC, SERVER_PREFIXES};
use turnpike_tests::turnpiked::{Turnpiked, rows};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Topology, eventually};

/// Of fabric2: the server's network is changed, the rest refused.
const POLICIES: &str = r#"
[[bgp.prefix-set]]
name = "servers"
prefixes = [{ prefix = "198.51.100.0/24" }]

[[bgp.policy]]
name = "from-fabric2"
term = [
    { name = "servers", match = { prefix-set = "servers" }, set = { med = 7, add-communities = ["65010:7"] }, then = "accept" },
    { name = "rest", then = "reject" },
]
"#;

fn why(gateway: &Turnpiked, prefix: &str) -> Result<Value, String> {
    let text = gateway.cli(&["show", "bgp", "why", prefix, "--json"])?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

fn of<'v>(list: &'v Value, peer: &str) -> &'v Value {
    let found = rows(list).iter().find(|entry| entry["peer"] == peer);
    found.unwrap_or_else(|| panic!("nothing of {peer} in {list:#}"))
}

#[test]
fn each_decision_has_its_values_and_its_peer() {
    let net = Topology::new();
    let text = net.config_of_peers(&[(FABRIC[1], "import = \"from-fabric2\"\n")]) + POLICIES;
    let gateway = Turnpiked::start(&net.gateway, &text, &net.scratch);
    gateway.await_sessions(4);
    let prefix = SERVER_PREFIXES[0];
    eventually(SOON, || gateway.routed_via(prefix, FABRIC[0]));
    let told = eventually(SOON, || {
        let told = why(&gateway, prefix)?;
        let whole =
            rows(&told["paths"]).len() == 2 && told["published"] == true && told["kernel"]["state"] == "installed";
        ensure(whole, || format!("{told:#}"))?;
        Ok(told.clone())
    });

    let best = of(&told["paths"], FABRIC[0]);
    assert_eq!(best["best"], true, "{told:#}");
    assert_eq!(
        best["policy"],
        json!({"accepted": true, "decided_by": "everything", "changes": []}),
        "{told:#}"
    );
    assert_eq!(
        best["tracked"],
        json!({"address": FABRIC[0], "state": "reachable", "metric": 0}),
        "{told:#}"
    );
    let lost = of(&told["paths"], FABRIC[1]);
    let decided = json!({"step": "AS path length", "value": "3", "winner": "1", "winner_peer": FABRIC[0]});
    assert_eq!(lost["decided"], decided, "{told:#}");
    assert_eq!(
        lost["policy"]["decided_by"], "policy from-fabric2, term servers",
        "{told:#}"
    );
    let changes = json!([
        {"what": "MED", "before": "0", "after": "7"},
        {"what": "communities", "before": "", "after": "65010:7"},
    ]);
    assert_eq!(lost["policy"]["changes"], changes, "{told:#}");

    let forwards = &rows(&told["rib"])[0];
    assert_eq!(
        (&forwards["source"], &forwards["active"]),
        (&json!("ebgp"), &json!(true)),
        "{told:#}"
    );
    let reasons = [
        (FABRIC[0], "the best path came from it"),
        (FABRIC[1], "routes of peers are not passed on to it (advertise-learned)"),
        (FABRIC_V6[0], "the session does not carry the family"),
    ];
    for (peer, reason) in reasons {
        assert_eq!(of(&told["told"], peer)["reason"], reason, "{told:#}");
    }

    // What is announced is told to each, with the address of its session.
    let ours = eventually(SOON, || {
        let ours = why(&gateway, PUBLIC)?;
        ensure(of(&ours["told"], FABRIC[1])["waits"] == false, || format!("{ours:#}"))?;
        Ok(ours.clone())
    });
    for (peer, next_hop) in FABRIC.into_iter().zip(GATEWAY) {
        let entry = of(&ours["told"], peer);
        assert_eq!(
            (&entry["told"], &entry["next_hop"], &entry["as_path"]),
            (&json!(true), &json!(next_hop), &json!("65010")),
            "{ours:#}"
        );
    }

    let text = gateway.cli(&["show", "bgp", "why", prefix]).expect("answers");
    for line in [
        "AS path length: 3 against 1 of 192.0.2.0",
        "import: MED 0 became 7",
        "kernel: installed",
        "192.0.2.0: not told: the best path came from it",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    let nothing = gateway
        .cli(&["show", "bgp", "why", "192.0.2.128/25"])
        .expect_err("nobody announces it");
    assert!(nothing.contains("192.0.2.128/25"), "{nothing}");
}
