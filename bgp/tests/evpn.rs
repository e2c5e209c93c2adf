//! EVPN (RFC 7432, 9136) with GoBGP, ExaBGP and FRR: routes of types 2, 3 and 5 both ways, imported into a VRF with their
//! tunnel, and kept out of it with a reason.

mod lab;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use bgp::{Feedback, PeerConfig, Speaker};
use lab::evpn::{BLUE, TARGET, VNI, best, evpn_config, leads_to};
use lab::routers::{Program, installed};
use lab::watch::{Watch, change, is_up, prefix};
use lab::{Lab, eventually};
use net::policy::RouteSource;

const COMMUNITIES: &str = "rt 65000:7 encap vxlan router-mac 02:00:00:00:00:09";

#[test]
fn gobgp_originates_types_2_3_and_5_and_sees_ours() {
    installed(Program::GoBgp);
    Lab::without_frr(|lab| async move {
        let _gobgpd = lab.start_gobgp_evpn().await;
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(evpn_config(), sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;

        let routed = format!("prefix 10.1.0.0/16 etag 0 label {VNI} rd 10.99.0.2:1 {COMMUNITIES}");
        lab.gobgp_evpn(&format!("add {routed}")).await;
        let v6 = format!("add prefix 2001:db8:1::/48 etag 0 label {VNI} rd 10.99.0.2:1 {COMMUNITIES}");
        lab.gobgp_evpn(&v6).await;
        let host = format!("add macadv 02:00:00:00:00:63 10.1.0.7 etag 0 label 100 rd 10.99.0.2:1 {COMMUNITIES}");
        lab.gobgp_evpn(&host).await;
        let multicast =
            "add multicast 10.99.0.2 etag 0 rd 10.99.0.2:1 rt 65000:7 encap vxlan pmsi ingress-repl 100 10.99.0.2";
        lab.gobgp_evpn(multicast).await;
        for of in ["10.1.0.0/16", "2001:db8:1::/48"] {
            let change = watch.wait(of, |event| change(event, of)).await;
            assert!(leads_to(&change, "10.99.0.2"), "{change:?}");
        }
        eventually("types 2 and 3 are shown", async || {
            let state = speaker.evpn().await;
            let host = best(&state, "[2]:[0]:[02:00:00:00:00:63]:[10.1.0.7]");
            let multicast = best(&state, "[3]:[0]:[10.99.0.2]");
            // GoBGP's command has no second label.
            host.is_some_and(|path| {
                let why = path
                    .not_imported
                    .iter()
                    .chain(path.imports.iter().filter_map(|import| import.reason.as_ref()));
                path.vni == Some(100) && why.into_iter().any(|why| why.contains("second label"))
            }) && multicast.is_some_and(|path| path.vni == Some(100) && path.not_imported.is_some())
        })
        .await;

        // Ours: a prefix that is announced outright, one that the VRF has a route to, and the endpoint.
        let offer = Feedback::VrfOffers(vec![(BLUE, prefix("10.7.0.0/24"), Some(RouteSource::Connected))]);
        speaker.feedback().send(offer).expect("it runs");
        for wanted in [
            "[type:Prefix][rd:10.99.0.1:7][etag:0][prefix:203.0.113.0/24]",
            "prefix:10.7.0.0/24]",
        ] {
            eventually(&format!("GoBGP knows {wanted}"), async || {
                let known = lab.gobgp_evpn("").await;
                let line = known
                    .lines()
                    .find(|line| line.contains(wanted))
                    .unwrap_or_default()
                    .to_owned();
                [
                    "[5001]",
                    "10.99.0.1 ",
                    "65000",
                    TARGET,
                    "VXLAN",
                    "router's mac: 02:00:00:00:00:01",
                ]
                .iter()
                .all(|part| line.contains(part))
            })
            .await;
        }
        eventually("GoBGP knows the endpoint", async || {
            let known = lab.gobgp_evpn("").await;
            known.contains("[type:multicast][rd:10.99.0.1:7][etag:0][ip:10.99.0.1]")
                && known.contains("type: ingress-repl, label: 5001, tunnel-id: 10.99.0.1")
        })
        .await;
        let gone = Feedback::VrfOffers(vec![(BLUE, prefix("10.7.0.0/24"), None)]);
        speaker.feedback().send(gone).expect("it runs");
        eventually("GoBGP has lost it", async || {
            !lab.gobgp_evpn("").await.contains("10.7.0.0/24")
        })
        .await;

        watch.forget();
        lab.gobgp_evpn(&format!("del {routed}")).await;
        let change = watch.wait("withdrawal", |event| change(event, "10.1.0.0/16")).await;
        assert_eq!((change.vrf, change.route), (BLUE, None));
        assert_eq!(speaker.state().await.peers[0].flaps, 0);
        speaker.shutdown("").await;
    });
}

#[test]
fn of_two_endpoints_the_second_takes_over_when_the_first_is_withdrawn() {
    installed(Program::GoBgp);
    Lab::without_frr(|lab| async move {
        let _gobgpd = lab.start_gobgp_evpn().await;
        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(evpn_config(), sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        let route = |number: u8, nexthop: &str| {
            format!("prefix 10.1.0.0/16 etag 0 label {VNI} rd 10.99.0.2:{number} {COMMUNITIES} nexthop {nexthop}")
        };
        lab.gobgp_evpn(&format!("add {}", route(1, "10.99.0.21"))).await;
        watch
            .wait("first endpoint", |event| {
                change(event, "10.1.0.0/16").filter(|change| leads_to(change, "10.99.0.21"))
            })
            .await;
        lab.gobgp_evpn(&format!("add {} med 5", route(2, "10.99.0.22"))).await;
        eventually("both are there", async || {
            let state = speaker.evpn().await;
            let paths = state
                .routes
                .iter()
                .filter(|route| route.destination == Some(prefix("10.1.0.0/16")));
            paths.filter(|route| route.paths.iter().any(|path| path.best)).count() == 2
        })
        .await;
        watch.forget();
        lab.gobgp_evpn(&format!("del {}", route(1, "10.99.0.21"))).await;
        let change = watch.wait("change", |event| change(event, "10.1.0.0/16")).await;
        assert!(leads_to(&change, "10.99.0.22"), "{change:?}");
        speaker.shutdown("").await;
    });
}

/// An attribute of ExaBGP's configuration, as octets: MP_REACH_NLRI of EVPN through 10.99.0.2.
fn reach(nlri: &[u8]) -> String {
    let mut value = vec![0, 25, 70, 4, 10, 99, 0, 2, 0];
    value.extend(nlri);
    let octets: String = value.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("attribute [0x0e 0x90 0x{octets}]")
}

/// ExaBGP decodes EVPN, and its configuration has no words to announce it: it is given octets, with what GoBGP's command does
/// not offer: a second label, moves of a host, and a route of a type that there is not.
#[test]
fn exabgp_originates_hosts_with_two_labels_beside_an_unknown_type_and_decodes_ours() {
    installed(Program::ExaBgp);
    Lab::without_frr(|lab| async move {
        let rd = [0, 1, 10, 99, 0, 2, 0, 1];
        let label = |vni: u32| vni.to_be_bytes()[1..].to_vec();
        let host = [
            &[2, 40][..],
            &rd,
            &[0; 14],
            &[48, 2, 0, 0, 0, 0, 0x63, 32, 10, 1, 0, 7],
            &label(100),
            &label(VNI),
        ]
        .concat();
        let routed = [&[5, 34][..], &rd, &[0; 14], &[16, 10, 1, 0, 0, 0, 0, 0, 0], &label(VNI)].concat();
        let multicast = [&[3, 17][..], &rd, &[0; 4], &[32, 10, 99, 0, 2]].concat();
        let nlri = [&host[..], &[77, 3, 1, 2, 3], &routed, &multicast].concat();
        let communities =
            "extended-community [0x0002fde800000007 0x030c000000000008 0x0603020000000009 0x0600000000000003]";

        fs::set_permissions(lab.path("."), Permissions::from_mode(0o755)).expect("permissions");
        let heard = lab.path("exabgp.heard");
        fs::write(&heard, "").expect("write");
        fs::set_permissions(&heard, Permissions::from_mode(0o666)).expect("permissions");
        let script = format!(
            "#!/usr/bin/python3\nimport os, select\nwith open('{}', 'ab', 0) as heard:\n    while True:\n        \
             select.select([0], [], [])\n        octets = os.read(0, 65536)\n        if not octets:\n            break\n        \
             heard.write(octets)\n",
            heard.display()
        );
        let helper = lab.path("exabgp.helper");
        fs::write(&helper, script).expect("write");
        fs::set_permissions(&helper, Permissions::from_mode(0o755)).expect("permissions");
        let text = format!(
            "process heard {{\n  run {};\n  encoder json;\n}}\nneighbor 10.99.0.1 {{\n  router-id 10.99.0.2;\n  \
             local-address 10.99.0.2;\n  local-as 65001;\n  peer-as 65000;\n  hold-time 9;\n  \
             family {{ ipv4 unicast; l2vpn evpn; }}\n  api {{ processes [ heard ]; receive {{ parsed; update; }} }}\n  \
             static {{\n    route 192.0.2.0/24 next-hop 10.99.0.2 {communities} {};\n  }}\n}}\n",
            helper.display(),
            reach(&nlri),
        );
        let file = lab.path("exabgp.conf");
        fs::write(&file, text).expect("write");
        let settings = ["exabgp.daemon.user=root", "exabgp.api.cli=false"];
        let _exabgp = lab.spawn(
            "env",
            &[settings[0], settings[1], "/usr/sbin/exabgp", &file.to_string_lossy()],
        );

        let (sender, mut watch) = Watch::new(64);
        let speaker = Speaker::start(evpn_config(), sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        for of in ["10.1.0.7/32", "10.1.0.0/16"] {
            let change = watch.wait(of, |event| change(event, of)).await;
            assert!(leads_to(&change, "10.99.0.2"), "{change:?}");
        }
        let state = speaker.evpn().await;
        let path = best(&state, "[2]:[0]:[02:00:00:00:00:63]:[10.1.0.7]").expect("the host");
        assert_eq!((path.vni, path.routed_vni, path.moves), (Some(100), Some(VNI), Some(3)));
        assert!(best(&state, "[3]:[0]:[10.99.0.2]").is_some());
        // A prefix with its distinguisher, and the endpoint.
        for wanted in [
            "l2vpn evpn",
            "\"ip\": \"203.0.113.0\", \"iplen\": 24",
            "10.99.0.1:7",
            "\"ip\": \"10.99.0.1\"",
        ] {
            eventually(&format!("ExaBGP decodes {wanted}"), async || {
                fs::read_to_string(&heard).unwrap_or_default().contains(wanted)
            })
            .await;
        }
        assert_eq!(speaker.state().await.peers[0].flaps, 0);
        speaker.shutdown("").await;
    });
}

/// FRR without any VNI of its own is what it is on a spine: it passes routes on, with their endpoint.
#[test]
fn frr_passes_routes_on_with_their_endpoint() {
    Lab::run(|lab| async move {
        lab.extend_bgpd_conf(
            "
router bgp 65001
 neighbor 10.99.0.11 remote-as 65002
 neighbor 10.99.0.11 timers 3 9
 neighbor 10.99.0.11 timers connect 1
 neighbor 10.99.0.11 advertisement-interval 0
 address-family l2vpn evpn
  neighbor 10.99.0.1 activate
  neighbor 10.99.0.11 activate
 exit-address-family
",
        );
        lab.speaker_ip("address add 10.99.0.11/24 dev fabric");
        let _bgpd = lab.start_bgpd();
        let (sender, mut watch) = Watch::new(64);
        let mut config = evpn_config();
        config.listen = Vec::new();
        config.peers[0].local_address = Some("10.99.0.1".parse().expect("ip"));
        let mut leaf = config.clone();
        (leaf.asn, leaf.router_id) = (65002, "10.99.0.11".parse().expect("ip"));
        leaf.peers[0] = PeerConfig {
            local_address: Some("10.99.0.11".parse().expect("ip")),
            ..leaf.peers[0].clone()
        };
        let vrf = &mut leaf.evpn[0];
        vrf.rd = "10.99.0.11:7".parse().expect("rd");
        vrf.vtep = "10.99.0.11".parse().expect("ip");
        vrf.router_mac = lab::evpn::THEIR_MAC;
        vrf.announce = vec![prefix("10.1.0.0/16")];
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        let (leaf_sender, mut leaf_watch) = Watch::new(64);
        let leaf = Speaker::start(leaf, leaf_sender).await.expect("speaker starts");
        watch.wait("session", is_up).await;
        let learned = watch
            .wait("the leaf's prefix", |event| change(event, "10.1.0.0/16"))
            .await;
        assert!(leads_to(&learned, "10.99.0.11"), "{learned:?}");
        let told = leaf_watch
            .wait("our prefix", |event| change(event, "203.0.113.0/24"))
            .await;
        let hops = told.route.expect("a route").next_hops;
        assert_eq!(
            hops[0].vxlan.map(|tunnel| tunnel.vtep.to_string()).as_deref(),
            Some("10.99.0.1")
        );
        let known = lab.vtysh("show bgp l2vpn evpn json").await.to_string();
        for part in [
            "[5]:[0]:[16]:[10.1.0.0]",
            "[5]:[0]:[24]:[203.0.113.0]",
            "[3]:[0]:[32]:[10.99.0.1]",
            "RT:65000:7",
        ] {
            assert!(known.contains(part), "{part} in {known}");
        }
        watch.forget();
        leaf.shutdown("").await;
        let gone = watch.wait("withdrawal", |event| change(event, "10.1.0.0/16")).await;
        assert_eq!(gone.route, None);
        assert_eq!(speaker.state().await.peers[0].flaps, 0);
        speaker.shutdown("").await;
    });
}
