//! What `turnpike show bgp` shows: plain, serializable pictures of the speaker at one moment.

use std::net::{IpAddr, Ipv4Addr};

use net::Prefix;
use serde::{Deserialize, Serialize};

use crate::policy::Difference;
use crate::session::MessageCounts;
use crate::{Family, Role};

/// The speaker and its peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Own AS.
    pub local_as: u32,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Prefixes with at least one path.
    pub prefixes: usize,
    /// Paths of all peers.
    pub paths: usize,
    /// Distinct attribute sets that those paths share.
    pub attribute_sets: usize,
    /// Update groups: peers of one group are told the same, computed and encoded once.
    pub update_groups: usize,
    /// Connections of dynamic peers that were refused because their range was full.
    pub dynamic_refused: u64,
    /// Connections from addresses that are no peers, which were closed.
    pub unknown_refused: u64,
    /// Peers whose tables are awaited, after a start, before anything is announced (RFC 4724 section 4.1).
    pub awaited: Vec<IpAddr>,
    /// One entry a peer, by address.
    pub peers: Vec<PeerView>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its address.
    pub address: IpAddr,
    /// Its AS; `None` while it may be any and has not said it.
    pub remote_as: Option<u32>,
    /// The interface that it is the unnumbered peer of.
    pub unnumbered: Option<String>,
    /// Its BGP identifier, while known.
    pub router_id: Option<Ipv4Addr>,
    /// The range that it is a dynamic peer of.
    pub dynamic: Option<Prefix>,
    /// Free text of the configuration.
    pub description: String,
    /// State of the session's state machine (RFC 4271 section 8.2.2).
    pub state: String,
    /// Seconds in Established; `None` in any other state.
    pub uptime: Option<u64>,
    /// Negotiated hold time, seconds; the proposed one while not established.
    pub hold_time: u16,
    /// What this speaker is to the peer (RFC 9234).
    pub role: Option<Role>,
    /// What the peer says that it is to this speaker, while known.
    pub remote_role: Option<Role>,
    /// Capabilities in use on both sides.
    pub capabilities: Vec<String>,
    /// Prefix counts, one entry a negotiated family.
    pub families: Vec<FamilyCounters>,
    /// Messages received since the peer was configured.
    pub messages_in: u64,
    /// Messages sent since the peer was configured.
    pub messages_out: u64,
    /// Those received, by type.
    pub messages_received: MessageCounts,
    /// Those sent, by type.
    pub messages_sent: MessageCounts,
    /// UPDATEs whose routes were treated as withdrawn (RFC 7606).
    pub treated_as_withdraw: u64,
    /// Attributes discarded from UPDATEs that were otherwise used (RFC 7606).
    pub attributes_discarded: u64,
    /// Refreshes of a family that the peer told from beginning to end (RFC 7313).
    pub refreshes_in: u64,
    /// Refreshes of a family that the peer asked for and was told.
    pub refreshes_out: u64,
    /// Times that the session left Established.
    pub flaps: u64,
    /// Why the session last failed.
    pub last_error: Option<String>,
    /// The last NOTIFICATION that ended a connection.
    pub last_notification: Option<NotificationView>,
    /// State of BFD with the peer; `None` without BFD.
    pub bfd: Option<crate::bfd::packet::State>,
}

/// A NOTIFICATION (RFC 4271 section 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationView {
    /// We sent it; else the peer did.
    pub sent: bool,
    /// Seconds ago.
    pub seconds_ago: u64,
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// What they mean.
    pub meaning: String,
    /// Its data in hexadecimal: what was wrong, as it came, or the peer's reason.
    pub data: String,
}

/// Prefix counts of one family of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyCounters {
    /// The family.
    pub family: Family,
    /// In the adj-rib-in.
    pub received: u32,
    /// Of those, eligible for the decision process.
    pub accepted: u32,
    /// In the adj-rib-out.
    pub advertised: u32,
}

/// A prefix of the loc-rib with every path to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Destination.
    pub prefix: Prefix,
    /// Best path first, then multipath members, then the others.
    pub paths: Vec<PathView>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathView {
    /// Peer it came from; `None` for a prefix that the speaker originates.
    pub peer: Option<IpAddr>,
    /// The one best path.
    pub best: bool,
    /// Used beside the best path (equal up to the tie breaks).
    pub multipath: bool,
    /// Kept from before a restart of the peer, which has not told it again (RFC 4724).
    pub stale: bool,
    /// Why it is not used: the step of the decision process, or what made it ineligible.
    pub reason: Option<String>,
    /// Next hop; `None` for an originated prefix.
    pub next_hop: Option<IpAddr>,
    /// IPv6 link-local next hop that came with it.
    pub link_local_next_hop: Option<IpAddr>,
    /// AS path, as text.
    pub as_path: String,
    /// Origin: igp, egp or incomplete.
    pub origin: String,
    /// Multi-exit discriminator.
    pub med: Option<u32>,
    /// Local preference.
    pub local_pref: Option<u32>,
    /// Communities, `as:value` or a well-known name.
    pub communities: Vec<String>,
    /// Extended communities, `rt:as:value` and the like.
    pub extended_communities: Vec<String>,
    /// Large communities, `global:data1:data2`.
    pub large_communities: Vec<String>,
    /// The AS since which the route is for customers alone (RFC 9234).
    pub only_to_customer: Option<u32>,
    /// Where the path comes from: ebgp, ibgp or announced.
    pub source: String,
    /// Weight that policy gave it.
    pub weight: u32,
    /// Tag that policy gave it.
    pub tag: u32,
    /// Policy has traffic to it discarded.
    pub blackhole: bool,
    /// What the RPKI says of its origin: valid, invalid or not-found.
    pub rpki: String,
    /// Import policy changed its attributes: those shown are after policy.
    pub changed_by_policy: bool,
}

/// Why the route to a prefix is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteWhy {
    /// Destination.
    pub prefix: Prefix,
    /// Best path first, then multipath members, then the others.
    pub paths: Vec<PathWhy>,
    /// The peers with a session, by address.
    pub told: Vec<ToldWhy>,
}

/// Why a path stands as it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathWhy {
    /// The path.
    #[serde(flatten)]
    pub path: PathView,
    /// What decided against it; `None` for one that is used, or took no part in the decision process (`reason` says why).
    pub decided: Option<DecidedWhy>,
    /// What import policy did; `None` for one that is made here, or was kept out before policy.
    pub policy: Option<PolicyWhy>,
    /// The next hop, as far as it is tracked; `None` for one that is made here.
    #[serde(rename = "tracked")]
    pub next_hop: Option<NextHopWhy>,
}

/// The step of the decision process at which a path has lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedWhy {
    /// The step.
    pub step: String,
    /// Its value.
    pub value: String,
    /// The value of the path that it has lost to.
    pub winner: String,
    /// Who told that path; `None` for one that is made here.
    pub winner_peer: Option<IpAddr>,
}

/// What import policy did to a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyWhy {
    /// It passed.
    pub accepted: bool,
    /// What decided.
    pub decided_by: String,
    /// What of the path is not as it came.
    pub changes: Vec<Difference>,
}

/// What is known of a next hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHopWhy {
    /// The next hop.
    pub address: IpAddr,
    /// `reachable`, `unreachable`, `asked`, `link-local` (on the link of its peer), `not-asked` (the path was kept out before), or
    /// `not-tracked`.
    pub state: String,
    /// Metric of the route to it.
    pub metric: Option<u32>,
}

/// Whether a peer is told of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldWhy {
    /// The peer.
    pub peer: IpAddr,
    /// It is.
    pub told: bool,
    /// The announcement still waits to be sent.
    pub waits: bool,
    /// The next hop that it is told.
    pub next_hop: Option<IpAddr>,
    /// The AS path that it is told.
    pub as_path: Option<String>,
    /// What keeps the route from it.
    pub reason: Option<String>,
}
