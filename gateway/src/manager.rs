//! The manager: every event of the control plane goes through it, and it alone owns the RIB.
//!
//! A batch is what has arrived when the inputs are empty, or at the bounds of `batch.rs`, whichever is first; it is
//! published as one generation. A single change in steady state is so published at once, and a full table in a handful
//! of generations.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use net::{Generation, IfIndex, InterfaceId, KernelEvent, NeighborState, Revision, RouteKind, Source};
use netlink_sync::{FpmEvent, KernelNextHop, KernelRoute, Mirror, Obstacle};
use rib::{Rib, Winner};
use tokio::sync::mpsc;

use crate::api::GenerationView;
use crate::batch::{Batches, Closed};
use crate::next_hops::NextHops;
use crate::publisher::{Advance, Publisher};
use crate::redistribute::Offers;

/// Generations that `show generations` remembers.
const HISTORY: usize = 256;

/// Something to find out from, or do to, the manager.
pub(crate) type Query = Box<dyn FnOnce(&mut Manager) + Send>;

/// Ends of the channels that feed the manager.
pub(crate) struct Inputs {
    pub(crate) bgp: mpsc::Receiver<bgp::Event>,
    pub(crate) kernel: mpsc::Receiver<Vec<KernelEvent>>,
    pub(crate) fpm: mpsc::Receiver<Vec<FpmEvent>>,
    pub(crate) dataplane: mpsc::UnboundedReceiver<dataplane::Event>,
    pub(crate) queries: mpsc::Receiver<Query>,
}

/// The manager's state.
pub(crate) struct Manager {
    pub(crate) publisher: Publisher,
    mirror: Mirror,
    /// Kernel index of each host interface, both ways.
    indices: HashMap<InterfaceId, IfIndex>,
    /// Peers whose End-of-RIB is awaited before routes left in the kernel by an earlier run are removed.
    unsynced: usize,
    /// The first generation that has all of them is still to be published.
    starting: bool,
    revision: Revision,
    epoch: Instant,
    next_hops: NextHops,
    offers: Offers,
    /// Where the speaker takes feedback, once it runs.
    pub(crate) speaker: Option<mpsc::UnboundedSender<bgp::Feedback>>,
    /// Batches of BGP's routes taken, and those that the speaker knows to be published.
    routes: (u64, u64),
    pub(crate) history: VecDeque<GenerationView>,
    /// Part that failed, and its last words.
    failures: mpsc::UnboundedSender<(String, String)>,
}

impl Manager {
    pub(crate) fn new(
        rib: Rib,
        mirror: Mirror,
        indices: HashMap<InterfaceId, IfIndex>,
        (sessions, batches): (usize, Batches),
        revision: Revision,
        failures: mpsc::UnboundedSender<(String, String)>,
    ) -> Self {
        let epoch = clock();
        Self {
            publisher: Publisher::new(rib, batches, epoch),
            mirror,
            indices,
            unsynced: sessions,
            starting: sessions > 0,
            revision,
            epoch,
            next_hops: NextHops::default(),
            offers: Offers::default(),
            speaker: None,
            routes: (0, 0),
            history: VecDeque::with_capacity(HISTORY),
            failures,
        }
    }

    /// Runs until every input is closed.
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        let mut again = None;
        loop {
            let pause = again.unwrap_or(Duration::from_secs(3_600));
            tokio::select! {
                event = inputs.bgp.recv() => match event {
                    Some(event) => self.bgp(event),
                    None => break,
                },
                events = inputs.kernel.recv() => match events {
                    Some(events) => events.into_iter().for_each(|event| self.kernel(event)),
                    None => break,
                },
                events = inputs.fpm.recv() => match events {
                    Some(events) => events.into_iter().for_each(|event| self.fpm(event)),
                    None => break,
                },
                event = inputs.dataplane.recv() => match event {
                    Some(event) => self.dataplane(event),
                    None => break,
                },
                query = inputs.queries.recv() => match query {
                    Some(query) => query(&mut self),
                    None => break,
                },
                () = tokio::time::sleep(pause) => {}
            }
            let closed = self.drain(&mut inputs);
            again = self.advance(closed);
            if again.is_none() {
                self.feed_back();
            }
        }
    }

    /// Publishes what is pending if it may be; how soon to try again otherwise.
    fn advance(&mut self, closed: Closed) -> Option<Duration> {
        let advance = self.publisher.advance(closed, clock);
        self.advanced(advance)
    }

    /// Takes in what waits, up to the bounds of a batch, and says what closed it.
    fn drain(&mut self, inputs: &mut Inputs) -> Closed {
        let began = clock();
        loop {
            let now = clock();
            let bounds = self.publisher.batches.bounds(now);
            if let Some(closed) = bounds.reached(self.publisher.rib.pending(), now.duration_since(began)) {
                return closed;
            }
            let mut any = false;
            if let Ok(event) = inputs.bgp.try_recv() {
                self.bgp(event);
                any = true;
            }
            if let Ok(events) = inputs.kernel.try_recv() {
                events.into_iter().for_each(|event| self.kernel(event));
                any = true;
            }
            if let Ok(events) = inputs.fpm.try_recv() {
                events.into_iter().for_each(|event| self.fpm(event));
                any = true;
            }
            if let Ok(event) = inputs.dataplane.try_recv() {
                self.dataplane(event);
                any = true;
            }
            if !any {
                return Closed::Drained;
            }
        }
    }

    /// Tells the speaker what has become of its routes and next hops. Everything that came is published.
    fn feed_back(&mut self) {
        let Some(speaker) = &self.speaker else { return };
        let carried = (self.routes.1 != self.routes.0).then_some(bgp::Feedback::Carried(self.routes.0));
        self.routes.1 = self.routes.0;
        let news = self.next_hops.news(&self.publisher.rib);
        let news = (!news.is_empty()).then_some(bgp::Feedback::NextHops(news));
        let offers = self.offers.news();
        for feedback in carried.into_iter().chain(news).chain(offers) {
            // A speaker that is gone needs none.
            let _ = speaker.send(feedback);
        }
    }

    fn bgp(&mut self, event: bgp::Event) {
        match event {
            bgp::Event::Routes(changes) => {
                self.routes.0 += 1;
                changes.into_iter().for_each(|change| self.publisher.rib.route(change));
            }
            bgp::Event::NextHops(wanted) => self.next_hops.wanted(&wanted),
            bgp::Event::PeerUp { peer } => {
                tracing::info!(%peer, "BGP session established");
                self.publisher.batches.peer_up(peer, clock());
            }
            bgp::Event::PeerDown { peer, reason, kept } => {
                if kept.is_empty() {
                    tracing::warn!(%peer, reason, "BGP session down");
                } else {
                    tracing::warn!(%peer, reason, ?kept, "BGP session down: the peer restarts, and its routes are kept");
                }
                self.publisher.batches.peer_done(peer);
            }
            bgp::Event::EndOfRib { peer, family } => {
                tracing::info!(%peer, ?family, "End-of-RIB");
                self.publisher.batches.peer_done(peer);
                self.unsynced = self.unsynced.saturating_sub(1);
                if self.unsynced == 0 {
                    self.publish(Closed::EndOfRib);
                    if self.publisher.rib.pending() == 0 {
                        self.complete();
                    }
                }
            }
        }
    }

    /// The kernel sees nothing of what is sent to a neighbour: one that it does not vouch for any more it is asked to probe.
    fn kernel(&mut self, event: KernelEvent) {
        let stale = match &event {
            KernelEvent::Neighbor(neighbor) if matches!(neighbor.state, NeighborState::Stale(_)) => {
                Some((neighbor.interface, neighbor.address))
            }
            _ => None,
        };
        self.publisher.kernel(event);
        if let Some((interface, address)) =
            stale.filter(|(interface, address)| self.publisher.rib.sends_to(*interface, *address))
        {
            self.mirror.request_neighbor(interface, address);
        }
    }

    fn fpm(&mut self, event: FpmEvent) {
        match event {
            FpmEvent::Route(change) => self.publisher.rib.route(change),
            FpmEvent::NextHopObject(change) => self.publisher.rib.next_hop_object(change),
        }
    }

    fn dataplane(&mut self, event: dataplane::Event) {
        match event {
            dataplane::Event::NeighborWanted { interface, address } => {
                if let Some(index) = self.indices.get(&interface) {
                    self.mirror.request_neighbor(*index, address);
                }
            }
            dataplane::Event::FdbLearned { interface, mac, vtep } => {
                tracing::debug!(%interface, %mac, %vtep, "MAC learned");
                self.publisher.rib.fdb(interface, mac, Some(vtep));
            }
            dataplane::Event::Revalidated {
                worker: _,
                generation,
                summary,
                duration,
            } => {
                self.revalidated(generation, &summary, duration);
            }
            dataplane::Event::PortBlock(block) => log_block(&block),
            dataplane::Event::Failed { thread, reason } => {
                tracing::error!(thread, reason, "data plane thread failed");
                // The receiver is gone only when the gateway is ending already.
                let _ = self.failures.send((thread, reason));
            }
        }
    }

    fn revalidated(&mut self, generation: Generation, summary: &nat::RevalidationSummary, duration: Duration) {
        let Some(view) = self.history.iter_mut().rev().find(|view| view.generation == generation) else {
            return;
        };
        view.workers_done += 1;
        view.examined += summary.examined;
        view.kept += summary.kept;
        view.moved += summary.moved;
        view.unrouted += summary.unrouted;
        view.ended += summary.ended;
        view.duration_us = view.duration_us.max(duration.as_micros() as u64);
        if summary.moved + summary.unrouted + summary.ended > 0 {
            tracing::info!(
                %generation,
                kept = summary.kept,
                moved = summary.moved,
                unrouted = summary.unrouted,
                ended = summary.ended,
                "connections revalidated"
            );
        }
    }

    /// Publishes what is pending now, unless a worker still holds the tables before the last generation.
    pub(crate) fn publish(&mut self, closed: Closed) {
        let advance = self.publisher.publish(closed, clock);
        self.advanced(advance);
    }

    /// Tells everybody of what was published; how soon to try again if it could not be.
    fn advanced(&mut self, advance: Advance) -> Option<Duration> {
        let (published, closed, publish_us) = match advance {
            Advance::Nothing => return None,
            Advance::Again(pause) => return Some(pause),
            Advance::Published(published, closed, publish_us) => (*published, closed, publish_us),
        };
        tracing::debug!(generation = %published.generation, changes = published.changes, "published");
        for winner in &published.winners {
            self.next_hops.changed(winner.vrf, &winner.prefix);
            self.offers.winner(winner);
        }
        self.mirror
            .submit(published.winners.into_iter().map(kernel_route).collect());
        for (interface, address) in published.wanted {
            self.mirror.request_neighbor(interface, address);
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(GenerationView {
            generation: published.generation,
            revision: self.revision,
            published_ms: clock().duration_since(self.epoch).as_millis() as u64,
            changes: published.changes,
            closed,
            publish_us,
            effort: published.effort,
            ..GenerationView::default()
        });
        if self.unsynced == 0 {
            self.complete();
        }
        None
    }

    /// The tables of the start are published: what an earlier run left in the kernel beyond them goes.
    fn complete(&mut self) {
        if std::mem::take(&mut self.starting) {
            self.publisher.batches.started();
            self.mirror.end_of_start();
        }
    }
}

/// What the kernel is told of a winner: BGP's and static routes.
fn kernel_route(winner: Winner) -> KernelRoute {
    let remove = KernelRoute::remove(winner.vrf, winner.prefix);
    let Some(route) = winner.route else { return remove };
    let mirrored = matches!(route.source, Source::Ebgp | Source::Ibgp | Source::Static)
        && !matches!(route.kind, RouteKind::Local | RouteKind::Nat);
    if !mirrored {
        return remove;
    }
    let hops = &route.next_hops;
    let obstacle = if hops.iter().any(|hop| hop.vrf.is_some()) {
        Some(Obstacle::OtherVrf)
    } else if hops.iter().any(|hop| hop.tunnel) {
        Some(Obstacle::Tunnel)
    } else {
        None
    };
    let next_hops = hops.iter().map(|hop| KernelNextHop {
        gateway: hop.gateway,
        interface: hop.interface,
        weight: u16::try_from(hop.weight).unwrap_or(u16::MAX),
    });
    KernelRoute {
        next_hops: Some(next_hops.collect()),
        kind: route.kind,
        obstacle,
        ..remove
    }
}

/// The clock of batches and uptimes.
#[allow(
    clippy::disallowed_methods,
    reason = "the manager is an edge: it decides when a batch closes"
)]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

/// Who has which public ports from now on, or had them until now: the fields of RFC 8158 section 5.6.2 by its names. A
/// target of its own, so that these lines can be kept elsewhere and longer than others.
fn log_block(block: &nat::BlockEvent) {
    let (first, last) = block.ports;
    tracing::info!(
        target: "nat::port_block",
        nat_event = if block.assigned { "port-block-allocated" } else { "port-block-de-allocated" },
        vrf = %block.vrf,
        source_ipv4_address = %block.subscriber,
        post_nat_source_ipv4_address = %block.address,
        port_range_start = first,
        port_range_end = last,
        port_range_step_size = block.step,
        "port block"
    );
}

#[cfg(test)]
mod tests {
    use net::VrfId;

    use super::*;

    #[test]
    fn the_kernel_gets_bgp_and_static_winners_and_what_it_cannot_have_says_why() {
        let hop = rib::ResolvedHop {
            gateway: Some([192, 0, 2, 1].into()),
            interface: Some(IfIndex(3)),
            vrf: None,
            tunnel: false,
            weight: 1,
        };
        let told = |source, kind, hops: &[rib::ResolvedHop]| {
            let route = kernel_route(Winner {
                vrf: VrfId(1),
                prefix: net::Prefix::DEFAULT_V4,
                route: Some(rib::WinnerRoute {
                    source,
                    kind,
                    next_hops: hops.into(),
                }),
            });
            assert_eq!(route.vrf, VrfId(1));
            (route.next_hops.map(|hops| hops.len()), route.obstacle)
        };
        let unicast = RouteKind::Unicast;
        assert_eq!(told(Source::Ebgp, unicast, &[hop]), (Some(1), None));
        assert_eq!(told(Source::Static, RouteKind::Blackhole, &[]), (Some(0), None));
        assert_eq!(told(Source::Kernel, unicast, &[hop]), (None, None));
        assert_eq!(told(Source::Static, RouteKind::Nat, &[]), (None, None));
        let leak = rib::ResolvedHop {
            vrf: Some(VrfId::DEFAULT),
            ..hop
        };
        let tunnel = rib::ResolvedHop { tunnel: true, ..hop };
        assert_eq!(told(Source::Static, unicast, &[hop, leak]).1, Some(Obstacle::OtherVrf));
        assert_eq!(told(Source::Static, unicast, &[tunnel]).1, Some(Obstacle::Tunnel));
        let gone = Winner {
            vrf: VrfId::DEFAULT,
            prefix: net::Prefix::DEFAULT_V4,
            route: None,
        };
        assert_eq!(kernel_route(gone).next_hops, None);
    }
}
