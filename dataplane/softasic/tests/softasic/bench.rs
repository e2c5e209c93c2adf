//! Two ports of one e-switch, each over a wire of which the test holds the other end.

use dpdk_sys::flow::FlowConfig;
use dpdk_sys::{Burst, Eal, Mbuf, Mempool, Port, PortConfig, PortHandle, PortId, RxQueue, StartedPort, TxQueue};

use crate::process::{eal, pool};

/// A port under test. Its wire is a ring: what is sent comes back on the same wire, so the test feeds frames through
/// the port's own transmit side and reads what leaves where it comes back.
pub struct Side {
    pub port: StartedPort,
    pub rx: Vec<RxQueue>,
    pub tx: Vec<TxQueue>,
    pub handle: PortHandle,
}

impl Side {
    pub fn id(&self) -> PortId {
        self.port.id()
    }

    /// Puts frames on the wire towards the port.
    pub fn feed(&mut self, pool: &Mempool, frames: &[Vec<u8>]) {
        let mut burst = Burst::new();
        for frame in frames {
            burst.push(Mbuf::from_bytes(pool, frame).expect("packet"));
        }
        assert_eq!(self.tx[0].burst(&mut burst), frames.len());
    }

    /// What reaches the application.
    pub fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut burst = Burst::new();
        self.rx[0].burst(&mut burst, 64);
        burst.iter().map(|packet| packet.data().to_vec()).collect()
    }
}

/// The bench: EAL, pool and two ports.
pub struct Bench {
    pub a: Side,
    pub b: Side,
    pub pool: Mempool,
    pub eal: Eal,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(None, "", 1500)
    }

    /// With flow queues on port A, further arguments for both ports, and an MTU of port B.
    pub fn with(flow: Option<FlowConfig>, arguments: &str, mtu: u16) -> Self {
        let eal = eal();
        let pool = pool(&eal);
        let a = side(&eal, &pool, 0, flow, arguments, 1500);
        let b = side(&eal, &pool, 1, None, arguments, mtu);
        Self { a, b, pool, eal }
    }
}

fn side(eal: &Eal, pool: &Mempool, number: u8, flow: Option<FlowConfig>, arguments: &str, mtu: u16) -> Side {
    eal.attach(&format!("net_ring{number}")).expect("ring");
    let device = format!("net_softasic{number},wire=net_ring{number}{arguments}");
    let handle = eal.attach(&device).expect("softasic");
    let config = PortConfig {
        flow,
        mtu,
        mac: Some(mac(number)),
        ..PortConfig::new(pool.clone())
    };
    let port = Port::configure(eal, handle.port(), &config).expect("configured");
    let (port, rx, tx) = port.start().expect("started");
    Side { port, rx, tx, handle }
}

/// Address of port A (0) or B (1).
pub fn mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, 0xa0 + number]
}
