//! What the safe layer promises, on ports that every machine has. EAL exists once a process, so each test runs in a
//! process of its own, without hugepages or privilege.

#![allow(unreachable_pub, reason = "modules of one test program")]

mod devices;
mod errors;
mod flow;
mod io;
mod pmd;
mod process;
mod wrapping;
