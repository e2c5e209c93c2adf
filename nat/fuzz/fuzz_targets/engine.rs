//! Raw packets through parser and engine, with time, generations, policies and fragments in between. Nothing may panic, a
//! packet that had right checksums has them after its translation, and when all time is over nothing is left.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use nat::{
    DatagramKey, Delta, Engine, EngineConfig, Filtering, ForwardTarget, Fragment, Fragments, Gathered, IcmpVerdict,
    Limit, Limits, Mapping, Masquerade, Millis, NewPacket, Outcome, Policy, PolicySpec, PoolOptions, PortBlocks,
    PortChoice, PortForward, Resolution, Resolver, Segment, StaticNat, Verdict, snapshot,
};
use net::checksum::Sum;
use net::ipv4::Ipv4;
use net::tcp::Tcp;
use net::udp::Udp;
use net::{
    Drop, FragmentPart, Generation, NextHopId, RouteKind, V4, V6, VpcId, VrfId, icmp, icmpv6, parse_v4, parse_v6,
    protocol,
};

const POOL: u32 = 0xc000_0201;
/// What stands before an IPv4 address to make it one of IPv6.
const SIX: u128 = 0x2001_0db8 << 96;

/// Inside is 10.0.0.0/8, public is 192.0.2.0/24, the rest is the fabric's; what is odd has no route in odd generations.
struct Routes(u64);

impl Resolver for Routes {
    fn generation(&self) -> Generation {
        Generation(self.0)
    }

    /// The last 32 bits say where it goes.
    fn resolve_v6(&self, vrf: VrfId, destination: u128, hash: u32) -> Result<Resolution, Drop> {
        self.resolve(vrf, destination as u32, hash)
    }

    fn resolve(&self, vrf: VrfId, destination: u32, _: u32) -> Result<Resolution, Drop> {
        if self.0 & destination as u64 & 1 == 1 {
            return Err(Drop::NoRoute);
        }
        let inside = destination >> 24 == 10;
        let kind = if destination >> 8 == POOL >> 8 {
            RouteKind::Nat
        } else {
            RouteKind::Unicast
        };
        Ok(Resolution {
            next_hop: NextHopId(self.0 as u32 & 3),
            vrf: if inside { vrf } else { VrfId::DEFAULT },
            kind,
        })
    }
}

fn policy(which: u8) -> Arc<Policy> {
    let vpc = |n| VpcId::new(n).expect("not zero");
    let options = match which >> 3 & 3 {
        0 => PoolOptions::default(),
        1 => PoolOptions {
            mapping: Mapping::EndpointIndependent,
            filtering: Filtering::EndpointIndependent,
            ..PoolOptions::default()
        },
        2 => PoolOptions {
            mapping: Mapping::Overloading,
            parity: true,
            ..PoolOptions::default()
        },
        _ => PoolOptions {
            choice: PortChoice::Blocks(PortBlocks {
                size: 4,
                count: 2,
                quarantine: 60,
            }),
            ..PoolOptions::default()
        },
    };
    let six = |address: u32| IpAddr::V6(Ipv6Addr::from_bits(SIX | u128::from(address)));
    let any = |address: u32, v6: bool| {
        if v6 {
            six(address)
        } else {
            IpAddr::V4(Ipv4Addr::from(address))
        }
    };
    // Blocks are on addresses that are one rule's alone.
    let apart = u32::from(which >> 3 & 3 == 3) * 2;
    let masquerade = [(1, false), (2, false), (1, true), (2, true)].map(|(n, v6)| Masquerade {
        vpc: vpc(n),
        sources: vec![],
        pool: (0..=u32::from(which & 1))
            .map(|i| any(POOL + i + apart * u32::from(n - 1), v6))
            .collect(),
        ports: (1000, 1016 + u16::from(which)),
        options,
    });
    let forwards = [false, true].map(|v6| PortForward {
        vpc: vpc(1),
        address: any(POOL + 9, v6),
        protocol: if which & 2 == 0 { protocol::TCP } else { protocol::UDP },
        ports: (80, 80 + u16::from(which >> 5)),
        targets: (2..4)
            .map(|host| ForwardTarget {
                address: any(0x0a00_0000 + host, v6),
                port: 80,
                weight: 1,
            })
            .collect(),
        affinity: which & 4 == 0,
    });
    let prefixes = [
        ["10.0.0.8/29", "192.0.2.16/29"],
        ["2001:db8::a00:8/125", "2001:db8::c000:210/125"],
    ];
    let fixed = prefixes.map(|[inside, outside]| StaticNat {
        vpc: vpc(2),
        inside: inside.parse().expect("a prefix"),
        outside: outside.parse().expect("a prefix"),
        peer: (which & 32 != 0).then(|| vpc(1)),
    });
    let limits = Limits {
        vpc: vpc(1),
        tenant: Limit {
            sessions: Some(8),
            new_sessions: Some(6),
        },
        subscriber: Limit::default(),
    };
    let spec = PolicySpec {
        masquerade: masquerade.to_vec(),
        port_forwards: forwards.to_vec(),
        statics: fixed.to_vec(),
        limits: (which & 64 != 0).then_some(limits).into_iter().collect(),
        pick_up: which & 4 != 0,
        ..PolicySpec::default()
    };
    Arc::new(Policy::compile(spec).expect("valid"))
}

const CONFIG: EngineConfig = EngineConfig {
    capacity: 12,
    worker: 0,
    workers: 1,
    seed: 5,
};

struct Scene {
    engine: Engine,
    fragments: Fragments<()>,
    routes: Routes,
    now: Millis,
}

fuzz_target!(|bytes: &[u8]| {
    let mut scene = Scene {
        engine: Engine::new(CONFIG, policy(0)).expect("valid"),
        fragments: Fragments::default(),
        routes: Routes(2),
        now: Millis(1),
    };
    let mut rest = bytes;
    while let [action, length, tail @ ..] = rest {
        let (packet, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        scene.step(*action, *length, packet);
        rest = tail;
    }
    scene.end();
});

impl Scene {
    fn step(&mut self, action: u8, value: u8, packet: &[u8]) {
        match action & 7 {
            0 => {
                self.now.0 += u64::from(value) * 3_000;
                self.engine.expire(self.now, 1000, &mut |_, _| {});
                self.fragments.expire(self.now, &mut |()| {});
            }
            1 => {
                self.routes.0 += 1;
                if action & 8 != 0 {
                    self.engine.set_policy(policy(value));
                }
                let delta = Delta {
                    policy: action & 8 != 0,
                    ..Delta::everything()
                };
                self.engine.on_generation(Generation(self.routes.0), &delta);
            }
            2 => drop(self.engine.revalidate(usize::from(value), &self.routes, &mut |_, _| {})),
            3 => drop(snapshot::decode(packet, 100)),
            vrf => {
                let vrf = VrfId(u16::from(vrf) % 3);
                self.packet_v6(vrf, packet);
                self.packet(vrf, packet);
                // Few mutations keep the header checksum, so every packet gets a second chance.
                let mut mended = packet.to_vec();
                if let Ok(mut ip) = Ipv4::head(mended.as_mut_slice()) {
                    ip.fill_checksum();
                    self.packet(vrf, &mended);
                }
            }
        }
    }

    fn packet(&mut self, vrf: VrfId, bytes: &[u8]) {
        let Ok(mut parsed) = parse_v4(bytes) else { return };
        let mut copy = bytes.to_vec();
        if parsed.protocol == protocol::ICMP
            && parsed.fragment == FragmentPart::Whole
            && icmp::is_error(parsed.icmp_type)
        {
            let verdict = self.engine.icmp_error(vrf, &mut copy, 0, &self.routes, self.now);
            match verdict {
                IcmpVerdict::Translated(_) => drop(parse_v4(&copy).expect("still valid")),
                _ => assert_eq!(copy, bytes, "what is not translated is not touched"),
            }
            return;
        }
        if parsed.fragment != FragmentPart::Whole && !self.gather(vrf, bytes, &mut parsed) {
            return;
        }
        let new = NewPacket {
            vrf,
            protocol: parsed.protocol,
            source: parsed.source.into(),
            destination: parsed.destination.into(),
            source_port: parsed.source_port,
            destination_port: parsed.destination_port,
            tcp_flags: parsed.tcp_flags,
            icmp_type: parsed.icmp_type,
            fragment_later: false,
            length: parsed.total_length,
            flow_hash: 0,
        };
        let at = match self.engine.lookup(&new.key()) {
            Some(at) => at,
            None => {
                let Ok(way) = self.routes.resolve(vrf, parsed.destination, 0) else {
                    return;
                };
                match self.engine.miss(&new, way, &self.routes, self.now) {
                    Verdict::Connection(at) => at,
                    _ => return,
                }
            }
        };
        if !self.engine.is_current(at, self.routes.generation())
            && let Outcome::Ended(_) = self.engine.revalidate_one(at, &self.routes)
        {
            return;
        }
        let l4 = usize::from(parsed.l4);
        let segment = Segment::of(bytes, l4, parsed.tcp_flags);
        if self
            .engine
            .hit(at, segment, parsed.total_length, self.now)
            .refused
            .is_some()
        {
            return;
        }
        let before = has_right_checksum(bytes, &parsed);
        let rewrite = *self.engine.entry(at).rewrite();
        if parsed.fragment == FragmentPart::Later {
            rewrite.apply_to_fragment(&mut copy, l4);
        } else {
            rewrite.apply(&mut copy, l4, parsed.protocol);
        }
        let after = parse_v4(&copy).expect("still valid");
        assert_eq!(
            (after.source, after.destination),
            (rewrite.source(), rewrite.destination())
        );
        assert!(
            !before || has_right_checksum(&copy, &after),
            "a right checksum stays right"
        );
        let public = after.destination >> 8 == POOL >> 8;
        if public && vrf != VrfId::DEFAULT && parsed.fragment == FragmentPart::Whole {
            // It turns back.
            self.packet(VrfId::DEFAULT, &copy);
        }
    }

    /// An IPv6 packet; fragments of it count as whole ones that lack their ports.
    fn packet_v6(&mut self, vrf: VrfId, bytes: &[u8]) {
        let Ok(parsed) = parse_v6(bytes) else { return };
        if parsed.is_martian() || parsed.is_multicast() || parsed.is_link_local() {
            return;
        }
        let mut copy = bytes.to_vec();
        let whole = parsed.fragment == FragmentPart::Whole;
        if parsed.protocol == protocol::ICMPV6 && whole && icmpv6::is_error(parsed.icmp_type) {
            match self.engine.icmpv6_error(vrf, &mut copy, 0, &self.routes, self.now) {
                IcmpVerdict::Translated(_) => {
                    let after = parse_v6(&copy).expect("still valid");
                    assert!(sums_up(&copy, &after), "an error is sent with a right checksum");
                }
                _ => assert_eq!(copy, bytes, "what is not translated is not touched"),
            }
            return;
        }
        let length = parsed.payload_length.saturating_add(40);
        let new = NewPacket {
            vrf,
            protocol: parsed.protocol,
            source: parsed.source.into(),
            destination: parsed.destination.into(),
            source_port: parsed.source_port,
            destination_port: parsed.destination_port,
            tcp_flags: parsed.tcp_flags,
            icmp_type: parsed.icmp_type,
            fragment_later: parsed.fragment == FragmentPart::Later,
            length,
            flow_hash: 0,
        };
        let at = match self.engine.find(&new.flow()).filter(|_| !new.fragment_later) {
            Some(at) => at,
            None => {
                let Ok(way) = self.routes.resolve_v6(vrf, parsed.destination, 0) else {
                    return;
                };
                match self.engine.miss(&new, way, &self.routes, self.now) {
                    Verdict::Connection(at) => at,
                    _ => return,
                }
            }
        };
        if !self.engine.is_current(at, self.routes.generation())
            && let Outcome::Ended(_) = self.engine.revalidate_one(at, &self.routes)
        {
            return;
        }
        let l4 = usize::from(parsed.l4);
        let segment = Segment::of(bytes, l4, parsed.tcp_flags);
        if self.engine.hit(at, segment, length, self.now).refused.is_some() {
            return;
        }
        let before = whole && sums_up(bytes, &parsed);
        self.engine.rewrite_v6(at).apply(&mut copy, l4, parsed.protocol);
        let after = parse_v6(&copy).expect("still valid");
        assert!(!before || sums_up(&copy, &after), "a right checksum stays right");
        if after.destination as u32 >> 8 == POOL >> 8 && vrf != VrfId::DEFAULT && whole {
            self.packet_v6(VrfId::DEFAULT, &copy);
        }
    }

    /// False if a fragment does not go on; one that does has its ports.
    fn gather(&mut self, vrf: VrfId, bytes: &[u8], parsed: &mut V4) -> bool {
        let ip = Ipv4::new(bytes).expect("parsed");
        let fragment = Fragment {
            datagram: DatagramKey {
                vrf,
                protocol: parsed.protocol,
                source: parsed.source.into(),
                destination: parsed.destination.into(),
                identification: ip.identification().into(),
            },
            offset: ip.fragment_offset() * 8,
            length: parsed.total_length - parsed.l4,
            more: ip.more_fragments(),
            ports: (parsed.source_port, parsed.destination_port),
        };
        match self.fragments.gather(&fragment, (), self.now) {
            Gathered::Ports((source, destination), ()) => {
                (parsed.source_port, parsed.destination_port) = (source, destination);
                true
            }
            Gathered::Held | Gathered::Refused(..) => false,
        }
    }

    /// Saves and restores what there is, and then lets all time pass.
    fn end(mut self) {
        let mut saved = vec![];
        assert_eq!(self.engine.save(0, usize::MAX, &mut saved), None);
        let bytes = snapshot::encode(&saved, 1);
        let (all, _) = snapshot::decode(&bytes, 100).expect("just encoded");
        assert_eq!(all, saved);
        let mut next = Engine::new(CONFIG, Arc::clone(self.engine.policy())).expect("valid");
        for connection in &all {
            let _ = next.restore(connection, 0);
        }
        next.expire(self.now, 0, &mut |_, _| {});
        self.now.0 += 1_000_000_000;
        for mut engine in [self.engine, next] {
            engine.expire(self.now, usize::MAX, &mut |_, _| {});
            let stats = engine.stats();
            assert_eq!((stats.connections, stats.zombies), (0, 0));
            assert_eq!((stats.mappings, stats.blocks), (0, 0));
            assert!(stats.ports.iter().all(|p| p.tcp + p.udp + p.icmp == 0));
            assert_eq!(stats.created, stats.ended.total());
        }
    }
}

fn sums_up(bytes: &[u8], parsed: &V6) -> bool {
    let length = parsed.payload_length + 40 - parsed.l4;
    let layer4 = &bytes[usize::from(parsed.l4)..][..usize::from(length)];
    let sum = Sum::pseudo_v6(parsed.source, parsed.destination, parsed.protocol, length.into());
    let without = parsed.protocol == protocol::UDP && layer4[6..8] == [0, 0];
    let has_one = matches!(parsed.protocol, protocol::TCP | protocol::UDP | protocol::ICMPV6);
    !has_one || without || sum.bytes(layer4).is_valid()
}

fn has_right_checksum(bytes: &[u8], parsed: &V4) -> bool {
    let ip = Ipv4::new(bytes).expect("parsed");
    let length = parsed.total_length - parsed.l4;
    let pseudo = Sum::pseudo_v4(parsed.source, parsed.destination, parsed.protocol, length);
    match (parsed.fragment, parsed.protocol) {
        (FragmentPart::Whole, protocol::TCP) => Tcp::new(ip.payload()).is_ok_and(|tcp| tcp.checksum_is_valid(pseudo)),
        (FragmentPart::Whole, protocol::UDP) => Udp::new(ip.payload())
            .is_ok_and(|udp| udp.length() == length && udp.checksum() != 0 && udp.checksum_is_valid(pseudo)),
        _ => ip.checksum_is_valid(),
    }
}
