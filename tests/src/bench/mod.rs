//! The benchmark harness: what `make bench` and its relatives (`make help`) run.
//!
//! Owns: the traffic of each scenario, the measurement of the real worker loop between a generator and a sink, the
//! comparison with another program in one wiring, the tables alone, and the rows that come of it.
//!
//! Never does: time packets but of a saturated worker. A row with one dropped packet is an error, not a figure.
//!
//! Read first: `scenario.rs` for the rows, then `gateway.rs` for what is measured and `measure.rs` for how.
//! `docs/benchmarks.md` explains the method to a reader of the figures.

pub mod bgp;
pub mod connections;
pub mod frames;
pub mod gateway;
pub mod instructions;
pub mod interrupt;
pub mod kernel;
pub mod measure;
pub mod nat;
pub mod null;
pub mod offload;
pub mod peers;
pub mod random;
pub mod report;
pub mod routes;
pub mod scenario;
pub mod table;
