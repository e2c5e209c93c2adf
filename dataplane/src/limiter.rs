//! Token bucket for ICMP errors (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).

/// Errors a second that one worker sends, over time.
const RATE: u64 = 1_000;
/// Errors sent at once after a quiet time.
const BURST: u64 = 100;

/// Refills `RATE` tokens a second, holds `BURST`.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Thousandths of a token.
    tokens: u64,
    last: u64,
}

impl Limiter {
    pub(crate) fn new() -> Self {
        Self {
            tokens: BURST * 1_000,
            last: 0,
        }
    }

    /// Takes one token at `now` (milliseconds); false when none is left.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        self.tokens = (self.tokens + passed.saturating_mul(RATE)).min(BURST * 1_000);
        match self.tokens.checked_sub(1_000) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_then_holds_the_rate_and_survives_a_clock_that_goes_back() {
        let mut limiter = Limiter::new();
        assert_eq!((0..1_000).filter(|_| limiter.take(5_000)).count() as u64, BURST);
        assert!(!limiter.take(1_000));
        assert_eq!((0..1_000).filter(|_| limiter.take(5_010)).count(), 10);
    }
}
