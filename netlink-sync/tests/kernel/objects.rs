//! Next-hop objects of the kernel: routes name them, and they change alone.

use netlink_sync::Tuning;

use crate::world::{World, in_namespace, ip, ip_batch, veth};

const ROUTES: usize = 1000;

#[test]
fn a_change_of_a_group_is_one_event_whatever_names_it() {
    in_namespace(|| async {
        veth("va", "vb");
        ip("nexthop add id 1 via 192.0.2.2 dev va");
        ip("nexthop add id 2 via 192.0.2.3 dev va");
        ip("nexthop add id 10 group 1,3/2");
        let mut world = World::start().await;
        let batch: String = (0..ROUTES)
            .map(|n| format!("route add 10.{}.{}.0/24 nhid 10\n", n / 250, n % 250))
            .collect();
        ip_batch(&batch);
        ip("route add 10.200.0.0/16 nhid 1");
        world.until("every route", |m| m.routes.len() == ROUTES + 1).await;
        assert_eq!(world.model.gateways("10.0.0.0/24"), ["192.0.2.2", "192.0.2.3"]);
        let weights: Vec<_> = world.model.objects.values().flatten().map(|hop| hop.weight).collect();
        assert_eq!(weights, [1, 1, 3, 1], "1, 2, and the group of both");

        let (before, events) = (world.model.route_events, world.model.events);
        ip("nexthop replace id 2 via 192.0.2.9 dev va");
        world
            .until("the group", |m| {
                m.gateways("10.3.249.0/24") == ["192.0.2.2", "192.0.2.9"]
            })
            .await;
        assert_eq!(world.model.route_events, before, "no route is told");
        assert_eq!(world.model.events, events + 2, "the object and its group");

        // One that leads straight onto an interface is spelled out: hosts on a subnet are found by its route.
        ip("nexthop add id 7 dev va");
        ip("route add 10.201.0.0/16 nhid 7");
        world
            .until("the route on the link", |m| m.route("10.201.0.0/16").is_some())
            .await;
        let on_link = world.model.route("10.201.0.0/16").expect("told").next_hops[0];
        assert!(on_link.object.is_none() && on_link.interface.is_some(), "{on_link:?}");
        ip("route del 10.201.0.0/16");
        ip("nexthop del id 7");
        world.until("it to go", |m| m.route("10.201.0.0/16").is_none()).await;

        // What the kernel takes along when an object goes, it takes without a word.
        ip("nexthop del id 1");
        world
            .until("the routes of the object to go", |m| {
                m.route("10.200.0.0/16").is_none() && m.gateways("10.0.0.0/24") == ["192.0.2.9"]
            })
            .await;
        assert_eq!(world.mirror.status().next_hop_objects, 2);
        ip("nexthop del id 2");
        world
            .until("everything to go", |m| m.routes.is_empty() && m.objects.is_empty())
            .await;
    });
}

#[test]
fn objects_that_go_with_their_link_take_their_routes_along() {
    in_namespace(|| async {
        veth("va", "vb");
        ip("link add vc type veth peer name vd");
        ip("link set vc up");
        ip("link set vd up");
        ip("address add 198.51.100.1/24 dev vc");
        ip("nexthop add id 1 via 192.0.2.2 dev va");
        ip("nexthop add id 2 via 198.51.100.2 dev vc");
        ip("nexthop add id 10 group 1/2");
        ip("route add 10.0.0.0/8 nhid 10");
        ip("route add 10.1.0.0/16 nhid 2");
        let tuning = Tuning {
            audit_interval: std::time::Duration::from_millis(500),
            ..Tuning::default()
        };
        let mut world = World::start_with(tuning, std::time::Duration::from_secs(3600)).await;
        assert_eq!(world.model.gateways("10.0.0.0/8").len(), 2);
        ip("link set vc down");
        world
            .until("the link's object to go", |m| {
                m.route("10.1.0.0/16").is_none() && m.gateways("10.0.0.0/8") == ["192.0.2.2"]
            })
            .await;
        world
            .until_status("an audit to agree", |s| s.audits > 1 && s.digest == s.kernel_digest)
            .await;
    });
}

#[test]
fn routes_are_told_where_the_kernel_does_not_spell_objects_out() {
    in_namespace(|| async {
        veth("va", "vb");
        std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "0").expect("the sysctl of this namespace");
        ip("nexthop add id 1 via 192.0.2.2 dev va");
        ip("nexthop add id 2 via 192.0.2.3 dev va");
        ip("nexthop add id 3 blackhole");
        ip("nexthop add id 10 group 1/2");
        ip("route add 10.0.0.0/8 nhid 10");
        let mut world = World::start().await;
        assert_eq!(world.model.gateways("10.0.0.0/8"), ["192.0.2.2", "192.0.2.3"]);
        ip("route add 10.1.0.0/16 nhid 3");
        ip("-6 nexthop add id 20 via 2001:db8::2 dev va");
        ip("-6 route add 2001:db8:1::/48 nhid 20");
        world.until("both", |m| m.routes.len() == 3).await;
        assert_eq!(
            world.model.route("10.1.0.0/16").map(|r| r.kind),
            Some(net::RouteKind::Blackhole)
        );
        assert_eq!(world.model.gateways("2001:db8:1::/48"), ["2001:db8::2"]);
        ip("-6 route del 2001:db8:1::/48");
        world.until("the withdrawal", |m| m.routes.len() == 2).await;
    });
}
