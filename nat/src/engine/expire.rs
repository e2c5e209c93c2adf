//! Timers: what was silent for too long ends.

use super::Engine;
use crate::entry::{ConnectionId, ConnectionState};
use crate::time::Millis;
use crate::verdict::EndReason;

impl Engine {
    /// Ends connections whose time has come, and tells each. Looks at `budget` connections at most; the rest waits for
    /// the next call. Precise to a second.
    pub fn expire(&mut self, now: Millis, budget: usize, on_end: &mut impl FnMut(ConnectionId, EndReason)) {
        let second = self.clock.tick(now).second();
        for _ in 0..budget {
            let Some(connection) = self.wheel.due(&mut self.connections.cold, second) else {
                break;
            };
            let deadline = self.deadline(connection).second_up();
            if deadline > second {
                self.wheel.arm(&mut self.connections.cold, connection, deadline);
                continue;
            }
            let id = self.connections.id(connection);
            let reason = if self.connections.cold[connection as usize].unrouted.is_some() {
                EndReason::Unrouted
            } else if self.connections.pair(connection)[0].state == ConnectionState::Closing {
                EndReason::Closed
            } else {
                EndReason::Idle
            };
            self.end_disarmed(connection, reason);
            on_end(id, reason);
        }
    }
}
