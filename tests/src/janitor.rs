//! Removal of what a run left behind that could not clean up itself (killed with SIGKILL, or by a signal).
//!
//! Everything that a run makes outside its own process carries its process id in the name: namespaces
//! `tp<pid>-…` and files `/tmp/turnpike-tests-<pid>-…`. What carries the id of a process that is gone is a leftover.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::hugepages;

/// First part of the name of every namespace that process `pid` makes.
pub fn prefix(pid: u32) -> String {
    format!("tp{pid}-")
}

/// Where process `pid` keeps a file or folder called `name`.
pub fn path(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/tmp/{FILES}{pid}-{name}"))
}

const FILES: &str = "turnpike-tests-";

/// Removes the leftovers of dead runs, once in this process.
pub fn once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in namespaces() {
            if owner(&name, "tp").is_some_and(|pid| !alive(pid)) {
                remove_namespace(&name);
            }
        }
        for file in files() {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if owner(&name, FILES).is_some_and(|pid| !alive(pid)) {
                remove_file(&file);
            }
        }
    });
}

/// Removes everything that process `pid` made; for the end of a run that a signal cuts short.
pub fn remove_all_of(pid: u32) {
    namespaces()
        .iter()
        .filter(|name| owner(name, "tp") == Some(pid))
        .for_each(|name| remove_namespace(name));
    let ours = |file: &&PathBuf| owner(&file.file_name().unwrap_or_default().to_string_lossy(), FILES) == Some(pid);
    files().iter().filter(ours).for_each(|file| remove_file(file));
}

/// Everything of process `pid` that is there: names of namespaces, files, and processes that it is the parent of.
pub fn left_by(pid: u32) -> Vec<String> {
    let mut left: Vec<_> = namespaces()
        .into_iter()
        .filter(|name| owner(name, "tp") == Some(pid))
        .collect();
    let ours = |file: &PathBuf| owner(&file.file_name().unwrap_or_default().to_string_lossy(), FILES) == Some(pid);
    left.extend(files().into_iter().filter(ours).map(|file| file.display().to_string()));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    left.extend(
        ids.filter(|id| parent(*id) == Some(pid))
            .map(|id| format!("process {id}")),
    );
    left
}

/// Ends the processes in a namespace and removes it. What is gone already is no error.
pub fn remove_namespace(name: &str) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut pids = processes_in(name);
        for pid in &pids {
            // It may have ended since it was listed; then there is nothing left to do.
            let _ = kill(*pid, signal);
        }
        for _ in 0..20 {
            if pids.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(25));
            pids = processes_in(name);
        }
    }
    let _ = Command::new("ip")
        .args(["netns", "delete", name])
        .stderr(Stdio::null())
        .status();
}

/// Names of every namespace of every run, dead or alive.
pub fn namespaces() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| owner(name, "tp").is_some()).collect()
}

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir("/tmp").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains(FILES))
        .collect()
}

fn remove_file(path: &Path) {
    if hugepages::is_record(path) {
        hugepages::restore(path);
    }
    let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
}

/// Process id in a name `<kind><pid>-…`.
fn owner(name: &str, kind: &str) -> Option<u32> {
    name.strip_prefix(kind)?.split_once('-')?.0.parse().ok()
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn processes_in(namespace: &str) -> Vec<Pid> {
    let listing = Command::new("ip")
        .args(["netns", "pids", namespace])
        .stderr(Stdio::null())
        .output();
    let text = listing
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let ids = text.split_whitespace().filter_map(|word| word.parse().ok());
    // A zombie has ended and only waits for its parent to notice.
    ids.filter(|id| *id != std::process::id() as i32 && !is_zombie(*id))
        .map(Pid::from_raw)
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): after the name in parentheses come the state and the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_a_run_have_an_owner() {
        assert_eq!(owner("tp42-0-gw", "tp"), Some(42));
        assert_eq!(owner("tp-gw", "tp"), None);
        assert_eq!(owner("tpx-1", "tp"), None);
        assert_eq!(owner("other", "tp"), None);
        assert_eq!(owner("turnpike-tests-7-hugepages", FILES), Some(7));
    }
}
