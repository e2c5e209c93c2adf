//! Our own EVPN routes: type 5 for prefixes of a VRF, type 3 for an endpoint that takes broadcasts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use net::policy::{Origin, RouteSource};
use net::{Prefix, VrfId};

use super::path::EvpnPath;
use super::vrf::Vrf;
use super::{Evpn, EvpnVrf};
use crate::policy::{Marks, PolicyRoute};
use crate::rib::{Changed, Path, Standing, Step};
use crate::wire::{self, Attributes, EvpnKey, EvpnMarks, EvpnRoute, NextHop};

impl Evpn {
    /// The owner forwards to each prefix of a VRF by a route of this source, or by none that could be announced.
    pub(crate) fn offer(&mut self, offers: impl IntoIterator<Item = (VrfId, Prefix, Option<RouteSource>)>) {
        for (vrf, prefix, source) in offers {
            let before = match source {
                Some(source) => self.offered.insert((vrf, prefix), source),
                None => self.offered.remove(&(vrf, prefix)),
            };
            if before != source {
                self.originate(vrf, prefix);
            }
        }
    }

    /// Empty tables of a speaker with another AS or identifier; the owner's offers stand.
    pub(crate) fn anew(&self, asn: u32, router_id: Ipv4Addr) -> Self {
        Self {
            offered: self.offered.clone(),
            ..Self::new(asn, router_id)
        }
    }

    /// Makes every own route of a VRF what it should be; those of `before`, its configuration until now, are gone.
    pub(super) fn originate_all(&mut self, vrf: VrfId, before: Option<&EvpnVrf>) {
        let stale: Vec<EvpnKey> = match before {
            Some(before) => {
                let own = |(key, entry): (&EvpnKey, &super::Entry)| {
                    let ours = key.rd() == before.rd && entry.paths.iter().any(|path| path.path.peer.is_none());
                    ours.then_some(*key)
                };
                self.table.iter().filter_map(own).collect()
            }
            None => Vec::new(),
        };
        for key in stale {
            self.remove_own(&key);
        }
        let Some(config) = self.vrfs.get(&vrf).map(|vrf| Arc::clone(&vrf.config)) else {
            return;
        };
        let first = (vrf, Prefix::DEFAULT_V4);
        let offered = self.offered.range(first..).take_while(|((of, _), _)| *of == vrf);
        let mut prefixes: BTreeSet<Prefix> = offered.map(|((_, prefix), _)| *prefix).collect();
        prefixes.extend(&config.announce);
        for prefix in prefixes {
            self.originate(vrf, prefix);
        }
        if config.multicast {
            let key = EvpnKey::Multicast {
                rd: config.rd,
                tag: 0,
                originator: config.vtep,
            };
            let mut attributes = own_attributes(&config, Origin::Igp);
            let tunnel = wire::ingress_replication(config.vni, config.vtep);
            attributes.other.push(tunnel);
            attributes.other.sort_by_key(wire::PathAttribute::type_code);
            self.insert_own(EvpnRoute::new(key), RouteSource::Announced, attributes, None);
        }
    }

    /// Makes the own route to one prefix what it should be.
    fn originate(&mut self, vrf: VrfId, prefix: Prefix) {
        let Some(config) = self.vrfs.get(&vrf).map(|vrf| Arc::clone(&vrf.config)) else {
            return;
        };
        let key = EvpnKey::Prefix {
            rd: config.rd,
            tag: 0,
            prefix,
        };
        self.remove_own(&key);
        let route = EvpnRoute {
            label: config.vni.value(),
            ..EvpnRoute::new(key)
        };
        if config.announce.contains(&prefix) {
            return self.insert_own(
                route,
                RouteSource::Announced,
                own_attributes(&config, Origin::Igp),
                None,
            );
        }
        let Some(source) = self.offered.get(&(vrf, prefix)).copied() else {
            return;
        };
        let attributes = own_attributes(&config, Origin::Incomplete);
        let mut told = PolicyRoute {
            prefix,
            attributes: Cow::Borrowed(&attributes),
            marks: Marks::default(),
            neighbor: None,
            source,
            local_as: self.asn,
            next_hop: None,
        };
        let policy = config.redistribute.get(&source);
        if policy.is_some_and(|policy| policy.for_evpn().evaluate(true, &mut told).accept) {
            let (marks, changed) = (told.marks, told.attributes.into_owned());
            self.insert_own(route, source, attributes, Some((changed, marks)));
        }
    }

    fn insert_own(
        &mut self,
        route: EvpnRoute,
        source: RouteSource,
        attributes: Attributes,
        changed: Option<(Attributes, Marks)>,
    ) {
        let received = self.attributes.intern(attributes);
        let changed = changed.and_then(|(attributes, marks)| {
            let attributes = self.attributes.intern(attributes);
            let same = marks == Marks::default() && Arc::ptr_eq(&attributes, &received);
            (!same).then(|| Arc::new(Changed { attributes, marks }))
        });
        let path = Path {
            peer: None,
            source,
            received,
            changed,
            standing: Standing::Lost(Step::Originated),
            stale: false,
        };
        let marks = EvpnMarks::of(path.attributes());
        self.dirty.insert(route.key);
        let entry = self.table.entry(route.key).or_default();
        entry.paths.push(EvpnPath { path, route, marks });
    }

    fn remove_own(&mut self, key: &EvpnKey) {
        if let Some(entry) = self.table.get_mut(key) {
            let before = entry.paths.len();
            entry.paths.retain(|path| path.path.peer.is_some());
            if entry.paths.len() != before {
                self.dirty.insert(*key);
            }
        }
    }

    /// Exchanges the routes of exactly these VRFs.
    pub(crate) fn set_vrfs(&mut self, configs: &[EvpnVrf]) {
        let wanted: BTreeMap<VrfId, &EvpnVrf> = configs.iter().map(|config| (config.vrf, config)).collect();
        let same = |vrf: &Vrf| {
            wanted
                .get(&vrf.config.vrf)
                .is_some_and(|wanted| **wanted == *vrf.config)
        };
        if wanted.len() == self.vrfs.len() && self.vrfs.values().all(same) {
            return;
        }
        let mut before: BTreeMap<VrfId, Vrf> = std::mem::take(&mut self.vrfs);
        for (id, config) in wanted {
            let mut vrf = Vrf::new(config.clone());
            let old = before.remove(&id);
            let unchanged = old.as_ref().is_some_and(|old| *old.config == *config);
            let old_config = old.map(|old| {
                // What is installed stays until it is decided anew.
                self.touched.extend(old.installed.keys().map(|prefix| (id, *prefix)));
                vrf.installed = old.installed;
                old.config
            });
            self.vrfs.insert(id, vrf);
            if !unchanged {
                self.originate_all(id, old_config.as_deref());
            }
        }
        for (id, gone) in before {
            let config = gone.config;
            self.originate_all(id, Some(&config));
            let withdrawn = gone.installed.into_iter();
            self.withdrawn
                .extend(withdrawn.map(|(prefix, installed)| (id, prefix, installed.source)));
        }
        self.index_targets();
    }
}

/// What every own route carries: the endpoint, its targets, the encapsulation and the router's MAC.
fn own_attributes(config: &EvpnVrf, origin: Origin) -> Attributes {
    let mut attributes = Attributes::originated(NextHop::from(config.vtep));
    attributes.origin = wire::origin(origin);
    let targets = config.export.iter().map(|target| target.community());
    attributes.set_communities(targets.chain([wire::vxlan_encapsulation(), wire::router_mac(config.router_mac)]));
    attributes
}
