//! A neighbour's state from the kernel to the next hop that workers send by, in a network namespace that ends with its thread.
//!
//! `ip -batch` waits for lines; the clock runs from the line to the published tables, so what `ip` itself and the kernel take
//! is in the figure, and process starts are not. The mirror, the RIB and publishing are driven as the gateway's manager does it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use net::{Mac, NextHop, PortId, Route, RouteChange, Source, VrfId};
use netlink_sync::{Mirror, MirrorConfig};
use nix::sched::{CloneFlags, unshare};
use rib::{AdjacencyKind, Attachment, Interface, Reader, Rib, RibConfig};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::kernel::ip;
use super::{Figures, Sizes, figures};

/// Longest wait for one state.
const PATIENCE: Duration = Duration::from_secs(60);
/// The neighbour, on the subnet of the interface.
const NEIGHBOR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// A destination behind it: 198.51.100.1.
const BEHIND: u32 = 0xc633_6401;

/// Both rows.
///
/// # Errors
/// If a namespace cannot be made, or a state does not arrive.
pub fn run(sizes: &Sizes) -> Result<Figures, String> {
    // Three states each.
    let rounds = (sizes.kernel / 100).clamp(10, 400);
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("cannot make a network namespace: {error}"))?;
        for line in [
            "link set lo up",
            "link add neighbor0 type veth peer name neighbor1",
            "link set neighbor0 up",
            "link set neighbor1 up",
            "address add 192.0.2.1/24 dev neighbor0",
        ] {
            ip(line.split(' '))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(measure(rounds))
    });
    thread.join().map_err(|_panic| "the thread panicked".to_owned())?
}

async fn measure(rounds: usize) -> Result<Figures, String> {
    let (sender, mut events) = mpsc::channel(64);
    let config = MirrorConfig {
        protocol: 212,
        table: 254,
        vrf_tables: Vec::new(),
        metric: 50,
        tables: vec![(254, VrfId::DEFAULT)],
        stale_sweep: Duration::from_secs(3600),
    };
    let mirror = Mirror::start(config, sender).await.map_err(|error| error.to_string())?;
    let host = mirror
        .set_link("neighbor0", true, None)
        .await
        .map_err(|error| error.to_string())?;
    let (mut rib, reader) = Rib::new(RibConfig::default());
    rib.set_interface(Interface {
        id: net::InterfaceId(0),
        name: "fabric".into(),
        host: Some(host),
        vrf: VrfId::DEFAULT,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        attachment: Attachment::Port(PortId(0)),
    });
    rib.route(RouteChange {
        vrf: VrfId::DEFAULT,
        prefix: "198.51.100.0/24".parse().map_err(|error| format!("{error}"))?,
        source: Source::Ebgp,
        route: Some(Route::unicast(NextHop::via(IpAddr::V4(NEIGHBOR)))),
    });
    let mut ip = Batch::start()?;
    let mut delays = Vec::with_capacity(3 * rounds);
    for round in 0..rounds {
        let mac = |state: u8| Mac([2, 0, 0, state, (round >> 8) as u8, round as u8]);
        for (state, mac) in [("reachable", Some(mac(1))), ("stale", Some(mac(2))), ("failed", None)] {
            let address = mac.map(|mac| format!("lladdr {mac} ")).unwrap_or_default();
            let began = Instant::now();
            ip.line(&format!(
                "neighbor replace {NEIGHBOR} {address}dev neighbor0 nud {state}"
            ))?;
            while next_hop(&reader) != mac {
                let batch = timeout(PATIENCE, events.recv()).await;
                let batch = batch.map_err(|_late| format!("the next hop does not become {state}"))?;
                batch
                    .ok_or("the mirror stopped")?
                    .into_iter()
                    .for_each(|event| rib.kernel(event));
                if rib.pending() > 0 {
                    rib.publish().map_err(|stalled| stalled.to_string())?;
                }
            }
            delays.push(Instant::now().duration_since(began).as_nanos() as f64 / 1000.0);
        }
    }
    mirror.shutdown().await;
    delays.sort_by(f64::total_cmp);
    let percentile = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    figures([
        ("neighbour-to-next-hop-p50-us", percentile(50)),
        ("neighbour-to-next-hop-p99-us", percentile(99)),
    ])
}

/// The MAC address that packets to [`BEHIND`] are sent to.
fn next_hop(reader: &Reader) -> Option<Mac> {
    let tables = reader.enter()?;
    let found = tables.resolve_v4(VrfId::DEFAULT, BEHIND, 0).ok()?;
    let adjacency = tables.adjacency(found.next_hop);
    let address = adjacency
        .rewrite()
        .get(..6)
        .filter(|_| adjacency.kind == AdjacencyKind::Forward)?;
    address.try_into().ok().map(Mac)
}

/// An `ip` that takes lines.
struct Batch(Child);

impl Batch {
    fn start() -> Result<Self, String> {
        let child = Command::new("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        child.map(Self).map_err(|error| format!("ip -batch: {error}"))
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let input = self.0.stdin.as_mut().ok_or("ip -batch takes no lines")?;
        writeln!(input, "{line}").map_err(|error| format!("ip -batch: {error}"))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends with its input, and its status says nothing more.
        let _ = self.0.wait();
    }
}
