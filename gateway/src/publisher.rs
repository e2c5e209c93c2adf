//! The RIB, and when it publishes: batches, pace and watchdog around [`Rib::publish`], which never waits for a worker.

use std::time::{Duration, Instant};

use net::KernelEvent;
use rib::{Published, Rib};

use crate::batch::{Batches, Closed};
use crate::watchdog::Watchdog;

/// Pause before publishing is tried again while a worker holds the tables.
const STALLED: Duration = Duration::from_millis(1);

/// What came of trying to publish.
#[derive(Debug)]
pub(crate) enum Advance {
    /// Nothing is pending.
    Nothing,
    /// Not now; try again after this time, or when more has come.
    Again(Duration),
    /// A generation, what closed its batch after all, and the microseconds that it took.
    Published(Box<Published>, Closed, u64),
}

/// The RIB with its batches and its watchdog.
pub(crate) struct Publisher {
    pub(crate) rib: Rib,
    pub(crate) batches: Batches,
    pub(crate) watchdog: Watchdog,
    /// Something is pending that does not wait for its turn.
    urgent: bool,
}

impl Publisher {
    pub(crate) fn new(rib: Rib, batches: Batches, epoch: Instant) -> Self {
        Self {
            rib,
            batches,
            watchdog: Watchdog::new(epoch),
            urgent: false,
        }
    }

    /// Takes in what the kernel says. What becomes of neighbours and links redirects traffic that flows now: it is
    /// published with the batch that it is in, however closely generations follow one another.
    pub(crate) fn kernel(&mut self, event: KernelEvent) {
        let urgent = matches!(event, KernelEvent::Neighbor(_) | KernelEvent::Link(_));
        let before = self.rib.pending();
        self.rib.kernel(event);
        self.urgent |= urgent && self.rib.pending() > before;
    }

    /// Publishes what is pending if its turn has come. `clock` is read before and after.
    pub(crate) fn advance(&mut self, closed: Closed, clock: impl Fn() -> Instant) -> Advance {
        if self.rib.pending() == 0 {
            return Advance::Nothing;
        }
        let now = clock();
        if closed == Closed::Drained
            && !self.urgent
            && let Some(until) = self.batches.wait(now)
        {
            return Advance::Again(until.duration_since(now));
        }
        self.publish(closed, clock)
    }

    /// Publishes, whether it is the generation's turn or not.
    pub(crate) fn publish(&mut self, closed: Closed, clock: impl Fn() -> Instant) -> Advance {
        let began = clock();
        let published = self.rib.publish();
        let now = clock();
        match published {
            Ok(published) => {
                self.watchdog.published(now);
                self.urgent = false;
                let closed = self.batches.published(closed, now);
                let took = now.duration_since(began).as_micros() as u64;
                Advance::Published(Box::new(published), closed, took)
            }
            Err(stalled) => {
                self.batches.stalled();
                self.watchdog.stalled(stalled, now);
                Advance::Again(STALLED)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use net::{Generation, Route, RouteChange, RouteKind, Source, VrfId};
    use rib::RibConfig;

    use super::*;
    use crate::manager::clock;

    fn change(publisher: &mut Publisher, net: usize) {
        publisher.rib.route(RouteChange {
            vrf: VrfId::DEFAULT,
            prefix: format!("20.{net}.0.0/16").parse().expect("a prefix"),
            source: Source::Static,
            route: Some(Route::special(RouteKind::Blackhole)),
        });
    }

    /// A worker stalls inside its guard: the control plane takes changes and answers who it is, and goes on afterwards.
    #[test]
    fn a_stuck_worker_is_named_and_holds_up_nothing_but_the_publishing() {
        let (rib, reader) = Rib::new(RibConfig::default());
        let config = config::Rib {
            publish_interval: 0,
            ..crate::batch::tests::bounds()
        };
        let batches = Batches::new(&config, 0, Duration::ZERO, clock());
        let mut publisher = Publisher::new(rib, batches, clock());
        let reader = reader.named("tp-worker-7");
        let (inside, wait_inside) = mpsc::channel();
        let (leave, wait_leave) = mpsc::channel::<()>();
        let worker = std::thread::spawn(move || {
            let tables = reader.enter().expect("there are tables");
            inside.send(tables.generation()).expect("the test waits");
            wait_leave.recv().expect("the test tells");
            let held = tables.generation();
            drop(tables);
            (held, reader.enter().expect("there are tables").generation())
        });
        let held = wait_inside.recv().expect("the worker is inside");
        change(&mut publisher, 0);
        assert!(matches!(
            publisher.advance(Closed::Drained, clock),
            Advance::Published(..)
        ));
        for net in 1..100 {
            change(&mut publisher, net);
            let Advance::Again(pause) = publisher.advance(Closed::Drained, clock) else {
                panic!("published under the worker's feet");
            };
            assert_eq!(pause, STALLED);
        }
        let stall = publisher.watchdog.view(clock()).current.expect("it is stalled");
        assert_eq!(stall.generation, Generation(2));
        assert_eq!((stall.workers.len(), &*stall.workers[0].reader), (1, "tp-worker-7"));
        assert_eq!(stall.workers[0].generation, held);
        assert_eq!(publisher.batches.view(clock()).tally.stalled, 99);

        leave.send(()).expect("the worker waits");
        let (kept, seen) = worker.join().expect("the worker ends");
        assert_eq!(
            (kept, seen),
            (held, Generation(1)),
            "whole generations, each in its turn"
        );
        let Advance::Published(published, ..) = publisher.advance(Closed::Drained, clock) else {
            panic!("nobody is inside any more");
        };
        assert_eq!((published.generation, published.changes), (Generation(2), 99));
        assert_eq!(publisher.watchdog.view(clock()).current, None);
        assert!(matches!(publisher.advance(Closed::Drained, clock), Advance::Nothing));
    }

    #[test]
    fn a_link_does_not_wait_for_its_turn_as_routes_do() {
        let (mut rib, _reader) = Rib::new(RibConfig::default());
        rib.set_interface(rib::Interface {
            id: net::InterfaceId(0),
            name: "f1".to_owned(),
            host: Some(net::IfIndex(3)),
            vrf: VrfId::DEFAULT,
            mac: net::Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            attachment: rib::Attachment::Port(net::PortId(0)),
        });
        let config = config::Rib {
            publish_interval: 60_000,
            ..crate::batch::tests::bounds()
        };
        let batches = Batches::new(&config, 0, Duration::ZERO, clock());
        let mut publisher = Publisher::new(rib, batches, clock());
        let mut generations = 0;
        loop {
            change(&mut publisher, generations);
            match publisher.advance(Closed::Drained, clock) {
                Advance::Published(..) => generations += 1,
                Advance::Again(_) => break,
                Advance::Nothing => panic!("a change is pending"),
            }
        }
        assert!(generations > 1, "the first ones follow at once");
        let link = net::LinkChange {
            index: net::IfIndex(3),
            name: "tp-f1".to_owned(),
            up: false,
            mtu: 1500,
            mac: None,
            vni: None,
            present: true,
        };
        publisher.kernel(KernelEvent::Link(link.clone()));
        let Advance::Published(published, closed, _) = publisher.advance(Closed::Drained, clock) else {
            panic!("it waits");
        };
        assert_eq!(
            (published.changes, closed),
            (2, Closed::Paced),
            "the route goes with it"
        );
        publisher.kernel(KernelEvent::Link(link));
        change(&mut publisher, 99);
        assert!(matches!(publisher.advance(Closed::Drained, clock), Advance::Again(_)));
    }
}
