//! A driver in Rust is a port like any other.

use std::sync::atomic::Ordering;

use dpdk_sys::{Burst, Error, Mbuf, Port, PortConfig, Rss};

use crate::devices::{ALIVE, Loopback, MAC, RSS_KEY};
use crate::isolated;
use crate::process::{eal, pool};

isolated! {
    fn a_driver_is_attached_started_and_dropped_with_its_port() {
        dpdk_sys::pmd::register("net_loopback", |probe| Loopback::attach(probe, None)).expect("registered");
        assert!(dpdk_sys::pmd::register("net_loopback", |probe| Loopback::attach(probe, None)).is_err());
        let eal = eal();
        let pool = pool(&eal, "loopback");
        let error = eal.attach("net_loopback0,capacity=much").expect_err("factory refuses");
        assert!(matches!(error, Error::Attach { .. }), "{error:?}");

        let handle = eal.attach("net_loopback0,capacity=48").expect("loopback");
        let mut config = PortConfig::new(pool.clone());
        (config.rx_queues, config.tx_queues, config.mtu) = (2, 2, 2000);
        config.rss = Some(Rss { key: Some([0x6d, 0x5a].repeat(20)) });
        let (port, mut rx, mut tx) =
            Port::configure(&eal, handle.port(), &config).expect("configured").start().expect("started");
        assert_eq!((port.mac(), port.mtu(), port.driver_name().as_str()), (MAC, 2000, "net_loopback"));
        assert!(port.capabilities().rss && port.link_up() && !port.capabilities().flow);
        assert_eq!(*RSS_KEY.lock().expect("key"), [0x6d, 0x5a].repeat(20));
        port.set_mac([2, 0, 0, 0, 0, 43]).expect("MAC");
        assert_eq!(port.mac(), [2, 0, 0, 0, 0, 43]);
        assert!(matches!(port.set_mtu(1234), Err(Error::Port { .. })));
        assert_eq!(port.mtu(), 2000);

        let mut burst = Burst::new();
        for number in 0..64u8 {
            burst.push(Mbuf::from_bytes(&pool, &[number; 60]).expect("packet"));
        }
        assert_eq!(tx[1].burst(&mut burst), 48);
        assert_eq!(burst.len(), 16);
        assert_eq!(burst[0].data(), [48; 60], "what was not taken, in order");
        burst.clear();
        assert_eq!(rx[0].burst(&mut burst, 64), 0, "another queue");
        assert_eq!(rx[1].burst(&mut burst, 10), 10);
        assert_eq!(burst[9].data(), [9; 60]);
        assert!(burst.iter().all(|packet| packet.port() == handle.port()));
        let stats = port.stats().expect("stats");
        assert_eq!((stats.tx_packets, stats.rx_packets, stats.rx_no_buffers), (48, 10, 3));
        port.reset_stats().expect("reset");
        assert_eq!(port.stats().expect("stats").tx_packets, 0);

        burst.clear();
        assert_eq!(pool.in_use(), 38, "what is still in the device");
        assert_eq!(ALIVE.load(Ordering::SeqCst), 1);
        drop((port, rx, tx));
        assert_eq!((pool.in_use(), ALIVE.load(Ordering::SeqCst)), (0, 0));
        eal.detach(handle).expect("detached");
        let unused = eal.attach("net_loopback0").expect("again");
        eal.detach(unused).expect("never configured");
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    }
}
