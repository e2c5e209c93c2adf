//! The packet pipeline through the real thing: a started data plane with real route tables, NAT and taps, between two
//! wires whose other ends are the test. EAL and the network namespace exist once a process, so each test runs in a
//! process of its own. Needs root.

#![allow(unreachable_pub, reason = "modules of one test program")]

mod conservation;
mod errors;
mod forward;
mod fragments;
mod frames;
mod gateway;
mod hairpin;
mod host;
mod hostile;
mod load;
mod nat;
mod nat_v6;
mod neighbors;
mod network;
mod npt;
mod offload;
mod process;
mod tap;
mod underlay;
mod vpc;
mod wire;
mod workers;
