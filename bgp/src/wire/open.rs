//! OPEN and its capabilities (RFC 4271 section 4.2, 5492, 4760, 6793, 2918, 4724, 7313, 8538, 8654, 8950, 9234, 9494).

use std::net::Ipv4Addr;

use bytes::Bytes;
use rustbgpd_wire as library;

use crate::Family;

/// Code of the BGP Role capability.
const ROLE: u8 = library::constants::capability_code::BGP_ROLE;

/// An OPEN message, the 4-octet AS already in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// AS number of the sender.
    pub asn: u32,
    /// Proposed hold time, seconds.
    pub hold_time: u16,
    /// BGP identifier of the sender.
    pub router_id: Ipv4Addr,
    /// What the sender can do.
    pub capabilities: Capabilities,
}

/// The capabilities of an OPEN that the speaker knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Multiprotocol families that we know; IPv4 unicast if the sender announced none at all (RFC 4760 section 8).
    pub families: Vec<Family>,
    /// Route refresh (RFC 2918).
    pub route_refresh: bool,
    /// A refresh has a beginning and an end (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// Messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// 4-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
    /// IPv4 unicast routes with IPv6 next hops (RFC 8950).
    pub ipv6_next_hop_for_ipv4: bool,
    /// Graceful restart (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// Long-lived graceful restart (RFC 9494): the families whose routes are to be kept as a last resort when the restart
    /// time is over. Empty: the sender only keeps those of others.
    pub long_lived: Option<Vec<LongLivedFamily>>,
    /// Roles (RFC 9234), as their values: one, or the sender contradicts itself.
    pub roles: Vec<u8>,
}

/// What a graceful restart capability says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GracefulRestart {
    /// R bit: the sender has just restarted; nobody needs to wait for its end-of-RIB markers.
    pub restarting: bool,
    /// N bit (RFC 8538): a session that ends by a NOTIFICATION other than a hard reset is a restart as well.
    pub notification: bool,
    /// Longest time until it is back, seconds (12 bits).
    pub restart_time: u16,
    /// Families whose routes are to be kept while the sender restarts. Empty: it only keeps those of others, and marks
    /// the end of its RIB.
    pub families: Vec<RestartFamily>,
}

/// A family of a graceful restart capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartFamily {
    /// The family.
    pub family: Family,
    /// F bit: forwarding went on while the sender was away.
    pub forwarding: bool,
}

/// A family of a long-lived graceful restart capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongLivedFamily {
    /// The family.
    pub family: Family,
    /// F bit: forwarding went on while the sender was away.
    pub forwarding: bool,
    /// How long the routes are to be kept, seconds (24 bits).
    pub stale_time: u32,
}

impl GracefulRestart {
    /// Families that went on forwarding while the sender was away.
    pub fn preserved(&self) -> impl Iterator<Item = Family> {
        self.families
            .iter()
            .filter(|entry| entry.forwarding)
            .map(|entry| entry.family)
    }
}

impl Capabilities {
    /// Names for people, in order of code.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .families
            .iter()
            .map(|family| format!("multiprotocol {family}"))
            .collect();
        let flags = [
            (self.route_refresh, "route-refresh"),
            (self.enhanced_route_refresh, "enhanced-route-refresh"),
            (self.extended_messages, "extended-messages"),
            (self.ipv6_next_hop_for_ipv4, "extended-next-hop ipv4-unicast"),
            (self.graceful_restart.is_some(), "graceful-restart"),
            (self.long_lived.is_some(), "long-lived-graceful-restart"),
            (self.four_octet_as, "four-octet-as"),
            (!self.roles.is_empty(), "role"),
        ];
        names.extend(
            flags
                .into_iter()
                .filter(|(present, _)| *present)
                .map(|(_, name)| name.to_owned()),
        );
        names
    }

    /// What both sides can do. Graceful restart, of both kinds, and roles are kept as the remote side (`other`) announced them.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            families: self
                .families
                .iter()
                .copied()
                .filter(|family| other.families.contains(family))
                .collect(),
            route_refresh: self.route_refresh && other.route_refresh,
            enhanced_route_refresh: self.enhanced_route_refresh && other.enhanced_route_refresh,
            extended_messages: self.extended_messages && other.extended_messages,
            four_octet_as: self.four_octet_as && other.four_octet_as,
            ipv6_next_hop_for_ipv4: self.ipv6_next_hop_for_ipv4 && other.ipv6_next_hop_for_ipv4,
            graceful_restart: self.graceful_restart.as_ref().and(other.graceful_restart.clone()),
            long_lived: self.long_lived.as_ref().and(other.long_lived.clone()),
            roles: if self.roles.is_empty() {
                Vec::new()
            } else {
                other.roles.clone()
            },
        }
    }

    /// The multiprotocol capabilities as bytes: data of an Unsupported Capability notification (RFC 5492 section 5).
    pub fn multiprotocol_bytes(&self) -> Bytes {
        let mut bytes = Vec::new();
        for family in &self.families {
            let (afi, safi) = super::family_to_library(*family);
            bytes.extend([library::constants::capability_code::MULTI_PROTOCOL, 4]);
            bytes.extend((afi as u16).to_be_bytes());
            bytes.extend([0, safi as u8]);
        }
        bytes.into()
    }

    fn from_library(list: &[library::Capability]) -> Self {
        let mut capabilities = Self::default();
        let multiprotocol = |capability| matches!(capability, &library::Capability::MultiProtocol { .. });
        if !list.iter().any(multiprotocol) {
            capabilities.families.push(Family::Ipv4Unicast);
        }
        for capability in list {
            match capability {
                library::Capability::MultiProtocol { afi, safi } => {
                    if let Some(family) = super::family_from_library(*afi, *safi)
                        && !capabilities.families.contains(&family)
                    {
                        capabilities.families.push(family);
                    }
                }
                library::Capability::RouteRefresh => capabilities.route_refresh = true,
                library::Capability::LongLivedGracefulRestart(families) => {
                    let known = |entry: &library::LlgrFamily| {
                        Some(LongLivedFamily {
                            family: super::family_from_library(entry.afi, entry.safi)?,
                            forwarding: entry.forwarding_preserved,
                            stale_time: entry.stale_time,
                        })
                    };
                    capabilities.long_lived = Some(families.iter().filter_map(known).collect());
                }
                library::Capability::EnhancedRouteRefresh => capabilities.enhanced_route_refresh = true,
                library::Capability::ExtendedMessage => capabilities.extended_messages = true,
                library::Capability::FourOctetAs { .. } => capabilities.four_octet_as = true,
                library::Capability::ExtendedNextHop(entries) => {
                    capabilities.ipv6_next_hop_for_ipv4 |= entries.iter().any(|entry| {
                        super::family_from_library(entry.nlri_afi, entry.nlri_safi) == Some(Family::Ipv4Unicast)
                            && entry.next_hop_afi == library::Afi::Ipv6
                    });
                }
                library::Capability::GracefulRestart {
                    restart_state,
                    notification,
                    restart_time,
                    families,
                } => {
                    let known = |entry: &library::GracefulRestartFamily| {
                        Some(RestartFamily {
                            family: super::family_from_library(entry.afi, entry.safi)?,
                            forwarding: entry.forwarding_preserved,
                        })
                    };
                    // Of several, the last counts (RFC 4724 section 3).
                    capabilities.graceful_restart = Some(GracefulRestart {
                        restarting: *restart_state,
                        notification: *notification,
                        restart_time: *restart_time,
                        families: families.iter().filter_map(known).collect(),
                    });
                }
                library::Capability::Role { role } => capabilities.add_role(role.to_u8()),
                // The library leaves a value that is not assigned as it came.
                library::Capability::Unknown { code: ROLE, data } => {
                    data.iter().for_each(|v| capabilities.add_role(*v))
                }
                _ => {}
            }
        }
        // RFC 9494 section 4.1: nothing without the other.
        if capabilities.graceful_restart.is_none() {
            capabilities.long_lived = None;
        }
        capabilities
    }

    fn add_role(&mut self, value: u8) {
        if !self.roles.contains(&value) {
            self.roles.push(value);
        }
    }

    fn to_library(&self, asn: u32) -> Vec<library::Capability> {
        let mut list: Vec<_> = self
            .families
            .iter()
            .map(|family| {
                let (afi, safi) = super::family_to_library(*family);
                library::Capability::MultiProtocol { afi, safi }
            })
            .collect();
        if self.route_refresh {
            list.push(library::Capability::RouteRefresh);
        }
        if self.enhanced_route_refresh {
            list.push(library::Capability::EnhancedRouteRefresh);
        }
        if self.extended_messages {
            list.push(library::Capability::ExtendedMessage);
        }
        if self.ipv6_next_hop_for_ipv4 {
            list.push(library::Capability::ExtendedNextHop(vec![
                library::ExtendedNextHopFamily {
                    nlri_afi: library::Afi::Ipv4,
                    nlri_safi: library::Safi::Unicast,
                    next_hop_afi: library::Afi::Ipv6,
                },
            ]));
        }
        if let Some(restart) = &self.graceful_restart {
            let family = |entry: &RestartFamily| {
                let (afi, safi) = super::family_to_library(entry.family);
                library::GracefulRestartFamily {
                    afi,
                    safi,
                    forwarding_preserved: entry.forwarding,
                }
            };
            list.push(library::Capability::GracefulRestart {
                restart_state: restart.restarting,
                notification: restart.notification,
                restart_time: restart.restart_time,
                families: restart.families.iter().map(family).collect(),
            });
        }
        if let Some(families) = &self.long_lived {
            let family = |entry: &LongLivedFamily| {
                let (afi, safi) = super::family_to_library(entry.family);
                library::LlgrFamily {
                    afi,
                    safi,
                    forwarding_preserved: entry.forwarding,
                    stale_time: entry.stale_time,
                }
            };
            list.push(library::Capability::LongLivedGracefulRestart(
                families.iter().map(family).collect(),
            ));
        }
        if self.four_octet_as {
            list.push(library::Capability::FourOctetAs { asn });
        }
        let role = |value: &u8| {
            library::BgpRole::from_u8(*value).map_or_else(
                || library::Capability::Unknown {
                    code: ROLE,
                    data: Bytes::copy_from_slice(&[*value]),
                },
                |role| library::Capability::Role { role },
            )
        };
        list.extend(self.roles.iter().map(role));
        list
    }
}

impl Open {
    pub(super) fn from_library(open: &library::OpenMessage) -> Self {
        Self {
            asn: open.four_byte_as(),
            hold_time: open.hold_time,
            router_id: open.bgp_identifier,
            capabilities: Capabilities::from_library(&open.capabilities),
        }
    }

    /// Encodes the whole message.
    pub fn encode(&self) -> Bytes {
        super::encode_infallible(&library::Message::Open(library::OpenMessage {
            version: library::constants::BGP_VERSION,
            my_as: u16::try_from(self.asn).unwrap_or(library::constants::AS_TRANS),
            hold_time: self.hold_time,
            bgp_identifier: self.router_id,
            capabilities: self.capabilities.to_library(self.asn),
        }))
    }
}
