//! `[standby]`: the gateway that takes over this one's connections, or whose connections this one takes over.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

/// `[standby]`: connections are sent to another gateway, received from one, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standby {
    /// Where the gateway listens that our connections are sent to.
    pub peer: Option<SocketAddr>,
    /// Where another gateway's connections are received, and which address they may come from.
    pub listen: Option<StandbyListen>,
}

/// The receiving half of `[standby]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StandbyListen {
    /// Our address.
    pub address: SocketAddr,
    /// The gateway whose connections are received.
    pub primary: IpAddr,
}
