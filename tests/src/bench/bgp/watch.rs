//! Receivers: one that knows of every prefix what it was told last, and ones that only count.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::session::Receiver;
use super::table::Table;
use super::{asn, codec};

/// What a receiver has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// Of every prefix it was last told the better path.
    Converged(Instant),
    /// It has been told that no prefix is there any more.
    Empty(Instant),
    /// It was told the probe of this number.
    Probe(u32, Instant),
}

/// First octet of the prefixes of probes; no prefix of a table has it.
pub const PROBES: u8 = 198;

/// Watches until the session ends; returns why it did.
pub fn watch(mut receiver: Receiver, table: &Arc<Table>, sightings: &Sender<Sighting>) -> String {
    let mut state = Watch::new(table);
    loop {
        let received = receiver.receive(|kind, body| {
            if kind == codec::UPDATE {
                state.update(body, |sighting| {
                    // The run that nobody waits for any more is over.
                    let _ = sightings.send(sighting);
                });
            }
        });
        if let Err(why) = received {
            return why;
        }
    }
}

struct Watch<'a> {
    table: &'a Table,
    /// AS that the route was learned from, of each prefix; 0 if there is none.
    told: Vec<u16>,
    present: usize,
    right: usize,
}

impl<'a> Watch<'a> {
    fn new(table: &'a Table) -> Self {
        Self {
            table,
            told: vec![0; table.prefixes.len()],
            present: 0,
            right: 0,
        }
    }

    fn update(&mut self, body: &[u8], mut report: impl FnMut(Sighting)) {
        let Some(update) = codec::parse(body) else { return };
        let (right, present) = (self.right, self.present);
        for (v4, field) in [(true, update.withdrawn), (false, update.withdrawn_v6)] {
            for (length, octets) in codec::prefixes(field) {
                self.set(v4, length, octets, 0);
            }
        }
        let from = update.learned_from.and_then(|asn| u16::try_from(asn).ok()).unwrap_or(0);
        for (v4, field) in [(true, update.announced), (false, update.announced_v6)] {
            for (length, octets) in codec::prefixes(field) {
                if v4 && octets.first() == Some(&PROBES) {
                    report(Sighting::Probe(probe_number(octets), Instant::now()));
                } else {
                    self.set(v4, length, octets, from);
                }
            }
        }
        if self.right == self.table.prefixes.len() && right != self.right {
            report(Sighting::Converged(Instant::now()));
        }
        if self.present == 0 && present != 0 {
            report(Sighting::Empty(Instant::now()));
        }
    }

    fn set(&mut self, v4: bool, length: u8, octets: &[u8], from: u16) {
        let Some(at) = self.table.index.get(&codec::key(v4, length, octets)) else {
            return;
        };
        let at = *at as usize;
        let before = std::mem::replace(&mut self.told[at], from);
        let winner = self.table.winner[at];
        self.right = self.right + usize::from(from == winner) - usize::from(before == winner);
        self.present = self.present + usize::from(from != 0) - usize::from(before != 0);
    }
}

fn probe_number(octets: &[u8]) -> u32 {
    let octet = |at: usize| octets.get(at).copied().map_or(0, u32::from);
    octet(1) << 16 | octet(2) << 8 | octet(3)
}

/// Counts announced prefixes until there are `wanted`; returns when that was.
///
/// # Errors
/// If the session ends before.
pub fn count(receiver: &mut Receiver, wanted: usize) -> Result<Instant, String> {
    let mut seen = 0;
    while seen < wanted {
        receiver.receive(|kind, body| {
            if let Some(update) = (kind == codec::UPDATE).then(|| codec::parse(body)).flatten() {
                seen += codec::prefixes(update.announced).count() + codec::prefixes(update.announced_v6).count();
            }
        })?;
    }
    Ok(Instant::now())
}

/// Reads what feed `peer` sends, as [`watch`] does, until it was told all; returns when that was.
///
/// # Errors
/// If the session ends before.
pub fn sink(receiver: &mut Receiver, table: &Table, peer: u16) -> Result<Instant, String> {
    let mut state = Watch::new(table);
    let mut told = 0;
    while told < table.prefixes.len() {
        receiver.receive(|kind, body| {
            let Some(update) = (kind == codec::UPDATE).then(|| codec::parse(body)).flatten() else {
                return;
            };
            for (v4, field) in [(true, update.announced), (false, update.announced_v6)] {
                for (length, octets) in codec::prefixes(field) {
                    state.set(v4, length, octets, asn(peer));
                    told += 1;
                }
            }
        })?;
    }
    Ok(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::super::table::single;
    use super::*;

    #[test]
    fn convergence_is_the_better_path_of_every_prefix() {
        let table = Table::new(300, 60);
        let mut watch = Watch::new(&table);
        let mut seen = Vec::new();
        // A program under test has its own AS in front.
        for feed in &table.feeds {
            let mut rest = &feed.bytes[..];
            while !rest.is_empty() {
                let (message, later) = rest.split_at(usize::from(u16::from_be_bytes([rest[16], rest[17]])));
                let update = codec::parse(&message[codec::HEADER..]).expect("an UPDATE");
                for (v4, field) in [(true, update.announced), (false, update.announced_v6)] {
                    for (length, octets) in codec::prefixes(field) {
                        let from = table.winner[table.index[&codec::key(v4, length, octets)] as usize];
                        watch.set(v4, length, octets, from);
                    }
                }
                rest = later;
            }
        }
        assert_eq!((watch.right, watch.present), (360, 360));
        let mut rest = &table.withdrawals[..];
        while !rest.is_empty() {
            let (message, later) = rest.split_at(usize::from(u16::from_be_bytes([rest[16], rest[17]])));
            watch.update(&message[codec::HEADER..], |sighting| seen.push(sighting));
            rest = later;
        }
        assert!(matches!(seen[..], [Sighting::Empty(_)]), "{seen:?}");
        let probe = single(2, &"198.18.1.2/32".parse().expect("prefix"));
        watch.update(&probe[codec::HEADER..], |sighting| seen.push(sighting));
        assert!(matches!(seen[1], Sighting::Probe(0x12_0102, _)), "{seen:?}");
    }
}
