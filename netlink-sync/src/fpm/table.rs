//! What FRR pushed: its routes and next-hop objects, and what of them is told. Sans-IO.
//!
//! Numbers of next-hop objects mean something within one connection only. When a connection ends its routes stay, as they
//! were told, and are stale: FRR sends everything again on the next one, each route confirms itself or changes, and what
//! nobody confirmed in time goes. So neither a restart of zebra nor a kill loses forwarding.
//!
//! Changes are collected and told by [`Table::flush`], which is called between frames: FRR updates a route with a delete and
//! an add in one frame.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use net::{Prefix, Route, RouteChange, RouteKind, Source, VrfId};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::ParseableParametrized;

use super::FpmStatus;
use super::object::{Object, object, object_id};
use super::stream::StreamError;
use crate::KernelNextHop;
use crate::frame::{Frame, Frames};
use crate::heard::{ObservedNextHop, ObservedRoute, observe_route};
use crate::inbound::{KERNELS_OWN, usable};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
/// Groups of groups: FRR makes none, and nobody can make us walk in circles.
const DEPTH: u32 = 4;
/// Next hops of one route; more are not used.
const MOST: usize = 256;
/// Objects looked at for one route: a group that lists itself a thousand times costs no more.
const LOOKS: u32 = 1024;

#[derive(Debug)]
enum Ways {
    /// As the route says itself.
    Own(Option<Route>),
    /// As this next-hop object says.
    Object { id: u32, metric: u32 },
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
    objects: HashMap<u32, Object>,
    /// Routes that name an object, and groups that have it as a member.
    users: HashMap<u32, (HashSet<Prefix>, HashSet<u32>)>,
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
            objects: HashMap::new(),
            users: HashMap::new(),
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
            entry.ways = Ways::Own(self.told.get(prefix).cloned());
        }
        self.objects.clear();
        self.users.clear();
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

    /// What changed since the last call.
    pub(super) fn flush(&mut self) -> Vec<RouteChange> {
        let changed = std::mem::take(&mut self.changed);
        let mut changes = Vec::new();
        for prefix in changed {
            let route = self.routes.get(&prefix).and_then(|e| self.resolve(&e.ways));
            if self.told.get(&prefix) == route.as_ref() {
                continue;
            }
            match &route {
                Some(route) => self.told.insert(prefix, route.clone()),
                None => self.told.remove(&prefix),
            };
            changes.push(RouteChange {
                vrf: VrfId::DEFAULT,
                prefix,
                source: Source::Fpm,
                route,
            });
        }
        changes
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
            RTM_NEWNEXTHOP => {
                let (id, object) = object(frame.body)?;
                self.set_object(id, Some(object));
            }
            RTM_DELNEXTHOP => {
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
        let id = message.attributes.iter().find_map(|a| match a {
            RouteAttribute::NhId(id) => Some(*id),
            _ => None,
        });
        let ways = match id {
            Some(id) if route.kind == RouteKind::Unicast => Ways::Object {
                id,
                metric: route.metric,
            },
            _ => Ways::Own(usable(&route)),
        };
        self.remove_user(route.prefix);
        if let Ways::Object { id, .. } = ways {
            self.users.entry(id).or_default().0.insert(route.prefix);
        }
        let entry = self.routes.entry(route.prefix).or_insert(Entry {
            ways: Ways::Own(None),
            connection: 0,
        });
        entry.ways = ways;
        entry.connection = self.connection;
        self.changed.insert(route.prefix);
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
        let Some(Ways::Object { id, .. }) = self.routes.get(&prefix).map(|e| &e.ways) else {
            return;
        };
        if let Some((routes, _)) = self.users.get_mut(id) {
            routes.remove(&prefix);
        }
    }

    fn set_object(&mut self, id: u32, object: Option<Object>) {
        if let Some(Object::Group(members)) = self.objects.get(&id) {
            for (member, _) in members {
                if let Some((_, groups)) = self.users.get_mut(member) {
                    groups.remove(&id);
                }
            }
        }
        if let Some(Object::Group(members)) = &object {
            for (member, _) in members {
                self.users.entry(*member).or_default().1.insert(id);
            }
        }
        match object {
            Some(object) => self.objects.insert(id, object),
            None => self.objects.remove(&id),
        };
        self.touch(id, 0);
    }

    /// Everything that depends on an object is looked at again.
    fn touch(&mut self, id: u32, depth: u32) {
        let Some((routes, groups)) = self.users.get(&id) else {
            return;
        };
        self.changed.extend(routes);
        if depth < DEPTH {
            let groups: Vec<_> = groups.iter().copied().collect();
            groups.into_iter().for_each(|group| self.touch(group, depth + 1));
        }
    }

    /// The route in the words of the RIB; `None` while no next hop of it is known.
    fn resolve(&self, ways: &Ways) -> Option<Route> {
        match ways {
            Ways::Own(route) => route.clone(),
            Ways::Object { id, metric } => {
                let (mut next_hops, mut looks) = (Vec::new(), LOOKS);
                let blackhole = self.expand(*id, 1, 0, &mut looks, &mut next_hops);
                let kind = if next_hops.is_empty() && blackhole {
                    RouteKind::Blackhole
                } else {
                    RouteKind::Unicast
                };
                usable(&ObservedRoute {
                    table: self.kernel_table,
                    protocol: 0,
                    prefix: Prefix::DEFAULT_V4,
                    metric: *metric,
                    kind,
                    next_hops,
                })
            }
        }
    }

    /// Collects the next hops of an object; true if it is, or has, a blackhole.
    fn expand(&self, id: u32, weight: u16, depth: u32, looks: &mut u32, into: &mut Vec<ObservedNextHop>) -> bool {
        let Some(left) = looks.checked_sub(1) else {
            return false;
        };
        *looks = left;
        match self.objects.get(&id) {
            Some(Object::Single(hop)) if into.len() < MOST => {
                let hop = KernelNextHop { weight, ..*hop };
                into.push(ObservedNextHop { hop, dead: false });
                false
            }
            Some(Object::Blackhole) => true,
            Some(Object::Group(members)) if depth < DEPTH => {
                members.iter().fold(false, |blackhole, (member, share)| {
                    self.expand(*member, *share, depth + 1, looks, into) || blackhole
                })
            }
            _ => false,
        }
    }
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
