//! What is wanted is in the kernel, and nothing else is touched.

use std::collections::BTreeMap;
use std::time::Duration;

use net::{RouteKind, VrfId};
use netlink_sync::{Error, KernelNextHop, KernelRoute, Tuning};
use tokio::time::Instant;

use crate::world::{World, in_namespace, ip, ip_batch, ip_json, our_routes, prefix, veth, via, wish};

fn table(routes: &[(&str, &str)]) -> BTreeMap<String, String> {
    routes
        .iter()
        .map(|(to, hops)| ((*to).to_owned(), (*hops).to_owned()))
        .collect()
}

/// An audit so often that a test sees it.
fn watchful() -> Tuning {
    Tuning {
        audit_interval: Duration::from_millis(200),
        ..Tuning::default()
    }
}

const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn routes_are_written_changed_and_removed() {
    in_namespace(|| async {
        let (a, b) = veth("va", "vb");
        let mut world = World::start().await;
        let link_local = |n: &str, i| KernelNextHop {
            interface: Some(i),
            ..via(n)
        };
        let heavy = KernelNextHop {
            weight: 3,
            ..via("192.0.2.3")
        };
        let special = |to, kind| KernelRoute { kind, ..wish(to, &[]) };
        world.mirror.submit(vec![
            wish("10.0.0.0/8", &[via("192.0.2.2")]),
            wish("10.1.0.0/16", &[via("192.0.2.2"), heavy]),
            wish(
                "10.2.0.0/16",
                &[KernelNextHop {
                    gateway: None,
                    interface: Some(a),
                    weight: 1,
                }],
            ),
            wish("10.3.0.0/16", &[link_local("203.0.113.7", a)]),
            wish("10.4.0.0/16", &[via("2001:db8::2")]),
            wish("2001:db8:1::/48", &[via("2001:db8::2")]),
            wish("2001:db8:2::/48", &[link_local("fe80::1", a), link_local("fe80::2", b)]),
            wish("::/0", &[via("2001:db8::2")]),
            wish("0.0.0.0/0", &[via("192.0.2.2")]),
            special("10.5.0.0/16", RouteKind::Blackhole),
            special("10.6.0.0/16", RouteKind::Unreachable),
            special("2001:db8:5::/48", RouteKind::Prohibit),
        ]);
        world.written().await;
        let mut expected = table(&[
            ("10.0.0.0/8", "192.0.2.2/va/1"),
            ("10.1.0.0/16", "192.0.2.2/va/1 192.0.2.3/va/3"),
            ("10.2.0.0/16", "-/va/1"),
            ("10.3.0.0/16", "203.0.113.7/va/1"),
            ("10.4.0.0/16", "2001:db8::2/va/1"),
            ("2001:db8:1::/48", "2001:db8::2/va/1"),
            ("2001:db8:2::/48", "fe80::1/va/1 fe80::2/vb/1"),
            ("default", "192.0.2.2/va/1"),
            ("10.5.0.0/16", "blackhole"),
            ("10.6.0.0/16", "unreachable"),
            ("2001:db8:5::/48", "prohibit"),
        ]);
        expected.insert("default".to_owned(), "2001:db8::2/va/1".to_owned()); // of both families, the later listed
        assert_eq!(our_routes(), expected, "{:?}", world.mirror.status());
        assert_eq!(ip_json("-4 route show default proto 212")[0]["gateway"], "192.0.2.2");
        assert_eq!(world.mirror.status().installed, 12);

        // Every kind of change: one to many, many to one, unicast to special and back, and removal.
        world.mirror.submit(vec![
            wish("10.0.0.0/8", &[via("192.0.2.2"), via("192.0.2.3")]),
            wish("10.1.0.0/16", &[via("192.0.2.9")]),
            special("10.2.0.0/16", RouteKind::Blackhole),
            wish("10.5.0.0/16", &[via("192.0.2.2")]),
            wish("2001:db8:1::/48", &[via("2001:db8::2"), via("2001:db8::3")]),
            wish("2001:db8:2::/48", &[link_local("fe80::3", b)]),
            wish("2001:db8:5::/48", &[via("2001:db8::5"), via("2001:db8::6")]),
            KernelRoute::remove(VrfId::DEFAULT, prefix("10.3.0.0/16")),
            KernelRoute::remove(VrfId::DEFAULT, prefix("10.4.0.0/16")),
            KernelRoute::remove(VrfId::DEFAULT, prefix("0.0.0.0/0")),
            KernelRoute::remove(VrfId::DEFAULT, prefix("::/0")),
        ]);
        world.written().await;
        let expected = table(&[
            ("10.0.0.0/8", "192.0.2.2/va/1 192.0.2.3/va/1"),
            ("10.1.0.0/16", "192.0.2.9/va/1"),
            ("10.2.0.0/16", "blackhole"),
            ("10.5.0.0/16", "192.0.2.2/va/1"),
            ("10.6.0.0/16", "unreachable"),
            ("2001:db8:1::/48", "2001:db8::2/va/1 2001:db8::3/va/1"),
            ("2001:db8:2::/48", "fe80::3/vb/1"),
            ("2001:db8:5::/48", "2001:db8::5/va/1 2001:db8::6/va/1"),
        ]);
        assert_eq!(our_routes(), expected, "{:?}", world.mirror.status());
        assert_eq!((world.mirror.status().refused, world.mirror.status().drift), (0, 0));

        world
            .mirror
            .submit(vec![wish("2001:db8:1::/48", &[]), wish("2001:db8:5::/48", &[])]);
        world.written().await;
        assert_eq!(our_routes().len(), 6, "a multipath route goes whole");
        assert!(
            world.model.routes.is_empty(),
            "our own routes are not told: {:?}",
            world.model.routes
        );
        world.mirror.clone().shutdown().await;
        assert_eq!(our_routes(), BTreeMap::new());
    });
}

#[test]
fn an_audit_finds_nothing_where_nothing_differs() {
    in_namespace(|| async {
        let (a, b) = veth("va", "vb");
        let mut world = World::start_with(watchful(), NEVER).await;
        let through = |n: &str, i, weight| KernelNextHop {
            interface: Some(i),
            weight,
            ..via(n)
        };
        world.mirror.submit(vec![
            wish(
                "10.0.0.0/8",
                &[
                    via("192.0.2.9"),
                    KernelNextHop {
                        weight: 60_000,
                        ..via("192.0.2.3")
                    },
                ],
            ),
            wish("10.1.0.0/16", &[via("2001:db8::2")]),
            wish("2001:db8:2::/48", &[through("fe80::2", b, 7), through("fe80::1", a, 2)]),
            KernelRoute {
                kind: RouteKind::Blackhole,
                ..wish("2001:db8:5::/48", &[])
            },
        ]);
        world.written().await;
        let written = world.mirror.status().written;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = world.mirror.status();
        assert_eq!(
            (status.drift, status.written, status.installed),
            (0, written, 4),
            "{status:?}"
        );
    });
}

#[test]
fn foreign_routes_are_never_touched() {
    in_namespace(|| async {
        veth("va", "vb");
        ip("route add 10.0.0.0/8 via 192.0.2.9 metric 20 proto static");
        ip("-6 route add 2001:db8:1::/48 via 2001:db8::9 metric 20 proto static");
        ip("route add 10.1.0.0/16 via 192.0.2.9 metric 30 proto static");
        let mut world = World::start_with(watchful(), NEVER).await;
        world.mirror.submit(vec![
            wish("10.0.0.0/8", &[via("192.0.2.2")]),
            wish("2001:db8:1::/48", &[via("2001:db8::2")]),
            wish("10.1.0.0/16", &[via("192.0.2.2")]),
        ]);
        world
            .until_status("two refusals", |s| s.refused == 2 && s.installed == 1)
            .await;
        let status = world.mirror.status();
        assert!(
            status.refusals.iter().all(|r| r.reason.contains("File exists")),
            "{status:?}"
        );
        assert_eq!(ip_json("route show 10.0.0.0/8")[0]["gateway"], "192.0.2.9");
        assert_eq!(ip_json("-6 route show 2001:db8:1::/48")[0]["gateway"], "2001:db8::9");
        assert_eq!(
            ip_json("route show 10.1.0.0/16").len(),
            2,
            "side by side with another metric"
        );

        ip("route del 10.0.0.0/8 proto static");
        world.until_status("the place to be taken", |s| s.installed == 2).await;
        world.mirror.clone().shutdown().await;
        assert_eq!(our_routes(), BTreeMap::new());
        assert_eq!(ip_json("route show proto static").len(), 1);
        assert_eq!(ip_json("-6 route show proto static").len(), 1);
    });
}

#[test]
fn a_foreign_route_put_before_ours_survives_a_change_of_ours() {
    in_namespace(|| async {
        veth("va", "vb");
        let mut world = World::start().await;
        world.mirror.submit(vec![wish("10.0.0.0/8", &[via("192.0.2.2")])]);
        world.written().await;
        ip("route prepend 10.0.0.0/8 via 192.0.2.9 metric 20 proto static");
        world
            .until("the other's route", |m| m.route("10.0.0.0/8").is_some())
            .await;
        world.mirror.submit(vec![wish("10.0.0.0/8", &[via("192.0.2.3")])]);
        world.until_status("the refusal", |s| s.refused == 1).await;
        let routes = ip_json("route show 10.0.0.0/8");
        assert_eq!(
            (routes.len(), &routes[0]["protocol"]),
            (1, &"static".into()),
            "{routes:?}"
        );
        ip("route del 10.0.0.0/8 proto static");
        world.until_status("ours", |s| s.installed == 1 && s.refused == 0).await;
        assert_eq!(our_routes(), table(&[("10.0.0.0/8", "192.0.2.3/va/1")]));
    });
}

#[test]
fn what_others_do_to_our_routes_is_healed() {
    in_namespace(|| async {
        veth("va", "vb");
        // The audit's own interval is far away: what others do is noticed by itself.
        let mut world = World::start().await;
        let wanted = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8:1::/48"];
        let gateway = |to: &str| {
            if to.contains(':') {
                via("2001:db8::2")
            } else {
                via("192.0.2.2")
            }
        };
        world
            .mirror
            .submit(wanted.iter().map(|to| wish(to, &[gateway(to)])).collect());
        world.written().await;
        let before = our_routes();
        ip("route del 10.0.0.0/8 proto 212");
        ip("-6 route del 2001:db8:1::/48 proto 212");
        world
            .until_status("healing", |s| s.drift == 2 && s.pending == 0 && s.installed == 3)
            .await;
        assert_eq!(our_routes(), before);
        world.agrees().await;

        // Replaced by a foreign route of our metric: that one stays, and ours is refused.
        ip("route replace 10.1.0.0/16 via 192.0.2.9 metric 20 proto static");
        world.until_status("the refusal", |s| s.refused == 1).await;
        assert_eq!(ip_json("route show 10.1.0.0/16")[0]["gateway"], "192.0.2.9");

        // Down and up again: the kernel forgets, we write again.
        ip("route del 10.1.0.0/16");
        ip("link set va down");
        world.until_status("the loss", |s| s.installed == 0).await;
        ip("link set va up");
        ip("-6 address replace 2001:db8::1/64 dev va nodad");
        world
            .until_status("all three back", |s| s.installed == 3 && s.refused == 0)
            .await;
        assert_eq!(our_routes(), before);
        world.agrees().await;
    });
}

#[test]
fn a_new_start_adopts_what_a_killed_one_left() {
    in_namespace(|| async {
        veth("va", "vb");
        let mut first = World::start().await;
        first.mirror.submit(vec![
            wish("10.0.0.0/8", &[via("192.0.2.2"), via("192.0.2.3")]),
            wish("10.1.0.0/16", &[via("192.0.2.2")]),
            wish("10.2.0.0/16", &[via("192.0.2.2")]),
            wish("2001:db8:1::/48", &[via("2001:db8::2"), via("2001:db8::3")]),
            wish("2001:db8:2::/48", &[via("2001:db8::2")]),
        ]);
        first.written().await;
        drop(first); // as a kill would: nothing is removed
        assert_eq!(our_routes().len(), 5);
        ip("route add 10.9.0.0/16 via 192.0.2.2 metric 77 proto 212"); // of a run with another metric

        let mut second = World::start().await;
        assert_eq!(second.mirror.status().stale, 5);
        assert_eq!(ip_json("route show 10.9.0.0/16").len(), 0);
        second.mirror.submit(vec![
            wish("10.0.0.0/8", &[via("192.0.2.3"), via("192.0.2.2")]),
            wish("2001:db8:1::/48", &[via("2001:db8::3"), via("2001:db8::2")]),
            wish("10.1.0.0/16", &[via("192.0.2.7")]),
        ]);
        second.written().await;
        assert_eq!(
            second.mirror.status().written,
            1,
            "equal ones are confirmed without a write"
        );
        assert_eq!(our_routes().len(), 5, "nothing is swept before the end of the start");
        second.mirror.end_of_start();
        second
            .until_status("the sweep", |s| s.stale == 0 && s.pending == 0)
            .await;
        let expected = table(&[
            ("10.0.0.0/8", "192.0.2.2/va/1 192.0.2.3/va/1"),
            ("10.1.0.0/16", "192.0.2.7/va/1"),
            ("2001:db8:1::/48", "2001:db8::2/va/1 2001:db8::3/va/1"),
        ]);
        assert_eq!(our_routes(), expected);
        drop(second);

        let mut third = World::start_with(Tuning::default(), Duration::from_millis(100)).await;
        third
            .until_status("the timer's sweep", |s| s.stale == 0 && s.pending == 0)
            .await;
        assert_eq!(our_routes(), BTreeMap::new());
    });
}

#[test]
fn many_routes_go_in_and_out_whole() {
    in_namespace(|| async {
        veth("va", "vb");
        let mut world = World::start().await;
        let to = |n: u32| format!("10.{}.{}.0/24", n / 250, n % 250);
        let start = Instant::now();
        world
            .mirror
            .submit((0..20_000).map(|n| wish(&to(n), &[via("192.0.2.2")])).collect());
        world
            .until_status("20,000 routes", |s| s.installed == 20_000 && s.pending == 0)
            .await;
        println!("mirrored out: {:.0} routes/s", 20_000.0 / start.elapsed().as_secs_f64());
        assert_eq!(our_routes().len(), 20_000);
        let batch: String = (0..1000)
            .map(|n| format!("route del {} proto 212\n", to(n * 7)))
            .collect();
        ip_batch(&batch);
        world
            .until_status("healing", |s| {
                s.drift >= 1000 && s.pending == 0 && s.installed == 20_000
            })
            .await;
        assert_eq!(our_routes().len(), 20_000);
        world.mirror.clone().shutdown().await;
        assert_eq!(our_routes().len(), 0);
    });
}

#[test]
fn interfaces_get_their_state_and_exactly_their_addresses() {
    in_namespace(|| async {
        ip("link add va type veth peer name vb");
        ip("link set vb up");
        let world = World::start().await;
        netlink_sync::prepare_host_interface("va").expect("sysctls");
        let a = world.mirror.set_link("va", true, Some(1400)).await.expect("up");
        let missing = world.mirror.set_link("nope", true, None).await;
        assert!(matches!(missing, Err(Error::NoInterface(name)) if name == "nope"));
        let nets = |list: &[&str]| list.iter().map(|n| n.parse().expect("net")).collect::<Vec<_>>();
        let shown = || {
            let all = ip_json("address show dev va");
            assert_eq!(all[0]["mtu"], 1400);
            let mut list: Vec<_> = all[0]["addr_info"].as_array().expect("addresses").clone();
            list.retain(|i| i["scope"] != "link");
            assert!(
                list.iter().all(|i| i["tentative"].is_null()),
                "usable at once: {list:?}"
            );
            let mut list: Vec<_> = list
                .iter()
                .map(|i| format!("{}/{}", i["local"].as_str().expect("local"), i["prefixlen"]))
                .collect();
            list.sort();
            list
        };
        let some = nets(&["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"]);
        world.mirror.set_addresses(a, &some, true).await.expect("addresses");
        assert_eq!(shown(), ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"]);
        assert_eq!(ip_json("route show dev va").len(), 1);
        // The first of a subnet takes its secondary along in the kernel; here it stays.
        world
            .mirror
            .set_addresses(a, &nets(&["192.0.2.2/24", "2001:db8::9/64"]), true)
            .await
            .expect("addresses");
        assert_eq!(shown(), ["192.0.2.2/24", "2001:db8::9/64"]);
        world
            .mirror
            .set_addresses(a, &nets(&["192.0.2.2/24", "2001:db8::9/64"]), false)
            .await
            .expect("addresses");
        assert_eq!(shown(), ["192.0.2.2/24", "2001:db8::9/64"]);
        assert_eq!(ip_json("route show dev va").len(), 0, "no connected route");
        world.mirror.set_addresses(a, &[], true).await.expect("addresses");
        assert_eq!(shown(), Vec::<String>::new());
        let link_local = ip_json("-6 address show dev va scope link");
        assert_eq!(
            link_local[0]["addr_info"].as_array().map(Vec::len),
            Some(1),
            "{link_local:?}"
        );
        let refused = world.mirror.set_addresses(a, &nets(&["ff02::1/64"]), true).await;
        assert!(refused.is_err_and(|e| e.to_string().contains("ff02::1/64")));
    });
}
