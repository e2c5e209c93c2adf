//! Rewrites against an independent library, and keys against each other.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::forward::rewrite_packet;

type Ends = ([u8; 4], [u8; 4], u16, u16);

fn packet((src, dst, source_port, destination_port): Ends, ttl: u8, tcp: bool, payload: &[u8]) -> Vec<u8> {
    let ip = PacketBuilder::ipv4(src, dst, ttl);
    let mut out = Vec::new();
    if tcp {
        let tcp = ip.tcp(source_port, destination_port, 7, 512);
        tcp.write(&mut out, payload).expect("written");
    } else {
        let udp = ip.udp(source_port, destination_port);
        udp.write(&mut out, payload).expect("written");
    }
    out
}

fn describe(from: Ends, to: Ends, tcp: bool) -> (Vec<Item>, Vec<Action>) {
    let mask = Ipv4 {
        version_ihl: 0xff,
        fragment: 0xbfff,
        protocol: 0xff,
        src: Ipv4Addr::BROADCAST,
        dst: Ipv4Addr::BROADCAST,
        ..Ipv4::default()
    };
    let ip = Ipv4 {
        version_ihl: 0x45,
        protocol: if tcp { protocol::TCP } else { protocol::UDP },
        src: from.0.into(),
        dst: from.1.into(),
        ..Ipv4::default()
    };
    let (src, dst) = (from.2, from.3);
    let (all, flags) = (u16::MAX, tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST);
    let layer4 = if tcp {
        Item::Tcp(Match::new(
            Tcp { src, dst, flags: 0 },
            Tcp {
                src: all,
                dst: all,
                flags,
            },
        ))
    } else {
        Item::Udp(Match::new(Udp { src, dst }, Udp { src: all, dst: all }))
    };
    let actions = vec![
        Action::SetIpv4Src(to.0.into()),
        Action::SetIpv4Dst(to.1.into()),
        Action::SetTpSrc(to.2),
        Action::SetTpDst(to.3),
        Action::DecTtl,
        Action::SetMacDst([2; 6]),
        Action::SetMacSrc([4; 6]),
        Action::RepresentedPort(PortId(0)),
    ];
    (
        vec![Item::Eth(Match::any()), Item::Ipv4(Match::new(ip, mask)), layer4],
        actions,
    )
}

proptest! {
    #[test]
    fn a_rewritten_packet_is_the_one_made_afresh(
        from: Ends, to: Ends, ttl in 2_u8.., tcp: bool, payload in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let (items, actions) = describe(from, to, tcp);
        let rule = rule(&items, &actions, 0, || 0, |_| true).expect("a rule");
        let Fate::Forward(rewrite) = &rule.fate else { panic!("forwards") };
        let mut bytes = packet(from, ttl, tcp, &payload);
        rewrite_packet(&mut bytes, if tcp { protocol::TCP } else { protocol::UDP }, rewrite);
        prop_assert_eq!(bytes, packet(to, ttl - 1, tcp, &payload));
    }

    #[test]
    fn keys_differ_where_patterns_do(from: Ends, other: Ends, tcp: bool) {
        let key = |ends: Ends| pattern(&describe(ends, ends, tcp).0, true).map(|p| Key::new(p.framing, p.flow));
        prop_assert_eq!(key(from) == key(other), from == other);
        let flow = pattern(&describe(from, from, tcp).0, true).expect("pattern").flow;
        let framings = [
            Framing::Untagged,
            Framing::Vlan { id: 1, mac: [2, 0, 0, 0, 0, 1] },
            Framing::Vlan { id: 2, mac: [2, 0, 0, 0, 0, 1] },
            Framing::Vlan { id: 1, mac: [2, 0, 0, 0, 0, 2] },
            Framing::Vlan { id: 1, mac: [4, 0, 0, 0, 0, 1] },
            Framing::Vxlan { destination: 1, port: 4789, vni: 1, mac: [2; 6] },
            Framing::Vxlan { destination: 2, port: 4789, vni: 1, mac: [2; 6] },
            Framing::Vxlan { destination: 1, port: 8472, vni: 1, mac: [2; 6] },
            Framing::Vxlan { destination: 1, port: 4789, vni: 2, mac: [2; 6] },
            Framing::Vxlan { destination: 1, port: 4789, vni: 1, mac: [2, 2, 2, 2, 2, 4] },
            Framing::Vxlan { destination: 1, port: 4789, vni: 1, mac: [4, 2, 2, 2, 2, 2] },
        ];
        for (i, a) in framings.iter().enumerate() {
            for (j, b) in framings.iter().enumerate() {
                prop_assert_eq!(Key::new(*a, flow) == Key::new(*b, flow), i == j);
                prop_assert_ne!(Key::new(*a, flow), Key::new(*b, flow).on_port(0));
            }
        }
    }
}
