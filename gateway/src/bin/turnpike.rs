//! `turnpike`: the client.
#![forbid(unsafe_code)]

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use gateway::{Error, client, render};

/// Client of a running turnpiked.
#[derive(Parser)]
#[command(name = "turnpike", version)]
struct Arguments {
    /// API socket of the gateway (api.socket in its configuration).
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/turnpike/api.sock")]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what the gateway does.
    #[command(subcommand)]
    Show(Show),
    /// Explain why the gateway does it.
    #[command(subcommand)]
    Explain(Explain),
    /// Have the BGP speaker do something.
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Try BGP policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Write tables to files.
    #[command(subcommand)]
    Dump(Dump),
    /// Have a standby do something.
    #[command(subcommand)]
    Standby(StandbyCommand),
}

#[derive(Subcommand)]
enum Dump {
    /// BGP's paths as an MRT table dump (RFC 6396): what each peer announced, before policy.
    Mrt {
        /// The file; an older one is replaced once the new one is whole.
        file: PathBuf,
        /// The best path to each prefix instead, after policy.
        #[arg(long)]
        loc_rib: bool,
    },
}

#[derive(Subcommand)]
enum Explain {
    /// The walk of a route from its source to the NIC, and what stops it.
    Route {
        /// `default` or a VPC's name.
        vrf: String,
        /// Destination address.
        address: IpAddr,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Subcommand)]
enum BgpCommand {
    /// Ask a peer for all its routes again, without a reset (RFC 2918).
    Refresh {
        /// Its address.
        peer: IpAddr,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Subcommand)]
enum StandbyCommand {
    /// Put the connections received from the primary into the workers' tables: they go on when packets come here.
    Takeover(Output),
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Say what a policy makes of a route, and which term decides; nothing changes.
    Test(Box<PolicyTest>),
}

#[derive(Args)]
struct PolicyTest {
    /// Name of the policy.
    policy: String,
    /// Destination of the route.
    #[arg(long)]
    prefix: String,
    /// Take the route as this peer announced it; what else is given replaces its attributes.
    #[arg(long, value_name = "PEER")]
    received_from: Option<String>,
    /// AS path, nearest AS first, in quotes.
    #[arg(long, value_name = "ASES")]
    as_path: Option<String>,
    /// A community; may be given several times.
    #[arg(long = "community", value_name = "COMMUNITY")]
    communities: Vec<String>,
    /// Next hop.
    #[arg(long, value_name = "ADDRESS")]
    next_hop: Option<String>,
    /// Multi-exit discriminator.
    #[arg(long)]
    med: Option<String>,
    /// Local preference.
    #[arg(long)]
    local_pref: Option<String>,
    /// Origin: igp, egp or incomplete.
    #[arg(long)]
    origin: Option<String>,
    /// Tag.
    #[arg(long)]
    tag: Option<String>,
    /// Where the route comes from: ebgp, ibgp or announced.
    #[arg(long)]
    source: Option<String>,
    /// The peer that it comes from or goes to.
    #[arg(long, value_name = "PEER")]
    neighbor: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl PolicyTest {
    fn path(&self) -> String {
        let communities = (!self.communities.is_empty()).then(|| self.communities.join(" "));
        let query = query(&[
            ("policy", Some(&self.policy)),
            ("prefix", Some(&self.prefix)),
            ("received-from", self.received_from.as_ref()),
            ("as-path", self.as_path.as_ref()),
            ("communities", communities.as_ref()),
            ("next-hop", self.next_hop.as_ref()),
            ("med", self.med.as_ref()),
            ("local-pref", self.local_pref.as_ref()),
            ("origin", self.origin.as_ref()),
            ("tag", self.tag.as_ref()),
            ("source", self.source.as_ref()),
            ("neighbor", self.neighbor.as_ref()),
        ]);
        format!("/v1/policy/test{query}")
    }
}

#[derive(Subcommand)]
enum ShowBgp {
    /// Everything about a peer's session, or about all.
    Neighbor {
        /// Only this peer.
        peer: Option<IpAddr>,
        #[command(flatten)]
        output: Output,
    },
    /// EVPN: the VPCs that take part, and every route with what became of it in them.
    Evpn(Output),
    /// Every path to a prefix, or to all, with its attributes and why it is not used.
    Routes {
        /// Only this prefix.
        prefix: Option<String>,
        /// At most so many prefixes.
        #[arg(long)]
        limit: Option<usize>,
        #[command(flatten)]
        output: Output,
    },
    /// Why the route to a prefix is what it is: what decided about each path, whether it forwards, and who is told.
    Why {
        /// The prefix, exactly.
        prefix: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
struct Output {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Show {
    /// Revision, generation, ports, workers, VPCs, sessions.
    Summary(Output),
    /// Every route of every source, which one won, and why the others lost.
    Routes {
        /// Only this VRF: `default` or a VPC's name.
        #[arg(long)]
        vrf: Option<String>,
        /// Only this prefix.
        #[arg(long)]
        prefix: Option<String>,
        /// At most so many rows.
        #[arg(long)]
        limit: Option<usize>,
        #[command(flatten)]
        output: Output,
    },
    /// BGP sessions and the loc-rib.
    #[command(args_conflicts_with_subcommands = true)]
    Bgp {
        #[command(flatten)]
        output: Output,
        #[command(subcommand)]
        what: Option<ShowBgp>,
    },
    /// BFD sessions with BGP peers.
    Bfd(Output),
    /// BMP collectors, and what they were told.
    Bmp(Output),
    /// RPKI caches, and what they hold.
    Rpki(Output),
    /// Neighbours, as ARP and ND of the kernel know them.
    Neighbors(Output),
    /// The kernel mirror, and what FRR pushed over FPM.
    Kernel {
        /// What became of our route to this prefix.
        #[arg(long)]
        prefix: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// NAT connections.
    Connections {
        /// At most so many rows.
        #[arg(long)]
        limit: Option<usize>,
        #[command(flatten)]
        output: Output,
    },
    /// Published generations, and what each did to connections.
    Generations(Output),
    /// Connections installed in the NIC.
    Offloads(Output),
    /// Dropped packets by reason.
    Drops(Output),
    /// NAT pools, how full they are, and counters.
    Nat(Output),
    /// The pair of gateways: what the standby has, and what is kept of a primary.
    Standby(Output),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(text) => {
            // A reader that closed the pipe has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<String, Error> {
    let (path, json, render) = match &arguments.command {
        Command::Bgp(BgpCommand::Refresh { peer, output }) => {
            let query = query(&[("peer", Some(&peer.to_string()))]);
            let value = client::post(&arguments.socket, &format!("/v1/bgp/refresh{query}")).await?;
            return Ok(if output.json {
                format!("{value:#}\n")
            } else {
                render::refreshed(&value)
            });
        }
        Command::Standby(StandbyCommand::Takeover(output)) => {
            let value = client::post(&arguments.socket, "/v1/standby/takeover").await?;
            return Ok(if output.json {
                format!("{value:#}\n")
            } else {
                render::takeover(&value)
            });
        }
        Command::Show(show) => request(show),
        Command::Explain(Explain::Route { vrf, address, output }) => {
            let address = address.to_string();
            let query = query(&[("vrf", Some(vrf)), ("address", Some(&address))]);
            (
                format!("/v1/explain/route{query}"),
                output.json,
                render::explain_route as Render,
            )
        }
        Command::Dump(Dump::Mrt { file, loc_rib }) => {
            let table = if *loc_rib { "loc-rib" } else { "adj-rib-in" };
            let path = format!("/v1/dump/mrt?table={table}");
            let written = client::download(&arguments.socket, &path, file).await?;
            return Ok(format!("{written} bytes written to {}\n", file.display()));
        }
        Command::Policy(PolicyCommand::Test(test)) => (test.path(), test.output.json, render::policy_test as Render),
    };
    let value = client::get(&arguments.socket, &path).await?;
    Ok(if json { format!("{value:#}\n") } else { render(&value) })
}

/// Makes a table of an answer.
type Render = fn(&serde_json::Value) -> String;

/// What is asked for a `show`, whether JSON is wanted, and what makes a table of it.
fn request(show: &Show) -> (String, bool, Render) {
    match show {
        Show::Summary(output) => ("/v1/summary".to_owned(), output.json, render::summary),
        Show::Routes {
            vrf,
            prefix,
            limit,
            output,
        } => {
            let limit = limit.map(|limit| limit.to_string());
            let query = query(&[
                ("vrf", vrf.as_ref()),
                ("prefix", prefix.as_ref()),
                ("limit", limit.as_ref()),
            ]);
            (format!("/v1/routes{query}"), output.json, render::routes)
        }
        Show::Bgp { output, what: None } => ("/v1/bgp".to_owned(), output.json, render::bgp),
        Show::Bgp {
            what: Some(ShowBgp::Neighbor { peer, output }),
            ..
        } => {
            let peer = peer.map(|peer| peer.to_string());
            let query = query(&[("peer", peer.as_ref())]);
            (format!("/v1/bgp/neighbors{query}"), output.json, render::bgp_neighbors)
        }
        Show::Bgp {
            what: Some(ShowBgp::Evpn(output)),
            ..
        } => ("/v1/bgp/evpn".to_owned(), output.json, render::bgp_evpn),
        Show::Bgp {
            what: Some(ShowBgp::Routes { prefix, limit, output }),
            ..
        } => {
            let limit = limit.map(|limit| limit.to_string());
            let query = query(&[("prefix", prefix.as_ref()), ("limit", limit.as_ref())]);
            (format!("/v1/bgp/routes{query}"), output.json, render::bgp_routes)
        }
        Show::Bgp {
            what: Some(ShowBgp::Why { prefix, output }),
            ..
        } => {
            let query = query(&[("prefix", Some(prefix))]);
            (format!("/v1/bgp/why{query}"), output.json, render::bgp_why)
        }
        Show::Bfd(output) => ("/v1/bfd".to_owned(), output.json, render::bfd),
        Show::Bmp(output) => ("/v1/bmp".to_owned(), output.json, render::bmp),
        Show::Rpki(output) => ("/v1/rpki".to_owned(), output.json, render::rpki),
        Show::Neighbors(output) => ("/v1/neighbors".to_owned(), output.json, render::neighbors),
        Show::Kernel { prefix, output } => (
            format!("/v1/kernel{}", query(&[("prefix", prefix.as_ref())])),
            output.json,
            render::kernel,
        ),
        Show::Connections { limit, output } => {
            let limit = limit.map(|limit| limit.to_string());
            (
                format!("/v1/connections{}", query(&[("limit", limit.as_ref())])),
                output.json,
                render::connections,
            )
        }
        Show::Generations(output) => ("/v1/generations".to_owned(), output.json, render::generations),
        Show::Offloads(output) => ("/v1/offloads".to_owned(), output.json, render::offloads),
        Show::Nat(output) => ("/v1/nat".to_owned(), output.json, render::nat),
        Show::Standby(output) => ("/v1/standby".to_owned(), output.json, render::standby),
        Show::Drops(output) => ("/v1/drops".to_owned(), output.json, render::drops),
    }
}

/// A query string of what is given, percent-encoded (RFC 3986 section 2.1).
fn query(parameters: &[(&str, Option<&String>)]) -> String {
    let given: Vec<String> = parameters
        .iter()
        .filter_map(|(key, value)| value.map(|value| format!("{key}={}", encode(value))))
        .collect();
    if given.is_empty() {
        String::new()
    } else {
        format!("?{}", given.join("&"))
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
