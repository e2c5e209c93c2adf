//! The mirror against the real kernel, each test in network namespaces of its own that end with their threads.
//!
//! `ip -json` is the judge. Needs root.

mod agree;
mod faults;
mod fpm;
mod inbound;
mod objects;
mod outbound;
mod tables;
mod world;
