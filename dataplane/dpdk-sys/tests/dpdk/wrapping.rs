//! A driver that wraps another port hides it and passes its packets on.

use dpdk_sys::{Burst, Error, Mbuf, Port, PortConfig, PortId};

use crate::devices::Wrapper;
use crate::isolated;
use crate::process::{eal, pool};

isolated! {
    fn the_lower_port_is_hidden_and_its_packets_pass() {
        dpdk_sys::pmd::register("net_wrapper", Wrapper::attach).expect("registered");
        let eal = eal();
        let pool = pool(&eal, "wrapper");
        assert!(eal.attach("net_wrapper0,wire=net_ring0").is_err(), "there is no such port yet");
        let ring = eal.attach("net_ring0").expect("ring");
        let handle = eal.attach("net_wrapper0,wire=net_ring0").expect("wrapper");
        let config = PortConfig::new(pool.clone());
        assert!(matches!(Port::configure(&eal, ring.port(), &config), Err(Error::PortInUse(_))));
        assert_eq!(eal.ports(), [handle.port()]);
        assert_eq!(PortId::by_name(&eal, "net_ring0"), Ok(ring.port()));

        let (port, mut rx, mut tx) =
            Port::configure(&eal, handle.port(), &config).expect("configured").start().expect("started");
        let mut burst = Burst::new();
        burst.push(Mbuf::from_bytes(&pool, b"through and back").expect("packet"));
        assert_eq!(tx[0].burst(&mut burst), 1);
        assert_eq!(rx[0].burst(&mut burst, 32), 1);
        assert_eq!(burst[0].data(), b"through and back");
        assert_eq!(burst[0].port(), handle.port(), "not the lower port");
        burst.clear();
        drop((port, rx, tx));
        assert_eq!(pool.in_use(), 0);
        eal.detach(handle).expect("wrapper gone");
    }
}
