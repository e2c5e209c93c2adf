//! A route on its way through a policy.

use std::borrow::Cow;
use std::net::IpAddr;

use net::Prefix;
use net::policy::{NextHopChange, RouteSource, Validity};

use crate::wire::Attributes;

/// What policy and validation attach to a path and no message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Marks {
    /// Higher is preferred, before anything else.
    pub weight: u32,
    /// For later policies to match on.
    pub tag: u32,
    /// Traffic is discarded here.
    pub blackhole: bool,
    /// What the RPKI says of its origin; not policy's to change.
    pub validity: Validity,
}

/// A route, and what a policy has made of it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRoute<'a> {
    /// Destination.
    pub prefix: Prefix,
    /// Copied when the first term changes them.
    pub attributes: Cow<'a, Attributes>,
    /// Weight, tag and kind.
    pub marks: Marks,
    /// The peer that it comes from (import) or goes to (export).
    pub neighbor: Option<IpAddr>,
    /// Where it comes from.
    pub source: RouteSource,
    /// Our AS.
    pub local_as: u32,
    /// What a term wants of the next hop, if that is not in the attributes: the export knows our own address.
    pub next_hop: Option<NextHopChange>,
}
