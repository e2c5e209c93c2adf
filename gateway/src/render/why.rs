//! `turnpike show bgp why`: each path, where it is used, and who is told.

use serde_json::Value;

use super::{rows, some_text, text};

/// `turnpike show bgp why`.
pub fn bgp_why(value: &Value) -> String {
    let mut out = format!("{}\n", text(value, &["prefix"]));
    out.extend(rows(&value["paths"]).map(path));
    out += "forwarding\n";
    let mut sources = rows(&value["rib"]).peekable();
    if sources.peek().is_none() {
        out += "  no route in the RIB\n";
    }
    out.extend(sources.map(|route| source(route, value)));
    out += &format!("  kernel: {}\n", text(value, &["kernel", "state"]));
    out += "told\n";
    let mut told = rows(&value["told"]).peekable();
    if told.peek().is_none() {
        out += "  nobody has a session\n";
    }
    out.extend(told.map(peer));
    out
}

fn path(path: &Value) -> String {
    let standing = match (path["best"] == true, path["multipath"] == true) {
        (true, _) => "best".to_owned(),
        (false, true) => "used beside the best".to_owned(),
        (false, false) => lost(path),
    };
    let from = match &path["peer"] {
        Value::Null => "made here".to_owned(),
        peer => format!("from {}", text(peer, &[])),
    };
    let stale = if path["stale"] == true {
        ", kept while its peer is away"
    } else {
        ""
    };
    let mut out = format!("  {from} ({}){stale}, {standing}\n", text(path, &["source"]));
    if path["peer"].is_null() {
        return out;
    }
    let tracked = &path["tracked"];
    let metric = match &tracked["metric"] {
        Value::Null => String::new(),
        metric => format!(", metric {metric}"),
    };
    out += &format!(
        "    AS path {}, next hop {} ({}{metric})\n",
        some_text(path, "as_path"),
        text(path, &["next_hop"]),
        text(tracked, &["state"]),
    );
    let policy = &path["policy"];
    if !policy.is_null() {
        let verdict = if policy["accepted"] == true {
            "accepted"
        } else {
            "refused"
        };
        out += &format!("    import: {verdict} by {}\n", text(policy, &["decided_by"]));
        for change in rows(&policy["changes"]) {
            out += &format!(
                "    import: {} {} became {}\n",
                text(change, &["what"]),
                some_text(change, "before"),
                some_text(change, "after"),
            );
        }
    }
    out
}

/// Why a path is not used.
fn lost(path: &Value) -> String {
    let decided = &path["decided"];
    if decided.is_null() {
        return format!("not used: {}", text(path, &["reason"]));
    }
    let winner = match &decided["winner_peer"] {
        Value::Null => "what is made here".to_owned(),
        peer => text(peer, &[]),
    };
    format!(
        "not used: {}: {} against {} of {winner}",
        text(decided, &["step"]),
        text(decided, &["value"]),
        text(decided, &["winner"]),
    )
}

/// A route of the RIB to the prefix.
fn source(route: &Value, value: &Value) -> String {
    let name = format!(
        "  {} (distance {}, metric {})",
        text(route, &["source"]),
        text(route, &["distance"]),
        text(route, &["metric"]),
    );
    if route["active"] != true {
        return format!("{name}: not used: {}\n", text(route, &["reason"]));
    }
    let generation = text(value, &["generation"]);
    let shown = match &value["published"] {
        Value::Bool(false) => format!("generation {generation} does not have it yet"),
        _ => format!("in generation {generation}"),
    };
    format!(
        "{name}: forwards, {shown}; workers were last seen at {}\n",
        text(value, &["workers"])
    )
}

fn peer(told: &Value) -> String {
    let name = text(told, &["peer"]);
    if told["told"] != true {
        return format!("  {name}: not told: {}\n", text(told, &["reason"]));
    }
    let waits = if told["waits"] == true {
        ", still to be sent"
    } else {
        ""
    };
    format!(
        "  {name}: next hop {}, AS path {}{waits}\n",
        text(told, &["next_hop"]),
        some_text(told, "as_path"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_decision_is_a_line() {
        let value = json!({
            "prefix": "10.0.0.0/8",
            "paths": [
                {"peer": "192.0.2.2", "source": "ebgp", "best": true, "multipath": false, "as_path": "65001", "next_hop": "192.0.2.2",
                 "tracked": {"address": "192.0.2.2", "state": "reachable", "metric": 10},
                 "policy": {"accepted": true, "decided_by": "policy in, term t", "changes": [{"what": "MED", "before": "none", "after": "5"}]}},
                {"peer": "192.0.2.3", "source": "ebgp", "best": false, "multipath": false, "as_path": "65002 65001", "next_hop": "192.0.2.3",
                 "tracked": {"state": "reachable", "metric": 0}, "policy": null,
                 "decided": {"step": "AS path length", "value": "2", "winner": "1", "winner_peer": "192.0.2.2"}},
                {"peer": null, "source": "announced", "best": false, "multipath": false, "reason": "x"},
            ],
            "rib": [
                {"source": "ebgp", "distance": 20, "metric": 5, "active": true},
                {"source": "static", "distance": 30, "metric": 0, "active": false, "reason": "distance"},
            ],
            "generation": 7, "published": true, "workers": [7, 7], "kernel": {"state": "installed"},
            "told": [
                {"peer": "192.0.2.2", "told": false, "reason": "the best path came from it"},
                {"peer": "192.0.2.3", "told": true, "waits": true, "next_hop": "192.0.2.1", "as_path": "65000 65001"},
            ],
        });
        let wanted = "\
10.0.0.0/8
  from 192.0.2.2 (ebgp), best
    AS path 65001, next hop 192.0.2.2 (reachable, metric 10)
    import: accepted by policy in, term t
    import: MED none became 5
  from 192.0.2.3 (ebgp), not used: AS path length: 2 against 1 of 192.0.2.2
    AS path 65002 65001, next hop 192.0.2.3 (reachable, metric 0)
  made here (announced), not used: x
forwarding
  ebgp (distance 20, metric 5): forwards, in generation 7; workers were last seen at 7 7
  static (distance 30, metric 0): not used: distance
  kernel: installed
told
  192.0.2.2: not told: the best path came from it
  192.0.2.3: next hop 192.0.2.1, AS path 65000 65001, still to be sent
";
        assert_eq!(bgp_why(&value), wanted);
        let bare = bgp_why(&json!({"prefix": "10.0.0.0/8", "kernel": {"state": "not-wanted"}}));
        assert!(
            bare.contains("no route in the RIB") && bare.contains("nobody has a session"),
            "{bare}"
        );
    }
}
