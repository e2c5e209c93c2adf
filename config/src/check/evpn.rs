//! VPCs in EVPN.

use net::{RouteDistinguisher, RouteTarget};

use super::{Claim, Findings, policy, unique};
use crate::fault::Fault;
use crate::model::{Bgp, Config, Segment, Vpc, VpcEvpn};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let mut distinguishers = Vec::new();
    for (index, vpc) in config.vpcs.iter().enumerate() {
        let Some(evpn) = &vpc.evpn else { continue };
        let path = format!("vpc[{index}].evpn");
        if !matches!(vpc.segment, Segment::Vxlan { .. }) {
            let fault = Fault::EvpnVni { vpc: vpc.name.clone() };
            findings.at(path.clone(), fault);
        }
        targets(vpc, evpn, &path, findings);
        let Some(bgp) = &config.bgp else {
            let fault = Fault::EvpnBgp { vpc: vpc.name.clone() };
            findings.absent(path, "bgp", fault);
            continue;
        };
        policies(bgp, evpn, &path, findings);
        distinguishers.push(Claim {
            value: distinguisher(bgp, vpc, evpn),
            path: if evpn.rd.is_some() { format!("{path}.rd") } else { path },
            owner: format!("vpc `{}`", vpc.name),
        });
    }
    unique(distinguishers, findings, |rd, first, second| Fault::Duplicate {
        what: "route distinguisher",
        value: rd.to_string(),
        first,
        second,
        remedy: "give each VPC one of its own, or leave `rd` out",
    });
}

/// The distinguisher of a VPC.
fn distinguisher(bgp: &Bgp, vpc: &Vpc, evpn: &VpcEvpn) -> RouteDistinguisher {
    evpn.rd
        .unwrap_or_else(|| RouteDistinguisher::automatic(bgp.router_id, vpc.id.value()))
}

fn targets(vpc: &Vpc, evpn: &VpcEvpn, path: &str, findings: &mut Findings) {
    if evpn.import_rt.is_empty() && evpn.export_rt.is_empty() {
        let fault = Fault::EvpnTargets { vpc: vpc.name.clone() };
        findings.at(path, fault);
    }
    let announces = [
        &evpn.redistribute_connected,
        &evpn.redistribute_static,
        &evpn.redistribute_kernel,
    ];
    let announces = !evpn.announce.is_empty() || announces.into_iter().any(Option::is_some);
    if evpn.export_rt.is_empty() && announces {
        let fault = Fault::EvpnExport { vpc: vpc.name.clone() };
        findings.at(path, fault);
    }
    for (key, list) in [("import-rt", &evpn.import_rt), ("export-rt", &evpn.export_rt)] {
        let claims = list.iter().enumerate().map(|(index, target)| Claim {
            value: *target,
            path: format!("{path}.{key}[{index}]"),
            owner: format!("`{key}` of vpc `{}`", vpc.name),
        });
        unique(claims, findings, |target: RouteTarget, first, _| Fault::Duplicate {
            what: "route target",
            value: target.to_string(),
            second: first.clone(),
            first,
            remedy: "list each target once",
        });
    }
}

fn policies(bgp: &Bgp, evpn: &VpcEvpn, path: &str, findings: &mut Findings) {
    for (key, name) in [
        ("redistribute-connected", &evpn.redistribute_connected),
        ("redistribute-static", &evpn.redistribute_static),
        ("redistribute-kernel", &evpn.redistribute_kernel),
    ] {
        if let Some(name) = name {
            policy::exists(&bgp.policies, name, &format!("{path}.{key}"), findings);
        }
    }
}
