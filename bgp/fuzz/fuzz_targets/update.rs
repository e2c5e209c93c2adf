//! The body of an UPDATE, read as from an external and an internal peer, with AS numbers of both widths. What is understood
//! reads the same once more when it is written again.
#![no_main]

use bgp::Family;
use bgp::wire::{
    Attributes, Context, EXTENDED_MAX_MESSAGE, EvpnAnnouncement, EvpnMarks, Message, Outcome, PathAttribute, Update, decode,
    encode_announcement, encode_evpn_announcement, encode_evpn_withdrawal, encode_withdrawal, split_message,
};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

/// Octets of a header.
const HEADER: usize = 19;

fuzz_target!(|body: &[u8]| {
    let Ok(length) = u16::try_from(HEADER + body.len()) else {
        return;
    };
    let mut message = BytesMut::from(&[0xff; 16][..]);
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&[2]);
    message.extend_from_slice(body);
    let Ok(Some(message)) = split_message(&mut message, EXTENDED_MAX_MESSAGE) else {
        return;
    };
    for (ibgp, four_octet_as) in [(false, true), (true, true), (false, false)] {
        let context = Context {
            four_octet_as,
            ibgp,
            families: Family::ALL.to_vec(),
            ipv6_next_hop_for_ipv4: true,
            extended_messages: true,
        };
        let Some(update) = update(message.clone(), &context) else {
            continue;
        };
        for fault in &update.faults {
            let _ = fault.hex();
        }
        if !update.withdrawn.is_empty() {
            for family in Family::UNICAST {
                let of = |prefix: &&_| Family::of(prefix) == family;
                let prefixes: Vec<_> = update.withdrawn.iter().filter(of).copied().collect();
                let again = encode_withdrawal(&prefixes, &context).into_iter();
                let again: Vec<_> = again
                    .flat_map(|m| self::update(m, &context).expect("ours").withdrawn)
                    .collect();
                assert_eq!(again, prefixes);
            }
        }
        let again = encode_evpn_withdrawal(&update.evpn.withdrawn, &context).into_iter();
        let again: Vec<_> = again
            .flat_map(|m| self::update(m, &context).expect("ours").evpn.withdrawn)
            .collect();
        assert_eq!(again, update.evpn.withdrawn);
        // With AS numbers of two octets some of the path travels elsewhere.
        if update.outcome != Outcome::Clean || !four_octet_as {
            continue;
        }
        for announcement in &update.announced {
            let messages = encode_announcement(&announcement.attributes, &announcement.prefixes, &context);
            // Attributes of a whole message may leave no room for the form that is written.
            let Ok(messages) = messages else { continue };
            let again: Vec<_> = messages
                .into_iter()
                .flat_map(|m| self::update(m, &context).expect("ours").announced)
                .collect();
            let told = marked(&announcement.attributes);
            assert!(again.iter().all(|again| marked(&again.attributes) == told));
            let prefixes: Vec<_> = again.into_iter().flat_map(|again| again.prefixes).collect();
            assert_eq!(prefixes, announcement.prefixes);
        }
        for EvpnAnnouncement { attributes, routes } in &update.evpn.announced {
            let _ = EvpnMarks::of(attributes);
            let Ok(messages) = encode_evpn_announcement(attributes, routes, &context) else {
                continue;
            };
            let again: Vec<_> = messages
                .into_iter()
                .flat_map(|m| self::update(m, &context).expect("ours").evpn.announced)
                .collect();
            let told = marked(attributes);
            assert!(again.iter().all(|again| marked(&again.attributes) == told));
            let again: Vec<_> = again.into_iter().flat_map(|again| again.routes).collect();
            assert_eq!(&again, routes);
        }
    }
});

/// Attributes that are not known are marked as such when they are passed on (RFC 4271 section 5).
fn marked(attributes: &Attributes) -> Attributes {
    const PARTIAL: u8 = 0x20;
    let mut attributes = attributes.clone();
    for attribute in &mut attributes.other {
        if let PathAttribute::Unknown(raw) = attribute {
            raw.flags |= PARTIAL;
        }
    }
    attributes
}

fn update(message: Bytes, context: &Context) -> Option<Update> {
    match decode(message) {
        Ok(Message::Update(update)) => update.interpret(context).ok(),
        _ => None,
    }
}
