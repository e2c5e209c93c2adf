//! What comes of something, as a scenario writes it.

use bgp::RouteView;
use bgp::session::ConnectionId;
use net::{NextHop, RouteChange, RouteKind};
use serde_json::{Map, Value, json};

/// The connection that goes without saying.
pub(crate) const FIRST: ConnectionId = ConnectionId(1);

/// Something that is done with a connection; the first one goes without saying.
pub(crate) fn on(name: &str, ConnectionId(id): ConnectionId, what: &str, message: Option<Value>) -> Value {
    let mut body = Map::new();
    body.insert("peer".to_owned(), json!(name));
    if ConnectionId(id) != FIRST {
        body.insert("connection".to_owned(), json!(id));
    }
    body.extend(message.map(|message| ("message".to_owned(), message)));
    json!({ what: body })
}

/// Of some counters those that are not zero.
pub(crate) fn counts(counters: Value) -> Value {
    let Value::Object(map) = counters else { return counters };
    Value::Object(map.into_iter().filter(|(_, count)| count.as_u64() != Some(0)).collect())
}

/// Without what says nothing: none, false, empty.
pub(crate) fn telling(value: Value) -> Value {
    let Value::Object(map) = value else { return value };
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(_) | Value::Bool(true) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    };
    Value::Object(map.into_iter().filter(|(_, value)| says(value)).collect())
}

pub(crate) fn route_view(route: &RouteView) -> Value {
    let path = |path: &bgp::PathView| {
        let standing = match (path.best, path.multipath) {
            (true, _) => "best",
            (_, true) => "multipath",
            _ => path.reason.as_deref().unwrap_or("?"),
        };
        telling(json!({
            "peer": path.peer,
            "path-id": path.path_id,
            "standing": standing,
            "stale": path.stale,
            "next-hop": path.next_hop,
            "link-local": path.link_local_next_hop,
            "as-path": path.as_path,
            "origin": path.origin,
            "med": path.med,
            "local-pref": path.local_pref,
            "communities": path.communities,
            "extended-communities": path.extended_communities,
            "large-communities": path.large_communities,
            "only-to-customer": path.only_to_customer,
            "weight": (path.weight > 0).then_some(path.weight),
            "blackhole": path.blackhole,
        }))
    };
    json!({ "prefix": route.prefix, "paths": route.paths.iter().map(path).collect::<Vec<_>>() })
}

pub(crate) fn route_change(change: &RouteChange) -> Value {
    let hop = |hop: &NextHop| {
        let gateway = hop.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
        match hop.weight {
            1 => gateway,
            weight => format!("{gateway} weight {weight}"),
        }
    };
    let source = change.source.to_string();
    let body = match &change.route {
        None => json!({ "prefix": change.prefix, "source": source, "gone": true }),
        Some(route) if route.kind == RouteKind::Unicast => {
            let via: Vec<String> = route.next_hops.iter().map(hop).collect();
            json!({ "prefix": change.prefix, "source": source, "via": via, "metric": route.metric })
        }
        Some(route) => {
            let kind = format!("{:?}", route.kind).to_lowercase();
            json!({ "prefix": change.prefix, "source": source, "kind": kind, "metric": route.metric })
        }
    };
    json!({ "route": body })
}
