//! Two workers: what arrives at the wrong one is handed to the one that owns its connection.

use net::Drop;

use crate::frames::{ACK, Frame, Layer4, SYN, source_port};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    FABRIC, FABRIC_MAC, FORWARDED, PEER_MAC, POOL, RED_MAC, SERVER, TENANT, TENANT_MAC, UPLINK, VLAN, address, from_red,
};

fn handed_over(gateway: &Gateway) -> [u64; 2] {
    [0, 1].map(|worker: usize| {
        let handed = gateway.dataplane.counters()[worker].handed_over.get();
        let taken = gateway.dataplane.counters()[1 - worker].taken_over.get();
        assert_eq!(handed, taken, "what worker {worker} handed over was taken over");
        handed
    })
}

isolated! {
    fn replies_reach_the_owner_of_their_connection() {
        let gateway = Gateway::with_workers(2);
        for kind in [Layer4::Udp(4000, 53), Layer4::Tcp(4000, 80, SYN), Layer4::EchoRequest(4000)] {
            for owner in 0..2 {
                let sent = from_red(kind.clone()).with(|f| f.destination = address(["198.18.0.9", "198.18.0.10"][owner]));
                let what = format!("{kind:?}, owned by worker {owner}");
                let out = gateway.exchange_on(UPLINK, owner, [sent.bytes()]);
                let port = source_port(out.only(FABRIC));
                assert_eq!(usize::from(port) % 2, owner, "{what}: a port of its own");
                let answer = sent.reply().with(|f| {
                    (f.source_mac, f.destination_mac, f.vlan) = (PEER_MAC, FABRIC_MAC, None);
                    f.destination = address(POOL);
                    f.layer4 = match f.layer4 {
                        Layer4::Udp(from, _) => Layer4::Udp(from, port),
                        Layer4::Tcp(from, _, flags) => Layer4::Tcp(from, port, flags),
                        _ => Layer4::EchoReply(port),
                    };
                });
                let expected = sent.reply().hop(RED_MAC, TENANT_MAC).bytes();
                let before = handed_over(&gateway);
                gateway.exchange_on(FABRIC, owner, [answer.bytes()]).is_only(UPLINK, &expected, &what);
                assert_eq!(handed_over(&gateway), before, "{what}: at its owner");
                gateway.exchange_on(FABRIC, 1 - owner, [answer.bytes()]).is_only(UPLINK, &expected, &what);
                let mut after = before;
                after[1 - owner] += 1;
                assert_eq!(handed_over(&gateway), after, "{what}: at the other one");
            }
        }
        assert_eq!([0, 1].map(|worker| gateway.connections(worker).len()), [3, 3]);
        gateway.assert_no_leak();
    }
}

isolated! {
    fn clients_of_a_port_forward_have_one_owner_from_both_sides() {
        let gateway = Gateway::with_workers(2);
        for client_port in 5000..5008 {
            let client = |flags| {
                Frame::new((PEER_MAC, FABRIC_MAC), SERVER, FORWARDED, Layer4::Tcp(client_port, 80, flags))
            };
            let inside = |flags| {
                client(flags).hop(RED_MAC, TENANT_MAC).with(|f| {
                    f.vlan = Some(VLAN);
                    f.destination = address(TENANT);
                    f.layer4 = Layer4::Tcp(client_port, 8080, flags);
                })
            };
            let back = client(SYN).reply().hop(FABRIC_MAC, PEER_MAC);
            for queue in [0, 1] {
                let flags = if queue == 0 { SYN } else { ACK };
                let outcome = gateway.exchange_on(FABRIC, queue, [client(flags).bytes()]);
                outcome.is_only(UPLINK, &inside(flags).bytes(), "in");
                let outcome = gateway.exchange_on(UPLINK, queue, [inside(SYN).reply().bytes()]);
                outcome.is_only(FABRIC, &back.bytes(), "back");
            }
        }
        let connections = [0, 1].map(|worker| gateway.connections(worker).len());
        assert_eq!(connections[0] + connections[1], 8, "one connection a client");
        assert!(connections.iter().all(|count| *count > 0), "both workers own some: {connections:?}");
        // Four packets a client, of which two came in at the worker that does not own it.
        assert_eq!(handed_over(&gateway).iter().sum::<u64>(), 16);
        gateway.assert_no_leak();
    }
}

isolated! {
    fn strangers_are_handed_over_once_and_dropped() {
        let gateway = Gateway::with_workers(2);
        let stray = |port| Frame::new((PEER_MAC, FABRIC_MAC), SERVER, POOL, Layer4::Udp(53, port)).bytes();
        let outcome = gateway.exchange_on(FABRIC, 0, (20_000..20_100).map(stray));
        outcome.is_silent(&[(Drop::NatNoMapping, 100)], "no connection anywhere");
        assert_eq!(handed_over(&gateway), [50, 0]);
    }
}

isolated! {
    fn both_workers_follow_generations_and_forward() {
        let mut gateway = Gateway::with_workers(2);
        let sent = crate::network::from_host(Layer4::Udp(1, 2));
        for queue in [0, 1] {
            let expected = sent.hop(FABRIC_MAC, PEER_MAC).bytes();
            gateway.exchange_on(UPLINK, queue, [sent.bytes()]).is_only(FABRIC, &expected, "before");
        }
        gateway.route(net::VrfId::DEFAULT, "0.0.0.0/0", None);
        gateway.publish();
        for queue in [0, 1] {
            let outcome = gateway.exchange_on(UPLINK, queue, [sent.bytes()]);
            assert_eq!(outcome.drops, [(Drop::NoRoute, 1)], "after, queue {queue}");
        }
    }
}
