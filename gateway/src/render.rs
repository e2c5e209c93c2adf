//! Tables for people: one function for each `turnpike show`, from the API's JSON.

mod why;

use comfy_table::{Table, presets};
use serde_json::Value;

pub use why::bgp_why;

/// A table with these columns; each row is as long.
fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(columns.iter().map(|column| column.to_uppercase()));
    let mut count = 0;
    for row in rows {
        table.add_row(row);
        count += 1;
    }
    if count == 0 {
        "none\n".to_owned()
    } else {
        format!("{}\n", table.trim_fmt())
    }
}

/// The value at a path of keys, as a person reads it.
fn text(value: &Value, path: &[&str]) -> String {
    let found = path.iter().fold(value, |value, key| &value[*key]);
    match found {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(|item| text(item, &[])).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The values at several keys, as one row.
fn row(value: &Value, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| text(value, &[key])).collect()
}

/// `turnpike show summary`.
pub fn summary(value: &Value) -> String {
    let mut out = format!(
        "{} (turnpiked {}), up {} s\nrevision {}, generation {}\n",
        text(value, &["name"]),
        text(value, &["version"]),
        text(value, &["uptime_seconds"]),
        text(value, &["revision"]),
        text(value, &["generation"]),
    );
    if !value["stall"].is_null() {
        out += &format!("STALLED: {}\n", stall(&value["stall"]));
    }
    out += &format!(
        "{} routes, {} connections, {} offloaded, {} of {} BGP sessions established, {} packets dropped\n",
        text(value, &["routes"]),
        text(value, &["connections"]),
        text(value, &["offloads"]),
        text(value, &["bgp", "established"]),
        text(value, &["bgp", "configured"]),
        text(value, &["drops"]),
    );
    out += &format!(
        "route tables: {} bytes in the RIB, {} in both copies for workers, {} a route\n",
        text(value, &["memory", "rib_bytes"]),
        text(value, &["memory", "tables_bytes"]),
        text(value, &["memory", "bytes_per_route"]),
    );
    out += &format!(
        "kernel: {} routes installed, {} pending; packet buffers: {} of {} in use\n\nports\n",
        text(value, &["kernel", "installed"]),
        text(value, &["kernel", "pending"]),
        text(value, &["buffers_in_use"]),
        text(value, &["buffers"]),
    );
    let ports = [
        "name",
        "driver",
        "host_interface",
        "mac",
        "mtu",
        "link_up",
        "rx_packets",
        "tx_packets",
        "addresses",
    ];
    let ports_shown = ["name", "driver", "host", "mac", "mtu", "up", "rx", "tx", "addresses"];
    out += &table(&ports_shown, rows(&value["ports"]).map(|port| row(port, &ports)));
    out += "\nVPCs\n";
    let vpcs = ["id", "name", "vni", "vlan", "host_interface", "addresses"];
    out += &table(
        &["id", "name", "vni", "vlan", "host", "addresses"],
        rows(&value["vpcs"]).map(|vpc| row(vpc, &vpcs)),
    );
    out += "\nworkers\n";
    let workers = [
        "index",
        "core",
        "generation",
        "rx",
        "tx",
        "punted",
        "injected",
        "generated",
        "dropped",
        "held",
    ];
    out += &table(&workers, rows(&value["workers"]).map(|worker| row(worker, &workers)));
    out
}

/// `turnpike show routes`.
pub fn routes(value: &Value) -> String {
    let shown = rows(value).map(|route| {
        let best = if route["active"] == true { ">" } else { " " };
        // A tunnel is known by its endpoint, which is resolved in another VRF.
        let tunnels = rows(&route["next_hops"]).filter(|hop| !hop["vxlan"].is_null());
        let tunnels: Vec<_> = tunnels.map(hop).collect();
        let hops = match tunnels.is_empty() {
            true => rows(&route["resolved"]).map(hop).collect::<Vec<_>>().join(", "),
            false => tunnels.join(", "),
        };
        let way = if hops.is_empty() { text(route, &["kind"]) } else { hops };
        let mut cells = vec![best.to_owned()];
        cells.extend(row(route, &["vrf_name", "prefix", "source", "distance", "metric"]));
        cells.extend([way, text(route, &["reason"])]);
        cells
    });
    table(
        &[
            "", "vrf", "prefix", "source", "distance", "metric", "next hop", "why not",
        ],
        shown,
    )
}

fn hop(hop: &Value) -> String {
    let vxlan = &hop["vxlan"];
    if !vxlan.is_null() {
        return format!("via VTEP {} VNI {}", text(vxlan, &["vtep"]), text(vxlan, &["vni"]));
    }
    match (&hop["vrf"], &hop["gateway"]) {
        (Value::Null, Value::Null) => format!("on link {}", text(hop, &["interface"])),
        (Value::Null, _) => format!("via {}", text(hop, &["gateway"])),
        _ => format!("in VRF {}", text(hop, &["vrf"])),
    }
}

/// `turnpike show bgp`.
pub fn bgp(value: &Value) -> String {
    let mut out = format!(
        "AS {}, router id {}, {} prefixes, {} paths, {} update groups\n\n",
        text(value, &["asn"]),
        text(value, &["router_id"]),
        text(value, &["prefixes"]),
        text(value, &["paths"]),
        text(value, &["update_groups"]),
    );
    if rows(&value["awaited"]).next().is_some() {
        out += &format!(
            "nothing is announced before these have told their tables: {}\n\n",
            text(value, &["awaited"])
        );
    }
    let peers = rows(&value["peers"]).map(|peer| {
        let mut cells = row(peer, &["address", "remote_as", "state", "uptime_seconds"]);
        for counter in ["received", "accepted", "advertised"] {
            let sum: u64 = rows(&peer["families"])
                .filter_map(|family| family[counter].as_u64())
                .sum();
            cells.push(sum.to_string());
        }
        cells.extend(row(
            peer,
            &["messages_in", "messages_out", "flaps", "bfd", "last_error"],
        ));
        cells
    });
    out += &table(
        &[
            "peer",
            "as",
            "state",
            "up (s)",
            "received",
            "accepted",
            "advertised",
            "in",
            "out",
            "flaps",
            "bfd",
            "last error",
        ],
        peers,
    );
    out += "\n";
    let paths = rows(&value["routes"]).flat_map(|route| {
        rows(&route["paths"]).map(move |path| {
            let mark = match (path["best"] == true, path["multipath"] == true) {
                (true, _) => ">",
                (false, true) => "=",
                (false, false) => " ",
            };
            let stale = if path["stale"] == true { "s" } else { "" };
            let mut cells = vec![format!("{mark}{stale}"), text(route, &["prefix"])];
            cells.extend(row(
                path,
                &["peer", "next_hop", "as_path", "origin", "local_pref", "med", "reason"],
            ));
            cells
        })
    });
    out += &table(
        &[
            "", "prefix", "peer", "next hop", "as path", "origin", "pref", "med", "why not",
        ],
        paths,
    );
    out
}

/// `turnpike bgp refresh`.
pub fn refreshed(value: &Value) -> String {
    format!("asked {} for its routes again\n", text(value, &["peer"]))
}

/// `turnpike show bfd`.
pub fn bfd(value: &Value) -> String {
    let sessions = rows(&value["sessions"]).map(|session| {
        row(
            session,
            &[
                "neighbor",
                "state",
                "remote_state",
                "uptime",
                "send_interval_ms",
                "detection_time_ms",
                "packets_in",
                "packets_out",
                "downs",
                "last_down",
            ],
        )
    });
    let mut out = table(
        &[
            "neighbor",
            "state",
            "remote",
            "up (s)",
            "interval (ms)",
            "detection (ms)",
            "in",
            "out",
            "downs",
            "last down",
        ],
        sessions,
    );
    let counts = ["wrong_ttl", "malformed", "authenticated", "unknown_session"];
    let discarded = &value["discarded"];
    if counts.iter().any(|reason| discarded[*reason].as_u64().unwrap_or(0) > 0) {
        let listed: Vec<String> = counts
            .iter()
            .map(|reason| format!("{} {}", text(discarded, &[reason]), reason.replace('_', " ")))
            .collect();
        out += &format!("\npackets discarded: {}\n", listed.join(", "));
    }
    out
}

/// `turnpike show bmp`.
pub fn bmp(value: &Value) -> String {
    let collectors = rows(value).map(|collector| {
        row(
            collector,
            &[
                "collector",
                "connected",
                "uptime",
                "connects",
                "cut_off",
                "messages",
                "bytes",
                "waiting",
                "last_error",
            ],
        )
    });
    table(
        &[
            "collector",
            "connected",
            "up (s)",
            "connects",
            "cut off",
            "messages",
            "bytes",
            "waiting",
            "last error",
        ],
        collectors,
    )
}

/// `turnpike show rpki`.
pub fn rpki(value: &Value) -> String {
    let caches = rows(&value["caches"]).map(|cache| {
        row(
            cache,
            &[
                "cache",
                "preference",
                "in_use",
                "connected",
                "vrps",
                "session",
                "serial",
                "expires_in",
                "updates",
                "last_error",
            ],
        )
    });
    let caches = table(
        &[
            "cache",
            "preference",
            "in use",
            "connected",
            "vrps",
            "session",
            "serial",
            "expires in (s)",
            "updates",
            "last error",
        ],
        caches,
    );
    format!("{} VRPs in use\n\n{caches}", text(value, &["vrps"]))
}

/// `turnpike show nat`.
pub fn nat(value: &Value) -> String {
    let columns = ["vpc_name", "position", "kind", "used", "capacity", "percent", "warned"];
    let pools = rows(&value["pools"]).map(|pool| row(pool, &columns));
    let header = ["vpc", "rule", "of", "used", "capacity", "%", "warned"];
    let mut out = table(&header, pools) + "\n";
    for (key, value) in value.as_object().into_iter().flatten() {
        if key != "pools" {
            out += &format!("{}: {}\n", key.replace('_', " "), text(value, &[]));
        }
    }
    out
}

/// `turnpike show standby`: a paragraph for each half.
pub fn standby(value: &Value) -> String {
    let half = |name: &str, keys: &[&str]| {
        let half = &value[name];
        let lines = keys
            .iter()
            .map(|key| format!("  {}: {}\n", key.replace('_', " "), text(half, &[key])));
        match half {
            Value::Null => format!("{name}: none\n"),
            _ => format!("{name}\n{}", lines.collect::<String>()),
        }
    };
    let sending = [
        "peer",
        "state",
        "stream",
        "sent",
        "acknowledged",
        "lag",
        "backlog",
        "room",
        "sessions",
        "last_error",
    ];
    let receiving = [
        "listen",
        "primary",
        "state",
        "stream",
        "connections",
        "applied",
        "not_kept",
        "sessions",
        "silent_ms",
        "last_error",
    ];
    half("sending", &sending) + &half("receiving", &receiving)
}

/// `turnpike standby takeover`.
pub fn takeover(value: &Value) -> String {
    format!(
        "{} of {} connections taken over; {} too old, {} not allowed by policy, {} whose port is taken, {} beyond the table\n",
        text(value, &["taken_over"]),
        text(value, &["received"]),
        text(value, &["too_old"]),
        text(value, &["not_allowed"]),
        text(value, &["port_taken"]),
        text(value, &["table_full"]),
    )
}

/// `turnpike show bgp neighbor`: a paragraph for each peer.
pub fn bgp_neighbors(value: &Value) -> String {
    let mut out = String::new();
    for peer in rows(value) {
        let uptime = match &peer["uptime"] {
            Value::Null => String::new(),
            seconds => format!(" for {seconds} s"),
        };
        out += &format!(
            "{} AS {}: {}{uptime}, {} flaps\n",
            text(peer, &["address"]),
            text(peer, &["remote_as"]),
            text(peer, &["state"]),
            text(peer, &["flaps"]),
        );
        if let Some(description) = peer["description"].as_str().filter(|text| !text.is_empty()) {
            out += &format!("  {description}\n");
        }
        out += &format!(
            "  router id {}, hold time {} s, BFD {}\n",
            text(peer, &["router_id"]),
            text(peer, &["hold_time"]),
            text(peer, &["bfd"]),
        );
        if rows(&peer["capabilities"]).next().is_some() {
            let capabilities: Vec<String> = rows(&peer["capabilities"]).map(|name| text(name, &[])).collect();
            out += &format!("  capabilities: {}\n", capabilities.join(", "));
        }
        for family in rows(&peer["families"]) {
            out += &format!(
                "  {}: {} prefixes received, {} accepted, {} advertised\n",
                text(family, &["family"]),
                text(family, &["received"]),
                text(family, &["accepted"]),
                text(family, &["advertised"]),
            );
        }
        for (way, key) in [("received", "messages_received"), ("sent", "messages_sent")] {
            let counts: Vec<String> = ["open", "update", "notification", "keepalive", "route_refresh"]
                .iter()
                .map(|kind| format!("{} {}", text(&peer[key], &[kind]), kind.replace('_', "-")))
                .collect();
            out += &format!("  messages {way}: {}\n", counts.join(", "));
        }
        out += &format!(
            "  faulty UPDATEs: {} treated as withdraw, {} attributes discarded\n",
            text(peer, &["treated_as_withdraw"]),
            text(peer, &["attributes_discarded"]),
        );
        if !peer["last_error"].is_null() {
            out += &format!("  last error: {}\n", text(peer, &["last_error"]));
        }
        let notification = &peer["last_notification"];
        if !notification.is_null() {
            let who = if notification["sent"] == true {
                "sent"
            } else {
                "received"
            };
            let data = match notification["data"].as_str() {
                None | Some("") => String::new(),
                Some(data) => format!(", data {data}"),
            };
            out += &format!(
                "  last NOTIFICATION: {who} {} s ago, {}{data}\n",
                text(notification, &["seconds_ago"]),
                text(notification, &["meaning"]),
            );
        }
    }
    if out.is_empty() { "none\n".to_owned() } else { out }
}

/// `turnpike show bgp routes`: a paragraph for each path.
pub fn bgp_routes(value: &Value) -> String {
    let mut out = String::new();
    for route in rows(value) {
        out += &format!("{}\n", text(route, &["prefix"]));
        for path in rows(&route["paths"]) {
            let standing = match (path["best"] == true, path["multipath"] == true) {
                (true, _) => "best".to_owned(),
                (false, true) => "used beside the best".to_owned(),
                (false, false) => format!("not used: {}", text(path, &["reason"])),
            };
            let from = match &path["peer"] {
                Value::Null => "made here".to_owned(),
                peer => format!("from {}", text(peer, &[])),
            };
            out += &format!("  {from} ({}), {standing}\n", text(path, &["source"]));
            out += &format!(
                "    next hop {}, AS path {}, origin {}, MED {}, local preference {}\n",
                text(path, &["next_hop"]),
                some_text(path, "as_path"),
                text(path, &["origin"]),
                text(path, &["med"]),
                text(path, &["local_pref"]),
            );
            if path["rpki"] == "valid" || path["rpki"] == "invalid" {
                out += &format!("    RPKI {}\n", text(path, &["rpki"]));
            }
            for (name, key) in [
                ("communities", "communities"),
                ("extended communities", "extended_communities"),
                ("large communities", "large_communities"),
            ] {
                if rows(&path[key]).next().is_some() {
                    out += &format!("    {name} {}\n", text(path, &[key]));
                }
            }
            if !path["only_to_customer"].is_null() {
                out += &format!("    only to customer, since AS {}\n", text(path, &["only_to_customer"]));
            }
            if path["changed_by_policy"] == true || path["weight"] != 0 || path["tag"] != 0 || path["blackhole"] == true
            {
                out += &format!(
                    "    by import policy: weight {}, tag {}{}{}\n",
                    text(path, &["weight"]),
                    text(path, &["tag"]),
                    if path["blackhole"] == true { ", blackhole" } else { "" },
                    if path["changed_by_policy"] == true {
                        ", attributes changed"
                    } else {
                        ""
                    },
                );
            }
        }
    }
    if out.is_empty() { "none\n".to_owned() } else { out }
}

/// `turnpike show bgp evpn`: the VPCs, then a paragraph for each route.
pub fn bgp_evpn(value: &Value) -> String {
    let columns = [
        "name",
        "rd",
        "vni",
        "vtep",
        "router_mac",
        "import",
        "export",
        "imported",
        "announced",
    ];
    let mut out = table(&columns, rows(&value["vrfs"]).map(|vrf| row(vrf, &columns)));
    for route in rows(&value["routes"]) {
        out += &format!("\n{} of {}\n", text(route, &["route"]), text(route, &["rd"]));
        for path in rows(&route["paths"]) {
            out += &evpn_path(path);
        }
    }
    out
}

fn evpn_path(path: &Value) -> String {
    let standing = match (path["best"] == true, path["multipath"] == true) {
        (true, _) => "best".to_owned(),
        (false, true) => "used beside the best".to_owned(),
        (false, false) => format!("not used: {}", text(path, &["reason"])),
    };
    let from = match &path["peer"] {
        Value::Null => "made here".to_owned(),
        peer => format!("from {}", text(peer, &[])),
    };
    let stale = if path["stale"] == true { ", stale" } else { "" };
    let mut out = format!("  {from} ({}), {standing}{stale}\n", text(path, &["source"]));
    let mut way = vec![format!("endpoint {}", text(path, &["next_hop"]))];
    for (name, key) in [
        ("VNI", "vni"),
        ("VNI of the VPC", "routed_vni"),
        ("router's MAC", "router_mac"),
        ("gateway", "gateway"),
        ("segment", "segment"),
        ("moves", "moves"),
    ] {
        if !path[key].is_null() {
            way.push(format!("{name} {}", text(path, &[key])));
        }
    }
    if path["sticky"] == true {
        way.push("must not move".to_owned());
    }
    out += &format!("    {}\n", way.join(", "));
    out += &format!(
        "    AS path {}, origin {}, MED {}, local preference {}, route targets {}\n",
        some_text(path, "as_path"),
        text(path, &["origin"]),
        text(path, &["med"]),
        text(path, &["local_pref"]),
        text(path, &["targets"]),
    );
    for import in rows(&path["imports"]) {
        let what = match import["used"] == true {
            true => "used".to_owned(),
            false => format!("not used: {}", text(import, &["reason"])),
        };
        out += &format!("    in {}: {what}\n", text(import, &["name"]));
    }
    if !path["not_imported"].is_null() {
        out += &format!("    in no VPC: {}\n", text(path, &["not_imported"]));
    }
    out
}

/// A text that may be empty, as an AS path is.
fn some_text(value: &Value, key: &str) -> String {
    let text = text(value, &[key]);
    if text.is_empty() { "empty".to_owned() } else { text }
}

/// `turnpike policy test`.
pub fn policy_test(value: &Value) -> String {
    let verdict = if value["accepted"] == true {
        "accepted"
    } else {
        "rejected"
    };
    let mut out = format!(
        "policy {}: {} is {verdict} by {}\n",
        text(value, &["policy"]),
        text(value, &["prefix"]),
        text(value, &["decided_by"]),
    );
    for term in rows(&value["terms"]) {
        let what = if term["matched"] == true {
            let changes: Vec<String> = rows(&term["changes"]).map(|change| text(change, &[])).collect();
            let set = if changes.is_empty() {
                String::new()
            } else {
                format!(", set {}", changes.join(", "))
            };
            format!("matches{set}, then {}", text(term, &["then"]))
        } else {
            format!("does not match: {}", text(term, &["failed"]))
        };
        out += &format!("  term {} {what}\n", text(term, &["term"]));
    }
    let keys = [
        "next_hop",
        "as_path",
        "origin",
        "med",
        "local_pref",
        "communities",
        "weight",
        "tag",
        "blackhole",
    ];
    let (before, after) = (&value["before"], &value["after"]);
    let compared = keys.iter().map(|key| {
        let after = if after.is_null() {
            "-".to_owned()
        } else {
            some_text(after, key)
        };
        vec![key.replace('_', " "), some_text(before, key), after]
    });
    out + "\n" + &table(&["", "before", "after"], compared)
}

/// `turnpike show neighbors`.
pub fn neighbors(value: &Value) -> String {
    let columns = ["interface", "address", "mac", "state"];
    table(&columns, rows(value).map(|neighbor| row(neighbor, &columns)))
}

/// `turnpike show kernel`.
pub fn kernel(value: &Value) -> String {
    let counters = |value: &Value, keys: &[&str]| {
        let one = |key: &&str| format!("{} {}", text(value, &[key]), key.replace('_', " "));
        keys.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let mut out = format!(
        "our routes: {}\nhealed: {} of ours, {} of others'; {}\ndigest {}, the kernel's {}\n",
        counters(
            value,
            &[
                "installed",
                "pending",
                "refused",
                "held",
                "stale",
                "written",
                "superseded"
            ]
        ),
        text(value, &["drift"]),
        text(value, &["drift_in"]),
        counters(value, &["audits", "resyncs", "overruns", "events"]),
        text(value, &["digest"]),
        text(value, &["kernel_digest"]),
    );
    if let Value::Object(route) = &value["route"] {
        let why = route.get("reason").or(route.get("losses"));
        let why = why.map_or_else(String::new, |why| format!(" ({})", text(why, &[])));
        out += &format!("the route: {}{why}\n", text(&value["route"], &["state"]));
    }
    if value["fpm"].is_object() {
        out += &format!(
            "FPM: peer {}, {}; last error: {}\n",
            text(value, &["fpm", "peer"]),
            counters(
                &value["fpm"],
                &[
                    "connections",
                    "routes",
                    "stale",
                    "unresolved",
                    "objects",
                    "messages",
                    "malformed",
                    "broken_streams"
                ]
            ),
            text(value, &["fpm", "last_error"]),
        );
    }
    out += &format!("{}\n", counters(value, &["next_hop_objects", "fdb_entries"]));
    for (title, list, columns) in [
        (
            "its tables, of other programs",
            "tables",
            &["table", "vrf", "prefixes_v4", "prefixes_v6"][..],
        ),
        (
            "its rules",
            "rules",
            &[
                "family",
                "priority",
                "from",
                "to",
                "in_interface",
                "out_interface",
                "mark",
                "action",
            ],
        ),
        ("refused", "refusals", &["vrf", "prefix", "reason"]),
        (
            "held, because somebody keeps taking them",
            "fights",
            &["vrf", "prefix", "losses"],
        ),
    ] {
        if rows(&value[list]).next().is_some() {
            out += &format!(
                "\n{title}\n{}",
                table(columns, rows(&value[list]).map(|one| row(one, columns)))
            );
        }
    }
    out
}

/// `turnpike show connections`.
pub fn connections(value: &Value) -> String {
    let end = |tuple: &Value, address: &str, port: &str| match (text(tuple, &[address]), text(tuple, &[port])) {
        (address, port) if address.contains(':') => format!("[{address}]:{port}"),
        (address, port) => format!("{address}:{port}"),
    };
    let way = |tuple: &Value| {
        format!(
            "{} > {}",
            end(tuple, "source", "source_port"),
            end(tuple, "destination", "destination_port")
        )
    };
    let shown = rows(value).map(|connection| {
        let mut cells = row(connection, &["worker", "vpc_name", "protocol", "state"]);
        cells.extend([way(&connection["original"]), way(&connection["translated"])]);
        cells.extend(row(connection, &["generation", "offload", "packets", "idle_ms"]));
        cells
    });
    let columns = [
        "worker",
        "vpc",
        "protocol",
        "state",
        "original",
        "translated",
        "generation",
        "offload",
        "packets",
        "idle (ms)",
    ];
    table(&columns, shown)
}

/// `turnpike show generations`.
pub fn generations(value: &Value) -> String {
    let columns = [
        "generation",
        "revision",
        "published_ms",
        "changes",
        "closed",
        "publish_us",
        "examined",
        "kept",
        "moved",
        "unrouted",
        "ended",
        "duration_us",
    ];
    format!(
        "generation {}, revision {}, workers at {}\n\
         batches: {} drained, {} paced, {} at {} changes, {} after {} ms, {} at End-of-RIB; {} publishes put off\n{}\n{}",
        text(value, &["current"]),
        text(value, &["revision"]),
        text(value, &["workers_seen"]),
        text(value, &["batches", "drained"]),
        text(value, &["batches", "paced"]),
        text(value, &["batches", "size"]),
        text(value, &["batches", "bounds", "size"]),
        text(value, &["batches", "time"]),
        text(value, &["batches", "bounds", "time_ms"]),
        text(value, &["batches", "end_of_rib"]),
        text(value, &["batches", "stalled"]),
        stalls(&value["stalls"]),
        table(
            &columns,
            rows(&value["history"]).map(|generation| row(generation, &columns))
        ),
    )
}

/// Workers that keep, or kept, a generation from being published.
fn stalls(stalls: &Value) -> String {
    let mut lines = String::new();
    if !stalls["current"].is_null() {
        lines += &format!("STALLED: {}\n", stall(&stalls["current"]));
    }
    if !stalls["last"].is_null() {
        let (long, last) = (text(stalls, &["long"]), stall(&stalls["last"]));
        lines += &format!("{long} stalls of more than a second, the last: {last}\n");
    }
    lines
}

fn stall(stall: &Value) -> String {
    let workers: Vec<_> = rows(&stall["workers"])
        .map(|worker| {
            format!(
                "{} in generation {}",
                text(worker, &["reader"]),
                text(worker, &["generation"])
            )
        })
        .collect();
    format!(
        "generation {} waits for {}, since {} ms after the start, for {} ms",
        text(stall, &["generation"]),
        workers.join(", "),
        text(stall, &["since_ms"]),
        text(stall, &["for_ms"])
    )
}

/// `turnpike show offloads`.
pub fn offloads(value: &Value) -> String {
    format!(
        "ports {}: {} connections live, {} installed, {} destroyed, {} refused; {} packets, {} bytes by the NIC\n\
         stayed in software: {}\n\
         not removed: {} connections, whose NAT ports stay taken; {} removals refused\n\n{}",
        text(value, &["ports"]),
        text(value, &["live"]),
        text(value, &["installed_total"]),
        text(value, &["destroyed_total"]),
        text(value, &["refused"]),
        text(value, &["hits_packets"]),
        text(value, &["hits_bytes"]),
        reasons(&value["not_offloaded"]),
        text(value, &["stuck"]),
        text(value, &["destroy_refused_total"]),
        table(
            &["worker", "state", "rule", "packets", "bytes"],
            rows(&value["list"]).map(|rule| row(rule, &["worker", "state", "rule", "packets", "bytes"])),
        ),
    )
}

/// Those that occurred, with how often.
fn reasons(value: &Value) -> String {
    let occurred: Vec<String> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, count)| count.as_u64().unwrap_or(0) > 0)
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    if occurred.is_empty() {
        "none".to_owned()
    } else {
        occurred.join(", ")
    }
}

/// `turnpike show drops`: the reasons that occurred.
pub fn drops(value: &Value) -> String {
    let occurred = rows(value).filter(|drop| drop["packets"].as_u64().unwrap_or(0) > 0);
    table(
        &["reason", "packets", "meaning"],
        occurred.map(|drop| row(drop, &["reason", "packets", "description"])),
    )
}

/// `turnpike explain route`.
pub fn explain_route(value: &Value) -> String {
    let lookup = &value["lookup"];
    let mut out = format!(
        "{} in {}: {}",
        text(lookup, &["address"]),
        text(value, &["vrf_name"]),
        text(value, &["verdict"])
    );
    if !value["stopped_at"].is_null() {
        out += &format!(" ({}: {})", text(value, &["stopped_at"]), text(value, &["reason"]));
    }
    out += "\n\n";
    let columns = ["step", "outcome", "reason", "text"];
    out += &table(&columns, rows(&value["steps"]).map(|step| row(step, &columns)));
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_drops_that_occurred_are_listed() {
        let value = json!([
            {"reason": "no-route", "packets": 3, "description": "No route."},
            {"reason": "martian", "packets": 0, "description": "Strange."},
        ]);
        let shown = drops(&value);
        assert!(
            shown.contains("no-route") && shown.contains('3') && !shown.contains("martian"),
            "{shown}"
        );
        assert_eq!(drops(&json!([])), "none\n");
    }

    #[test]
    fn rules_that_the_nic_keeps_are_shown() {
        let value = json!({
            "ports": ["fabric"], "live": 3, "installed_total": 9, "destroyed_total": 5, "refused": 0,
            "destroy_refused_total": 17, "stuck": 1, "hits_packets": 2, "hits_bytes": 128, "not_offloaded": {"nic-full": 4},
            "list": [{"worker": 0, "state": "stuck", "rule": "udp", "packets": 2, "bytes": 128}],
        });
        let shown = offloads(&value);
        assert!(
            shown.contains("not removed: 1 connections") && shown.contains("17 removals refused"),
            "{shown}"
        );
        assert!(shown.contains("stuck") && shown.contains("4 nic-full"), "{shown}");
    }

    #[test]
    fn a_dry_run_shows_each_term_and_what_changed() {
        let route = |med| {
            json!({"next_hop": "192.0.2.1", "as_path": "", "origin": "igp", "med": med, "local_pref": null,
                "communities": ["no-export"], "weight": 0, "tag": 0, "blackhole": false})
        };
        let value = json!({
            "policy": "in", "prefix": "10.0.0.0/8", "accepted": true, "decided_by": "term ours",
            "terms": [
                {"term": "theirs", "matched": false, "failed": "as-path-set peers", "changes": [], "then": null},
                {"term": "ours", "matched": true, "failed": null, "changes": ["med 7"], "then": "accept"},
            ],
            "before": route(json!(null)), "after": route(json!(7)),
        });
        let shown = policy_test(&value);
        assert!(
            shown.starts_with("policy in: 10.0.0.0/8 is accepted by term ours\n"),
            "{shown}"
        );
        assert!(
            shown.contains("term theirs does not match: as-path-set peers\n"),
            "{shown}"
        );
        assert!(shown.contains("term ours matches, set med 7, then accept\n"), "{shown}");
    }

    #[test]
    fn caches_are_listed() {
        let cache = json!({"cache": "192.0.2.51:323", "preference": 10, "in_use": true, "connected": true, "vrps": 7,
            "session": 1, "serial": 2, "expires_in": 7200, "updates": 3, "connects": 1, "last_error": null});
        let shown = rpki(&json!({"vrps": 7, "caches": [cache]}));
        assert!(shown.starts_with("7 VRPs in use\n\n"), "{shown}");
        assert!(shown.contains("192.0.2.51:323  10"), "{shown}");
    }

    #[test]
    fn a_peer_has_its_messages_and_its_last_notification() {
        let counts =
            |update: u64| json!({"open": 1, "update": update, "notification": 0, "keepalive": 7, "route_refresh": 0});
        let peer = json!({"address": "192.0.2.1", "remote_as": 65001, "state": "Established", "uptime": 9, "flaps": 2,
            "description": "", "router_id": "10.0.0.1", "hold_time": 9, "bfd": "up", "capabilities": ["route-refresh"],
            "families": [{"family": "ipv4-unicast", "received": 3, "accepted": 2, "advertised": 1}],
            "messages_received": counts(5), "messages_sent": counts(6), "treated_as_withdraw": 0,
            "attributes_discarded": 0, "last_error": "peer sent 6/2",
            "last_notification": {"sent": false, "seconds_ago": 12, "code": 6, "subcode": 2, "meaning": "6/2 Shutdown",
            "data": "0568656c6c6f"}});
        let shown = bgp_neighbors(&json!([peer]));
        for line in [
            "192.0.2.1 AS 65001: Established for 9 s, 2 flaps\n",
            "  ipv4-unicast: 3 prefixes received, 2 accepted, 1 advertised\n",
            "  messages received: 1 open, 5 update, 0 notification, 7 keepalive, 0 route-refresh\n",
            "  last NOTIFICATION: received 12 s ago, 6/2 Shutdown, data 0568656c6c6f\n",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
        assert_eq!(bgp_neighbors(&json!([])), "none\n");
    }

    #[test]
    fn collectors_are_listed() {
        let collector = json!({"collector": "192.0.2.50:1790", "connected": true, "uptime": 7, "connects": 1, "cut_off": 0,
            "messages": 12, "bytes": 3456, "waiting": 0, "unencodable": 0, "last_error": null});
        let shown = bmp(&json!([collector]));
        assert!(shown.contains("192.0.2.50:1790  true"), "{shown}");
        assert_eq!(bmp(&json!([])), "none\n");
    }

    #[test]
    fn bfd_sessions_are_listed_and_what_was_discarded_is_summed_up() {
        let discarded = json!({"wrong_ttl": 2, "malformed": 0, "authenticated": 0, "unknown_session": 1});
        let session = json!({"neighbor": "192.0.2.1", "state": "up", "remote_state": "up", "uptime": 7,
            "send_interval_ms": 300, "detection_time_ms": 900, "packets_in": 30, "packets_out": 31, "downs": 0,
            "last_down": null});
        let shown = bfd(&json!({"sessions": [session], "discarded": discarded}));
        assert!(shown.contains("192.0.2.1  up     up"), "{shown}");
        assert!(
            shown.ends_with("discarded: 2 wrong ttl, 0 malformed, 0 authenticated, 1 unknown session\n"),
            "{shown}"
        );
        let quiet = json!({"wrong_ttl": 0, "malformed": 0, "authenticated": 0, "unknown_session": 0});
        assert_eq!(bfd(&json!({"sessions": [], "discarded": quiet})), "none\n");
    }

    #[test]
    fn each_path_of_a_prefix_says_how_it_stands() {
        let path = |peer, best, reason| {
            json!({"peer": peer, "best": best, "multipath": false, "reason": reason, "source": "ebgp",
                "next_hop": "192.0.2.1", "as_path": "65001", "origin": "igp", "med": null, "local_pref": null,
                "communities": ["no-export"], "extended_communities": [], "large_communities": [], "weight": 9, "tag": 0,
                "blackhole": false, "changed_by_policy": false})
        };
        let paths = [
            path(json!("192.0.2.1"), true, json!(null)),
            path(json!("192.0.2.2"), false, json!("weight")),
        ];
        let shown = bgp_routes(&json!([{"prefix": "10.0.0.0/8", "paths": paths}]));
        assert!(shown.contains("from 192.0.2.1 (ebgp), best"), "{shown}");
        assert!(shown.contains("from 192.0.2.2 (ebgp), not used: weight"), "{shown}");
        assert!(
            shown.contains("weight 9") && shown.contains("communities no-export"),
            "{shown}"
        );
    }

    #[test]
    fn the_kernel_shows_refusals_fights_and_the_fpm_when_there_are_any() {
        let mut value = json!({"installed": 3, "digest": "ab", "kernel_digest": "ab", "refusals": [], "fights": []});
        let shown = kernel(&value);
        assert!(
            shown.contains("3 installed") && !shown.contains("FPM") && !shown.contains("refused\n"),
            "{shown}"
        );
        value["refusals"] = json!([{"prefix": "10.0.0.0/8", "reason": "File exists"}]);
        value["fpm"] = json!({"peer": "127.0.0.1:4000", "routes": 7});
        value["route"] = json!({"state": "refused", "reason": "File exists"});
        let shown = kernel(&value);
        assert!(
            shown.contains("127.0.0.1:4000") && shown.contains("7 routes"),
            "{shown}"
        );
        assert!(
            shown.contains("the route: refused (File exists)") && shown.contains("10.0.0.0/8"),
            "{shown}"
        );
    }

    #[test]
    fn a_route_shows_its_way_and_why_it_lost() {
        let value = json!([{
            "vrf_name": "default", "prefix": "10.0.0.0/8", "source": "ebgp", "distance": 20, "metric": 0, "kind": "unicast",
            "active": false, "reason": "distance",
            "resolved": [{"gateway": "192.0.2.0", "interface": 3, "vrf": null, "weight": 1}],
        }]);
        let shown = routes(&value);
        assert!(shown.contains("via 192.0.2.0") && shown.contains("distance"), "{shown}");
    }
}
