//! Frames that lie about themselves: each is counted under its reason, none stops the gateway, and the sums agree.

use std::time::Duration;

use turnpike_tests::cables::{LEFT, LEFT_HOST, RIGHT_HOST};
use turnpike_tests::turnpiked::{count, rows};
use turnpike_tests::wait::{SOON, ensure};
use turnpike_tests::{Cables, Turnpiked, eventually};

/// Offset of the IP header in an untagged frame, and of layer 4 behind an IPv4 header without options.
const IP: usize = 14;
const L4: usize = IP + 20;

const VXLAN: &str = r#"
[vxlan]
address = "192.0.2.1"

[[vpc]]
id = 1
name = "red"
vni = 100
vteps = ["192.0.2.10"]
addresses = ["10.0.0.1/24"]
"#;

/// A good UDP datagram from the left to the right host, to be spoiled.
fn good(router: [u8; 6]) -> Vec<u8> {
    LEFT_HOST.udp(router, RIGHT_HOST.address, (4000, 53), &[7; 40])
}

/// `frame` with other bytes from `at`.
fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// `frame` with a right checksum in its IPv4 header, of the length that the header claims where it has that many bytes.
fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    let end = (IP + usize::from(frame[IP] & 0xf) * 4).clamp(IP + 20, frame.len());
    frame[IP + 10..IP + 12].fill(0);
    let words = frame[IP..end]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    with(frame, IP + 10, &(!(sum as u16)).to_be_bytes())
}

/// The good datagram with IPv4 options (a multiple of 4 bytes) put in.
fn with_options(router: [u8; 6], options: &[u8]) -> Vec<u8> {
    let mut frame = good(router);
    frame.splice(L4..L4, options.iter().copied());
    let length = (frame.len() - IP) as u16;
    frame[IP] = 0x45 + (options.len() / 4) as u8;
    summed(with(frame, IP + 2, &length.to_be_bytes()))
}

/// An IPv6 packet with this next header and payload.
fn ipv6(router: [u8; 6], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&router[..], &LEFT_HOST.mac, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next_header, 64]);
    for address in ["2001:db8:1::10", "2001:db8:2::10"] {
        frame.extend(address.parse::<std::net::Ipv6Addr>().expect("address").octets());
    }
    frame.extend_from_slice(payload);
    frame
}

/// The good datagram behind these VLAN tags.
fn tagged(router: [u8; 6], tags: &[u16]) -> Vec<u8> {
    let mut frame = good(router);
    let bytes: Vec<u8> = tags
        .iter()
        .flat_map(|tag| [0x81, 0, (tag >> 8) as u8, *tag as u8])
        .collect();
    frame.splice(12..12, bytes);
    frame
}

/// Each frame with the reason under which it is to be counted. Fragments are missing: DPDK's af_packet driver has the
/// kernel reassemble them, so they are left to the unit tests of `net`.
fn hostile(router: [u8; 6]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = || good(router);
    let to_us = |payload: &[u8]| LEFT_HOST.udp(router, LEFT, (4789, 4789), payload);
    let inner = || LEFT_HOST.udp([2, 0x54, 0x50, 0, 0, 1], RIGHT_HOST.address, (1, 2), &[0; 8]);
    let vxlan = |flags: u8, vni: u8| to_us(&[&[flags, 0, 0, 0, 0, 0, vni, 0], inner().as_slice()].concat());
    let tcp = |offset: u8| {
        let mut header = [0; 26];
        header[12] = offset << 4;
        let frame = with(LEFT_HOST.udp(router, RIGHT_HOST.address, (0, 0), &[0; 18]), L4, &header);
        summed(with(frame, IP + 9, &[6]))
    };
    let hop_by_hop = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let long_chain: Vec<u8> = (0..40).flat_map(|_| hop_by_hop(60)).collect();
    vec![
        ("source MAC is a group", with(good(), 6, &[3]), "source-mac-invalid"),
        (
            "destination MAC is another's",
            with(good(), 0, &[2, 9, 9, 9, 9, 9]),
            "not-for-us",
        ),
        ("unknown VLAN", tagged(router, &[999]), "vlan-unknown"),
        ("two VLAN tags", tagged(router, &[999, 998]), "vlan-stack"),
        ("many VLAN tags", tagged(router, &[1; 20]), "vlan-stack"),
        ("Ethernet header alone", good()[..IP].to_vec(), "ipv4-malformed"),
        ("half an IPv4 header", good()[..IP + 10].to_vec(), "ipv4-malformed"),
        ("IPv4 of version 6", with(good(), IP, &[0x65]), "ipv4-malformed"),
        ("header length 4", with(good(), IP, &[0x41]), "ipv4-malformed"),
        (
            "header length beyond the frame",
            summed(with(good()[..IP + 30].to_vec(), IP, &[0x4f])),
            "ipv4-malformed",
        ),
        (
            "total length beyond the frame",
            summed(with(good(), IP + 2, &[4, 0])),
            "ipv4-malformed",
        ),
        (
            "total length below the header",
            summed(with(good(), IP + 2, &[0, 19])),
            "ipv4-malformed",
        ),
        ("wrong checksum", with(good(), IP + 10, &[0xde, 0xad]), "ipv4-checksum"),
        (
            "source route",
            with_options(router, &[131, 7, 4, 192, 0, 2, 10, 0]),
            "ipv4-options",
        ),
        (
            "option of length 0",
            with_options(router, &[68, 0, 5, 0]),
            "ipv4-options",
        ),
        (
            "option beyond the header",
            with_options(router, &[68, 40, 5, 0]),
            "ipv4-options",
        ),
        (
            "UDP longer than its packet",
            with(good(), L4 + 4, &[1, 0]),
            "udp-malformed",
        ),
        (
            "UDP shorter than its header",
            with(good(), L4 + 4, &[0, 7]),
            "udp-malformed",
        ),
        ("TCP data offset 4", tcp(4), "tcp-malformed"),
        ("TCP data offset beyond the packet", tcp(15), "tcp-malformed"),
        (
            "source is loopback",
            summed(with(good(), IP + 12, &[127, 0, 0, 1])),
            "martian",
        ),
        (
            "source is multicast",
            summed(with(good(), IP + 12, &[224, 0, 0, 1])),
            "martian",
        ),
        (
            "source is nobody",
            summed(with(good(), IP + 12, &[0, 0, 0, 0])),
            "martian",
        ),
        (
            "destination is reserved",
            summed(with(good(), IP + 16, &[250, 0, 0, 1])),
            "martian",
        ),
        (
            "half an IPv6 header",
            ipv6(router, 59, &[])[..IP + 20].to_vec(),
            "ipv6-malformed",
        ),
        (
            "IPv6 of version 4",
            with(ipv6(router, 59, &[]), IP, &[0x40]),
            "ipv6-malformed",
        ),
        (
            "IPv6 payload beyond the frame",
            with(ipv6(router, 59, &[0; 8]), IP + 4, &[1, 0]),
            "ipv6-malformed",
        ),
        (
            "extension header truncated",
            ipv6(router, 0, &[60, 9, 1, 4]),
            "ipv6-extension-chain",
        ),
        (
            "extension headers without end",
            ipv6(router, 60, &long_chain),
            "ipv6-extension-chain",
        ),
        (
            "hop-by-hop header in the middle",
            ipv6(router, 60, &[hop_by_hop(0), hop_by_hop(59)].concat()),
            "ipv6-extension-chain",
        ),
        ("ICMPv6 truncated", ipv6(router, 58, &[128, 0, 0]), "icmp-malformed"),
        (
            "IPv6 source is loopback",
            with(
                ipv6(router, 59, &[]),
                IP + 8,
                &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            ),
            "martian",
        ),
        ("VXLAN without the I flag", vxlan(0, 100), "vxlan-malformed"),
        ("VXLAN truncated", to_us(&[8, 0, 0]), "vxlan-malformed"),
        ("VXLAN of no VPC", vxlan(8, 99), "vni-unknown"),
    ]
}

#[test]
fn each_lie_is_counted_under_its_reason() {
    let cables = Cables::new();
    let gateway = cables.start(VXLAN);
    let router = cables.left_router();
    let mut wrong = Vec::new();
    for (name, frame, reason) in hostile(router) {
        let before = gateway.show("drops");
        cables.left.send(&frame);
        let counted = turnpike_tests::within(Duration::from_secs(10), || {
            let (old, now) = (packets(&before, reason), gateway.dropped(reason));
            ensure(now > old, || format!("{reason} stays at {now}"))
        });
        if let Err(why) = counted {
            wrong.push(format!(
                "{name}: {why}; counted instead: {:?}",
                difference(&before, &gateway.show("drops"))
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    cables.assert_alive();
    eventually(SOON, || gateway.counters_add_up());
}

#[test]
fn garbage_does_not_stop_the_gateway() {
    let cables = Cables::new();
    let gateway = cables.start(VXLAN);
    let router = cables.left_router();
    let mut random = Random(0x7475_726e_7069_6b65);
    let mut sent = 0_u64;
    let mut send = |frame: &[u8]| {
        // Shorter ones the kernel itself refuses.
        if frame.len() >= 14 {
            cables.left.send(frame);
            sent += 1;
            // The ring of the receiving driver is small; what it loses shows nothing.
            if sent.is_multiple_of(64) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    };
    let templates: Vec<Vec<u8>> = hostile(router)
        .into_iter()
        .map(|(_, frame, _)| frame)
        .chain([good(router)])
        .collect();
    for template in &templates {
        // Cut at every length, and with bits turned over.
        (14..template.len()).for_each(|length| send(&template[..length]));
        for _ in 0..50 {
            let mut frame = template.clone();
            for _ in 0..1 + random.below(4) {
                let bit = random.below(frame.len() * 8);
                frame[bit / 8] ^= 1 << (bit % 8);
            }
            send(&frame);
        }
    }
    for _ in 0..2000 {
        let mut frame: Vec<u8> = (0..14 + random.below(1500)).map(|_| random.next() as u8).collect();
        if random.below(2) == 0 {
            frame[..6].copy_from_slice(&router);
            frame[6] &= 0xfe;
            let types = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]];
            frame[12..14].copy_from_slice(&types[random.below(4)]);
        }
        send(&frame);
    }
    // Larger than any buffer of the driver.
    for length in [1514, 1515, 2048, 9000, 15_000] {
        let mut frame = good(router);
        frame.resize(length, 0);
        send(&frame);
    }
    cables.assert_alive();
    eventually(SOON, || gateway.counters_add_up());
    let received: u64 = rows(&gateway.show("summary")["workers"])
        .iter()
        .map(|worker| count(&worker["rx"]))
        .sum();
    assert!(
        received > sent / 2,
        "{received} of {sent} frames reached the worker: too few to show anything"
    );
    stopped_in_order(gateway);
}

fn stopped_in_order(gateway: Turnpiked) {
    let status = gateway.terminate();
    assert!(status.success(), "{status}");
}

fn packets(drops: &serde_json::Value, reason: &str) -> u64 {
    rows(drops)
        .iter()
        .find(|row| row["reason"] == reason)
        .map_or(0, |row| count(&row["packets"]))
}

/// Reasons under which more was counted, in words.
fn difference(before: &serde_json::Value, after: &serde_json::Value) -> Vec<String> {
    let grown = rows(after).iter().filter_map(|row| {
        let reason = row["reason"].as_str()?;
        let more = count(&row["packets"]).saturating_sub(packets(before, reason));
        (more > 0).then(|| format!("{reason} +{more}"))
    });
    grown.collect()
}

/// xorshift64: the same frames on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
