//! The API: JSON over HTTP on a Unix socket, readable by whoever may open the socket (root).

mod dump;
mod policy;
mod pools;
mod standby;

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use config::{Config, Segment};
use dataplane::{Dataplane, NotOffloaded};
use net::{Drop, NeighborState, PortId, Prefix, Revision, VrfId};
use netlink_sync::{FpmServer, Mirror};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::api::{
    Bgp, BgpSummary, ConnectionRow, DropRow, Generations, HostView, KernelSummary, KernelView, MemoryView, NeighborRow,
    Offloads, PeerView, PortView, RouteRow, Summary, VpcView, WorkerView,
};
use crate::explain::{self, Facts, RouteExplanation};
use crate::manager::{Manager, Query};
use crate::pool_watch::Pools;
use crate::publisher::Publisher;
use crate::standby::Standby;

/// Rows of one answer, at most, unless the client says otherwise.
const LIMIT: usize = 10_000;
/// Connections copied from a worker between two of its bursts.
const CHUNK: usize = 256;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the handlers look at.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) revision: Revision,
    pub(crate) dataplane: Arc<Dataplane>,
    pub(crate) mirror: Mirror,
    pub(crate) fpm: Option<FpmServer>,
    pub(crate) speaker: Option<Arc<bgp::Speaker>>,
    pub(crate) standby: Standby,
    pub(crate) pools: Pools,
    pub(crate) manager: mpsc::Sender<Query>,
    pub(crate) started: std::time::Instant,
}

type Shown<T> = Result<Json<T>, Failure>;

/// An answer that is not there.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Takes the socket. One that nobody answers on was left by a process that died, and is replaced.
pub(crate) async fn listen(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Socket {
        path: path.to_owned(),
        source,
    };
    if UnixStream::connect(path).await.is_ok() {
        return Err(Error::SocketInUse { path: path.to_owned() });
    }
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    match tokio::fs::symlink_metadata(path).await {
        Ok(found) if found.file_type().is_socket() => tokio::fs::remove_file(path).await.map_err(failed)?,
        Ok(_) => return Err(failed(std::io::Error::other("there is a file that is not a socket"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    UnixListener::bind(path).map_err(failed)
}

/// The socket's file, removed when the gateway ends.
pub(crate) struct SocketFile(pub(crate) PathBuf);

impl std::ops::Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The routes of the API, one for each thing that `turnpike` asks for.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/summary", get(summary))
        .route("/v1/routes", get(routes))
        .route("/v1/bgp", get(bgp_state))
        .route("/v1/bfd", get(bfd))
        .route("/v1/bmp", get(bmp))
        .route("/v1/rpki", get(rpki))
        .route("/v1/bgp/neighbors", get(policy::bgp_neighbors))
        .route("/v1/bgp/routes", get(policy::bgp_routes))
        .route("/v1/bgp/evpn", get(evpn))
        .route("/v1/bgp/why", get(policy::bgp_why))
        .route("/v1/bgp/refresh", post(policy::refresh))
        .route("/v1/dump/mrt", get(dump::mrt))
        .route("/v1/policy/test", get(policy::test))
        .route("/v1/neighbors", get(neighbors))
        .route("/v1/kernel", get(kernel))
        .route("/v1/connections", get(connections))
        .route("/v1/generations", get(generations))
        .route("/v1/offloads", get(offloads))
        .route("/v1/drops", get(drops))
        .route("/v1/nat", get(pools::show))
        .route("/v1/standby", get(standby::show))
        .route("/v1/standby/takeover", post(standby::takeover))
        .route("/v1/explain/route", get(explain_route))
        .with_state(shared)
}

impl Shared {
    /// Asks the manager.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Manager) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let gone = || Failure(StatusCode::SERVICE_UNAVAILABLE, "the gateway is ending".to_owned());
        let (sender, receiver) = oneshot::channel();
        let query: Query = Box::new(move |manager| {
            // Nobody waits for the answer any more: nothing to do.
            let _ = sender.send(question(manager));
        });
        self.manager.send(query).await.map_err(|_| gone())?;
        tokio::time::timeout(PATIENCE, receiver)
            .await
            .map_err(|_| busy("manager"))?
            .map_err(|_| gone())
    }

    /// Asks a worker about its connections.
    async fn ask_worker<T: Send + 'static>(
        &self,
        worker: usize,
        question: impl FnOnce(&mut nat::Engine) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = oneshot::channel();
        let asked = self.dataplane.with_connections(worker, move |engine| {
            // Nobody waits for the answer any more: nothing to do.
            let _ = sender.send(question(engine));
        });
        let name = format!("worker {worker}");
        if !asked {
            return Err(busy(&name));
        }
        tokio::time::timeout(PATIENCE, receiver)
            .await
            .map_err(|_| busy(&name))?
            .map_err(|_| busy(&name))
    }

    fn workers(&self) -> usize {
        self.dataplane.counters().len()
    }

    /// The generation that each worker was last seen at.
    fn generations(&self) -> Vec<u64> {
        let counters = self.dataplane.counters();
        counters.iter().map(|counters| counters.generation.get()).collect()
    }

    /// True if winners of the VRF are written to a table of the kernel.
    fn has_kernel_table(&self, vrf: VrfId) -> bool {
        let mut vpcs = self.config.vpcs.iter();
        vrf == VrfId::DEFAULT || vpcs.any(|vpc| vpc.id.vrf() == vrf && vpc.kernel_table.is_some())
    }

    fn vrf(&self, name: &str) -> Result<VrfId, Failure> {
        if name == config::DEFAULT_VRF {
            return Ok(VrfId::DEFAULT);
        }
        self.config
            .vpcs
            .iter()
            .find(|vpc| vpc.name == name)
            .map(|vpc| vpc.id.vrf())
            .ok_or_else(|| Failure(StatusCode::NOT_FOUND, format!("no VRF is called `{name}`")))
    }
}

fn busy(who: &str) -> Failure {
    Failure(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("{who} did not answer in time: ask again"),
    )
}

async fn summary(State(shared): State<Arc<Shared>>) -> Shown<Summary> {
    let config = &shared.config;
    let ports = config.ports.iter().zip(shared.dataplane.ports());
    let ports = ports
        .map(|(port, (info, link_up, stats))| PortView {
            name: port.name.clone(),
            device: port.device.clone(),
            driver: info.driver,
            host_interface: port.host_interface.clone(),
            mac: info.mac,
            mtu: port.mtu,
            addresses: port.addresses.clone(),
            link_up,
            rx_packets: stats.rx_packets,
            tx_packets: stats.tx_packets,
            rx_missed: stats.rx_missed,
        })
        .collect();
    let counters = shared.dataplane.counters();
    let workers = config.dataplane.workers.iter().zip(counters).enumerate();
    let workers: Vec<_> = workers
        .map(|(index, (core, counters))| WorkerView {
            index,
            core: *core,
            counters: counters.view(),
        })
        .collect();
    let host = shared.dataplane.host_counters();
    let vpcs = config
        .vpcs
        .iter()
        .map(|vpc| {
            let (vni, vlan) = match &vpc.segment {
                Segment::Vxlan { vni, .. } => (Some(*vni), None),
                Segment::Vlan { id, .. } => (None, Some(*id)),
            };
            let (name, host_interface) = (vpc.name.clone(), vpc.host_interface.clone());
            VpcView {
                id: vpc.id,
                name,
                vni,
                vlan,
                host_interface,
                addresses: vpc.addresses.clone(),
            }
        })
        .collect();
    let (known, established) = match &shared.speaker {
        Some(speaker) => {
            let peers = speaker.state().await.peers;
            let established = peers.iter().filter(|peer| peer.state == ESTABLISHED);
            (peers.len(), established.count())
        }
        None => (0, 0),
    };
    let kernel = shared.mirror.status();
    let (stats, stall) = shared
        .ask(|manager| {
            let Publisher { rib, watchdog, .. } = &manager.publisher;
            (rib.stats(), watchdog.view(crate::manager::clock()).current)
        })
        .await?;
    let mut connections = 0;
    for worker in 0..shared.workers() {
        let asked = shared.ask_worker(worker, |engine| engine.stats().connections);
        match asked.await {
            Ok(count) => connections += u64::from(count),
            // A stuck worker answers nobody: the summary is what says so.
            Err(_) if stall.is_some() => {}
            Err(failure) => return Err(failure),
        }
    }
    let routes = stats.prefixes_v4 + stats.prefixes_v6;
    // Readers have one copy while the other is written.
    let tables_bytes = 2 * stats.table_bytes;
    let (buffers_in_use, buffers) = shared.dataplane.buffers();
    Ok(Json(Summary {
        name: config.gateway.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        revision: shared.revision,
        generation: stats.generation,
        uptime_seconds: crate::manager::clock().duration_since(shared.started).as_secs(),
        ports,
        drops: workers.iter().map(|worker| worker.counters.dropped).sum(),
        workers,
        stall,
        host: HostView {
            delivered: host.delivered.get(),
            refused: host.refused.get(),
            injected: host.injected.get(),
            lost: host.lost.get(),
        },
        vpcs,
        bgp: BgpSummary {
            configured: known,
            established,
        },
        kernel: KernelSummary {
            installed: kernel.installed,
            pending: kernel.pending,
            refused: kernel.refused,
            held: kernel.held,
            inexpressible: kernel.inexpressible,
        },
        routes,
        memory: MemoryView {
            rib_bytes: stats.rib_bytes,
            tables_bytes,
            bytes_per_route: (stats.rib_bytes + tables_bytes) / routes.max(1),
        },
        connections,
        offloads: shared.dataplane.offload_counters().live.get(),
        buffers_in_use,
        buffers,
    }))
}

/// State of a session that carries routes, as the speaker names it.
const ESTABLISHED: &str = "Established";

async fn routes(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Shown<Vec<RouteRow>> {
    let vrf = parameters.get("vrf").map(|name| shared.vrf(name)).transpose()?;
    let bad = |error: &dyn std::fmt::Display| Failure(StatusCode::BAD_REQUEST, error.to_string());
    let prefix = parameters
        .get("prefix")
        .map(|text| text.parse::<Prefix>())
        .transpose()
        .map_err(|e| bad(&e))?;
    let limit = limit(&parameters)?;
    let found = shared
        .ask(move |manager| manager.publisher.rib.routes(vrf, prefix, limit))
        .await?;
    let named = found.into_iter().map(|route| RouteRow {
        vrf_name: shared.config.vrf_name(route.vrf).to_owned(),
        route,
    });
    Ok(Json(named.collect()))
}

async fn explain_route(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Shown<RouteExplanation> {
    let bad = |text: String| Failure(StatusCode::BAD_REQUEST, text);
    let vrf_name = parameters.get("vrf").map_or(config::DEFAULT_VRF, String::as_str);
    let vrf = shared.vrf(vrf_name)?;
    let address = parameters.get("address").map_or("", String::as_str);
    let address: IpAddr = address
        .parse()
        .map_err(|_| bad(format!("`{address}` is not an IP address")))?;
    let received = match &shared.speaker {
        Some(speaker) if vrf == VrfId::DEFAULT => speaker.covering(address).await,
        _ => Vec::new(),
    };
    let in_evpn = vrf
        .vpc()
        .and_then(|id| shared.config.vpc(id))
        .is_some_and(|vpc| vpc.evpn.is_some());
    let evpn = match &shared.speaker {
        Some(speaker) if in_evpn => speaker.evpn().await.routes,
        _ => Vec::new(),
    };
    let host = net::Prefix::host(address);
    let evpn: Vec<_> = evpn
        .into_iter()
        .filter(|route| route.destination.is_some_and(|destination| destination.covers(&host)))
        .collect();
    let ports = shared.config.ports.iter().zip(shared.dataplane.ports());
    let rules: Vec<PortId> = ports
        .filter(|(port, _)| port.offload)
        .map(|(_, (info, ..))| info.id)
        .collect();
    let (lookup, nic) = shared
        .ask(move |manager| {
            let lookup = manager.publisher.rib.explain(vrf, address);
            let reader = manager.publisher.rib.reader();
            let tables = reader.enter();
            let nic = explain::offloadable(explain::last(&lookup), |next_hop| match &tables {
                Some(tables) => dataplane::next_hop_offload(tables, &rules, next_hop),
                None => Err(NotOffloaded::NextHop),
            });
            (lookup, nic)
        })
        .await?;
    Ok(Json(explain::explain(Facts {
        vrf_name: vrf_name.to_owned(),
        received,
        evpn,
        workers: shared.generations(),
        kernel: explain::mirrored(explain::last(&lookup))
            .filter(|(vrf, _)| shared.has_kernel_table(*vrf))
            .map(|(vrf, prefix)| shared.mirror.route_state(vrf, &prefix)),
        nic,
        lookup,
    })))
}

fn limit(parameters: &HashMap<String, String>) -> Result<usize, Failure> {
    match parameters.get("limit") {
        None => Ok(LIMIT),
        Some(text) => text
            .parse()
            .map_err(|_| Failure(StatusCode::BAD_REQUEST, format!("limit `{text}` is not a number"))),
    }
}

async fn bgp_state(State(shared): State<Arc<Shared>>) -> Shown<Bgp> {
    let Some(speaker) = &shared.speaker else {
        return Ok(Json(Bgp {
            asn: 0,
            router_id: None,
            prefixes: 0,
            paths: 0,
            update_groups: 0,
            dynamic_refused: 0,
            unknown_refused: 0,
            awaited: Vec::new(),
            peers: Vec::new(),
            routes: Vec::new(),
        }));
    };
    let state = speaker.state().await;
    let peers = state
        .peers
        .into_iter()
        .map(|peer| PeerView {
            uptime_seconds: peer.uptime,
            peer,
        })
        .collect();
    Ok(Json(Bgp {
        asn: state.local_as,
        router_id: Some(state.router_id),
        prefixes: state.prefixes,
        paths: state.paths,
        update_groups: state.update_groups,
        dynamic_refused: state.dynamic_refused,
        unknown_refused: state.unknown_refused,
        awaited: state.awaited,
        peers,
        routes: speaker.routes(None).await.into_iter().take(LIMIT).collect(),
    }))
}

async fn evpn(State(shared): State<Arc<Shared>>) -> Shown<bgp::EvpnState> {
    Ok(Json(match &shared.speaker {
        Some(speaker) => speaker.evpn().await,
        None => bgp::EvpnState::default(),
    }))
}

async fn bfd(State(shared): State<Arc<Shared>>) -> Shown<bgp::bfd::BfdState> {
    Ok(Json(match &shared.speaker {
        Some(speaker) => speaker.bfd().await,
        None => bgp::bfd::BfdState::default(),
    }))
}

async fn bmp(State(shared): State<Arc<Shared>>) -> Shown<Vec<bgp::BmpView>> {
    Ok(Json(match &shared.speaker {
        Some(speaker) => speaker.bmp().await,
        None => Vec::new(),
    }))
}

async fn rpki(State(shared): State<Arc<Shared>>) -> Shown<bgp::rpki::RpkiState> {
    Ok(Json(match &shared.speaker {
        Some(speaker) => speaker.rpki().await,
        None => bgp::rpki::RpkiState::default(),
    }))
}

async fn neighbors(State(shared): State<Arc<Shared>>) -> Shown<Vec<NeighborRow>> {
    let (found, interfaces) = shared
        .ask(|manager| (manager.publisher.rib.neighbors(), manager.publisher.rib.interfaces()))
        .await?;
    let rows = found.into_iter().map(|neighbor| {
        let name = interfaces
            .iter()
            .find(|view| Some(view.interface.id) == neighbor.interface);
        let (mac, state) = match neighbor.state {
            NeighborState::Reachable(mac) => (Some(mac), "reachable"),
            NeighborState::Stale(mac) => (Some(mac), "stale"),
            NeighborState::Incomplete => (None, "incomplete"),
            NeighborState::Failed => (None, "failed"),
            NeighborState::Gone => (None, "gone"),
        };
        let interface = name.map_or_else(
            || format!("host interface {}", neighbor.host),
            |view| view.interface.name.clone(),
        );
        NeighborRow {
            interface,
            address: neighbor.address,
            mac,
            state,
        }
    });
    Ok(Json(rows.collect()))
}

async fn kernel(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Shown<KernelView> {
    let bad = |error: net::PrefixError| Failure(StatusCode::BAD_REQUEST, error.to_string());
    let prefix = parameters.get("prefix").map(|text| text.parse::<Prefix>());
    let prefix = prefix.transpose().map_err(bad)?;
    Ok(Json(KernelView {
        mirror: shared.mirror.status(),
        fpm: shared.fpm.as_ref().map(FpmServer::status),
        route: prefix.map(|prefix| shared.mirror.route_state(VrfId::DEFAULT, &prefix)),
    }))
}

async fn connections(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Shown<Vec<ConnectionRow>> {
    let limit = limit(&parameters)?;
    let mut found = Vec::new();
    for worker in 0..shared.workers() {
        let mut from = Some(0);
        while let (Some(at), true) = (from, found.len() < limit) {
            let wanted = CHUNK.min(limit - found.len());
            let (mut chunk, next) = shared
                .ask_worker(worker, move |engine| {
                    let mut chunk = Vec::with_capacity(wanted);
                    let next = engine.snapshot(at, wanted, &mut chunk);
                    (chunk, next)
                })
                .await?;
            found.append(&mut chunk);
            from = next;
        }
    }
    let rows = found.into_iter().map(|connection| ConnectionRow {
        vpc_name: connection.vpc.map(|vpc| shared.config.vrf_name(vpc.vrf()).to_owned()),
        connection,
    });
    Ok(Json(rows.collect()))
}

async fn generations(State(shared): State<Arc<Shared>>) -> Shown<Generations> {
    let (current, batches, stalls, history) = shared
        .ask(|manager| {
            let Publisher {
                rib, batches, watchdog, ..
            } = &mut manager.publisher;
            let now = crate::manager::clock();
            (
                rib.generation(),
                batches.view(now),
                watchdog.view(now),
                manager.history.iter().cloned().collect(),
            )
        })
        .await?;
    let workers_seen = shared.generations();
    Ok(Json(Generations {
        current,
        revision: shared.revision,
        workers_seen,
        batches,
        stalls,
        history,
    }))
}

async fn offloads(State(shared): State<Arc<Shared>>) -> Shown<Offloads> {
    let ports = shared
        .config
        .ports
        .iter()
        .filter(|port| port.offload)
        .map(|port| port.name.clone())
        .collect();
    let counters = shared.dataplane.offload_counters().view();
    Ok(Json(Offloads {
        ports,
        counters,
        list: shared.dataplane.offloaded().unwrap_or_default(),
    }))
}

async fn drops(State(shared): State<Arc<Shared>>) -> Shown<Vec<DropRow>> {
    let workers = shared.dataplane.counters();
    let rows = Drop::ALL.iter().map(|reason| DropRow {
        reason: reason.name(),
        packets: workers.iter().map(|counters| counters.dropped(*reason)).sum(),
        description: reason.description(),
    });
    Ok(Json(rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_a_live_one_and_another_file_are_not() {
        let folder = std::env::temp_dir().join(format!("turnpike-socket-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let (socket, file) = (folder.join("api.sock"), folder.join("precious"));
        std::fs::write(&file, "kept").expect("file");

        let refused = listen(&file).await;
        let live = listen(&socket).await.expect("free");
        let second = listen(&socket).await;
        drop(live);
        let after = listen(&socket).await;
        let kept = std::fs::read_to_string(&file);
        std::fs::remove_dir_all(&folder).expect("clean");

        assert!(matches!(refused, Err(Error::Socket { .. })), "{refused:?}");
        assert_eq!(kept.expect("still there"), "kept");
        assert!(matches!(second, Err(Error::SocketInUse { .. })), "{second:?}");
        assert!(after.is_ok(), "{after:?}");
    }
}
