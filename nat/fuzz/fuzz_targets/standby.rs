//! Bytes of anybody to both ends of the standby protocol, before and inside of a stream, with lost connections and time
//! between. Checksums are made right where a message has one, so that what is behind them is reached. Nothing may panic,
//! nothing beyond the room is kept, and what is kept can be offered to an engine.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use nat::standby::{Receiver, Sender};
use nat::{Engine, EngineConfig, Millis, Policy, PolicySpec, Resolution, Resolver};
use net::{Drop, Generation, VrfId};

const ROOM: u32 = 64;

struct Nowhere;

impl Resolver for Nowhere {
    fn generation(&self) -> Generation {
        Generation(1)
    }

    fn resolve(&self, _: VrfId, _: u32, _: u32) -> Result<Resolution, Drop> {
        Err(Drop::NoRoute)
    }

    fn resolve_v6(&self, _: VrfId, _: u128, _: u32) -> Result<Resolution, Drop> {
        Err(Drop::NoRoute)
    }
}

/// What a real end says first.
fn hello(receives: bool) -> Vec<u8> {
    if receives {
        let mut receiver = Receiver::new(ROOM);
        receiver.connect(Millis(1));
        receiver.output(Millis(1)).to_vec()
    } else {
        Sender::new(7, 1, Millis(1)).output(Millis(1)).to_vec()
    }
}

/// A message with these contents: its length before it, and the checksum of `snapshot.rs` behind it.
fn sealed(content: &[u8]) -> Vec<u8> {
    let words = content.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_be_bytes(word)
    });
    let sum = words.fold(0xcbf2_9ce4_8422_2325 ^ content.len() as u64, |sum: u64, word| {
        (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    });
    let length = content.len() as u32 + 8;
    [&length.to_be_bytes(), content, &sum.to_be_bytes()].concat()
}

fuzz_target!(|data: &[u8]| {
    let mut receiver = Receiver::new(ROOM);
    receiver.connect(Millis(1));
    let mut sender = Sender::new(7, 1, Millis(1));
    let mut now = Millis(1);
    // Each message: what to do, a length, and contents.
    let mut rest = data;
    while let [action, length, tail @ ..] = rest {
        let (content, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        now.0 += u64::from(action >> 4) * 100;
        let mut bytes = match action & 3 {
            0 => hello(action & 4 != 0),
            1 => content.to_vec(),
            _ => sealed(content),
        };
        if action & 8 != 0 {
            bytes.truncate(content.first().map_or(0, |cut| usize::from(*cut)));
        }
        if receiver.receive(&bytes, now).is_err() || receiver.timeout(now).is_err() {
            receiver.disconnect();
            receiver.connect(now);
        }
        if sender.receive(&bytes, now).is_err() || sender.timeout(now).is_err() {
            sender = Sender::new(7, 1, now);
        }
        let written = receiver.output(now).len();
        receiver.wrote(written / 2);
        let written = sender.output(now).len();
        sender.wrote(written / 2);
        assert!(receiver.kept().count() <= 2 * ROOM as usize);
    }
    let policy = Arc::new(Policy::compile(PolicySpec::default()).expect("an empty policy"));
    let config = EngineConfig {
        capacity: 8,
        worker: 0,
        workers: 1,
        seed: 1,
    };
    let mut engine = Engine::new(config, policy).expect("a small engine");
    for (_, connection) in receiver.take() {
        let _ = engine.take_over(&connection, 0, &Nowhere);
    }
});
