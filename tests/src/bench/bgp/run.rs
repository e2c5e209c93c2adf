//! One measurement of one program: a full table, or the fan-out.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use net::Prefix;

use super::programs::Program;
use super::session::{Receiver, SILENCE, Session};
use super::table::{Table, single};
use super::watch::{self, PROBES, Sighting};
use super::{FEEDS, LOCAL, LOCAL_V6, PROBE, RECEIVERS, address, address_v6};
use crate::namespace::connect;
use crate::{Namespace, Process, Scratch};

/// Pause between two probes while tables are loaded.
const LOAD_PROBE_PAUSE: Duration = Duration::from_millis(10);
/// Probes of an idle program.
const IDLE_PROBES: u32 = 300;
/// Number of the first under load.
const LOAD_FIRST: u32 = 0x12_0000;
/// Number of the first of an idle program; those under load have lower ones.
const IDLE_FIRST: u32 = 0x12_8000;
/// Longest that a program may take for a table, or for its withdrawal.
const PATIENCE: Duration = Duration::from_secs(600);
/// Time for a program to give memory back that it needed while it was busy.
const SETTLE: Duration = Duration::from_secs(2);

/// Why a program was not measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It takes longer than anybody waits.
    #[error("not done within {} s", PATIENCE.as_secs())]
    Slow,
    /// It, or its surroundings, did not do their part.
    #[error("{0}")]
    Broken(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Broken(text)
    }
}

/// What a full table showed.
#[derive(Debug, Clone, Copy)]
pub struct FullTable {
    /// From the first byte of the feeds until the receiver was told the better path of every prefix, seconds.
    pub load: f64,
    /// Processor time of the program meanwhile, seconds: what is left of `load` where other programs have the cores.
    pub load_cpu: f64,
    /// Resident memory beyond that with empty tables, bytes for each path of the feeds.
    pub bytes_per_path: f64,
    /// 99th percentile from announcement to receiver with nothing else to do, milliseconds.
    pub idle: f64,
    /// The same while the tables are loaded.
    pub loaded: f64,
    /// From the first byte of the withdrawals until the receiver has no prefix, seconds.
    pub withdraw: f64,
    /// Processor time of the program meanwhile, seconds.
    pub withdraw_cpu: f64,
}

/// What a fan-out cost.
#[derive(Debug, Clone, Copy)]
pub struct FanOut {
    /// Until every receiver was told every prefix, seconds.
    pub wall: f64,
    /// Processor time of the program outside the kernel, seconds.
    pub user: f64,
}

/// A program in a namespace of its own, with a cable to that of its peers.
struct Bed {
    process: Process,
    peers: Namespace,
    _program: Namespace,
    _scratch: Scratch,
}

impl Bed {
    fn new(program: Program, receivers: u16) -> Result<Self, String> {
        let scratch = Scratch::new();
        let (own, peers) = cabled();
        let process = program.start(&own, receivers, &scratch)?;
        Ok(Self {
            process,
            peers,
            _program: own,
            _scratch: scratch,
        })
    }

    fn session(&mut self, peer: u16) -> Result<(TcpStream, Receiver), String> {
        Session::connect(&self.peers, peer)
            .and_then(Session::split)
            .map_err(|error| format!("{error}\n{}", self.process.log_tail()))
    }

    /// The session of a peer that only talks: what it is told is read and dropped.
    fn talker(&mut self, peer: u16) -> Result<TcpStream, String> {
        let (writer, mut receiver) = self.session(peer)?;
        thread::spawn(move || while receiver.receive(|_, _| ()).is_ok() {});
        Ok(writer)
    }
}

/// Two namespaces, the second with the addresses of all peers.
fn cabled() -> (Namespace, Namespace) {
    let (own, peers) = (Namespace::new("program"), Namespace::new("peers"));
    connect((&own, "eth0"), (&peers, "eth0"));
    own.ip(&format!("addr add {LOCAL}/16 dev eth0"));
    own.ip(&format!("addr add {LOCAL_V6}/64 dev eth0 nodad"));
    for peer in 0..RECEIVERS + 50 {
        peers.ip(&format!("addr add {}/16 dev eth0", address(peer)));
        peers.ip(&format!("addr add {}/64 dev eth0 nodad", address_v6(peer)));
    }
    (own, peers)
}

/// Sends all of `bytes(table)` on a thread.
fn send(
    mut stream: TcpStream,
    table: &Arc<Table>,
    bytes: fn(&Table, usize) -> &[u8],
    feed: usize,
) -> JoinHandle<Result<TcpStream, String>> {
    let table = Arc::clone(table);
    thread::spawn(move || {
        let sent = stream.write_all(bytes(&table, feed));
        sent.map_err(|error| format!("feed {feed}: {error}"))?;
        Ok(stream)
    })
}

fn announcements(table: &Table, feed: usize) -> &[u8] {
    &table.feeds[feed].bytes
}

fn withdrawals(table: &Table, _: usize) -> &[u8] {
    &table.withdrawals
}

fn joined<T>(thread: JoinHandle<Result<T, String>>) -> Result<T, String> {
    thread.join().unwrap_or_else(|_| Err("a peer panicked".to_owned()))
}

/// Loads a full table from two feeds, and withdraws it.
///
/// # Errors
/// If the program does not do its part, or not in time.
pub fn full_table(program: Program, table: &Arc<Table>) -> Result<FullTable, Failure> {
    let mut bed = Bed::new(program, 1)?;
    let (_writer, receiver) = bed.session(RECEIVERS)?;
    let feeds = FEEDS.map(|peer| bed.talker(peer));
    let mut probe = bed.talker(PROBE)?;
    let (sender, sightings) = mpsc::channel();
    let watched = Arc::clone(table);
    // Ends with the session, of which every outcome is awaited with a bound.
    thread::spawn(move || watch::watch(receiver, &watched, &sender));
    thread::sleep(SETTLE);
    let empty = resident(&bed.process)?;

    let (start, before) = (Instant::now(), bed.process.processor_time());
    let mut loading = Vec::new();
    for (stream, feed) in feeds.into_iter().zip(0..) {
        loading.push(send(stream?, table, announcements, feed));
    }
    let converged = Arc::new(AtomicBool::new(false));
    let prober = thread::spawn({
        let (mut probe, converged) = (
            probe.try_clone().map_err(|error| error.to_string())?,
            Arc::clone(&converged),
        );
        move || {
            let mut sent = Vec::new();
            while !converged.load(Ordering::Relaxed) && sent.len() < (IDLE_FIRST - LOAD_FIRST) as usize {
                let number = sent.len() as u32 + LOAD_FIRST;
                sent.push(Instant::now());
                if probe.write_all(&announcement(number)).is_err() {
                    break;
                }
                thread::sleep(LOAD_PROBE_PAUSE);
            }
            sent
        }
    });
    let mut seen: Vec<(u32, Instant)> = Vec::new();
    let end = await_sighting(&sightings, start + PATIENCE, |sighting| match sighting {
        Sighting::Converged(at) => Some(at),
        Sighting::Probe(number, at) => {
            seen.push((number, at));
            None
        }
        Sighting::Empty(_) => None,
    });
    converged.store(true, Ordering::Relaxed);
    let end = end.map_err(|failure| match failure {
        Failure::Broken(error) => Failure::Broken(format!("{error}\n{}", bed.process.log_tail())),
        Failure::Slow => Failure::Slow,
    })?;
    let load_cpu = (bed.process.processor_time() - before).as_secs_f64();
    let sent = prober.join().map_err(|_| "the probe panicked".to_owned())?;
    let feeds: Vec<_> = loading.into_iter().map(joined).collect::<Result<_, _>>()?;
    let last = LOAD_FIRST + sent.len() as u32 - 1;
    while !seen.iter().any(|(number, _)| *number == last) {
        seen.push(await_sighting(&sightings, start + PATIENCE, probe_sighting)?);
    }
    let delays = seen.iter().filter_map(|(number, at)| {
        let sent = sent.get((number - LOAD_FIRST) as usize)?;
        Some(at.duration_since(*sent).as_secs_f64() * 1e3)
    });
    let loaded = percentile_99(delays.collect());

    thread::sleep(SETTLE);
    let bytes = resident(&bed.process)?.saturating_sub(empty);
    let paths = table.prefixes.len() * FEEDS.len();

    let mut delays = Vec::new();
    for number in IDLE_FIRST..IDLE_FIRST + IDLE_PROBES {
        let sent = Instant::now();
        probe
            .write_all(&announcement(number))
            .map_err(|error| error.to_string())?;
        let (_, at) = await_sighting(&sightings, sent + SILENCE, |sighting| {
            probe_sighting(sighting).filter(|(n, _)| *n == number)
        })?;
        delays.push(at.duration_since(sent).as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(2));
    }

    let (withdrawn, before) = (Instant::now(), bed.process.processor_time());
    let feeds = feeds.into_iter().zip(0..);
    let leaving: Vec<_> = feeds
        .map(|(stream, feed)| send(stream, table, withdrawals, feed))
        .collect();
    let gone = await_sighting(&sightings, withdrawn + PATIENCE, |sighting| match sighting {
        Sighting::Empty(at) => Some(at),
        _ => None,
    })?;
    let withdraw_cpu = (bed.process.processor_time() - before).as_secs_f64();
    for thread in leaving {
        joined(thread)?;
    }
    Ok(FullTable {
        load: end.duration_since(start).as_secs_f64(),
        load_cpu,
        bytes_per_path: bytes as f64 / paths as f64,
        idle: percentile_99(delays),
        loaded,
        withdraw: gone.duration_since(withdrawn).as_secs_f64(),
        withdraw_cpu,
    })
}

/// Tells one feed's table to `receivers` receivers.
///
/// # Errors
/// If the program does not do its part, or not in time.
pub fn fan_out(program: Program, table: &Arc<Table>, receivers: u16) -> Result<FanOut, Failure> {
    let mut bed = Bed::new(program, receivers)?;
    let mut sessions = Vec::new();
    for peer in RECEIVERS..RECEIVERS + receivers {
        sessions.push(bed.session(peer)?);
    }
    let feed = bed.talker(FEEDS[0])?;
    thread::sleep(SETTLE);
    let wanted = table.prefixes.len();
    let (start, before) = (Instant::now(), user_time(&bed.process)?);
    let (told, all_told) = mpsc::channel();
    for (writer, mut receiver) in sessions {
        let told = told.clone();
        // Ends with the session, when the program is killed at the latest; then nobody waits for it any more.
        thread::spawn(move || {
            let _ = told.send(watch::count(&mut receiver, wanted));
            drop(writer);
        });
    }
    let loading = send(feed, table, announcements, 0);
    let mut end = start;
    for _ in 0..receivers {
        let left = (start + PATIENCE).saturating_duration_since(Instant::now());
        let told = all_told.recv_timeout(left).map_err(|_| Failure::Slow)?;
        end = end.max(told.map_err(|error| format!("{error}\n{}", bed.process.log_tail()))?);
    }
    joined(loading)?;
    Ok(FanOut {
        wall: end.duration_since(start).as_secs_f64(),
        user: user_time(&bed.process)? - before,
    })
}

/// What the peers cost themselves: the feeds' whole tables straight to receivers that look up every prefix, seconds.
///
/// # Errors
/// If the sessions cannot be made.
pub fn to_a_sink(table: &Arc<Table>) -> Result<f64, String> {
    let (own, peers) = cabled();
    let listener = own
        .enter(|| std::net::TcpListener::bind((LOCAL, 179)))
        .map_err(|error| error.to_string())?;
    let mut streams = Vec::new();
    let mut sinks = Vec::new();
    for peer in FEEDS {
        let accepted = thread::scope(|scope| {
            let accepting = scope.spawn(|| Session::accept(&listener)?.split());
            streams.push(Session::connect(&peers, peer)?.split()?);
            accepting.join().unwrap_or_else(|_| Err("the sink panicked".to_owned()))
        })?;
        let watched = Arc::clone(table);
        sinks.push(thread::spawn(move || {
            let (_writer, mut receiver) = accepted;
            watch::sink(&mut receiver, &watched, peer)
        }));
    }
    let start = Instant::now();
    let mut receivers = Vec::new();
    let mut sending = Vec::new();
    for ((writer, receiver), feed) in streams.into_iter().zip(0..) {
        receivers.push(receiver);
        sending.push(send(writer, table, announcements, feed));
    }
    let mut end = start;
    for sink in sinks {
        end = end.max(joined(sink)?);
    }
    for thread in sending {
        joined(thread)?;
    }
    Ok(end.duration_since(start).as_secs_f64())
}

/// The UPDATE of a probe.
fn announcement(number: u32) -> Vec<u8> {
    let octets = (u32::from(PROBES) << 24 | number).to_be_bytes();
    single(PROBE, &Prefix::host(octets.into()))
}

const fn probe_sighting(sighting: Sighting) -> Option<(u32, Instant)> {
    match sighting {
        Sighting::Probe(number, at) => Some((number, at)),
        _ => None,
    }
}

/// Takes sightings until one is the wanted one, or it is too late.
fn await_sighting<T>(
    sightings: &mpsc::Receiver<Sighting>,
    deadline: Instant,
    mut wanted: impl FnMut(Sighting) -> Option<T>,
) -> Result<T, Failure> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let sighting = sightings.recv_timeout(left.min(SILENCE)).map_err(|error| match error {
            RecvTimeoutError::Timeout if left < SILENCE => Failure::Slow,
            RecvTimeoutError::Timeout => Failure::Broken("the receiver was not told what it should be".to_owned()),
            RecvTimeoutError::Disconnected => Failure::Broken("the session with the receiver was lost".to_owned()),
        })?;
        if let Some(found) = wanted(sighting) {
            return Ok(found);
        }
    }
}

fn percentile_99(mut delays: Vec<f64>) -> f64 {
    delays.sort_by(f64::total_cmp);
    delays
        .get((delays.len() * 99 / 100).min(delays.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

/// Resident memory of a program, bytes.
fn resident(process: &Process) -> Result<u64, String> {
    let path = format!("/proc/{}/status", process.pid());
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map(|n| n * 1024).ok_or_else(|| format!("{path}: no VmRSS"))
}

/// Processor time of all threads outside the kernel, seconds.
fn user_time(process: &Process) -> Result<f64, String> {
    let path = format!("/proc/{}/stat", process.pid());
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // proc(5): utime is field 14, and what follows the name in parentheses begins with field 3.
    let ticks = text
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(11)?.parse::<f64>().ok());
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .unwrap_or(100);
    ticks
        .map(|ticks| ticks / per_second as f64)
        .ok_or_else(|| format!("{path}: no times"))
}
