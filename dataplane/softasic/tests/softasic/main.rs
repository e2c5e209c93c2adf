//! The driver as an application sees it: only DPDK's calls. EAL exists once a process, so each test runs in a process
//! of its own, without hugepages or privilege.

#![allow(unreachable_pub, reason = "modules of one test program")]

mod bench;
mod control;
mod faults;
mod frames;
mod generator;
mod offload;
mod process;
mod rules;
