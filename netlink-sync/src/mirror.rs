//! The public handle, and what it shares with the tasks behind it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use net::{IfIndex, KernelEvent, Prefix, VrfId};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::heard::{ObservedAddress, ObservedRoute};
use crate::inbound::Inbound;
use crate::listen::Listener;
use crate::message::{Mark, add_address, remove_address, set_link};
use crate::outlets::Outlets;
use crate::probe::Limiter;
use crate::socket::Netlink;
use crate::write::{remove_ours, resolve_neighbors, write_routes};
use crate::{Error, KernelRoute, RouteState, Status};

/// Neighbours that wait to be asked for; more are asked for when they are wanted again.
const PROBES: usize = 1024;

/// What the mirror is told at start.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// `rtm_protocol` of our routes; the mark by which they are told from everybody else's.
    pub protocol: u8,
    /// Kernel table that our routes of the default VRF are written to; 254 is main.
    pub table: u32,
    /// Kernel tables that those of other VRFs are written to, each of one VRF; those of the rest are not written.
    pub vrf_tables: Vec<(VrfId, u32)>,
    /// Priority of our routes; lower wins. Of IPv6, 0 means 1024 to the kernel: use 1 or more.
    pub metric: u32,
    /// Kernel tables whose routes are told, each as those of a VRF; the others are shown in [`Status`] alone.
    pub tables: Vec<(u32, VrfId)>,
    /// Routes left by an earlier run that nobody confirmed in this time after the start are removed.
    pub stale_sweep: Duration,
}

/// Sizes and intervals that only tests and large systems change.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Receive buffer of the notification socket, bytes.
    pub receive_buffer: usize,
    /// How often the kernel's state is compared with ours; less often where that takes long.
    pub audit_interval: Duration,
    /// An audit is followed by a pause of at least so many times its own duration, however many routes there are.
    pub audit_pause: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            receive_buffer: 16 << 20,
            audit_interval: Duration::from_secs(30),
            audit_pause: 50,
        }
    }
}

/// Handle of a running mirror; clones are cheap and share it. Dropping the last one stops the tasks and leaves our
/// routes in the kernel, for the next start to adopt; [`Mirror::shutdown`] removes them.
#[derive(Clone)]
pub struct Mirror {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    probes: mpsc::Sender<(IfIndex, IpAddr)>,
    limiter: Mutex<Limiter>,
    /// For links, addresses, and the removal of our routes at shutdown.
    requests: tokio::sync::Mutex<Netlink>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the handle and the tasks share.
pub(crate) struct Shared {
    pub(crate) config: MirrorConfig,
    pub(crate) tuning: Tuning,
    /// Kernel tables that are written to.
    written: HashSet<u32>,
    outbound: Mutex<Outlets>,
    inbound: Mutex<Inbound>,
    /// There may be something to write.
    pub(crate) work: Notify,
    /// Whether the last writes took effect is not known.
    pub(crate) unsure: Notify,
    pub(crate) counters: Counters,
}

/// Counters of the listening task.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) overruns: AtomicU64,
    pub(crate) resyncs: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) audits: AtomicU64,
    pub(crate) drift_in: AtomicU64,
}

impl Mirror {
    /// Opens the sockets, subscribes, dumps, and tells all that is present in one batch that ends with
    /// [`KernelEvent::Synced`], and then live events in order, batched by wakeup.
    ///
    /// A full `events` channel makes the mirror wait; what the kernel then drops for us is found by a resync. The network
    /// namespace is the one of the calling thread.
    ///
    /// # Errors
    /// [`Error::Socket`] if a socket cannot be set up, and the error of the first dump.
    pub async fn start(config: MirrorConfig, events: mpsc::Sender<Vec<KernelEvent>>) -> Result<Self, Error> {
        Self::start_with(config, Tuning::default(), events).await
    }

    /// As [`Mirror::start`], with sizes and intervals of one's own.
    ///
    /// # Errors
    /// As [`Mirror::start`].
    pub async fn start_with(
        config: MirrorConfig,
        tuning: Tuning,
        events: mpsc::Sender<Vec<KernelEvent>>,
    ) -> Result<Self, Error> {
        let notify = Netlink::subscribe(tuning.receive_buffer)?;
        let (dump, writer, prober, mut requests) =
            (Netlink::open()?, Netlink::open()?, Netlink::open()?, Netlink::open()?);
        let written = [(VrfId::DEFAULT, config.table)]
            .into_iter()
            .chain(config.vrf_tables.iter().copied());
        let shared = Arc::new(Shared {
            written: written.clone().map(|(_, table)| table).collect(),
            outbound: Mutex::new(Outlets::new(written)),
            inbound: Mutex::new(Inbound::new(config.protocol, config.tables.iter().copied())),
            config,
            tuning,
            work: Notify::new(),
            unsure: Notify::new(),
            counters: Counters::default(),
        });
        let (listener, first) = Listener::start(Arc::clone(&shared), events, notify, dump, writer.port()).await?;
        remove_ours(&mut requests, &shared, Some(shared.config.metric)).await?;
        let (probes, wanted) = mpsc::channel(PROBES);
        let tasks = vec![
            tokio::spawn(listener.run(first)),
            tokio::spawn(write_routes(Arc::clone(&shared), writer)),
            tokio::spawn(resolve_neighbors(prober, wanted)),
        ];
        let inner = Inner {
            shared,
            probes,
            limiter: Mutex::default(),
            requests: tokio::sync::Mutex::new(requests),
            tasks: Mutex::new(tasks),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Wants these routes in the kernel. Never blocks; the newest wish for a prefix wins, and what equals the kernel's
    /// state is not written.
    pub fn submit(&self, changes: Vec<KernelRoute>) {
        {
            let mut outbound = self.inner.shared.outbound();
            changes.into_iter().for_each(|change| outbound.submit(change));
        }
        self.inner.shared.work.notify_one();
    }

    /// Asks the kernel to resolve a neighbour; the answer is a [`KernelEvent::Neighbor`]. Never blocks; at most one
    /// request a second for each neighbour.
    pub fn request_neighbor(&self, interface: IfIndex, address: IpAddr) {
        let now = Instant::now().into_std();
        if lock(&self.inner.limiter).admit(interface, address, now)
            && self.inner.probes.try_send((interface, address)).is_err()
        {
            tracing::debug!(%interface, %address, "too many neighbours wanted at once");
        }
    }

    /// Sets an interface up or down, and its MTU. Returns its index.
    ///
    /// # Errors
    /// [`Error::NoInterface`], or [`Error::Refused`] with the kernel's reason.
    pub async fn set_link(&self, name: &str, up: bool, mtu: Option<u32>) -> Result<IfIndex, Error> {
        let mut socket = self.inner.requests.lock().await;
        let links = socket
            .dump("links", RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .await?
            .links;
        let link = links
            .into_iter()
            .find(|l| l.name == name)
            .ok_or_else(|| Error::NoInterface(name.to_owned()))?;
        let what = format!("set {name} {}", if up { "up" } else { "down" });
        one(&mut socket, what, set_link(link.index, up, mtu)).await?;
        Ok(link.index)
    }

    /// Gives an interface exactly these addresses besides its IPv6 link-local ones: adds what is missing, removes what
    /// is not listed. Without `connected_route` the kernel makes no route to their subnets. IPv6 addresses are usable at
    /// once, without duplicate detection.
    ///
    /// # Errors
    /// [`Error::Refused`] with the address and the kernel's reason.
    pub async fn set_addresses(
        &self,
        interface: IfIndex,
        addresses: &[IpNet],
        connected_route: bool,
    ) -> Result<(), Error> {
        let mut socket = self.inner.requests.lock().await;
        for old in addresses_of(&mut socket, interface).await? {
            let address = old.change.address;
            if !addresses.contains(&address) || old.connected_route != connected_route {
                let what = format!("remove address {address} from interface {interface}");
                one(&mut socket, what, remove_address(interface, address)).await?;
            }
        }
        // Again: the kernel removes the secondary addresses of a subnet together with its first.
        let present = addresses_of(&mut socket, interface).await?;
        for address in addresses {
            if !present.iter().any(|p| p.change.address == *address) {
                let what = format!("add address {address} to interface {interface}");
                one(&mut socket, what, add_address(interface, *address, connected_route)).await?;
            }
        }
        Ok(())
    }

    /// Everything wanted has been submitted: what an earlier run left and nobody confirmed is removed now.
    pub fn end_of_start(&self) {
        self.inner.shared.end_of_start();
    }

    /// Removes all our routes and stops, for every clone of the handle.
    pub async fn shutdown(self) {
        let tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        for task in tasks {
            task.abort();
            // Either it was cancelled, or it had ended: both are the end of it.
            let _ended = task.await;
        }
        let mut socket = self.inner.requests.lock().await;
        if let Err(error) = remove_ours(&mut socket, &self.inner.shared, None).await {
            tracing::error!(%error, "our routes could not be removed; the next start removes them");
        }
    }

    /// What became of the newest wish for a prefix; [`RouteState::NotWanted`] in a VRF whose routes are not written.
    pub fn route_state(&self, vrf: VrfId, prefix: &Prefix) -> RouteState {
        self.inner.shared.outbound().state(vrf, prefix)
    }

    /// Counters and state.
    pub fn status(&self) -> Status {
        let counters = &self.inner.shared.counters;
        let mut status = Status {
            overruns: counters.overruns.load(Relaxed),
            resyncs: counters.resyncs.load(Relaxed),
            events: counters.events.load(Relaxed),
            audits: counters.audits.load(Relaxed),
            drift_in: counters.drift_in.load(Relaxed),
            ..Status::default()
        };
        self.inner.shared.outbound().report(&mut status);
        self.inner.shared.inbound().report(&mut status);
        status
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.tasks).iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    pub(crate) fn outbound(&self) -> MutexGuard<'_, Outlets> {
        lock(&self.outbound)
    }

    pub(crate) fn inbound(&self) -> MutexGuard<'_, Inbound> {
        lock(&self.inbound)
    }

    /// The mark of our routes in `table`.
    pub(crate) fn mark(&self, table: u32) -> Mark {
        Mark {
            protocol: self.config.protocol,
            table,
            metric: self.config.metric,
        }
    }

    /// True for a route that carries our mark.
    pub(crate) fn is_ours(&self, route: &ObservedRoute) -> bool {
        route.protocol == self.config.protocol && self.is_at_our_place(route)
    }

    /// True for another's route at a place that is ours when we have a route for the prefix.
    pub(crate) fn is_in_place_of_ours(&self, route: &ObservedRoute) -> bool {
        route.protocol != self.config.protocol && self.is_at_our_place(route)
    }

    /// True for a kernel table that our routes are written to.
    pub(crate) fn is_written(&self, table: u32) -> bool {
        self.written.contains(&table)
    }

    fn is_at_our_place(&self, route: &ObservedRoute) -> bool {
        self.is_written(route.table) && route.metric == self.config.metric
    }

    pub(crate) fn end_of_start(&self) {
        self.outbound().end_of_start();
        self.work.notify_one();
    }
}

/// A panic elsewhere does not make the state behind the lock unusable: each change of it is complete.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn one(socket: &mut Netlink, what: String, request: (RouteNetlinkMessage, u16)) -> Result<(), Error> {
    let answers = socket.request(&what, [request]).await?;
    match answers.into_iter().next() {
        Some(Err(nack)) => Err(Error::Refused {
            what,
            source: nack.into(),
        }),
        _ => Ok(()),
    }
}

/// All addresses of an interface but the link-local ones of IPv6.
async fn addresses_of(socket: &mut Netlink, interface: IfIndex) -> Result<Vec<ObservedAddress>, Error> {
    let dump = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut addresses = socket.dump("addresses", dump).await?.addresses;
    let link_local = |a: IpAddr| matches!(a, IpAddr::V6(a) if a.is_unicast_link_local());
    addresses.retain(|a| a.change.interface == interface && !link_local(a.change.address.addr()));
    Ok(addresses)
}
