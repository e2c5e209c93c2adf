//! The generator hands out what it was loaded with and counts what it swallows.

use dpdk_sys::{Burst, Mbuf, Port, PortConfig};
use softasic::generator;

use crate::isolated;
use crate::process::{eal, pool};

isolated! {
    fn frames_come_in_order_again_and_again_and_are_swallowed() {
        softasic::register_generator().expect("registered");
        let eal = eal();
        let pool = pool(&eal);
        let name = "net_generator0";
        generator::load(name, &[vec![1; 60], vec![2; 61], vec![3; 62]]);
        let handle = eal.attach(name).expect("generator");
        let config = PortConfig { rx_queues: 2, ..PortConfig::new(pool.clone()) };
        let (port, mut rx, mut tx) =
            Port::configure(&eal, handle.port(), &config).expect("configured").start().expect("started");
        let mut burst = Burst::new();
        let mut heads = |queue: usize, max| {
            rx[queue].burst(&mut burst, max);
            burst.drain(..).map(|packet| (packet.data()[0], packet.len())).collect::<Vec<_>>()
        };
        assert_eq!(heads(0, 3), [(1, 60), (3, 62), (1, 60)]);
        assert_eq!(heads(0, 1), [(3, 62)]);
        assert_eq!(heads(1, 2), [(2, 61), (2, 61)]);
        generator::pause(name, true);
        assert_eq!(heads(0, 3), []);
        generator::pause(name, false);
        generator::replace(name, &[vec![9; 70]]);
        assert_eq!(heads(0, 2), [(9, 70), (9, 70)]);
        assert_eq!(heads(1, 2), [], "a frame comes on one queue");
        generator::replace(name, &[]);
        assert_eq!(heads(0, 3), []);
        assert_eq!(generator::counters(name), (8, 0));

        generator::capture(name, 2);
        let mut burst = Burst::new();
        for number in 0..3 {
            burst.push(Mbuf::from_bytes(&pool, &[number; 64]).expect("packet"));
        }
        assert_eq!(tx[0].burst(&mut burst), 3);
        assert_eq!(generator::counters(name), (8, 3));
        assert_eq!(generator::samples(name), [[0; 64], [1; 64]]);
        assert_eq!(pool.in_use(), 0);
        let stats = port.stats().expect("stats");
        assert_eq!((stats.rx_packets, stats.tx_packets, stats.tx_bytes), (8, 3, 192));
    }
}
