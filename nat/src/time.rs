//! Time as the engine sees it: milliseconds from the caller, kept as tenths of a second.

/// Milliseconds since an arbitrary start, given by the caller.
///
/// A value smaller than one seen before is treated as no time passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

/// Tenths of a second since the engine's first packet: 13 years in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    /// Ticks in a second.
    pub(crate) const PER_SECOND: u32 = 10;

    /// This tick and `seconds` more.
    pub(crate) const fn after(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(Self::PER_SECOND)))
    }

    /// The first whole second at or after this tick.
    pub(crate) const fn second_up(self) -> u32 {
        self.0.div_ceil(Self::PER_SECOND)
    }

    /// The whole second that this tick is in.
    pub(crate) const fn second(self) -> u32 {
        self.0 / Self::PER_SECOND
    }

    /// Milliseconds from `earlier` to this tick.
    pub(crate) const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) as u64 * 100
    }
}

/// Turns the caller's milliseconds into ticks that never go back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    start: Option<u64>,
    latest_millis: u64,
    latest: Tick,
}

impl Clock {
    /// The tick of `now`, or the latest one if `now` went back.
    #[inline]
    pub(crate) fn tick(&mut self, now: Millis) -> Tick {
        // The packets of a burst share their time.
        if now.0 > self.latest_millis {
            let start = *self.start.get_or_insert(now.0);
            self.latest_millis = now.0;
            self.latest = Tick(u32::try_from((now.0 - start) / 100).unwrap_or(u32::MAX));
        }
        self.latest
    }

    /// The latest tick told.
    pub(crate) const fn latest(&self) -> Tick {
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_starts_anywhere_and_never_goes_back() {
        let mut clock = Clock::default();
        assert_eq!(clock.tick(Millis(1_700_000_000_000)), Tick(0));
        assert_eq!(clock.tick(Millis(1_700_000_000_950)), Tick(9));
        assert_eq!(clock.tick(Millis(5)), Tick(9));
        assert_eq!(clock.tick(Millis(u64::MAX)), Tick(u32::MAX));
    }

    #[test]
    fn deadlines_round_up_to_the_second() {
        assert_eq!(Tick(1).after(2).second_up(), 3);
        assert_eq!(Tick(0).after(2).second_up(), 2);
        assert_eq!(Tick(29).second(), 2);
    }
}
