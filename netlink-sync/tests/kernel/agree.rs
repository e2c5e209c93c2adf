//! An independent digest: what `ip -json` shows of the kernel, and what the events that the mirror told add up to, in one
//! notation and hashed, without a line of code of the mirror's own.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use net::{RouteKind, VrfId};
use serde_json::Value;
use tokio::time::Instant;

use crate::world::{Model, PATIENCE, World, ip_json};

/// Kernel tables and their VRFs, as [`World`] has them.
const TABLES: [(&str, VrfId); 2] = [("main", VrfId::DEFAULT), ("100", VrfId(7))];
/// Types of routes that are not told.
const UNTOLD_TYPES: [&str; 4] = ["local", "broadcast", "multicast", "anycast"];
/// Protocols whose routes are not told: the kernel's own, and ours.
const UNTOLD_PROTOCOLS: [&str; 4] = ["kernel", "212", "redirect", "ra"];

/// Links, addresses, and of each VRF and prefix the route of the lowest metric.
type Lines = BTreeSet<String>;

fn digest(lines: &Lines) -> u64 {
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    hasher.finish()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// As `ip` sees it.
fn kernel() -> Lines {
    let mut lines = Lines::new();
    for link in ip_json("address show") {
        let index = &link["ifindex"];
        lines.insert(format!("link {index} {}", text(&link, "ifname")));
        for address in link["addr_info"].as_array().into_iter().flatten() {
            lines.insert(format!(
                "address {index} {}/{}",
                text(address, "local"),
                address["prefixlen"]
            ));
        }
    }
    for (family, usual) in [("-4", 0), ("-6", 1024)] {
        let mut best: BTreeMap<(VrfId, String), (u64, String)> = BTreeMap::new();
        for route in ip_json(&format!("{family} route show table all")) {
            let table = route["table"].as_str().unwrap_or("main");
            let Some((_, vrf)) = TABLES.iter().find(|(name, _)| *name == table) else {
                continue;
            };
            let kind = route["type"].as_str().unwrap_or("unicast");
            if UNTOLD_PROTOCOLS.contains(&text(&route, "protocol")) || UNTOLD_TYPES.contains(&kind) {
                continue;
            }
            let Some(ways) = ways(&route, kind) else { continue };
            let metric = route["metric"].as_u64().unwrap_or(usual);
            let to = destination(text(&route, "dst"), family == "-4");
            let known = best.entry((*vrf, to)).or_insert((u64::MAX, String::new()));
            if metric < known.0 {
                *known = (metric, ways);
            }
        }
        lines.extend((best.into_iter()).map(|((vrf, to), (metric, ways))| format!("route {vrf} {to} {metric} {ways}")));
    }
    lines
}

fn destination(to: &str, v4: bool) -> String {
    match (to, v4) {
        ("default", true) => "0.0.0.0/0".to_owned(),
        ("default", false) => "::/0".to_owned(),
        (to, _) if to.contains('/') => to.to_owned(),
        (to, true) => format!("{to}/32"),
        (to, false) => format!("{to}/128"),
    }
}

/// A route that zebra wrote, or that it pushed, as a line.
pub(crate) fn static_line(route: &Value, v4: bool) -> Option<String> {
    let ways = ways(route, route["type"].as_str().unwrap_or("unicast"))?;
    Some(format!("{} {ways}", destination(text(route, "dst"), v4)))
}

/// Kind or next hops; `None` if the kernel uses none of them.
fn ways(route: &Value, kind: &str) -> Option<String> {
    if kind != "unicast" {
        return Some(kind.to_owned());
    }
    let one = [route.clone()];
    let hops = route["nexthops"].as_array().map_or(&one[..], Vec::as_slice);
    let alive = |hop: &&Value| {
        !hop["flags"]
            .as_array()
            .is_some_and(|flags| flags.iter().any(|f| f == "dead"))
    };
    let gateway = |hop: &Value| {
        hop["gateway"]
            .as_str()
            .or(hop["via"]["host"].as_str())
            .unwrap_or("-")
            .to_owned()
    };
    let mut ways: Vec<_> = hops.iter().filter(alive).map(gateway).collect();
    ways.sort();
    (!ways.is_empty()).then(|| ways.join(" "))
}

/// As the events add up.
fn told(model: &Model) -> Lines {
    let mut lines = Lines::new();
    lines.extend(
        model
            .links
            .values()
            .map(|link| format!("link {} {}", link.index, link.name)),
    );
    lines.extend(
        model
            .addresses
            .iter()
            .map(|(index, address)| format!("address {index} {address}")),
    );
    for ((vrf, prefix), route) in &model.routes {
        let ways = match route.kind {
            RouteKind::Unicast => {
                let mut ways: Vec<_> = model.ways(route);
                ways.sort();
                ways.join(" ")
            }
            RouteKind::Blackhole => "blackhole".to_owned(),
            RouteKind::Prohibit => "prohibit".to_owned(),
            _ => "unreachable".to_owned(),
        };
        lines.insert(format!("route {vrf} {prefix} {} {ways}", route.metric));
    }
    lines
}

impl World {
    /// Takes events until their digest is the kernel's.
    pub(crate) async fn agrees(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.take_for(Duration::from_millis(20)).await;
            let (kernel, told) = (kernel(), told(&self.model));
            if digest(&kernel) == digest(&told) {
                return;
            }
            if Instant::now() > deadline {
                let of = |one: &Lines, other: &Lines| one.difference(other).take(10).cloned().collect::<Vec<_>>();
                panic!(
                    "the digests differ; only the kernel has {:#?}, only we have {:#?}\n{:#?}",
                    of(&kernel, &told),
                    of(&told, &kernel),
                    self.mirror.status()
                );
            }
        }
    }
}
