//! What the kernel shall have of ours, what it has, and what to write next. Sans-IO.
//!
//! A prefix is in one of few situations: what is wanted equals what the kernel has, or a write is queued, or a write is
//! in flight. Wishes that arrive meanwhile only replace the wanted route (newest wins), and the write is decided when it
//! is taken from the queue: a thousand changes of one prefix cost at most two writes. What redirects traffic is written
//! before what is new (`lanes.rs`), and a place that somebody else keeps taking is not fought over (`contention.rs`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use net::{Prefix, RouteKind, VrfId};

use crate::contention::Contention;
use crate::lanes::{Lane, Lanes};

use crate::heard::ObservedRoute;
use crate::status::{Held, RouteState};
use crate::{KernelNextHop, KernelRoute, Obstacle, Refusal, Status};

/// Refusals and fights that the status lists.
const LISTED: usize = 32;
/// The kernel's weights are 8 bits wide, from 1.
const MAX_WEIGHT: u16 = 256;

/// A route in the form in which two are compared: sorted, weights as the kernel can hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) kind: RouteKind,
    pub(crate) next_hops: Vec<KernelNextHop>,
}

impl Form {
    /// `None` if the kernel is not told of such a route.
    fn wanted(route: KernelRoute) -> Option<Self> {
        if route.obstacle.is_some() {
            return None;
        }
        match (route.kind, route.next_hops?) {
            (RouteKind::Unicast, next_hops) => {
                Some(Self::new(RouteKind::Unicast, next_hops)).filter(|f| !f.next_hops.is_empty())
            }
            (RouteKind::Local | RouteKind::Nat, _) => None,
            (kind, _) => Some(Self {
                kind,
                next_hops: Vec::new(),
            }),
        }
    }

    fn observed(route: &ObservedRoute) -> Self {
        Self::new(route.kind, route.next_hops.iter().map(|n| n.hop).collect())
    }

    fn new(kind: RouteKind, mut next_hops: Vec<KernelNextHop>) -> Self {
        next_hops.sort_unstable();
        next_hops.dedup_by_key(|n| (n.gateway, n.interface));
        let largest = next_hops.iter().map(|n| n.weight).max().unwrap_or(1).max(1);
        let single = next_hops.len() == 1;
        for hop in &mut next_hops {
            hop.weight = match hop.weight {
                _ if single => 1,
                weight if largest > MAX_WEIGHT => scale(weight, largest),
                weight => weight,
            }
            .max(1);
        }
        Self { kind, next_hops }
    }

    /// True if the kernel's `other` is what this route asks for; where this names no interface, any will do.
    fn is_met_by(&self, other: &Self) -> bool {
        let met = |want: &KernelNextHop, has: &KernelNextHop| {
            want.gateway == has.gateway
                && want.weight == has.weight
                && (want.interface.is_none() || want.interface == has.interface)
        };
        self.kind == other.kind
            && self.next_hops.len() == other.next_hops.len()
            && self
                .next_hops
                .iter()
                .zip(&other.next_hops)
                .all(|(want, has)| met(want, has))
    }
}

fn scale(weight: u16, largest: u16) -> u16 {
    let scaled = u32::from(weight) * u32::from(MAX_WEIGHT) / u32::from(largest);
    u16::try_from(scaled).unwrap_or(MAX_WEIGHT)
}

/// One change of the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// Where nothing of the same key may be: a foreign route of the same metric is never overwritten.
    Add(Form),
    /// In the place of our own.
    Replace(Form),
    Remove,
}

/// How the kernel answered a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// There was nothing to replace or to remove: ours is gone.
    Missing,
    /// Not taken, with the reason.
    Refused(String),
}

#[derive(Debug)]
struct Installed {
    form: Form,
    /// Left by an earlier run and not yet asked for by this one.
    stale: bool,
}

/// The outbound half of the mirror.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    wanted: HashMap<Prefix, Form>,
    kernel: HashMap<Prefix, Installed>,
    queue: Lanes,
    contention: Contention,
    in_flight: HashMap<Prefix, Write>,
    /// Where a foreign route of our metric stands beside ours: a replace could hit that one.
    contested: HashSet<Prefix>,
    refused: HashMap<Prefix, Arc<str>>,
    /// Winners that the kernel cannot have.
    obstacles: HashMap<Prefix, Obstacle>,
    /// Those refused last; they may have been taken since.
    recent: VecDeque<Prefix>,
    /// Prefixes written since the audit that runs began; what its dump says of them is out of date.
    touched: Option<HashSet<Prefix>>,
    written: u64,
    drift: u64,
    superseded: u64,
}

impl Outbound {
    /// Takes a wish; the newest one for a prefix wins.
    pub(crate) fn submit(&mut self, route: KernelRoute) {
        let prefix = route.prefix;
        if self.queue.contains(&prefix) {
            self.superseded += 1;
        }
        match route.obstacle {
            Some(obstacle) => drop(self.obstacles.insert(prefix, obstacle)),
            None => drop(self.obstacles.remove(&prefix)),
        }
        match Form::wanted(route) {
            Some(form) => {
                if let Some(installed) = self.kernel.get_mut(&prefix) {
                    installed.stale = false;
                }
                if self.wanted.get(&prefix) == Some(&form) && self.refused.contains_key(&prefix) {
                    return; // retried by the next audit or change of the interfaces, not by repetition
                }
                self.wanted.insert(prefix, form);
            }
            None => {
                self.wanted.remove(&prefix);
                if let Some(installed) = self.kernel.get_mut(&prefix) {
                    installed.stale = false;
                }
            }
        }
        self.refused.remove(&prefix);
        self.consider(prefix);
    }

    /// Takes a route of ours that an earlier run left in the kernel.
    pub(crate) fn adopt(&mut self, route: &ObservedRoute) {
        let stale = !self.wanted.contains_key(&route.prefix);
        self.kernel.insert(
            route.prefix,
            Installed {
                form: Form::observed(route),
                stale,
            },
        );
        self.consider(route.prefix);
    }

    /// Adopted routes that nobody asked for are removed.
    pub(crate) fn end_of_start(&mut self) {
        let stale: Vec<_> = self.kernel.iter().filter(|(_, i)| i.stale).map(|(p, _)| *p).collect();
        for prefix in stale {
            if let Some(installed) = self.kernel.get_mut(&prefix) {
                installed.stale = false;
            }
            self.consider(prefix);
        }
    }

    /// The next write, if there is any; it is in flight until [`Self::done`].
    pub(crate) fn next_write(&mut self) -> Option<(Prefix, Write)> {
        while let Some(prefix) = self.queue.pop() {
            let Some(write) = self.decide(prefix) else { continue };
            if let Some(touched) = &mut self.touched {
                touched.insert(prefix);
            }
            self.in_flight.insert(prefix, write.clone());
            return Some((prefix, write));
        }
        None
    }

    /// The kernel answered the write of `prefix`.
    pub(crate) fn done(&mut self, prefix: Prefix, outcome: Outcome) {
        let Some(write) = self.in_flight.remove(&prefix) else {
            return;
        };
        match (write, outcome) {
            (Write::Add(form) | Write::Replace(form), Outcome::Done) => {
                self.written += 1;
                self.kernel.insert(prefix, Installed { form, stale: false });
            }
            (Write::Remove, Outcome::Done) => {
                self.written += 1;
                self.kernel.remove(&prefix);
            }
            (Write::Replace(_) | Write::Remove, Outcome::Missing) => {
                self.kernel.remove(&prefix);
            }
            (Write::Add(_), Outcome::Missing) => {
                self.refuse(prefix, "the kernel answered that it does not exist".into())
            }
            (_, Outcome::Refused(reason)) => self.refuse(prefix, reason),
        }
        self.consider(prefix);
    }

    /// A foreign route of our metric came to or went from `prefix`.
    pub(crate) fn contest(&mut self, prefix: Prefix, present: bool) {
        if present {
            self.contested.insert(prefix);
        } else {
            self.contested.remove(&prefix);
        }
    }

    /// These are all the prefixes with a foreign route of our metric.
    pub(crate) fn contest_only(&mut self, prefixes: impl IntoIterator<Item = Prefix>) {
        self.contested = prefixes.into_iter().collect();
    }

    /// Something changed that may let the kernel take what it refused.
    pub(crate) fn retry_refused(&mut self) {
        let refused = std::mem::take(&mut self.refused);
        for prefix in refused.into_keys() {
            self.consider(prefix);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.contention.poll_timeout()
    }

    /// Tries again what was held because somebody else keeps taking it.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for prefix in self.contention.release(now) {
            self.consider(prefix);
        }
    }

    /// A dump of our routes begins.
    pub(crate) fn begin_audit(&mut self) {
        self.touched = Some(self.in_flight.keys().copied().collect());
    }

    /// The dump could not be finished.
    pub(crate) fn abandon_audit(&mut self) {
        self.touched = None;
    }

    /// Compares the dump of our routes with what the kernel should have, and heals. Returns how many differed.
    pub(crate) fn finish_audit<'a>(&mut self, ours: impl IntoIterator<Item = &'a ObservedRoute>, now: Instant) -> u64 {
        let touched = self.touched.take().unwrap_or_default();
        let mut found: HashMap<Prefix, Form> = HashMap::new();
        for route in ours {
            let form = Form::observed(route);
            match found.get_mut(&route.prefix) {
                Some(sibling) => {
                    let both = sibling.next_hops.iter().copied().chain(form.next_hops).collect();
                    *sibling = Form::new(sibling.kind, both);
                }
                None => {
                    found.insert(route.prefix, form);
                }
            }
        }
        let mut differing = Vec::new();
        for (prefix, installed) in &self.kernel {
            if !touched.contains(prefix) && !found.get(prefix).is_some_and(|f| installed.form.is_met_by(f)) {
                differing.push(*prefix);
            }
        }
        differing.extend(
            found
                .keys()
                .filter(|p| !touched.contains(p) && !self.kernel.contains_key(p)),
        );
        self.contention.forget_settled(now);
        for prefix in &differing {
            if self.wanted.contains_key(prefix) && self.kernel.contains_key(prefix) {
                self.contention.lost(*prefix, now);
            }
            match found.remove(prefix) {
                Some(form) => {
                    let stale = self.kernel.get(prefix).is_some_and(|i| i.stale);
                    self.kernel.insert(*prefix, Installed { form, stale })
                }
                None => self.kernel.remove(prefix),
            };
            self.consider(*prefix);
        }
        let drift = differing.len() as u64;
        self.drift += drift;
        self.retry_refused();
        drift
    }

    /// Adds what this table knows to `status`.
    pub(crate) fn report(&self, vrf: VrfId, status: &mut Status) {
        status.installed += self.kernel.values().filter(|i| !i.stale).count();
        status.stale += self.kernel.values().filter(|i| i.stale).count();
        status.pending += self.queue.len() + self.in_flight.len();
        status.refused += self.refused.len();
        status.inexpressible += self.obstacles.len();
        let listed = |prefix: &Prefix| {
            let reason = self.refused.get(prefix)?.to_string();
            Some(Refusal {
                vrf,
                prefix: *prefix,
                reason,
            })
        };
        let room = LISTED.saturating_sub(status.refusals.len());
        let newest = self.recent.len().saturating_sub(room);
        (status.refusals).extend(self.recent.iter().skip(newest).filter_map(listed));
        status.held += self.contention.held().len();
        let held = self.contention.held().take(LISTED.saturating_sub(status.fights.len()));
        (status.fights).extend(held.map(|(prefix, losses)| Held { vrf, prefix, losses }));
        status.written += self.written;
        status.superseded += self.superseded;
        status.drift += self.drift;
    }

    /// What became of the newest wish for `prefix`.
    pub(crate) fn state(&self, prefix: &Prefix) -> RouteState {
        let installed = self.kernel.get(prefix);
        if self.in_flight.contains_key(prefix) {
            return RouteState::Writing;
        }
        if let Some(reason) = self.refused.get(prefix) {
            return RouteState::Refused {
                reason: reason.to_string(),
            };
        }
        if self.queue.contains(prefix) {
            return RouteState::Queued;
        }
        match (self.wanted.get(prefix), installed) {
            (Some(form), Some(installed)) if form.is_met_by(&installed.form) => RouteState::Installed,
            (Some(_), _) if self.contention.is_held(prefix) => RouteState::Held {
                losses: self.contention.losses(prefix),
            },
            (Some(_), _) => RouteState::Queued,
            (None, Some(installed)) if installed.stale => RouteState::Stale,
            (None, Some(_)) => RouteState::Queued,
            (None, None) => match self.obstacles.get(prefix) {
                Some(obstacle) => RouteState::Inexpressible { obstacle: *obstacle },
                None => RouteState::NotWanted,
            },
        }
    }

    fn decide(&self, prefix: Prefix) -> Option<Write> {
        if self.in_flight.contains_key(&prefix) || self.refused.contains_key(&prefix) {
            return None;
        }
        if self.wanted.contains_key(&prefix) && self.contention.is_held(&prefix) {
            return None;
        }
        match (self.wanted.get(&prefix), self.kernel.get(&prefix)) {
            (Some(form), None) => Some(Write::Add(form.clone())),
            (Some(form), Some(installed)) if !form.is_met_by(&installed.form) => {
                // Where it is contested, ours goes by its protocol; the add that follows is refused, the other stays.
                let contested = self.contested.contains(&prefix);
                Some(if contested {
                    Write::Remove
                } else {
                    Write::Replace(form.clone())
                })
            }
            (None, Some(installed)) if !installed.stale => Some(Write::Remove),
            _ => None,
        }
    }

    fn consider(&mut self, prefix: Prefix) {
        match self.decide(prefix) {
            Some(Write::Replace(_) | Write::Remove) => self.queue.push(prefix, Lane::Urgent),
            Some(Write::Add(_)) => self.queue.push(prefix, Lane::Bulk),
            None => {}
        }
    }

    fn refuse(&mut self, prefix: Prefix, reason: String) {
        // Mostly many are refused for one reason: it is kept once.
        let last = self.recent.back().and_then(|p| self.refused.get(p));
        let reason = last
            .filter(|r| ***r == *reason)
            .cloned()
            .unwrap_or_else(|| reason.into());
        self.recent.retain(|p| *p != prefix); // a retry that fails again is the same refusal
        while self.recent.len() >= LISTED {
            self.recent.pop_front();
        }
        self.recent.push_back(prefix);
        self.refused.insert(prefix, reason);
    }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
