//! A path of the underlay that is too narrow for the gateway's VXLAN packets: the tenant's peer is told.

use crate::frames::{Frame, Layer4, assert_frames, icmp_error, payload, source_port};
use crate::gateway::Gateway;
use crate::isolated;
use crate::nat::{answered, masqueraded};
use crate::network::{FABRIC, FABRIC_MAC, OUR_VTEP, PEER_MAC, POOL, from_blue, tunnel_in};

/// A router of the underlay that quotes so many octets of a packet, and says which size it takes.
fn narrow(quoted: &[u8], octets: usize, mtu: u16) -> Frame {
    let [high, low] = mtu.to_be_bytes();
    let vtep = OUR_VTEP.to_string();
    Frame::new(
        (PEER_MAC, FABRIC_MAC),
        "198.18.5.5",
        &vtep,
        Layer4::Icmp(3, 4, [0, 0, high, low]),
    )
    .with(|f| f.payload = quoted[..octets].to_vec())
}

isolated! {
    fn a_peer_learns_the_mtu_of_the_tunnel_less_its_headers() {
        let gateway = Gateway::start();
        let sent = from_blue(Layer4::Udp(4000, 53));
        let outcome = gateway.exchange(FABRIC, [tunnel_in().around(&sent.bytes())]);
        let port = source_port(outcome.only(FABRIC));
        let answer = answered(&masqueraded(&sent, port)).with(|f| {
            f.payload = payload(1300);
            f.dont_fragment = true;
        });
        let outcome = gateway.exchange(FABRIC, [answer.bytes()]);
        let tunnelled = outcome.only(FABRIC)[14..].to_vec();

        let outcome = gateway.exchange(FABRIC, [narrow(&tunnelled, 548, 1400).bytes()]);
        let about = answer.clone().with(|f| f.ttl -= 1);
        let expected = icmp_error(&about, POOL, 3, 4, [0, 0, 0x05, 0x46]).hop(FABRIC_MAC, PEER_MAC);
        let expected = expected.with(|f| f.payload.truncate(548 - 50));
        assert_frames(&outcome.sent[FABRIC], &[expected.bytes()], "1400 less 50");
        assert_eq!((outcome.drops, outcome.punted, outcome.generated), (vec![], 1, 1));

        // What does not name a tenant's packet, or a size that no tenant could use, is the host's to read alone.
        let mut strange = tunnelled.clone();
        strange[12] ^= 1;
        for message in [narrow(&tunnelled, 28, 1400), narrow(&tunnelled, 548, 100), narrow(&strange, 548, 1400)] {
            let outcome = gateway.exchange(FABRIC, [message.bytes()]);
            assert_eq!((outcome.sent[FABRIC].len(), outcome.punted, outcome.generated), (0, 1, 0));
        }
        gateway.assert_no_leak();
    }
}
