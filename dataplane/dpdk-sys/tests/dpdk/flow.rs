//! Rules reach a driver as they were written, by both sets of calls.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::slice::from_ref;
use std::sync::Arc;

use dpdk_sys::flow::{
    Action, ActionsTemplate, Attr, Completion, Eth, FlowConfig, FlowErrorKind, HeaderBytes, Icmp, Ipv4, Ipv6, Item,
    Match, PatternTemplate, TableAttr, Tag, Tcp, TemplateAction, TemplateTable, Udp, Vlan, Vxlan, VxlanTunnel,
};
use dpdk_sys::{Eal, Port, PortConfig, PortId, RxQueue, StartedPort, TxQueue};

use crate::devices::{Engine, Loopback};
use crate::isolated;
use crate::process::{eal, pool};

type Queues = (Vec<RxQueue>, Vec<TxQueue>);

fn start(flow: Option<FlowConfig>) -> (Eal, Arc<Engine>, StartedPort, Queues) {
    let engine = Arc::new(Engine::default());
    let of_driver = engine.clone();
    dpdk_sys::pmd::register("net_flow", move |probe| {
        Loopback::attach(probe, Some(of_driver.clone()))
    })
    .expect("new");
    let eal = eal();
    let handle = eal.attach("net_flow0").expect("attached");
    let config = PortConfig {
        flow,
        ..PortConfig::new(pool(&eal, "flow"))
    };
    let (port, rx, tx) = Port::configure(&eal, handle.port(), &config)
        .expect("configured")
        .start()
        .expect("started");
    (eal, engine, port, (rx, tx))
}

fn every_item() -> Vec<Item> {
    let v4 = |a| Ipv4Addr::new(10, 0, 0, a);
    let v6 = |a| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, a);
    let ipv4 = Ipv4 {
        version_ihl: 0x45,
        tos: 1,
        fragment: 0x4001,
        ttl: 64,
        protocol: 17,
        src: v4(1),
        dst: v4(2),
    };
    let ipv6 = Ipv6 {
        version_class_flow: 0x6123_4567,
        protocol: 6,
        hop_limit: 63,
        src: v6(1),
        dst: v6(2),
    };
    vec![
        Item::Eth(Match::new(
            Eth {
                dst: [1; 6],
                src: [2; 6],
                ether_type: 0x8100,
            },
            Eth {
                dst: [0xff; 6],
                ..Eth::default()
            },
        )),
        Item::Vlan(Match::new(
            Vlan {
                tci: 0x0123,
                inner_type: 0x0800,
            },
            Vlan {
                tci: 0x0fff,
                inner_type: 0xffff,
            },
        )),
        Item::Ipv4(Match::new(
            ipv4,
            Ipv4 {
                src: Ipv4Addr::new(255, 255, 0, 0),
                fragment: 0x3fff,
                ..ipv4
            },
        )),
        Item::Udp(Match::new(Udp { src: 1024, dst: 4789 }, Udp { src: 0, dst: 0xffff })),
        Item::Vxlan(Match::new(Vxlan { vni: 0x000a_bcde }, Vxlan { vni: 0x00ff_ffff })),
        Item::Ipv6(Match::new(ipv6, ipv6)),
        Item::Tcp(Match::new(
            Tcp {
                src: 80,
                dst: 443,
                flags: 0,
            },
            Tcp {
                src: 0xffff,
                dst: 0xffff,
                flags: 7,
            },
        )),
        Item::Icmp(Match::new(
            Icmp {
                icmp_type: 8,
                code: 0,
                identifier: 77,
            },
            Icmp {
                icmp_type: 255,
                code: 255,
                identifier: 0xffff,
            },
        )),
        Item::Meta(Match::new(5, u32::MAX)),
        Item::Mark(Match::new(6, 0xff)),
        Item::Tag(Match::new(
            Tag { data: 7, index: 2 },
            Tag {
                data: u32::MAX,
                index: 255,
            },
        )),
        Item::PortRepresentor(PortId(3)),
        Item::RepresentedPort(PortId(4)),
    ]
}

fn tunnel(v6: bool) -> VxlanTunnel {
    let address = |a| match v6 {
        true => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, a)),
        false => IpAddr::V4(Ipv4Addr::new(192, 0, 2, a as u8)),
    };
    VxlanTunnel {
        dst_mac: [3; 6],
        src_mac: [4; 6],
        vlan: v6.then_some(12),
        src: address(1),
        dst: address(2),
        ttl: 61,
        tos: 0x28,
        udp_src: 50_000,
        udp_dst: 4789,
        vni: 70_000,
    }
}

fn every_action() -> Vec<Action> {
    vec![
        Action::Count,
        Action::Age {
            seconds: 300,
            context: 0xdead_beef_cafe,
        },
        Action::SetIpv4Src(Ipv4Addr::new(192, 0, 2, 1)),
        Action::SetIpv4Dst(Ipv4Addr::new(192, 0, 2, 2)),
        Action::SetIpv6Src(Ipv6Addr::LOCALHOST),
        Action::SetIpv6Dst(Ipv6Addr::from_bits(0x1234 << 100)),
        Action::SetTpSrc(40_000),
        Action::SetTpDst(53),
        Action::SetMacSrc([5; 6]),
        Action::SetMacDst([6; 6]),
        Action::DecTtl,
        Action::SetTtl(9),
        Action::VxlanDecap,
        Action::VxlanEncap(tunnel(false)),
        Action::RawEncap(HeaderBytes::new(&[1, 2, 3]).expect("short")),
        Action::RawDecap(HeaderBytes::new(&[9; HeaderBytes::CAPACITY]).expect("fits")),
        Action::OfPopVlan,
        Action::OfPushVlan(0x8100),
        Action::OfSetVlanVid(99),
        Action::PortId(PortId(1)),
        Action::Queue(3),
        Action::SetMeta { data: 1, mask: 2 },
        Action::SetTag {
            data: 1,
            mask: 2,
            index: 3,
        },
        Action::Jump(7),
    ]
}

isolated! {
    fn rules_reach_the_driver_as_they_were_written() {
        let (_eal, engine, port, _queues) = start(None);
        assert!(port.capabilities().flow);
        let attr = Attr { group: 3, priority: 2, ingress: false, egress: false, transfer: true };
        let (items, actions) = (every_item(), every_action());
        let flow = port.flow_create(&attr, &items, &actions).expect("created");
        {
            let state = engine.state.lock().expect("state");
            let rule = &state.rules[&state.last];
            assert_eq!((rule.attr, &rule.items, &rule.actions), (attr, &items, &actions));
        }
        let others = [
            Action::VxlanEncap(tunnel(true)),
            Action::PortRepresentor(PortId(0)),
            Action::RepresentedPort(PortId(1)),
            Action::Mark(4),
            Action::Drop,
        ];
        let second = port.flow_create(&Attr::ingress(0), &[], &others).expect("created");
        {
            let state = engine.state.lock().expect("state");
            assert_eq!(state.rules[&state.last].actions, others);
        }

        assert_eq!(port.flow_validate(&attr, &items, &actions), Ok(()));
        let error = port.flow_validate(&attr, &items, &[]).expect_err("no actions");
        assert_eq!(error.kind, FlowErrorKind::Unsupported);
        assert!(error.to_string().contains("a rule without actions"), "{error}");
        let error = port.flow_create(&attr, &vec![items[0]; 17], &actions).expect_err("too many");
        assert_eq!(error.kind, FlowErrorKind::Item);
        let error = port.flow_create(&attr, &items, &vec![Action::Count; 25]).expect_err("too many");
        assert_eq!(error.kind, FlowErrorKind::Action);

        let count = port.flow_query_count(&flow, false).expect("count");
        assert_eq!((count.packets, count.bytes), (Some(10), None));
        assert_eq!(port.flow_query_count(&flow, true).expect("count").bytes, Some(7));
        let age = port.flow_query_age(&flow).expect("age");
        assert_eq!((age.aged, age.idle_seconds), (true, Some(0x00ab_cdef)));
        let mut aged = Vec::new();
        port.flow_aged(&mut aged).expect("aged");
        assert_eq!(aged, [0xdead_beef_cafe]);

        port.flow_destroy(flow).expect("destroyed");
        assert_eq!(engine.state.lock().expect("state").rules.len(), 1);
        port.flow_flush().expect("flushed");
        let gone = port.flow_destroy(second).expect_err("went with the flush");
        assert_eq!(gone.error.kind, FlowErrorKind::Handle);
    }
}

isolated! {
    fn template_rules_happen_between_push_and_pull() {
        let config = FlowConfig { queues: 2, queue_size: 8, counters: 100, aging_objects: 50 };
        let (_eal, engine, port, queues) = start(Some(config.clone()));
        assert_eq!(engine.state.lock().expect("state").config, config);
        let attr = Attr::transfer(1);
        let items = every_item();
        let pattern = PatternTemplate::create(&port, &attr, &items).expect("pattern");
        let shape: Vec<_> = every_action()
            .into_iter()
            .enumerate()
            .map(|(i, action)| if i % 2 == 0 { TemplateAction::fixed(action) } else { TemplateAction::per_rule(action) })
            .collect();
        let actions = ActionsTemplate::create(&port, &attr, &shape).expect("actions");
        {
            let state = engine.state.lock().expect("state");
            assert_eq!(state.patterns.values().next(), Some(&items));
            let told = state.actions.values().next().expect("actions");
            let bare = [Action::DecTtl, Action::VxlanDecap, Action::OfPopVlan, Action::Count];
            for (told, written) in told.iter().zip(&shape) {
                assert_eq!(told.action, written.action);
                assert!(told.fixed == written.fixed || bare.contains(&written.action), "{told:?}");
            }
        }
        let table = TableAttr { attr, rules: 1000 };
        let table = TemplateTable::create(&port, &table, from_ref(&pattern), from_ref(&actions)).expect("table");
        drop((pattern, actions));
        assert_eq!(engine.state.lock().expect("state").patterns.len(), 1, "the table holds its templates");

        let mut flow_queues = port.take_flow_queues();
        assert_eq!((flow_queues.len(), port.take_flow_queues().len()), (2, 0));
        let queue = &mut flow_queues[1];
        let mut flows: Vec<_> = (0..8)
            .map(|n| queue.create(&table, &items, 0, &every_action(), 0, u64::MAX - n).expect("entered"))
            .collect();
        let full = queue.create(&table, &items, 0, &every_action(), 0, 0).expect_err("full");
        assert_eq!(full.kind, FlowErrorKind::Full);
        assert_eq!(queue.create(&table, &items, 1, &[], 0, 0).expect_err("no such template").kind, FlowErrorKind::Handle);
        let mut done: Vec<Completion> = Vec::new();
        assert_eq!(queue.pull(&mut done), Ok(0), "nothing was pushed");
        queue.push().expect("pushed");
        assert_eq!(queue.pull(&mut done), Ok(8));
        assert_eq!(done[3], Completion { user_data: u64::MAX - 3, ok: true });
        {
            let state = engine.state.lock().expect("state");
            let rule = state.rules.values().next().expect("rule");
            assert_eq!((rule.attr, &rule.items, &rule.actions), (attr, &items, &every_action()));
        }

        let flow = flows.pop().expect("flow");
        assert_eq!(port.flow_query_count(&flow, false).map(|c| c.packets.is_some()), Ok(true));
        let wrong = port.flow_destroy(flow).expect_err("made by a queue");
        assert_eq!(wrong.error.kind, FlowErrorKind::Handle);
        flows.push(wrong.flow);
        for (n, flow) in flows.drain(..).enumerate() {
            queue.destroy(flow, n as u64).expect("entered");
        }
        queue.push().expect("pushed");
        done.clear();
        assert_eq!(queue.pull(&mut done), Ok(8));
        assert!(done.iter().enumerate().all(|(n, c)| c.ok && c.user_data == n as u64));
        assert!(engine.state.lock().expect("state").rules.is_empty());

        drop(table);
        let state = engine.state.lock().expect("state");
        assert!(state.tables.is_empty() && state.patterns.is_empty() && state.actions.is_empty());
        drop(state);
        drop((queues, flow_queues, port));
    }
}
