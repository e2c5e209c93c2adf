//! `[rib]`: how routes become generations.

use net::Source;
use serde::Serialize;

/// `[rib]`: when a batch of changes is published, and which source wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rib {
    /// Bounds in steady state.
    pub batch: BatchBounds,
    /// Bounds while a peer has not told its whole table.
    pub large_batch: BatchBounds,
    /// Milliseconds between generations while changes keep coming; 0 for none.
    pub publish_interval: u32,
    /// Administrative distances; lower wins.
    pub distance: Distances,
}

/// A batch closes when nothing waits, or at one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BatchBounds {
    /// Changes.
    pub size: u32,
    /// Milliseconds.
    pub time: u32,
}

/// Administrative distance of each source but connected routes, which are at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Distances {
    /// Of static routes that name none.
    #[serde(rename = "static")]
    pub fixed: u8,
    /// Of external BGP peers' routes.
    pub ebgp: u8,
    /// Of internal BGP peers' routes.
    pub ibgp: u8,
    /// Of other programs' routes in the kernel.
    pub kernel: u8,
    /// Of routes pushed over FPM.
    pub fpm: u8,
}

impl Distances {
    /// Each with its source.
    pub fn by_source(&self) -> [(Source, u8); 5] {
        [
            (Source::Static, self.fixed),
            (Source::Ebgp, self.ebgp),
            (Source::Ibgp, self.ibgp),
            (Source::Kernel, self.kernel),
            (Source::Fpm, self.fpm),
        ]
    }
}
