//! Packets that rules forward, and those that they leave alone.

use dpdk_sys::flow::{Action, Attr, FlowErrorKind, Item, Match};

use crate::bench::{Bench, mac};
use crate::frames::{CLIENT, Ends, GATEWAY, L4, PAYLOAD, PEER, PUBLIC, REMOTE, SERVER, TENANT, VTEP, frame, vxlan};
use crate::isolated;
use crate::rules::{Way, actions, items, open};

const FROM: Ends = Ends {
    src: CLIENT,
    dst: SERVER,
    ttl: 64,
    l4: L4::Udp(5000, 53),
};
const TO: Ends = Ends {
    src: PUBLIC,
    dst: SERVER,
    ttl: 63,
    l4: L4::Udp(40000, 53),
};
const ACK: u8 = 0x10;
const TCP_FROM: Ends = Ends {
    l4: L4::Tcp(5000, 443, ACK),
    ..FROM
};
const TCP_TO: Ends = Ends {
    l4: L4::Tcp(40000, 443, ACK),
    ..TO
};

fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

impl Bench {
    /// A rule from `way_in` on any port to `way_out` on port B.
    fn rule(&self, way_in: Way, from: Ends, way_out: Way, to: Ends) -> dpdk_sys::flow::Flow {
        let actions = actions(way_in, way_out, to, self.b.id());
        self.a
            .port
            .flow_create(&Attr::transfer(1), &items(way_in, from), &actions)
            .expect("rule")
    }

    /// What a frame on port A's wire becomes: to A's application, and out of B's wire.
    fn pass(&mut self, input: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        self.a.feed(&self.pool, &[input.to_vec()]);
        (self.a.receive(), self.b.receive())
    }

    fn leaves_as(&mut self, input: &[u8], output: &[u8]) {
        let (application, wire) = self.pass(input);
        assert_eq!(application, none());
        assert_eq!(wire, [output]);
    }

    fn goes_to_software(&mut self, what: &str, input: &[u8]) {
        let (application, wire) = self.pass(input);
        assert_eq!(application, [input], "{what}");
        assert_eq!(wire, none(), "{what}");
    }
}

isolated! {
    fn a_hit_is_rewritten_and_leaves_by_the_other_port() {
        let mut bench = Bench::new();
        let input = frame(PEER, mac(0), None, FROM, PAYLOAD);
        bench.goes_to_software("no rule", &input);
        let flow = bench.rule(Way::Plain, FROM, Way::Plain, TO);
        bench.goes_to_software("nothing leads to group 1", &input);
        let _entrance = open(&bench.a);
        bench.leaves_as(&input, &frame(mac(1), PEER, None, TO, PAYLOAD));

        let count = bench.a.port.flow_query_count(&flow, true).expect("count");
        assert_eq!((count.packets, count.bytes), (Some(1), Some(input.len() as u64)));
        assert_eq!(bench.a.port.flow_query_count(&flow, false).expect("count").packets, Some(0));
        // Port A received three frames that the test itself had sent; port B sent one and got it back.
        let (a, b) = (bench.a.port.stats().expect("stats"), bench.b.port.stats().expect("stats"));
        assert_eq!((a.rx_packets, a.tx_packets, b.rx_packets, b.tx_packets), (3, 3, 1, 1));
        assert_eq!((a.rx_bytes, b.tx_bytes), (3 * input.len() as u64, input.len() as u64));

        bench.a.port.flow_destroy(flow).expect("destroyed");
        bench.goes_to_software("the rule is gone", &input);
        assert_eq!(bench.pool.in_use(), 0);
    }
}

isolated! {
    fn rules_act_on_every_port_and_one_bound_to_a_port_on_that_alone() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let on_b = [vec![Item::RepresentedPort(bench.b.id())], items(Way::Plain, FROM)].concat();
        let back = actions(Way::Plain, Way::Plain, TO, bench.a.id());
        let bound = bench.a.port.flow_create(&Attr::transfer(1), &on_b, &back).expect("rule");
        let to_a = frame(PEER, mac(0), None, FROM, PAYLOAD);
        let to_b = frame(PEER, mac(1), None, FROM, PAYLOAD);
        bench.goes_to_software("a rule for port B", &to_a);
        bench.b.feed(&bench.pool, std::slice::from_ref(&to_b));
        assert_eq!((bench.b.receive(), bench.a.receive()), (none(), vec![frame(mac(1), PEER, None, TO, PAYLOAD)]));
        let _any = bench.rule(Way::Plain, FROM, Way::Vlan(7), TO);
        bench.leaves_as(&to_a, &frame(mac(1), PEER, Some(7), TO, PAYLOAD));
        bench.b.feed(&bench.pool, std::slice::from_ref(&to_b));
        assert_eq!(bench.b.receive(), none(), "the rule of the port comes first");
        assert_eq!(bench.a.receive().len(), 1);
        assert_eq!(bench.a.port.flow_query_count(&bound, false).expect("count").packets, Some(2));
    }
}

isolated! {
    fn what_hardware_leaves_alone_goes_to_software_unchanged() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let _rules = [
            bench.rule(Way::Plain, FROM, Way::Plain, TO),
            bench.rule(Way::Plain, TCP_FROM, Way::Plain, TCP_TO),
        ];
        let plain = frame(PEER, mac(0), None, FROM, PAYLOAD);
        bench.leaves_as(&plain, &frame(mac(1), PEER, None, TO, PAYLOAD));
        for flags in [ACK, ACK | 0x08] {
            let with = |ends: Ends| {
                let (src, dst) = crate::rules::ports(ends.l4);
                Ends { l4: L4::Tcp(src, dst, flags), ..ends }
            };
            let input = frame(PEER, mac(0), None, with(TCP_FROM), PAYLOAD);
            bench.leaves_as(&input, &frame(mac(1), PEER, None, with(TCP_TO), PAYLOAD));
        }
        for (name, flag) in [("FIN", 0x01), ("SYN", 0x02), ("RST", 0x04)] {
            let ends = Ends { l4: L4::Tcp(5000, 443, ACK | flag), ..FROM };
            bench.goes_to_software(name, &frame(PEER, mac(0), None, ends, PAYLOAD));
        }
        for ttl in [0, 1] {
            bench.goes_to_software("TTL", &frame(PEER, mac(0), None, Ends { ttl, ..FROM }, PAYLOAD));
        }
        bench.goes_to_software("another MAC", &frame(PEER, mac(1), None, FROM, PAYLOAD));
        bench.goes_to_software("from a group", &frame([3, 0, 0, 0, 0, 1], mac(0), None, FROM, PAYLOAD));
        bench.goes_to_software("tagged", &frame(PEER, TENANT, Some(7), FROM, PAYLOAD));
        bench.goes_to_software("another port", &frame(PEER, mac(0), None, Ends { l4: L4::Udp(5001, 53), ..FROM }, PAYLOAD));
        let change = |at: usize, bytes: &[u8], mend: bool| {
            let mut frame = plain.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            if mend {
                frame[24..26].fill(0);
                let sum = net::checksum::checksum(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            frame
        };
        bench.goes_to_software("first fragment", &change(20, &[0x20, 0], true));
        bench.goes_to_software("later fragment", &change(20, &[0, 5], true));
        bench.goes_to_software("reserved flag", &change(20, &[0x80, 0], true));
        bench.goes_to_software("bad header checksum", &change(24, &[0xab, 0xcd], false));
        bench.goes_to_software("longer than the frame", &change(16, &[0, 60], true));
        bench.goes_to_software("truncated", &plain[..40]);
        bench.goes_to_software("half a header", &plain[..30]);
        let mut options = plain.clone();
        options.splice(34..34, [1, 1, 1, 0]);
        options[14] = 0x46;
        options[17] += 4;
        options[24..26].fill(0);
        let sum = net::checksum::checksum(&options[14..38]);
        options[24..26].copy_from_slice(&sum.to_be_bytes());
        bench.goes_to_software("options", &options);
        bench.leaves_as(&plain, &frame(mac(1), PEER, None, TO, PAYLOAD));
    }
}

isolated! {
    fn vlan_tags_come_off_and_go_on() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let _rules = [
            bench.rule(Way::Vlan(100), FROM, Way::Plain, TO),
            bench.rule(Way::Plain, TCP_FROM, Way::Vlan(200), TCP_TO),
            bench.rule(Way::Vlan(100), TCP_FROM, Way::Vlan(300), TCP_TO),
        ];
        bench.leaves_as(
            &frame(PEER, TENANT, Some(100), FROM, PAYLOAD),
            &frame(mac(1), PEER, None, TO, PAYLOAD),
        );
        bench.leaves_as(
            &frame(PEER, mac(0), None, TCP_FROM, PAYLOAD),
            &frame(mac(1), PEER, Some(200), TCP_TO, PAYLOAD),
        );
        bench.leaves_as(
            &frame(PEER, TENANT, Some(100), TCP_FROM, PAYLOAD),
            &frame(mac(1), PEER, Some(300), TCP_TO, PAYLOAD),
        );
        bench.goes_to_software("another VLAN", &frame(PEER, TENANT, Some(101), FROM, PAYLOAD));
        bench.goes_to_software("no VLAN", &frame(PEER, mac(0), None, FROM, PAYLOAD));
        for (name, to) in [("the port's MAC", mac(0)), ("its peer's", PEER), ("broadcast", [0xff; 6])] {
            bench.goes_to_software(name, &frame(PEER, to, Some(100), FROM, PAYLOAD));
        }
        bench.goes_to_software("no VLAN, its MAC", &frame(PEER, TENANT, None, TCP_FROM, PAYLOAD));
    }
}

/// As a remote endpoint sends it to the gateway.
fn to_vtep(vni: u32, inner: &[u8]) -> Vec<u8> {
    vxlan(
        GATEWAY,
        mac(0),
        None,
        (REMOTE, VTEP),
        (64, 0),
        (50000, 4789),
        vni,
        inner,
    )
}

/// As the gateway sends it to a remote endpoint.
fn to_remote(vlan: Option<u16>, vni: u32, inner: &[u8]) -> Vec<u8> {
    vxlan(
        mac(1),
        GATEWAY,
        vlan,
        (VTEP, REMOTE),
        (61, 0xb8),
        (0xc0de, 4789),
        vni,
        inner,
    )
}

isolated! {
    fn vxlan_comes_off_and_goes_on() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let _rules = [
            bench.rule(Way::Vxlan(77), FROM, Way::Plain, TO),
            bench.rule(Way::Plain, FROM, Way::Vxlan(88), TO),
            bench.rule(Way::Plain, TCP_FROM, Way::VxlanInVlan(99, 5), TCP_TO),
            bench.rule(Way::Vxlan(77), TCP_FROM, Way::Vxlan(66), TCP_TO),
        ];
        let inner = frame([2, 1, 1, 1, 1, 1], TENANT, None, FROM, PAYLOAD);
        let inner_tcp = frame([2, 1, 1, 1, 1, 1], TENANT, None, TCP_FROM, PAYLOAD);
        let out = frame(mac(1), PEER, None, TO, PAYLOAD);
        let out_tcp = frame(mac(1), PEER, None, TCP_TO, PAYLOAD);
        bench.leaves_as(&to_vtep(77, &inner), &out);
        let plain = frame(PEER, mac(0), None, FROM, PAYLOAD);
        bench.leaves_as(&plain, &to_remote(None, 88, &out));
        let padded = [plain.as_slice(), &[0; 6]].concat();
        bench.leaves_as(&padded, &to_remote(None, 88, &out));
        bench.leaves_as(&frame(PEER, mac(0), None, TCP_FROM, PAYLOAD), &to_remote(Some(5), 99, &out_tcp));
        bench.leaves_as(&to_vtep(77, &inner_tcp), &to_remote(None, 66, &out_tcp));

        bench.goes_to_software("another VNI", &to_vtep(78, &inner));
        let mut no_flag = to_vtep(77, &inner);
        no_flag[42] = 0;
        bench.goes_to_software("no VNI flag", &no_flag);
        bench.goes_to_software("inner tag", &to_vtep(77, &frame(PEER, TENANT, Some(9), FROM, PAYLOAD)));
        for (name, to) in [("inner broadcast", [0xff; 6]), ("inner frame to the port's MAC", mac(0)), ("to its peer's", PEER)] {
            bench.goes_to_software(name, &to_vtep(77, &frame(PEER, to, None, FROM, PAYLOAD)));
        }
        // The outer packet ends with the datagram; what follows it is not the inner packet's.
        let mut cut = to_vtep(77, &inner);
        let length = u16::from_be_bytes([cut[38], cut[39]]) - 1;
        cut[38..40].copy_from_slice(&length.to_be_bytes());
        bench.goes_to_software("the datagram ends before the packet", &cut);
        let syn = Ends { l4: L4::Tcp(5000, 443, 0x02), ..FROM };
        bench.goes_to_software("inner SYN", &to_vtep(77, &frame(PEER, TENANT, None, syn, PAYLOAD)));
        bench.goes_to_software("inner TTL", &to_vtep(77, &frame(PEER, TENANT, None, Ends { ttl: 1, ..FROM }, PAYLOAD)));
        let elsewhere = vxlan(GATEWAY, mac(0), None, (REMOTE, PUBLIC), (64, 0), (50000, 4789), 77, &inner);
        bench.goes_to_software("another endpoint", &elsewhere);

        // A rule may also be about the tunnel's own packets.
        let transit = Ends { src: REMOTE, dst: PUBLIC, ttl: 64, l4: L4::Udp(50000, 4789) };
        let moved = Ends { src: REMOTE, dst: SERVER, ttl: 63, l4: L4::Udp(50000, 4789) };
        let _transit = bench.rule(Way::Plain, transit, Way::Plain, moved);
        let (application, wire) = bench.pass(&elsewhere);
        assert_eq!((application.len(), wire.len()), (0, 1));
    }
}

isolated! {
    fn one_vlan_on_two_ports_is_two_networks() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let create = |bench: &Bench, port, to| {
            let items = [vec![Item::RepresentedPort(port)], items(Way::Vlan(100), FROM)].concat();
            let actions = actions(Way::Vlan(100), Way::Plain, to, bench.b.id());
            bench.a.port.flow_create(&Attr::transfer(1), &items, &actions).expect("rule")
        };
        let _on_b = create(&bench, bench.b.id(), TO);
        let input = frame(PEER, TENANT, Some(100), FROM, PAYLOAD);
        bench.goes_to_software("the VLAN of another port", &input);
        let elsewhere = Ends { src: VTEP, ..TO };
        let _on_a = create(&bench, bench.a.id(), elsewhere);
        bench.leaves_as(&input, &frame(mac(1), PEER, None, elsewhere, PAYLOAD));
    }
}

isolated! {
    fn what_does_not_fit_the_way_out_goes_to_software() {
        let mut bench = Bench::with(None, "", 1000);
        let _entrance = open(&bench.a);
        let _rules = [
            bench.rule(Way::Plain, FROM, Way::Plain, TO),
            bench.rule(Way::Plain, TCP_FROM, Way::Vxlan(88), TCP_TO),
        ];
        assert_eq!(bench.b.port.mtu(), 1000);
        let udp = |payload: usize| frame(PEER, mac(0), None, FROM, &vec![7; payload]);
        bench.leaves_as(&udp(1000 - 28), &frame(mac(1), PEER, None, TO, &vec![7; 1000 - 28]));
        bench.goes_to_software("one byte more", &udp(1000 - 27));
        let tcp = |payload: usize| frame(PEER, mac(0), None, TCP_FROM, &vec![7; payload]);
        let inner = frame(mac(1), PEER, None, TCP_TO, &vec![7; 1000 - 50 - 40]);
        bench.leaves_as(&tcp(1000 - 50 - 40), &to_remote(None, 88, &inner));
        bench.goes_to_software("one byte more in a tunnel", &tcp(1000 - 50 - 39));
    }
}

isolated! {
    fn udp_without_checksum_stays_without() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let _rule = bench.rule(Way::Plain, FROM, Way::Plain, TO);
        let without = |mut frame: Vec<u8>| {
            frame[40..42].fill(0);
            frame
        };
        bench.leaves_as(
            &without(frame(PEER, mac(0), None, FROM, PAYLOAD)),
            &without(frame(mac(1), PEER, None, TO, PAYLOAD)),
        );
    }
}

isolated! {
    fn a_rule_may_drop() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let flow = bench.a.port
            .flow_create(&Attr::transfer(1), &items(Way::Plain, FROM), &[Action::Count, Action::Drop])
            .expect("rule");
        assert_eq!(bench.pass(&frame(PEER, mac(0), None, FROM, PAYLOAD)), (none(), none()));
        assert_eq!(bench.a.port.flow_query_count(&flow, false).expect("count").packets, Some(1));
        assert_eq!(bench.pool.in_use(), 0);
    }
}

isolated! {
    fn a_port_that_is_closed_takes_its_rules_along_and_is_no_way_out() {
        let bench = Bench::new();
        let _entrance = open(&bench.a);
        let _rule = bench.rule(Way::Plain, FROM, Way::Plain, TO);
        let back = actions(Way::Plain, Way::Plain, TCP_TO, bench.a.id());
        let _rule = bench.b.port
            .flow_create(&Attr::transfer(1), &items(Way::Plain, TCP_FROM), &back)
            .expect("a rule made through port B");
        let Bench { mut a, b, pool, eal } = bench;
        let gone = b.id();
        let through_b = frame(PEER, mac(0), None, TCP_FROM, PAYLOAD);
        a.feed(&pool, std::slice::from_ref(&through_b));
        assert_eq!(a.receive(), none());
        a.receive();
        drop((b.port, b.rx, b.tx));
        eal.detach(b.handle).expect("detached");
        let to_b = frame(PEER, mac(0), None, FROM, PAYLOAD);
        a.feed(&pool, &[through_b.clone(), to_b.clone()]);
        assert_eq!(a.receive(), [through_b, to_b]);
        let error = a.port.flow_create(
            &Attr::transfer(1), &items(Way::Vlan(3), FROM), &actions(Way::Vlan(3), Way::Plain, TO, gone),
        ).expect_err("no such port");
        assert!(error.kind == FlowErrorKind::Action && error.message.contains("no port of this e-switch"), "{error}");
        assert_eq!(pool.in_use(), 0);
    }
}

isolated! {
    fn group_0_takes_one_rule_a_port() {
        let bench = Bench::new();
        let entrance = open(&bench.a);
        let create = |attr, items: &[Item], actions: &[Action]| {
            bench.a.port.flow_create(&attr, items, actions).map(|_| ()).expect_err("refused")
        };
        let any = [Item::Eth(Match::any())];
        assert!(create(Attr::transfer(0), &any, &[Action::Jump(1)]).message.contains("EEXIST"));
        assert!(create(Attr::transfer(0), &any, &[Action::Drop]).message.contains("JUMP"));
        assert!(create(Attr::transfer(0), &items(Way::Plain, FROM), &[Action::Jump(1)]).message.contains("ETH any"));
        assert_eq!(create(Attr::ingress(0), &any, &[Action::Jump(1)]).kind, FlowErrorKind::Attr);
        assert_eq!(create(Attr::transfer(2), &any, &[Action::Jump(1)]).kind, FlowErrorKind::Attr);
        bench.a.port.flow_destroy(entrance).expect("destroyed");
        let _entrance = open(&bench.a);
    }
}
