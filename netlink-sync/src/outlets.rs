//! The tables that winners are written to, one a VRF: each has its own [`Outbound`], and all share the socket. Sans-IO.

use std::collections::HashMap;
use std::time::Instant;

use net::{Prefix, VrfId};

use crate::digest::Digest;
use crate::heard::ObservedRoute;
use crate::outbound::{Outbound, Outcome, Write};
use crate::{KernelRoute, RouteState, Status};

/// One table.
#[derive(Debug)]
struct Outlet {
    vrf: VrfId,
    table: u32,
    outbound: Outbound,
}

/// All tables that are written to.
#[derive(Debug, Default)]
pub(crate) struct Outlets {
    outlets: Vec<Outlet>,
    by_vrf: HashMap<VrfId, usize>,
    by_table: HashMap<u32, usize>,
    /// Whose turn it is to write.
    turn: usize,
    /// Digests of the last audit of what is mirrored in: ours and the kernel's.
    pub(crate) audited: (Digest, Digest),
}

impl Outlets {
    /// Winners of each VRF go to its table.
    pub(crate) fn new(tables: impl IntoIterator<Item = (VrfId, u32)>) -> Self {
        let mut this = Self::default();
        for (vrf, table) in tables {
            this.by_vrf.insert(vrf, this.outlets.len());
            this.by_table.insert(table, this.outlets.len());
            this.outlets.push(Outlet {
                vrf,
                table,
                outbound: Outbound::default(),
            });
        }
        this
    }

    fn of(&mut self, table: u32) -> Option<&mut Outbound> {
        let at = *self.by_table.get(&table)?;
        Some(&mut self.outlets[at].outbound)
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Outbound> {
        self.outlets.iter_mut().map(|outlet| &mut outlet.outbound)
    }

    /// Takes a wish; that of a VRF without a table is none.
    pub(crate) fn submit(&mut self, route: KernelRoute) {
        if let Some(at) = self.by_vrf.get(&route.vrf) {
            self.outlets[*at].outbound.submit(route);
        }
    }

    /// Takes a route of ours that an earlier run left in the kernel.
    pub(crate) fn adopt(&mut self, route: &ObservedRoute) {
        if let Some(outbound) = self.of(route.table) {
            outbound.adopt(route);
        }
    }

    /// Adopted routes that nobody asked for are removed.
    pub(crate) fn end_of_start(&mut self) {
        self.each().for_each(Outbound::end_of_start);
    }

    /// The next write and its table, the tables in turn; it is in flight until [`Self::done`].
    pub(crate) fn next_write(&mut self) -> Option<(u32, Prefix, Write)> {
        let count = self.outlets.len();
        (0..count).find_map(|step| {
            let at = (self.turn + step) % count;
            let outlet = &mut self.outlets[at];
            let (prefix, write) = outlet.outbound.next_write()?;
            self.turn = (at + 1) % count;
            Some((outlet.table, prefix, write))
        })
    }

    /// The kernel answered a write.
    pub(crate) fn done(&mut self, table: u32, prefix: Prefix, outcome: Outcome) {
        if let Some(outbound) = self.of(table) {
            outbound.done(prefix, outcome);
        }
    }

    /// A foreign route of our metric came or went.
    pub(crate) fn contest(&mut self, table: u32, prefix: Prefix, present: bool) {
        if let Some(outbound) = self.of(table) {
            outbound.contest(prefix, present);
        }
    }

    /// These are all the foreign routes of our metric.
    pub(crate) fn contest_only<'a>(&mut self, foreign: impl IntoIterator<Item = &'a ObservedRoute>) {
        let mut by_table = sorted(foreign);
        for outlet in &mut self.outlets {
            let routes = by_table.remove(&outlet.table).unwrap_or_default();
            outlet
                .outbound
                .contest_only(routes.into_iter().map(|route| route.prefix));
        }
    }

    /// Something changed that may let the kernel take what it refused.
    pub(crate) fn retry_refused(&mut self) {
        self.each().for_each(Outbound::retry_refused);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.outlets.iter().filter_map(|o| o.outbound.poll_timeout()).min()
    }

    /// Tries again what was held because somebody else keeps taking it.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.each().for_each(|outbound| outbound.handle_timeout(now));
    }

    /// A dump of our routes begins.
    pub(crate) fn begin_audit(&mut self) {
        self.each().for_each(Outbound::begin_audit);
    }

    /// The dump could not be finished.
    pub(crate) fn abandon_audit(&mut self) {
        self.each().for_each(Outbound::abandon_audit);
    }

    /// Compares the dump of our routes with what the kernel should have, and heals. Returns how many differed.
    pub(crate) fn finish_audit<'a>(&mut self, ours: impl IntoIterator<Item = &'a ObservedRoute>, now: Instant) -> u64 {
        let mut by_table = sorted(ours);
        let heal = |outlet: &mut Outlet| {
            let routes = by_table.remove(&outlet.table).unwrap_or_default();
            outlet.outbound.finish_audit(routes, now)
        };
        self.outlets.iter_mut().map(heal).sum()
    }

    /// Adds what this half knows to `status`.
    pub(crate) fn report(&self, status: &mut Status) {
        for outlet in &self.outlets {
            outlet.outbound.report(outlet.vrf, status);
        }
        (status.digest, status.kernel_digest) = self.audited;
    }

    /// What became of the newest wish for `prefix`; nothing is wanted where a VRF has no table.
    pub(crate) fn state(&self, vrf: VrfId, prefix: &Prefix) -> RouteState {
        match self.by_vrf.get(&vrf) {
            Some(at) => self.outlets[*at].outbound.state(prefix),
            None => RouteState::NotWanted,
        }
    }
}

fn sorted<'a>(routes: impl IntoIterator<Item = &'a ObservedRoute>) -> HashMap<u32, Vec<&'a ObservedRoute>> {
    let mut by_table: HashMap<u32, Vec<_>> = HashMap::new();
    for route in routes {
        by_table.entry(route.table).or_default().push(route);
    }
    by_table
}

#[cfg(test)]
mod tests {
    use net::RouteKind;

    use super::*;
    use crate::Obstacle;

    fn wish(vrf: u16, prefix: &str) -> KernelRoute {
        KernelRoute {
            vrf: VrfId(vrf),
            prefix: prefix.parse().expect("prefix"),
            next_hops: Some(Vec::new()),
            kind: RouteKind::Blackhole,
            obstacle: None,
        }
    }

    #[test]
    fn each_vrf_has_its_table_and_the_tables_take_turns() {
        let mut outlets = Outlets::new([(VrfId(0), 254), (VrfId(1), 1001), (VrfId(2), 1002)]);
        for vrf in [0, 2, 7] {
            for prefix in ["10.0.0.0/8", "10.1.0.0/16"] {
                outlets.submit(wish(vrf, prefix));
            }
        }
        let writes: Vec<_> = std::iter::from_fn(|| outlets.next_write()).collect();
        let tables: Vec<_> = writes.iter().map(|(table, ..)| *table).collect();
        assert_eq!(tables, [254, 1002, 254, 1002]);
        for (table, prefix, _) in writes {
            outlets.done(table, prefix, Outcome::Done);
        }
        let prefix = "10.0.0.0/8".parse().expect("prefix");
        let state = |outlets: &Outlets, vrf| outlets.state(VrfId(vrf), &prefix);
        assert_eq!(
            [0, 1, 2, 7].map(|vrf| state(&outlets, vrf)),
            [
                RouteState::Installed,
                RouteState::NotWanted,
                RouteState::Installed,
                RouteState::NotWanted
            ]
        );

        // What the kernel cannot have replaces what it has.
        let obstacle = Obstacle::OtherVrf;
        outlets.submit(KernelRoute {
            next_hops: None,
            obstacle: Some(obstacle),
            ..wish(2, "10.0.0.0/8")
        });
        assert_eq!(outlets.next_write(), Some((1002, prefix, Write::Remove)));
        outlets.done(1002, prefix, Outcome::Done);
        assert_eq!(state(&outlets, 2), RouteState::Inexpressible { obstacle });
        let mut status = Status::default();
        outlets.report(&mut status);
        assert_eq!((status.installed, status.inexpressible, status.pending), (3, 1, 0));
        outlets.submit(wish(2, "10.0.0.0/8"));
        assert_eq!(outlets.next_write().map(|(table, ..)| table), Some(1002));
    }
}
