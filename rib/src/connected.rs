//! Connected and local routes, derived from the addresses of interfaces; and what an interface's change reaches.

use std::collections::BTreeMap;
use std::net::IpAddr;

use net::{IfIndex, NextHop, Prefix, Route, RouteKind, Source, VrfId};

use crate::rib::Rib;
use crate::routes::Owner;

impl Rib {
    /// Brings connected and local routes in line with the addresses.
    pub(crate) fn derive_routes(&mut self) {
        let wanted = self.routes_of_addresses();
        let old = std::mem::replace(&mut self.derived, wanted.clone());
        for (&(vrf, prefix, owner), _) in old.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            self.set_candidate(vrf, prefix, owner, None);
        }
        for (&(vrf, prefix, owner), interface) in wanted.iter().filter(|(key, i)| old.get(*key) != Some(*i)) {
            let route = match interface {
                Some(interface) => Route::unicast(NextHop::on_link(*interface)),
                None => Route::special(RouteKind::Local),
            };
            self.set_candidate(vrf, prefix, owner, Some(route));
        }
    }

    /// Every address is a local route, in the VRF of its interface or (an interface that is none of ours) in the
    /// default VRF; every subnet of an interface of ours is a connected route. Of several interfaces on one subnet the
    /// first that is up has it. Link-local subnets exist on every interface and are no routes (RFC 4291 section 2.5.6).
    fn routes_of_addresses(&self) -> BTreeMap<(VrfId, Prefix, Owner), Option<IfIndex>> {
        let mut wanted = BTreeMap::new();
        for (index, net) in &self.addresses {
            let interface = self.hosts.get(index).map(|id| &self.interfaces[id]);
            let vrf = interface.map_or(VrfId::DEFAULT, |i| i.vrf);
            let link_local = is_link_local(net.addr());
            if interface.is_some() || !link_local && !net.addr().is_loopback() {
                wanted.insert((vrf, Prefix::host(net.addr()), Owner::Local), None);
            }
            let Some(interface) = interface else { continue };
            if link_local || net.prefix_len() == net.max_prefix_len() {
                continue;
            }
            let connected = (vrf, Prefix::from(*net), Owner::Route(Source::Connected));
            let up = |i: &IfIndex| self.hosts.get(i).is_some_and(|id| self.is_up(&self.interfaces[id]));
            let held = wanted.get(&connected).copied().flatten();
            if held.is_none_or(|first: IfIndex| !up(&first) && self.is_up(interface)) {
                wanted.insert(connected, Some(*index));
            }
        }
        wanted
    }

    /// An interface came, changed or went: everything that may depend on one is decided again.
    pub(crate) fn reindex_interfaces(&mut self) {
        let before = std::mem::take(&mut self.neighbors_by_vrf);
        let known: Vec<(IfIndex, IpAddr)> = self.neighbors.keys().copied().collect();
        for (host, address) in known {
            if let Some(vrf) = self.hosts.get(&host).map(|id| self.interfaces[id].vrf) {
                self.index_neighbor(vrf, host, address, true);
            }
        }
        let both = before.keys().chain(self.neighbors_by_vrf.keys());
        self.work
            .prefixes
            .extend(both.map(|(vrf, address)| (*vrf, Prefix::host(*address))));
        let groups: Vec<u32> = self.groups.ids().collect();
        for id in groups {
            let group = self.groups.get_mut(id);
            if !std::mem::replace(&mut group.dirty, true) {
                self.work.groups.push(id);
            }
        }
        let all: Vec<_> = self.next_hops.iter().map(|(id, ..)| id).collect();
        self.next_hops.dirty.extend(all);
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}
