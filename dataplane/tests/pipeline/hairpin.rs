//! Tenants that reach public ends of the gateway, and each other by static NAT.

use nat::{PolicySpec, StaticNat};
use net::{Drop, VpcId};

use crate::frames::{ACK, Frame, Layer4, SYN, icmp_error, source_port};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    BLUE_MAC, FABRIC, FORWARDED, POOL, RED_MAC, TENANT, TENANT_MAC, UPLINK, VLAN, address, from_blue, from_red,
    tunnel_in, tunnel_out,
};

/// What red's host gets of a packet to the forwarded port.
fn inside(sent: &Frame, port: u16) -> Frame {
    sent.hop(RED_MAC, TENANT_MAC).with(|f| {
        f.vlan = Some(VLAN);
        (f.source, f.destination) = (address(POOL), address(TENANT));
        if let Layer4::Tcp(_, _, flags) = f.layer4 {
            f.layer4 = Layer4::Tcp(port, 8080, flags);
        }
    })
}

isolated! {
    fn a_tenant_reaches_the_forwarded_port_of_its_own_vpc() {
        let gateway = Gateway::start();
        for flags in [SYN, ACK] {
            let sent = from_red(Layer4::Tcp(4000, 80, flags)).with(|f| f.destination = address(FORWARDED));
            let outcome = gateway.exchange(UPLINK, [sent.bytes()]);
            let port = source_port(&outcome.only(UPLINK)[4..]);
            let arrived = inside(&sent, port);
            outcome.is_only(UPLINK, &arrived.bytes(), "there");
            let back = gateway.exchange(UPLINK, [arrived.reply().bytes()]);
            back.is_only(UPLINK, &sent.reply().hop(RED_MAC, TENANT_MAC).bytes(), "back, from the end that was sent to");
        }
        assert_eq!(gateway.dataplane.counters()[0].hairpinned.get(), 4);
        assert_eq!(gateway.connections(0).len(), 2, "one to the public end, one from it");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn a_tenant_reaches_the_forwarded_port_of_another_vpc() {
        let gateway = Gateway::start();
        let sent = from_blue(Layer4::Tcp(4000, 80, SYN)).with(|f| f.destination = address(FORWARDED));
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&sent.bytes())]);
        let port = source_port(&outcome.only(UPLINK)[4..]);
        let arrived = inside(&sent, port);
        outcome.is_only(UPLINK, &arrived.bytes(), "from the tunnel to the VLAN");
        let outcome = gateway.exchange(UPLINK, [arrived.reply().bytes()]);
        let inner = sent.reply().hop(BLUE_MAC, TENANT_MAC);
        let tunnel = tunnel_out(source_port(outcome.only(FABRIC)));
        outcome.is_only(FABRIC, &tunnel.around(&inner.bytes()), "and back");
    }
}

isolated! {
    fn a_hairpin_at_the_end_of_its_ttl_is_told_to_its_sender() {
        let gateway = Gateway::start();
        let sent = from_red(Layer4::Tcp(4000, 80, SYN)).with(|f| (f.destination, f.ttl) = (address(FORWARDED), 1));
        let error = icmp_error(&sent, "10.0.0.1", 11, 0, [0; 4]);
        gateway
            .exchange(UPLINK, [sent.bytes()])
            .is_answered(UPLINK, &error.bytes(), &[(Drop::TtlExpired, 1)], "time exceeded");
    }
}

isolated! {
    fn a_hairpin_may_pass_through_two_workers() {
        let gateway = Gateway::with_workers(2);
        for port in 4000..4008 {
            for queue in [0, 1] {
                let flags = if queue == 0 { SYN } else { ACK };
                let sent = from_red(Layer4::Tcp(port, 80, flags)).with(|f| f.destination = address(FORWARDED));
                // A flow arrives at one queue, whichever that is; its answers at any.
                let first = usize::from(port) % 2;
                let outcome = gateway.exchange_on(UPLINK, first, [sent.bytes()]);
                let arrived = inside(&sent, source_port(&outcome.only(UPLINK)[4..]));
                outcome.is_only(UPLINK, &arrived.bytes(), "there");
                let back = gateway.exchange_on(UPLINK, queue, [arrived.reply().bytes()]);
                back.is_only(UPLINK, &sent.reply().hop(RED_MAC, TENANT_MAC).bytes(), "back");
            }
        }
        gateway.assert_conservation();
        gateway.assert_no_leak();
    }
}

isolated! {
    fn vpcs_with_the_same_addresses_talk_by_static_nat() {
        let mut gateway = Gateway::start();
        let rule = |vpc, outside: &str, peer| StaticNat {
            vpc: VpcId::new(vpc).expect("valid"),
            inside: "10.0.0.0/24".parse().expect("a prefix"),
            outside: outside.parse().expect("a prefix"),
            peer: VpcId::new(peer).ok(),
        };
        gateway.set_spec(PolicySpec {
            statics: vec![rule(1, "100.64.1.0/24", 2), rule(2, "100.64.2.0/24", 1)],
            ..PolicySpec::default()
        });
        gateway.publish();
        let sent = from_red(Layer4::Udp(4000, 53)).with(|f| f.destination = address("100.64.2.5"));
        let outcome = gateway.exchange(UPLINK, [sent.bytes()]);
        let arrived = sent.hop(BLUE_MAC, TENANT_MAC).with(|f| {
            f.vlan = None;
            (f.source, f.destination) = (address("100.64.1.5"), address(TENANT));
        });
        let tunnel = tunnel_out(source_port(outcome.only(FABRIC)));
        outcome.is_only(FABRIC, &tunnel.around(&arrived.bytes()), "from the VLAN into the tunnel");
        let reply = arrived.reply();
        let back = gateway.exchange(FABRIC, [tunnel_in().around(&reply.bytes())]);
        back.is_only(UPLINK, &sent.reply().hop(RED_MAC, TENANT_MAC).bytes(), "and back");
        let ended = sent.with(|f| f.ttl = 1);
        let error = icmp_error(&ended, "10.0.0.1", 11, 0, [0; 4]);
        gateway
            .exchange(UPLINK, [ended.bytes()])
            .is_answered(UPLINK, &error.bytes(), &[(Drop::TtlExpired, 1)], "time exceeded");
        gateway.assert_no_leak();
    }
}
