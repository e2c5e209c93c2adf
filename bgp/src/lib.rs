//! The BGP speaker of the gateway: sessions with the fabric's routers, a RIB of what they say, route changes out.
//!
//! Owns: the codec facade ([`wire`]), the sans-IO session ([`session`]), policy ([`policy`]), adj-rib-in, loc-rib and
//! adj-rib-out ([`rib`]), BFD with the peers ([`bfd`]), the BMP exporter, and the sockets ([`Speaker`]).
//!
//! Never does: resolve next hops, program a kernel or a forwarding table, reflect routes, or give transit unless a
//! peer's `advertise_learned` asks for it. It uses `net` alone: what comes out is [`net::RouteChange`].
//!
//! The walk of a route: `io::peer` reads bytes from a socket, [`session::Session`] makes a [`wire::Update`] of them,
//! `io::core` hands it to [`rib::Rib`], which applies policy and loop checks, runs the decision process and yields
//! changes; these leave in batches through the channel given to [`Speaker::start`].
//!
//! EVPN (`evpn/`) has tables of its own beside these: its routes are no prefixes, and lead into the VRFs of VPCs.
//!
//! What peers are told is computed and encoded once for all that are told the same: `rib/group.rs`.
//!
//! Read first: `io/mod.rs` for the interface, `session/mod.rs` for the state machine, `rib/mod.rs` for the tables.
#![forbid(unsafe_code)]

pub mod bfd;
mod bmp;
mod config;
mod error;
mod evpn;
mod family;
mod io;
pub mod mrt;
pub mod policy;
pub mod rib;
mod role;
pub mod rpki;
pub mod session;
mod view;
pub mod wire;

pub use bmp::{BmpConfig, BmpView};
pub use config::{
    DEFAULT_PORT, Distance, DynamicPeers, MaxPrefixes, Password, PeerConfig, RemoteAs, RestartMode, SpeakerConfig,
    UnnumberedPeer,
};
pub use error::Error;
pub use evpn::{EvpnImportView, EvpnPathView, EvpnRouteView, EvpnState, EvpnVrf, EvpnVrfView};
pub use family::Family;
pub use io::{Deferral, Event, Feedback, NextHopAnswers, Speaker, peer_info, session_config};
pub use policy::{Action, Policy, PolicyQuestion, PolicyTable, PolicyTest, PrefixList, PrefixRule};
pub use role::Role;
pub use view::{
    DecidedWhy, FamilyCounters, NextHopWhy, NotificationView, PathView, PathWhy, PeerView, PolicyWhy, RouteView,
    RouteWhy, State, ToldWhy,
};
