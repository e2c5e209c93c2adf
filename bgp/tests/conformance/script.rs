//! The recorded-conformance format: a scenario as JSON lines.
//!
//! The first line is the [`Head`]; each other one is a remark, something that happens, or something that comes of it. What
//! is written here is all that there is: a field that is not known is an error, with its line.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU8;

use net::Prefix;
use serde::Deserialize;
use serde_json::Value;

use crate::hex::Hex;
use crate::message::Message;

/// What the scenario shows, and of whom.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Head {
    /// The behaviour, in one sentence.
    pub(crate) shows: String,
    /// RFCs that ask for it.
    pub(crate) rfcs: Vec<u32>,
    pub(crate) speaker: SpeakerHead,
    /// By the name that the lines below use.
    pub(crate) peers: BTreeMap<String, PeerHead>,
}

/// `bgp::SpeakerConfig`, as far as a scenario needs it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SpeakerHead {
    pub(crate) asn: u32,
    pub(crate) router_id: Ipv4Addr,
    #[serde(default)]
    pub(crate) originate: Vec<Prefix>,
    #[serde(default)]
    pub(crate) multipath: Option<u8>,
    #[serde(default)]
    pub(crate) multipath_internal: Option<u8>,
    #[serde(default)]
    pub(crate) always_compare_med: bool,
    #[serde(default)]
    pub(crate) prefer_oldest: bool,
    #[serde(default)]
    pub(crate) track_next_hops: bool,
    /// Seconds to wait for the tables of peers with `"graceful-restart": "full"`; none announces at once.
    #[serde(default)]
    pub(crate) selection_deferral: Option<u64>,
    /// Communities of `community-any` and `community-all`, prefixes of `prefix-set`.
    #[serde(default)]
    pub(crate) community_sets: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) prefix_sets: BTreeMap<String, Vec<PrefixRangeText>>,
    #[serde(default)]
    pub(crate) policies: BTreeMap<String, Vec<TermText>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PrefixRangeText {
    pub(crate) prefix: Prefix,
    #[serde(default)]
    pub(crate) ge: Option<u8>,
    #[serde(default)]
    pub(crate) le: Option<u8>,
}

/// A term; conditions and changes with the keys and values of the configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TermText {
    pub(crate) name: String,
    #[serde(default, rename = "if")]
    pub(crate) conditions: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) set: BTreeMap<String, String>,
    pub(crate) then: String,
}

/// `bgp::PeerConfig`, as far as a scenario needs it; what is left out has its default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PeerHead {
    pub(crate) address: IpAddr,
    /// None: any but our own.
    #[serde(default)]
    pub(crate) asn: Option<u32>,
    /// Our addresses towards the peer; those that I/O would find on the socket and its interface.
    #[serde(default)]
    pub(crate) local: Vec<IpAddr>,
    #[serde(default)]
    pub(crate) passive: bool,
    #[serde(default)]
    pub(crate) hold_time: Option<u16>,
    #[serde(default)]
    pub(crate) send_hold_time: Option<u64>,
    #[serde(default)]
    pub(crate) connect_retry: Option<u64>,
    #[serde(default)]
    pub(crate) families: Option<Vec<bgp::Family>>,
    /// `accept`, `deny`, or a policy of the speaker; none is RFC 8212's default.
    #[serde(default)]
    pub(crate) import: Option<String>,
    #[serde(default)]
    pub(crate) export: Option<String>,
    #[serde(default)]
    pub(crate) advertise_learned: bool,
    #[serde(default)]
    pub(crate) enforce_first_as: Option<bool>,
    #[serde(default)]
    pub(crate) max_prefixes: Option<MaxPrefixesHead>,
    /// `off`, `helper` (the default) or `full`.
    #[serde(default)]
    pub(crate) graceful_restart: Option<String>,
    #[serde(default)]
    pub(crate) restart_time: Option<u16>,
    #[serde(default)]
    pub(crate) stale_time: Option<u64>,
    #[serde(default)]
    pub(crate) long_lived_stale_time: Option<u64>,
    #[serde(default)]
    pub(crate) role: Option<bgp::Role>,
    #[serde(default)]
    pub(crate) strict_role: bool,
    /// BFD with 300 ms and a multiplier of 3.
    #[serde(default)]
    pub(crate) bfd: bool,
    #[serde(default)]
    pub(crate) add_path: Option<AddPathHead>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct AddPathHead {
    #[serde(default)]
    pub(crate) receive: bool,
    /// `none` (the default), `all`, or how many of the best.
    #[serde(default)]
    pub(crate) send: Option<SendHead>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum SendHead {
    Best(NonZeroU8),
    Word(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct MaxPrefixesHead {
    pub(crate) limit: u32,
    #[serde(default)]
    pub(crate) restart: Option<u64>,
}

/// Something that happens.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum In {
    /// The operator wants the session.
    Start(String),
    /// The operator does not want it any more.
    Stop {
        peer: String,
        #[serde(default)]
        communication: String,
    },
    /// The peer is no longer in the configuration, or is there with something else than its policies changed.
    Remove { peer: String, cease: CeaseName },
    /// A TCP connection was made: the one asked for, or one of the peer's.
    Connected {
        peer: String,
        #[serde(default = "first")]
        connection: u64,
        by: Side,
    },
    /// The connection asked for was not made.
    ConnectFailed { peer: String, reason: String },
    /// The peer closed the connection, or it broke.
    Closed {
        peer: String,
        #[serde(default = "first")]
        connection: u64,
        reason: String,
    },
    /// A message of the peer.
    Receive {
        peer: String,
        #[serde(default = "first")]
        connection: u64,
        message: Message,
    },
    /// Octets of the peer.
    Bytes {
        peer: String,
        #[serde(default = "first")]
        connection: u64,
        hex: Hex,
    },
    /// The whole way to Established over a connection that we make: what every scenario needs and few are about. What
    /// comes of it until the peer's OPEN is there is not told.
    Establish { peer: String, open: Message },
    /// The peer takes what is sent, or does not.
    Reads { peer: String, reads: bool },
    /// Time passes, in seconds; what falls due on the way happens at its time.
    Advance(f64),
    /// The owner says how far next hops are; none is unreachable.
    NextHops(BTreeMap<IpAddr, Option<u32>>),
    /// The operator asks the peer for all its routes again.
    AskRefresh(String),
    /// The operator gives the peer other policies.
    Policies {
        peer: String,
        #[serde(default)]
        import: Option<String>,
        #[serde(default)]
        export: Option<String>,
    },
    /// The operator has other prefixes announced.
    Originate(Vec<Prefix>),
    /// A BFD control packet of the peer.
    Bfd {
        peer: String,
        state: bgp::bfd::packet::State,
        /// Whether it names our session, as it does once it has heard us.
        #[serde(default)]
        knows_us: bool,
        #[serde(default = "full_ttl")]
        ttl: u8,
    },
    /// What the tables hold is shown.
    ShowRib,
    /// State and counters of the session are shown.
    ShowPeer(String),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    Us,
    Peer,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CeaseName {
    PeerDeconfigured,
    ConfigurationChange,
}

/// A line below the head.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
enum Line {
    /// For the reader.
    Note(String),
    /// A step of the behaviour that belongs to I/O and is not replayed here, and the file that tests it.
    Io {
        step: String,
        test: String,
    },
    In(In),
    Out(Value),
}

/// Something that happens, and what has to come of it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) input: In,
    /// With their lines.
    pub(crate) outputs: Vec<(usize, Value)>,
}

/// A step of the behaviour that is tested elsewhere.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    pub(crate) line: usize,
    pub(crate) test: String,
}

#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) head: Head,
    pub(crate) steps: Vec<Step>,
    pub(crate) elsewhere: Vec<Elsewhere>,
}

impl Script {
    /// # Errors
    /// `line: what is wrong`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        let (_, head) = lines.next().ok_or("1: there is no head")?;
        let head = serde_json::from_str(head).map_err(|error| format!("1: {error}"))?;
        let mut script = Self {
            head,
            steps: Vec::new(),
            elsewhere: Vec::new(),
        };
        for (line, text) in lines {
            let parsed = serde_json::from_str(text).map_err(|error| format!("{line}: {error}"))?;
            match parsed {
                Line::Note(note) if note.is_empty() => return Err(format!("{line}: the note says nothing")),
                Line::Note(_) => {}
                Line::Io { step, test } => {
                    if step.is_empty() {
                        return Err(format!("{line}: what the step is has to be said"));
                    }
                    script.elsewhere.push(Elsewhere { line, test });
                }
                Line::In(input) => script.steps.push(Step {
                    line,
                    input,
                    outputs: Vec::new(),
                }),
                Line::Out(value) => script
                    .steps
                    .last_mut()
                    .ok_or_else(|| format!("{line}: nothing has happened yet that this could come of"))?
                    .outputs
                    .push((line, value)),
            }
        }
        Ok(script)
    }

    /// `text` with `observed`, one list a step, in place of what came of the steps before.
    pub(crate) fn record(text: &str, observed: &[Vec<Value>]) -> String {
        let mut recorded = String::new();
        let mut observed = observed.iter();
        for line in text.lines() {
            if line.starts_with("{\"out\"") {
                continue;
            }
            recorded.push_str(line);
            recorded.push('\n');
            if line.starts_with("{\"in\"") {
                for value in observed.next().into_iter().flatten() {
                    recorded.push_str(&format!("{{\"out\": {value}}}\n"));
                }
            }
        }
        recorded
    }
}

const fn first() -> u64 {
    1
}

const fn full_ttl() -> u8 {
    255
}
