//! Work follows what a change reaches, not how large the tables are: counted in operations.

use rib::Effort;

use crate::*;

/// A table of this many prefixes through the first port's router.
const TABLE: u32 = 20_000;

fn large() -> Bench {
    let mut b = Bench::new();
    for n in 0..TABLE {
        let prefix = format!("{}.{}.{}.0/24", 50 + n / 65_536, n / 256 % 256, n % 256);
        b.announce(VRF, &prefix, Source::Ebgp, via("10.0.0.2"));
    }
    b.publish();
    b
}

fn total(effort: Effort) -> usize {
    effort.elections + effort.resolutions + effort.rebuilds + effort.users + effort.leaves
}

#[test]
fn a_router_that_goes_is_found_without_a_scan() {
    let mut b = large();
    for n in 0..10 {
        b.announce(VRF, &format!("30.{n}.0.0/16"), Source::Static, via("99.0.0.1"));
        b.announce(VRF, &format!("30.{n}.0.0/16"), Source::Ibgp, via("10.0.0.2"));
    }
    b.announce(VRF, "99.0.0.0/24", Source::Static, via("10.0.1.2"));
    b.publish();
    assert_eq!(b.way(VRF, "30.3.0.1"), forward("10.0.1.2"));
    // The gateway of ten routes goes, comes, and moves.
    b.withdraw(VRF, "99.0.0.0/24", Source::Static);
    let gone = b.publish();
    assert_eq!(b.way(VRF, "30.3.0.1"), forward("10.0.0.2"));
    assert!(total(gone.effort) < 100, "{:?}", gone.effort);
    b.announce(VRF, "99.0.0.0/24", Source::Static, via("10.0.1.2"));
    assert!(total(b.publish().effort) < 100);
    b.announce(VRF, "99.0.0.0/24", Source::Static, via("10.0.0.2"));
    let moved = b.publish();
    assert!(total(moved.effort) < 100, "{:?}", moved.effort);
    assert_eq!(moved.winners.len(), 11, "the kernel is told of the ten and the one");

    // One that most of the table uses: each of its prefixes is decided once.
    b.link(HOST, false);
    let most = b.publish().effort;
    let table = TABLE as usize + 100;
    // Once to decide, once to tell the kernel.
    assert!(most.elections <= table && most.users <= 2 * table, "{most:?}");
    b.link(HOST, true);
    b.publish();
    assert_eq!(b.way(VRF, "50.0.7.1"), forward("10.0.0.2"));
}

#[test]
fn a_default_route_changes_no_leaf() {
    let mut b = large();
    let step = |b: &mut Bench| {
        let effort = b.publish().effort;
        assert_eq!(effort.leaves, 0, "{effort:?}");
        assert!(total(effort) < 20, "{effort:?}");
    };
    assert_eq!(b.way(VRF, "9.9.9.9"), Err(Drop::NoRoute));
    b.announce(VRF, "0.0.0.0/0", Source::Ebgp, via("10.0.1.2"));
    step(&mut b);
    assert_eq!(b.way(VRF, "9.9.9.9"), forward("10.0.1.2"));
    b.announce(VRF, "0.0.0.0/0", Source::Ebgp, via("10.0.0.2"));
    step(&mut b);
    assert_eq!(b.way(VRF, "9.9.9.9"), forward("10.0.0.2"));
    // What stands behind it changes in place.
    b.announce(VRF, "0.0.0.0/0", Source::Ebgp, via("99.0.0.1"));
    b.announce(VRF, "99.0.0.0/24", Source::Static, via("10.0.0.2"));
    b.publish();
    b.announce(VRF, "99.0.0.0/24", Source::Static, via("10.0.1.2"));
    let effort = b.publish().effort;
    assert!(effort.leaves == 1 && total(effort) < 20, "{effort:?}");
    assert_eq!(b.way(VRF, "9.9.9.9"), forward("10.0.1.2"));
    // A prefix within it goes: it is what is left.
    b.withdraw(VRF, "50.0.0.0/24", Source::Ebgp);
    b.publish();
    assert_eq!(b.way(VRF, "50.0.0.1"), forward("10.0.1.2"));
    b.withdraw(VRF, "0.0.0.0/0", Source::Ebgp);
    step(&mut b);
    assert_eq!(b.way(VRF, "50.0.0.1"), Err(Drop::NoRoute));
    assert_eq!(b.way(VRF, "50.0.1.1"), forward("10.0.0.2"));
}

#[test]
fn a_link_has_only_its_own_routes_resolved_again() {
    let mut b = large();
    // A thousand routers and hosts on the first port, one on the second.
    for n in 0..1000u32 {
        let router = format!("10.0.0.{}", 3 + n % 200);
        b.neighbor(HOST, &router, NeighborState::Reachable(mac(3)));
        let hop = NextHop {
            weight: 1 + (n / 200) as u16,
            ..NextHop::via(ip(&router))
        };
        b.announce(
            VRF,
            &format!("20.{}.{}.0/24", n / 250, n % 250),
            Source::Static,
            Route::unicast(hop),
        );
    }
    b.announce(VRF, "30.0.0.0/8", Source::Static, via("10.0.1.2"));
    b.publish();
    for up in [false, true] {
        b.link(OTHER, up);
        let effort = b.publish().effort;
        assert!(total(effort) < 60, "{effort:?}");
        assert_eq!(b.way(VRF, "30.0.0.1").is_ok(), up);
    }
    // An address of another interface is no matter of theirs either.
    b.address(OTHER, "10.9.0.1/24", true);
    let effort = b.publish().effort;
    assert!(total(effort) < 60, "{effort:?}");
    // Nor is a change of its MTU or a new interface.
    b.rib.set_interface(Interface {
        mtu: 9000,
        ..interface(1, OTHER, VRF, Attachment::Port(PortId(1)))
    });
    b.rib.set_interface(vxlan(3, TENANT, VrfId(1), 100));
    let effort = b.publish().effort;
    assert!(total(effort) < 60, "{effort:?}");
    assert_eq!(b.lookup(VRF, "30.0.0.1").expect("routed").1.mtu, 9000);
}
