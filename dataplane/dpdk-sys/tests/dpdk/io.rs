//! Packets: none is lost, none is freed twice.

use dpdk_sys::{Burst, Mbuf, Mempool, Port, PortConfig, pin_to_core};

use crate::isolated;
use crate::process::{eal, pool};

isolated! {
    fn packets_of_the_null_port_come_back_to_their_pool() {
        let eal = eal();
        let _thread = eal.register_thread().expect("main thread");
        let pool = pool(&eal, "null");
        assert_eq!((pool.available(), pool.in_use()), (2047, 0));
        let handle = eal.attach("net_null0,size=100,copy=1").expect("null");
        let configured = Port::configure(&eal, handle.port(), &PortConfig::new(pool.clone())).expect("configured");
        let (port, mut rx, mut tx) = configured.start().expect("started");
        let mut burst = Burst::new();
        let mut total = 0;
        for round in 0..200 {
            let received = rx[0].burst(&mut burst, 32);
            assert_eq!(received, 32);
            assert!(burst.iter().all(|packet| packet.len() == 100 && packet.is_contiguous()));
            total += received;
            match round % 4 {
                0 => burst.clear(),
                1 => Mbuf::free_bulk(&mut burst),
                2 => drop(burst.swap_remove(5)),
                _ => {}
            }
            let waiting = burst.len();
            assert_eq!(tx[0].burst(&mut burst), waiting);
            assert!(burst.is_empty());
        }
        assert_eq!(port.stats().expect("stats").rx_packets, total as u64);
        assert_eq!(pool.in_use(), 0);
        assert_eq!(port.driver_name(), "net_null");
        assert_eq!(port.name(), "net_null0");
        assert!(port.link_up() && !port.capabilities().flow);
        let names: Vec<_> = port.xstats().expect("xstats").into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().any(|name| name == "rx_good_packets"), "{names:?}");
    }
}

isolated! {
    fn a_full_ring_leaves_the_rest_with_the_sender() {
        let eal = eal();
        let pool = pool(&eal, "ring");
        let handle = eal.attach("net_ring0").expect("ring");
        let configured = Port::configure(&eal, handle.port(), &PortConfig::new(pool.clone())).expect("configured");
        let (port, mut rx, mut tx) = configured.start().expect("started");

        let mut sent = 0;
        let mut burst = Burst::new();
        let refused = loop {
            while !burst.is_full() {
                let number = (sent + burst.len()) as u32;
                burst.push(Mbuf::from_bytes(&pool, &number.to_be_bytes()).expect("packet"));
            }
            sent += tx[0].burst(&mut burst);
            if !burst.is_empty() {
                break burst.len();
            }
        };
        assert_eq!(burst[0].data(), (sent as u32).to_be_bytes(), "the first that was not sent is the first left");
        assert_eq!(pool.in_use() as usize, sent + refused);
        burst.clear();

        let mut seen = 0;
        while rx[0].burst(&mut burst, 32) > 0 {
            for packet in burst.drain(..) {
                assert_eq!(packet.data(), (seen as u32).to_be_bytes());
                seen += 1;
            }
        }
        assert_eq!(seen, sent);
        assert_eq!(pool.in_use(), 0);
        drop((port, rx, tx));
    }
}

isolated! {
    fn a_pool_is_freed_with_its_last_handle_and_not_before_its_packets() {
        let eal = eal();
        let first = pool(&eal, "again");
        let copy = first.clone();
        drop(first);
        assert!(Mempool::new(&eal, "again", 127, 0, 2176).is_err(), "a handle is left");
        drop(copy);
        let second = Mempool::new(&eal, "again", 127, 0, 2176).expect("name is free again");
        let packet = second.alloc().expect("packet");
        drop(second);
        assert_eq!(packet.tailroom(), 2048, "the packet outlives the handles");
        drop(packet);
    }
}

isolated! {
    fn a_pool_that_is_used_up_says_so() {
        let eal = eal();
        let pool = Mempool::new(&eal, "small", 127, 0, 2176).expect("pool");
        let mut burst = Burst::new();
        assert!(pool.alloc_bulk(&mut burst, 64));
        assert!(!pool.alloc_bulk(&mut burst, 1), "the burst is full");
        let mut more = Burst::new();
        assert!(!pool.alloc_bulk(&mut more, 64), "63 are left");
        assert!(pool.alloc_bulk(&mut more, 63) && pool.alloc().is_none());
        assert_eq!(pool.in_use(), 127);
        Mbuf::free_bulk(&mut burst);
        drop(more);
        assert_eq!((pool.available(), pool.size()), (127, 127));
    }
}

isolated! {
    fn a_packet_grows_and_shrinks_within_its_buffer() {
        let eal = eal();
        let pool = pool(&eal, "shape");
        let mut packet = Mbuf::from_bytes(&pool, &[1, 2, 3, 4]).expect("packet");
        assert_eq!((packet.len(), packet.headroom(), packet.tailroom()), (4, 128, 2044));
        packet.prepend(2).expect("headroom").copy_from_slice(&[8, 9]);
        packet.append(1).expect("tailroom")[0] = 5;
        assert_eq!(packet.data(), [8, 9, 1, 2, 3, 4, 5]);
        assert!(packet.trim_front(3) && packet.truncate(3));
        assert_eq!(packet.data(), [2, 3, 4]);
        assert!(packet.prepend(packet.headroom() + 1).is_none());
        assert!(packet.append(packet.tailroom() + 1).is_none());
        assert!(!packet.trim_front(4) && !packet.truncate(4));
        assert_eq!(packet.data(), [2, 3, 4], "what was refused left no trace");
        assert!(Mbuf::from_bytes(&pool, &[0; 2049]).is_none());
        assert_eq!((packet.rss_hash(), packet.user()), (None, 0));
        packet.set_rss_hash(7);
        packet.set_user(u64::MAX);
        assert_eq!((packet.rss_hash(), packet.user()), (Some(7), u64::MAX));
        drop(packet);
        assert_eq!(pool.in_use(), 0);
    }
}

isolated! {
    fn a_port_tells_its_receive_hash_and_spreads_it() {
        let eal = eal();
        let pool = pool(&eal, "hash");
        let handle = eal.attach("net_null0,no-rx=1").expect("null");
        let mut config = PortConfig::new(pool);
        (config.rx_queues, config.tx_queues) = (3, 3);
        config.rss = Some(dpdk_sys::Rss::default());
        let (port, _rx, _tx) = Port::configure(&eal, handle.port(), &config).expect("configured").start().expect("started");
        let hash = port.spread(3).expect("no refusal").expect("this driver has a hash");
        assert_eq!(hash.table[..7], [0, 1, 2, 0, 1, 2, 0]);
        assert!(hash.table.len().is_power_of_two() && hash.key.len() == 40 && hash.key.iter().any(|byte| *byte != 0));
    }
}

isolated! {
    fn threads_register_pin_and_share_a_pool() {
        let eal = eal();
        let pool = pool(&eal, "threads");
        let work = move |pool: Mempool| {
            let thread = eal.register_thread().expect("a thread of ours");
            thread.pin_to_core(0).expect("core 0");
            assert!(pin_to_core(100_000).is_err());
            for _ in 0..1000 {
                let mut burst = Burst::new();
                assert!(pool.alloc_bulk(&mut burst, 32));
                drop(burst.swap_remove(3));
            }
            thread.lcore()
        };
        let handles: Vec<_> = (0..3).map(|_| std::thread::spawn({ let pool = pool.clone(); move || work(pool) })).collect();
        for handle in handles {
            assert_ne!(handle.join().expect("thread"), u32::MAX);
        }
        assert_eq!(pool.in_use(), 0);
    }
}
