//! Packets that rules forward, and those that they leave alone.

use dpdk_sys::flow::{Action, Attr, FlowErrorKind, Item, Match};

use crate::bench::{Bench, mac};
use crate::frames::{CLIENT, Ends, L4, PAYLOAD, PEER, PUBLIC, SERVER, frame};
use crate::isolated;
use crate::rules::{Way, actions, items, open};

pub const FROM: Ends = Ends {
    src: CLIENT,
    dst: SERVER,
    ttl: 64,
    l4: L4::Udp(5000, 53),
};
pub const TO: Ends = Ends {
    src: PUBLIC,
    dst: SERVER,
    ttl: 63,
    l4: L4::Udp(40000, 53),
};

isolated! {
    fn a_hit_is_rewritten_and_leaves_by_the_other_port() {
        let mut bench = Bench::new();
        let input = frame(PEER, mac(0), None, FROM, PAYLOAD);
        bench.a.feed(&bench.pool, std::slice::from_ref(&input));
        assert_eq!(bench.a.receive(), [input.clone()], "no rule: to the application");

        let flow = bench.a.port.flow_create(
            &Attr::transfer(1),
            &items(Way::Plain, FROM),
            &actions(Way::Plain, Way::Plain, TO, bench.b.id()),
        ).expect("rule");
        bench.a.feed(&bench.pool, std::slice::from_ref(&input));
        assert_eq!(bench.a.receive(), [input.clone()], "nothing leads to group 1 yet");

        let _entrance = open(&bench.a);
        bench.a.feed(&bench.pool, std::slice::from_ref(&input));
        assert_eq!(bench.a.receive(), Vec::<Vec<u8>>::new());
        assert_eq!(bench.b.receive(), [frame(mac(1), PEER, None, TO, PAYLOAD)]);
        let count = bench.a.port.flow_query_count(&flow, true).expect("count");
        assert_eq!((count.packets, count.bytes), (Some(1), Some(input.len() as u64)));
        assert_eq!(bench.a.port.flow_query_count(&flow, false).expect("count").packets, Some(0));
        // Port A received three frames that the test itself had sent; port B sent one.
        let (a, b) = (bench.a.port.stats().expect("stats"), bench.b.port.stats().expect("stats"));
        assert_eq!((a.rx_packets, a.tx_packets, b.rx_packets, b.tx_packets), (3, 3, 1, 1));
        assert_eq!((a.rx_bytes, b.tx_bytes), (3 * input.len() as u64, input.len() as u64));

        bench.a.port.flow_destroy(flow).expect("destroyed");
        bench.a.feed(&bench.pool, std::slice::from_ref(&input));
        assert_eq!(bench.a.receive(), [input], "the rule is gone");
        let error = bench.a.port.flow_create(
            &Attr::transfer(0), &[Item::Eth(Match::any())], &[Action::Drop],
        ).expect_err("group 0 only jumps");
        assert_eq!(error.kind, FlowErrorKind::Action);
        assert!(error.message.contains("JUMP"), "{error}");
    }
}
