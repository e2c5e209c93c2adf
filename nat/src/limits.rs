//! Connections of tenants and subscribers that have a limit (RFC 6888 REQ-4 and REQ-5): how many there are, and how many
//! began lately. What has no limit is not counted.

use std::collections::HashMap;

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
        let fresh = |limit: &Limit| Usage {
            sessions: 0,
            credit: u64::from(limit.new_sessions.unwrap_or(0)) * COST,
            filled: now,
        };
        let tenant = share(&limits.tenant, workers);
        let usage = self.tenants.entry(subscriber.vrf).or_insert_with(|| fresh(&tenant));
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
    pub(crate) fn open(&mut self, limits: &Limits, subscriber: Subscriber, now: Tick) {
        if let Some(usage) = self.tenants.get_mut(&subscriber.vrf) {
            usage.open();
        }
        let rate = limits.subscriber.new_sessions.unwrap_or(0);
        let usage = self.subscribers.entry(subscriber).or_insert(Usage {
            sessions: 0,
            credit: u64::from(rate) * COST,
            filled: now,
        });
        usage.open();
    }

    /// A connection that was counted ended. A subscriber without any is forgotten: its bucket has filled up meanwhile,
    /// for no connection ends within a second.
    pub(crate) fn close(&mut self, subscriber: Subscriber) {
        if let Some(usage) = self.tenants.get_mut(&subscriber.vrf) {
            usage.sessions = usage.sessions.saturating_sub(1);
        }
        if let Some(usage) = self.subscribers.get_mut(&subscriber) {
            usage.sessions = usage.sessions.saturating_sub(1);
            if usage.sessions == 0 {
                self.subscribers.remove(&subscriber);
            }
        }
    }

    /// True if no connection is counted, in tests.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribers.is_empty() && self.tenants.values().all(|usage| usage.sessions == 0)
    }
}
