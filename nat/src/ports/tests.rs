//! Whose a port is, and what a spent pool costs.

use super::*;
use crate::support::{masquerade, policy};

#[test]
fn every_port_belongs_to_one_worker_and_comes_back_from_its_slot() {
    for workers in [1, 2, 3, 7, 64] {
        for port in 0..=u16::MAX {
            let owners = (0..workers).filter(|w| Slice::new(*w, workers).slot(port).is_some());
            assert_eq!(owners.count(), 1);
            let slice = Slice::new(Slice::new(0, workers).owner(port), workers);
            let slot = slice.slot(port).expect("its owner");
            assert!(usize::from(slot) < slice.slots() && slice.port(slot) == port);
        }
    }
}
/// A pool of which one address has ports left: who finds that out remembers it, until a port comes back.
#[test]
fn addresses_without_ports_are_passed_over() {
    const ADDRESSES: u32 = 300;
    let pool: Vec<String> = (0..ADDRESSES)
        .map(|n| format!("192.0.{}.{}", n / 200, n % 200 + 1))
        .collect();
    let pool: Vec<&str> = pool.iter().map(String::as_str).collect();
    let policy = policy(vec![masquerade(1, &pool, (1, 65535))], vec![]);
    let rule = &policy.rules()[0];
    let mut ports = Ports::new(Slice::new(0, 1));
    ports.follow(&policy);
    let mut random = Random::new(1);
    let subscriber = Subscriber {
        vrf: VrfId(1),
        address: crate::Address::v4(0x0a00_0001),
    };
    let want = Want {
        rule: 0,
        subscriber,
        protocol: protocol::UDP,
        port: 5000,
    };
    let paired = (mix(subscriber.address.spread()) % u64::from(ADDRESSES)) as usize;
    let last = ports.pools[0].numbers[(paired + ADDRESSES as usize - 1) % ADDRESSES as usize];
    for number in ports.pools[0].numbers.clone() {
        let set = &mut ports.addresses[number as usize].as_mut().expect("in use").sets[1];
        (1..=u16::MAX).for_each(|slot| set.take(slot));
    }
    let inspected = |ports: &Ports| -> u32 {
        let all = ports.addresses.iter().flatten();
        all.map(|ports| ports.sets[1].inspected.get()).sum()
    };
    let mut allocate = |ports: &mut Ports| {
        let before = inspected(ports);
        let lease = ports.allocate(rule, want, Tick(0), &mut random);
        (lease.map(|lease| (lease.pool, lease.port)), inspected(ports) - before)
    };
    let (none, words) = allocate(&mut ports);
    assert!(none.is_none() && words >= ADDRESSES, "each is looked at once: {words}");
    let (none, words) = allocate(&mut ports);
    assert!(
        none.is_none() && words < 16,
        "{words} words of a pool that is known to be spent"
    );
    ports.release(last, protocol::UDP, 7000, Tick(0));
    let (found, words) = allocate(&mut ports);
    assert_eq!(found, Some((last, 7000)));
    assert!(words < 32, "{words} words to find the port that came back");
    ports.release(last, protocol::UDP, 7001, Tick(0));
    ports.follow(&policy);
    assert_eq!(allocate(&mut ports).0, Some((last, 7001)), "an edit begins anew");
}
