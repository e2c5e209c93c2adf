//! Everything that must hold between the values of a configuration, and the limits of each.
//!
//! Checks see plain values and name places by path (`port[0].addresses[1]`), so that a configuration from a file and one
//! from elsewhere are judged alike.

mod bgp;
mod evpn;
mod interfaces;
mod limits;
mod nat;
mod policy;
mod routes;
mod standby;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::fault::Fault;
use crate::model::Config;
use crate::parse::Spans;
use crate::report::Found;

/// Every fault of a configuration.
pub(crate) fn config(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    limits::check(config, &mut findings);
    interfaces::check(config, &mut findings);
    routes::check(config, &mut findings);
    bgp::check(config, &mut findings);
    evpn::check(config, &mut findings);
    nat::check(config, &mut findings);
    standby::check(config, &mut findings);
    findings.0
}

/// A fault, and where it is by path.
#[derive(Debug)]
pub(crate) struct Finding {
    fault: Fault,
    at: String,
    earlier: Option<String>,
    /// The section that lacks something; says nothing if that section was read incompletely.
    pub(crate) absent_from: Option<&'static str>,
}

impl Finding {
    /// With its place in the file.
    pub(crate) fn located(self, spans: &Spans) -> Found {
        let earlier = self.earlier.and_then(|path| spans.get(&path));
        Found {
            at: spans.get(&self.at).or(Some(0..0)),
            earlier,
            fault: self.fault,
        }
    }

    /// Of a configuration that has no file.
    pub(crate) fn unlocated(self) -> Found {
        Found {
            fault: self.fault,
            at: None,
            earlier: None,
        }
    }
}

/// Faults found up to here.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// A fault at one place.
    fn at(&mut self, path: impl Into<String>, fault: Fault) {
        self.0.push(Finding {
            fault,
            at: path.into(),
            earlier: None,
            absent_from: None,
        });
    }

    /// A fault between two places.
    fn between(&mut self, path: impl Into<String>, earlier: impl Into<String>, fault: Fault) {
        self.0.push(Finding {
            fault,
            at: path.into(),
            earlier: Some(earlier.into()),
            absent_from: None,
        });
    }

    /// A fault at a place that refers to something absent from `section`.
    fn absent(&mut self, path: impl Into<String>, section: &'static str, fault: Fault) {
        self.0.push(Finding {
            fault,
            at: path.into(),
            earlier: None,
            absent_from: Some(section),
        });
    }
}

/// Something that claims a value which may be claimed once.
#[derive(Debug, Clone)]
struct Claim<K> {
    value: K,
    path: String,
    owner: String,
}

/// Reports each claim to a value that an earlier one has; `fault` gets value, first and second owner.
fn unique<K: Ord + Clone>(
    claims: impl IntoIterator<Item = Claim<K>>,
    findings: &mut Findings,
    fault: impl Fn(K, String, String) -> Fault,
) {
    let mut first: BTreeMap<K, Claim<K>> = BTreeMap::new();
    for claim in claims {
        match first.get(&claim.value) {
            Some(earlier) => {
                let fault = fault(claim.value, earlier.owner.clone(), claim.owner);
                findings.between(claim.path, earlier.path.clone(), fault);
            }
            None => drop(first.insert(claim.value.clone(), claim)),
        }
    }
}

/// Why no host may have this address; `None` if one may.
fn not_a_host(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(address) if address.octets()[0] >= 240 => Some("a reserved address"),
        IpAddr::V4(address) if address.octets()[0] == 0 => Some("an address of 0.0.0.0/8"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
