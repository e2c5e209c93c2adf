//! Faults on order, as they come out of DPDK's calls.

use std::time::{Duration, Instant};

use dpdk_sys::flow::{FlowError, FlowErrorKind};
use softasic::{Operation, Point, Refusal, faults};

use crate::bench::Bench;
use crate::control::{asynchronous, enter, pulled};
use crate::isolated;
use crate::rules::open;

isolated! {
    fn calls_are_refused_with_the_error_that_was_ordered() {
        let mut bench = Bench::new();
        let _entrance = open(&bench.a);
        let error = FlowError::new(FlowErrorKind::Action, libc::EPERM, "not on a Sunday");
        faults().refuse(Refusal { error: error.clone(), ..Refusal::next(Operation::Create, 1) });
        assert_eq!(bench.create(1).expect_err("refused"), error);
        let flow = bench.create(1).expect("the next one is not");
        faults().refuse(Refusal { error: error.clone(), ..Refusal::next(Operation::Destroy, 2) });
        let kept = bench.a.port.flow_destroy(flow).expect_err("refused");
        assert_eq!(kept.error, error);
        assert!(bench.forwards(1), "it is in the table still");
        let kept = bench.a.port.flow_destroy(kept.flow).expect_err("refused again");
        bench.a.port.flow_destroy(kept.flow).expect("the third time");
        assert!(!bench.forwards(1));
        assert_eq!((faults().refused(Operation::Create), faults().refused(Operation::Destroy)), (1, 2));
    }
}

isolated! {
    fn arguments_of_a_device_order_faults() {
        let bench = Bench::with(None, ",refuse-create=1,refuse-destroy=1", 1500);
        let entrance = open(&bench.a);
        // Each of the two ports has ordered one of each.
        for _ in 0..2 {
            assert_eq!(bench.create(1).expect_err("refused").kind, FlowErrorKind::State);
        }
        let flow = bench.create(1).expect("rule");
        let flow = bench.a.port.flow_destroy(flow).expect_err("refused").flow;
        let flow = bench.a.port.flow_destroy(flow).expect_err("refused").flow;
        bench.a.port.flow_destroy(entrance).expect("the way to the rules is nobody's rule");
        bench.a.port.flow_destroy(flow).expect("destroyed");
        assert!(bench.eal.attach("net_softasic9,wire=net_ring9,refuse-create=x").is_err());
    }
}

isolated! {
    fn queued_operations_fail_and_a_rule_whose_end_failed_leaves_with_a_flush() {
        let (mut bench, mut queue, table) = asynchronous();
        let _entrance = open(&bench.a);
        let in_the_queue = |operation| Refusal { point: Point::Completion, ..Refusal::next(operation, 1) };
        faults().refuse(in_the_queue(Operation::Create));
        let dead = enter(&bench, &mut queue, &table, 1).expect("entered");
        let second = enter(&bench, &mut queue, &table, 2).expect("entered");
        queue.push().expect("pushed");
        assert_eq!(pulled(&mut queue), [(1, false), (2, true)]);
        assert!(!bench.forwards(1) && bench.forwards(2));
        assert_eq!(queue.destroy(dead, 9).expect_err("it never was").error.kind, FlowErrorKind::Handle);

        faults().refuse(in_the_queue(Operation::Destroy));
        faults().refuse(Refusal::next(Operation::Destroy, 1));
        let second = queue.destroy(second, 3).expect_err("at the call").flow;
        queue.destroy(second, 4).expect("entered");
        queue.push().expect("pushed");
        assert_eq!(pulled(&mut queue), [(4, false)]);
        assert!(bench.forwards(2), "nobody can name it any more");
        bench.a.port.flow_flush().expect("flushed");
        assert!(!bench.forwards(2));
        // The table has all of its places again.
        let _entrance = open(&bench.a);
        let rules: Vec<_> = (1..=4).map(|number| enter(&bench, &mut queue, &table, number).expect("room")).collect();
        queue.push().expect("pushed");
        assert_eq!(pulled(&mut queue), [(1, true), (2, true), (3, true), (4, true)]);
        assert!(bench.forwards(2) && rules.len() == 4);
    }
}

isolated! {
    #[allow(clippy::disallowed_methods, reason = "the delay is one of the real clock")]
    fn completions_come_late_and_in_order_and_the_rules_act_at_once() {
        let (mut bench, mut queue, table) = asynchronous();
        let _entrance = open(&bench.a);
        faults().delay_completions(Duration::from_millis(200));
        let start = Instant::now();
        let _first = enter(&bench, &mut queue, &table, 1).expect("entered");
        queue.push().expect("pushed");
        faults().delay_completions(Duration::ZERO);
        let _second = enter(&bench, &mut queue, &table, 2).expect("entered");
        queue.push().expect("pushed");
        assert!(bench.forwards(1) && bench.forwards(2));
        let mut all = Vec::new();
        while all.len() < 2 {
            all.extend(pulled(&mut queue));
            assert!(all.is_empty() || start.elapsed() >= Duration::from_millis(199), "too early");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(all, [(1, true), (2, true)]);
    }
}
