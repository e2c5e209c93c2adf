//! How rules get into the NIC: by templates and a queue where the driver has them, else by synchronous calls.

use std::sync::Arc;

use dpdk_sys::StartedPort;
use dpdk_sys::flow::{
    Action, ActionsTemplate, Attr, Completion, DestroyError, Flow, FlowCount, FlowError, FlowErrorKind, FlowQueue,
    Item, Match, PatternTemplate, TableAttr, TemplateTable,
};

use super::rules::{OffloadDirection, action_templates, pattern_templates};

/// Rules live here; group 0 only leads to it.
const GROUP: u32 = 1;

/// The NIC's flow engine, as one thread uses it.
pub(super) struct Installer {
    port: Arc<StartedPort>,
    way: Way,
    /// Completions of synchronous calls, for `pull`.
    done: Vec<Completion>,
    /// The rule that leads from group 0 to ours; it goes with a flush.
    _entrance: Flow,
}

enum Way {
    Queue { queue: FlowQueue, table: TemplateTable },
    Calls,
}

impl Installer {
    /// Prepares the NIC for up to `rules` rules.
    pub(super) fn new(port: Arc<StartedPort>, queue: Option<FlowQueue>, rules: u32) -> Result<Self, FlowError> {
        let entrance = entrance(&port)?;
        let way = match queue.map(|queue| table(&port, rules).map(|table| Way::Queue { queue, table })) {
            Some(Ok(way)) => way,
            Some(Err(error)) if error.kind == FlowErrorKind::Unsupported => Way::Calls,
            Some(Err(error)) => return Err(error),
            None => Way::Calls,
        };
        Ok(Self {
            port,
            way,
            done: Vec::new(),
            _entrance: entrance,
        })
    }

    /// Enters a rule; its completion, with `token`, comes from [`Installer::pull`].
    pub(super) fn create(&mut self, rule: &OffloadDirection, token: u64) -> Result<Flow, FlowError> {
        match &mut self.way {
            Way::Queue { queue, table } => queue.create(
                table,
                &rule.items(),
                rule.pattern(),
                &rule.actions(),
                rule.action(),
                token,
            ),
            Way::Calls => {
                let flow = self
                    .port
                    .flow_create(&Attr::transfer(GROUP), &rule.items(), &rule.actions())?;
                self.done.push(Completion {
                    user_data: token,
                    ok: true,
                });
                Ok(flow)
            }
        }
    }

    /// Enters the end of a rule. Gives the rule back if the NIC does not take that.
    pub(super) fn destroy(&mut self, flow: Flow, token: u64) -> Result<(), DestroyError> {
        match &mut self.way {
            Way::Queue { queue, .. } => queue.destroy(flow, token),
            Way::Calls => {
                self.port.flow_destroy(flow)?;
                self.done.push(Completion {
                    user_data: token,
                    ok: true,
                });
                Ok(())
            }
        }
    }

    /// Hands what was entered to the NIC and appends what it has finished to `out`.
    pub(super) fn pull(&mut self, out: &mut Vec<Completion>) -> Result<(), FlowError> {
        match &mut self.way {
            Way::Queue { queue, .. } => {
                queue.push()?;
                while queue.pull(out)? > 0 {}
                Ok(())
            }
            Way::Calls => {
                out.append(&mut self.done);
                Ok(())
            }
        }
    }

    /// What a rule has forwarded since the last reset.
    pub(super) fn count(&self, flow: &Flow) -> FlowCount {
        // A counter that cannot be read now is read the next time.
        self.port.flow_query_count(flow, false).unwrap_or_default()
    }

    /// Takes every rule out.
    pub(super) fn flush(&self) -> Result<(), FlowError> {
        self.port.flow_flush()
    }

    /// The same, and then as after [`Installer::new`]. To be repeated if it fails.
    pub(super) fn start_over(&mut self) -> Result<(), FlowError> {
        self.port.flow_flush()?;
        self._entrance = entrance(&self.port)?;
        Ok(())
    }
}

fn entrance(port: &StartedPort) -> Result<Flow, FlowError> {
    port.flow_create(&Attr::transfer(0), &[Item::Eth(Match::any())], &[Action::Jump(GROUP)])
}

fn table(port: &StartedPort, rules: u32) -> Result<TemplateTable, FlowError> {
    let attr = Attr::transfer(GROUP);
    let patterns = pattern_templates()
        .iter()
        .map(|items| PatternTemplate::create(port, &attr, items))
        .collect::<Result<Vec<_>, _>>()?;
    let actions = action_templates()
        .iter()
        .map(|actions| ActionsTemplate::create(port, &attr, actions))
        .collect::<Result<Vec<_>, _>>()?;
    TemplateTable::create(port, &TableAttr { attr, rules }, &patterns, &actions)
}
