//! How often a neighbour is asked for. Sans-IO.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use net::IfIndex;

/// The kernel retries by itself; asking again within this time would only repeat what it does.
const INTERVAL: Duration = Duration::from_secs(1);
/// Different neighbours asked for within one interval; a scan of a large subnet is cut here.
const LIMIT: usize = 4096;

/// Remembers what was asked for lately.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    asked: HashMap<(IfIndex, IpAddr), Instant>,
}

impl Limiter {
    /// True if the neighbour may be asked for now.
    pub(crate) fn admit(&mut self, interface: IfIndex, address: IpAddr, now: Instant) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < INTERVAL;
        if self.asked.get(&(interface, address)).is_some_and(|&at| recent(at)) {
            return false;
        }
        if self.asked.len() >= LIMIT {
            self.asked.retain(|_, at| recent(*at));
            if self.asked.len() >= LIMIT {
                return false;
            }
        }
        self.asked.insert((interface, address), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do as the origin")]
    fn one_request_a_second_for_each_and_a_bound_for_all() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let address = |n: u32| IpAddr::V4(n.into());
        assert!(limiter.admit(IfIndex(1), address(1), start));
        assert!(!limiter.admit(IfIndex(1), address(1), start + INTERVAL / 2));
        assert!(limiter.admit(IfIndex(2), address(1), start + INTERVAL / 2));
        assert!(limiter.admit(IfIndex(1), address(1), start + INTERVAL));
        let admitted = (0..10_000)
            .filter(|&n| limiter.admit(IfIndex(3), address(n), start + INTERVAL))
            .count();
        assert_eq!(admitted, LIMIT - 2);
        assert!(
            limiter.admit(IfIndex(3), address(9_999), start + INTERVAL * 2),
            "the old ones are forgotten"
        );
    }
}
