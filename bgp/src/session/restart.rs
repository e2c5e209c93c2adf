//! Graceful restart (RFC 4724), also of sessions that end by a NOTIFICATION (RFC 8538), and long-lived graceful restart
//! (RFC 9494): whose routes are kept, how long, and what our own OPEN says of us.
//!
//! Each kept family has one timer. While a peer that restarts is away, its routes are kept for the restart time that it
//! announced, then, as a last resort, for the long-lived stale time; when it is back, for [`Config::stale_time`], since a
//! peer that never ends its table must not leave them for ever. That bounds the restart time as well, and
//! [`Config::long_lived_time`] the long-lived one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::connection::{End, Failure};
use super::{Config, Negotiated};
use crate::Family;
use crate::wire::{Capabilities, LongLivedFamily};

/// What a session remembers from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct Restart {
    /// A session has been established before.
    again: bool,
    kept: BTreeMap<Family, Kept>,
}

/// How long the routes of a family are kept.
#[derive(Debug, Clone, Copy)]
struct Kept {
    until: Instant,
    /// How long they are kept after that, as a last resort.
    then: Option<Duration>,
}

/// Families whose time has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expired {
    /// Kept as a last resort from here on.
    pub(super) long_lived: Vec<Family>,
    /// Not kept any longer.
    pub(super) void: Vec<Family>,
}

impl Restart {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.kept.values().map(|kept| kept.until).min()
    }

    /// The capabilities to offer: after the first session we have not restarted, and forwarding went on.
    pub(super) fn offer(&self, config: &Config) -> Capabilities {
        let mut offer = config.capabilities.clone();
        if self.again {
            if let Some(restart) = &mut offer.graceful_restart {
                restart.restarting = false;
                restart.families.iter_mut().for_each(|entry| entry.forwarding = true);
            }
            let families = offer.long_lived.iter_mut().flatten();
            families.for_each(|entry| entry.forwarding = true);
        }
        offer
    }

    /// A session is established: routes that were kept now wait for the peer to tell them again.
    pub(super) fn established(&mut self, config: &Config, now: Instant) {
        self.again = true;
        for kept in self.kept.values_mut() {
            *kept = Kept {
                until: now + config.stale_time,
                then: None,
            };
        }
    }

    /// A session has ended: the families whose routes are kept.
    pub(super) fn ended(
        &mut self,
        config: &Config,
        negotiated: Option<&Negotiated>,
        failure: &Failure,
        now: Instant,
    ) -> Vec<Family> {
        let times = negotiated
            .map(|negotiated| kept(config, negotiated, failure))
            .unwrap_or_default();
        let timer = |(family, time, then): (Family, Duration, Option<Duration>)| {
            let until = now + time;
            (family, Kept { until, then })
        };
        self.kept = times.into_iter().map(timer).collect();
        self.kept.keys().copied().collect()
    }

    /// The families whose time has come; each is told once.
    pub(super) fn expired(&mut self, now: Instant) -> Expired {
        let mut expired = Expired::default();
        for (family, kept) in &mut self.kept {
            if kept.until > now {
                continue;
            }
            match kept.then.take() {
                Some(time) => {
                    kept.until = now + time;
                    expired.long_lived.push(*family);
                }
                None => expired.void.push(*family),
            }
        }
        self.kept.retain(|family, _| !expired.void.contains(family));
        expired
    }

    /// Nothing is kept any longer.
    pub(super) fn cancel(&mut self) {
        self.kept.clear();
    }
}

/// True if a NOTIFICATION that is no hard reset restarts the session gracefully: both have said so.
pub(super) fn survives_notification(config: &Config, negotiated: &Negotiated) -> bool {
    let ours = config.capabilities.graceful_restart.as_ref();
    let theirs = negotiated.capabilities.graceful_restart.as_ref();
    ours.is_some_and(|ours| ours.notification) && theirs.is_some_and(|theirs| theirs.notification)
}

/// The families to keep, how long, and how long after that as a last resort; none if the session does not restart
/// gracefully.
fn kept(config: &Config, negotiated: &Negotiated, failure: &Failure) -> Vec<(Family, Duration, Option<Duration>)> {
    let graceful = match &failure.end {
        End::Tcp => true,
        End::Ours(notification) | End::Theirs(notification) => {
            survives_notification(config, negotiated) && !notification.is_hard_reset()
        }
    };
    let capabilities = &negotiated.capabilities;
    let (true, Some(theirs)) = (graceful, &capabilities.graceful_restart) else {
        return Vec::new();
    };
    let restart_time = Duration::from_secs(u64::from(theirs.restart_time)).min(config.stale_time);
    let times = |family: &Family| {
        let restarts = theirs.families.iter().any(|entry| entry.family == *family);
        // RFC 9494 section 4.2: without the other capability's word on the family its restart time is zero.
        let time = if restarts { restart_time } else { Duration::ZERO };
        let long_lived = capabilities.long_lived.iter().flatten();
        let then = long_lived
            .filter(|entry| entry.family == *family)
            .map(|LongLivedFamily { stale_time, .. }| Duration::from_secs(u64::from(*stale_time)))
            .map(|time| time.min(config.long_lived_time))
            .find(|time| !time.is_zero());
        (!time.is_zero() || then.is_some()).then_some((*family, time, then))
    };
    capabilities.families.iter().filter_map(times).collect()
}
