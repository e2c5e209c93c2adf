//! Policies against FRR's bgpd: what ours set is what FRR shows, what FRR sets is what ours match, and without a policy
//! nothing passes.
//!
//! Needs root, iproute2 and FRR (`/usr/lib/frr`); fails with a clear message where one is missing.

mod lab;

use std::sync::Arc;

use bgp::{Event, PathView, Policy, PolicyQuestion, PolicyTable, Speaker, SpeakerConfig};
use lab::{FRR_V4, Lab, eventually, speaker_config};
use net::Prefix;
use net::policy::{
    AsPathSet, Change, CommunitySet, Condition, MedChange, Origin, Policies, PrefixRange, PrefixSet, Term, Then,
};
use serde_json::Value;
use tokio::sync::mpsc;

/// What FRR announces: a prefix for each thing that the import policy looks for. NO_EXPORT is added on the way out, since
/// FRR would keep the route to itself.
const BGPD_CONF: &str = "
route-map marked permit 10
 set community 65001:100
 set large-community 65001:1:2
 set extcommunity rt 65001:7
 set metric 30
route-map long permit 10
 set as-path prepend 65030 65020
route-map going permit 10
 set community graceful-shutdown
router bgp 65001
 address-family ipv4 unicast
  network 10.50.1.0/24 route-map marked
  network 10.50.2.0/24 route-map long
  network 10.50.3.0/24 route-map going
  network 10.60.0.0/24
  neighbor 10.99.0.1 send-community all
  neighbor 10.99.0.1 route-map out out
 exit-address-family
ip prefix-list marked permit 10.50.1.0/24
route-map out permit 10
 match ip address prefix-list marked
 set community no-export additive
route-map out permit 20
";

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

fn term(name: &str, conditions: Vec<Condition>, changes: Vec<Change>, then: Then) -> Term {
    Term {
        name: name.to_owned(),
        conditions,
        changes,
        then,
    }
}

fn policies() -> Policies {
    let policy = |name: &str, terms| net::policy::Policy {
        name: name.to_owned(),
        terms,
        accept_by_default: false,
    };
    let community = |text: &str| text.parse().expect("community");
    Policies {
        prefix_sets: vec![PrefixSet {
            name: "fifty".into(),
            prefixes: vec![PrefixRange {
                prefix: prefix("10.50.0.0/16"),
                ge: 24,
                le: 24,
            }],
        }],
        as_path_sets: vec![AsPathSet {
            name: "behind-65020".into(),
            patterns: vec!["^65001_.*_65020$".parse().expect("pattern")],
        }],
        community_sets: vec![CommunitySet {
            name: "marked".into(),
            communities: ["65001:*", "no-export", "65001:1:*", "rt:65001:7"]
                .map(|text| text.parse().expect("pattern"))
                .to_vec(),
        }],
        policies: vec![
            policy(
                "in",
                vec![
                    term(
                        "marked",
                        vec![Condition::CommunityAll("marked".into()), Condition::Med(30)],
                        vec![Change::LocalPref(300), Change::Med(MedChange::Add(5))],
                        Then::Accept,
                    ),
                    term(
                        "long",
                        vec![Condition::AsPathSet("behind-65020".into())],
                        vec![Change::Weight(9)],
                        Then::Accept,
                    ),
                    term("rest", vec![Condition::PrefixSet("fifty".into())], vec![], Then::Accept),
                ],
            ),
            policy(
                "out",
                vec![term(
                    "mark",
                    vec![],
                    vec![
                        Change::Med(MedChange::Set(77)),
                        Change::Prepend { asn: None, count: 2 },
                        Change::Origin(Origin::Incomplete),
                        Change::AddCommunities(
                            ["65000:5", "graceful-shutdown", "65000:6:7", "rt:65000:8"]
                                .map(community)
                                .to_vec(),
                        ),
                    ],
                    Then::Accept,
                )],
            ),
        ],
    }
}

fn with_policies() -> SpeakerConfig {
    let mut config = speaker_config();
    config.originate = vec![prefix("203.0.113.0/24")];
    config.policies = PolicyTable::compile(&policies()).expect("compiles");
    let named = |name| Policy::Program(Arc::clone(config.policies.get(name).expect("there")));
    (config.peers[0].import, config.peers[0].export) = (named("in"), named("out"));
    config
}

async fn start(config: SpeakerConfig) -> (Speaker, mpsc::Receiver<Event>) {
    // Room for all: nobody reads.
    let (sender, events) = mpsc::channel(1024);
    (Speaker::start(config, sender).await.expect("speaker starts"), events)
}

async fn path(speaker: &Speaker, of: &str) -> Option<PathView> {
    Some(speaker.routes(Some(prefix(of))).await.first()?.paths.first()?.clone())
}

#[test]
fn attributes_are_matched_and_set_both_ways() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(BGPD_CONF);
        let mut bgpd = lab.start_bgpd();
        let (speaker, _events) = start(with_policies()).await;
        eventually("FRR's routes are here", async || {
            path(&speaker, "10.60.0.0/24").await.is_some() && path(&speaker, "10.50.3.0/24").await.is_some()
        })
        .await;
        let marked = path(&speaker, "10.50.1.0/24").await.expect("received");
        assert_eq!(
            (marked.best, marked.local_pref, marked.med),
            (true, Some(300), Some(35))
        );
        assert!(marked.changed_by_policy);
        assert_eq!(marked.communities, ["65001:100", "no-export"]);
        assert_eq!(marked.large_communities, ["65001:1:2"]);
        assert_eq!(marked.extended_communities, ["rt:65001:7"]);
        let long = path(&speaker, "10.50.2.0/24").await.expect("received");
        assert_eq!((long.as_path.as_str(), long.weight), ("65001 65030 65020", 9));
        let going = path(&speaker, "10.50.3.0/24").await.expect("received");
        assert_eq!((going.best, going.local_pref), (true, Some(0)));
        let denied = path(&speaker, "10.60.0.0/24").await.expect("kept");
        assert_eq!(
            denied.reason.as_deref(),
            Some("denied by import policy: policy in, its default")
        );

        let mut question = PolicyQuestion::new("in", prefix("10.50.1.0/24"));
        question.received_from = Some(FRR_V4.parse().expect("ip"));
        let answer = speaker.test_policy(question.clone()).await.expect("answers");
        assert_eq!((answer.accepted, answer.decided_by.as_str()), (true, "term marked"));
        assert_eq!(
            (answer.before.med, answer.after.expect("passes").med),
            (Some(30), Some(35))
        );
        question.policy = "inn".into();
        let error = speaker.test_policy(question).await.expect_err("no such policy");
        assert_eq!(error.to_string(), "there is no policy `inn`; the policies are in, out");

        eventually("FRR shows what we set", async || {
            let shown = lab.vtysh("show bgp ipv4 unicast 203.0.113.0/24 json").await;
            let path = &shown["paths"][0];
            path["aspath"]["string"] == "65000 65000 65000"
                && path["metric"] == 77
                && path["origin"] == "incomplete"
                && path["community"]["string"] == "65000:5 graceful-shutdown"
                && path["largeCommunity"]["string"] == "65000:6:7"
                && path["extendedCommunity"]["string"] == "RT:65000:8"
        })
        .await;

        // Another export policy: FRR sees the difference, and the session knows nothing of it.
        let mut config = with_policies();
        config.peers[0].export = Policy::Accept;
        speaker.apply(config).await.expect("applies");
        eventually("FRR shows the route as it is", async || {
            let shown = lab.vtysh("show bgp ipv4 unicast 203.0.113.0/24 json").await;
            let path = &shown["paths"][0];
            path["aspath"]["string"] == "65000" && path["community"] == Value::Null
        })
        .await;
        assert_eq!(speaker.state().await.peers[0].flaps, 0);
        speaker.shutdown("").await;
        bgpd.kill();
    });
}

#[test]
fn an_external_session_without_policy_carries_nothing() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(BGPD_CONF);
        let mut bgpd = lab.start_bgpd();
        let mut config = with_policies();
        (config.peers[0].import, config.peers[0].export) = (Policy::Unset, Policy::Unset);
        let (speaker, _events) = start(config).await;
        eventually("FRR's routes are kept, unused", async || {
            let kept = path(&speaker, "10.60.0.0/24").await;
            kept.is_some_and(|path| {
                path.reason.as_deref() == Some("no import policy on an external session (RFC 8212)")
            })
        })
        .await;
        assert!(speaker.routes(None).await.iter().all(|route| {
            let from_frr = route.paths.iter().filter(|path| path.peer.is_some());
            from_frr.count() == 0 || !route.paths[0].best
        }));
        let neighbor = lab.vtysh("show bgp neighbors 10.99.0.1 json").await;
        let accepted = &neighbor["10.99.0.1"]["addressFamilyInfo"]["ipv4Unicast"]["acceptedPrefixCounter"];
        assert_eq!(accepted, 0, "{neighbor}");
        assert_eq!(speaker.state().await.peers[0].families[0].accepted, 0);
        speaker.shutdown("").await;
        bgpd.kill();
    });
}
