//! What each value may be by itself, where its type allows more.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::Findings;
use crate::fault::Fault;
use crate::model::{Config, Peer, Rib, Timers};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    names(config, findings);
    let dataplane = &config.dataplane;
    within(findings, "dataplane.memory-mb", dataplane.memory_mb, 64..=1_048_576);
    within(findings, "dataplane.buffers", dataplane.buffers, 1024..=8_388_608);
    within(
        findings,
        "dataplane.connections",
        dataplane.connections,
        1024..=134_217_728,
    );
    if dataplane.workers.is_empty() {
        findings.at(
            "dataplane.workers",
            Fault::Empty {
                object: "[dataplane]".to_owned(),
                key: "workers",
            },
        );
    }
    let workers = dataplane.workers.iter().enumerate().map(|(index, core)| super::Claim {
        value: *core,
        path: format!("dataplane.workers[{index}]"),
        owner: "one worker".to_owned(),
    });
    super::unique(workers, findings, |core, first, _| Fault::Duplicate {
        what: "core",
        value: core.to_string(),
        first,
        second: "another".to_owned(),
        remedy: "list each core once",
    });
    if let Some(vxlan) = &config.vxlan {
        within(findings, "vxlan.port", vxlan.port, 1..=u16::MAX);
    }
    for (index, port) in config.ports.iter().enumerate() {
        if port.device.is_empty() || port.device.chars().any(char::is_control) {
            let reason = "it is empty or holds control characters".to_owned();
            invalid(
                findings,
                &format!("port[{index}].device"),
                reason,
                "DPDK device arguments, as in \"net_tap0\"",
            );
        }
    }
    for (index, route) in config.routes.iter().enumerate() {
        within(findings, &format!("route[{index}].distance"), route.distance, 1..=255);
    }
    rib(&config.rib, findings);
    within(findings, "kernel.table", config.kernel.table, 1..=u32::MAX);
    // Up to 4 are the kernel's own (RTPROT_STATIC).
    within(findings, "kernel.protocol", config.kernel.protocol, 5..=255);
    within(
        findings,
        "kernel.audit-interval",
        config.kernel.audit_interval,
        1..=86_400,
    );
    if let Some(fpm) = &config.fpm {
        if !fpm.listen.ip().is_loopback() {
            let reason = format!(
                "{} is not on the loopback interface, and FPM has no authentication",
                fpm.listen.ip()
            );
            invalid(findings, "fpm.listen", reason, "an address such as \"127.0.0.1:2620\"");
        }
        within(findings, "fpm.listen", fpm.listen.port(), 1..=u16::MAX);
        within(findings, "fpm.stale-time", fpm.stale_time, 1..=86_400);
    }
    if let Some(bgp) = &config.bgp {
        within(findings, "bgp.multipath", bgp.multipath, 1..=256);
        let deferral = bgp.selection_deferral_time;
        within(findings, "bgp.selection-deferral-time", deferral, 0..=3600);
        within(findings, "bgp.multipath-internal", bgp.multipath_internal, 1..=256);
        for (index, item) in bgp.peers.iter().enumerate() {
            peer(item, &format!("bgp.peer[{index}]"), findings);
        }
        for (index, rpki) in bgp.rpki.iter().enumerate() {
            let path = format!("bgp.rpki[{index}].cache");
            within(findings, &path, rpki.cache.port(), 1..=u16::MAX);
        }
        for (index, bmp) in bgp.bmp.iter().enumerate() {
            let at = |key: &str| format!("bgp.bmp[{index}].{key}");
            within(findings, &at("collector"), bmp.collector.port(), 1..=u16::MAX);
            within(
                findings,
                &at("statistics-interval"),
                bmp.statistics_interval,
                0..=86_400,
            );
        }
        for (index, dynamic) in bgp.dynamic.iter().enumerate() {
            let path = format!("bgp.dynamic[{index}]");
            within(findings, &format!("{path}.limit"), dynamic.limit, 1..=100_000);
            peer(&dynamic.template, &path, findings);
        }
        for (index, unnumbered) in bgp.unnumbered.iter().enumerate() {
            peer(&unnumbered.template, &format!("bgp.unnumbered[{index}]"), findings);
        }
    }
    within(findings, "nat.pick-up", config.nat.pick_up, 0..=3600);
    timers("nat.timers", &config.nat.timers, findings);
    for (index, row) in config.nat.vpc_timers.iter().enumerate() {
        timers(&format!("nat.vpc-timers[{index}]"), &row.timers, findings);
    }
    for (index, forward) in config.nat.port_forwards.iter().enumerate() {
        let more = forward.ports.last() - forward.ports.first();
        for (number, target) in forward.targets.iter().enumerate() {
            let key = match forward.targets.len() {
                1 => "target-port".to_owned(),
                _ => format!("targets[{number}].port"),
            };
            let path = format!("nat.port-forward[{index}].{key}");
            within(findings, &path, target.port, 1..=u16::MAX - more);
        }
    }
    let socket = &config.api.socket;
    let reason = match socket.to_str() {
        None => Some("it is not UTF-8"),
        Some(_) if !socket.is_absolute() => Some("it does not start at /"),
        Some(path) if path.len() > 107 => Some("it is longer than the 107 bytes that a Unix socket's path may have"),
        Some(path) if path.contains('\0') => Some("it holds a NUL character"),
        Some(_) => None,
    };
    if let Some(reason) = reason {
        invalid(
            findings,
            "api.socket",
            reason.to_owned(),
            "an absolute path such as \"/run/turnpike/api.sock\"",
        );
    }
}

fn peer(peer: &Peer, path: &str, findings: &mut Findings) {
    const DAY: u32 = 24 * 3600;
    let at = |key: &str| format!("{path}.{key}");
    within(findings, &at("port"), peer.port, 1..=u16::MAX);
    within(findings, &at("connect-retry"), peer.connect_retry, 1..=u16::MAX);
    within(findings, &at("send-hold-time"), peer.send_hold_time, 1..=DAY);
    // The field of the capability has 12 bits (RFC 4724 section 3).
    within(findings, &at("restart-time"), peer.restart_time, 1..=4095);
    within(findings, &at("stale-time"), peer.stale_time, 1..=DAY);
    // The field of the capability has 24 bits (RFC 9494 section 3).
    let long_lived = peer.long_lived_stale_time;
    within(findings, &at("long-lived-stale-time"), long_lived, 0..=0x00ff_ffff);
    if let Some(bfd) = &peer.bfd {
        within(findings, &at("bfd.min-tx-ms"), bfd.min_tx_ms, 10..=60_000);
        within(findings, &at("bfd.min-rx-ms"), bfd.min_rx_ms, 10..=60_000);
        within(findings, &at("bfd.multiplier"), bfd.multiplier, 1..=255);
    }
    within(findings, &at("max-prefixes-warn"), peer.max_prefixes_warn, 1..=100);
    for (key, hops) in [("ttl-security", peer.ttl_security), ("multihop", peer.multihop)] {
        if let Some(hops) = hops {
            within(findings, &at(key), hops, 1..=254);
        }
    }
    if let Some(most) = peer.max_prefixes {
        within(findings, &at("max-prefixes"), most, 1..=u32::MAX);
    }
    if let Some(pause) = peer.max_prefixes_restart {
        within(findings, &at("max-prefixes-restart"), pause, 1..=7 * DAY);
    }
}

fn rib(rib: &Rib, findings: &mut Findings) {
    let (batch, large) = (&rib.batch, &rib.large_batch);
    within(findings, "rib.batch-size", batch.size, 1..=10_000_000);
    within(findings, "rib.batch-time-ms", batch.time, 1..=10_000);
    // A large batch is not smaller than another.
    within(
        findings,
        "rib.large-batch-size",
        large.size,
        batch.size.max(1)..=10_000_000,
    );
    within(
        findings,
        "rib.large-batch-time-ms",
        large.time,
        batch.time.max(1)..=10_000,
    );
    within(findings, "rib.publish-interval-ms", rib.publish_interval, 0..=1_000);
    for (source, distance) in rib.distance.by_source() {
        within(findings, &format!("rib.distance.{source}"), distance, 1..=255);
    }
}

fn timers(path: &str, timers: &Timers, findings: &mut Findings) {
    const DAYS_30: u32 = 30 * 24 * 3600;
    for (key, seconds) in [
        ("tcp-established", timers.tcp_established),
        ("tcp-transitory", timers.tcp_transitory),
        ("udp", timers.udp),
        ("icmp", timers.icmp),
        ("other", timers.other),
    ] {
        within(findings, &format!("{path}.{key}"), seconds, 1..=DAYS_30);
    }
}

fn names(config: &Config, findings: &mut Findings) {
    let ports = config
        .ports
        .iter()
        .enumerate()
        .map(|(i, port)| ("port", &port.name, format!("port[{i}].name")));
    let vpcs = config
        .vpcs
        .iter()
        .enumerate()
        .map(|(i, vpc)| ("vpc", &vpc.name, format!("vpc[{i}].name")));
    let gateway = [("gateway", &config.gateway.name, "gateway.name".to_owned())];
    for (kind, text, path) in gateway.into_iter().chain(ports).chain(vpcs) {
        name(findings, &path, kind, text);
    }
}

/// What people and references call something.
pub(super) fn name(findings: &mut Findings, path: &str, kind: &'static str, name: &str) {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=63).contains(&name.len()) || !name.bytes().all(plain) {
        let name = name.to_owned();
        findings.at(path, Fault::BadName { kind, name });
    }
}

pub(super) fn within<T: PartialOrd + Display>(
    findings: &mut Findings,
    path: &str,
    value: T,
    limits: RangeInclusive<T>,
) {
    if !limits.contains(&value) {
        let example = format!("a number from {} to {}", limits.start(), limits.end());
        invalid(findings, path, format!("{value} is out of range"), example);
    }
}

pub(super) fn invalid(findings: &mut Findings, path: &str, reason: String, example: impl Into<String>) {
    let key = path.rsplit('.').next().unwrap_or(path).to_owned();
    findings.at(
        path,
        Fault::InvalidValue {
            key,
            reason,
            example: example.into(),
        },
    );
}
