//! What becomes of each seed of the fuzz target, so that a seed stays the case it is named for.

use std::path::Path;

use net::eth::ether_type;
use net::icmp::Icmp;
use net::udp::Udp;
use net::vxlan::Vxlan;
use net::{Drop, parse_link, parse_v4, parse_v6};

/// Layer 4 protocol and destination port of the innermost packet.
fn innermost(frame: &[u8]) -> Result<(u8, u16), Drop> {
    let link = parse_link(frame)?;
    let l3 = &frame[usize::from(link.l3)..];
    match link.ether_type {
        ether_type::IPV4 => {
            let packet = parse_v4(l3)?;
            let layer4 = &l3[usize::from(packet.l4)..usize::from(packet.total_length)];
            match (packet.protocol, packet.destination_port) {
                (net::protocol::UDP, net::vxlan::PORT) => innermost(Vxlan::new(Udp::new(layer4)?.payload())?.payload()),
                (net::protocol::ICMP, _) => match Icmp::new(layer4)?.quoted()? {
                    Some(quoted) => Ok((quoted.protocol, quoted.destination_port)),
                    None => Ok((packet.protocol, packet.destination_port)),
                },
                found => Ok(found),
            }
        }
        ether_type::IPV6 => parse_v6(l3).map(|p| (p.protocol, p.destination_port)),
        _ => Err(Drop::EtherTypeUnknown),
    }
}

#[test]
fn every_seed_is_what_its_name_says() {
    let expected = [
        ("seed-udp", Ok((17, 53))),
        ("seed-tcp-syn", Ok((6, 80))),
        ("seed-icmp-echo", Ok((1, 1))),
        ("seed-icmp-unreachable", Ok((17, 53))),
        ("seed-options-router-alert", Ok((17, 53))),
        ("seed-options-source-route", Err(Drop::Ipv4Options)),
        ("seed-fragment-later", Ok((17, 0))),
        ("seed-vlan", Ok((17, 53))),
        ("seed-vlan-stack", Err(Drop::VlanStack)),
        ("seed-vxlan", Ok((6, 80))),
        ("seed-v6-tcp", Ok((6, 80))),
        ("seed-v6-echo", Ok((58, 1))),
        ("seed-v6-extensions", Ok((17, 53))),
        ("seed-v6-routing-0", Err(Drop::Ipv6ExtensionChain)),
        ("seed-v6-too-big", Ok((58, 0))),
        ("seed-arp", Err(Drop::EtherTypeUnknown)),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame");
    for (name, verdict) in expected {
        let frame = std::fs::read(folder.join(name)).expect(name);
        assert_eq!(innermost(&frame), verdict, "{name}");
    }
}
