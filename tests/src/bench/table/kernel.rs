//! Routes into the kernel, by the mirror and by `ip -batch`, and out of it, in a network namespace that ends with its thread.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use net::{KernelEvent, Prefix, RouteKind, VrfId};
use netlink_sync::{KernelNextHop, KernelRoute, Mirror, MirrorConfig};
use nix::sched::{CloneFlags, unshare};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Figures, Sizes, figures};
use crate::Scratch;
use crate::bench::random::Random;

/// Longest wait for the kernel.
const PATIENCE: Duration = Duration::from_secs(600);
/// The router behind every route.
const ROUTER: &str = "192.0.2.2";

/// Every row of the kernel.
///
/// # Errors
/// If a namespace cannot be made, or a route is refused.
pub fn run(sizes: &Sizes) -> Result<Figures, String> {
    let prefixes = Random::new(4).prefixes_v4(sizes.kernel);
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("cannot make a network namespace: {error}"))?;
        for line in [
            "link set lo up",
            "link add mirror0 type veth peer name mirror1",
            "link set mirror0 up",
            "link set mirror1 up",
            "address add 192.0.2.1/24 dev mirror0",
        ] {
            ip(line.split(' '))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(measure(&prefixes))
    });
    thread.join().map_err(|_panic| "the thread panicked".to_owned())?
}

async fn measure(prefixes: &[Prefix]) -> Result<Figures, String> {
    let scratch = Scratch::new();
    let mut lines = String::new();
    for prefix in prefixes {
        writeln!(lines, "route add {prefix} via {ROUTER} proto 213 metric 50").map_err(|error| error.to_string())?;
    }
    let batch = scratch.write("batch", &lines);

    let start = Instant::now();
    add(&batch).await?;
    let by_batch = start.elapsed();
    ip(["route", "flush", "proto", "213"])?;

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
    let mut present = Present::default();
    present.until(&mut events, |p| p.synced).await?;

    let start = Instant::now();
    mirror.submit(prefixes.iter().map(|prefix| wish(*prefix, true)).collect());
    loop {
        let status = mirror.status();
        if status.pending == 0 {
            break;
        }
        if status.refused > 0 || start.elapsed() > PATIENCE {
            return Err(format!("the mirror did not write its routes: {status:?}"));
        }
        while let Ok(batch) = events.try_recv() {
            present.take(batch);
        }
        sleep(Duration::from_millis(1)).await;
    }
    let by_mirror = start.elapsed();
    mirror.submit(prefixes.iter().map(|prefix| wish(*prefix, false)).collect());
    while mirror.status().pending > 0 {
        sleep(Duration::from_millis(5)).await;
    }

    let start = Instant::now();
    let told = present.until(&mut events, |p| p.routes == prefixes.len());
    let (added, told) = tokio::join!(add(&batch), told);
    added.and(told)?;
    let read = start.elapsed();
    mirror.shutdown().await;
    let rate = |time: Duration| prefixes.len() as f64 / time.as_secs_f64();
    figures([
        ("kernel-mirror-per-s", rate(by_mirror)),
        ("kernel-read-per-s", rate(read)),
        ("peer-kernel-batch-per-s", rate(by_batch)),
    ])
}

fn wish(prefix: Prefix, present: bool) -> KernelRoute {
    let hop = KernelNextHop {
        gateway: ROUTER.parse().ok(),
        interface: None,
        weight: 1,
    };
    KernelRoute {
        vrf: VrfId::DEFAULT,
        prefix,
        next_hops: present.then(|| vec![hop]),
        kind: RouteKind::Unicast,
        obstacle: None,
    }
}

/// What the mirror has told.
#[derive(Default)]
struct Present {
    routes: usize,
    synced: bool,
}

impl Present {
    async fn until(
        &mut self,
        events: &mut mpsc::Receiver<Vec<KernelEvent>>,
        settled: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        while !settled(self) {
            let batch = timeout(PATIENCE, events.recv()).await;
            let batch = batch.map_err(|_late| format!("the mirror told {} routes only", self.routes))?;
            self.take(batch.ok_or("the mirror stopped")?);
        }
        Ok(())
    }

    fn take(&mut self, batch: Vec<KernelEvent>) {
        for event in batch {
            match event {
                KernelEvent::Route(change) if change.route.is_some() => self.routes += 1,
                KernelEvent::Route(_) => self.routes = self.routes.saturating_sub(1),
                KernelEvent::Synced => self.synced = true,
                _ => {}
            }
        }
    }
}

async fn add(batch: &Path) -> Result<(), String> {
    let output = tokio::process::Command::new("ip")
        .arg("-batch")
        .arg(batch)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| format!("ip -batch: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("ip -batch: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

pub(super) fn ip<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let output = Command::new("ip")
        .args(words)
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("ip: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
