//! The parts of a gateway's configuration that every scenario has.

use std::path::Path;
use std::thread::available_parallelism;

/// How a scenario's gateway runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Ordinary pages: any number of gateways side by side, nothing to reserve.
    NoHuge,
    /// Hugepages, as in production.
    Hugepages,
}

/// MiB of memory that a scenario's gateway takes.
pub const MEMORY_MB: u64 = 256;

/// Sections `[gateway]`, `[dataplane]` and `[api]`: one worker on the last core, which sleeps when idle.
pub fn base(socket: &Path, memory: Memory) -> String {
    let core = available_parallelism().map_or(1, usize::from) - 1;
    let memory = match memory {
        Memory::NoHuge => "no-huge",
        Memory::Hugepages => "hugepages",
    };
    format!(
        "[gateway]\nname = \"gw\"\n\n\
         [dataplane]\nworkers = [{core}]\npoll = \"adaptive\"\nmemory = \"{memory}\"\nmemory-mb = {MEMORY_MB}\n\n\
         [api]\nsocket = \"{}\"\n",
        socket.display()
    )
}

/// A `[[port]]` on a kernel interface, taken by DPDK's af_packet driver with one queue. `number` sets the device apart
/// from the other ports'.
pub fn port(number: u32, name: &str, interface: &str, addresses: &[&str], offload: bool) -> String {
    format!(
        "\n[[port]]\nname = \"{name}\"\ndevice = \"net_af_packet{number},iface={interface},qpairs=1,framesz=2048\"\n\
         addresses = {addresses:?}\noffload = {offload}\n"
    )
}
