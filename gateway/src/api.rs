//! What the API says, in JSON: one type for each `turnpike show`.

use std::net::{IpAddr, SocketAddr};

use net::{Generation, Revision};
use serde::Serialize;

/// `show summary`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct Summary {
    pub name: String,
    pub version: &'static str,
    pub revision: Revision,
    pub generation: Generation,
    pub uptime_seconds: u64,
    pub ports: Vec<PortView>,
    pub workers: Vec<WorkerView>,
    pub stall: Option<crate::watchdog::StallView>,
    pub host: HostView,
    pub vpcs: Vec<VpcView>,
    pub bgp: BgpSummary,
    pub kernel: KernelSummary,
    pub routes: usize,
    pub memory: MemoryView,
    pub connections: u64,
    pub offloads: u64,
    pub drops: u64,
    pub buffers_in_use: u32,
    pub buffers: u32,
}

/// Memory of the route tables in `show summary`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct MemoryView {
    pub rib_bytes: usize,
    pub tables_bytes: usize,
    pub bytes_per_route: usize,
}

/// A port in `show summary`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct PortView {
    pub name: String,
    pub device: String,
    pub driver: String,
    pub host_interface: String,
    pub mac: net::Mac,
    pub mtu: u16,
    pub addresses: Vec<net::IpNet>,
    pub link_up: bool,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_missed: u64,
}

/// A worker in `show summary`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct WorkerView {
    pub index: usize,
    pub core: u16,
    #[serde(flatten)]
    pub counters: dataplane::CountersView,
}

/// The host interfaces' thread in `show summary`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct HostView {
    pub delivered: u64,
    pub refused: u64,
    pub injected: u64,
    pub lost: u64,
}

/// `show kernel`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct KernelView {
    #[serde(flatten)]
    pub mirror: netlink_sync::Status,
    pub fpm: Option<netlink_sync::FpmStatus>,
    pub route: Option<netlink_sync::RouteState>,
}

/// A VPC in `show summary`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct VpcView {
    pub id: net::VpcId,
    pub name: String,
    pub vni: Option<net::Vni>,
    pub vlan: Option<net::VlanId>,
    pub host_interface: String,
    pub addresses: Vec<net::IpNet>,
}

/// Sessions in `show summary`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct BgpSummary {
    pub configured: usize,
    pub established: usize,
}

/// What [`netlink_sync::Status`] says of our routes; the whole is `show kernel`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct KernelSummary {
    pub installed: usize,
    pub pending: usize,
    pub refused: usize,
    pub held: usize,
    pub inexpressible: usize,
}

/// `show bgp`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct Bgp {
    pub asn: u32,
    pub router_id: Option<std::net::Ipv4Addr>,
    pub prefixes: usize,
    pub paths: usize,
    pub update_groups: usize,
    pub dynamic_refused: u64,
    pub unknown_refused: u64,
    pub awaited: Vec<std::net::IpAddr>,
    pub peers: Vec<PeerView>,
    pub routes: Vec<bgp::RouteView>,
}

/// `show bgp why`.
#[derive(Debug, Serialize)]
pub struct BgpWhy {
    /// What the speaker knows.
    #[serde(flatten)]
    pub why: bgp::RouteWhy,
    /// The routes of every source to the prefix, and which one forwards.
    pub rib: Vec<RouteRow>,
    /// The newest published generation.
    pub generation: u64,
    /// That generation has the prefix as the RIB has it; nothing if a longer prefix holds its first address.
    pub published: Option<bool>,
    /// The generation that each worker was last seen at.
    pub workers: Vec<u64>,
    /// What became of the route in the kernel.
    pub kernel: netlink_sync::RouteState,
}

/// `bgp refresh`.
#[derive(Debug, Serialize)]
pub struct Refreshed {
    /// Who was asked.
    pub peer: std::net::IpAddr,
}

/// A peer in `show bgp`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct PeerView {
    pub uptime_seconds: Option<u64>,
    #[serde(flatten)]
    pub peer: bgp::PeerView,
}

/// A row of `show routes`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct RouteRow {
    pub vrf_name: String,
    #[serde(flatten)]
    pub route: rib::RouteView,
}

/// A row of `show neighbors`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct NeighborRow {
    pub interface: String,
    pub address: IpAddr,
    pub mac: Option<net::Mac>,
    pub state: &'static str,
}

/// A row of `show connections`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct ConnectionRow {
    pub vpc_name: Option<String>,
    #[serde(flatten)]
    pub connection: nat::ConnectionView,
}

/// `show generations`.
#[derive(Debug, Clone, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct Generations {
    pub current: Generation,
    pub revision: Revision,
    pub workers_seen: Vec<u64>,
    pub batches: crate::batch::BatchesView,
    pub stalls: crate::watchdog::StallsView,
    pub history: Vec<GenerationView>,
}

/// A generation in `show generations`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GenerationView {
    /// Its number.
    pub generation: Generation,
    /// Revision of the configuration it came from.
    pub revision: Revision,
    /// Milliseconds after the gateway's start at which it was published.
    pub published_ms: u64,
    /// Changes it was made of.
    pub changes: usize,
    /// What closed its batch.
    pub closed: crate::batch::Closed,
    /// Microseconds from the end of the batch to published: decided, resolved, written.
    pub publish_us: u64,
    /// Work that it took.
    #[serde(flatten)]
    pub effort: rib::Effort,
    /// Workers that have revalidated their connections.
    pub workers_done: usize,
    /// Connections looked at.
    pub examined: u64,
    /// Connections found unchanged.
    pub kept: u64,
    /// Connections that got another next hop and kept their NAT port.
    pub moved: u64,
    /// Connections without a route, in their grace period.
    pub unrouted: u64,
    /// Connections that ended.
    pub ended: u64,
    /// From a worker's first burst in the generation to its last connection; the slowest worker's.
    pub duration_us: u64,
}

/// `show offloads`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct Offloads {
    pub ports: Vec<String>,
    #[serde(flatten)]
    pub counters: dataplane::OffloadCountersView,
    pub list: Vec<dataplane::OffloadedRule>,
}

/// A row of `show drops`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct DropRow {
    pub reason: &'static str,
    pub packets: u64,
    pub description: &'static str,
}

/// `show standby`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct StandbyView {
    pub sending: Option<StandbySending>,
    pub receiving: Option<StandbyReceiving>,
}

/// How far this gateway is with telling its standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SendingState {
    /// The standby does not answer.
    Connecting,
    /// It is told everything that there is.
    Synchronizing,
    /// It has everything, and is told what changes.
    Synchronized,
}

/// What is sent to a standby, in `show standby`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct StandbySending {
    pub peer: SocketAddr,
    pub state: SendingState,
    pub stream: u64,
    pub sent: u64,
    pub acknowledged: u64,
    pub lag: u64,
    pub backlog: usize,
    pub room: u32,
    pub sessions: u64,
    pub last_error: Option<String>,
}

/// What is received of a primary, in `show standby`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct StandbyReceiving {
    pub listen: SocketAddr,
    pub primary: IpAddr,
    pub state: nat::standby::ReceiverState,
    pub stream: Option<u64>,
    pub connections: usize,
    pub applied: u64,
    pub not_kept: u64,
    pub sessions: u64,
    pub silent_ms: Option<u64>,
    pub last_error: Option<String>,
}

/// `standby takeover`: what became of the received connections.
#[derive(Debug, Default, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct Takeover {
    pub received: usize,
    pub taken_over: u64,
    pub too_old: u64,
    pub not_allowed: u64,
    pub port_taken: u64,
    pub table_full: u64,
}

/// `show nat`.
#[derive(Debug, Default, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct NatView {
    pub pools: Vec<PoolRow>,
    pub pool_warnings: u64,
    pub connections: u64,
    pub capacity: u64,
    pub unrouted: u64,
    pub mappings: u64,
    pub blocks: u64,
    pub created: u64,
    pub ended: u64,
    pub evicted: u64,
    pub ports_exhausted: u64,
    pub tenant_limited: u64,
    pub subscriber_limited: u64,
    pub table_full: u64,
    pub block_events_lost: u64,
    pub session_events_lost: u64,
}

/// A pool in `show nat`.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the names are the words of the book, docs/reference/commands.md"
)]
pub struct PoolRow {
    pub vpc_name: String,
    #[serde(flatten)]
    pub pool: nat::PoolView,
}
