//! EVPN as people see it.

use std::net::IpAddr;

use net::policy::Community;
use net::{Mac, Prefix, RouteDistinguisher, RouteTarget, Vni, VrfId};
use serde::{Deserialize, Serialize};

use super::path::EvpnPath;
use super::vrf::{NotImported, targets, tunnel};
use super::{Entry, Evpn};
use crate::policy::Decision;
use crate::rib::{Ineligible, Standing};
use crate::wire::{self, EvpnKey, EvpnRoute};

/// The VRFs that take part, and the loc-rib with every path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EvpnState {
    /// By number.
    pub vrfs: Vec<EvpnVrfView>,
    /// By type, route distinguisher and destination.
    pub routes: Vec<EvpnRouteView>,
}

/// A VRF that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvpnVrfView {
    /// The VRF.
    pub vrf: VrfId,
    /// Its name.
    pub name: String,
    /// Route distinguisher of what it announces.
    pub rd: RouteDistinguisher,
    /// Route targets that it imports.
    pub import: Vec<RouteTarget>,
    /// Route targets of what it announces.
    pub export: Vec<RouteTarget>,
    /// Its VNI.
    pub vni: Vni,
    /// Our endpoint.
    pub vtep: IpAddr,
    /// Our MAC address in it.
    pub router_mac: Mac,
    /// Routes that it announces, whether a peer may be told of them or not.
    pub announced: usize,
    /// Prefixes that it has routes to from EVPN.
    pub imported: usize,
}

/// A route with its paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvpnRouteView {
    /// Type of the route, 1 to 5.
    pub route_type: u8,
    /// Route distinguisher.
    pub rd: RouteDistinguisher,
    /// The route without its distinguisher, as most routers write it.
    pub route: String,
    /// The prefix or host in a VRF that it leads to.
    pub destination: Option<Prefix>,
    /// The best first.
    pub paths: Vec<EvpnPathView>,
}

/// A path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvpnPathView {
    /// Who told it; `None` for our own.
    pub peer: Option<IpAddr>,
    /// Where it comes from.
    pub source: String,
    /// It is the best.
    pub best: bool,
    /// It is used beside the best.
    pub multipath: bool,
    /// Its peer restarts, and has not told it again.
    pub stale: bool,
    /// Why it is not used.
    pub reason: Option<String>,
    /// The endpoint.
    pub next_hop: IpAddr,
    /// Its MAC address as a router.
    pub router_mac: Option<Mac>,
    /// VNI of the label: of the segment in types 1, 2 and 3, of the VRF in type 5.
    pub vni: Option<u32>,
    /// VNI of the VRF in type 2.
    pub routed_vni: Option<u32>,
    /// Ethernet segment, unless it is all zero.
    pub segment: Option<String>,
    /// Gateway of type 5, an overlay index.
    pub gateway: Option<IpAddr>,
    /// How often the host has moved (RFC 7432 section 7.7).
    pub moves: Option<u32>,
    /// The host must not move.
    pub sticky: bool,
    /// Route targets.
    pub targets: Vec<RouteTarget>,
    /// The other extended communities.
    pub extended_communities: Vec<String>,
    /// AS path.
    pub as_path: String,
    /// ORIGIN.
    pub origin: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// What became of it in each VRF that imports a target of it.
    pub imports: Vec<EvpnImportView>,
    /// Why it is in no VRF, if it is used and not ours.
    pub not_imported: Option<String>,
}

/// What became of a path in a VRF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvpnImportView {
    /// The VRF.
    pub vrf: VrfId,
    /// Its name.
    pub name: String,
    /// It is a route of the VRF, alone or beside others.
    pub used: bool,
    /// Why it is not.
    pub reason: Option<String>,
}

impl Evpn {
    /// Everything.
    pub(crate) fn view(&self) -> EvpnState {
        let vrf = |vrf: &super::Vrf| {
            let config = &vrf.config;
            let own = |entry: &Entry| entry.paths.iter().any(|path| path.path.peer.is_none());
            let announced = self
                .table
                .iter()
                .filter(|(key, entry)| key.rd() == config.rd && own(entry));
            EvpnVrfView {
                vrf: config.vrf,
                name: config.name.clone(),
                rd: config.rd,
                import: config.import.clone(),
                export: config.export.clone(),
                vni: config.vni,
                vtep: config.vtep,
                router_mac: config.router_mac,
                announced: announced.count(),
                imported: vrf.installed.len(),
            }
        };
        EvpnState {
            vrfs: self.vrfs.values().map(vrf).collect(),
            routes: self.table.iter().map(|(key, entry)| self.route(key, entry)).collect(),
        }
    }

    fn route(&self, key: &EvpnKey, entry: &Entry) -> EvpnRouteView {
        let mut paths: Vec<&EvpnPath> = entry.paths.iter().collect();
        let rank = |standing| match standing {
            Standing::Best => 0,
            Standing::Multipath => 1,
            Standing::Lost(_) => 2,
            Standing::Ineligible(_) => 3,
        };
        paths.sort_by_key(|path| {
            (
                rank(path.path.standing),
                path.path.peer.as_ref().map(|peer| peer.address),
            )
        });
        EvpnRouteView {
            route_type: key.route_type(),
            rd: key.rd(),
            route: key.to_string(),
            destination: key.destination(),
            paths: paths.into_iter().map(|path| self.path(path)).collect(),
        }
    }

    fn path(&self, EvpnPath { path, route, marks }: &EvpnPath) -> EvpnPathView {
        let attributes = path.attributes();
        let communities = attributes.every_community().into_iter();
        let others = communities.filter(|community| {
            matches!(community, Community::Extended(_)) && net::RouteTarget::of(*community).is_none()
        });
        let imports = self.imports(&EvpnPath {
            path: path.clone(),
            route: *route,
            marks: *marks,
        });
        let EvpnRoute { key, esi, .. } = route;
        let esi = match key {
            EvpnKey::Discovery { esi, .. } | EvpnKey::Segment { esi, .. } => esi,
            _ => esi,
        };
        EvpnPathView {
            peer: path.peer.as_ref().map(|peer| peer.address),
            source: path.source.to_string(),
            best: path.standing == Standing::Best,
            multipath: path.standing == Standing::Multipath,
            stale: path.stale,
            reason: match path.standing {
                Standing::Best | Standing::Multipath => None,
                Standing::Lost(step) => Some(step.to_string()),
                Standing::Ineligible(reason) => Some(ineligible(&path.peer, &route.key, reason)),
            },
            next_hop: attributes.next_hop.address,
            router_mac: marks.router_mac,
            vni: match key {
                EvpnKey::Multicast { .. } => wire::replicated_vni(attributes),
                EvpnKey::Segment { .. } => None,
                _ => Some(route.label),
            },
            routed_vni: route.routed_label,
            segment: (!esi.is_zero()).then(|| esi.to_string()),
            gateway: route.gateway,
            moves: marks.mobility.map(|(_, sequence)| sequence),
            sticky: marks.mobility.is_some_and(|(sticky, _)| sticky),
            targets: targets(path),
            extended_communities: others.map(|community| community.to_string()).collect(),
            as_path: attributes.as_path.to_aspath_string(),
            origin: attributes.origin_word().to_string(),
            med: attributes.med,
            local_pref: attributes.local_pref,
            not_imported: match &imports {
                _ if !path.is_used() || path.peer.is_none() => None,
                Ok(_) => None,
                Err(reason) => Some(reason.to_string()),
            },
            imports: imports.unwrap_or_default(),
        }
    }

    /// What became of a used path in the VRFs; or why in none, if the reason is the same for all.
    fn imports(&self, path: &EvpnPath) -> Result<Vec<EvpnImportView>, NotImported> {
        if !path.path.is_used() || path.path.peer.is_none() {
            return Ok(Vec::new());
        }
        match path.route.key {
            EvpnKey::Host { ip: None, .. } => return Err(NotImported::NoAddress),
            EvpnKey::Host { .. } | EvpnKey::Prefix { .. } => {}
            _ => return Err(NotImported::NoDestination),
        }
        let importers = self.importers(&path.path);
        if importers.is_empty() {
            return Err(NotImported::Target);
        }
        let of = |id: &VrfId| {
            let vrf = self.vrfs.get(id)?;
            let destination = path.route.key.destination()?;
            let from = path.path.peer.as_ref()?.address;
            let standings = vrf.installed.get(&destination).map(|installed| &installed.standings);
            let standing = standings
                .into_iter()
                .flatten()
                .find(|(key, peer, _)| *key == path.route.key && *peer == from);
            let standing = standing.map(|(.., standing)| *standing);
            let reason = match (tunnel(&vrf.config, path), standing) {
                (Err(reason), _) => Some(reason.to_string()),
                (_, Some(Standing::Lost(step))) => Some(step.to_string()),
                _ => None,
            };
            Some(EvpnImportView {
                vrf: *id,
                name: vrf.config.name.clone(),
                used: reason.is_none(),
                reason,
            })
        };
        Ok(importers.iter().filter_map(of).collect())
    }
}

/// With the names of the configuration where policy decided.
fn ineligible(peer: &Option<std::sync::Arc<crate::rib::PeerInfo>>, key: &EvpnKey, reason: Ineligible) -> String {
    match (reason, peer) {
        (Ineligible::Policy(decision), Some(peer)) if decision != Decision::NoPolicy => {
            let prefix = super::policy_prefix(key);
            format!("{reason}: {}", peer.import.for_evpn().explain(&prefix, decision))
        }
        _ => reason.to_string(),
    }
}
