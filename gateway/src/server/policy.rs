//! What is asked of the BGP speaker: the paths of a prefix, dry runs of policies, and routes told again.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use bgp::{PeerView, PolicyQuestion, PolicyTest, RouteView, Speaker};
use net::{Prefix, VrfId};

use super::{Failure, LIMIT, Shared, Shown, limit};
use crate::api::{BgpWhy, Refreshed, RouteRow};
use crate::manager::Manager;

/// The loc-rib, or one prefix of it, with every path and why it is not used.
pub(super) async fn bgp_routes(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Shown<Vec<RouteView>> {
    let prefix: Option<Prefix> = parameter(&parameters, "prefix")?;
    let limit = limit(&parameters)?;
    let routes = speaker(&shared)?.routes(prefix).await;
    Ok(Json(routes.into_iter().take(limit).collect()))
}

/// Why the route to a prefix is what it is, from the paths of the peers to the workers and to who is told.
pub(super) async fn bgp_why(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Shown<BgpWhy> {
    let missing = || Failure(StatusCode::BAD_REQUEST, "`prefix` is missing".to_owned());
    let prefix: Prefix = parameter(&parameters, "prefix")?.ok_or_else(missing)?;
    let none = || {
        let text = format!("BGP has no path to {prefix}: `turnpike show bgp routes` lists what it has");
        Failure(StatusCode::NOT_FOUND, text)
    };
    let why = speaker(&shared)?.why(prefix).await.ok_or_else(none)?;
    let ask = move |manager: &mut Manager| {
        let routes = manager.publisher.rib.routes(Some(VrfId::DEFAULT), Some(prefix), LIMIT);
        (routes, manager.publisher.rib.explain(VrfId::DEFAULT, prefix.address()))
    };
    let (routes, lookup) = shared.ask(ask).await?;
    let row = |route: rib::RouteView| RouteRow {
        vrf_name: shared.config.vrf_name(route.vrf).to_owned(),
        route,
    };
    let alone = lookup.prefix.is_none_or(|found| found.len() <= prefix.len());
    Ok(Json(BgpWhy {
        why,
        rib: routes.into_iter().map(row).collect(),
        generation: lookup.generation.0,
        published: alone.then_some(lookup.published),
        workers: shared.generations(),
        kernel: shared.mirror.route_state(VrfId::DEFAULT, &prefix),
    }))
}

/// The peers, or one of them.
pub(super) async fn bgp_neighbors(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Shown<Vec<PeerView>> {
    let wanted: Option<IpAddr> = parameter(&parameters, "peer")?;
    let mut peers = speaker(&shared)?.state().await.peers;
    peers.retain(|peer| wanted.is_none_or(|wanted| peer.address == wanted));
    match wanted {
        Some(wanted) if peers.is_empty() => {
            let text = format!("{wanted} is not a BGP peer: `turnpike show bgp neighbor` lists them");
            Err(Failure(StatusCode::NOT_FOUND, text))
        }
        _ => Ok(Json(peers)),
    }
}

/// Asks a peer for its routes again.
pub(super) async fn refresh(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Shown<Refreshed> {
    let missing = || Failure(StatusCode::BAD_REQUEST, "`peer` is missing".to_owned());
    let peer: IpAddr = parameter(&parameters, "peer")?.ok_or_else(missing)?;
    let failed = |error: bgp::Error| Failure(StatusCode::NOT_FOUND, error.to_string());
    speaker(&shared)?.refresh(peer).await.map_err(failed)?;
    Ok(Json(Refreshed { peer }))
}

/// What a policy makes of a route.
pub(super) async fn test(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Shown<PolicyTest> {
    let answer = speaker(&shared)?.test_policy(question(&parameters)?).await;
    let failed = |error: bgp::Error| Failure(StatusCode::NOT_FOUND, error.to_string());
    answer.map(Json).map_err(failed)
}

pub(super) fn speaker(shared: &Shared) -> Result<&Speaker, Failure> {
    let none = || {
        let text = "BGP is not configured: add [bgp] to the configuration";
        Failure(StatusCode::NOT_FOUND, text.to_owned())
    };
    shared.speaker.as_deref().ok_or_else(none)
}

fn question(parameters: &HashMap<String, String>) -> Result<PolicyQuestion, Failure> {
    let missing = |key| Failure(StatusCode::BAD_REQUEST, format!("`{key}` is missing"));
    let policy: String = parameter(parameters, "policy")?.ok_or_else(|| missing("policy"))?;
    let prefix = parameter(parameters, "prefix")?.ok_or_else(|| missing("prefix"))?;
    let mut question = PolicyQuestion::new(policy, prefix);
    question.received_from = parameter(parameters, "received-from")?;
    question.as_path = list(parameters, "as-path")?;
    question.communities = list(parameters, "communities")?;
    question.next_hop = parameter(parameters, "next-hop")?;
    question.med = parameter(parameters, "med")?;
    question.local_pref = parameter(parameters, "local-pref")?;
    question.origin = word(parameters, "origin")?;
    question.tag = parameter(parameters, "tag")?.unwrap_or(0);
    question.source = word(parameters, "source")?;
    question.neighbor = parameter(parameters, "neighbor")?;
    Ok(question)
}

fn invalid(key: &str, text: &str, reason: &dyn Display) -> Failure {
    Failure(StatusCode::BAD_REQUEST, format!("{key} `{text}`: {reason}"))
}

fn parameter<T: FromStr<Err: Display>>(parameters: &HashMap<String, String>, key: &str) -> Result<Option<T>, Failure> {
    let parse = |text: &String| text.parse().map_err(|error| invalid(key, text, &error));
    parameters.get(key).map(parse).transpose()
}

/// A value of an enumeration of words.
fn word<T: FromStr<Err = ()>>(parameters: &HashMap<String, String>, key: &str) -> Result<Option<T>, Failure> {
    let parse = |text: &String| text.parse().map_err(|()| invalid(key, text, &"there is no such word"));
    parameters.get(key).map(parse).transpose()
}

/// Values between spaces.
fn list<T: FromStr<Err: Display>>(parameters: &HashMap<String, String>, key: &str) -> Result<Option<Vec<T>>, Failure> {
    let parse = |text: &String| {
        let values = text.split_whitespace();
        values
            .map(|value| value.parse().map_err(|error| invalid(key, value, &error)))
            .collect()
    };
    parameters.get(key).map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_question_is_read_whole_and_its_mistakes_are_named() {
        let base = [("policy", "in"), ("prefix", "10.0.0.0/8")];
        let with = |more: &[(&str, &str)]| question(&parameters(&[&base[..], more].concat()));
        let asked = with(&[
            ("as-path", "65001 65002"),
            ("communities", "no-export 1:2:3"),
            ("source", "ibgp"),
        ]);
        let Ok(asked) = asked else { panic!("is valid") };
        assert_eq!(asked.as_path, Some(vec![65001, 65002]));
        assert_eq!(asked.communities.map(|list| list.len()), Some(2));
        assert_eq!(asked.source, Some(net::policy::RouteSource::Ibgp));
        let complaint = |more: &[(&str, &str)]| with(more).err().map(|failure| failure.1).unwrap_or_default();
        assert_eq!(
            complaint(&[("communities", "1:2 x")]),
            "communities `x`: `x` is not a community"
        );
        assert_eq!(complaint(&[("origin", "bgp")]), "origin `bgp`: there is no such word");
        assert!(complaint(&[("as-path", "AS1")]).starts_with("as-path `AS1`"));
        assert!(question(&parameters(&[("policy", "in")])).is_err());
    }
}
