//! Rules by calls and by queues: refusals, capacity, completions, flush, ageing.

use dpdk_sys::flow::{
    Action, ActionsTemplate, Attr, Completion, Flow, FlowConfig, FlowErrorKind, FlowQueue, Ipv4, Item, Match,
    PatternTemplate, TableAttr, TemplateAction, TemplateTable, Udp,
};

use crate::bench::{Bench, mac};
use crate::frames::{CLIENT, Ends, L4, PAYLOAD, PEER, PUBLIC, SERVER, frame};
use crate::isolated;
use crate::rules::{IP_MASK, Way, actions, items, open};

/// The `number`-th of many flows.
fn from(number: u16) -> Ends {
    Ends {
        src: CLIENT,
        dst: SERVER,
        ttl: 64,
        l4: L4::Udp(number, 53),
    }
}

fn to(number: u16) -> Ends {
    Ends {
        src: PUBLIC,
        dst: SERVER,
        ttl: 63,
        l4: L4::Udp(20000 + number, 53),
    }
}

impl Bench {
    pub fn create(&self, number: u16) -> Result<Flow, dpdk_sys::flow::FlowError> {
        let actions = actions(Way::Plain, Way::Plain, to(number), self.b.id());
        self.a
            .port
            .flow_create(&Attr::transfer(1), &items(Way::Plain, from(number)), &actions)
    }

    /// True if a packet of the `number`-th flow is forwarded.
    pub fn forwards(&mut self, number: u16) -> bool {
        let input = frame(PEER, mac(0), None, from(number), PAYLOAD);
        self.a.feed(&self.pool, std::slice::from_ref(&input));
        match (self.a.receive().as_slice(), self.b.receive().as_slice()) {
            ([], [output]) => {
                assert_eq!(*output, frame(mac(1), PEER, None, to(number), PAYLOAD));
                true
            }
            ([same], []) => {
                assert_eq!(*same, input);
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

isolated! {
    fn what_is_no_exact_match_or_no_whole_rewrite_is_refused_by_name() {
        let bench = Bench::new();
        let good_items = items(Way::Plain, from(1));
        let good_actions = actions(Way::Plain, Way::Plain, to(1), bench.b.id());
        let attr = Attr::transfer(1);
        let refusal = |items: &[Item], actions: &[Action]| {
            let error = bench.a.port.flow_validate(&attr, items, actions).expect_err("refused");
            assert_eq!(bench.a.port.flow_create(&attr, items, actions).map(|_| ()).expect_err("refused"), error);
            error
        };
        bench.a.port.flow_validate(&attr, &good_items, &good_actions).expect("this is a rule");

        let mut wide = good_items.clone();
        let Item::Ipv4(ip) = &mut wide[1] else { panic!("IPv4") };
        ip.mask = Ipv4 { tos: 0xff, ..IP_MASK };
        let error = refusal(&wide, &good_actions);
        assert_eq!(error.kind, FlowErrorKind::Unsupported);
        assert!(error.message.contains("IPV4"), "{error}");
        let mut prefix = good_items.clone();
        let Item::Ipv4(ip) = &mut prefix[1] else { panic!("IPv4") };
        ip.mask.src = std::net::Ipv4Addr::new(255, 255, 255, 0);
        assert!(refusal(&prefix, &good_actions).message.contains("IPV4"));
        let mut any_port = good_items.clone();
        any_port[2] = Item::Udp(Match::new(Udp { src: 1, dst: 53 }, Udp { src: 0, dst: 0xffff }));
        assert!(refusal(&any_port, &good_actions).message.contains("UDP"));
        assert!(refusal(&good_items[..2], &good_actions).message.contains("ETH / IPV4"));

        for at in 0..good_actions.len() {
            if good_actions[at] == Action::Count {
                continue;
            }
            let mut fewer = good_actions.clone();
            fewer.remove(at);
            assert_eq!(refusal(&good_items, &fewer).kind, FlowErrorKind::Action, "without action {at}");
        }
        let mut swapped = good_actions.clone();
        swapped.swap(0, 1);
        assert!(refusal(&good_items, &swapped).message.contains("in this order"));
        let decap = [vec![Action::VxlanDecap], good_actions.clone()].concat();
        assert!(refusal(&good_items, &decap).message.contains("VXLAN_DECAP"));
        assert!(refusal(&items(Way::Vlan(4), from(1)), &good_actions).message.contains("OF_POP_VLAN"));
        assert!(refusal(&items(Way::Vxlan(4), from(1)), &good_actions).message.contains("VXLAN_DECAP"));
        for (way, at) in [(Way::Vlan(4), 0), (Way::Vxlan(4), 4)] {
            let mut to_anybody = items(way, from(1));
            to_anybody[at] = Item::Eth(Match::any());
            assert!(refusal(&to_anybody, &good_actions).message.contains("mask of ETH"));
            let mut to_group = items(way, from(1));
            let Item::Eth(eth) = &mut to_group[at] else { panic!("Ethernet") };
            eth.spec.dst = [1, 0, 0x5e, 0, 0, 1];
            assert!(refusal(&to_group, &good_actions).message.contains("group addresses"));
        }
    }
}

isolated! {
    fn a_second_rule_for_the_same_packets_is_refused() {
        let bench = Bench::new();
        let first = bench.create(1).expect("rule");
        let error = bench.create(1).expect_err("twice");
        assert!(error.message.contains("EEXIST"), "{error}");
        let error = bench.b.port
            .flow_create(
                &Attr::transfer(1), &items(Way::Plain, from(1)), &actions(Way::Plain, Way::Plain, to(1), bench.a.id()),
            )
            .expect_err("one e-switch");
        assert!(error.message.contains("EEXIST"), "{error}");
        bench.a.port.flow_destroy(first).expect("destroyed");
        let _again = bench.create(1).expect("there is room again");
    }
}

isolated! {
    fn the_table_of_all_ports_has_an_end() {
        let mut bench = Bench::with(None, ",rules=3", 1500);
        let _entrance = open(&bench.a);
        let mut flows: Vec<Flow> = (1..=3).map(|number| bench.create(number).expect("room")).collect();
        let error = bench.create(4).expect_err("full");
        assert_eq!(error.kind, FlowErrorKind::Full);
        assert!(bench.forwards(3) && !bench.forwards(4));
        bench.a.port.flow_destroy(flows.remove(0)).expect("destroyed");
        let _fourth = bench.create(4).expect("room again");
        assert!(bench.forwards(4) && !bench.forwards(1));
    }
}

isolated! {
    fn flush_takes_the_rules_of_one_port() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.b);
        let _of_a = bench.create(1).expect("rule of A");
        let _of_b = bench.b.port
            .flow_create(
                &Attr::transfer(1), &items(Way::Plain, from(2)), &actions(Way::Plain, Way::Plain, to(2), bench.b.id()),
            )
            .expect("rule of B");
        assert!(bench.forwards(1) && bench.forwards(2));
        bench.a.port.flow_flush().expect("flushed");
        assert!(!bench.forwards(1) && bench.forwards(2));
        bench.b.port.flow_flush().expect("flushed");
        assert!(!bench.forwards(2));
        let _entrance = open(&bench.a);
        let _rule = bench.create(1).expect("rule");
        assert!(bench.forwards(1));
    }
}

/// A queue of port A and a table for 4 rules.
pub fn asynchronous() -> (Bench, FlowQueue, TemplateTable) {
    let bench = Bench::with(
        Some(FlowConfig {
            queues: 1,
            queue_size: 8,
            ..FlowConfig::default()
        }),
        "",
        1500,
    );
    let queue = bench.a.port.take_flow_queues().remove(0);
    let attr = Attr::transfer(1);
    let pattern = PatternTemplate::create(&bench.a.port, &attr, &items(Way::Plain, from(0))).expect("pattern");
    let template: Vec<TemplateAction> = actions(Way::Plain, Way::Plain, to(0), bench.b.id())
        .into_iter()
        .map(|action| match action {
            Action::Count | Action::DecTtl => TemplateAction::fixed(action),
            _ => TemplateAction::per_rule(action),
        })
        .collect();
    let actions = ActionsTemplate::create(&bench.a.port, &attr, &template).expect("actions");
    let table = TableAttr { attr, rules: 4 };
    let table = TemplateTable::create(&bench.a.port, &table, &[pattern], &[actions]).expect("table");
    (bench, queue, table)
}

pub fn enter(
    bench: &Bench,
    queue: &mut FlowQueue,
    table: &TemplateTable,
    number: u16,
) -> Result<Flow, dpdk_sys::flow::FlowError> {
    let actions = actions(Way::Plain, Way::Plain, to(number), bench.b.id());
    queue.create(table, &items(Way::Plain, from(number)), 0, &actions, 0, number.into())
}

pub fn pulled(queue: &mut FlowQueue) -> Vec<(u64, bool)> {
    let mut out: Vec<Completion> = Vec::new();
    while queue.pull(&mut out).expect("pulled") > 0 {}
    out.iter()
        .map(|completion| (completion.user_data, completion.ok))
        .collect()
}

isolated! {
    fn queued_rules_act_and_complete_after_the_push_in_order() {
        let (mut bench, mut queue, table) = asynchronous();
        let _entrance = open(&bench.a);
        let first = enter(&bench, &mut queue, &table, 1).expect("entered");
        let second = enter(&bench, &mut queue, &table, 2).expect("entered");
        assert_eq!(pulled(&mut queue), []);
        assert!(!bench.forwards(1));
        queue.push().expect("pushed");
        assert_eq!(pulled(&mut queue), [(1, true), (2, true)]);
        assert_eq!(pulled(&mut queue), []);
        assert!(bench.forwards(1) && bench.forwards(2));
        assert_eq!(bench.a.port.flow_query_count(&first, false).expect("count").packets, Some(1));

        queue.destroy(first, 11).expect("entered");
        assert!(bench.forwards(1), "until the push");
        let third = enter(&bench, &mut queue, &table, 1).expect("the same match, behind the end of the first");
        let double = enter(&bench, &mut queue, &table, 2).expect("entered");
        queue.push().expect("pushed");
        assert_eq!(pulled(&mut queue), [(11, true), (1, true), (2, false)], "there was a second rule already");
        assert!(bench.forwards(1) && bench.forwards(2));
        assert_eq!(bench.a.port.flow_query_count(&third, false).expect("count").packets, Some(1));
        assert_eq!(queue.destroy(double, 0).map_err(|refused| refused.error.kind).expect_err("never was"), FlowErrorKind::Handle);
        queue.destroy(second, 12).expect("entered");
        queue.destroy(third, 13).expect("entered");
        queue.push().expect("pushed");
        assert_eq!(pulled(&mut queue), [(12, true), (13, true)]);
        assert!(!bench.forwards(1) && !bench.forwards(2));
    }
}

isolated! {
    fn tables_and_queues_have_ends() {
        let (bench, mut queue, table) = asynchronous();
        let mut flows: Vec<Flow> =
            (1..=4).map(|number| enter(&bench, &mut queue, &table, number).expect("room")).collect();
        assert_eq!(enter(&bench, &mut queue, &table, 5).expect_err("table full").kind, FlowErrorKind::Full);
        queue.push().expect("pushed");
        assert_eq!(pulled(&mut queue).len(), 4);
        queue.destroy(flows.remove(0), 9).expect("entered");
        queue.push().expect("pushed");
        flows.push(enter(&bench, &mut queue, &table, 5).expect("room again"));
        for user_data in 0..4 {
            queue.destroy(flows.remove(0), user_data).expect("entered");
        }
        queue.push().expect("pushed");
        for number in 1..=2 {
            flows.push(enter(&bench, &mut queue, &table, number).expect("room in a queue of 8"));
        }
        let error = enter(&bench, &mut queue, &table, 3).expect_err("6 wait for the pull, 2 for the push");
        assert_eq!((error.kind, error.message.contains("queue")), (FlowErrorKind::Full, true));
        assert_eq!(pulled(&mut queue).len(), 6);
        flows.push(enter(&bench, &mut queue, &table, 3).expect("room"));
    }
}

isolated! {
    fn rules_that_see_no_packet_age_and_are_reported_once() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let mut with_age = actions(Way::Plain, Way::Plain, to(1), bench.b.id());
        with_age.insert(with_age.len() - 1, Action::Age { seconds: 1, context: 4242 });
        let flow = bench.a.port
            .flow_create(&Attr::transfer(1), &items(Way::Plain, from(1)), &with_age)
            .expect("rule");
        let aged = |bench: &Bench| {
            let mut contexts = Vec::new();
            bench.a.port.flow_aged(&mut contexts).expect("aged");
            contexts
        };
        assert_eq!(aged(&bench), []);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(bench.a.port.flow_query_age(&flow).expect("age").aged);
        assert_eq!(aged(&bench), [4242]);
        assert_eq!(aged(&bench), [], "once");
        assert!(bench.forwards(1));
        let age = bench.a.port.flow_query_age(&flow).expect("age");
        assert_eq!((age.aged, age.idle_seconds), (false, Some(0)));
    }
}

isolated! {
    fn rules_come_and_go_while_packets_flow() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let _steady = bench.create(1).expect("rule");
        let done = std::sync::atomic::AtomicBool::new(false);
        let Bench { a, b, pool, .. } = &mut bench;
        let (port, egress, rx, tx) = (&a.port, b.id(), &mut a.rx[0], &mut a.tx[0]);
        let other = &mut b.rx[0];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..2000 {
                    let number = 2 + round % 8;
                    let actions = actions(Way::Plain, Way::Plain, to(number), egress);
                    let flow = port
                        .flow_create(&Attr::transfer(1), &items(Way::Plain, from(number)), &actions)
                        .expect("rule");
                    port.flow_destroy(flow).expect("destroyed");
                }
                done.store(true, std::sync::atomic::Ordering::Release);
            });
            let mut burst = dpdk_sys::Burst::new();
            let mut rounds = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) || rounds < 100 {
                for number in 1..10 {
                    let input = frame(PEER, mac(0), None, from(number), PAYLOAD);
                    burst.push(dpdk_sys::Mbuf::from_bytes(pool, &input).expect("packet"));
                }
                assert_eq!(tx.burst(&mut burst), 9);
                let software = rx.burst(&mut burst, 64);
                for packet in burst.drain(..) {
                    let port = u16::from_be_bytes([packet.data()[34], packet.data()[35]]);
                    assert_ne!(port, 1, "its rule is always there");
                    assert_eq!(packet.data(), frame(PEER, mac(0), None, from(port), PAYLOAD));
                }
                assert_eq!(software + other.burst(&mut burst, 64), 9, "none is lost");
                for packet in burst.drain(..) {
                    let port = u16::from_be_bytes([packet.data()[34], packet.data()[35]]) - 20000;
                    assert_eq!(packet.data(), frame(mac(1), PEER, None, to(port), PAYLOAD));
                }
                rounds += 1;
            }
        });
        assert_eq!(pool.in_use(), 0);
    }
}
