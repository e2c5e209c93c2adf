//! Tests of the outbound state against a kernel that is a map.

use net::IfIndex;
use proptest::prelude::*;

use super::*;
use crate::heard::ObservedNextHop;

fn prefix(n: u8) -> Prefix {
    format!("10.{n}.0.0/16").parse().expect("prefix")
}

fn hop(n: u8, weight: u16) -> KernelNextHop {
    KernelNextHop {
        gateway: Some([192, 0, 2, n].into()),
        interface: None,
        weight,
    }
}

fn wish(n: u8, hops: &[KernelNextHop]) -> KernelRoute {
    KernelRoute {
        vrf: VrfId::DEFAULT,
        prefix: prefix(n),
        next_hops: Some(hops.to_vec()),
        kind: RouteKind::Unicast,
        obstacle: None,
    }
}

/// As the kernel shows it: the interface is filled in.
fn observed(prefix: Prefix, form: &Form) -> ObservedRoute {
    let next_hops = form.next_hops.iter().map(|hop| ObservedNextHop {
        hop: KernelNextHop {
            interface: hop.interface.or(Some(IfIndex(2))),
            ..*hop
        },
        dead: false,
    });
    ObservedRoute {
        table: 254,
        protocol: 212,
        prefix,
        metric: 20,
        kind: form.kind,
        next_hops: next_hops.collect(),
        object: None,
    }
}

#[test]
fn changes_of_one_prefix_coalesce() {
    let mut out = Outbound::default();
    for n in 1..=9 {
        out.submit(wish(1, &[hop(n, 1)]));
    }
    assert!(matches!(out.next_write(), Some((_, Write::Add(f))) if f.next_hops == [hop(9, 1)]));
    for n in 1..=8 {
        out.submit(wish(1, &[hop(n, 1)]));
    }
    assert_eq!(out.next_write(), None, "one write of a prefix in flight at a time");
    out.done(prefix(1), Outcome::Done);
    assert!(matches!(out.next_write(), Some((_, Write::Replace(f))) if f.next_hops == [hop(8, 1)]));
    out.done(prefix(1), Outcome::Done);
    assert_eq!(out.next_write(), None);
}

#[test]
fn an_adopted_route_is_confirmed_without_a_write_and_the_rest_is_swept() {
    let mut out = Outbound::default();
    for n in [1, 2, 3] {
        out.adopt(&observed(prefix(n), &Form::new(RouteKind::Unicast, vec![hop(1, 1)])));
    }
    out.submit(wish(1, &[hop(1, 7)]));
    assert_eq!(
        out.next_write(),
        None,
        "confirmed; a weight means nothing without a choice"
    );
    out.submit(wish(2, &[hop(2, 1)]));
    assert!(matches!(out.next_write(), Some((p, Write::Replace(_))) if p == prefix(2)));
    out.done(prefix(2), Outcome::Done);
    out.end_of_start();
    assert_eq!(out.next_write(), Some((prefix(3), Write::Remove)));
    out.done(prefix(3), Outcome::Missing);
    assert_eq!(out.next_write(), None);
}

#[test]
fn a_refusal_is_kept_until_it_is_retried_or_no_longer_wanted() {
    let mut out = Outbound::default();
    out.submit(wish(1, &[hop(1, 1)]));
    out.next_write().expect("write");
    out.done(prefix(1), Outcome::Refused("File exists".into()));
    out.submit(wish(1, &[hop(1, 1)]));
    assert_eq!(out.next_write(), None, "no busy loop");
    let mut status = Status::default();
    out.report(VrfId::DEFAULT, &mut status);
    assert_eq!((status.refused, status.installed), (1, 0));
    assert_eq!(
        status.refusals,
        [Refusal {
            vrf: VrfId::DEFAULT,
            prefix: prefix(1),
            reason: "File exists".into()
        }]
    );
    out.retry_refused();
    assert!(matches!(out.next_write(), Some((_, Write::Add(_)))));
    out.done(prefix(1), Outcome::Refused("File exists".into()));
    out.submit(KernelRoute::remove(VrfId::DEFAULT, prefix(1)));
    status = Status::default();
    out.report(VrfId::DEFAULT, &mut status);
    assert_eq!((status.refused, out.next_write()), (0, None));
}

#[test]
fn a_replace_that_finds_nothing_becomes_an_add() {
    let mut out = Outbound::default();
    out.adopt(&observed(prefix(1), &Form::new(RouteKind::Unicast, vec![hop(1, 1)])));
    out.submit(wish(1, &[hop(2, 1)]));
    out.next_write().expect("replace");
    out.done(prefix(1), Outcome::Missing);
    assert!(matches!(out.next_write(), Some((_, Write::Add(_)))));
}

#[test]
fn wide_weights_are_scaled_to_the_kernels_range() {
    let form = Form::new(
        RouteKind::Unicast,
        vec![hop(1, u16::MAX), hop(2, u16::MAX / 2), hop(3, 1), hop(4, 0)],
    );
    assert_eq!(
        form.next_hops.iter().map(|n| n.weight).collect::<Vec<_>>(),
        [256, 127, 1, 1]
    );
}

#[test]
fn local_and_nat_routes_are_not_for_the_kernel() {
    let mut out = Outbound::default();
    for kind in [RouteKind::Local, RouteKind::Nat] {
        out.submit(KernelRoute { kind, ..wish(1, &[]) });
    }
    out.submit(wish(2, &[]));
    assert_eq!(out.next_write(), None);
    out.submit(KernelRoute {
        kind: RouteKind::Blackhole,
        ..wish(3, &[hop(1, 1)])
    });
    assert!(matches!(out.next_write(), Some((_, Write::Add(f))) if f.next_hops.is_empty()));
}

#[test]
fn what_redirects_traffic_is_written_before_what_is_new() {
    let mut out = Outbound::default();
    for n in [1, 2] {
        out.adopt(&observed(prefix(n), &Form::new(RouteKind::Unicast, vec![hop(1, 1)])));
    }
    for n in 10..20 {
        out.submit(wish(n, &[hop(1, 1)]));
    }
    out.submit(wish(1, &[hop(2, 1)]));
    out.submit(KernelRoute::remove(VrfId::DEFAULT, prefix(2)));
    let first = [out.next_write(), out.next_write()].map(|w| w.map(|(prefix, _)| prefix));
    assert_eq!(first, [Some(prefix(1)), Some(prefix(2))]);
}

#[test]
fn each_wish_has_an_outcome_that_can_be_asked_for() {
    let mut out = Outbound::default();
    assert_eq!(out.state(&prefix(1)), RouteState::NotWanted);
    out.submit(wish(1, &[hop(1, 1)]));
    assert_eq!(out.state(&prefix(1)), RouteState::Queued);
    out.submit(wish(1, &[hop(2, 1)])); // before the first was written
    out.next_write().expect("write");
    assert_eq!(out.state(&prefix(1)), RouteState::Writing);
    out.done(prefix(1), Outcome::Done);
    assert_eq!(out.state(&prefix(1)), RouteState::Installed);
    out.submit(wish(1, &[hop(3, 1)]));
    out.next_write().expect("write");
    out.done(prefix(1), Outcome::Refused("Network is unreachable".into()));
    let refused = RouteState::Refused {
        reason: "Network is unreachable".into(),
    };
    assert_eq!(out.state(&prefix(1)), refused);
    let mut status = Status::default();
    out.report(VrfId::DEFAULT, &mut status);
    assert_eq!(status.superseded, 1);
    out.adopt(&observed(prefix(2), &Form::new(RouteKind::Unicast, vec![hop(1, 1)])));
    assert_eq!(out.state(&prefix(2)), RouteState::Stale);
}

#[test]
fn a_route_that_somebody_keeps_taking_is_not_written_in_a_loop() {
    let mut out = Outbound::default();
    let mut now = origin();
    out.submit(wish(1, &[hop(1, 1)]));
    let mut writes = 0;
    for _ in 0..1000 {
        if out.next_write().is_some() {
            writes += 1;
            out.done(prefix(1), Outcome::Done);
        }
        out.begin_audit();
        now += std::time::Duration::from_millis(250);
        out.handle_timeout(now);
        out.finish_audit(&[], now); // gone again
    }
    assert!((5..15).contains(&writes), "{writes} writes in 250 s");
    assert!(matches!(out.state(&prefix(1)), RouteState::Held { losses } if losses >= 5));
    let mut status = Status::default();
    out.report(VrfId::DEFAULT, &mut status);
    assert_eq!((status.held, status.fights.len()), (1, 1));
    out.submit(KernelRoute::remove(VrfId::DEFAULT, prefix(1)));
    assert_eq!(out.state(&prefix(1)), RouteState::NotWanted);
}

#[allow(clippy::disallowed_methods, reason = "any instant will do as the origin")]
fn origin() -> Instant {
    Instant::now()
}

#[derive(Debug, Clone)]
enum Step {
    Wish(u8, Option<Vec<(u8, u16)>>),
    /// Take a write; the kernel refuses it if told so.
    Write(bool),
    /// Somebody else deletes or changes our route.
    Meddle(u8, Option<u8>),
    BeginAudit,
    FinishAudit,
    EndOfStart,
}

fn step() -> impl Strategy<Value = Step> {
    let hops = proptest::option::of(proptest::collection::vec((1_u8..4, 0_u16..400), 1..3));
    prop_oneof![
        6 => (0_u8..4, hops).prop_map(|(n, hops)| Step::Wish(n, hops)),
        6 => proptest::bool::weighted(0.2).prop_map(Step::Write),
        2 => (0_u8..4, proptest::option::of(1_u8..4)).prop_map(|(n, g)| Step::Meddle(n, g)),
        1 => Just(Step::BeginAudit),
        1 => Just(Step::FinishAudit),
        1 => Just(Step::EndOfStart),
    ]
}

/// A write takes effect when it is taken; its answer comes with the next one, so that wishes meet a write in flight.
fn apply(kernel: &mut HashMap<Prefix, Form>, prefix: Prefix, write: Write, refuse: bool) -> Outcome {
    match (write, kernel.contains_key(&prefix)) {
        _ if refuse => Outcome::Refused("no".into()),
        (Write::Add(_), true) => Outcome::Refused("File exists".into()),
        (Write::Replace(_) | Write::Remove, false) => Outcome::Missing,
        (Write::Add(form) | Write::Replace(form), _) => {
            kernel.insert(prefix, form);
            Outcome::Done
        }
        (Write::Remove, true) => {
            kernel.remove(&prefix);
            Outcome::Done
        }
    }
}

proptest! {
    /// Whatever is wished, refused, meddled with and audited meanwhile: after a last audit and enough writes that the
    /// kernel takes, it holds exactly what was wished last.
    #[test]
    fn the_kernel_ends_with_what_was_wished_last(
        left_over in proptest::collection::vec((0_u8..6, 1_u8..4), 0..4),
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let mut out = Outbound::default();
        let mut kernel: HashMap<Prefix, Form> = HashMap::new();
        let mut wished: HashMap<Prefix, Form> = HashMap::new();
        for (n, gateway) in left_over {
            kernel.insert(prefix(n), Form::new(RouteKind::Unicast, vec![hop(gateway, 1)]));
        }
        for (prefix, form) in &kernel {
            out.adopt(&observed(*prefix, form));
        }
        let mut in_flight: Option<(Prefix, Outcome)> = None;
        let mut dump: Option<Vec<ObservedRoute>> = None;
        let mut now = origin();
        for step in steps {
            match step {
                Step::Wish(n, hops) => {
                    let hops: Option<Vec<_>> = hops.map(|h| h.into_iter().map(|(g, w)| hop(g, w)).collect());
                    match hops.clone() {
                        Some(hops) => wished.insert(prefix(n), Form::new(RouteKind::Unicast, hops)),
                        None => wished.remove(&prefix(n)),
                    };
                    out.submit(KernelRoute { next_hops: hops, ..wish(n, &[]) });
                }
                Step::Write(refuse) => {
                    if let Some((prefix, outcome)) = in_flight.take() {
                        out.done(prefix, outcome);
                    }
                    in_flight = out.next_write().map(|(p, w)| (p, apply(&mut kernel, p, w, refuse)));
                }
                // Not while a dump runs: that the dump misses is for the next audit.
                Step::Meddle(n, gateway) => {
                    match gateway {
                        Some(g) if kernel.contains_key(&prefix(n)) => {
                            kernel.insert(prefix(n), Form::new(RouteKind::Unicast, vec![hop(g, 1)]));
                        }
                        _ => {
                            kernel.remove(&prefix(n));
                        }
                    }
                }
                Step::BeginAudit => {
                    out.begin_audit();
                    dump = Some(kernel.iter().map(|(p, f)| observed(*p, f)).collect());
                }
                Step::FinishAudit => {
                    if let Some(dump) = dump.take() {
                        out.finish_audit(&dump, now);
                    }
                }
                Step::EndOfStart => out.end_of_start(),
            }
        }
        if let Some((prefix, outcome)) = in_flight {
            out.done(prefix, outcome);
        }
        out.end_of_start();
        out.begin_audit();
        let dump: Vec<_> = kernel.iter().map(|(p, f)| observed(*p, f)).collect();
        out.finish_audit(&dump, now);
        // What is held because it was meddled with often comes due.
        while let Some(until) = out.poll_timeout() {
            now = until;
            out.handle_timeout(now);
        }
        let mut writes = 0;
        while let Some((prefix, write)) = out.next_write() {
            let outcome = apply(&mut kernel, prefix, write, false);
            out.done(prefix, outcome);
            writes += 1;
            prop_assert!(writes < 100, "writes without end");
        }
        prop_assert_eq!(&kernel, &wished);
        let mut status = Status::default();
        out.report(VrfId::DEFAULT, &mut status);
        prop_assert_eq!((status.installed, status.pending, status.refused, status.stale), (wished.len(), 0, 0, 0));
    }
}
