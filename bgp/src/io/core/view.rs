//! Answers to the owner's questions.

use std::sync::PoisonError;

use super::peers::{Handle, Origin};
use super::{Core, now};
use crate::io::deferral::Deferral;
use crate::policy::{PolicyQuestion, PolicyTest};
use crate::session::{Ending, State as SessionState};
use crate::{Error, NotificationView, PeerView, Role, State};

impl Core {
    pub(super) fn test_policy(&self, question: &PolicyQuestion) -> Result<PolicyTest, Error> {
        let Some(program) = self.config.policies.get(&question.policy) else {
            let known: Vec<&str> = self.config.policies.names().collect();
            return Err(Error::UnknownPolicy {
                name: question.policy.clone(),
                known: if known.is_empty() {
                    "none is configured".to_owned()
                } else {
                    format!("the policies are {}", known.join(", "))
                },
            });
        };
        let received = match question.received_from {
            None => None,
            Some(peer) => Some(
                self.rib
                    .received_route(peer, &question.prefix)
                    .ok_or(Error::NotReceived {
                        peer,
                        prefix: question.prefix,
                    })?,
            ),
        };
        Ok(question.answer(program, self.config.asn, received, self.rib.vrps()))
    }

    pub(super) fn state(&self) -> State {
        let (prefixes, paths, attribute_sets) = self.rib.sizes();
        State {
            local_as: self.config.asn,
            router_id: self.config.router_id,
            prefixes,
            paths,
            attribute_sets,
            update_groups: self.rib.groups().count(),
            dynamic_refused: self.dynamic_refused,
            unknown_refused: self.directory.refused(),
            awaited: self.deferral.iter().flat_map(Deferral::awaited).collect(),
            peers: self.peers.values().map(|handle| self.peer_view(handle)).collect(),
        }
    }

    fn peer_view(&self, handle: &Handle) -> PeerView {
        let status = handle
            .shared
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let config = &handle.config;
        let negotiated = status.negotiated.as_ref();
        let now = now();
        let established = status.state == SessionState::Established;
        let seconds = |at| now.saturating_duration_since(at).as_secs();
        PeerView {
            address: config.address,
            remote_as: config
                .remote_as
                .number()
                .or(negotiated.map(|negotiated| negotiated.asn)),
            unnumbered: match &handle.origin {
                Origin::Interface(interface) => Some(interface.clone()),
                Origin::Address | Origin::Range(_) => None,
            },
            router_id: negotiated.map(|negotiated| negotiated.router_id),
            dynamic: match handle.origin {
                Origin::Range(range) => Some(range),
                Origin::Address | Origin::Interface(_) => None,
            },
            description: config.description.clone(),
            state: status.state.to_string(),
            uptime: status.established_at.filter(|_| established).map(seconds),
            hold_time: negotiated.map_or(config.hold_time, |negotiated| {
                u16::try_from(negotiated.hold_time.as_secs()).unwrap_or(u16::MAX)
            }),
            role: config.role,
            remote_role: negotiated.and_then(|negotiated| match negotiated.capabilities.roles[..] {
                [role] => Role::from_value(role),
                _ => None,
            }),
            capabilities: negotiated
                .map(|negotiated| negotiated.capabilities.names())
                .unwrap_or_default(),
            families: self.counters(config.address),
            messages_in: status.statistics.messages_in,
            messages_out: status.statistics.messages_out,
            messages_received: status.statistics.received,
            messages_sent: status.statistics.sent,
            last_notification: status
                .statistics
                .last_notification
                .as_ref()
                .and_then(|(ending, at)| notification_view(ending, seconds(*at))),
            treated_as_withdraw: status.statistics.treated_as_withdraw,
            attributes_discarded: status.statistics.attributes_discarded,
            refreshes_in: status.statistics.refreshes_in,
            refreshes_out: status.statistics.refreshes_out,
            flaps: status.statistics.flaps,
            last_error: status.statistics.last_error,
            bfd: None,
        }
    }
}

fn notification_view(ending: &Ending, seconds_ago: u64) -> Option<NotificationView> {
    let (sent, notification) = match ending {
        Ending::Sent(notification) => (true, notification),
        Ending::Received(notification) => (false, notification),
        Ending::Closed => return None,
    };
    Some(NotificationView {
        sent,
        seconds_ago,
        code: notification.code,
        subcode: notification.subcode,
        meaning: notification.to_string(),
        data: notification.data.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}
