//! The timer wheel: a list of connections for each second, over the next two hours and a quarter.
//!
//! A packet only notes when it came; the list that a connection is in says when to look at it next, not when it ends.
//! A connection whose time is beyond the wheel, or was extended, is looked at and armed again.

use crate::connections::{Cold, NONE};

/// Seconds on the wheel: longer than the established TCP timer, so that a full turn is rare.
const SLOTS: u32 = 8192;

/// Lists of connections by the second at which to look at them. The links are in the connections themselves.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Box<[u32]>,
    /// The first second whose list may hold something.
    cursor: u32,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            heads: vec![NONE; SLOTS as usize].into(),
            cursor: 0,
        }
    }

    /// Looks at `connection` at `second`, or as late as the wheel reaches.
    pub(crate) fn arm(&mut self, cold: &mut [Cold], connection: u32, second: u32) {
        let second = second.clamp(self.cursor, self.cursor.saturating_add(SLOTS - 1));
        let head = &mut self.heads[(second % SLOTS) as usize];
        let next = std::mem::replace(head, connection);
        let this = &mut cold[connection as usize];
        (this.next, this.previous, this.second) = (next, NONE, second);
        if next != NONE {
            cold[next as usize].previous = connection;
        }
    }

    /// Takes `connection` off the wheel.
    pub(crate) fn disarm(&mut self, cold: &mut [Cold], connection: u32) {
        let Cold {
            next, previous, second, ..
        } = cold[connection as usize];
        if previous == NONE {
            self.heads[(second % SLOTS) as usize] = next;
        } else {
            cold[previous as usize].next = next;
        }
        if next != NONE {
            cold[next as usize].previous = previous;
        }
    }

    /// Takes the next connection to look at off the wheel; `None` when nothing is due at `second`.
    pub(crate) fn due(&mut self, cold: &mut [Cold], second: u32) -> Option<u32> {
        // After a gap of more than a turn, one turn reaches every list.
        self.cursor = self.cursor.max((second + 1).saturating_sub(SLOTS));
        while self.cursor <= second {
            let connection = self.heads[(self.cursor % SLOTS) as usize];
            if connection != NONE {
                self.disarm(cold, connection);
                return Some(connection);
            }
            self.cursor += 1;
        }
        None
    }

    /// Connections on the wheel, by walking every list. For checks, not for packets.
    #[cfg(test)]
    pub(crate) fn armed(&self, cold: &[Cold]) -> usize {
        let next = |connection: u32| Some(cold[connection as usize].next).filter(|next| *next != NONE);
        let list = |head: &u32| std::iter::successors(Some(*head).filter(|h| *h != NONE), |c| next(*c)).count();
        self.heads.iter().map(list).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(wheel: &mut Wheel, cold: &mut [Cold], second: u32) -> Vec<u32> {
        let mut due: Vec<u32> = std::iter::from_fn(|| wheel.due(cold, second)).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn each_is_due_at_its_second_and_once() {
        let mut cold = vec![Cold::default(); 6];
        let mut wheel = Wheel::new();
        for (connection, second) in [5, 5, 5, 9, 0, SLOTS + 100].into_iter().enumerate() {
            wheel.arm(&mut cold, connection as u32, second);
        }
        wheel.disarm(&mut cold, 1);
        assert_eq!(drain(&mut wheel, &mut cold, 4), [4]);
        assert_eq!(drain(&mut wheel, &mut cold, 5), [0, 2]);
        assert_eq!(drain(&mut wheel, &mut cold, 5), []);
        assert_eq!(drain(&mut wheel, &mut cold, SLOTS - 2), [3]);
        assert_eq!(
            drain(&mut wheel, &mut cold, SLOTS - 1),
            [5],
            "as far as the wheel reached"
        );
        assert_eq!(wheel.armed(&cold), 0);
    }

    #[test]
    fn a_jump_of_years_finds_everything() {
        let mut cold = vec![Cold::default(); 100];
        let mut wheel = Wheel::new();
        (0..100).for_each(|n| wheel.arm(&mut cold, n, n * 80));
        assert_eq!(drain(&mut wheel, &mut cold, u32::MAX / 10).len(), 100);
        wheel.arm(&mut cold, 0, 0);
        assert_eq!(
            drain(&mut wheel, &mut cold, u32::MAX / 10 + 1),
            [0],
            "a time in the past is due at once"
        );
    }
}
