//! How the published tables change: operations of the writer, applied to one copy and then to the other.

use std::sync::{Arc, PoisonError};

use net::{InterfaceId, NextHopId, Revision, RouteKind, VrfId};

use super::{DELTAS, Group, Member, NO_ROUTE, Tables, Vrf, vni_key};
use crate::adjacency::{Adjacency, AdjacencyKind};
use crate::interface::{Attachment, TableInterface};
use crate::publish::Seal;
use crate::trie::{Root, Slot};

/// What a group resolves to: the kind of its routes, and a bucket for each share of the traffic.
#[derive(Clone, Debug)]
pub(crate) struct GroupUpdate {
    pub(crate) kind: RouteKind,
    /// A power of two of them; none is no route.
    pub(crate) buckets: Box<[Member]>,
}

impl GroupUpdate {
    /// No route.
    pub(crate) fn none() -> Self {
        Self {
            kind: RouteKind::Unreachable,
            buckets: Box::default(),
        }
    }
}

/// One change of the published tables.
#[derive(Clone, Debug)]
pub(crate) enum TableOp {
    Set4 {
        vrf: VrfId,
        length: u8,
        key: u32,
        group: u32,
    },
    Clear4 {
        vrf: VrfId,
        length: u8,
        key: u32,
        cover: Slot,
    },
    Widen4(VrfId),
    Set6 {
        vrf: VrfId,
        length: u8,
        key: Box<u128>,
        group: u32,
    },
    Clear6 {
        vrf: VrfId,
        length: u8,
        key: Box<u128>,
        cover: Slot,
    },
    Widen6(VrfId),
    Group {
        id: u32,
        update: Box<GroupUpdate>,
    },
    NextHop {
        id: NextHopId,
        adjacency: Box<Adjacency>,
    },
    Interface {
        id: InterfaceId,
        interface: Option<Box<TableInterface>>,
    },
    Policy(Box<(Arc<nat::Policy>, Revision)>),
    /// The end of a generation.
    Seal(Seal),
}

impl left_right::Absorb<TableOp> for Tables {
    fn absorb_first(&mut self, op: &mut TableOp, _: &Self) {
        self.absorb(op);
    }

    fn sync_with(&mut self, first: &Self) {
        *self = first.clone();
    }
}

impl Tables {
    /// Applies one change to this copy.
    fn absorb(&mut self, op: &TableOp) {
        self.witness.changed();
        match op {
            TableOp::Set4 {
                vrf,
                length,
                key,
                group,
            } => {
                let vrf = vrf_mut(&mut self.vrfs, *vrf);
                self.v4.insert(&mut vrf.v4, *key, *length, *group);
            }
            TableOp::Clear4 {
                vrf,
                length,
                key,
                cover,
            } => {
                self.v4
                    .remove(&mut vrf_mut(&mut self.vrfs, *vrf).v4, *key, *length, *cover);
            }
            TableOp::Widen4(vrf) => self.v4.widen(&mut vrf_mut(&mut self.vrfs, *vrf).v4),
            TableOp::Set6 {
                vrf,
                length,
                key,
                group,
            } => {
                let vrf = vrf_mut(&mut self.vrfs, *vrf);
                self.v6.insert(&mut vrf.v6, **key, *length, *group);
            }
            TableOp::Clear6 {
                vrf,
                length,
                key,
                cover,
            } => {
                self.v6
                    .remove(&mut vrf_mut(&mut self.vrfs, *vrf).v6, **key, *length, *cover);
            }
            TableOp::Widen6(vrf) => self.v6.widen(&mut vrf_mut(&mut self.vrfs, *vrf).v6),
            TableOp::Group { id, update } => self.set_group(*id as usize, update),
            TableOp::NextHop { id, adjacency } => {
                let at = id.0 as usize;
                if at >= self.next_hops.len() {
                    self.next_hops.resize(at + 1, Adjacency::plain(AdjacencyKind::NoRoute));
                }
                self.next_hops[at] = Adjacency::clone(adjacency);
            }
            TableOp::Interface { id, interface } => self.set_interface(*id, interface.as_deref().copied()),
            TableOp::Policy(policy) => (self.policy, self.revision) = (Arc::clone(&policy.0), policy.1),
            TableOp::Seal(seal) => {
                let end = seal.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if self.deltas.len() == DELTAS {
                    self.deltas.pop_front();
                }
                self.generation = end.0;
                self.deltas.push_back(end);
            }
        }
    }

    fn set_group(&mut self, id: usize, update: &GroupUpdate) {
        let none = Group {
            first: Member::next_hop(NO_ROUTE),
            mask: 0,
            kind: RouteKind::Unreachable,
        };
        if id >= self.groups.len() {
            self.groups.resize(id + 1, none);
        }
        let old = self.groups[id];
        if old.mask != 0 {
            self.buckets[old.first.0 as usize] = Box::default();
            self.free_buckets.push(old.first.0);
        }
        let first = match &*update.buckets {
            [] => none.first,
            [only] => *only,
            several => {
                let at = self.free_buckets.pop().unwrap_or(self.buckets.len() as u32);
                if at as usize == self.buckets.len() {
                    self.buckets.push(Box::default());
                }
                self.buckets[at as usize] = several.into();
                Member(at)
            }
        };
        self.groups[id] = Group {
            first,
            mask: update.buckets.len().saturating_sub(1) as u32,
            kind: update.kind,
        };
    }

    fn set_interface(&mut self, id: InterfaceId, interface: Option<TableInterface>) {
        let at = usize::from(id.0);
        if at >= self.interfaces.len() {
            self.interfaces.resize(at + 1, None);
        }
        if let Some(old) = std::mem::replace(&mut self.interfaces[at], interface) {
            self.detach(old.attachment, id);
        }
        match interface.map(|i| i.attachment) {
            None => {}
            Some(Attachment::Port(port)) => *grown(&mut self.ports, port.0) = Some(id),
            Some(Attachment::Vlan { port, id: vlan }) => {
                *grown(grown(&mut self.vlans, port.0), vlan.value()) = Some(id);
            }
            Some(Attachment::Vxlan { vni, source, .. }) => {
                self.vnis.insert(vni_key(source.into(), vni.value()), id);
            }
        }
        self.vteps = (self.interfaces.iter().flatten())
            .filter_map(|interface| match interface.attachment {
                Attachment::Vxlan { source, udp_port, .. } => Some((source.into(), udp_port)),
                Attachment::Port(_) | Attachment::Vlan { .. } => None,
            })
            .collect();
        self.vteps.sort_unstable();
        self.vteps.dedup();
        self.vrf_interfaces.clear();
        for (id, interface) in (0..).map(InterfaceId).zip(&self.interfaces) {
            if let Some(interface) = interface {
                grown(&mut self.vrf_interfaces, interface.vrf.0).get_or_insert(id);
            }
        }
    }

    /// Forgets that `attachment` is interface `id`, unless another interface took it over.
    fn detach(&mut self, attachment: Attachment, id: InterfaceId) {
        let slot = match attachment {
            Attachment::Port(port) => grown(&mut self.ports, port.0),
            Attachment::Vlan { port, id: vlan } => grown(grown(&mut self.vlans, port.0), vlan.value()),
            Attachment::Vxlan { vni, source, .. } => {
                let key = vni_key(source.into(), vni.value());
                if self.vnis.get(&key) == Some(&id) {
                    self.vnis.remove(&key);
                }
                return;
            }
        };
        if *slot == Some(id) {
            *slot = None;
        }
    }
}

fn vrf_mut(vrfs: &mut Vec<Vrf>, vrf: VrfId) -> &mut Vrf {
    let at = usize::from(vrf.0);
    if at >= vrfs.len() {
        vrfs.resize(
            at + 1,
            Vrf {
                v4: Root::EMPTY,
                v6: Root::EMPTY,
            },
        );
    }
    &mut vrfs[at]
}

/// The element at `index`, after growing `vec` to hold it.
fn grown<T: Default>(vec: &mut Vec<T>, index: u16) -> &mut T {
    let index = usize::from(index);
    if index >= vec.len() {
        vec.resize_with(index + 1, T::default);
    }
    &mut vec[index]
}
