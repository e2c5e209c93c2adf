//! `rte_flow` of a port: rules checked, made and removed, by synchronous calls or by templates and queues.

mod queue;
mod shape;
mod template;

use std::num::NonZeroU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrayvec::ArrayVec;
use dpdk_sys::flow::{
    Action, Attr, FlowAge, FlowConfig, FlowCount, FlowError, FlowErrorKind, Item, TableAttr, TemplateAction,
};
use dpdk_sys::pmd::{Completions, FlowDriver, TemplateHandles};

use crate::fault::{Operation, Point, faults};
use crate::port::Wire;
use crate::rule::Rule;
use crate::switch::{Control, Switch};
use queue::{Entered, Queue, What};
use template::Templates;

/// Group of the one rule that leads to the others.
const ENTRANCE: u32 = 0;
/// Group of the rules that forward.
const RULES: u32 = 1;

/// The flow engine of one port.
pub(crate) struct FlowEngine {
    switch: Arc<Switch>,
    wire: Arc<Wire>,
    templates: Mutex<Templates>,
    queues: Mutex<Vec<Arc<Mutex<Queue>>>>,
}

impl FlowEngine {
    pub(crate) fn new(switch: Arc<Switch>, wire: Arc<Wire>) -> Self {
        Self {
            switch,
            wire,
            templates: Mutex::default(),
            queues: Mutex::default(),
        }
    }

    fn templates(&self) -> MutexGuard<'_, Templates> {
        self.templates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, index: u32) -> Result<Arc<Mutex<Queue>>, FlowError> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = usize::try_from(index).ok().and_then(|index| queues.get(index));
        queue
            .cloned()
            .ok_or_else(|| FlowError::new(FlowErrorKind::State, libc::EINVAL, "no such queue: configure more"))
    }

    /// The rule that items and actions describe.
    fn rule(&self, control: &Control, items: &[Item], actions: &[Action]) -> Result<Rule, FlowError> {
        let known = |port| control.has_port(port);
        shape::rule(items, actions, self.wire.id(), || self.switch.now(), known)
    }

    /// Carries out what was entered into a queue.
    fn carry_out(&self, queue: &mut Queue) {
        let mut control = self.switch.control();
        control.look_ahead(queue.entered.iter().filter_map(|operation| match &operation.what {
            What::Create { rule, .. } => Some(rule.hash),
            What::Destroy(handle) => control.hash_of(*handle),
        }));
        let due = match faults().delay_ms() {
            0 => 0,
            delay => u64::from(self.switch.now()) + delay,
        };
        while let Some(Entered { user_data, what }) = queue.entered.pop_front() {
            let done = match what {
                What::Create { handle, rule } => {
                    let used = rule.table_use.clone();
                    let done = match faults().check(Operation::Create, Point::Completion) {
                        Ok(()) => self.switch.insert(&mut control, handle, rule),
                        Err(error) => {
                            let _was_queued = self.switch.remove(&mut control, handle, self.wire.id());
                            Err(error)
                        }
                    };
                    if let (Err(_), Some(used)) = (&done, used) {
                        used.fetch_sub(1, Relaxed);
                    }
                    done
                }
                What::Destroy(handle) => match faults().check(Operation::Destroy, Point::Completion) {
                    Ok(()) => self.switch.remove(&mut control, handle, self.wire.id()),
                    Err(error) => {
                        control.forget(handle);
                        Err(error)
                    }
                },
            };
            if let Err(error) = &done {
                tracing::debug!(%error, user_data, "queued operation failed");
            }
            queue.finish(user_data, done.is_ok(), due);
        }
        control.publish();
    }
}

/// What a rule may be about: group and direction.
fn check_attr(attr: &Attr) -> Result<(), FlowError> {
    let refuse = |message: &'static str| Err(FlowError::new(FlowErrorKind::Attr, libc::ENOTSUP, message));
    if !attr.transfer || attr.ingress || attr.egress {
        return refuse("only transfer rules: they act for every port of the e-switch");
    }
    if attr.group > RULES {
        return refuse("only groups 0 and 1");
    }
    if attr.priority != 0 {
        return refuse("only priority 0: matches are exact");
    }
    Ok(())
}

impl FlowDriver for FlowEngine {
    fn validate(&self, attr: &Attr, items: &[Item], actions: &[Action]) -> Result<(), FlowError> {
        check_attr(attr)?;
        if attr.group == ENTRANCE {
            return shape::check_entrance(items, actions);
        }
        let control = self.switch.control();
        let rule = self.rule(&control, items, actions)?;
        control.check_absent(&rule)
    }

    fn create(&self, attr: &Attr, items: &[Item], actions: &[Action]) -> Result<NonZeroU64, FlowError> {
        check_attr(attr)?;
        if attr.group == ENTRANCE {
            shape::check_entrance(items, actions)?;
            return self.switch.open(self.wire.id());
        }
        let mut control = self.switch.control();
        let rule = self.rule(&control, items, actions)?;
        control.check_absent(&rule)?;
        faults().check_call(Operation::Create)?;
        let handle = self.switch.reserve(&mut control, self.wire.id())?;
        self.switch.insert(&mut control, handle, Arc::new(rule))?;
        control.publish();
        Ok(handle)
    }

    fn destroy(&self, flow: NonZeroU64) -> Result<(), FlowError> {
        let mut control = self.switch.control();
        control.check(flow, self.wire.id())?;
        if !control.is_entrance(flow) {
            faults().check_call(Operation::Destroy)?;
        }
        self.switch.remove(&mut control, flow, self.wire.id())?;
        control.publish();
        Ok(())
    }

    /// Removes every rule made through this port; what is queued is carried out before.
    fn flush(&self) -> Result<(), FlowError> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for queue in queues {
            self.carry_out(&mut queue.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let mut control = self.switch.control();
        self.switch.remove_rules_of(&mut control, self.wire.id());
        Ok(())
    }

    fn query_count(&self, flow: NonZeroU64, reset: bool) -> Result<FlowCount, FlowError> {
        let control = self.switch.control();
        let rule = control.rule(flow, self.wire.id())?;
        if !rule.counted {
            return Err(FlowError::new(
                FlowErrorKind::Action,
                libc::EINVAL,
                "the rule has no COUNT",
            ));
        }
        let (packets, bytes) = rule.count(reset);
        Ok(FlowCount {
            packets: Some(packets),
            bytes: Some(bytes),
        })
    }

    fn query_age(&self, flow: NonZeroU64) -> Result<FlowAge, FlowError> {
        let control = self.switch.control();
        let rule = control.rule(flow, self.wire.id())?;
        let age = rule.age.as_ref();
        let age = age.ok_or_else(|| FlowError::new(FlowErrorKind::Action, libc::EINVAL, "the rule has no AGE"))?;
        let now = self.switch.now();
        Ok(FlowAge {
            aged: age.is_aged(now),
            idle_seconds: Some(age.idle_seconds(now)),
        })
    }

    fn aged(&self, max: Option<usize>, contexts: &mut Vec<u64>) -> Result<usize, FlowError> {
        let now = self.switch.now();
        let control = self.switch.control();
        let mut ages = control.rules_of(self.wire.id()).filter_map(|rule| rule.age.as_ref());
        let Some(max) = max else {
            return Ok(ages.filter(|age| age.is_due(now)).count());
        };
        let before = contexts.len();
        while contexts.len() - before < max
            && let Some(age) = ages.next()
        {
            if age.report(now) {
                contexts.push(age.context);
            }
        }
        Ok(contexts.len() - before)
    }

    fn configure(&self, config: &FlowConfig) -> Result<(), FlowError> {
        if config.queue_size == 0 {
            return Err(FlowError::new(FlowErrorKind::State, libc::EINVAL, "queues of size 0"));
        }
        let queues = (0..config.queues).map(|_| Arc::new(Mutex::new(Queue::new(config.queue_size))));
        *self.queues.lock().unwrap_or_else(PoisonError::into_inner) = queues.collect();
        Ok(())
    }

    fn pattern_template_create(&self, attr: &Attr, items: &[Item]) -> Result<NonZeroU64, FlowError> {
        check_attr(attr)?;
        shape::check_pattern_template(items)?;
        Ok(self.templates().add_pattern(items))
    }

    fn pattern_template_destroy(&self, template: NonZeroU64) -> Result<(), FlowError> {
        self.templates().remove_pattern(template)
    }

    fn actions_template_create(&self, attr: &Attr, actions: &[TemplateAction]) -> Result<NonZeroU64, FlowError> {
        check_attr(attr)?;
        shape::check_actions_template(actions)?;
        Ok(self.templates().add_actions(actions))
    }

    fn actions_template_destroy(&self, template: NonZeroU64) -> Result<(), FlowError> {
        self.templates().remove_actions(template)
    }

    fn table_create(&self, attr: &TableAttr, templates: TemplateHandles<'_>) -> Result<NonZeroU64, FlowError> {
        check_attr(&attr.attr)?;
        if attr.attr.group != RULES {
            return Err(FlowError::new(
                FlowErrorKind::Attr,
                libc::ENOTSUP,
                "tables are of group 1",
            ));
        }
        let handle = self.templates().add_table(attr.rules, templates)?;
        self.switch.control().expect(attr.rules);
        Ok(handle)
    }

    fn table_destroy(&self, table: NonZeroU64) -> Result<(), FlowError> {
        self.templates().remove_table(table)
    }

    fn async_create(
        &self,
        queue: u32,
        postpone: bool,
        table: NonZeroU64,
        items: &[Item],
        pattern: u8,
        actions: &[Action],
        action: u8,
        user_data: u64,
    ) -> Result<NonZeroU64, FlowError> {
        let queue = self.queue(queue)?;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.check_room()?;
        let table = self.templates().table(table)?;
        let (mut whole_items, mut whole_actions) = (ArrayVec::new(), ArrayVec::new());
        table.items(pattern, items, &mut whole_items)?;
        table.actions(action, actions, &mut whole_actions)?;
        let mut control = self.switch.control();
        let mut rule = self.rule(&control, &whole_items, &whole_actions)?;
        faults().check(Operation::Create, Point::Call)?;
        rule.table_use = Some(table.take_place()?);
        let reserved = self.switch.reserve(&mut control, self.wire.id());
        drop(control);
        let handle = reserved.inspect_err(|_| table.give_place())?;
        queue.entered.push_back(Entered {
            user_data,
            what: What::Create {
                handle,
                rule: Arc::new(rule),
            },
        });
        if !postpone {
            self.carry_out(&mut queue);
        }
        Ok(handle)
    }

    fn async_destroy(&self, queue: u32, postpone: bool, flow: NonZeroU64, user_data: u64) -> Result<(), FlowError> {
        let queue = self.queue(queue)?;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.check_room()?;
        self.switch.control().check(flow, self.wire.id())?;
        faults().check(Operation::Destroy, Point::Call)?;
        queue.entered.push_back(Entered {
            user_data,
            what: What::Destroy(flow),
        });
        if !postpone {
            self.carry_out(&mut queue);
        }
        Ok(())
    }

    fn push(&self, queue: u32) -> Result<(), FlowError> {
        let queue = self.queue(queue)?;
        self.carry_out(&mut queue.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn pull(&self, queue: u32, out: &mut Completions<'_>) -> Result<(), FlowError> {
        let queue = self.queue(queue)?;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        while out.remaining() > 0
            && let Some(completion) = queue.next(|| self.switch.now().into())
        {
            out.push(completion);
        }
        Ok(())
    }
}
