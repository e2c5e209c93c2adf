//! What a forwarded packet costs, and how fast rules come and go: generators as wires, one thread.
//!
//! `cargo run --release -p softasic --example forwarding_rate`; with the argument `rules`, only the latter.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Instant;

use dpdk_sys::flow::{
    Action, ActionsTemplate, Attr, Flow, FlowConfig, FlowErrorKind, FlowQueue, Ipv4, Item, Match, PatternTemplate,
    TableAttr, TemplateAction, TemplateTable, Udp,
};
use dpdk_sys::{BURST, Burst, Eal, EalConfig, Memory, Mempool, Port, PortConfig, PortId, RxQueue, StartedPort};
use net::checksum::checksum;

const PACKETS: u64 = 10_000_000;
const TO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0xee];

fn main() -> Result<(), Box<dyn Error>> {
    softasic::register_generator()?;
    softasic::register()?;
    let eal = Eal::init(EalConfig::new("forwarding-rate", Memory::NoHuge { megabytes: 128 }))?;
    let pool = Mempool::new(&eal, "packets", 8191, 256, dpdk_sys::DEFAULT_DATA_ROOM)?;
    let mut ports = Vec::new();
    for number in 0..2 {
        eal.attach(&format!("net_generator{number}"))?;
        let handle = eal.attach(&format!("net_softasic{number},wire=net_generator{number}"))?;
        let config = PortConfig {
            flow: Some(FlowConfig {
                queues: 1,
                queue_size: 1024,
                ..FlowConfig::default()
            }),
            ..PortConfig::new(pool.clone())
        };
        ports.push(Port::configure(&eal, handle.port(), &config)?.start()?);
    }
    let mac = ports[0].0.mac();
    let egress = ports[1].0.id();
    let (port, rx, _) = &mut ports[0];
    let mut queue = port.take_flow_queues().remove(0);
    let _entrance = port.flow_create(&Attr::transfer(0), &[Item::Eth(Match::any())], &[Action::Jump(1)])?;
    let rules_alone = std::env::args().any(|argument| argument == "rules");
    for rules in [1_000, 10_000, 100_000, 500_000] {
        if rules_alone {
            let (flows, table, created) = create(port, &mut queue, egress, rules)?;
            let destroyed = destroy(&mut queue, flows)?;
            drop(table);
            println!("{rules} rules: create {created:.2} and destroy {destroyed:.2} million a second");
            continue;
        }
        let frames: Vec<Vec<u8>> = (0..rules).map(|number| frame(number, mac)).collect();
        softasic::generator::replace("net_generator0", &frames);
        let alone = forward(rx);
        let (flows, table, created) = create(port, &mut queue, egress, rules)?;
        let hit = forward(rx);
        let misses: Vec<Vec<u8>> = (0..rules).map(|number| frame(number + (1 << 20), mac)).collect();
        softasic::generator::replace("net_generator0", &misses);
        let miss = forward(rx);
        let destroyed = destroy(&mut queue, flows)?;
        drop(table);
        println!(
            "{rules} rules: without rules {alone:.0}, all offloaded {hit:.0}, none of them {miss:.0} ns a packet; \
             create {created:.2} and destroy {destroyed:.2} million a second"
        );
    }
    println!("sent: {}", softasic::generator::counters("net_generator1").1);
    Ok(())
}

/// Nanoseconds a packet, the best of three runs.
fn forward(rx: &mut [RxQueue]) -> f64 {
    let mut burst = Burst::new();
    let mut best = f64::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        for _ in 0..PACKETS / BURST as u64 {
            rx[0].burst(&mut burst, BURST);
            dpdk_sys::Mbuf::free_bulk(&mut burst);
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / PACKETS as f64);
    }
    best
}

type Created = (Vec<Flow>, TemplateTable, f64);

fn create(port: &StartedPort, queue: &mut FlowQueue, egress: PortId, rules: u32) -> Result<Created, Box<dyn Error>> {
    let attr = Attr::transfer(1);
    let pattern = PatternTemplate::create(port, &attr, &items(0))?;
    let template: Vec<TemplateAction> = actions(0, egress).into_iter().map(TemplateAction::per_rule).collect();
    let template = ActionsTemplate::create(port, &attr, &template)?;
    let table = TemplateTable::create(port, &TableAttr { attr, rules }, &[pattern], &[template])?;
    let mut flows = Vec::with_capacity(rules as usize);
    let mut done = Vec::new();
    let start = Instant::now();
    for number in 0..rules {
        flows.push(queue.create(&table, &items(number), 0, &actions(number, egress), 0, number.into())?);
        if number % 64 == 63 {
            queue.push()?;
            queue.pull(&mut done)?;
        }
    }
    queue.push()?;
    while queue.pull(&mut done)? > 0 {}
    let rate = f64::from(rules) / start.elapsed().as_secs_f64() / 1e6;
    assert!(done.len() == rules as usize && done.iter().all(|completion| completion.ok));
    Ok((flows, table, rate))
}

fn destroy(queue: &mut FlowQueue, flows: Vec<Flow>) -> Result<f64, Box<dyn Error>> {
    let (rules, mut done) = (flows.len(), Vec::new());
    let start = Instant::now();
    for (number, mut flow) in flows.into_iter().enumerate() {
        while let Err(refused) = queue.destroy(flow, number as u64) {
            if refused.error.kind != FlowErrorKind::Full {
                return Err(refused.error.into());
            }
            flow = refused.flow;
            queue.push()?;
            queue.pull(&mut done)?;
        }
        if number % 64 == 63 {
            queue.push()?;
            queue.pull(&mut done)?;
        }
    }
    queue.push()?;
    while queue.pull(&mut done)? > 0 {}
    Ok(rules as f64 / start.elapsed().as_secs_f64() / 1e6)
}

/// Source address and port of a flow.
fn source(number: u32) -> (Ipv4Addr, u16) {
    (
        Ipv4Addr::from(0x0a00_0000 + (number >> 8)),
        1024 + (number & 0xff) as u16,
    )
}

fn items(number: u32) -> [Item; 3] {
    let (src, port) = source(number);
    let ip = Ipv4 {
        version_ihl: 0x45,
        protocol: 17,
        src,
        dst: TO,
        ..Ipv4::default()
    };
    let mask = Ipv4 {
        version_ihl: 0xff,
        fragment: 0xbfff,
        protocol: 0xff,
        src: Ipv4Addr::BROADCAST,
        dst: Ipv4Addr::BROADCAST,
        ..Ipv4::default()
    };
    let all = Udp {
        src: u16::MAX,
        dst: u16::MAX,
    };
    [
        Item::Eth(Match::any()),
        Item::Ipv4(Match::new(ip, mask)),
        Item::Udp(Match::new(Udp { src: port, dst: 53 }, all)),
    ]
}

fn actions(number: u32, egress: PortId) -> [Action; 9] {
    [
        Action::SetIpv4Src(Ipv4Addr::new(198, 51, 100, 7)),
        Action::SetIpv4Dst(TO),
        Action::SetTpSrc(number as u16),
        Action::SetTpDst(53),
        Action::DecTtl,
        Action::SetMacDst(PEER),
        Action::SetMacSrc([2, 0, 0, 0, 0, 1]),
        Action::Count,
        Action::RepresentedPort(egress),
    ]
}

/// A UDP packet of 60 bytes without checksum.
fn frame(number: u32, mac: [u8; 6]) -> Vec<u8> {
    let (src, port) = source(number);
    let mut frame = [mac, PEER].concat();
    frame.extend([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(src.octets());
    frame.extend(TO.octets());
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 53, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}
