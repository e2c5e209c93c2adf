//! What the kernel has is told.

use std::net::IpAddr;
use std::time::Duration;

use net::{IfIndex, NeighborState, RouteKind, VrfId};
use netlink_sync::Tuning;
use tokio::time::Instant;

use crate::world::{Peer, World, in_namespace, index, ip, ip_batch, ip_json, prefix, veth};

#[test]
fn what_is_there_at_start_and_what_comes_later_is_told() {
    in_namespace(|| async {
        let (a, _) = veth("va", "vb");
        ip("route add 198.51.100.0/24 via 192.0.2.2 metric 50");
        ip("neighbor add 192.0.2.9 dev va lladdr 02:00:00:00:00:09");
        let mut world = World::start().await;
        assert!(
            world
                .model
                .link("va")
                .is_some_and(|l| l.up && l.mtu == 1500 && l.mac.is_some())
        );
        assert!(world.model.addresses.contains(&(a, "192.0.2.1/24".to_owned())));
        let static_neighbor = world.model.neighbors.get(&(a, "192.0.2.9".parse().expect("address")));
        assert!(matches!(static_neighbor, Some(NeighborState::Reachable(m)) if m.to_string() == "02:00:00:00:00:09"));
        assert!(world.model.route("198.51.100.0/24").is_some_and(|r| r.metric == 50));
        assert_eq!(
            world.model.routes.len(),
            1,
            "connected routes are the RIB's: {:?}",
            world.model.routes
        );

        ip("address add 203.0.113.1/32 dev va");
        ip("link set va mtu 1400");
        ip("route add 10.0.0.0/8 nexthop via 192.0.2.3 weight 2 nexthop via 192.0.2.4 weight 1");
        ip("-6 route add 2001:db8:1::/48 nexthop via 2001:db8::3 nexthop via 2001:db8::4");
        ip("-6 route append 2001:db8:1::/48 nexthop via 2001:db8::5");
        ip("route add blackhole 10.1.0.0/16");
        ip("-6 route add prohibit 2001:db8:2::/48");
        ip("route add table 100 10.2.0.0/16 via 192.0.2.5 dev va onlink");
        ip("route add table 101 10.3.0.0/16 via 192.0.2.5");
        world
            .until("the last of them", |m| {
                m.routes.contains_key(&(VrfId(7), prefix("10.2.0.0/16")))
            })
            .await;
        assert!(world.model.addresses.contains(&(a, "203.0.113.1/32".to_owned())));
        assert!(world.model.link("va").is_some_and(|l| l.mtu == 1400));
        let weights: Vec<_> = world
            .model
            .route("10.0.0.0/8")
            .expect("route")
            .next_hops
            .iter()
            .map(|n| n.weight)
            .collect();
        assert_eq!(weights, [2, 1]);
        assert_eq!(world.model.route("2001:db8:1::/48").map(|r| r.next_hops.len()), Some(3));
        assert_eq!(
            world.model.route("10.1.0.0/16").map(|r| r.kind),
            Some(RouteKind::Blackhole)
        );
        assert_eq!(
            world.model.route("2001:db8:2::/48").map(|r| r.kind),
            Some(RouteKind::Prohibit)
        );

        ip("-6 route del 2001:db8:1::/48 via 2001:db8::4");
        ip("route replace 10.0.0.0/8 via 192.0.2.6");
        ip("route del 10.1.0.0/16");
        ip("link add vc type veth peer name vd");
        ip("link set vc name renamed");
        world
            .until("the rename", |m| m.link("renamed").is_some() && m.link("vc").is_none())
            .await;
        assert_eq!(world.model.route("2001:db8:1::/48").map(|r| r.next_hops.len()), Some(2));
        assert_eq!(world.model.route("10.0.0.0/8").map(|r| r.next_hops.len()), Some(1));
        assert_eq!(world.model.route("10.1.0.0/16"), None);
        ip("link del renamed");
        world
            .until("the removal", |m| m.link("renamed").is_none() && m.link("vd").is_none())
            .await;
        assert_eq!(world.mirror.status().overruns, 0);
    });
}

#[test]
fn routes_that_go_with_a_link_or_an_address_are_withdrawn() {
    in_namespace(|| async {
        veth("va", "vb");
        ip("link add vc type veth peer name vd");
        ip("link set vc up");
        ip("link set vd up");
        ip("address add 198.51.100.1/24 dev vc");
        ip("address add 203.0.113.1/24 dev vc");
        ip("route add 10.0.0.0/8 via 192.0.2.2");
        ip("route add 10.1.0.0/16 via 198.51.100.2");
        ip("route add 10.2.0.0/16 via 198.51.100.2 src 203.0.113.1");
        ip("route add 10.3.0.0/16 nexthop via 192.0.2.2 nexthop via 198.51.100.2");
        let mut world = World::start().await;
        assert_eq!(world.model.routes.len(), 4);
        ip("address del 203.0.113.1/24 dev vc");
        world
            .until("the route with that source to go", |m| m.route("10.2.0.0/16").is_none())
            .await;
        assert_eq!(world.model.routes.len(), 3);
        ip("link set vc down");
        world
            .until("the link's routes to go", |m| {
                m.route("10.1.0.0/16").is_none() && m.route("10.3.0.0/16").is_some_and(|r| r.next_hops.len() == 1)
            })
            .await;
        assert!(world.model.route("10.0.0.0/8").is_some());
        world
            .until("both ends to be down", |m| {
                ["vc", "vd"].iter().all(|end| m.link(end).is_some_and(|l| !l.up))
            })
            .await;
    });
}

#[test]
fn a_flood_that_the_buffer_holds_is_told_whole_without_help_of_audits() {
    in_namespace(|| async {
        veth("va", "vb");
        let tuning = Tuning {
            audit_interval: Duration::from_secs(3600),
            ..Tuning::default()
        };
        let mut world = World::start_with(tuning, Duration::from_secs(3600)).await;
        let batch: String = (0..3000)
            .map(|n| format!("route add 10.{}.{}.0/24 via 192.0.2.2\n", n / 250, n % 250))
            .collect();
        ip_batch(&batch);
        world.until("every route", |m| m.routes.len() == 3000).await;
        let status = world.mirror.status();
        assert_eq!(
            (status.overruns, status.resyncs, status.audits),
            (0, 0, 0),
            "{status:?}"
        );
    });
}

#[test]
fn an_overrun_ends_in_the_kernels_state() {
    in_namespace(|| async {
        veth("va", "vb");
        ip("route add 10.0.0.0/8 via 192.0.2.2");
        let tuning = Tuning {
            receive_buffer: 4096,
            ..Tuning::default()
        };
        let mut world = World::start_with(tuning, Duration::from_secs(3600)).await;
        let batch: String = (0..5000)
            .map(|n| format!("route add 10.{}.{}.0/24 via 192.0.2.{}\n", n / 250, n % 250, 2 + n % 7))
            .collect();
        ip_batch(&format!("route del 10.0.0.0/8\n{batch}")); // this thread, and the mirror with it, sleeps meanwhile
        world
            .until("all routes", |m| m.routes.len() == 5000 && m.synced > 1)
            .await;
        let status = world.mirror.status();
        assert!(status.overruns >= 1 && status.resyncs >= 1, "{status:?}");
        let kernel = ip_json("route show proto boot");
        assert_eq!(kernel.len(), 5000);
        for route in kernel {
            let ours = world.model.route(route["dst"].as_str().expect("dst")).expect("told");
            assert_eq!(
                ours.next_hops[0].gateway.map(|g| g.to_string()).as_deref(),
                route["gateway"].as_str()
            );
        }
        let events = world.model.events;
        assert!(events < 5200, "differences only: {events}");
        world.agrees().await;
    });
}

#[test]
fn a_wanted_neighbor_is_resolved_and_its_loss_is_told() {
    in_namespace(|| async {
        let (a, _) = veth("va", "vb");
        let peer = Peer::new();
        peer.take("vb");
        peer.ip("address add 192.0.2.2/24 dev vb");
        peer.ip("-6 address add 2001:db8::2/64 dev vb nodad");
        peer.ip("link set vb up");
        netlink_sync::prepare_host_interface("va").expect("sysctls");
        let mut world = World::start().await;
        world.until("the carrier", |m| m.link("va").is_some_and(|l| l.up)).await;
        let silent = "192.0.2.77".parse().expect("address");
        for address in ["192.0.2.2", "2001:db8::2"].map(|a| a.parse().expect("address")) {
            let known =
                move |m: &crate::world::Model| m.neighbors.get(&(a, address)).is_some_and(|n| n.mac().is_some());
            let deadline = Instant::now() + Duration::from_secs(60);
            while !known(&world.model) {
                assert!(
                    Instant::now() < deadline,
                    "{address} was not resolved: {:?}",
                    world.model.neighbors
                );
                // As the gateway does for each packet that waits: the mirror limits the rate.
                world.mirror.request_neighbor(a, address);
                let asked = Instant::now();
                let reachable = move |m: &crate::world::Model| {
                    known(m)
                        || asked.elapsed() > Duration::from_secs(1)
                        || matches!(m.neighbors.get(&(a, address)), Some(NeighborState::Failed))
                };
                world.until("resolution", reachable).await;
            }
        }
        world.mirror.request_neighbor(a, silent);
        world
            .until("the silent one", |m| {
                m.neighbors.get(&(a, silent)) == Some(&NeighborState::Failed)
            })
            .await;
        assert_eq!(index("va"), a);
        ip("link set va down");
        let address = "192.0.2.2".parse().expect("address");
        world
            .until("the loss", |m| {
                m.neighbors.get(&(a, address)) == Some(&NeighborState::Gone)
            })
            .await;
    });
}

/// Asks for a neighbour as the gateway does, again and again, until the kernel has told of a state that is wanted.
async fn ask_until(
    world: &mut World,
    interface: IfIndex,
    address: IpAddr,
    what: &str,
    wanted: impl Fn(NeighborState) -> bool,
) {
    let seen = world.model.seen_neighbors.len();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !world
        .model
        .seen_neighbors
        .iter()
        .skip(seen)
        .any(|(key, state)| *key == (interface, address) && wanted(*state))
    {
        assert!(
            Instant::now() < deadline,
            "waited in vain for {what}: {:?}",
            world.model.seen_neighbors
        );
        world.mirror.request_neighbor(interface, address);
        world.take_for(Duration::from_millis(500)).await;
    }
}

/// The kernel sees nothing of what the gateway sends to a neighbour, so it is asked to confirm it: then it is reachable again,
/// or failed, and each of that is told by the kernel itself.
#[test]
fn a_stale_neighbor_that_is_asked_for_is_confirmed_or_lost() {
    in_namespace(|| async {
        let (a, _) = veth("va", "vb");
        let peer = Peer::new();
        peer.take("vb");
        peer.ip("address add 192.0.2.2/24 dev vb");
        peer.ip("link set vb up");
        netlink_sync::prepare_host_interface("va").expect("sysctls");
        for (setting, value) in [
            ("base_reachable_time_ms", "400"),
            ("delay_first_probe_time", "1"),
            ("retrans_time_ms", "100"),
        ] {
            std::fs::write(format!("/proc/sys/net/ipv4/neigh/va/{setting}"), value)
                .expect("a sysctl of this namespace");
        }
        let mut world = World::start().await;
        let address = "192.0.2.2".parse().expect("address");
        world.until("the carrier", |m| m.link("va").is_some_and(|l| l.up)).await;
        let stale = |state: NeighborState| matches!(state, NeighborState::Stale(_));
        let reachable = |state: NeighborState| matches!(state, NeighborState::Reachable(_));
        ask_until(&mut world, a, address, "it to be stale", stale).await;
        // Asked for, it answers.
        ask_until(&mut world, a, address, "its confirmation", reachable).await;
        // It is silent, while its link stays up.
        peer.ip("link set vb arp off");
        ask_until(&mut world, a, address, "the loss", |state| {
            state == NeighborState::Failed
        })
        .await;
    });
}
