//! After a start nothing is announced before the peers that restart gracefully have told their tables (RFC 4724 section
//! 4.1): who draws traffic must know where it goes.
//!
//! Awaited are the end-of-RIB markers of those peers, but for peers that turn out to restart themselves or to know nothing
//! of graceful restart; a peer that does not come holds the others up until the deadline. Routes are used as they come.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::Family;

/// Whose tables are awaited, and how long.
#[derive(Debug)]
pub struct Deferral {
    /// The families that each peer has not ended; `None` while there has been no session.
    awaited: BTreeMap<IpAddr, Option<BTreeSet<Family>>>,
    deadline: Instant,
}

impl Deferral {
    /// Awaits these peers for at most `time`; `None` if there is nothing to wait for.
    pub fn new(peers: impl IntoIterator<Item = IpAddr>, time: Duration, now: Instant) -> Option<Self> {
        let awaited: BTreeMap<_, _> = peers.into_iter().map(|peer| (peer, None)).collect();
        (!awaited.is_empty() && !time.is_zero()).then(|| Self {
            awaited,
            deadline: now + time,
        })
    }

    /// A session is up, whose peer will end the tables of these families.
    pub fn up(&mut self, peer: IpAddr, families: &[Family]) {
        if families.is_empty() {
            self.awaited.remove(&peer);
        } else if let Some(awaited) = self.awaited.get_mut(&peer) {
            *awaited = Some(families.iter().copied().collect());
        }
    }

    /// A peer has told its table of a family.
    pub fn end_of_rib(&mut self, peer: IpAddr, family: Family) {
        if let Some(Some(families)) = self.awaited.get_mut(&peer) {
            families.remove(&family);
            if families.is_empty() {
                self.awaited.remove(&peer);
            }
        }
    }

    /// There is no such peer any more.
    pub fn forget(&mut self, peer: IpAddr) {
        self.awaited.remove(&peer);
    }

    /// Peers that are awaited.
    pub fn awaited(&self) -> impl Iterator<Item = IpAddr> {
        self.awaited.keys().copied()
    }

    /// When the wait ends at the latest.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// True once nobody is awaited, or the deadline has come.
    pub fn is_over(&self, now: Instant) -> bool {
        self.awaited.is_empty() || self.deadline <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(60);

    fn ip(host: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, host])
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the test's clock begins at the real one and is moved by hand"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn every_table_of_every_peer_is_awaited_in_any_order() {
        let now = now();
        let mut deferral = Deferral::new([ip(1), ip(2)], TIME, now).expect("peers");
        deferral.up(ip(1), &Family::UNICAST);
        deferral.end_of_rib(ip(1), Family::Ipv6Unicast);
        deferral.up(ip(2), &[Family::Ipv4Unicast]);
        deferral.end_of_rib(ip(2), Family::Ipv4Unicast);
        assert_eq!(deferral.awaited().collect::<Vec<_>>(), [ip(1)]);
        // A session that breaks begins anew.
        deferral.up(ip(1), &Family::UNICAST);
        deferral.end_of_rib(ip(1), Family::Ipv4Unicast);
        assert!(!deferral.is_over(now));
        deferral.end_of_rib(ip(1), Family::Ipv6Unicast);
        assert!(deferral.is_over(now));
    }

    #[test]
    fn who_restarts_itself_or_is_gone_is_not_awaited() {
        let now = now();
        let mut deferral = Deferral::new([ip(1), ip(2)], TIME, now).expect("peers");
        deferral.up(ip(1), &[]);
        assert!(!deferral.is_over(now));
        deferral.forget(ip(2));
        assert!(deferral.is_over(now));
    }

    #[test]
    fn a_peer_that_does_not_come_delays_until_the_deadline() {
        let now = now();
        let deferral = Deferral::new([ip(1)], TIME, now).expect("a peer");
        assert!(!deferral.is_over(now + TIME - Duration::from_millis(1)));
        assert!(deferral.is_over(deferral.deadline()));
    }

    #[test]
    fn nobody_or_no_time_is_no_wait() {
        assert!(Deferral::new([], TIME, now()).is_none());
        assert!(Deferral::new([ip(1)], Duration::ZERO, now()).is_none());
    }
}
