//! What the mirror tells of itself.

use net::{Prefix, VrfId};
use serde::Serialize;

use crate::digest::Digest;
use crate::{KernelRule, Obstacle};

/// A route that the kernel did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// VRF of the route.
    pub vrf: VrfId,
    /// Destination of the route.
    pub prefix: Prefix,
    /// The kernel's errno as text.
    pub reason: String,
}

/// A route of ours that somebody keeps taking away: it is written again, at ever longer intervals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// VRF of the route.
    pub vrf: VrfId,
    /// Destination of the route.
    pub prefix: Prefix,
    /// How often it was lost lately.
    pub losses: u32,
}

/// What became of the newest wish for a prefix in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RouteState {
    /// Nobody wants it there, and it is not there.
    NotWanted,
    /// Waits to be written or removed.
    Queued,
    /// Sent to the kernel, which has not answered yet.
    Writing,
    /// The kernel has it as it is wanted.
    Installed,
    /// Left in the kernel by an earlier run, and not confirmed yet.
    Stale,
    /// The kernel did not take it; tried again at each audit and when an interface or address comes.
    Refused {
        /// The kernel's errno as text.
        reason: String,
    },
    /// It is a winner that the kernel cannot have.
    Inexpressible {
        /// Why not.
        obstacle: Obstacle,
    },
    /// Somebody keeps taking it away: written again at ever longer intervals.
    Held {
        /// How often it was lost lately.
        losses: u32,
    },
}

/// One of the kernel's routing tables, as far as it is mirrored in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelTable {
    /// Its number; 254 is main.
    pub table: u32,
    /// VRF whose routes its routes are; none for a table that is shown only.
    pub vrf: Option<VrfId>,
    /// IPv4 prefixes with routes of other programs.
    pub prefixes_v4: usize,
    /// IPv6 prefixes with routes of other programs.
    pub prefixes_v6: usize,
}

impl KernelTable {
    pub(crate) const fn new(table: u32, vrf: Option<VrfId>) -> Self {
        Self {
            table,
            vrf,
            prefixes_v4: 0,
            prefixes_v6: 0,
        }
    }
}

/// Counters and state of the mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Our routes that the kernel has.
    pub installed: usize,
    /// Our routes that wait to be written or removed.
    pub pending: usize,
    /// Our routes that the kernel refused and that are still wanted.
    pub refused: usize,
    /// Winners that the kernel cannot have, since it has no words for them.
    pub inexpressible: usize,
    /// Routes of an earlier run that nobody has confirmed yet.
    pub stale: usize,
    /// The last refusals, at most 32, newest last.
    pub refusals: Vec<Refusal>,
    /// Our routes that somebody keeps taking away, and that are not written for now.
    pub held: usize,
    /// Those of them that are written again soonest, at most 32.
    pub fights: Vec<Held>,
    /// Wishes that a newer one replaced before they were written.
    pub superseded: u64,
    /// Route writes that the kernel acknowledged, since start.
    pub written: u64,
    /// Times that the kernel dropped notifications because we were slow (ENOBUFS).
    pub overruns: u64,
    /// Times that everything was dumped again and compared.
    pub resyncs: u64,
    /// Events told.
    pub events: u64,
    /// Our routes that an audit found missing, changed or left over in the kernel, and healed.
    pub drift: u64,
    /// Audits: comparisons of the kernel's whole state with ours.
    pub audits: u64,
    /// What audits found in the kernel that no notification had told of, and told.
    pub drift_in: u64,
    /// Tables with routes of other programs, and those that are VRFs', in order of their numbers.
    pub tables: Vec<KernelTable>,
    /// Policy rules in order of precedence, IPv4 first.
    pub rules: Vec<KernelRule>,
    /// Next-hop objects of the kernel.
    pub next_hop_objects: usize,
    /// Entries of forwarding databases of bridges and VXLAN devices.
    pub fdb_entries: usize,
    /// Digest of all that is mirrored in as we have it, at the last audit.
    pub digest: Digest,
    /// Digest of those that the kernel had; equal, unless the audit healed a difference.
    pub kernel_digest: Digest,
}
