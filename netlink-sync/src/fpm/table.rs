//! What FRR pushed: its routes and next-hop objects, and what of them is told. Sans-IO.
//!
//! A route names a next-hop object, and a change of the object is one change, whatever the number of its routes. FRR's numbers
//! of objects mean something within one connection only, so each object is told under a number of our own. When a connection
//! ends its routes stay, as they were told, and are stale, and the objects that they name with them: FRR sends everything
//! again on the next one, each route confirms itself or changes, and what nobody confirmed in time goes. So neither a
//! restart of zebra nor a kill loses forwarding.
//!
//! Changes are collected and told by [`Table::flush`], which is called between frames: FRR updates a route with a delete and
//! an add in one frame.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use net::{NextHop, NextHopObject, NextHopObjectChange, Prefix, Route, RouteChange, Source, VrfId};
use netlink_packet_route::route::{RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::ParseableParametrized;

use super::stream::StreamError;
use super::{FpmEvent, FpmStatus};
use crate::frame::{Frame, Frames};
use crate::heard::{DELETE_OBJECT, NEW_OBJECT, ObservedRoute, observe_route};
use crate::inbound::{KERNELS_OWN, usable};
use crate::object::{Object, object, object_id};
use crate::objects::Objects;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

#[derive(Debug)]
enum Ways {
    /// Of an ended connection: as it was told.
    Kept(Option<Route>),
    /// As this connection says.
    Said(ObservedRoute),
}

#[derive(Debug)]
struct Entry {
    ways: Ways,
    /// The connection that announced it last.
    connection: u64,
}

/// Routes and next-hop objects.
#[derive(Debug)]
pub(super) struct Table {
    kernel_table: u32,
    keep_stale: Duration,
    connection: u64,
    routes: HashMap<Prefix, Entry>,
    told: HashMap<Prefix, Route>,
    /// FRR's objects of this connection.
    objects: Objects,
    /// Under which number each is told.
    numbers: HashMap<u32, u32>,
    last_number: u32,
    /// Routes that name an object of this connection.
    users: HashMap<u32, HashSet<Prefix>>,
    /// By number, how many of the told routes name it: those of ended connections go with the last.
    named: HashMap<u32, usize>,
    /// Objects that changed, by number, with their next hops.
    ways: BTreeMap<u32, Vec<NextHop>>,
    changed: BTreeSet<Prefix>,
    sweep_at: Option<Instant>,
    messages: u64,
    malformed: u64,
}

impl Table {
    /// An empty table of the routes in `kernel_table`; routes of an ended connection are kept for `keep_stale`.
    pub(super) fn new(kernel_table: u32, keep_stale: Duration) -> Self {
        Self {
            kernel_table,
            keep_stale,
            connection: 0,
            routes: HashMap::new(),
            told: HashMap::new(),
            objects: Objects::default(),
            numbers: HashMap::new(),
            last_number: 0,
            users: HashMap::new(),
            named: HashMap::new(),
            ways: BTreeMap::new(),
            changed: BTreeSet::new(),
            sweep_at: None,
            messages: 0,
            malformed: 0,
        }
    }

    /// FRR connected: everything that it announced before is stale until it says so again.
    pub(super) fn connected(&mut self, now: Instant) {
        self.end_connection(now);
        self.connection += 1;
    }

    /// The connection ended: its routes are kept for a while.
    pub(super) fn disconnected(&mut self, now: Instant) {
        self.end_connection(now);
        self.connection += 1; // no connection: everything is stale
    }

    fn end_connection(&mut self, now: Instant) {
        for (prefix, entry) in &mut self.routes {
            entry.ways = Ways::Kept(self.told.get(prefix).cloned());
        }
        self.objects = Objects::default();
        self.users.clear();
        let ended = std::mem::take(&mut self.numbers).into_values();
        let unused: Vec<u32> = ended.filter(|number| !self.named.contains_key(number)).collect();
        self.ways.extend(unused.into_iter().map(|number| (number, Vec::new())));
        self.sweep_at = (!self.routes.is_empty()).then(|| now + self.keep_stale);
    }

    /// Takes the netlink messages of one frame.
    ///
    /// # Errors
    /// [`StreamError::Truncated`] if a message is longer than its frame. A message that is whole but makes no sense is
    /// counted and does not hurt the others.
    pub(super) fn frame(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        for frame in Frames(bytes) {
            let frame = frame.map_err(|_| StreamError::Truncated)?;
            self.messages += 1;
            if self.message(&frame).is_none() {
                self.malformed += 1;
                tracing::warn!(kind = frame.kind, "an FPM message makes no sense; it is left out");
            }
        }
        Ok(())
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// What nobody confirmed in time goes.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_at = None;
            let stale: Vec<_> = self.stale().collect();
            tracing::info!(
                routes = stale.len(),
                "FPM routes that FRR did not confirm in time are withdrawn"
            );
            stale.into_iter().for_each(|prefix| self.remove(prefix));
        }
    }

    /// What changed since the last call: objects first, then routes, then objects that no route names any more.
    pub(super) fn flush(&mut self) -> Vec<FpmEvent> {
        let object = |number: u32, next_hops: Vec<NextHop>| {
            let object = fpm_object(number);
            FpmEvent::NextHopObject(NextHopObjectChange { object, next_hops })
        };
        let (gone, came): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ways)
            .into_iter()
            .partition(|(_, next_hops)| next_hops.is_empty());
        let mut events: Vec<_> = came.into_iter().map(|(number, hops)| object(number, hops)).collect();
        let mut unnamed = BTreeSet::new();
        for prefix in std::mem::take(&mut self.changed) {
            let route = self.routes.get(&prefix).and_then(|e| self.resolve(&e.ways));
            if self.told.get(&prefix) == route.as_ref() {
                continue;
            }
            if let Some(number) = route.as_ref().and_then(number_of) {
                *self.named.entry(number).or_default() += 1;
            }
            let old = match &route {
                Some(route) => self.told.insert(prefix, route.clone()),
                None => self.told.remove(&prefix),
            };
            unnamed.extend(old.as_ref().and_then(number_of).and_then(|number| self.release(number)));
            events.push(FpmEvent::Route(RouteChange {
                vrf: VrfId::DEFAULT,
                prefix,
                source: Source::Fpm,
                route,
            }));
        }
        unnamed.extend(gone.into_iter().map(|(number, _)| number));
        events.extend(unnamed.into_iter().map(|number| object(number, Vec::new())));
        events
    }

    /// One told route less names it; the number, if nobody will name it any more.
    fn release(&mut self, number: u32) -> Option<u32> {
        let count = self.named.get_mut(&number)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.named.remove(&number);
        let current = self.numbers.values().any(|n| *n == number);
        (!current).then_some(number)
    }

    /// Adds what this table knows to `status`.
    pub(super) fn report(&self, status: &mut FpmStatus) {
        status.routes = self.routes.len();
        status.stale = self.stale().count();
        status.unresolved = self.routes.len().saturating_sub(self.told.len());
        status.objects = self.objects.len();
        status.messages = self.messages;
        status.malformed = self.malformed;
    }

    fn stale(&self) -> impl Iterator<Item = Prefix> + '_ {
        let of_before = |e: &Entry| e.connection != self.connection;
        self.routes.iter().filter(move |(_, e)| of_before(e)).map(|(p, _)| *p)
    }

    /// `None` if the message makes no sense.
    fn message(&mut self, frame: &Frame<'_>) -> Option<()> {
        match frame.kind {
            RTM_NEWROUTE | RTM_DELROUTE => {
                let message = RouteNetlinkMessage::parse_with_param(frame.body, frame.kind).ok()?;
                match message {
                    RouteNetlinkMessage::NewRoute(message) => self.add(&message)?,
                    RouteNetlinkMessage::DelRoute(message) => self.delete(message)?,
                    _ => {}
                }
            }
            NEW_OBJECT => {
                let (id, object) = object(frame.body)?;
                self.set_object(id, Some(object));
            }
            DELETE_OBJECT => {
                let id = object_id(frame.body)?;
                self.set_object(id, None);
            }
            _ => {} // MACs of EVPN, MPLS labels
        }
        Some(())
    }

    fn add(&mut self, message: &RouteMessage) -> Option<()> {
        let Some(route) = observe_route(message) else {
            return known_but_unused(message);
        };
        if !self.is_told(&route) {
            return Some(());
        }
        self.remove_user(route.prefix);
        if let Some(id) = route.object {
            self.users.entry(id).or_default().insert(route.prefix);
        }
        let prefix = route.prefix;
        let entry = self.routes.entry(prefix).or_insert(Entry {
            ways: Ways::Kept(None),
            connection: 0,
        });
        entry.ways = Ways::Said(route);
        entry.connection = self.connection;
        self.changed.insert(prefix);
        Some(())
    }

    fn delete(&mut self, mut message: RouteMessage) -> Option<()> {
        message.header.kind = RouteType::Unicast; // FRR names none in a withdrawal
        let route = observe_route(&message)?;
        if self.is_told(&route) {
            self.remove(route.prefix);
        }
        Some(())
    }

    /// Connected routes come from the RIB's own interfaces, and those of other tables belong to nobody here.
    fn is_told(&self, route: &ObservedRoute) -> bool {
        [0, self.kernel_table].contains(&route.table) && !KERNELS_OWN.contains(&route.protocol)
    }

    fn remove(&mut self, prefix: Prefix) {
        self.remove_user(prefix);
        if self.routes.remove(&prefix).is_some() {
            self.changed.insert(prefix);
        }
    }

    fn remove_user(&mut self, prefix: Prefix) {
        let Some(Ways::Said(route)) = self.routes.get(&prefix).map(|e| &e.ways) else {
            return;
        };
        if let Some(users) = route.object.and_then(|id| self.users.get_mut(&id)) {
            users.remove(&prefix);
        }
    }

    fn set_object(&mut self, id: u32, object: Option<Object>) {
        for effect in self.objects.set(id, object) {
            if effect.nature {
                self.changed.extend(self.users.get(&effect.id).into_iter().flatten());
            }
            if let Some(next_hops) = effect.ways {
                let number = *self.numbers.entry(effect.id).or_insert_with(|| {
                    self.last_number = self.last_number.wrapping_add(1);
                    self.last_number
                });
                self.ways.insert(number, next_hops);
            }
        }
    }

    /// The route in the words of the RIB; `None` while no next hop of it is known.
    fn resolve(&self, ways: &Ways) -> Option<Route> {
        match ways {
            Ways::Kept(route) => route.clone(),
            Ways::Said(route) => usable(route, &self.objects, |id| {
                fpm_object(self.numbers.get(&id).copied().unwrap_or_default())
            }),
        }
    }
}

/// Our number of an object, in the words of the RIB.
fn fpm_object(id: u32) -> NextHopObject {
    let source = Source::Fpm;
    NextHopObject { source, id }
}

/// The object that a route names.
fn number_of(route: &Route) -> Option<u32> {
    route
        .next_hops
        .iter()
        .find_map(|hop| hop.object)
        .map(|object| object.id)
}

/// Local, multicast and source-specific routes are understood and not used; a prefix that cannot be makes no sense.
fn known_but_unused(message: &RouteMessage) -> Option<()> {
    let longest = match message.header.address_family {
        AddressFamily::Inet => 32,
        AddressFamily::Inet6 => 128,
        _ => return Some(()), // MPLS, multicast
    };
    (message.header.destination_prefix_length <= longest).then_some(())
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
