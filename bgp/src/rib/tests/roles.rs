//! Route leaks stop at the gateway (RFC 9234 section 5).

use super::*;
use crate::Role;

fn peer_with(host: u8, role: Role) -> PeerInfo {
    PeerInfo {
        role: Some(role),
        advertise_learned: true,
        ..peer(host, true)
    }
}

/// ONLY_TO_CUSTOMER of each prefix that the queue announces.
fn announced(queue: &OutQueue) -> Vec<Option<u32>> {
    let announced = take(queue, 100).into_iter().filter_map(|outgoing| match outgoing {
        Outgoing::Announce(attributes, _) => Some(attributes.only_to_customer()),
        _ => None,
    });
    announced.collect()
}

#[test]
fn a_route_of_a_provider_reaches_customers_alone() {
    let mut rib = rib();
    let (provider, customer) = (peer_with(1, Role::Customer), peer_with(2, Role::Provider));
    let (lateral, other) = (peer_with(3, Role::Peer), peer_with(4, Role::Customer));
    let roleless = PeerInfo {
        advertise_learned: true,
        ..peer(5, true)
    };
    rib.peer_up(provider.clone());
    let queues: Vec<_> = [customer, lateral, other, roleless]
        .into_iter()
        .map(|info| rib.peer_up(info))
        .collect();
    rib.update(provider.address, announce(&provider, &["10.0.0.0/8"]))
        .expect("no limit");
    rib.take_changes();
    let told: Vec<_> = queues.iter().map(|queue| announced(queue)).collect();
    // Marked with the provider's AS on receipt, though it did not mark the route itself.
    assert_eq!(told, [vec![Some(65001)], vec![], vec![], vec![Some(65001)]]);
}

#[test]
fn a_route_of_a_customer_reaches_everybody_and_is_marked_downwards() {
    let mut rib = rib();
    let customer = peer_with(1, Role::Provider);
    rib.peer_up(customer.clone());
    let roles = [
        Role::Customer,
        Role::Provider,
        Role::Peer,
        Role::RsServer,
        Role::RsClient,
    ];
    let queues: Vec<_> = (2..)
        .zip(roles)
        .map(|(host, role)| rib.peer_up(peer_with(host, role)))
        .collect();
    rib.update(customer.address, announce(&customer, &["10.0.0.0/8"]))
        .expect("no limit");
    rib.take_changes();
    let told: Vec<_> = queues.iter().map(|queue| announced(queue)).collect();
    let ours = Some(LOCAL_AS);
    assert_eq!(told, [vec![None], vec![ours], vec![ours], vec![ours], vec![None]]);
}

#[test]
fn a_leak_is_refused_and_says_so() {
    let mut rib = rib();
    for (host, role, otc, leak) in [
        (1, Role::Provider, 64_999, true),
        (2, Role::Peer, 64_999, true),
        (3, Role::Peer, 65_003, false),
        (4, Role::Customer, 64_999, false),
    ] {
        let info = peer_with(host, role);
        rib.peer_up(info.clone());
        let net = format!("10.{host}.0.0/16");
        let marked = announce_with(&info, &[&net], |a| a.mark_only_to_customer(otc));
        rib.update(info.address, marked).expect("no limit");
        assert_eq!(rib.take_changes().is_empty(), leak, "{role}");
        let why = reason(&rib, &net);
        assert_eq!(why.is_some_and(|why| why.starts_with("route leak")), leak, "{role}");
    }
}
