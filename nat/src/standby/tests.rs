//! Messages as bytes, and what each end does with those that do not belong there.

use super::wire::{Hello, Inbox, Message, Role};
use super::{News, Place, Receiver, Sender, StandbyError};
use crate::snapshot::{Pooled, SavedConnection};
use crate::{ConnectionState, FlowKey, Millis};

const NOW: Millis = Millis(1);
const HELLO: Hello = Hello {
    role: Role::Sends,
    limit: 9,
};

fn connection() -> SavedConnection {
    let key = FlowKey::v4(net::VrfId(1), 6, 1, 2, 3, 4);
    SavedConnection {
        keys: [key, key.reversed()],
        pooled: Pooled::Own,
        state: ConnectionState::Established,
        fins: 1,
        sequences: [5, 6],
        flow_hash: 7,
        idle: 8,
        packets: [9, 10],
        bytes: [11, 12],
    }
}

fn all() -> Vec<Message> {
    let place = Place {
        worker: 3,
        slot: 70_000,
    };
    let news = vec![News::Is(place, connection()), News::Gone(place)];
    vec![
        Message::Hello(HELLO),
        Message::Begin { stream: 5 },
        Message::Batch {
            stream: 5,
            first: 1,
            news,
        },
        Message::Whole { stream: 5, changes: 2 },
        Message::Ack { stream: 5, changes: 2 },
        Message::Alive,
    ]
}

fn bytes(messages: &[Message]) -> Vec<u8> {
    let mut bytes = vec![];
    messages.iter().for_each(|message| message.write(&mut bytes));
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<Message>, StandbyError> {
    let mut inbox = Inbox::default();
    let mut found = vec![];
    for byte in bytes {
        inbox.push(&[*byte]);
        while let Some(message) = inbox.next()? {
            found.push(message);
        }
    }
    Ok(found)
}

#[test]
fn every_message_comes_back_from_its_bytes_whatever_the_pieces() {
    assert_eq!(read(&bytes(&all())), Ok(all()));
}

#[test]
fn every_changed_byte_is_noticed() {
    for message in all() {
        let good = bytes(&[message]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // A length that has grown waits for more, and finds another checksum then.
            bad.extend([0; 1 << 16]);
            assert!(read(&bad).is_err(), "byte {at}");
        }
    }
}

/// A message with these contents and a right checksum.
fn sealed(content: &[u8]) -> Vec<u8> {
    let mut bytes = ((content.len() + 8) as u32).to_be_bytes().to_vec();
    bytes.extend(content);
    bytes.extend(crate::snapshot::checksum(content).to_be_bytes());
    bytes
}

#[test]
fn what_is_sealed_and_wrong_is_told_apart() {
    let hello = bytes(&[Message::Hello(HELLO)]);
    let content = &hello[4..hello.len() - 8];
    let with = |at: usize, value: u8| {
        let mut content = content.to_vec();
        content[at] = value;
        read(&sealed(&content))
    };
    assert_eq!(with(1, b'T'), Err(StandbyError::Stranger));
    assert_eq!(with(10, 2), Err(StandbyError::Version { ours: 1, theirs: 2 }));
    assert!(matches!(with(12, 99), Err(StandbyError::Records { theirs: 99, .. })));
    assert!(matches!(with(14, 99), Err(StandbyError::Records { .. })));
    assert_eq!(with(15, 3), Err(StandbyError::Malformed("hello")));
    assert_eq!(read(&sealed(&[9])), Err(StandbyError::Kind(9)));
    assert_eq!(read(&sealed(&[6, 0])), Err(StandbyError::Malformed("alive")));
    assert_eq!(read(&sealed(&[2, 0])), Err(StandbyError::Malformed("begin")));
    let mut batch = vec![3];
    batch.extend([0; 16]);
    batch.extend([0xff, 0xff]);
    assert_eq!(read(&sealed(&batch)), Err(StandbyError::Malformed("batch")));
    assert_eq!(read(&[0; 4]), Err(StandbyError::Length(0)));
    assert!(matches!(read(b"GET / HTTP/1.1\r\n"), Err(StandbyError::Length(_))));
}

fn receiver(messages: &[Message]) -> (Receiver, Result<(), StandbyError>) {
    let mut receiver = Receiver::new(1);
    receiver.connect(NOW);
    let result = receiver.receive(&bytes(messages), NOW);
    (receiver, result)
}

#[test]
fn a_receiver_takes_messages_in_their_order_alone() {
    let [hello, begin, batch, whole, ack, alive] = &all()[..] else {
        panic!("six messages")
    };
    let of = |messages: &[&Message]| receiver(&messages.iter().map(|m| (*m).clone()).collect::<Vec<_>>()).1;
    assert_eq!(of(&[hello, begin, batch, alive, whole, alive]), Ok(()));
    for (messages, unexpected) in [
        (vec![begin], "begin"),
        (vec![alive], "alive"),
        (vec![hello, hello], "hello"),
        (vec![hello, batch], "batch"),
        (vec![hello, whole], "whole"),
        (vec![hello, ack], "ack"),
        (vec![hello, begin, begin], "begin"),
        (vec![hello, begin, batch, whole, whole], "whole"),
    ] {
        assert_eq!(of(&messages), Err(StandbyError::Unexpected(unexpected)));
    }
    let twice = StandbyError::Sequence { expected: 3, found: 1 };
    assert_eq!(of(&[hello, begin, batch, batch]), Err(twice));
    let missing = StandbyError::Sequence { expected: 0, found: 2 };
    assert_eq!(of(&[hello, begin, whole]), Err(missing));
    let other = Message::Begin { stream: 6 };
    let mixed = StandbyError::Stream { expected: 6, found: 5 };
    assert_eq!(of(&[hello, &other, batch]), Err(mixed));
    let same = Message::Hello(Hello {
        role: Role::Receives,
        ..HELLO
    });
    assert_eq!(of(&[&same]), Err(StandbyError::Role("receives")));
}

#[test]
fn a_receiver_keeps_as_many_as_it_has_room_for_and_counts_the_others() {
    let place = |slot| Place { worker: 0, slot };
    let news = (0..5).map(|slot| News::Is(place(slot), connection())).collect();
    let batch = Message::Batch {
        stream: 5,
        first: 1,
        news,
    };
    let (receiver, result) = receiver(&[Message::Hello(HELLO), Message::Begin { stream: 5 }, batch]);
    assert_eq!(result, Ok(()));
    assert_eq!(
        (receiver.connections(), receiver.refused(), receiver.applied()),
        (1, 4, 5)
    );
}

#[test]
fn a_sender_believes_no_acknowledgement_of_what_it_did_not_send() {
    let mut sender = Sender::new(5, 1, NOW);
    let hello = Message::Hello(Hello {
        role: Role::Receives,
        limit: 9,
    });
    let ack = Message::Ack { stream: 5, changes: 1 };
    let early = sender.receive(&bytes(std::slice::from_ref(&ack)), NOW);
    assert_eq!(early, Err(StandbyError::Unexpected("ack")));
    assert_eq!(sender.receive(&bytes(&[hello]), NOW), Ok(()));
    assert_eq!(sender.progress().limit, 9);
    let unsent = StandbyError::Acknowledged {
        acknowledged: 1,
        sent: 0,
    };
    assert_eq!(sender.receive(&bytes(&[ack]), NOW), Err(unsent));
    let other = Message::Ack { stream: 4, changes: 0 };
    let mixed = StandbyError::Stream { expected: 5, found: 4 };
    assert_eq!(sender.receive(&bytes(&[other]), NOW), Err(mixed));
    let same = sender.receive(&bytes(&[Message::Hello(HELLO)]), NOW);
    assert_eq!(same, Err(StandbyError::Unexpected("hello")));
}
