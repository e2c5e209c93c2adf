//! Faults of the outside: floods, overruns, other writers, interfaces that change under us. After each, the digest of the
//! kernel's state and ours are the same.

use std::time::Duration;

use net::{NeighborState, VrfId};
use netlink_sync::{RouteState, Tuning};

use crate::world::{Peer, World, in_namespace, index, ip, ip_batch, ip_json, our_routes, prefix, veth, via, wish};

const NEVER: Duration = Duration::from_secs(3600);

/// An audit so often that a test sees it.
fn watchful() -> Tuning {
    Tuning {
        audit_interval: Duration::from_millis(100),
        audit_pause: 1,
        ..Tuning::default()
    }
}

/// Waits until an independent digest of the kernel's state is that of what was told, and an audit that began after this call
/// has found the same on both sides.
async fn audited(world: &mut World) {
    world.agrees().await;
    let before = world.mirror.status().audits;
    world
        .until_status("an audit that finds the same on both sides", |s| {
            s.audits >= before + 2 && s.digest == s.kernel_digest
        })
        .await;
}

#[test]
fn a_flood_of_100_000_routes_through_a_tiny_receive_buffer_ends_in_the_kernels_state() {
    in_namespace(|| async {
        veth("va", "vb");
        let tuning = Tuning {
            receive_buffer: 4096,
            ..watchful()
        };
        let mut world = World::start_with(tuning, NEVER).await;
        world.mirror.submit(vec![wish("172.16.0.0/12", &[via("192.0.2.2")])]);
        world.written().await;
        let line = |verb: &str, n: u32| {
            let gateway = 2 + n % 200;
            format!(
                "route {verb} 10.{}.{}.{}/30 via 192.0.2.{gateway}\n",
                n >> 14,
                (n >> 6) & 255,
                (n & 63) << 2
            )
        };
        ip_batch(&(0..100_000).map(|n| line("add", n)).collect::<String>()); // the mirror sleeps meanwhile
        world.until("all routes", |m| m.routes.len() == 100_000).await;
        let status = world.mirror.status();
        assert!(status.overruns >= 1 && status.resyncs >= 1, "{status:?}");
        assert!(world.model.events < 110_000, "differences only: {}", world.model.events);
        audited(&mut world).await;

        ip_batch(
            &(0..100_000)
                .filter(|n| n % 2 == 0)
                .map(|n| line("del", n))
                .collect::<String>(),
        );
        world.until("half of them", |m| m.routes.len() == 50_000).await;
        audited(&mut world).await;
        let gateways: Vec<_> = ip_json("route show proto boot root 10.0.0.0/18")
            .into_iter()
            .map(|r| {
                (
                    r["dst"].as_str().expect("dst").to_owned(),
                    r["gateway"].as_str().expect("gateway").to_owned(),
                )
            })
            .collect();
        assert!(gateways.len() > 1000, "{}", gateways.len());
        for (to, gateway) in gateways {
            let ours = world.model.route(&to).expect("told");
            assert_eq!(ours.next_hops[0].gateway.map(|g| g.to_string()), Some(gateway));
        }
        assert_eq!(our_routes().len(), 1, "ours was not hurt");
    });
}

#[test]
fn audits_of_a_changing_kernel_find_no_drift_of_their_own() {
    in_namespace(|| async {
        let (a, _) = veth("va", "vb");
        let mut world = World::start_with(watchful(), NEVER).await;
        for round in 0..10 {
            ip(&format!("route replace 10.0.0.0/8 via 192.0.2.{} metric 7", 2 + round));
            ip(&format!("-6 route append 2001:db8:1::/48 via 2001:db8::{}", 2 + round));
            ip(&format!(
                "neighbor replace 192.0.2.9 dev va lladdr 02:00:00:00:00:0{round}"
            ));
            ip(&format!("address add 198.51.100.{}/32 dev va", 1 + round));
            ip(&format!("route append 10.1.0.0/16 via 192.0.2.{}", 77 + round));
            world.until("an audit's time", |m| m.addresses.len() > round + 2).await;
        }
        ip("link add vc type veth peer name vd");
        ip("link set vc up");
        ip("link set vd up");
        ip("address add 203.0.113.1/24 dev vc");
        ip("route add 10.2.0.0/16 nexthop via 192.0.2.2 nexthop via 203.0.113.2");
        ip("link set vd down");
        ip("link set vd up");
        ip("link set vc down");
        ip("link set vc up"); // its next hop is alive again, and the kernel does not say so
        world
            .until("both ways", |m| {
                m.route("10.2.0.0/16").is_some_and(|r| r.next_hops.len() == 2)
            })
            .await;
        audited(&mut world).await;
        let status = world.mirror.status();
        assert_eq!((status.drift_in, status.overruns), (0, 0), "{status:?}");
        assert!(
            world
                .model
                .neighbors
                .contains_key(&(a, "192.0.2.9".parse().expect("address")))
        );
    });
}

#[test]
fn an_interface_that_is_renamed_or_made_again_with_another_index_is_followed() {
    in_namespace(|| async {
        let (old, _) = veth("va", "vb");
        let mut world = World::start_with(watchful(), NEVER).await;
        world.mirror.submit(vec![wish("10.0.0.0/8", &[via("192.0.2.2")])]);
        world.written().await;
        ip("route add 10.1.0.0/16 via 192.0.2.2");
        ip("link set va name renamed");
        world
            .until("the new name", |m| m.link("renamed").is_some_and(|l| l.index == old))
            .await;
        assert!(world.model.link("va").is_none() && world.model.route("10.1.0.0/16").is_some());
        assert_eq!(our_routes()["10.0.0.0/8"], "192.0.2.2/renamed/1");

        ip("link del renamed");
        ip("link add filler type veth peer name filler2"); // takes the next numbers
        let (new, _) = veth("va", "vb");
        assert_ne!(new, old);
        world
            .until("the new interface instead of the old", |m| {
                m.link("va").is_some_and(|l| l.index == new)
                    && m.links.keys().all(|i| *i != old)
                    && m.addresses.iter().all(|(i, _)| *i != old)
                    && m.route("10.1.0.0/16").is_none()
            })
            .await;
        world
            .until_status("our route through the new one", |s| s.installed == 1 && s.pending == 0)
            .await;
        assert_eq!(our_routes()["10.0.0.0/8"], "192.0.2.2/va/1");
        audited(&mut world).await;
    });
}

#[test]
fn a_network_namespace_that_goes_takes_its_routes_along_and_nothing_else() {
    in_namespace(|| async {
        veth("va", "vb");
        let peer = Peer::new();
        ip("link add vc type veth peer name vd");
        peer.take("vd");
        ip("link set vc up");
        peer.ip("link set vd up");
        ip("address add 198.51.100.1/24 dev vc");
        let vc = index("vc");
        let mut world = World::start_with(watchful(), NEVER).await;
        world.until("the carrier", |m| m.link("vc").is_some_and(|l| l.up)).await;
        ip("route add 10.0.0.0/8 via 198.51.100.2");
        ip("route add 10.1.0.0/16 via 192.0.2.2");
        world.mirror.submit(vec![
            wish("10.2.0.0/16", &[via("198.51.100.2")]),
            wish("10.3.0.0/16", &[via("192.0.2.2")]),
        ]);
        world.written().await;
        drop(peer); // and with its namespace the other end of the cable
        world
            .until("the interface and its route to go", |m| {
                m.links.keys().all(|i| *i != vc) && m.route("10.0.0.0/8").is_none()
            })
            .await;
        assert!(world.model.route("10.1.0.0/16").is_some());
        world
            .until_status("the refusal of what has no way any more", |s| s.refused == 1)
            .await;
        let state = world.mirror.route_state(VrfId::DEFAULT, &prefix("10.2.0.0/16"));
        assert!(
            matches!(&state, RouteState::Refused { reason } if reason.contains("unreachable")),
            "{state:?}"
        );
        let state = |to| world.mirror.route_state(VrfId::DEFAULT, &prefix(to));
        assert_eq!(state("10.3.0.0/16"), RouteState::Installed);
        assert_eq!(state("10.99.0.0/16"), RouteState::NotWanted);
        audited(&mut world).await;
    });
}

#[test]
fn two_writers_at_one_place_do_not_fight_in_a_loop() {
    in_namespace(|| async {
        veth("va", "vb");
        let mut world = World::start().await;
        let (contested, quiet) = (prefix("10.0.0.0/8"), prefix("10.1.0.0/16"));
        world.mirror.submit(vec![
            wish("10.0.0.0/8", &[via("192.0.2.2")]),
            wish("10.1.0.0/16", &[via("192.0.2.2")]),
        ]);
        world.written().await;
        // The other writer removes ours as soon as it sees it.
        while world.mirror.status().held == 0 {
            if our_routes().contains_key("10.0.0.0/8") {
                ip("route del 10.0.0.0/8 proto 212");
            }
            world.until_status("the next look", |_| true).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status = world.mirror.status();
        assert!(status.written <= 2 + 6, "few writes: {status:?}");
        assert_eq!((status.fights.len(), status.fights[0].prefix), (1, contested));
        assert!(matches!(
            world.mirror.route_state(VrfId::DEFAULT, &contested),
            RouteState::Held { losses } if losses >= 4
        ));
        assert_eq!(world.mirror.route_state(VrfId::DEFAULT, &quiet), RouteState::Installed);
        // The other one gave up: ours comes back by itself.
        world.until_status("ours", |s| s.installed == 2 && s.held == 0).await;
        let ours = our_routes();
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            ["10.0.0.0/8", "10.1.0.0/16"],
            "{ours:?}"
        );
        world.agrees().await;
    });
}

#[test]
fn what_the_kernel_does_is_told_in_its_order_so_that_nothing_is_polled() {
    in_namespace(|| async {
        let (a, _) = veth("va", "vb");
        let mut world = World::start().await;
        let neighbor = "192.0.2.9".parse().expect("address");
        for round in 0..50_u32 {
            let mac = format!("02:00:00:00:00:{round:02x}");
            let to = format!("10.{round}.0.0/16");
            ip_batch(&format!(
                "neighbor replace 192.0.2.9 dev va lladdr {mac}\nroute add {to} via 192.0.2.9\nneighbor del 192.0.2.9 dev va\n"
            ));
            // A neighbour that were asked for at intervals would come after the route, or not at all.
            world.until("the route", |m| m.route(&to).is_some()).await;
            let seen = world.model.seen_neighbors.last();
            let seen_mac = world.model.seen_neighbors.iter().rev().find_map(|n| match n {
                (at, NeighborState::Reachable(mac)) if *at == (a, neighbor) => Some(mac.to_string()),
                _ => None,
            });
            assert_eq!(seen_mac, Some(mac), "{seen:?}");
        }
    });
}
