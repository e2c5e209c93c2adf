//! `turnpike explain route`: the walk of a route from its source to the NIC, with the reason at the first step that stops it.
//!
//! Each subsystem is asked for what it knows; here it only becomes steps.

use std::net::IpAddr;

use dataplane::NotOffloaded;
use net::{Prefix, RouteKind, Source, VrfId};
use netlink_sync::RouteState;
use rib::{AdjacencyKind, Explanation, HopExplanation, Reason, RouteView};
use serde::Serialize;

/// `explain route`.
#[derive(Debug, Serialize)]
pub struct RouteExplanation {
    /// Name of the VRF that is asked about.
    pub vrf_name: String,
    /// What becomes of a packet to the address.
    pub verdict: &'static str,
    /// The first step that stops the route.
    pub stopped_at: Option<&'static str>,
    /// Why it does.
    pub reason: Option<String>,
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// Prefixes of BGP that hold the address, with every path.
    pub received: Vec<bgp::RouteView>,
    /// The same of EVPN, if the VRF takes part in it.
    pub evpn: Vec<bgp::EvpnRouteView>,
    /// The lookup.
    pub lookup: Explanation,
}

/// One step of the walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name.
    pub step: &'static str,
    /// `passed`, `stopped`, `unused` (the route does not take part in it) or `not-reached`.
    pub outcome: Outcome,
    /// Why it stopped or is unused.
    pub reason: Option<String>,
    /// For people.
    pub text: String,
}

/// What became of a route at one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It went on.
    Passed,
    /// It went no further.
    Stopped,
    /// The step is not for this route.
    Unused,
    /// An earlier step stopped it.
    NotReached,
}

/// What the subsystems say.
pub(crate) struct Facts {
    pub(crate) vrf_name: String,
    pub(crate) received: Vec<bgp::RouteView>,
    pub(crate) evpn: Vec<bgp::EvpnRouteView>,
    pub(crate) lookup: Explanation,
    /// The generation of each worker.
    pub(crate) workers: Vec<u64>,
    /// Of the route that the lookup ends at, if it is one that is told to the kernel.
    pub(crate) kernel: Option<RouteState>,
    /// By next hop that the lookup ends at: whether rules can send by it.
    pub(crate) nic: Vec<Result<(), NotOffloaded>>,
}

/// The lookup that a chain of leaks ends at.
pub(crate) fn last(lookup: &Explanation) -> &Explanation {
    lookup.leaks.first().map_or(lookup, last)
}

/// The best route of an address, if it is one that the kernel's mirror is told of.
pub(crate) fn mirrored(lookup: &Explanation) -> Option<(VrfId, Prefix)> {
    let best = active(lookup)?;
    let from = matches!(best.source, Source::Ebgp | Source::Ibgp | Source::Static);
    let kind = !matches!(best.kind, RouteKind::Local | RouteKind::Nat);
    (from && kind).then_some((lookup.vrf, best.prefix))
}

/// Makes steps of facts.
pub(crate) fn explain(facts: Facts) -> RouteExplanation {
    let mut steps = vec![
        received(&facts),
        policy(&facts),
        best(&facts.lookup),
        next_hop(&facts.lookup),
        neighbor(last(&facts.lookup)),
        generation(&facts),
        kernel(&facts),
        nic(&facts),
    ];
    let stop = steps.iter().position(|step| step.outcome == Outcome::Stopped);
    if let Some(stop) = stop {
        for step in steps.iter_mut().skip(stop + 1) {
            *step = Step {
                outcome: Outcome::NotReached,
                reason: None,
                text: String::new(),
                ..step.clone()
            };
        }
    }
    let stopped = stop.map(|stop| &steps[stop]);
    // The mirror and the NIC follow what workers do; they do not decide it.
    let forwards = stopped.is_none_or(|step| ["kernel", "nic"].contains(&step.step));
    let verdict = match last(&facts.lookup).kind {
        Some(RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit) => "discarded",
        _ if !forwards => "stopped",
        Some(RouteKind::Local) => "delivered",
        Some(RouteKind::Nat) => "translated",
        Some(RouteKind::Unicast) => "forwarded",
        None => "stopped",
    };
    RouteExplanation {
        vrf_name: facts.vrf_name,
        verdict,
        stopped_at: stopped.map(|step| step.step),
        reason: stopped.and_then(|step| step.reason.clone()),
        steps,
        received: facts.received,
        evpn: facts.evpn,
        lookup: facts.lookup,
    }
}

fn passed(step: &'static str, text: String) -> Step {
    Step {
        step,
        outcome: Outcome::Passed,
        reason: None,
        text,
    }
}

fn stopped(step: &'static str, reason: &str, text: String) -> Step {
    Step {
        step,
        outcome: Outcome::Stopped,
        reason: Some(reason.to_owned()),
        text,
    }
}

fn unused(step: &'static str, reason: &str, text: String) -> Step {
    Step {
        step,
        outcome: Outcome::Unused,
        reason: Some(reason.to_owned()),
        text,
    }
}

fn received(facts: &Facts) -> Step {
    let bgp = facts.received.iter().map(|route| {
        let peers = route.paths.iter().map(|path| match path.peer {
            Some(peer) => peer.to_string(),
            None => "this gateway".to_owned(),
        });
        format!("{} from {} (BGP)", route.prefix, peers.collect::<Vec<_>>().join(", "))
    });
    let evpn = facts.evpn.iter().flat_map(|route| {
        let peers = route.paths.iter().filter_map(|path| path.peer);
        peers.map(|peer| format!("{} from {peer} (EVPN, {})", route.route, route.rd))
    });
    let others = facts.lookup.candidates.iter();
    let others = others
        .filter(|route| !matches!(route.source, Source::Ebgp | Source::Ibgp))
        .map(|route| format!("{} ({})", route.prefix, route.source));
    let all: Vec<String> = bgp.chain(evpn).chain(others).collect();
    if all.is_empty() && facts.lookup.prefix.is_none() {
        let text = "nobody has a route to it".to_owned();
        return stopped("received", "not-received", text);
    }
    passed("received", all.join("; "))
}

fn policy(facts: &Facts) -> Step {
    if facts.received.is_empty()
        && facts
            .evpn
            .iter()
            .all(|route| route.paths.iter().all(|path| path.peer.is_none()))
    {
        return unused("policy", "not-bgp", "no route to it came by BGP".to_owned());
    }
    let refused = facts
        .received
        .iter()
        .filter(|route| !route.paths.iter().any(|p| p.best));
    let refused: Vec<String> = refused
        .flat_map(|route| {
            let why = |path: &bgp::PathView| {
                let peer = path.peer.map_or_else(String::new, |peer| format!(" from {peer}"));
                format!(
                    "{}{peer}: {}",
                    route.prefix,
                    path.reason.as_deref().unwrap_or("not used")
                )
            };
            route.paths.iter().map(why).collect::<Vec<_>>()
        })
        .chain(
            facts
                .evpn
                .iter()
                .flat_map(|route| not_imported(route, facts.lookup.vrf)),
        )
        .collect();
    match (
        refused.is_empty(),
        facts.lookup.candidates.is_empty() && facts.lookup.prefix.is_none(),
    ) {
        (true, _) => passed("policy", "accepted".to_owned()),
        (false, false) => passed("policy", format!("kept out: {}", refused.join("; "))),
        (false, true) => stopped("policy", "rejected", refused.join("; ")),
    }
}

/// Why each path of an EVPN route is no route of a VRF, but for those that are.
fn not_imported(route: &bgp::EvpnRouteView, vrf: VrfId) -> Vec<String> {
    let why = |path: &bgp::EvpnPathView| {
        let peer = path.peer?;
        let import = path.imports.iter().find(|import| import.vrf == vrf);
        let reason = match import {
            Some(import) if import.used => return None,
            Some(import) => import.reason.clone(),
            None => path.reason.clone().or_else(|| path.not_imported.clone()),
        };
        let reason = reason.unwrap_or_else(|| "no route target of this VPC".to_owned());
        Some(format!("{} from {peer}: {reason}", route.route))
    };
    route.paths.iter().filter_map(why).collect()
}

/// The candidate that forwards.
fn active(lookup: &Explanation) -> Option<&RouteView> {
    lookup.candidates.iter().find(|route| route.active)
}

fn name(route: &RouteView) -> String {
    format!(
        "{} {} (distance {}, metric {})",
        route.prefix, route.source, route.distance, route.metric
    )
}

fn lost(route: &RouteView) -> Option<String> {
    let reason = route.reason?;
    Some(format!("{} {}: {}", route.prefix, route.source, reason.description()))
}

fn best(lookup: &Explanation) -> Step {
    let chosen = match (lookup.host_route, active(lookup), lookup.prefix) {
        (true, _, _) => "the neighbour itself, on a connected subnet".to_owned(),
        (false, Some(route), Some(_)) => name(route),
        _ => match lookup.candidates.first() {
            Some(candidate) => format!("none can be used; first choice: {}", name(candidate)),
            None => {
                let text = "the routes of BGP are not in the RIB yet".to_owned();
                return stopped("best", Reason::Pending.name(), text);
            }
        },
    };
    // What is longer or preferred and does not forward is what people look for.
    let before = lookup.candidates.iter().take_while(|route| !route.active);
    let before: Vec<String> = before.filter_map(lost).collect();
    if before.is_empty() || lookup.host_route {
        return passed("best", chosen);
    }
    passed("best", format!("{chosen}; before it: {}", before.join("; ")))
}

fn next_hop(lookup: &Explanation) -> Step {
    const STEP: &str = "next-hop";
    if let (None, Some(candidate)) = (lookup.prefix, lookup.candidates.first()) {
        let reason = candidate.reason.unwrap_or(Reason::Pending);
        return match reason {
            Reason::Pending => passed(STEP, "not decided yet".to_owned()),
            reason => stopped(STEP, reason.name(), reason.description().to_owned()),
        };
    }
    let end = last(lookup);
    let leaked = match end.vrf == lookup.vrf {
        true => String::new(),
        false => format!("in VRF {}: ", end.vrf),
    };
    match end.kind {
        None if end.vrf == lookup.vrf => passed(STEP, "none".to_owned()),
        None => stopped(STEP, "no-route", format!("{leaked}no route")),
        Some(RouteKind::Local) => passed(STEP, format!("{leaked}an address of the gateway")),
        Some(RouteKind::Nat) => passed(STEP, format!("{leaked}a public address of NAT")),
        Some(kind @ (RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit)) => {
            let name = match kind {
                RouteKind::Blackhole => "blackhole",
                RouteKind::Prohibit => "prohibit",
                _ => "unreachable",
            };
            stopped(STEP, name, format!("{leaked}the route drops packets"))
        }
        Some(RouteKind::Unicast) if end.next_hops.iter().all(|hop| hop.id.is_none()) => stopped(
            STEP,
            "vrf-loop",
            format!("{leaked}the leak leads back to a VRF it was in"),
        ),
        Some(RouteKind::Unicast) => {
            let hops: Vec<String> = end.next_hops.iter().map(hop_name).collect();
            passed(STEP, format!("{leaked}{}", hops.join(", ")))
        }
    }
}

fn hop_name(hop: &HopExplanation) -> String {
    let interface = hop.interface.as_deref().unwrap_or("?");
    let way = match (hop.gateway, hop.vrf) {
        (Some(gateway), _) => format!("{gateway} on {interface}"),
        (None, Some(vrf)) => format!("VRF {vrf}"),
        (None, None) => format!("on link {interface}"),
    };
    match hop.buckets_total {
        1 => way,
        total => format!("{way} ({} of {total} flows)", hop.buckets),
    }
}

fn neighbor(end: &Explanation) -> Step {
    const STEP: &str = "neighbour";
    let hops: Vec<&HopExplanation> = end.next_hops.iter().filter(|hop| hop.id.is_some()).collect();
    if hops.is_empty() {
        return unused(STEP, "no-next-hop", "no neighbour takes part".to_owned());
    }
    let each = hops.iter().map(|hop| {
        let who = hop.gateway.unwrap_or(end.address);
        match (hop.problem, hop.mac) {
            (Some(problem), _) => format!("{who}: {}", problem.description()),
            (None, Some(mac)) => {
                let vtep = hop
                    .vtep
                    .map_or_else(String::new, |vtep| format!(" behind VXLAN endpoint {vtep}"));
                format!("{who} is at {mac}{vtep}")
            }
            (None, None) => who.to_string(),
        }
    });
    let text = each.collect::<Vec<_>>().join("; ");
    match hops.iter().find_map(|hop| hop.problem) {
        Some(problem) if hops.iter().all(|hop| hop.problem.is_some()) => stopped(STEP, problem.name(), text),
        _ => passed(STEP, text),
    }
}

fn generation(facts: &Facts) -> Step {
    const STEP: &str = "generation";
    let published = |lookup: &Explanation| lookup.published;
    let (lookup, number) = (&facts.lookup, facts.lookup.generation);
    let undecided = lookup.prefix.is_none() && lookup.candidates.iter().any(|c| c.reason == Some(Reason::Pending));
    if undecided || !published(lookup) || !published(last(lookup)) {
        let text = format!("generation {number} does not have it yet");
        return stopped(STEP, Reason::Pending.name(), text);
    }
    let workers: Vec<String> = facts.workers.iter().map(ToString::to_string).collect();
    passed(
        STEP,
        format!(
            "in generation {number}; workers were last seen at {}",
            workers.join(", ")
        ),
    )
}

fn kernel(facts: &Facts) -> Step {
    const STEP: &str = "kernel";
    match &facts.kernel {
        None => {
            let text =
                "BGP's and static routes are mirrored to the kernel, and a VPC's if it has a `kernel-table`".to_owned();
            unused(STEP, "not-mirrored", text)
        }
        Some(RouteState::Installed) => passed(STEP, "installed".to_owned()),
        Some(RouteState::Refused { reason: errno }) => {
            stopped(STEP, "refused", format!("the kernel refused it: {errno}"))
        }
        Some(RouteState::Inexpressible { obstacle }) => unused(STEP, "inexpressible", obstacle.to_string()),
        Some(RouteState::Held { losses }) => {
            let why = format!("somebody took it away {losses} times; it is written again in a while");
            stopped(STEP, "held", why)
        }
        Some(RouteState::Queued | RouteState::Writing) => stopped(STEP, "pending", "waits to be written".to_owned()),
        Some(RouteState::Stale | RouteState::NotWanted) => {
            stopped(STEP, "absent", "the mirror was not told of it".to_owned())
        }
    }
}

fn nic(facts: &Facts) -> Step {
    const STEP: &str = "nic";
    let end = last(&facts.lookup);
    let hops = end.next_hops.iter().filter(|hop| hop.id.is_some());
    let hops: Vec<(&HopExplanation, Result<(), NotOffloaded>)> = hops.zip(facts.nic.iter().copied()).collect();
    let why = |address: IpAddr, error: NotOffloaded| match error {
        NotOffloaded::Port => "its port takes no flow rules".to_owned(),
        NotOffloaded::Mtu => "it takes less than its port does, which rules cannot match".to_owned(),
        NotOffloaded::Protocol => format!("{address} is not IPv4"),
        other => format!("not offloaded: {}", other.name()),
    };
    match hops.iter().find_map(|(_, result)| result.err()) {
        _ if hops.is_empty() => unused(STEP, "no-next-hop", "nothing is sent".to_owned()),
        Some(error) if hops.iter().all(|(_, result)| result.is_err()) => unused(
            STEP,
            error.name(),
            format!("connections stay in software: {}", why(end.address, error)),
        ),
        _ => {
            let able = hops.iter().filter(|(_, result)| result.is_ok());
            let able: Vec<String> = able.map(|(hop, _)| hop_name(hop)).collect();
            passed(STEP, format!("takes connections by {}", able.join(", ")))
        }
    }
}

/// Whether rules can send by the next hops that a lookup ends at.
pub(crate) fn offloadable(
    end: &Explanation,
    check: impl Fn(net::NextHopId) -> Result<(), NotOffloaded>,
) -> Vec<Result<(), NotOffloaded>> {
    let ids = end.next_hops.iter().filter_map(|hop| Some((hop.id?, hop.kind)));
    ids.map(|(id, kind)| match (end.address, kind) {
        (IpAddr::V6(_), _) => Err(NotOffloaded::Protocol),
        (_, AdjacencyKind::Forward | AdjacencyKind::Vxlan) => check(id),
        _ => Err(NotOffloaded::NextHop),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use net::{Generation, Mac, NextHopId};
    use rib::HopProblem;

    use super::*;

    fn hop(problem: Option<HopProblem>) -> HopExplanation {
        HopExplanation {
            id: Some(NextHopId(9)),
            kind: AdjacencyKind::Forward,
            interface: Some("fabric".to_owned()),
            gateway: Some("192.0.2.0".parse().expect("an address")),
            mac: problem.is_none().then_some(Mac([2, 0, 0, 0, 0, 1])),
            vtep: None,
            vrf: None,
            mtu: 1500,
            buckets: 1,
            buckets_total: 1,
            problem,
        }
    }

    fn candidate(active: bool, reason: Option<Reason>) -> RouteView {
        RouteView {
            vrf: VrfId::DEFAULT,
            prefix: "10.0.0.0/8".parse().expect("a prefix"),
            source: Source::Ebgp,
            kind: RouteKind::Unicast,
            distance: 20,
            metric: 0,
            active,
            reason,
            next_hops: Vec::new(),
            resolved: Vec::new(),
        }
    }

    /// A route that passes every step.
    fn whole() -> Facts {
        let path = bgp::PathView {
            peer: Some("192.0.2.0".parse().expect("an address")),
            stale: false,
            best: true,
            multipath: false,
            reason: None,
            next_hop: None,
            link_local_next_hop: None,
            as_path: "65001".to_owned(),
            origin: "igp".to_owned(),
            med: None,
            local_pref: None,
            communities: Vec::new(),
            extended_communities: Vec::new(),
            large_communities: Vec::new(),
            only_to_customer: None,
            source: "ebgp".to_owned(),
            weight: 0,
            tag: 0,
            blackhole: false,
            rpki: "not-found".to_owned(),
            changed_by_policy: false,
        };
        Facts {
            vrf_name: "default".to_owned(),
            evpn: Vec::new(),
            received: vec![bgp::RouteView {
                prefix: "10.0.0.0/8".parse().expect("a prefix"),
                paths: vec![path],
            }],
            lookup: Explanation {
                vrf: VrfId::DEFAULT,
                address: "10.1.2.3".parse().expect("an address"),
                candidates: vec![candidate(true, None)],
                prefix: Some("10.0.0.0/8".parse().expect("a prefix")),
                host_route: false,
                kind: Some(RouteKind::Unicast),
                next_hops: vec![hop(None)],
                leaks: Vec::new(),
                generation: Generation(7),
                published: true,
            },
            workers: vec![7],
            kernel: Some(RouteState::Installed),
            nic: vec![Ok(())],
        }
    }

    /// The verdict, and the step and reason that stopped it.
    fn outcome(edit: impl FnOnce(&mut Facts)) -> (&'static str, Option<&'static str>, Option<String>) {
        let mut facts = whole();
        edit(&mut facts);
        let told = explain(facts);
        let names: Vec<_> = told.steps.iter().map(|step| step.step).collect();
        assert_eq!(
            names,
            [
                "received",
                "policy",
                "best",
                "next-hop",
                "neighbour",
                "generation",
                "kernel",
                "nic"
            ]
        );
        (told.verdict, told.stopped_at, told.reason)
    }

    fn stop(
        verdict: &'static str,
        step: &'static str,
        reason: &str,
    ) -> (&'static str, Option<&'static str>, Option<String>) {
        (verdict, Some(step), Some(reason.to_owned()))
    }

    #[test]
    fn each_step_stops_a_route_with_its_reason() {
        let no_route = |facts: &mut Facts| {
            facts.lookup.prefix = None;
            facts.lookup.kind = None;
            facts.lookup.next_hops.clear();
            facts.lookup.candidates.clear();
            facts.kernel = None;
            facts.nic.clear();
        };
        assert_eq!(outcome(|_| ()), ("forwarded", None, None));
        let nobody = outcome(|facts| {
            no_route(facts);
            facts.received.clear();
        });
        assert_eq!(nobody, stop("stopped", "received", "not-received"));
        let rejected = outcome(|facts| {
            no_route(facts);
            facts.received[0].paths[0].best = false;
            facts.received[0].paths[0].reason = Some("import policy".to_owned());
        });
        assert_eq!(rejected, stop("stopped", "policy", "rejected"));
        assert_eq!(outcome(no_route), stop("stopped", "best", "pending"));
        for reason in Reason::ALL {
            let told = outcome(|facts| {
                no_route(facts);
                facts.lookup.candidates = vec![candidate(false, Some(reason))];
            });
            let step = if reason == Reason::Pending {
                "generation"
            } else {
                "next-hop"
            };
            assert_eq!(told, stop("stopped", step, reason.name()));
        }
        let dropped = outcome(|facts| {
            facts.lookup.kind = Some(RouteKind::Prohibit);
            facts.lookup.next_hops.clear();
        });
        assert_eq!(dropped, stop("discarded", "next-hop", "prohibit"));
        for problem in HopProblem::ALL {
            let told = outcome(|facts| facts.lookup.next_hops = vec![hop(Some(problem))]);
            assert_eq!(told, stop("stopped", "neighbour", problem.name()));
        }
        let half = outcome(|facts| facts.lookup.next_hops.push(hop(Some(HopProblem::NeighborFailed))));
        assert_eq!(half, ("forwarded", None, None), "the other next hop sends");
        assert_eq!(
            outcome(|facts| facts.lookup.published = false),
            stop("stopped", "generation", "pending")
        );
        let refused = outcome(|facts| {
            facts.kernel = Some(RouteState::Refused {
                reason: "Network is unreachable".to_owned(),
            })
        });
        assert_eq!(
            refused,
            stop("forwarded", "kernel", "refused"),
            "workers forward all the same"
        );
        let software = explain(Facts {
            nic: vec![Err(NotOffloaded::Port)],
            ..whole()
        });
        let nic = software.steps.last().expect("the last step");
        assert_eq!((nic.outcome, nic.reason.as_deref()), (Outcome::Unused, Some("port")));
        assert_eq!(software.verdict, "forwarded");
    }

    #[test]
    fn a_leak_ends_where_it_leads() {
        let inner = whole().lookup;
        let told = outcome(|facts| {
            facts.lookup.vrf = VrfId(1);
            facts.lookup.next_hops = vec![HopExplanation {
                id: None,
                vrf: Some(VrfId::DEFAULT),
                ..hop(None)
            }];
            facts.lookup.leaks = vec![inner];
        });
        assert_eq!(told, ("forwarded", None, None));
        let circle = outcome(|facts| facts.lookup.next_hops[0].id = None);
        assert_eq!(circle, stop("stopped", "next-hop", "vrf-loop"));
    }
}
