//! Next-hop objects by number, and the ways that each stands for. Sans-IO.
//!
//! Routes name an object, so a change of a group is one change whatever the number of its routes. Groups are told as the
//! single next hops that their members are at the time: whoever listens needs no notion of objects in objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use net::NextHop;

use crate::object::Object;

/// Groups of groups that are followed: nobody can make us walk in circles.
const DEPTH: u32 = 4;
/// Next hops of one object; more are not used.
const MOST: usize = 256;
/// Objects looked at for one: a group that lists itself a thousand times costs no more.
const LOOKS: u32 = 1024;

/// What routes that name an object do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// They have next hops.
    Ways,
    /// The same, and some lead straight onto an interface: routes spell them out, for hosts on a subnet are found by its route.
    OnLink,
    /// They drop.
    Blackhole,
}

/// What a message changed for those who name an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The object.
    pub(crate) id: u32,
    /// It became another thing, was not known before, or is not any more: each route that names it is another one.
    pub(crate) nature: bool,
    /// Its next hops, if these are not what they were; empty if it has none any more.
    pub(crate) ways: Option<Vec<NextHop>>,
}

/// Every object.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    all: HashMap<u32, Object>,
    /// Groups that have an object as a member.
    groups: HashMap<u32, BTreeSet<u32>>,
    /// The next hops as they were told, without those that have none.
    told: BTreeMap<u32, Vec<NextHop>>,
    blackholes: BTreeSet<u32>,
}

impl Objects {
    /// An object came, changed or went. What that is to it and to the groups that have it as a member.
    pub(crate) fn set(&mut self, id: u32, object: Option<Object>) -> Vec<Effect> {
        if self.all.get(&id) == object.as_ref() {
            return Vec::new();
        }
        self.replace(id, object);
        let mut touched = BTreeSet::new();
        self.touch(id, &mut touched);
        touched.into_iter().filter_map(|id| self.settle(id)).collect()
    }

    /// Exactly these are there.
    pub(crate) fn set_all(&mut self, objects: Vec<(u32, Object)>) -> Vec<Effect> {
        let ids: BTreeSet<u32> = objects.iter().map(|(id, _)| *id).collect();
        let gone: Vec<u32> = self.all.keys().filter(|id| !ids.contains(id)).copied().collect();
        let mut touched: BTreeSet<u32> = gone.iter().copied().collect();
        gone.iter().for_each(|id| self.touch(*id, &mut touched));
        gone.into_iter().for_each(|id| self.replace(id, None));
        for (id, object) in objects {
            if self.all.get(&id) != Some(&object) {
                self.replace(id, Some(object));
                self.touch(id, &mut touched);
            }
        }
        touched.into_iter().filter_map(|id| self.settle(id)).collect()
    }

    /// What routes that name it do; `None` for one that is not known or leads nowhere.
    pub(crate) fn nature(&self, id: u32) -> Option<Nature> {
        if let Some(ways) = self.told.get(&id) {
            let on_link = ways.iter().any(|hop| hop.gateway.is_none());
            Some(if on_link { Nature::OnLink } else { Nature::Ways })
        } else if self.blackholes.contains(&id) {
            Some(Nature::Blackhole)
        } else {
            None
        }
    }

    /// The next hops of an object.
    pub(crate) fn ways(&self, id: u32) -> &[NextHop] {
        self.told.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Every object, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Object)> {
        self.all.iter().map(|(id, object)| (*id, object))
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    fn replace(&mut self, id: u32, object: Option<Object>) {
        if let Some(Object::Group(members)) = self.all.get(&id) {
            for (member, _) in members {
                if let Some(groups) = self.groups.get_mut(member) {
                    groups.remove(&id);
                }
            }
        }
        if let Some(Object::Group(members)) = &object {
            for (member, _) in members {
                self.groups.entry(*member).or_default().insert(id);
            }
        }
        match object {
            Some(object) => drop(self.all.insert(id, object)),
            None => drop(self.all.remove(&id)),
        }
    }

    /// An object and the groups that it is in, level by level.
    fn touch(&self, id: u32, touched: &mut BTreeSet<u32>) {
        let mut level = vec![id];
        touched.insert(id);
        for _ in 0..DEPTH {
            let groups = level.iter().filter_map(|id| self.groups.get(id)).flatten();
            let above: BTreeSet<u32> = groups.copied().collect();
            touched.extend(&above);
            level = above.into_iter().collect();
        }
    }

    /// Compares what an object is with what it was.
    fn settle(&mut self, id: u32) -> Option<Effect> {
        let before = self.nature(id);
        let (mut ways, mut looks) = (Vec::new(), LOOKS);
        let blackhole = self.expand(id, 1, 0, &mut looks, &mut ways) && ways.is_empty();
        match blackhole {
            true => self.blackholes.insert(id),
            false => self.blackholes.remove(&id),
        };
        let old = match ways.is_empty() {
            true => self.told.remove(&id),
            false => self.told.insert(id, ways.clone()),
        };
        let changed = old.unwrap_or_default() != ways;
        let after = self.nature(id);
        let nature = after != before || (changed && after == Some(Nature::OnLink));
        (nature || changed).then(|| Effect {
            id,
            nature,
            ways: changed.then_some(ways),
        })
    }

    /// Collects the next hops of an object; true if it is, or has, a blackhole.
    fn expand(&self, id: u32, weight: u16, depth: u32, looks: &mut u32, into: &mut Vec<NextHop>) -> bool {
        let Some(left) = looks.checked_sub(1) else {
            return false;
        };
        *looks = left;
        match self.all.get(&id) {
            Some(Object::Single { hop, dead: false }) if into.len() < MOST => {
                into.push(NextHop {
                    gateway: hop.gateway,
                    interface: hop.interface,
                    weight: weight.max(1),
                    vrf: None,
                    vxlan: None,
                    object: None,
                });
                false
            }
            Some(Object::Blackhole) => true,
            Some(Object::Group(members)) if depth < DEPTH => {
                let member = |blackhole, (member, share): &(u32, u16)| {
                    self.expand(*member, *share, depth + 1, looks, into) || blackhole
                };
                members.iter().fold(false, member)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use net::IfIndex;

    use super::*;
    use crate::KernelNextHop;

    fn single(last: u8) -> Object {
        let hop = KernelNextHop {
            gateway: Some([192, 0, 2, last].into()),
            interface: Some(IfIndex(3)),
            weight: 1,
        };
        Object::Single { hop, dead: false }
    }

    fn ways(hops: &[(u8, u16)]) -> Vec<NextHop> {
        let way = |(last, weight): &(u8, u16)| NextHop {
            weight: *weight,
            ..NextHop::via([192, 0, 2, *last].into()).through(IfIndex(3))
        };
        hops.iter().map(way).collect()
    }

    fn effect(id: u32, nature: bool, hops: &[(u8, u16)]) -> Effect {
        let ways = Some(ways(hops));
        Effect { id, nature, ways }
    }

    #[test]
    fn a_member_that_changes_is_one_effect_for_each_group_that_has_it() {
        let mut objects = Objects::default();
        let group = || Object::Group(vec![(1, 1), (2, 3)]);
        assert_eq!(objects.set(10, Some(group())), [], "its members are not known");
        assert_eq!(objects.nature(10), None);
        assert_eq!(
            objects.set(1, Some(single(1))),
            [effect(1, true, &[(1, 1)]), effect(10, true, &[(1, 1)])]
        );
        assert_eq!(
            objects.set(2, Some(single(2))),
            [effect(2, true, &[(2, 1)]), effect(10, false, &[(1, 1), (2, 3)])]
        );
        assert_eq!(objects.set(2, Some(single(2))), [], "nothing new");
        assert_eq!(
            objects.set(1, None),
            [effect(1, true, &[]), effect(10, false, &[(2, 3)])]
        );
        let blackhole = Effect {
            id: 2,
            nature: true,
            ways: Some(Vec::new()),
        };
        assert_eq!(
            objects.set(2, Some(Object::Blackhole)),
            [blackhole.clone(), Effect { id: 10, ..blackhole }]
        );
        assert_eq!(objects.nature(10), Some(Nature::Blackhole));
    }

    #[test]
    fn a_dump_changes_what_differs_alone() {
        let mut objects = Objects::default();
        objects.set_all(vec![
            (1, single(1)),
            (2, single(2)),
            (10, Object::Group(vec![(1, 1), (2, 1)])),
        ]);
        let again = vec![
            (1, single(1)),
            (3, single(3)),
            (10, Object::Group(vec![(1, 1), (2, 1)])),
        ];
        assert_eq!(
            objects.set_all(again),
            [
                effect(2, true, &[]),
                effect(3, true, &[(3, 1)]),
                effect(10, false, &[(1, 1)])
            ]
        );
        assert_eq!(objects.len(), 3);
    }

    #[test]
    fn groups_in_a_circle_end() {
        let mut objects = Objects::default();
        objects.set(1, Some(Object::Group(vec![(2, 1), (2, 1)])));
        assert_eq!(objects.set(2, Some(Object::Group(vec![(1, 1), (1, 1)]))), []);
        // Each level multiplies: without a bound on what is looked at, this is 5,000 to the power of four.
        assert_eq!(objects.set(3, Some(Object::Group(vec![(3, 1); 5_000]))), []);
    }
}
