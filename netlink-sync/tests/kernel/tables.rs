//! Every table, the rules between them, and forwarding databases.

use std::time::Duration;

use net::VrfId;
use netlink_sync::{KernelNextHop, KernelRoute, KernelTable, Obstacle, RouteState, RuleTarget, Status, Tuning};

use crate::world::{World, bridge, in_namespace, index, ip, ip_json, prefix, veth, via, wish};

#[test]
fn every_table_and_rule_is_seen_and_those_of_vrfs_are_told() {
    in_namespace(|| async {
        veth("va", "vb");
        ip("rule add from 10.0.0.0/8 lookup 300 priority 100");
        ip("route add table 300 10.1.0.0/16 via 192.0.2.2");
        ip("route add table 100 10.2.0.0/16 via 192.0.2.2 dev va");
        let tuning = Tuning {
            audit_interval: Duration::from_millis(500),
            ..Tuning::default()
        };
        let mut world = World::start_with(tuning, Duration::from_secs(3600)).await;
        assert!(world.model.routes.contains_key(&(VrfId(7), prefix("10.2.0.0/16"))));
        assert_eq!(
            world.model.routes.len(),
            1,
            "table 300 is nobody's: {:?}",
            world.model.routes
        );
        let table = |table, vrf, prefixes_v4, prefixes_v6| KernelTable {
            table,
            vrf,
            prefixes_v4,
            prefixes_v6,
        };
        let tables = world.mirror.status().tables;
        let expected = [
            table(100, Some(VrfId(7)), 1, 0),
            table(254, Some(VrfId::DEFAULT), 0, 0),
            table(300, None, 1, 0),
        ];
        assert_eq!(tables, expected);

        ip("-6 rule add fwmark 0x10/0xf0 iif va lookup 400 priority 200");
        ip("rule add not to 192.0.2.0/24 blackhole priority 50");
        ip("-6 route add table 400 2001:db8:1::/48 via 2001:db8::2");
        world
            .until_status("the rules and the table", |s| {
                s.rules.len() == 8 && s.tables.iter().any(|t| (t.table, t.prefixes_v6) == (400, 1))
            })
            .await;
        let rules = world.mirror.status().rules;
        let shown = ip_json("-4 rule show").len() + ip_json("-6 rule show").len();
        assert_eq!(rules.len(), shown, "{rules:#?}");
        let of = |priority| rules.iter().find(|r| r.priority == priority).expect("the rule");
        assert_eq!(
            (of(100).action, of(100).from),
            (RuleTarget::Lookup(300), Some(prefix("10.0.0.0/8")))
        );
        assert_eq!(
            (of(200).mark, of(200).in_interface.as_deref()),
            (Some((0x10, 0xf0)), Some("va"))
        );
        assert!(
            of(50).inverted && of(50).action == RuleTarget::Blackhole,
            "{:?}",
            of(50)
        );

        ip("rule del priority 50");
        ip("route del table 300 10.1.0.0/16");
        world
            .until_status("both to go", |s| {
                s.rules.len() == 7 && s.tables.iter().all(|t| t.table != 300)
            })
            .await;
        world
            .until_status("an audit to agree", |s| s.audits > 1 && s.digest == s.kernel_digest)
            .await;
        assert_eq!(world.mirror.status().drift_in, 0);
    });
}

#[test]
fn the_endpoints_of_a_vxlan_device_are_told() {
    in_namespace(|| async {
        veth("va", "vb");
        let vxlan = "link add vx type vxlan id 100 local 192.0.2.1 dstport 4789 nolearning";
        ip(vxlan);
        ip("link add bridge0 type bridge");
        ip("link set vx master bridge0");
        ip("link set vx up");
        bridge("fdb add 02:00:00:00:00:09 dev vx dst 198.51.100.7 self");
        let tuning = Tuning {
            audit_interval: Duration::from_millis(500),
            ..Tuning::default()
        };
        let mut world = World::start_with(tuning, Duration::from_secs(3600)).await;
        let device = index("vx");
        let key = |mac: &str| (device, mac.to_owned());
        assert_eq!(world.model.link("vx").and_then(|l| l.vni).map(|v| v.value()), Some(100));
        let at = |m: &crate::world::Model, mac: &str| m.fdb.get(&key(mac)).map(ToString::to_string);
        assert_eq!(at(&world.model, "02:00:00:00:00:09").as_deref(), Some("198.51.100.7"));

        bridge("fdb append 00:00:00:00:00:00 dev vx dst 198.51.100.7 self");
        bridge("fdb append 00:00:00:00:00:00 dev vx dst 198.51.100.8 self");
        bridge("fdb replace 02:00:00:00:00:09 dev vx dst 198.51.100.8 self");
        bridge("fdb add 02:00:00:00:00:0a dev vx dst 198.51.100.9 self");
        world
            .until("the other address", |m| at(m, "02:00:00:00:00:0a").is_some())
            .await;
        assert_eq!(at(&world.model, "02:00:00:00:00:09").as_deref(), Some("198.51.100.8"));
        assert_eq!(
            world.model.fdb.len(),
            2,
            "floods are nobody's place: {:?}",
            world.model.fdb
        );
        bridge("fdb del 02:00:00:00:00:09 dev vx dst 198.51.100.8 self");
        world
            .until("its removal", |m| at(m, "02:00:00:00:00:09").is_none())
            .await;
        let audits = world.mirror.status().audits;
        world
            .until_status("an audit to agree", |s| {
                s.audits > audits + 1 && s.digest == s.kernel_digest
            })
            .await;
        assert_eq!(world.mirror.status().drift_in, 0, "{:?}", world.mirror.status());
        ip("link del vx");
        world.until("all of it to go", |m| m.fdb.is_empty()).await;
    });
}

/// Our routes of a table as `destination gateway`, as `ip` sees them.
fn ours_in(table: u32) -> Vec<String> {
    let routes = ["-4", "-6"].map(|family| {
        let shown = ip(&format!("-json {family} route show table {table} proto 212"));
        serde_json::from_str::<Vec<serde_json::Value>>(&shown).unwrap_or_default()
    });
    let line = |route: &serde_json::Value| {
        assert_eq!(route["metric"], 20, "{route}");
        let to = route["gateway"].as_str().or(route["type"].as_str()).unwrap_or("-");
        format!("{} {to}", route["dst"].as_str().unwrap_or("-"))
    };
    let mut lines: Vec<_> = routes.iter().flatten().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn winners_of_a_vrf_are_written_to_its_table_and_kept_there() {
    in_namespace(|| async {
        let (a, _) = veth("va", "vb");
        ip("route add 10.3.0.0/16 via 192.0.2.9 metric 20 proto static table 100");
        let tuning = Tuning {
            audit_interval: Duration::from_millis(200),
            ..Tuning::default()
        };
        let mut world = World::start_with(tuning, Duration::from_secs(3600)).await;
        let red = |to: &str, gateway: &str| KernelRoute {
            vrf: VrfId(7),
            ..wish(
                to,
                &[KernelNextHop {
                    interface: Some(a),
                    ..via(gateway)
                }],
            )
        };
        let elsewhere = KernelRoute {
            obstacle: Some(Obstacle::OtherVrf),
            ..red("0.0.0.0/0", "192.0.2.2")
        };
        world.mirror.submit(vec![
            wish("10.1.0.0/16", &[via("192.0.2.2")]),
            red("10.1.0.0/16", "203.0.113.7"),
            red("10.2.0.0/16", "203.0.113.7"),
            red("10.3.0.0/16", "203.0.113.7"),
            red("2001:db8:1::/48", "fe80::7"),
            elsewhere.clone(),
            KernelRoute {
                vrf: VrfId(8),
                ..wish("10.8.0.0/16", &[via("192.0.2.2")])
            },
        ]);
        let settled = |s: &Status| s.pending == 0 && s.refused == 1 && s.installed == 4;
        world.until_status("all but the taken place", settled).await;
        let expected = [
            "10.1.0.0/16 203.0.113.7",
            "10.2.0.0/16 203.0.113.7",
            "2001:db8:1::/48 fe80::7",
        ];
        assert_eq!(
            (ours_in(254).len(), ours_in(100)),
            (1, expected.map(str::to_owned).to_vec())
        );
        let state = |world: &World, vrf, to| world.mirror.route_state(VrfId(vrf), &prefix(to));
        assert_eq!(state(&world, 7, "10.1.0.0/16"), RouteState::Installed);
        assert_eq!(state(&world, 8, "10.8.0.0/16"), RouteState::NotWanted);
        assert!(matches!(state(&world, 7, "10.3.0.0/16"), RouteState::Refused { .. }));
        let obstacle = Obstacle::OtherVrf;
        assert_eq!(state(&world, 7, "0.0.0.0/0"), RouteState::Inexpressible { obstacle });
        let status = world.mirror.status();
        assert_eq!((status.refusals[0].vrf, status.inexpressible), (VrfId(7), 1));

        // Taken away behind our back, and healed; the foreign one stays as it was.
        ip("route del 10.2.0.0/16 table 100 proto 212");
        world.until_status("healing", |s| s.drift >= 1 && settled(s)).await;
        assert_eq!(ours_in(100), expected);
        assert_eq!(ip_json("route show 10.3.0.0/16 table 100")[0]["gateway"], "192.0.2.9");
        assert!(
            world.model.routes.keys().all(|(_, to)| *to == prefix("10.3.0.0/16")),
            "our own routes are not told: {:?}",
            world.model.routes
        );

        // Killed, and started anew: adopted, and what is not wanted any more goes.
        drop(world);
        let mut next = World::start_with(tuning, Duration::from_secs(3600)).await;
        assert_eq!(next.mirror.status().stale, 4);
        next.mirror.submit(vec![red("10.1.0.0/16", "203.0.113.7"), elsewhere]);
        next.mirror.end_of_start();
        next.until_status("the sweep", |s| s.stale == 0 && s.pending == 0).await;
        assert_eq!((ours_in(254), ours_in(100)), (vec![], vec![expected[0].to_owned()]));
        next.mirror.clone().shutdown().await;
        assert_eq!(ours_in(100), Vec::<String>::new());
        assert_eq!(ip_json("route show 10.3.0.0/16 table 100").len(), 1);
    });
}
