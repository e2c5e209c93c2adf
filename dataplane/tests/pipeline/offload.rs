//! Connections in the emulated ASIC, and what the gateway does when that refuses them, keeps them, or answers late.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use dataplane::{NotOffloaded, OffloadCountersView, RuleState};
use dpdk_sys::flow::FlowError;
use nat::OffloadState;
use net::Drop;
use softasic::{Operation, Point, Refusal, Which, faults};

use crate::frames::{Frame, Layer4, icmp_error, source_port};
use crate::gateway::Gateway;
use crate::isolated;
use crate::nat::{answered, delivered, masqueraded, translated};
use crate::network::{FABRIC, UPLINK, from_blue, from_red, tunnel_in, tunnel_out};

/// The tenant's packets of its `number`-th connection.
fn flow(number: u16) -> Frame {
    from_red(Layer4::Udp(4000, 1000 + number))
}

/// Two packets each way, so that the connection is established; returns its public port.
fn establish(gateway: &Gateway, sent: &Frame) -> u16 {
    let port = translated(gateway, sent);
    for _ in 0..2 {
        passes(gateway, sent, port);
    }
    port
}

/// Demands that packets of the connection pass in both directions.
fn passes(gateway: &Gateway, sent: &Frame, port: u16) {
    assert_eq!(translated(gateway, sent), port, "the public port");
    let answer = answered(&masqueraded(sent, port));
    gateway
        .exchange(FABRIC, [answer.bytes()])
        .is_only(UPLINK, &delivered(sent).bytes(), "the answer");
}

fn offloads(gateway: &Gateway) -> OffloadCountersView {
    gateway.dataplane.offload_counters().view()
}

fn wait_for_live(gateway: &Gateway, count: u64) {
    gateway.wait("connections in the ASIC", || {
        let live = gateway.connections(0);
        let live = live.iter().filter(|view| view.offload == OffloadState::Live).count();
        offloads(gateway).live == count && live as u64 == count
    });
}

/// Packets that workers received.
fn received(gateway: &Gateway) -> u64 {
    gateway.dataplane.counters()[0].received.get()
}

fn zombies(gateway: &Gateway) -> u32 {
    gateway.ask(0, |engine| engine.stats().zombies)
}

/// The only rules shown are these, by state.
fn wait_for_rules(gateway: &Gateway, wanted: &[RuleState]) {
    gateway.wait("the rules that are shown", || {
        let shown = gateway.dataplane.offloaded().unwrap_or_default();
        shown.iter().map(|rule| rule.state).collect::<Vec<_>>() == wanted
    });
}

isolated! {
    fn established_connections_bypass_the_worker() {
        let gateway = Gateway::offloading("");
        let port = establish(&gateway, &flow(1));
        wait_for_live(&gateway, 1);
        let before = received(&gateway);
        passes(&gateway, &flow(1), port);
        assert_eq!(received(&gateway), before);
        gateway.wait("the counters of the ASIC", || offloads(&gateway).hits_packets >= 2);
        wait_for_rules(&gateway, &[RuleState::Live; 2]);
        gateway.assert_no_leak();
    }
}

isolated! {
    fn a_connection_whose_rules_are_refused_stays_in_software_for_a_reason() {
        let gateway = Gateway::offloading("");
        let full = Refusal {
            // The first rule of the connection is taken, the second is not.
            which: Which::Every(NonZeroU64::new(2).expect("two")),
            error: FlowError::full("no room, on order of the test"),
            ..Refusal::next(Operation::Create, 0)
        };
        let at_the_call = Refusal::next(Operation::Create, 2);
        let in_the_queue = Refusal { point: Point::Completion, ..Refusal::next(Operation::Create, 1) };
        let cases = [
            (full, NotOffloaded::NicFull),
            (at_the_call, NotOffloaded::NicRefused),
            (in_the_queue, NotOffloaded::NicRefused),
        ];
        for (number, (refusal, reason)) in (1..).zip(cases) {
            let before = gateway.dataplane.offload_counters().not_offloaded(reason);
            faults().refuse(refusal);
            let port = establish(&gateway, &flow(number));
            gateway.wait("the refusal", || gateway.dataplane.offload_counters().not_offloaded(reason) == before + 1);
            faults().clear();
            let seen = received(&gateway);
            passes(&gateway, &flow(number), port);
            assert_eq!(received(&gateway), seen + 2, "case {number}: in software");
        }
        let states: Vec<_> = gateway.connections(0).iter().map(|view| view.offload).collect();
        assert_eq!(states, [OffloadState::Refused; 3]);
        let counters = offloads(&gateway);
        assert_eq!((counters.live, counters.installed_total, counters.refused, counters.stuck), (0, 0, 3, 0));
        establish(&gateway, &flow(4));
        wait_for_live(&gateway, 1);
        wait_for_rules(&gateway, &[RuleState::Live; 2]);
    }
}

isolated! {
    fn the_ninth_rule_of_eight_is_refused_as_no_room() {
        let gateway = Gateway::offloading(",rules=8");
        let ports: Vec<_> = (1..=6).map(|number| establish(&gateway, &flow(number))).collect();
        wait_for_live(&gateway, 4);
        gateway.wait("the refusals", || offloads(&gateway).not_offloaded["nic-full"] == 2);
        for (number, port) in (1..).zip(ports) {
            passes(&gateway, &flow(number), port);
        }
    }
}

isolated! {
    fn a_rule_that_the_nic_keeps_keeps_its_nat_port() {
        let mut gateway = Gateway::offloading(",refuse-destroy=4000000000");
        let only = (20_000, 20_000);
        gateway.set_masquerade_ports(&[1, 2], only);
        gateway.publish();
        let red = flow(1);
        assert_eq!(establish(&gateway, &red), 20_000);
        wait_for_live(&gateway, 1);

        // The policy ends the connection. There is one port, and while the ASIC might translate to it, nobody gets it.
        gateway.set_masquerade_ports(&[2], only);
        gateway.publish();
        gateway.wait("the ASIC to be asked again and again", || faults().refused(Operation::Destroy) >= 6);
        gateway.wait("the connection to end", || zombies(&gateway) == 1);
        wait_for_rules(&gateway, &[RuleState::Stuck; 2]);
        let counters = offloads(&gateway);
        assert_eq!((counters.live, counters.stuck, counters.destroyed_total), (0, 1, 0));
        assert!(counters.destroy_refused_total >= 3, "{counters:?}");
        let sent = from_blue(Layer4::Udp(4000, 53));
        let blue = tunnel_in().around(&sent.bytes());
        let outcome = gateway.exchange(FABRIC, [blue.clone()]);
        // RFC 5508 REQ-8: its sender is told.
        let inner = icmp_error(&sent, "10.0.0.1", 3, 13, [0; 4]);
        let expected = tunnel_out(source_port(outcome.only(FABRIC))).around(&inner.bytes());
        outcome.is_answered(FABRIC, &expected, &[(Drop::NatPortsExhausted, 1)], "another tenant");

        faults().clear();
        gateway.wait("the removal", || offloads(&gateway).stuck == 0 && zombies(&gateway) == 0);
        assert_eq!(offloads(&gateway).destroyed_total, 1);
        wait_for_rules(&gateway, &[]);
        let outcome = gateway.exchange(FABRIC, [blue]);
        assert_eq!(source_port(outcome.only(FABRIC)), 20_000, "it is free again");
    }
}

isolated! {
    fn a_rule_that_was_lost_in_the_nic_goes_with_a_flush_and_the_others_come_back() {
        let mut gateway = Gateway::offloading("");
        let red = flow(1);
        let red_port = establish(&gateway, &red);
        wait_for_live(&gateway, 1);
        let blue = from_blue(Layer4::Udp(4000, 53));
        let blue_out = tunnel_in().around(&blue.bytes());
        let outcome = gateway.exchange(FABRIC, [blue_out.clone()]);
        let blue_port = source_port(outcome.only(FABRIC));
        let answer = answered(&masqueraded(&blue, blue_port)).bytes();
        for frame in [&answer, &blue_out, &answer] {
            gateway.exchange(FABRIC, [frame.clone()]).only(FABRIC);
        }
        wait_for_live(&gateway, 2);

        faults().refuse(Refusal { point: Point::Completion, ..Refusal::next(Operation::Destroy, 1) });
        gateway.set_masquerade(&[2]);
        gateway.publish();
        gateway.wait("the flush", || {
            let counters = offloads(&gateway);
            counters.destroy_refused_total == 1 && counters.stuck == 0 && zombies(&gateway) == 0
        });
        // Red's connection is gone from the ASIC, blue's is there again, with its port.
        wait_for_live(&gateway, 1);
        assert_eq!(offloads(&gateway).installed_total, 3);
        wait_for_rules(&gateway, &[RuleState::Live; 2]);
        let before = received(&gateway);
        let outcome = gateway.exchange(FABRIC, [blue_out]);
        outcome.is_only(FABRIC, &masqueraded(&blue, blue_port).bytes(), "blue, by the ASIC");
        assert_eq!(received(&gateway), before);
        let late = answered(&masqueraded(&red, red_port));
        gateway.exchange(FABRIC, [late.bytes()]).is_silent(&[(Drop::NatNoMapping, 1)], "red, which has ended");
        gateway.assert_no_leak();
    }
}

isolated! {
    fn late_completions_lose_nothing() {
        // More connections than the flow queue has room for at once.
        const FLOWS: u16 = 2_500;
        let mut gateway = Gateway::offloading(",delay-completions=300");
        let all = |gateway: &Gateway| -> Vec<u16> {
            let outcome = gateway.exchange(UPLINK, (0..FLOWS).map(|number| flow(number).bytes()));
            assert_eq!(outcome.drops, []);
            outcome.sent[FABRIC].iter().map(|frame| source_port(frame)).collect()
        };
        let answers = |gateway: &Gateway, ports: &[u16]| {
            let frames = (0..FLOWS).zip(ports).map(|(number, port)| answered(&masqueraded(&flow(number), *port)).bytes());
            let outcome = gateway.exchange(FABRIC, frames);
            assert_eq!((outcome.drops, outcome.sent[UPLINK].len()), (Vec::new(), usize::from(FLOWS)));
        };
        let ports = all(&gateway);
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), usize::from(FLOWS), "a port each");
        answers(&gateway, &ports);
        // From here on they are established, one after the other, while completions are late.
        for _ in 0..4 {
            assert_eq!(all(&gateway), ports);
            answers(&gateway, &ports);
        }
        wait_for_live(&gateway, FLOWS.into());
        let counters = offloads(&gateway);
        assert_eq!((counters.installed_total, counters.refused), (FLOWS.into(), 0));
        let before = received(&gateway);
        assert_eq!(all(&gateway), ports);
        assert_eq!(received(&gateway), before, "every one of them is in the ASIC");

        // They end, and every port is free again, late.
        gateway.set_policy(false);
        gateway.publish();
        gateway.wait("every removal", || offloads(&gateway).live == 0 && zombies(&gateway) == 0);
        assert_eq!(offloads(&gateway).destroyed_total, FLOWS.into());
        assert!(gateway.ask(0, |engine| engine.stats().ports.iter().all(|pool| pool.udp == 0)));
        gateway.assert_no_leak();
        faults().delay_completions(Duration::ZERO);
    }
}
