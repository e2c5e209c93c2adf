//! Fragments through NAT: each goes the way of its datagram's first one, whatever the order, and overlaps go nowhere.

use net::Drop;

use crate::frames::{Frame, Layer4, assert_frames, icmp_error, payload, source_port};
use crate::gateway::Gateway;
use crate::isolated;
use crate::nat::{answered, delivered, masqueraded, translated};
use crate::network::{FABRIC, FABRIC_MAC, PEER_MAC, POOL, TENANT, UPLINK, from_red};

/// The fragments of a datagram, cut at these offsets of its payload.
pub(crate) fn cut(whole: &Frame, at: &[usize]) -> Vec<Frame> {
    let segment = whole.packet()[20..].to_vec();
    let ends = at.iter().copied().chain([segment.len()]);
    let starts = [0].into_iter().chain(at.iter().copied());
    let piece = |(start, end): (usize, usize)| {
        whole.clone().with(|f| {
            f.layer4 = Layer4::Raw(17);
            f.fragment = ((start / 8) as u16, end != segment.len());
            f.payload = segment[start..end].to_vec();
        })
    };
    starts.zip(ends).map(piece).collect()
}

pub(crate) fn bytes(frames: &[Frame]) -> Vec<Vec<u8>> {
    frames.iter().map(Frame::bytes).collect()
}

fn datagram(identification: u16) -> Frame {
    from_red(Layer4::Udp(4000, 53)).with(|f| {
        f.identification = identification;
        f.payload = payload(2500);
    })
}

isolated! {
    fn fragments_are_translated_there_and_back_in_any_order() {
        let gateway = Gateway::start();
        let port = translated(&gateway, &from_red(Layer4::Udp(4000, 53)));
        for (n, order) in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]].into_iter().enumerate() {
            let sent = datagram(100 + n as u16);
            let (pieces, expected) = (cut(&sent, &[800, 1600]), cut(&masqueraded(&sent, port), &[800, 1600]));
            // What came before the first one leaves behind it, in the order in which it came.
            let first = order.iter().position(|piece| *piece == 0).unwrap_or(0);
            let leaves = std::iter::once(0).chain(order[..first].iter().copied()).chain(order[first + 1..].iter().copied());
            let leaves: Vec<_> = leaves.map(|piece| expected[piece].bytes()).collect();
            // One burst, and one by one.
            let outcome = gateway.exchange(UPLINK, order.map(|piece| pieces[piece].bytes()));
            assert_frames(&outcome.sent[FABRIC], &leaves, &format!("{order:?} at once"));
            assert_eq!((outcome.drops, outcome.held), (vec![], 0));
            let again = datagram(200 + n as u16);
            let (pieces, expected) = (cut(&again, &[800, 1600]), cut(&masqueraded(&again, port), &[800, 1600]));
            let mut sent = vec![];
            for piece in order {
                let mut outcome = gateway.exchange(UPLINK, [pieces[piece].bytes()]);
                assert_eq!(outcome.drops, []);
                sent.append(&mut outcome.sent[FABRIC]);
            }
            sent.sort();
            let mut expected = bytes(&expected);
            expected.sort();
            assert_frames(&sent, &expected, &format!("{order:?} one by one"));

            let answer = answered(&masqueraded(&datagram(300 + n as u16), port));
            let inside = delivered(&datagram(300 + n as u16));
            let (pieces, expected) = (cut(&answer, &[1200]), cut(&inside, &[1200]));
            let outcome = gateway.exchange(FABRIC, [pieces[1].bytes(), pieces[0].bytes()]);
            assert_frames(&outcome.sent[UPLINK], &bytes(&expected), "the answer");
        }
        assert_eq!(gateway.connections(0).len(), 1);
        gateway.assert_no_leak();
    }
}

isolated! {
    fn a_first_fragment_opens_a_connection_that_the_others_use() {
        let gateway = Gateway::start();
        let sent = datagram(9);
        let outcome = gateway.exchange(UPLINK, bytes(&cut(&sent, &[1200])));
        let port = source_port(&outcome.sent[FABRIC][0]);
        let expected = bytes(&cut(&masqueraded(&sent, port), &[1200]));
        assert_frames(&outcome.sent[FABRIC], &expected, "both");
        assert_eq!(gateway.connections(0).len(), 1);
    }
}

isolated! {
    fn overlapping_fragments_and_what_comes_after_them_are_dropped() {
        let gateway = Gateway::start();
        let sent = datagram(9);
        let pieces = cut(&sent, &[800, 1600]);
        let overlap = pieces[1].clone().with(|f| f.fragment.0 -= 1);
        let outcome = gateway.exchange(UPLINK, [pieces[0].bytes(), overlap.bytes(), pieces[1].bytes(), pieces[2].bytes()]);
        assert_eq!(outcome.sent[FABRIC].len(), 1, "the first one");
        assert_eq!(outcome.drops, [(Drop::NatFragment, 3)]);
        let copy = cut(&datagram(10), &[1200]);
        let outcome = gateway.exchange(UPLINK, [copy[0].bytes(), copy[0].bytes(), copy[1].bytes()]);
        assert_eq!((outcome.sent[FABRIC].len(), outcome.drops), (2, vec![(Drop::NatFragment, 1)]));
        gateway.assert_no_leak();
    }
}

isolated! {
    fn a_fragment_whose_first_one_never_comes_waits_and_is_then_dropped() {
        let gateway = Gateway::start();
        let later = cut(&datagram(9), &[800])[1].bytes();
        gateway.exchange(UPLINK, [later]);
        gateway.wait("the fragment to be given up", || {
            gateway.dataplane.counters()[0].dropped(Drop::NatFragment) == 1
        });
        gateway.assert_conservation();
        gateway.assert_no_leak();
    }
}

isolated! {
    fn fragments_that_another_worker_receives_reach_the_owner() {
        let gateway = Gateway::with_workers(2);
        let sent = from_red(Layer4::Udp(4000, 53));
        let out = gateway.exchange_on(UPLINK, 1, [sent.bytes()]);
        let port = source_port(out.only(FABRIC));
        let answer = cut(&answered(&masqueraded(&datagram(9), port)), &[800, 1600]);
        let expected = bytes(&cut(&delivered(&datagram(9)), &[800, 1600]));
        for queue in [1, 0] {
            let frames = answer.iter().map(|f| f.clone().with(|f| f.identification += queue as u16).bytes());
            let mut sent = gateway.exchange_on(FABRIC, queue, frames).sent[UPLINK].clone();
            sent.sort();
            let mut expected: Vec<_> = match queue {
                0 => expected.clone(),
                _ => bytes(&cut(&delivered(&datagram(10)), &[800, 1600])),
            };
            expected.sort();
            assert_frames(&sent, &expected, "the answer in pieces");
        }
        gateway.assert_no_leak();
    }
}

isolated! {
    fn an_error_made_inside_is_translated_whichever_worker_receives_it() {
        let gateway = Gateway::with_workers(2);
        let sent = from_red(Layer4::Udp(4000, 53));
        let out = gateway.exchange_on(UPLINK, 1, [sent.bytes()]);
        let port = source_port(out.only(FABRIC));
        let answer = answered(&masqueraded(&sent, port));
        let inside = delivered(&sent);
        gateway.exchange_on(FABRIC, 1, [answer.bytes()]).is_only(UPLINK, &inside.bytes(), "the answer");
        let error = icmp_error(&inside, TENANT, 3, 3, [0; 4]);
        let quoted = answer.with(|f| f.ttl = inside.ttl);
        let expected = icmp_error(&quoted, POOL, 3, 3, [0; 4]).hop(FABRIC_MAC, PEER_MAC);
        for queue in [0, 1] {
            let what = format!("queue {queue}");
            gateway.exchange_on(UPLINK, queue, [error.bytes()]).is_only(FABRIC, &expected.bytes(), &what);
        }
    }
}
