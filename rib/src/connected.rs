//! Connected and local routes, derived from the addresses of interfaces; and what an interface's change reaches.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use net::{IfIndex, NextHop, Prefix, Route, RouteKind, Source, VrfId};

use crate::group::Need;
use crate::interface::{Attachment, Interface};
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

    /// An interface came, changed or went: what asked for its state is decided again.
    pub(crate) fn mark_dependents(&mut self, interface: &Interface) {
        self.next_hops.mark_on(interface.id);
        let vni = match interface.attachment {
            Attachment::Vxlan { vni, .. } => Some(Need::Vni(vni)),
            Attachment::Port(_) | Attachment::Vlan { .. } => None,
        };
        for need in interface.host.map(Need::Host).into_iter().chain(vni) {
            self.mark_needing(need);
        }
        if let Some(host) = interface.host {
            self.mark_hosts(host, interface.vrf);
        }
    }

    /// Groups that asked for this state are resolved again.
    pub(crate) fn mark_needing(&mut self, need: Need) {
        for (_, id) in self.dependents.range((need, 0)..=(need, u32::MAX)) {
            let group = self.groups.get_mut(*id);
            if !std::mem::replace(&mut group.dirty, true) {
                self.work.groups.push(*id);
            }
        }
    }

    /// The neighbours on a host interface may be host routes of `vrf`, or not be any more.
    fn mark_hosts(&mut self, host: IfIndex, vrf: VrfId) {
        let on_host = self
            .neighbors
            .range((host, LOWEST)..)
            .take_while(|((h, _), _)| *h == host);
        let prefixes = on_host.map(|((_, address), _)| (vrf, Prefix::host(*address)));
        self.work.prefixes.extend(prefixes);
    }

    /// The neighbours on a host interface are another VRF's.
    pub(crate) fn move_neighbors(&mut self, host: IfIndex, from: Option<VrfId>, to: Option<VrfId>) {
        if from == to {
            return;
        }
        let on_host = self
            .neighbors
            .range((host, LOWEST)..)
            .take_while(|((h, _), _)| *h == host);
        let addresses: Vec<IpAddr> = on_host.map(|((_, address), _)| *address).collect();
        for address in addresses {
            for (vrf, present) in [(from, false), (to, true)] {
                if let Some(vrf) = vrf {
                    self.index_neighbor(vrf, host, address, present);
                    self.work.prefixes.push((vrf, Prefix::host(address)));
                }
            }
        }
    }

    /// The VRF of the interface that a host interface stands for.
    pub(crate) fn vrf_of(&self, host: IfIndex) -> Option<VrfId> {
        self.hosts.get(&host).map(|id| self.interfaces[id].vrf)
    }
}

/// The first address in the order of addresses.
pub(crate) const LOWEST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}
