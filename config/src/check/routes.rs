//! Static routes: one for a prefix, next hops of its family, and leaks that end.

use std::collections::BTreeMap;
use std::net::IpAddr;

use net::{IpNet, Prefix, VrfId};

use super::{Findings, not_a_host};
use crate::fault::Fault;
use crate::model::{Config, RouteTarget, StaticRoute, Via};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let mut first: BTreeMap<(VrfId, Prefix), usize> = BTreeMap::new();
    for (index, route) in config.routes.iter().enumerate() {
        let path = format!("route[{index}]");
        if let Some(earlier) = first.insert((route.vrf, route.prefix), index) {
            let vrf = config.vrf_name(route.vrf).to_owned();
            let fault = Fault::DuplicateRoute {
                vrf,
                prefix: route.prefix,
            };
            findings.between(format!("{path}.prefix"), format!("route[{earlier}].prefix"), fault);
        }
        known_vrf(config, route.vrf, format!("{path}.vrf"), findings);
        match &route.target {
            RouteTarget::Via(gateways) => next_hops(config, route, gateways, &path, findings),
            RouteTarget::InVrf(vrf) => known_vrf(config, *vrf, format!("{path}.in-vrf"), findings),
            RouteTarget::Blackhole | RouteTarget::Unreachable | RouteTarget::Prohibit => {}
        }
    }
    loops(config, findings);
}

fn known_vrf(config: &Config, vrf: VrfId, path: String, findings: &mut Findings) {
    if let Some(id) = vrf.vpc().filter(|id| config.vpc(*id).is_none()) {
        findings.absent(path, "vpc", Fault::UnknownVpcId { id });
    }
}

fn next_hops(config: &Config, route: &StaticRoute, gateways: &[Via], path: &str, findings: &mut Findings) {
    let object = || format!("route `{}`", route.prefix);
    if gateways.is_empty() {
        findings.at(
            format!("{path}.via"),
            Fault::Empty {
                object: object(),
                key: "via",
            },
        );
    }
    for (index, via) in gateways.iter().enumerate() {
        let path = format!("{path}.via[{index}]");
        if let Some(vrf) = via.vrf {
            known_vrf(config, vrf, path.clone(), findings);
        }
        match next_hop(config, route, via) {
            Ok(()) => {}
            Err(Wrong::Fault(fault)) => findings.at(path, fault),
            Err(Wrong::Says(reason, example)) => findings.at(
                path,
                Fault::InvalidValue {
                    key: "via".to_owned(),
                    reason,
                    example: example.to_owned(),
                },
            ),
        }
    }
}

/// What is wrong with a next hop.
enum Wrong {
    Fault(Fault),
    /// In words, and what would do.
    Says(String, &'static str),
}

fn next_hop(config: &Config, route: &StaticRoute, via: &Via) -> Result<(), Wrong> {
    let says = |reason: String, example| Err(Wrong::Says(reason, example));
    if let Some(gateway) = via.gateway {
        if let Some(what) = not_a_host(gateway) {
            let object = format!("route `{}`", route.prefix);
            return Err(Wrong::Fault(Fault::NotAHost {
                object,
                address: gateway,
                what,
            }));
        }
        if gateway.is_ipv4() != route.prefix.is_v4() {
            return Err(Wrong::Fault(Fault::RouteFamily {
                prefix: route.prefix,
                gateway,
            }));
        }
        let link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
        if link_local && via.interface.is_none() {
            let reason = format!("{gateway} is link-local, and no interface is named");
            return says(
                reason,
                "the port or VPC that it is on: { gateway = \"fe80::1\", interface = \"fabric\" }",
            );
        }
    } else if via.interface.is_none() {
        let reason = "a next hop names neither a gateway nor an interface".to_owned();
        return says(reason, "an address, or { interface = \"fabric\" } for an on-link route");
    }
    if via.weight == 0 {
        return says("weight 0 is out of range".to_owned(), "a number from 1 to 65535");
    }
    let Some(interface) = &via.interface else { return Ok(()) };
    let Some(vrf) = config.interface_vrf(interface) else {
        let reason = format!("there is no port or VPC `{interface}`");
        return says(reason, "the name of a port, or of a VPC");
    };
    if vrf != via.vrf.unwrap_or(route.vrf) {
        let reason = format!("`{interface}` is in VRF `{}`", config.vrf_name(vrf));
        return says(
            reason,
            "an interface of the route's VRF, or that VRF as `vrf` of the next hop",
        );
    }
    Ok(())
}

/// A leaked route must lead somewhere: following the routes that cover its whole prefix, static or connected, must not
/// come back. Routes for parts of the prefix do not help the rest of it; a static route that covers it (a blackhole,
/// say) does.
fn loops(config: &Config, findings: &mut Findings) {
    let mut tables = Tables::new();
    for route in &config.routes {
        tables.entry(route.vrf).or_default().push(route);
    }
    for (index, start) in config.routes.iter().enumerate() {
        let Some(circle) = circle(config, &tables, start) else {
            continue;
        };
        // Of those that share a prefix the first is reported, for all.
        let reported = config.routes[..index]
            .iter()
            .any(|earlier| earlier.prefix == start.prefix && circle.iter().any(|route| std::ptr::eq(*route, earlier)));
        if !reported {
            let mut cycle = start.prefix.to_string();
            for route in &circle {
                cycle.push_str(&format!(" in `{}` ->", config.vrf_name(route.vrf)));
            }
            cycle.push_str(&format!(" in `{}`", config.vrf_name(start.vrf)));
            findings.at(format!("route[{index}].in-vrf"), Fault::RouteLoop { cycle });
        }
    }
}

/// The static routes of each VRF.
type Tables<'c> = BTreeMap<VrfId, Vec<&'c StaticRoute>>;

/// The leaked routes that lead from `start` back to it; `None` if it leads elsewhere.
fn circle<'c>(config: &Config, tables: &Tables<'c>, start: &'c StaticRoute) -> Option<Vec<&'c StaticRoute>> {
    let mut circle = vec![start];
    let mut route = start;
    while let RouteTarget::InVrf(vrf) = route.target {
        route = covering(config, tables, vrf, start.prefix)?;
        if std::ptr::eq(route, start) {
            return Some(circle);
        }
        if circle.iter().any(|known| std::ptr::eq(*known, route)) {
            return None; // a circle that `start` is not in, found from where it begins
        }
        circle.push(route);
    }
    None
}

/// The static route that a packet to `prefix` takes in `vrf`; `None` if there is none, or a connected subnet is as long.
fn covering<'c>(config: &Config, tables: &Tables<'c>, vrf: VrfId, prefix: Prefix) -> Option<&'c StaticRoute> {
    let in_vrf = tables
        .get(&vrf)?
        .iter()
        .copied()
        .filter(|route| route.prefix.covers(&prefix));
    let longest = in_vrf.max_by_key(|route| route.prefix.len())?;
    let addresses: Vec<&IpNet> = match vrf.vpc() {
        None => config.ports.iter().flat_map(|port| &port.addresses).collect(),
        Some(id) => config.vpc(id).into_iter().flat_map(|vpc| &vpc.addresses).collect(),
    };
    let mut connected = addresses
        .into_iter()
        .map(|net| Prefix::from(*net))
        .filter(|net| net.covers(&prefix));
    if connected.any(|net| net.len() >= longest.prefix.len()) {
        None
    } else {
        Some(longest)
    }
}
