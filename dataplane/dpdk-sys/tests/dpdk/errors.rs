//! Errors name the object and the remedy, and leave things usable.

use dpdk_sys::{Eal, Error, Memory, Mempool, Port, PortConfig, PortId};

use crate::isolated;
use crate::process::{config, eal, pool};

isolated! {
    fn eal_starts_once_and_leaves_the_callers_affinity() {
        let cores = || std::thread::available_parallelism().expect("cores");
        let before = cores();
        let _first = eal();
        assert_eq!(cores(), before);
        let second = Eal::init(config());
        assert_eq!(second.map(|_| ()), Err(Error::AlreadyInitialised));
    }
}

isolated! {
    fn too_few_hugepages_are_found_before_dpdk_is_asked() {
        let mut wish = config();
        wish.memory = Memory::Hugepages { megabytes: 64 << 20 };
        let error = Eal::init(wish).map(|_| ()).expect_err("64 TB");
        assert!(matches!(error, Error::Hugepages { wanted, pages, .. } if wanted == 64 << 20 && pages > 1 << 15), "{error}");
        assert!(error.to_string().contains("sysctl vm.nr_hugepages="), "{error}");
        eal();
    }
}

isolated! {
    fn bad_arguments_are_quoted_with_dpdks_words() {
        let mut wish = config();
        wish.extra = vec!["--no-such-thing".to_owned()];
        let error = Eal::init(wish).map(|_| ()).expect_err("unknown argument");
        assert!(matches!(&error, Error::Init { arguments, .. } if arguments.contains("--no-such-thing")), "{error}");
        let mut wish = config();
        wish.extra = vec!["a\0b".to_owned()];
        assert!(matches!(Eal::init(wish), Err(Error::Argument { .. })));
    }
}

isolated! {
    fn devices_that_cannot_be_attached_say_why() {
        let eal = eal();
        let error = eal.attach("net_af_packet0,iface=nosuch0").expect_err("no interface");
        assert!(matches!(&error, Error::DeviceMissing { what, .. } if what.contains("nosuch0")), "{error:?}");
        let error = eal.attach("net_nosuchdriver0").expect_err("no driver");
        assert!(matches!(&error, Error::DriverUnknown { .. }), "{error:?}");
        assert!(error.to_string().contains("net_nosuchdriver0"), "{error}");
        let error = eal.attach("net_pcap0,rx_pcap=/nonexistent/file.pcap").expect_err("no file");
        assert!(error.to_string().contains("/nonexistent/file.pcap"), "{error}");
        assert!(matches!(eal.attach("a\0b"), Err(Error::Argument { .. })));

        let handle = eal.attach("net_null0").expect("null");
        let error = eal.attach("net_null0").expect_err("twice");
        assert!(matches!(&error, Error::DeviceInUse { .. }), "{error:?}");
        eal.detach(handle).expect("detached");
        let handle = eal.attach("net_null0").expect("again");
        assert_eq!(eal.ports(), handle.ports());
        assert_eq!(PortId::by_name(&eal, "net_null0"), Ok(handle.port()));
        assert!(matches!(PortId::by_name(&eal, "net_null1"), Err(Error::NoSuchPort(name)) if name == "net_null1"));
    }
}

isolated! {
    fn a_port_is_held_once_and_free_again_after_drop() {
        let eal = eal();
        let pool = pool(&eal, "held");
        let config = PortConfig::new(pool.clone());
        let handle = eal.attach("net_null0").expect("null");
        let id = handle.port();
        assert!(matches!(Port::configure(&eal, PortId(9), &config), Err(Error::NoSuchPort(_))));

        let too_many = PortConfig { rx_queues: 60_000, ..config.clone() };
        let error = Port::configure(&eal, id, &too_many).expect_err("queues");
        assert!(matches!(error, Error::Capability { wanted: 60_000, .. }), "{error}");

        let configured = Port::configure(&eal, id, &config).expect("a refused configuration leaves the port free");
        assert!(matches!(Port::configure(&eal, id, &config), Err(Error::PortInUse(port)) if port == id));
        assert!(eal.ports().is_empty());
        assert!(matches!(eal.detach(handle.clone()), Err(Error::PortInUse(_))));
        let (port, rx, tx) = configured.start().expect("started");
        drop((port, tx));
        assert!(matches!(Port::configure(&eal, id, &config), Err(Error::PortInUse(_))), "a queue keeps the port");
        drop(rx);
        eal.detach(handle).expect("closed, so it can go");
        assert!(eal.attach("net_null0").is_ok());
    }
}

isolated! {
    fn pools_that_cannot_be_made_say_why() {
        let eal = eal();
        let _pool = pool(&eal, "taken");
        let made = |name: &str, count, cache| Mempool::new(&eal, name, count, cache, 2176).map(|_| ()).map_err(|e| e.to_string());
        assert!(made("taken", 127, 0).is_err_and(|e| e.contains("this one is taken")));
        assert!(made("cache", 127, 512).is_err_and(|e| e.contains("two thirds")));
        assert!(made("much", 1_000_000, 0).is_err_and(|e| e.contains("more memory")));
        assert!(made("a-name-of-more-than-twenty-one-bytes", 127, 0).is_err_and(|e| e.contains("21 bytes")));
    }
}
