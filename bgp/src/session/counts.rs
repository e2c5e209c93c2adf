//! Messages of a session, counted by type.

use serde::{Deserialize, Serialize};

use crate::wire::Message;

/// Where the type of a message is (RFC 4271 section 4.1).
const TYPE_AT: usize = 18;

/// Counts of messages by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MessageCounts {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

impl MessageCounts {
    /// Counts a message that was received.
    pub(super) const fn received(&mut self, message: &Message) {
        *match message {
            Message::Open(_) => &mut self.open,
            Message::Update(_) => &mut self.update,
            Message::Notification(_) => &mut self.notification,
            Message::Keepalive => &mut self.keepalive,
            Message::RouteRefresh(..) => &mut self.route_refresh,
        } += 1;
    }

    /// Counts a message of ours, as it is written.
    pub(super) fn sent(&mut self, message: &[u8]) {
        let counter = match message.get(TYPE_AT) {
            Some(1) => &mut self.open,
            Some(2) => &mut self.update,
            Some(3) => &mut self.notification,
            Some(4) => &mut self.keepalive,
            Some(5) => &mut self.route_refresh,
            _ => return,
        };
        *counter += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;
    use crate::wire::{self, Notification};

    #[test]
    fn both_ways_count_alike() {
        let messages = [
            Notification::new(6, 2).encode(),
            wire::encode_keepalive(),
            wire::encode_keepalive(),
            wire::encode_route_refresh(Family::Ipv4Unicast, wire::Refresh::Request),
        ];
        let (mut sent, mut received) = (MessageCounts::default(), MessageCounts::default());
        for message in messages {
            sent.sent(&message);
            received.received(&wire::decode(message).expect("ours"));
        }
        assert_eq!(sent, received);
        let counted = (
            sent.notification,
            sent.keepalive,
            sent.route_refresh,
            sent.open,
            sent.update,
        );
        assert_eq!(counted, (1, 2, 1, 0, 0));
    }
}
