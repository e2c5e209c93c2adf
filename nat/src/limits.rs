//! Connections of tenants and subscribers that have a limit (RFC 6888 REQ-4 and REQ-5): how many there are, and how many
//! began lately. What has no limit is not counted.

use std::collections::{HashMap, VecDeque};

use net::{Drop, VrfId};

use crate::policy::{Limit, Limits};
use crate::ports::Subscriber;
use crate::time::Tick;

/// What a new connection costs in [`Usage::credit`], so that a tick brings whole numbers.
const COST: u64 = Tick::PER_SECOND as u64;

/// Connections of a tenant or subscriber.
#[derive(Debug, Clone, Copy)]
struct Usage {
    sessions: u32,
    /// A token bucket of a second's connections, full when nothing was opened for a second.
    credit: u64,
    filled: Tick,
}

impl Usage {
    /// Of somebody without connections.
    fn fresh(limit: &Limit, now: Tick) -> Self {
        Self {
            sessions: 0,
            credit: u64::from(limit.new_sessions.unwrap_or(0)) * COST,
            filled: now,
        }
    }

    fn refill(&mut self, rate: u32, now: Tick) {
        let passed = u64::from(now.0.saturating_sub(self.filled.0));
        let full = u64::from(rate) * COST;
        self.credit = full.min(self.credit.saturating_add(passed.saturating_mul(u64::from(rate))));
        self.filled = now;
    }

    fn allows(&mut self, limit: &Limit, now: Tick) -> bool {
        if limit.sessions.is_some_and(|most| self.sessions >= most) {
            return false;
        }
        let Some(rate) = limit.new_sessions else { return true };
        self.refill(rate, now);
        self.credit >= COST
    }

    fn open(&mut self) {
        self.sessions += 1;
        self.credit = self.credit.saturating_sub(COST);
    }
}

/// Usage of whoever has a limit, on one worker.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    tenants: HashMap<VrfId, Usage>,
    subscribers: HashMap<Subscriber, Usage>,
    /// Subscribers whose last connection ended, and when: they are forgotten a second later, when their buckets are full.
    idle: VecDeque<(Tick, Subscriber)>,
}

/// The share of one worker, rounded up.
fn share(limit: &Limit, workers: u16) -> Limit {
    let of = |most: u32| most.div_ceil(u32::from(workers));
    Limit {
        sessions: limit.sessions.map(of),
        new_sessions: limit.new_sessions.map(of),
    }
}

impl Meter {
    /// Refuses a connection of `subscriber` that would be one too many.
    pub(crate) fn check(
        &mut self,
        limits: &Limits,
        workers: u16,
        subscriber: Subscriber,
        now: Tick,
    ) -> Result<(), Drop> {
        let tenant = share(&limits.tenant, workers);
        let fresh = || Usage::fresh(&tenant, now);
        let usage = self.tenants.entry(subscriber.vrf).or_insert_with(fresh);
        if !usage.allows(&tenant, now) {
            return Err(Drop::NatTenantLimit);
        }
        if let Some(usage) = self.subscribers.get_mut(&subscriber)
            && !usage.allows(&limits.subscriber, now)
        {
            return Err(Drop::NatSubscriberLimit);
        }
        Ok(())
    }

    /// A connection that [`Meter::check`] allowed was made.
    pub(crate) fn open(&mut self, limits: &Limits, workers: u16, subscriber: Subscriber, now: Tick) {
        self.forget_idle(now);
        let fresh = || Usage::fresh(&share(&limits.tenant, workers), now);
        self.tenants.entry(subscriber.vrf).or_insert_with(fresh).open();
        let fresh = || Usage::fresh(&limits.subscriber, now);
        self.subscribers.entry(subscriber).or_insert_with(fresh).open();
    }

    /// The connection that was made last is not a new one: it was there before this process.
    pub(crate) fn was_there(&mut self, subscriber: Subscriber) {
        let tenant = self.tenants.get_mut(&subscriber.vrf);
        let usages = tenant.into_iter().chain(self.subscribers.get_mut(&subscriber));
        usages.for_each(|usage| usage.credit += COST);
    }

    /// A connection that was counted ended.
    pub(crate) fn close(&mut self, subscriber: Subscriber, now: Tick) {
        self.forget_idle(now);
        if let Some(usage) = self.tenants.get_mut(&subscriber.vrf) {
            usage.sessions = usage.sessions.saturating_sub(1);
        }
        if let Some(usage) = self.subscribers.get_mut(&subscriber) {
            usage.sessions = usage.sessions.saturating_sub(1);
            if usage.sessions == 0 {
                self.idle.push_back((now, subscriber));
            }
        }
    }

    /// A connection may have been given up, or ended by a policy, at once: whoever had it has not got a new second's worth
    /// before the second is over.
    fn forget_idle(&mut self, now: Tick) {
        let over = |(since, _): &mut (Tick, Subscriber)| since.after(1) <= now;
        while let Some((_, subscriber)) = self.idle.pop_front_if(over) {
            if self
                .subscribers
                .get(&subscriber)
                .is_some_and(|usage| usage.sessions == 0)
            {
                self.subscribers.remove(&subscriber);
            }
        }
    }

    /// True if no connection is counted, in tests.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let mut usages = self.tenants.values().chain(self.subscribers.values());
        usages.all(|usage| usage.sessions == 0)
    }
}
