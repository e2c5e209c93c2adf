//! What the generator and the sink cost alone: a loop that receives from one and sends to the other.
//!
//! `cargo run --release -p softasic --example generator_cost`

use std::time::Instant;

use dpdk_sys::{BURST, Burst, Eal, EalConfig, Error, Memory, Mempool, Port, PortConfig};

const PACKETS: u64 = 20_000_000;

fn main() -> Result<(), Error> {
    softasic::register_generator()?;
    let eal = Eal::init(EalConfig::new("generator-cost", Memory::NoHuge { megabytes: 128 }))?;
    let pool = Mempool::new(&eal, "packets", 8191, 256, dpdk_sys::DEFAULT_DATA_ROOM)?;
    for frames in [1, 1_000, 64_000] {
        softasic::generator::load("net_generator0", &vec![vec![0x5a; 60]; frames]);
        let handle = eal.attach("net_generator0")?;
        let config = PortConfig::new(pool.clone());
        let (port, mut rx, mut tx) = Port::configure(&eal, handle.port(), &config)?.start()?;
        let mut burst = Burst::new();
        let mut best = f64::MAX;
        for _ in 0..5 {
            #[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
            let start = Instant::now();
            let mut done = 0;
            while done < PACKETS {
                done += rx[0].burst(&mut burst, BURST) as u64;
                tx[0].burst(&mut burst);
            }
            best = best.min(start.elapsed().as_secs_f64() * 1e9 / done as f64);
        }
        println!("{frames} frames of 60 bytes: {best:.1} ns a packet");
        drop((port, rx, tx));
        eal.detach(handle)?;
    }
    Ok(())
}
