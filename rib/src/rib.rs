//! The RIB itself: what it holds, and how events change it. Events only record; `settle.rs` decides, at publish.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use left_right::WriteHandle;
use nat::Delta;
use net::{
    AddressChange, Generation, IfIndex, InterfaceId, IpNet, KernelEvent, LinkChange, Mac, NeighborChange,
    NeighborState, NextHop, NextHopId, NextHopObject, NextHopObjectChange, Prefix, Revision, Route, RouteChange,
    RouteKind, Source, Vni, VrfId,
};
use smallvec::SmallVec;

use crate::connected::LOWEST;
use crate::group::{GroupKey, Groups, Need, Target};
use crate::interface::{Interface, TableInterface};
use crate::next_hop::NextHops;
use crate::publish::{Effort, Seal};
use crate::reader::{Reader, Seats};
use crate::routes::{Candidate, Owner, VrfRoutes};
use crate::sync::AtomicU64;
use crate::tables::{TableOp, Tables};

pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// How a [`Rib`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibConfig {
    /// Administrative distances that differ from [`Source::default_distance`].
    pub distances: Vec<(Source, u8)>,
    /// A generation with more changed prefixes or next hops than this says that everything changed.
    pub max_delta: usize,
}

impl Default for RibConfig {
    fn default() -> Self {
        Self {
            distances: Vec::new(),
            max_delta: 4096,
        }
    }
}

/// Every route of every source in every VRF, and the writer of the published tables.
pub struct Rib {
    pub(crate) config: RibConfig,
    pub(crate) write: WriteHandle<Tables, TableOp>,
    pub(crate) published: Arc<AtomicU64>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) generation: Generation,
    /// The end of a generation that could not be published yet, and how much was pending when it was written.
    pub(crate) sealed: Option<(Seal, usize)>,

    pub(crate) vrfs: Map<VrfId, VrfRoutes>,
    pub(crate) groups: Groups,
    pub(crate) next_hops: NextHops,
    /// Groups that asked for the state of an interface.
    pub(crate) dependents: BTreeSet<(Need, u32)>,
    /// Stand-ins of default routes in the FIB, by the group that they stand for.
    pub(crate) followers: Map<u32, Vec<u32>>,
    /// Groups that a lookup of (VRF, address) resolved.
    pub(crate) watches: BTreeMap<(VrfId, IpAddr), SmallVec<[u32; 1]>>,
    /// Next hops behind the VXLAN endpoint that a group resolves.
    pub(crate) overlays: BTreeMap<u32, BTreeSet<NextHopId>>,

    pub(crate) interfaces: BTreeMap<InterfaceId, Interface>,
    pub(crate) hosts: Map<IfIndex, InterfaceId>,
    pub(crate) links: Map<IfIndex, bool>,
    pub(crate) addresses: BTreeSet<(IfIndex, IpNet)>,
    pub(crate) neighbors: BTreeMap<(IfIndex, IpAddr), NeighborState>,
    /// Host interfaces that have a neighbour of this address, for interfaces of ours.
    pub(crate) neighbors_by_vrf: BTreeMap<(VrfId, IpAddr), SmallVec<[IfIndex; 1]>>,
    pub(crate) fdb: Map<(InterfaceId, Mac), IpAddr>,
    /// The same as the kernel's VXLAN devices have it, and the network of each of these.
    pub(crate) kernel_fdb: BTreeMap<(IfIndex, Mac), IpAddr>,
    pub(crate) kernel_vnis: Map<IfIndex, Vni>,
    /// Next hops that sources keep under a number; never an empty list.
    pub(crate) objects: Map<NextHopObject, Vec<NextHop>>,
    /// Connected and local routes as derived from `addresses`.
    pub(crate) derived: BTreeMap<(VrfId, Prefix, Owner), Option<IfIndex>>,
    pub(crate) nat_prefixes: BTreeSet<Prefix>,

    pub(crate) work: Work,
    pub(crate) outcome: Outcome,
    /// Routes refused because every group id was in use.
    pub(crate) refused: u64,
}

/// What the next publish has to decide.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) pending: usize,
    pub(crate) prefixes: Vec<(VrfId, Prefix)>,
    pub(crate) groups: Vec<u32>,
    /// Groups that became usable or unusable.
    pub(crate) flipped: HashSet<u32>,
    pub(crate) visited: Vec<u32>,
    /// Connected and local routes have to be derived again.
    pub(crate) addresses: bool,
}

/// What was decided since the last publish.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) delta: Delta,
    /// Prefixes whose winner or leaf changed.
    pub(crate) told: Vec<(VrfId, Prefix)>,
    /// Groups whose members changed.
    pub(crate) regrouped: BTreeSet<u32>,
    pub(crate) wanted: BTreeSet<(IfIndex, IpAddr)>,
    pub(crate) effort: Effort,
}

impl Rib {
    /// An empty RIB and the first handle to its tables, which show generation 0.
    pub fn new(config: RibConfig) -> (Self, Reader) {
        let policy =
            nat::Policy::compile(nat::PolicySpec::default()).expect("a policy without rules has nothing wrong");
        let policy = Arc::new(policy);
        let (mut write, _) = left_right::new_from_empty(Tables::new(policy));
        let next_hops = NextHops::new();
        for (id, adjacency) in next_hops.fixed() {
            write.append(TableOp::NextHop {
                id,
                adjacency: Box::new(adjacency.clone()),
            });
        }
        write.publish();
        let rib = Self {
            config,
            write,
            published: Arc::new(AtomicU64::new(0)),
            seats: Arc::default(),
            generation: Generation(0),
            sealed: None,
            vrfs: Map::default(),
            groups: Groups::new(),
            next_hops,
            dependents: BTreeSet::new(),
            followers: Map::default(),
            watches: BTreeMap::new(),
            overlays: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            hosts: Map::default(),
            links: Map::default(),
            addresses: BTreeSet::new(),
            neighbors: BTreeMap::new(),
            neighbors_by_vrf: BTreeMap::new(),
            fdb: Map::default(),
            kernel_fdb: BTreeMap::new(),
            kernel_vnis: Map::default(),
            objects: Map::default(),
            derived: BTreeMap::new(),
            nat_prefixes: BTreeSet::new(),
            work: Work::default(),
            outcome: Outcome::default(),
            refused: 0,
        };
        let reader = rib.reader();
        (rib, reader)
    }

    /// Another handle to the published tables.
    pub fn reader(&self) -> Reader {
        Reader::new(self.write.clone(), Arc::clone(&self.published), Arc::clone(&self.seats))
    }

    /// Adds an interface, or changes the one of the same id.
    pub fn set_interface(&mut self, interface: Interface) {
        if self.interfaces.get(&interface.id) == Some(&interface) {
            return;
        }
        let id = interface.id;
        self.replace_interface(id, Some(interface));
    }

    /// Takes an interface out; routes through it lose.
    pub fn remove_interface(&mut self, id: InterfaceId) {
        if self.interfaces.contains_key(&id) {
            self.replace_interface(id, None);
            self.fdb.retain(|(interface, _), _| *interface != id);
        }
    }

    fn replace_interface(&mut self, id: InterfaceId, new: Option<Interface>) {
        self.work.pending += 1;
        let old = self.interfaces.get(&id).cloned();
        let hosts: BTreeSet<IfIndex> = [&old, &new].into_iter().flatten().filter_map(|i| i.host).collect();
        let before: Vec<_> = hosts.iter().map(|host| (*host, self.vrf_of(*host))).collect();
        if let Some(old) = &old {
            self.interfaces.remove(&id);
            self.forget_host(old);
        }
        if let Some(new) = new.clone() {
            if let Some(host) = new.host {
                self.hosts.insert(host, id);
            }
            self.interfaces.insert(id, new);
        }
        for (host, vrf) in before {
            self.move_neighbors(host, vrf, self.vrf_of(host));
        }
        for interface in [old, new].iter().flatten() {
            self.mark_dependents(interface);
        }
        self.work.addresses = true;
        self.tell_interface(id);
        self.adopt_kernel_fdb(id);
    }

    /// Takes in what the kernel says.
    pub fn kernel(&mut self, event: KernelEvent) {
        match event {
            KernelEvent::Link(link) => self.link(&link),
            KernelEvent::Address(address) => self.address(&address),
            KernelEvent::Neighbor(neighbor) => self.neighbor(&neighbor),
            KernelEvent::Route(change) => self.route(change),
            KernelEvent::NextHopObject(change) => self.next_hop_object(change),
            KernelEvent::Fdb(change) => self.kernel_fdb(&change),
            KernelEvent::Synced => {}
        }
    }

    /// Takes in a route of any source.
    pub fn route(&mut self, change: RouteChange) {
        self.work.pending += 1;
        self.set_candidate(change.vrf, change.prefix, Owner::Route(change.source), change.route);
    }

    /// True if packets may be sent to this neighbour: then the kernel, which sees none of them, has to be asked to confirm it
    /// when it is [`NeighborState::Stale`].
    pub fn sends_to(&self, host: IfIndex, address: IpAddr) -> bool {
        let interface = self.hosts.get(&host).copied();
        interface.is_some_and(|id| self.next_hops.find(Target::Neighbor(id, address)).is_some())
    }

    /// Takes in what an object stands for: every route that names it goes that way, in one change.
    pub fn next_hop_object(&mut self, change: NextHopObjectChange) {
        let NextHopObjectChange { object, next_hops } = change;
        let known = self.objects.get(&object);
        if known == Some(&next_hops) || (known.is_none() && next_hops.is_empty()) {
            return;
        }
        match next_hops.is_empty() {
            true => drop(self.objects.remove(&object)),
            false => drop(self.objects.insert(object, next_hops)),
        }
        self.work.pending += 1;
        self.mark_needing(Need::Object(object));
    }

    /// Replaces the NAT policy. Its public addresses win over every other route to them in the default VRF.
    pub fn set_policy(&mut self, policy: Arc<nat::Policy>, revision: Revision) {
        self.work.pending += 1;
        self.outcome.delta.policy = true;
        let prefixes: BTreeSet<Prefix> = policy.public_prefixes().into_iter().collect();
        let old = std::mem::replace(&mut self.nat_prefixes, prefixes.clone());
        for gone in old.difference(&prefixes) {
            self.set_candidate(VrfId::DEFAULT, *gone, Owner::Nat, None);
        }
        for come in prefixes.difference(&old) {
            let route = Route {
                distance: Some(0),
                ..Route::special(RouteKind::Nat)
            };
            self.set_candidate(VrfId::DEFAULT, *come, Owner::Nat, Some(route));
        }
        self.write.append(TableOp::Policy(Box::new((policy, revision))));
    }

    /// Changes since the last publish.
    pub fn pending(&self) -> usize {
        self.work.pending
    }

    /// The newest published generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// True unless the kernel says that its host interface is down.
    pub(crate) fn is_up(&self, interface: &Interface) -> bool {
        interface.host.is_none_or(|host| self.links.get(&host) != Some(&false))
    }

    /// Adds, replaces or takes out the candidate that `owner` has for a prefix.
    pub(crate) fn set_candidate(&mut self, vrf: VrfId, prefix: Prefix, owner: Owner, route: Option<Route>) {
        let candidate = match route {
            Some(route) => match self.candidate(vrf, prefix, owner, route) {
                Some(candidate) => Some(candidate),
                None => {
                    self.refused += 1;
                    tracing::error!(%vrf, %prefix, "route refused: more distinct sets of next hops than the FIB can number");
                    return;
                }
            },
            None => None,
        };
        let routes = self.vrfs.entry(vrf).or_insert_with(VrfRoutes::new);
        let entry = match candidate {
            Some(_) => routes.entry(prefix),
            None => match routes.get_mut(prefix) {
                Some(entry) => entry,
                None => return,
            },
        };
        let at = entry.candidates.iter().position(|c| c.owner == owner);
        if at.map(|at| entry.candidates[at]) == candidate {
            return;
        }
        let before = at.map(|at| entry.candidates[at].group);
        let joins = candidate.is_some_and(|new| entry.candidates.iter().all(|c| c.group != new.group));
        let mut used = None;
        let old = at.map(|at| entry.candidates.remove(at));
        if let Some(candidate) = candidate {
            let at = entry
                .candidates
                .partition_point(|c| c.preference() < candidate.preference());
            entry.candidates.insert(at, candidate);
            used = Some(candidate.group);
        }
        let left = before.filter(|group| entry.candidates.iter().all(|c| c.group != *group));
        if !std::mem::replace(&mut entry.dirty, true) {
            self.work.prefixes.push((vrf, prefix));
        }
        if let Some(id) = used {
            let group = self.groups.get_mut(id);
            group.references += 1;
            if joins {
                group.users.add(prefix);
            }
        }
        if let Some(old) = old {
            if let Some(id) = left {
                self.groups.get_mut(id).users.remove(prefix);
            }
            self.release_group(old.group);
        }
    }

    /// A route with its next hops interned.
    fn candidate(&mut self, vrf: VrfId, prefix: Prefix, owner: Owner, route: Route) -> Option<Candidate> {
        let source = owner.source();
        let configured = self
            .config
            .distances
            .iter()
            .find(|(s, _)| *s == source)
            .map(|(_, d)| *d);
        let distance = route.distance.or(configured).unwrap_or(source.default_distance());
        let next_hops = if route.kind == RouteKind::Unicast {
            route.next_hops
        } else {
            SmallVec::new()
        };
        let key = GroupKey {
            vrf,
            kind: route.kind,
            next_hops,
            lineage: 0,
        };
        let group = self.group_after(prefix, owner, key)?;
        Some(Candidate {
            distance,
            owner,
            metric: route.metric,
            group,
        })
    }

    /// The group of a route's next hops. With several of them, flows to the prefix lie in it as they lie now.
    fn group_after(&mut self, prefix: Prefix, owner: Owner, mut key: GroupKey) -> Option<u32> {
        let entry = match key.next_hops.len() {
            0 | 1 => None,
            _ => self.vrfs.get(&key.vrf).and_then(|routes| routes.get(prefix)),
        };
        let Some(entry) = entry else {
            return self.intern(key);
        };
        let own = entry.candidates.iter().find(|c| c.owner == owner).map(|c| c.group);
        let leaf = (entry.leaf != 0).then_some(entry.leaf);
        if let Some(same) = own
            .into_iter()
            .chain(leaf)
            .find(|id| self.groups.get(*id).key.same_hops(&key))
        {
            return Some(same);
        }
        let before = leaf.or(own).filter(|id| self.groups.get(*id).division != 0);
        key.lineage = before.map_or(0, |id| self.groups.get(id).division);
        self.intern_after(key, before)
    }

    fn link(&mut self, link: &LinkChange) {
        let up = link.up && link.present;
        self.kernel_vni(link.index, link.vni.filter(|_| link.present));
        if self.links.insert(link.index, up) == Some(up) {
            return;
        }
        if let Some(id) = self.hosts.get(&link.index).copied() {
            self.work.pending += 1;
            let interface = self.interfaces[&id].clone();
            self.mark_dependents(&interface);
            // Of several interfaces on one subnet the first that is up has it.
            self.work.addresses = true;
            self.tell_interface(id);
        }
    }

    fn address(&mut self, change: &AddressChange) {
        let key = (change.interface, change.address);
        let changed = if change.present {
            self.addresses.insert(key)
        } else {
            self.addresses.remove(&key)
        };
        if changed {
            self.work.pending += 1;
            self.work.addresses = true;
            if let Some(id) = self.hosts.get(&change.interface).copied() {
                self.tell_interface(id);
            }
        }
    }

    fn addresses_of(&self, interface: &Interface) -> impl Iterator<Item = IpAddr> {
        let lowest = IpNet::new_assert(LOWEST, 0);
        let on_host = interface.host.map(|host| {
            self.addresses
                .range((host, lowest)..)
                .take_while(move |(h, _)| *h == host)
        });
        on_host.into_iter().flatten().map(|(_, net)| net.addr())
    }

    fn neighbor(&mut self, change: &NeighborChange) {
        let key = (change.interface, change.address);
        let old = match change.state {
            NeighborState::Gone => self.neighbors.remove(&key),
            state => self.neighbors.insert(key, state),
        };
        let new = (change.state != NeighborState::Gone).then_some(change.state);
        let Some(interface) = self.hosts.get(&change.interface).copied().filter(|_| old != new) else {
            return;
        };
        let target = Target::Neighbor(interface, change.address);
        if old
            .and_then(NeighborState::mac)
            .is_some_and(|mac| change.state.mac() == Some(mac))
        {
            // Confirmed, or not lately: it is sent to as before, and when it is lost it is asked for again.
            if let (NeighborState::Reachable(_), Some(id)) = (change.state, self.next_hops.find(target)) {
                self.next_hops.get_mut(id).wanted = false;
            }
            return;
        }
        self.work.pending += 1;
        let vrf = self.interfaces[&interface].vrf;
        self.index_neighbor(vrf, change.interface, change.address, new.is_some());
        self.work.prefixes.push((vrf, Prefix::host(change.address)));
        if let Some(id) = self.next_hops.find(target) {
            self.next_hops.dirty.insert(id);
            if new.is_none() || (old.and_then(NeighborState::mac).is_some() && change.state.mac().is_none()) {
                self.next_hops.get_mut(id).wanted = false;
            }
        }
    }

    /// Adds or removes a neighbour in `neighbors_by_vrf`.
    pub(crate) fn index_neighbor(&mut self, vrf: VrfId, host: IfIndex, address: IpAddr, present: bool) {
        let hosts = self.neighbors_by_vrf.entry((vrf, address)).or_default();
        hosts.retain(|h| *h != host);
        if present {
            hosts.push(host);
        }
        if hosts.is_empty() {
            self.neighbors_by_vrf.remove(&(vrf, address));
        }
    }

    fn forget_host(&mut self, interface: &Interface) {
        if let Some(host) = interface.host
            && self.hosts.get(&host) == Some(&interface.id)
        {
            self.hosts.remove(&host);
        }
    }

    /// Tells workers of an interface.
    fn tell_interface(&mut self, id: InterfaceId) {
        let interface = self.interfaces.get(&id).map(|i| {
            Box::new(TableInterface {
                vrf: i.vrf,
                mac: i.mac,
                mtu: i.mtu,
                attachment: i.attachment,
                up: self.is_up(i),
                address_v4: self.addresses_of(i).find_map(|address| match address {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                }),
                address_v6: self.addresses_of(i).find_map(|address| match address {
                    IpAddr::V6(address) if !address.is_unicast_link_local() => Some(address),
                    _ => None,
                }),
            })
        });
        self.write.append(TableOp::Interface { id, interface });
    }
}
