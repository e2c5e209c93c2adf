//! `turnpiked`: start, run, end.
//!
//! Order of the start: configuration committed; ports opened (their numbers and MACs are known then); taps and workers;
//! kernel mirror; addresses and static routes; BGP; API. The end is the same backwards, whatever ended it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::{Candidate, CommitInfo, Committed, Store};
use dataplane::{Dataplane, LogLevel, Opened, Restore, Wiring};
use net::{IfIndex, InterfaceId, VrfId};
use netlink_sync::{FpmServer, Mirror};
use rib::{Attachment, Reader, Rib, RibConfig};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::batch::{Batches, Closed};
use crate::manager::{Inputs, Manager, Query, clock};
use crate::plan::{self, PlannedInterface};
use crate::pool_watch::{self, Pools};
use crate::server::{self, Shared, SocketFile};
use crate::session_log;
use crate::speaker;
use crate::standby::Standby;
use crate::survival;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Configuration file.
    pub config: PathBuf,
    /// Where the store lives.
    pub state_dir: PathBuf,
    /// Only check the file.
    pub check: bool,
    /// How much DPDK logs.
    pub dpdk_log: LogLevel,
}

/// Events that may wait between a source and the manager before the source is slowed down.
const CHANNEL: usize = 4_096;

/// Runs the gateway until a signal ends it.
///
/// # Errors
/// [`Error`] of whatever did not start, or [`Error::Failed`] if a part ended by itself; taps, routes and the API socket
/// are removed in any case.
pub fn run(options: &Options) -> Result<(), Error> {
    let checked = Candidate::read(&options.config)?.check()?;
    if options.check {
        // The parts that only the programs know how to read are checked as well.
        plan::nat(checked.config())?;
        speaker::speaker(checked.config())?;
        println!("{}: valid", options.config.display());
        return Ok(());
    }
    std::fs::create_dir_all(&options.state_dir).map_err(|source| Error::StateDir {
        path: options.state_dir.clone(),
        source,
    })?;
    let mut store = Store::open(&options.state_dir.join("config.db"))?;
    let comment = format!("from {}", options.config.display());
    let committed = store.commit(
        checked,
        CommitInfo {
            actor: "turnpiked".to_owned(),
            comment,
            time: now(),
        },
    )?;
    tracing::info!(
        revision = %committed.revision,
        changed = committed.changed,
        file = %options.config.display(),
        "configuration committed"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .thread_name("tp-control")
        .build()
        .map_err(|source| Error::System {
            what: "control runtime",
            source,
        })?;
    let result = runtime.block_on(gateway(&committed, options));
    let outcome = result.as_ref().copied().map_err(ToString::to_string);
    store.mark_applied(committed.revision, "gateway", outcome)?;
    result
}

/// Everything that needs the runtime.
async fn gateway(committed: &Committed, options: &Options) -> Result<(), Error> {
    let config = &committed.config;
    let mut signals = Signals::new()?;
    let listener = server::listen(&config.api.socket).await?;
    let _socket = SocketFile(config.api.socket.clone());

    softasic::register().map_err(|source| dataplane::Error::Dpdk {
        context: "emulated ASIC".to_owned(),
        source,
    })?;
    let opened = Opened::new(plan::dataplane(config, seed(), options.dpdk_log))?;
    let ports: Vec<_> = opened.ports().cloned().collect();
    let interfaces = plan::interfaces(config, &ports)?;
    let (mut rib, reader) = Rib::new(RibConfig {
        distances: config.rib.distance.by_source().to_vec(),
        ..RibConfig::default()
    });
    for planned in &interfaces {
        rib.set_interface(planned.interface.clone());
    }
    let policy = Arc::new(plan::nat(config)?);
    rib.set_policy(Arc::clone(&policy), committed.revision);
    let (event_sender, dataplane_events) = mpsc::unbounded_channel();
    let limit = config
        .dataplane
        .connections
        .saturating_mul(config.dataplane.workers.len() as u32);
    let restore = survival::load(&options.state_dir, policy, limit, now());
    let dataplane = start_dataplane(opened, reader, &interfaces, event_sender, restore)?;
    let pools = Pools::default();
    let pool_watch = pool_watch::run(Arc::downgrade(&dataplane), config.clone(), pools.clone());
    let pool_watch = tokio::spawn(pool_watch);
    let session_log = tokio::spawn(session_log::run(dataplane.take_sessions(), config.nat.log_sessions));
    let indices: HashMap<InterfaceId, IfIndex> = dataplane.host_indices().iter().copied().collect();

    let (kernel_sender, kernel_events) = mpsc::channel(CHANNEL);
    let (mirror, tuning) = plan::mirror(config);
    let mirror = Mirror::start_with(mirror, tuning, kernel_sender).await?;
    for planned in &interfaces {
        let mut interface = planned.interface.clone();
        interface.host = indices.get(&interface.id).copied();
        rib.set_interface(interface);
    }
    let host = |name: &str| {
        let planned = interfaces.iter().find(|planned| planned.interface.name == name)?;
        indices.get(&planned.interface.id).copied()
    };
    plan::routes(config, host)
        .into_iter()
        .for_each(|change| rib.route(change));

    let sessions = config
        .bgp
        .as_ref()
        .map_or(0, |bgp| bgp.peers.iter().map(|peer| peer.families.len()).sum());
    let (query_sender, queries) = mpsc::channel(64);
    let (bgp_sender, bgp_events) = mpsc::channel(CHANNEL);
    let (fpm_sender, fpm_routes) = mpsc::channel(CHANNEL);
    let fpm = match &config.fpm {
        Some(fpm) => Some(FpmServer::start(plan::fpm(fpm), fpm_sender.clone()).await?),
        None => None,
    };
    let (failure_sender, mut failures) = mpsc::unbounded_channel();
    let mut manager = Manager::new(
        rib,
        mirror.clone(),
        indices.clone(),
        (sessions, Batches::new(&config.rib, sessions, plan::STALE, clock())),
        committed.revision,
        failure_sender,
    );
    manager.publish(Closed::Drained);
    let inputs = Inputs {
        bgp: bgp_events,
        kernel: kernel_events,
        fpm: fpm_routes,
        dataplane: dataplane_events,
        queries,
    };
    let manager = tokio::spawn(manager.run(inputs));

    let result = match set_up_host(&mirror, &interfaces, &indices).await {
        Ok(()) => {
            let shared = Shared {
                config: config.clone(),
                revision: committed.revision,
                dataplane: Arc::clone(&dataplane),
                mirror: mirror.clone(),
                fpm,
                speaker: None,
                standby: Standby::default(),
                pools: pools.clone(),
                manager: query_sender.clone(),
                started: clock(),
            };
            serve(shared, listener, bgp_sender.clone(), &mut signals, &mut failures).await
        }
        Err(error) => Err(error),
    };
    if result.is_ok() {
        survival::save(&dataplane, &options.state_dir, now()).await;
    }
    // The manager, and with it the tables that workers read, lives as long as its inputs: until here.
    drop((query_sender, bgp_sender, fpm_sender));
    manager.abort();
    session_log.abort();
    pool_watch.abort();
    mirror.shutdown().await;
    stop_dataplane(dataplane).await;
    result
}

/// Speaks BGP and answers the API until a signal or a failure.
async fn serve(
    mut shared: Shared,
    listener: UnixListener,
    routes: mpsc::Sender<bgp::Event>,
    signals: &mut Signals,
    failures: &mut mpsc::UnboundedReceiver<(String, String)>,
) -> Result<(), Error> {
    // Numbers of streams go on from the time, so that no stream has that of one of an earlier process.
    let streams = now().max(0) as u64;
    shared.standby = Standby::start(&shared.config, &shared.dataplane, streams).await?;
    let speaker = match speaker::speaker(&shared.config)? {
        Some(speaker) => Some(Arc::new(bgp::Speaker::start(speaker, routes).await?)),
        None => None,
    };
    if let Some(speaker) = &speaker {
        let feedback = speaker.feedback();
        // The manager ends only after this.
        let connect: Query = Box::new(move |manager| manager.speaker = Some(feedback));
        let _ = shared.manager.send(connect).await;
    }
    shared.speaker.clone_from(&speaker);
    let name = shared.config.gateway.name.clone();
    let socket = shared.config.api.socket.display().to_string();
    let (stop_sender, mut stop) = watch::channel(());
    let api = tokio::spawn(async move {
        let ended = async move {
            // The sender gone says the same.
            let _ = stop.changed().await;
        };
        axum::serve(listener, server::router(Arc::new(shared)))
            .with_graceful_shutdown(ended)
            .await
    });
    tracing::info!(socket, "ready");
    let result = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "ending");
            Ok(())
        }
        Some((part, reason)) = failures.recv() => Err(Error::Failed { part, reason }),
    };
    drop(stop_sender);
    if tokio::time::timeout(GRACE, api).await.is_err() {
        tracing::warn!("an API client holds its connection: not waited for any longer");
    }
    if let Some(speaker) = speaker.and_then(Arc::into_inner) {
        speaker.shutdown(&format!("gateway {name} is stopped")).await;
        // The NOTIFICATIONs are in the kernel's send queues: workers and taps carry them out before they end.
        tokio::time::sleep(LAST_WORDS).await;
    }
    result
}

/// How long API clients may take to get their answers at the end.
const GRACE: Duration = Duration::from_secs(2);

/// How long the last packets of BGP sessions get to leave.
const LAST_WORDS: Duration = Duration::from_millis(200);

fn start_dataplane(
    opened: Opened,
    reader: Reader,
    interfaces: &[PlannedInterface],
    events: mpsc::UnboundedSender<dataplane::Event>,
    restore: Restore,
) -> Result<Arc<Dataplane>, Error> {
    let saved = restore.connections.len();
    let wiring = Wiring {
        reader,
        host_interfaces: interfaces.iter().map(|planned| planned.host.clone()).collect(),
        events: Arc::new(move |event| {
            // Without a manager the gateway is ending.
            let _ = events.send(event);
        }),
        restore: Some(restore),
    };
    let dataplane = Arc::new(opened.start(wiring)?);
    if saved > 0 {
        tracing::info!(saved, restored = dataplane.restored(), "connections of the last run");
    }
    Ok(dataplane)
}

/// Brings the taps up with their addresses. Those of VPCs get no connected route in the kernel: tenants' subnets may
/// overlap, and the kernel only answers ARP and ND there.
async fn set_up_host(
    mirror: &Mirror,
    interfaces: &[PlannedInterface],
    indices: &HashMap<InterfaceId, IfIndex>,
) -> Result<(), Error> {
    for planned in interfaces {
        netlink_sync::prepare_host_interface(&planned.host.name)?;
        mirror
            .set_link(&planned.host.name, true, Some(u32::from(planned.host.mtu)))
            .await?;
        let Some(index) = indices.get(&planned.interface.id) else {
            continue;
        };
        let connected = planned.interface.vrf == VrfId::DEFAULT;
        mirror.set_addresses(*index, &planned.addresses, connected).await?;
        if let Attachment::Vxlan { .. } = planned.interface.attachment {
            // The tunnel's way to each endpoint is wanted before the first tenant packet.
            for vtep in &planned.host.flood {
                warm_up(mirror, interfaces, indices, IpAddr::V4(*vtep));
            }
        }
    }
    Ok(())
}

/// Has the kernel resolve an address that is on a subnet of a port.
fn warm_up(mirror: &Mirror, interfaces: &[PlannedInterface], indices: &HashMap<InterfaceId, IfIndex>, address: IpAddr) {
    let on_subnet = |planned: &&PlannedInterface| {
        planned.interface.vrf == VrfId::DEFAULT && planned.addresses.iter().any(|net| net.contains(&address))
    };
    let index = interfaces
        .iter()
        .find(on_subnet)
        .and_then(|planned| indices.get(&planned.interface.id));
    if let Some(index) = index {
        mirror.request_neighbor(*index, address);
    }
}

/// Joins the data plane's threads, off the runtime's own.
async fn stop_dataplane(dataplane: Arc<Dataplane>) {
    if let Err(error) = tokio::task::spawn_blocking(move || drop(dataplane)).await {
        tracing::error!(%error, "the data plane did not end in order");
    }
}

/// The signals that end the gateway.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let take = |kind| {
            signal(kind).map_err(|source| Error::System {
                what: "signal handler",
                source,
            })
        };
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Milliseconds since 1970.
#[allow(
    clippy::disallowed_methods,
    reason = "the op log wants the wall clock, and takes it as an argument"
)]
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_millis() as i64)
}

/// Seed for the choice of NAT ports: hard to guess from outside (RFC 6056 section 3).
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
