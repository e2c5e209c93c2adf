//! A port whose wire ends in the test: what the test puts on it is received once, what is sent on it is kept.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dpdk_sys::pmd::{Driver, DriverError, DriverInfo, DriverStats, Probe};
use dpdk_sys::{Burst, Mbuf, Mempool};

/// Prefix of the devices' names.
const DRIVER: &str = "net_wire";
/// Queues each way of a port.
const QUEUES: usize = 2;
/// Longest frame: what one packet buffer holds behind its headroom.
pub const LONGEST: usize = 2048;

/// The test's end of a wire.
#[derive(Clone)]
pub struct Wire(Arc<Ends>);

struct Ends {
    name: String,
    rx: [Mutex<VecDeque<Vec<u8>>>; QUEUES],
    tx: Mutex<Vec<(u16, Vec<u8>)>>,
    /// Frames that the port takes before it is full.
    room: AtomicUsize,
}

/// Every wire of this process.
static WIRES: Mutex<Vec<Arc<Ends>>> = Mutex::new(Vec::new());

impl Wire {
    /// Makes the driver known; before EAL starts.
    pub fn register() {
        dpdk_sys::pmd::register(DRIVER, Device::attach).expect("registered once");
    }

    /// A wire, and the devargs of its port.
    pub fn new(number: usize) -> (Self, String) {
        let name = format!("{DRIVER}{number}");
        let ends = Arc::new(Ends {
            name: name.clone(),
            rx: Default::default(),
            tx: Mutex::default(),
            room: AtomicUsize::new(usize::MAX),
        });
        WIRES.lock().expect("wires").push(Arc::clone(&ends));
        (Self(ends), name)
    }

    /// Puts frames on the wire; the port receives them on `queue`.
    pub fn send(&self, queue: usize, frames: impl IntoIterator<Item = Vec<u8>>) {
        let mut ring = self.0.rx[queue].lock().expect("ring");
        for frame in frames {
            assert!(frame.len() <= LONGEST, "a frame of {} bytes", frame.len());
            ring.push_back(frame);
        }
    }

    /// True when the port has received everything.
    pub fn is_drained(&self) -> bool {
        self.0.rx.iter().all(|ring| ring.lock().expect("ring").is_empty())
    }

    /// Takes what the port has sent, with the queue that it used.
    pub fn take(&self) -> Vec<(u16, Vec<u8>)> {
        std::mem::take(&mut self.0.tx.lock().expect("sent"))
    }

    /// The port takes this many more frames, then it is full.
    pub fn set_room(&self, frames: usize) {
        self.0.room.store(frames, Ordering::SeqCst);
    }
}

/// The device at the other end.
struct Device {
    ends: Arc<Ends>,
    pools: [Mutex<Option<Mempool>>; QUEUES],
}

impl Device {
    fn attach(probe: &Probe) -> Result<Self, DriverError> {
        let wires = WIRES.lock().expect("wires");
        let ends = wires.iter().find(|ends| ends.name == probe.name());
        Ok(Self {
            ends: Arc::clone(ends.ok_or(DriverError::MISSING)?),
            pools: Default::default(),
        })
    }
}

impl Driver for Device {
    fn info(&self) -> DriverInfo {
        DriverInfo {
            max_rx_queues: QUEUES as u16,
            max_tx_queues: QUEUES as u16,
            ..DriverInfo::default()
        }
    }

    fn rx_queue_setup(&self, queue: u16, _descriptors: u16, mempool: &Mempool) -> Result<(), DriverError> {
        *self.pools[usize::from(queue)].lock().expect("pool") = Some(mempool.clone());
        Ok(())
    }

    fn stop(&self) {
        for pool in &self.pools {
            *pool.lock().expect("pool") = None;
        }
    }

    fn rx_burst(&self, queue: u16, out: &mut Burst, max: usize) {
        let pool = self.pools[usize::from(queue)].lock().expect("pool");
        let Some(pool) = pool.as_ref() else { return };
        let mut ring = self.ends.rx[usize::from(queue)].lock().expect("ring");
        while out.len() < max
            && let Some(frame) = ring.front()
            && let Some(packet) = Mbuf::from_bytes(pool, frame)
        {
            ring.pop_front();
            out.push(packet);
        }
    }

    fn tx_burst(&self, queue: u16, packets: &mut Burst) {
        let room = self.ends.room.load(Ordering::SeqCst);
        let taken = packets.len().min(room);
        if room != usize::MAX {
            self.ends.room.store(room - taken, Ordering::SeqCst);
        }
        let mut sent = self.ends.tx.lock().expect("sent");
        sent.extend(packets.drain(..taken).map(|packet| (queue, packet.data().to_vec())));
    }

    fn stats(&self) -> DriverStats {
        DriverStats::default()
    }

    fn stats_reset(&self) {}
}
