//! TOML text becomes a [`Config`] whose every value is valid by itself, with the place of each in the text.
//!
//! Nothing stops at the first fault: what is wrong is reported and left out, and reading goes on.

mod bgp;
mod nat;
pub(crate) mod nearest;
mod policy;
mod reader;
mod rib;
mod standby;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net::{VpcId, VrfId};
use toml::de::DeTable;

use crate::defaults;
use crate::fault::Fault;
use crate::model::{
    Api, Config, DEFAULT_VRF, Dataplane, Fpm, Gateway, Kernel, Port, RouteTarget, Segment, StaticRoute, Via, Vpc,
    VpcEvpn, Vxlan,
};
use crate::report::Found;
use crate::words::DeadEnd;
use reader::{Reader, Sink};
use value::WrittenVia;

pub(crate) use reader::Spans;

/// What a file says.
#[derive(Debug)]
pub(crate) struct Document {
    /// The configuration, in the order of the file, without what was wrong.
    pub(crate) config: Config,
    /// Where everything is.
    pub(crate) spans: Spans,
    /// What was wrong.
    pub(crate) found: Vec<Found>,
    /// Sections of which something was left out: nothing can be said to be absent from them.
    pub(crate) incomplete: BTreeSet<&'static str>,
}

/// Reads a file.
pub(crate) fn document(text: &str) -> Document {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut sink = Sink::default();
    for error in errors {
        let fault = Fault::Syntax {
            message: error.message().to_owned(),
        };
        sink.found.push(Found {
            fault,
            at: Some(error.span().unwrap_or(0..0)),
            earlier: None,
        });
    }
    if !sink.found.is_empty() {
        // What the parser could not read would be reported again as missing.
        let mut nothing = Sink::default();
        let empty = DeTable::new();
        let (config, _) = config(&mut Reader::root(&empty, &mut nothing));
        let incomplete = BTreeSet::from(["port", "vpc", "vxlan", "bgp"]);
        return Document {
            config,
            spans: sink.spans,
            found: sink.found,
            incomplete,
        };
    }
    let mut reader = Reader::root(root.get_ref(), &mut sink);
    let (config, incomplete) = config(&mut reader);
    reader.finish();
    Document {
        config,
        spans: sink.spans,
        found: sink.found,
        incomplete,
    }
}

fn config(file: &mut Reader<'_, '_>) -> (Config, BTreeSet<&'static str>) {
    let vpc_names = Names(file.names("vpc", "name", "id"));
    let mut incomplete = BTreeSet::new();
    let mut section = |file: &Reader<'_, '_>, name: &'static str, faults: usize| {
        if file.faults() > faults {
            incomplete.insert(name);
        }
    };

    let gateway = file.table("gateway", "[gateway]", gateway);
    let dataplane = file.table("dataplane", "[dataplane]", dataplane);
    let faults = file.faults();
    let vxlan = if file.has("vxlan") {
        file.table("vxlan", "[vxlan]", vxlan)
    } else {
        file.absent("vxlan")
    };
    section(file, "vxlan", faults);
    let faults = file.faults();
    let ports = file.tables("port", "port", "name", port);
    section(file, "port", faults);
    let faults = file.faults();
    let endpoint = vxlan.as_ref().map(|vxlan| vxlan.address);
    let vpcs = file.tables("vpc", "vpc", "name", |reader| vpc(reader, endpoint));
    section(file, "vpc", faults);
    let rib = file.table("rib", "[rib]", rib::rib);
    let distance = rib.distance.fixed;
    let routes = file.tables("route", "route", "prefix", |reader| route(reader, &vpc_names, distance));
    let kernel = file.table("kernel", "[kernel]", kernel);
    let fpm = if file.has("fpm") {
        Some(file.table("fpm", "[fpm]", fpm))
    } else {
        file.absent("fpm")
    };
    let bgp = if file.has("bgp") {
        let (bgp, wrong) = file.table("bgp", "[bgp]", bgp::bgp);
        if wrong {
            incomplete.insert("bgp");
        }
        bgp
    } else {
        file.absent("bgp")
    };
    let nat = file.table("nat", "[nat]", |reader| nat::nat(reader, &vpc_names));
    let standby = if file.has("standby") {
        file.table("standby", "[standby]", standby::standby)
    } else {
        file.absent("standby")
    };
    let api = file.table("api", "[api]", api);
    (
        Config {
            gateway,
            dataplane,
            vxlan,
            ports,
            vpcs,
            routes,
            rib,
            kernel,
            fpm,
            bgp,
            nat,
            standby,
            api,
        },
        incomplete,
    )
}

/// The VPCs' names, with the id of each unless that is wrong.
struct Names(BTreeMap<String, Option<VpcId>>);

impl Names {
    /// The VPC that `key` names; `None` if it was reported as unknown, or is wrong itself.
    fn vpc(&self, reader: &mut Reader<'_, '_>, key: &'static str) -> Option<VpcId> {
        let name: String = reader.required(key)?;
        self.find(reader, key, "vpc", &name)
    }

    /// The VRF that `key` names, if the key is there.
    fn vrf(&self, reader: &mut Reader<'_, '_>, key: &'static str) -> Option<Option<VrfId>> {
        let name: String = reader.optional(key)?;
        if name == DEFAULT_VRF {
            return Some(Some(VrfId::DEFAULT));
        }
        Some(self.find(reader, key, "vrf", &name).map(VpcId::vrf))
    }

    fn find(&self, reader: &mut Reader<'_, '_>, key: &str, kind: &'static str, name: &str) -> Option<VpcId> {
        if let Some(id) = self.0.get(name) {
            return *id;
        }
        let default = (kind == "vrf").then_some(DEFAULT_VRF);
        let known = self.0.keys().map(String::as_str).chain(default);
        let remedy = nearest::remedy(name, known, if kind == "vrf" { "VRFs" } else { "VPCs" });
        reader.fault_at(
            key,
            Fault::Unknown {
                kind,
                name: name.to_owned(),
                remedy,
            },
        );
        None
    }
}

fn gateway(reader: &mut Reader<'_, '_>) -> Gateway {
    Gateway {
        name: reader.required("name").unwrap_or_else(|| "gateway".to_owned()),
    }
}

fn dataplane(reader: &mut Reader<'_, '_>) -> Dataplane {
    Dataplane {
        workers: reader.list("workers").unwrap_or_else(|| defaults::WORKERS.to_vec()),
        poll: reader.or("poll", defaults::POLL),
        memory: reader.or("memory", defaults::MEMORY),
        memory_mb: reader.optional("memory-mb").unwrap_or(defaults::MEMORY_MB),
        buffers: reader.optional("buffers").unwrap_or(defaults::BUFFERS),
        connections: reader.optional("connections").unwrap_or(defaults::CONNECTIONS),
    }
}

fn vxlan(reader: &mut Reader<'_, '_>) -> Option<Vxlan> {
    let address = reader.required("address");
    let port = reader.optional("port").unwrap_or(defaults::VXLAN_PORT);
    Some(Vxlan {
        address: address?,
        port,
    })
}

fn port(reader: &mut Reader<'_, '_>) -> Option<Port> {
    let name: Option<String> = reader.required("name");
    let device = reader.required("device");
    let host_interface = reader.optional("host-interface");
    let mac = reader.optional("mac");
    let mtu = reader.optional("mtu").unwrap_or(defaults::PORT_MTU);
    let addresses = reader.list("addresses").unwrap_or_default();
    let offload = reader.or("offload", false);
    let name = name?;
    let host_interface = host_interface.unwrap_or_else(|| defaults::host_interface(&name));
    Some(Port {
        device: device?,
        host_interface,
        mac,
        mtu,
        addresses,
        offload,
        name,
    })
}

/// `endpoint` is ours.
fn vpc(reader: &mut Reader<'_, '_>, endpoint: Option<IpAddr>) -> Option<Vpc> {
    let id = reader.required("id");
    let name: Option<String> = reader.required("name");
    let segment = segment(reader);
    let host_interface = reader.optional("host-interface");
    let mac = reader.optional("mac");
    let mtu = reader.optional("mtu").unwrap_or(match segment {
        Some(Segment::Vlan { .. }) => defaults::PORT_MTU,
        Some(Segment::Vxlan { .. }) | None => defaults::VXLAN_MTU,
    });
    let addresses = reader.list("addresses").unwrap_or_default();
    let kernel_table = reader.optional("kernel-table");
    let evpn = if reader.has("evpn") {
        let object = format!("evpn of {}", reader.object());
        Some(reader.table("evpn", &object, evpn))
    } else {
        reader.absent("evpn")
    };
    let (id, name) = (id?, name?);
    let host_interface = host_interface.unwrap_or_else(|| defaults::host_interface(&name));
    let mac = mac.unwrap_or_else(|| match (&evpn, endpoint) {
        (Some(_), Some(IpAddr::V4(endpoint))) => defaults::router_mac(endpoint),
        _ => defaults::vpc_mac(id),
    });
    Some(Vpc {
        id,
        segment: segment?,
        host_interface,
        mac,
        mtu,
        addresses,
        kernel_table,
        name,
        evpn,
    })
}

fn evpn(reader: &mut Reader<'_, '_>) -> VpcEvpn {
    let [redistribute_connected, redistribute_static, redistribute_kernel] =
        ["redistribute-connected", "redistribute-static", "redistribute-kernel"].map(|key| reader.optional(key));
    VpcEvpn {
        rd: reader.optional("rd"),
        import_rt: reader.list("import-rt").unwrap_or_default(),
        export_rt: reader.list("export-rt").unwrap_or_default(),
        announce: reader.list("announce").unwrap_or_default(),
        redistribute_connected,
        redistribute_static,
        redistribute_kernel,
    }
}

fn segment(reader: &mut Reader<'_, '_>) -> Option<Segment> {
    let vteps = reader.list::<IpAddr>("vteps");
    let vni = reader.optional("vni");
    let vlan = if reader.has("vlan") {
        let object = format!("vlan of {}", reader.object());
        let (port, id) = reader.table("vlan", &object, |vlan| (vlan.required("port"), vlan.required("id")));
        port.zip(id)
    } else {
        reader.absent("vlan")
    };
    if !exactly_one(reader, &["vni", "vlan"], "`vni`, `vlan`") {
        return None;
    }
    if let Some((port, id)) = vlan {
        if vteps.is_some() {
            let (object, reason) = (reader.object(), "only a VPC with a `vni` has remote endpoints");
            reader.fault_at(
                "vteps",
                Fault::Meaningless {
                    object,
                    key: "vteps",
                    reason,
                },
            );
        }
        return Some(Segment::Vlan { port, id });
    }
    Some(Segment::Vxlan {
        vni: vni?,
        vteps: vteps.unwrap_or_default(),
    })
}

fn route(reader: &mut Reader<'_, '_>, names: &Names, distance: u8) -> Option<StaticRoute> {
    let prefix = reader.required("prefix");
    let vrf = names.vrf(reader, "vrf").unwrap_or(Some(VrfId::DEFAULT));
    let in_vrf = names.vrf(reader, "in-vrf").flatten();
    let via = via(reader, names);
    let kind = reader.optional("kind");
    let distance = reader.optional("distance").unwrap_or(distance);
    let metric = reader.optional("metric").unwrap_or(0);
    if !exactly_one(reader, &["via", "in-vrf", "kind"], "`via`, `in-vrf`, `kind`") {
        return None;
    }
    let target = match (via, in_vrf, kind) {
        (Some(via), ..) => RouteTarget::Via(via),
        (_, Some(vrf), _) => RouteTarget::InVrf(vrf),
        (_, _, Some(DeadEnd::Blackhole)) => RouteTarget::Blackhole,
        (_, _, Some(DeadEnd::Unreachable)) => RouteTarget::Unreachable,
        (_, _, Some(DeadEnd::Prohibit)) => RouteTarget::Prohibit,
        (None, None, None) => return None, // the one that is there was reported
    };
    Some(StaticRoute {
        prefix: prefix?,
        vrf: vrf?,
        target,
        distance,
        metric,
    })
}

/// The next hops of a route, with the VRFs that they name.
fn via(reader: &mut Reader<'_, '_>, names: &Names) -> Option<Vec<Via>> {
    let written: Vec<WrittenVia> = reader.list("via")?;
    let resolved = written.into_iter().filter_map(|via| {
        let vrf = match via.vrf.as_deref() {
            None => None,
            Some(DEFAULT_VRF) => Some(VrfId::DEFAULT),
            Some(name) => Some(names.find(reader, "via", "vrf", name)?.vrf()),
        };
        Some(Via {
            gateway: via.gateway,
            interface: via.interface,
            vrf,
            weight: via.weight,
        })
    });
    Some(resolved.collect())
}

/// True if exactly one of the keys is there; reports it otherwise.
fn exactly_one(reader: &mut Reader<'_, '_>, keys: &[&str], choices: &'static str) -> bool {
    let present: Vec<_> = keys.iter().filter(|key| reader.has(key)).collect();
    let object = reader.object();
    match present[..] {
        [_] => return true,
        [] => reader.fault(Fault::ExactlyOne {
            object,
            found: "none",
            choices,
        }),
        [_, second, ..] => reader.fault_at(
            second,
            Fault::ExactlyOne {
                object,
                found: "more than one",
                choices,
            },
        ),
    }
    false
}

fn kernel(reader: &mut Reader<'_, '_>) -> Kernel {
    Kernel {
        table: reader.optional("table").unwrap_or(defaults::KERNEL_TABLE),
        protocol: reader.optional("protocol").unwrap_or(defaults::KERNEL_PROTOCOL),
        metric: reader.optional("metric").unwrap_or(defaults::KERNEL_METRIC),
        audit_interval: reader
            .optional("audit-interval")
            .unwrap_or(defaults::KERNEL_AUDIT_INTERVAL),
    }
}

fn fpm(reader: &mut Reader<'_, '_>) -> Fpm {
    Fpm {
        listen: reader.optional("listen").unwrap_or(defaults::FPM_LISTEN),
        stale_time: reader.optional("stale-time").unwrap_or(defaults::FPM_STALE_TIME),
    }
}

fn api(reader: &mut Reader<'_, '_>) -> Api {
    Api {
        socket: reader.or("socket", defaults::API_SOCKET.to_owned()).into(),
    }
}

#[cfg(test)]
mod tests;
