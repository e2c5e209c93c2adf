//! Templates of patterns and actions, and tables made of them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arrayvec::ArrayVec;
use dpdk_sys::flow::{Action, FlowError, FlowErrorKind, Item, MAX_ACTIONS, MAX_ITEMS, Match, TemplateAction};
use dpdk_sys::pmd::TemplateHandles;

/// By handle, which the driver gives out itself.
type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// Everything of a port that rules are made by, under one sequence of handles.
#[derive(Default)]
pub(super) struct Templates {
    last: u64,
    patterns: HashMap<NonZeroU64, Arc<[Item]>>,
    actions: HashMap<NonZeroU64, Arc<[TemplateAction]>>,
    tables: HashMap<NonZeroU64, Arc<FlowTable>>,
}

/// A template table. It keeps its templates when they are destroyed.
pub(super) struct FlowTable {
    rules: u32,
    used: Arc<AtomicU32>,
    patterns: Vec<Arc<[Item]>>,
    actions: Vec<Arc<[TemplateAction]>>,
}

impl Templates {
    fn handle(&mut self) -> NonZeroU64 {
        self.last += 1;
        NonZeroU64::MIN.saturating_add(self.last)
    }

    pub(super) fn add_pattern(&mut self, items: &[Item]) -> NonZeroU64 {
        let handle = self.handle();
        self.patterns.insert(handle, items.into());
        handle
    }

    pub(super) fn remove_pattern(&mut self, handle: NonZeroU64) -> Result<(), FlowError> {
        self.patterns.remove(&handle).map(|_| ()).ok_or_else(unknown_template)
    }

    pub(super) fn add_actions(&mut self, actions: &[TemplateAction]) -> NonZeroU64 {
        let handle = self.handle();
        self.actions.insert(handle, actions.into());
        handle
    }

    pub(super) fn remove_actions(&mut self, handle: NonZeroU64) -> Result<(), FlowError> {
        self.actions.remove(&handle).map(|_| ()).ok_or_else(unknown_template)
    }

    pub(super) fn add_table(&mut self, rules: u32, templates: TemplateHandles<'_>) -> Result<NonZeroU64, FlowError> {
        if rules == 0 {
            return Err(FlowError::new(
                FlowErrorKind::Attr,
                libc::EINVAL,
                "a table for no rules",
            ));
        }
        let patterns = templates
            .patterns
            .iter()
            .map(|handle| self.patterns.get(handle).cloned());
        let patterns = patterns.collect::<Option<_>>().ok_or_else(unknown_template)?;
        let actions = templates.actions.iter().map(|handle| self.actions.get(handle).cloned());
        let actions = actions.collect::<Option<_>>().ok_or_else(unknown_template)?;
        let handle = self.handle();
        let table = FlowTable {
            rules,
            used: Arc::default(),
            patterns,
            actions,
        };
        self.tables.insert(handle, Arc::new(table));
        Ok(handle)
    }

    pub(super) fn table(&self, handle: NonZeroU64) -> Result<Arc<FlowTable>, FlowError> {
        self.tables.get(&handle).cloned().ok_or_else(unknown_table)
    }

    pub(super) fn remove_table(&mut self, handle: NonZeroU64) -> Result<(), FlowError> {
        let table = self.tables.get(&handle).ok_or_else(unknown_table)?;
        if table.used.load(Relaxed) > 0 {
            let message = "the table has rules: destroy them first";
            return Err(FlowError::new(FlowErrorKind::State, libc::EBUSY, message));
        }
        self.tables.remove(&handle);
        Ok(())
    }
}

impl FlowTable {
    /// Takes room for one rule.
    pub(super) fn take_place(&self) -> Result<Arc<AtomicU32>, FlowError> {
        let room = |used: u32| (used < self.rules).then_some(used + 1);
        match self.used.fetch_update(Relaxed, Relaxed, room) {
            Ok(_) => Ok(self.used.clone()),
            Err(_) => Err(FlowError::full(format!("the table holds {} rules", self.rules))),
        }
    }

    /// Gives room back that no rule came to use.
    pub(super) fn give_place(&self) {
        self.used.fetch_sub(1, Relaxed);
    }

    /// Appends a rule's values with the masks of a pattern template.
    pub(super) fn items(
        &self,
        template: u8,
        items: &[Item],
        out: &mut ArrayVec<Item, MAX_ITEMS>,
    ) -> Result<(), FlowError> {
        let template = self.patterns.get(usize::from(template)).ok_or_else(unknown_template)?;
        if template.len() != items.len() {
            let message = "not as many items as the pattern template has";
            return Err(FlowError::new(FlowErrorKind::Item, libc::EINVAL, message));
        }
        for (mask, value) in template.iter().zip(items) {
            out.push(masked(mask, value)?);
        }
        Ok(())
    }

    /// Appends a rule's values, with those that an actions template fixes.
    pub(super) fn actions(
        &self,
        template: u8,
        actions: &[Action],
        out: &mut ArrayVec<Action, MAX_ACTIONS>,
    ) -> Result<(), FlowError> {
        let template = self.actions.get(usize::from(template)).ok_or_else(unknown_template)?;
        let same = |(of, action): (&TemplateAction, &Action)| {
            std::mem::discriminant(&of.action) == std::mem::discriminant(action)
        };
        if template.len() != actions.len() || !template.iter().zip(actions).all(same) {
            let message = "not the actions of the actions template";
            return Err(FlowError::new(FlowErrorKind::Action, libc::EINVAL, message));
        }
        let pick = |(of, action): (&TemplateAction, &Action)| if of.fixed { of.action } else { *action };
        out.extend(template.iter().zip(actions).map(pick));
        Ok(())
    }
}

/// The value of one item with the mask of the other.
fn masked(mask: &Item, value: &Item) -> Result<Item, FlowError> {
    macro_rules! both {
        ($($kind:ident)+) => {
            match (mask, value) {
                $((Item::$kind(mask), Item::$kind(value)) => Ok(Item::$kind(Match::new(value.spec, mask.mask))),)+
                (Item::RepresentedPort(_), Item::RepresentedPort(_)) => Ok(*value),
                _ => Err(FlowError::new(
                    FlowErrorKind::Item,
                    libc::EINVAL,
                    format!("{} where the pattern template has {}", value.name(), mask.name()),
                )),
            }
        };
    }
    both!(Eth Vlan Ipv4 Tcp Udp Vxlan)
}

fn unknown_template() -> FlowError {
    FlowError::handle("no such template")
}

fn unknown_table() -> FlowError {
    FlowError::handle("no such table")
}
