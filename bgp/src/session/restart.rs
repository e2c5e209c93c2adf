//! Graceful restart (RFC 4724), also of sessions that end by a NOTIFICATION (RFC 8538): whose routes are kept, how long,
//! and what our own OPEN says of us.
//!
//! Two timers, of which one runs at most. While a peer that restarts is away, its routes are kept for the restart time
//! that it announced; when it is back, for [`Config::stale_time`], since a peer that never ends its table must not
//! leave them for ever. The second bounds the first as well.

use std::time::{Duration, Instant};

use super::connection::{End, Failure};
use super::{Config, Negotiated};
use crate::Family;
use crate::wire::GracefulRestart;

/// What a session remembers from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct Restart {
    /// A session has been established before.
    again: bool,
    /// When kept routes are void.
    deadline: Option<Instant>,
}

impl Restart {
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The capability to offer: after the first session we have not restarted, and forwarding went on.
    pub(super) fn offer(&self, config: &Config) -> Option<GracefulRestart> {
        let mut offer = config.capabilities.graceful_restart.clone()?;
        if self.again {
            offer.restarting = false;
            offer.families.iter_mut().for_each(|entry| entry.forwarding = true);
        }
        Some(offer)
    }

    /// A session is established: routes that were kept now wait for the peer to tell them again.
    pub(super) fn established(&mut self, config: &Config, now: Instant) {
        self.again = true;
        if self.deadline.is_some() {
            self.deadline = Some(now + config.stale_time);
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
        let kept = negotiated.and_then(|negotiated| kept(config, negotiated, failure));
        self.deadline = kept.as_ref().map(|(_, time)| now + *time);
        kept.map(|(families, _)| families).unwrap_or_default()
    }

    /// True once when the deadline has passed.
    pub(super) fn expired(&mut self, now: Instant) -> bool {
        let expired = self.deadline.is_some_and(|at| at <= now);
        if expired {
            self.deadline = None;
        }
        expired
    }

    /// Nothing is kept any longer.
    pub(super) const fn cancel(&mut self) {
        self.deadline = None;
    }
}

/// True if a NOTIFICATION that is no hard reset restarts the session gracefully: both have said so.
pub(super) fn survives_notification(config: &Config, negotiated: &Negotiated) -> bool {
    let ours = config.capabilities.graceful_restart.as_ref();
    let theirs = negotiated.capabilities.graceful_restart.as_ref();
    ours.is_some_and(|ours| ours.notification) && theirs.is_some_and(|theirs| theirs.notification)
}

/// The families to keep and for how long; `None` if the session does not restart gracefully.
fn kept(config: &Config, negotiated: &Negotiated, failure: &Failure) -> Option<(Vec<Family>, Duration)> {
    config.capabilities.graceful_restart.as_ref()?;
    let theirs = negotiated.capabilities.graceful_restart.as_ref()?;
    let graceful = match &failure.end {
        End::Tcp => true,
        End::Ours(notification) | End::Theirs(notification) => {
            survives_notification(config, negotiated) && !notification.is_hard_reset()
        }
    };
    let families: Vec<Family> = theirs
        .families
        .iter()
        .map(|entry| entry.family)
        .filter(|family| negotiated.capabilities.families.contains(family))
        .collect();
    let time = Duration::from_secs(u64::from(theirs.restart_time)).min(config.stale_time);
    (graceful && !families.is_empty() && !time.is_zero()).then_some((families, time))
}
