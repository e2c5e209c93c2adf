//! The rows of `make bench`: what each is called, what it is measured in, and what it is compared with.

use std::time::Duration;

use dataplane::Memory;

use super::measure::Measurement;
use super::{nat, null, offload, routes};

/// How a scenario runs.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Length of the timed part.
    pub window: Duration,
    /// Where packet buffers live.
    pub memory: Memory,
}

/// One row.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, the same for ever.
    pub name: &'static str,
    /// The file that it goes to.
    pub group: &'static str,
    /// Unit of its value.
    pub unit: &'static str,
    /// Best figure of another program.
    pub peer: Option<Peer>,
    /// Measures it once, in a process of its own.
    pub run: fn(&Options) -> Result<Measurement, String>,
}

/// A figure of another program for the same work.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Which program, and where its figure is from.
    pub name: &'static str,
    /// The figure, in the row's unit.
    pub value: f64,
}

const NANOSECONDS: &str = "ns/packet";
const RATE: &str = "connections/s";

/// Every row, in the order of the table.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "null-io",
        group: "null",
        unit: NANOSECONDS,
        peer: None,
        run: null::run,
    },
    Scenario {
        name: "forward-v4-1m",
        group: "forward",
        unit: NANOSECONDS,
        peer: Some(Peer {
            name: "VPP 26.10-rc, all nodes without the generator (measured elsewhere, see docs/benchmarks.md)",
            value: 66.0,
        }),
        run: routes::forward_v4,
    },
    Scenario {
        name: "forward-v6-200k",
        group: "forward",
        unit: NANOSECONDS,
        peer: None,
        run: routes::forward_v6,
    },
    Scenario {
        name: "nat-hit-64k",
        group: "worker-nat",
        unit: NANOSECONDS,
        peer: Some(Peer {
            name: "VPP 26.10-rc nat44-ed, 64k sessions (measured elsewhere, see docs/benchmarks.md)",
            value: 320.0,
        }),
        run: |options| nat::hit(options, 1 << 16),
    },
    Scenario {
        name: "nat-hit-1m",
        group: "worker-nat",
        unit: NANOSECONDS,
        peer: Some(Peer {
            name: "VPP 26.10-rc nat44-ed, 1M sessions (measured elsewhere, see docs/benchmarks.md)",
            value: 390.0,
        }),
        run: |options| nat::hit(options, 1_000_000),
    },
    Scenario {
        name: "nat-hit-4m",
        group: "worker-nat",
        unit: NANOSECONDS,
        peer: None,
        run: |options| nat::hit(options, 4_000_000),
    },
    Scenario {
        name: "nat-new",
        group: "worker-nat",
        unit: RATE,
        peer: Some(Peer {
            name: "VPP 26.10-rc nat44-ed, 1M-2.5M sessions (measured elsewhere, see docs/benchmarks.md)",
            value: 320_000.0,
        }),
        run: nat::new,
    },
    Scenario {
        name: "offload-install",
        group: "offload",
        unit: RATE,
        peer: Some(Peer {
            name: "Linux connection offload to mlx5, flows/s as published (measured elsewhere, see docs/benchmarks.md)",
            value: 600_000.0,
        }),
        run: offload::install,
    },
];

/// The row of this name.
///
/// # Errors
/// With every name there is.
pub fn find(name: &str) -> Result<&'static Scenario, String> {
    SCENARIOS.iter().find(|s| s.name == name).ok_or_else(|| {
        let names: Vec<_> = SCENARIOS.iter().map(|s| s.name).collect();
        format!("no scenario `{name}`: there are {}", names.join(", "))
    })
}
