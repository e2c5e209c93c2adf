//! Whatever comes in: every packet ends in exactly one way, every buffer returns.

use net::Mac;

use crate::frames::{Frame, Layer4, SYN, arp, icmp_error, payload};
use crate::gateway::Gateway;
use crate::isolated;
use crate::network::{
    FABRIC, FABRIC_MAC, HOST_MAC, PEER_MAC, POOL, RED, TENANT_MAC, UPLINK, UPLINK_MAC, VLAN, from_blue, from_host,
    from_host_v6, from_red, tunnel_in, via,
};

/// Xorshift: the same frames in every run.
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

/// Good frames of every kind, with the wire that they come in on and the offset of their outer IPv4 header.
fn seeds() -> Vec<(usize, Vec<u8>)> {
    let host = (HOST_MAC, UPLINK_MAC);
    let peer = (PEER_MAC, FABRIC_MAC);
    let mut seeds = Vec::new();
    for kind in [
        Layer4::Udp(4000, 53),
        Layer4::Tcp(4000, 80, SYN),
        Layer4::EchoRequest(7),
        Layer4::Raw(47),
    ] {
        seeds.push((UPLINK, from_host(kind.clone()).bytes()));
        seeds.push((UPLINK, from_host_v6(kind.clone()).bytes()));
        seeds.push((UPLINK, from_red(kind.clone()).bytes()));
        seeds.push((FABRIC, tunnel_in().around(&from_blue(kind.clone()).bytes())));
        seeds.push((FABRIC, Frame::new(peer, "198.18.0.9", POOL, kind.clone()).bytes()));
        seeds.push((
            FABRIC,
            Frame::new(peer, "198.18.0.9", "203.0.113.2", Layer4::Tcp(4000, 80, SYN)).bytes(),
        ));
        seeds.push((
            UPLINK,
            Frame::new(host, "198.51.100.2", "192.0.2.77", kind.clone()).bytes(),
        ));
        seeds.push((
            UPLINK,
            Frame::new(host, "2001:db8:3::2", "2001:db8:2::77", kind.clone()).bytes(),
        ));
        seeds.push((
            UPLINK,
            Frame::new(host, "198.51.100.2", "198.51.100.1", kind.clone()).bytes(),
        ));
        let to_gateway = |f: &mut Frame| f.destination = "10.0.0.1".parse().expect("an address");
        seeds.push((UPLINK, from_red(kind.clone()).with(to_gateway).bytes()));
        seeds.push((FABRIC, tunnel_in().around(&from_blue(kind).with(to_gateway).bytes())));
    }
    let large = |f: &mut Frame| f.payload = payload(1450);
    seeds.push((
        FABRIC,
        Frame::new(peer, "198.18.0.9", "198.51.100.2", Layer4::Udp(1, 2))
            .with(large)
            .bytes(),
    ));
    seeds.push((
        FABRIC,
        Frame::new(peer, "2001:db8:f::9", "2001:db8:3::2", Layer4::Udp(1, 2))
            .with(large)
            .bytes(),
    ));
    let outside = Frame::new(host, POOL, "198.18.0.9", Layer4::Udp(20_001, 53));
    let error = icmp_error(&outside, "198.18.5.5", 3, 1, [0; 4]).with(|f| (f.source_mac, f.destination_mac) = peer);
    seeds.push((FABRIC, error.bytes()));
    let nobody = (Mac::default(), "10.0.0.1".parse().expect("an address"));
    let tenant = (TENANT_MAC, "10.0.0.5".parse().expect("an address"));
    seeds.push((UPLINK, arp(false, tenant, nobody, Some(VLAN))));
    seeds.push((FABRIC, tunnel_in().around(&arp(false, tenant, nobody, None))));
    seeds
}

/// Where the IPv4 headers of a frame may be: plain, tagged, in a tunnel.
const HEADERS: [usize; 3] = [14, 18, 64];

/// Changes a good frame: bytes, bits, its end; and mostly has the checksums right again, so that what is behind the
/// header is looked at too.
fn mutate(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..random.below(5) {
        let interesting = [0, 1, 0x45, 0x60, 0x7f, 0x80, 0xff];
        let at = random.below(frame.len().min(120));
        // The MAC addresses mostly stay: what is not for us ends at once.
        if at < 12 && random.below(10) > 0 {
            continue;
        }
        match random.below(3) {
            0 => frame[at] = random.next() as u8,
            1 => frame[at] ^= 1 << random.below(8),
            _ => frame[at] = interesting[random.below(interesting.len())],
        }
    }
    match random.below(20) {
        0 => frame.truncate(random.below(frame.len() + 1)),
        1 => frame.extend((0..random.below(200)).map(|i| i as u8)),
        _ => {}
    }
    if random.below(4) > 0 {
        for at in HEADERS {
            repair(frame, at);
        }
    }
}

/// Computes the header checksum of what may be an IPv4 packet at `at`.
fn repair(frame: &mut [u8], at: usize) {
    let Some(first) = frame.get(at).copied().filter(|first| first >> 4 == 4) else {
        return;
    };
    let end = at + usize::from(first & 0x0f) * 4;
    if end < at + 20 || end > frame.len() {
        return;
    }
    frame[at + 10..at + 12].fill(0);
    let words = frame[at..end].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[at + 10..at + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// Sends so many mutated frames, with the routes changing meanwhile, and demands the law and every buffer.
fn storm(workers: u32, frames: usize, seed: u64) {
    let mut gateway = Gateway::with_workers(workers);
    let mut random = Random(seed);
    let seeds = seeds();
    let mut sent = 0;
    while sent < frames {
        let mut bursts = [Vec::new(), Vec::new()];
        for _ in 0..2_000 {
            let (wire, mut frame) = seeds[random.below(seeds.len())].clone();
            mutate(&mut random, &mut frame);
            bursts[wire].push(frame);
            sent += 1;
        }
        let queues = workers as usize;
        for (wire, frames) in bursts.into_iter().enumerate() {
            let mut split: Vec<Vec<Vec<u8>>> = vec![Vec::new(); queues];
            for frame in frames {
                split[random.below(queues)].push(frame);
            }
            for (queue, frames) in split.into_iter().enumerate() {
                gateway.wires[wire].send(queue, frames);
            }
        }
        // Generations come in the middle of it.
        match random.below(4) {
            0 => gateway.route(net::VrfId::DEFAULT, "198.18.0.0/24", Some(via("192.0.2.9"))),
            1 => gateway.route(net::VrfId::DEFAULT, "198.18.0.0/24", None),
            2 => gateway.route(RED, "10.1.0.0/24", Some(via("10.0.0.5"))),
            _ => gateway.set_masquerade([&[1, 2][..], &[2], &[1]][random.below(3)]),
        }
        gateway.publish();
        gateway.observe(|| ());
    }
    let received: u64 = gateway.dataplane.counters().iter().map(|c| c.received.get()).sum();
    assert_eq!(received, sent as u64);
    gateway.wait("the last held packet to be given up", || {
        gateway.dataplane.counters().iter().all(|c| c.held.get() == 0)
    });
    let outcome = gateway.observe(|| ());
    assert!(outcome.held == 0 && gateway.count_events(|e| matches!(e, dataplane::Event::Failed { .. })) == 0);
    gateway.assert_no_leak();
    // The storm was one: it reached every part.
    let reached = net::Drop::ALL
        .iter()
        .filter(|reason| gateway.dataplane.counters().iter().any(|c| c.dropped(**reason) > 0));
    let reached: Vec<_> = reached.collect();
    assert!(
        reached.len() >= 25,
        "only {} reasons to drop: {reached:?}",
        reached.len()
    );
    let total =
        |of: fn(&dataplane::Counters) -> u64| -> u64 { gateway.dataplane.counters().iter().map(|c| of(c)).sum() };
    assert!(total(|c| c.transmitted.get()) > 1_000 && total(|c| c.punted.get()) > 1_000);
    assert!(total(|c| c.generated.get()) > 100);
    assert_eq!(total(|c| c.handed_over.get()), total(|c| c.taken_over.get()));
    assert_eq!(total(|c| c.handed_over.get()) > 0, workers > 1, "packets handed over");
    // And the gateway still forwards.
    gateway.route(net::VrfId::DEFAULT, "198.18.0.0/24", None);
    gateway.publish();
    let frame = from_host(Layer4::Udp(9, 9));
    gateway
        .exchange(UPLINK, [frame.bytes()])
        .is_only(FABRIC, &frame.hop(FABRIC_MAC, PEER_MAC).bytes(), "afterwards");
}

isolated! {
    fn mutated_frames_break_no_law_and_lose_no_buffer() {
        storm(1, 200_000, 0x9e37_79b9_7f4a_7c15);
    }
}

isolated! {
    fn nor_do_they_between_two_workers() {
        storm(2, 100_000, 0xd1b5_4a32_d192_ed03);
    }
}
