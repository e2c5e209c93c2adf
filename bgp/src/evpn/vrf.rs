//! From EVPN routes to routes of VRFs: by route target, the best of all route distinguishers that have a prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use net::{Mac, NextHop, Prefix, Route, RouteChange, RouteTarget, Source, Vni, VrfId, VxlanNextHop};

use super::path::{EvpnPath, decide_evpn};
use super::{Evpn, EvpnVrf};
use crate::rib::{Path, Standing, Step};
use crate::wire::{EvpnKey, EvpnRoute};

/// Why a used EVPN route is not a route of a VRF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotImported {
    /// It is ours.
    Own,
    /// Types 1, 3 and 4 lead to no prefix.
    NoDestination,
    /// A type 2 route for a MAC address alone.
    NoAddress,
    /// No VRF imports a target of its.
    Target,
    /// A type 2 route without a second label: its host is reached by bridging alone.
    NotRouted,
    /// Its VNI is not the VRF's.
    Vni { told: u32, ours: Vni },
    /// It does not say which MAC address routes there.
    RouterMac,
    /// The MAC address of the router is none of one host.
    BadRouterMac(Mac),
    /// It leads to a router or a segment that another route tells of.
    OverlayIndex,
    /// It is encapsulated in something else than VXLAN.
    Encapsulation,
    /// Its endpoint is of the other address family than ours.
    Endpoint(IpAddr),
}

impl fmt::Display for NotImported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own route"),
            Self::NoDestination => f.write_str("leads to no prefix"),
            Self::NoAddress => f.write_str("tells a MAC address and no IP address"),
            Self::Target => f.write_str("no VPC imports a route target of it"),
            Self::NotRouted => f.write_str("has no second label: the host is bridged, not routed"),
            Self::Vni { told, ours } => write!(f, "is for VNI {told}, and the VPC's is {ours}"),
            Self::RouterMac => f.write_str("has no router's MAC"),
            Self::BadRouterMac(mac) => write!(f, "router's MAC {mac} is not the address of one host"),
            Self::OverlayIndex => f.write_str("leads to a gateway or segment of another route (overlay index)"),
            Self::Encapsulation => f.write_str("is not encapsulated in VXLAN"),
            Self::Endpoint(address) => write!(f, "endpoint {address} is of the other address family than ours"),
        }
    }
}

/// What a VRF was told of a prefix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Installed {
    pub(super) source: Source,
    pub(super) route: Route,
    /// How each path that could be imported stands.
    pub(super) standings: Vec<(EvpnKey, IpAddr, Standing)>,
}

/// One VRF.
#[derive(Debug)]
pub(super) struct Vrf {
    pub(super) config: Arc<EvpnVrf>,
    /// Routes with a path that can be imported, by destination.
    candidates: BTreeMap<Prefix, BTreeSet<EvpnKey>>,
    pub(super) installed: BTreeMap<Prefix, Installed>,
}

impl Vrf {
    pub(super) fn new(config: EvpnVrf) -> Self {
        Self {
            config: Arc::new(config),
            candidates: BTreeMap::new(),
            installed: BTreeMap::new(),
        }
    }

    fn has_candidate(&mut self, prefix: Prefix, key: EvpnKey, has: bool) {
        if has {
            self.candidates.entry(prefix).or_default().insert(key);
        } else if let Some(keys) = self.candidates.get_mut(&prefix) {
            keys.remove(&key);
            if keys.is_empty() {
                self.candidates.remove(&prefix);
            }
        }
    }
}

/// The tunnel that a path is to a VRF, or why it is none. Its targets are another matter.
pub(super) fn tunnel(vrf: &EvpnVrf, path: &EvpnPath) -> Result<VxlanNextHop, NotImported> {
    let EvpnRoute {
        key,
        label,
        routed_label,
        ..
    } = path.route;
    if path.path.peer.is_none() {
        return Err(NotImported::Own);
    }
    let told = match key {
        EvpnKey::Prefix { .. } if path.route.gateway.is_some() || !path.route.esi.is_zero() => {
            return Err(NotImported::OverlayIndex);
        }
        EvpnKey::Prefix { .. } => label,
        EvpnKey::Host { ip: None, .. } => return Err(NotImported::NoAddress),
        EvpnKey::Host { .. } => routed_label.ok_or(NotImported::NotRouted)?,
        _ => return Err(NotImported::NoDestination),
    };
    if path.marks.other_encapsulation {
        return Err(NotImported::Encapsulation);
    }
    if told != vrf.vni.value() {
        return Err(NotImported::Vni { told, ours: vrf.vni });
    }
    let mac = path.marks.router_mac.ok_or(NotImported::RouterMac)?;
    if mac.is_multicast() || mac.is_zero() {
        return Err(NotImported::BadRouterMac(mac));
    }
    let vtep = path.path.attributes().next_hop.address;
    if vtep.is_ipv4() != vrf.vtep.is_ipv4() {
        return Err(NotImported::Endpoint(vtep));
    }
    Ok(VxlanNextHop {
        vni: vrf.vni,
        vtep,
        mac,
    })
}

/// The targets of a path.
pub(super) fn targets(path: &Path) -> Vec<RouteTarget> {
    let communities = path.attributes().every_community().into_iter();
    communities.filter_map(RouteTarget::of).collect()
}

impl Evpn {
    /// Every VRF by what it imports.
    pub(super) fn index_targets(&mut self) {
        self.by_target.clear();
        for (id, vrf) in &self.vrfs {
            for target in &vrf.config.import {
                self.by_target.entry(*target).or_default().push(*id);
            }
        }
        for (key, entry) in &mut self.table {
            entry.vrfs.clear();
            self.dirty.insert(*key);
        }
    }

    /// The VRFs that import a target of the path.
    pub(super) fn importers(&self, path: &Path) -> BTreeSet<VrfId> {
        let ids = targets(path).into_iter();
        ids.flat_map(|target| self.by_target.get(&target).into_iter().flatten().copied())
            .collect()
    }

    /// Notes in which VRFs a route that was just decided is a candidate.
    pub(super) fn place(&mut self, key: EvpnKey) {
        let Some(destination) = key.destination() else { return };
        let Some(entry) = self.table.get(&key) else { return };
        let mut wanted: BTreeSet<VrfId> = BTreeSet::new();
        for path in entry.paths.iter().filter(|path| path.path.is_used()) {
            let importers = self.importers(&path.path).into_iter();
            wanted.extend(importers.filter(|id| {
                let vrf = self.vrfs.get(id);
                vrf.is_some_and(|vrf| tunnel(&vrf.config, path).is_ok())
            }));
        }
        let Some(entry) = self.table.get_mut(&key) else { return };
        let before = std::mem::replace(&mut entry.vrfs, wanted.clone());
        for id in before.union(&wanted) {
            if let Some(vrf) = self.vrfs.get_mut(id) {
                vrf.has_candidate(destination, key, wanted.contains(id));
                self.touched.insert((*id, destination));
            }
        }
    }

    /// Decides a prefix of a VRF, and yields what has changed for it.
    pub(super) fn settle(&mut self, id: VrfId, prefix: Prefix, changes: &mut Vec<RouteChange>) {
        let installed = self.choose(id, prefix);
        let Some(vrf) = self.vrfs.get_mut(&id) else { return };
        let change = |source, route| RouteChange {
            vrf: id,
            prefix,
            source,
            route,
        };
        let after = installed
            .as_ref()
            .map(|installed| (installed.source, installed.route.clone()));
        let before = match installed {
            Some(installed) => vrf.installed.insert(prefix, installed),
            None => vrf.installed.remove(&prefix),
        };
        let before = before.map(|before| (before.source, before.route));
        if before == after {
            return;
        }
        if let Some((source, _)) = before
            && after.as_ref().is_none_or(|(now, _)| *now != source)
        {
            changes.push(change(source, None));
        }
        if let Some((source, route)) = after {
            changes.push(change(source, Some(route)));
        }
    }

    /// The route of a VRF to a prefix: the best paths of all that have it.
    fn choose(&self, id: VrfId, prefix: Prefix) -> Option<Installed> {
        let vrf = self.vrfs.get(&id)?;
        let mut paths = Vec::new();
        let mut hops = Vec::new();
        for key in vrf.candidates.get(&prefix)? {
            for path in self.table.get(key).into_iter().flat_map(|entry| &entry.paths) {
                let imported = path.path.is_used() && self.importers(&path.path).contains(&id);
                let Some(hop) = imported.then(|| tunnel(&vrf.config, path).ok()).flatten() else {
                    continue;
                };
                let mut path = path.clone();
                path.path.standing = Standing::Lost(Step::PeerAddress);
                paths.push(path);
                hops.push(hop);
            }
        }
        let rules = crate::rib::Rules {
            // Where it stands among its own kind says nothing of the VRF.
            prefer_oldest: false,
            ..self.rules
        };
        decide_evpn(&mut paths, rules, |path| {
            self.next_hops.cost(path.attributes().next_hop)
        });
        let best = paths.iter().position(|path| path.path.standing == Standing::Best)?;
        let mut tunnels = vec![hops[best]];
        for (path, hop) in paths.iter().zip(&hops) {
            if path.path.standing == Standing::Multipath && !tunnels.contains(hop) {
                tunnels.push(*hop);
            }
        }
        tunnels[1..].sort_unstable_by_key(|tunnel| (tunnel.vtep, tunnel.mac));
        let next_hop = |tunnel| NextHop {
            gateway: None,
            interface: None,
            weight: 1,
            vrf: None,
            vxlan: Some(tunnel),
            object: None,
        };
        let mut route = Route::multipath(tunnels.into_iter().map(next_hop));
        route.metric = paths[best].path.attributes().med.unwrap_or(0);
        let external = paths[best].path.peer.as_ref()?.ebgp;
        let standing = |path: &EvpnPath| Some((path.route.key, path.path.peer.as_ref()?.address, path.path.standing));
        Some(Installed {
            source: if external { Source::Ebgp } else { Source::Ibgp },
            route,
            standings: paths.iter().filter_map(standing).collect(),
        })
    }
}
