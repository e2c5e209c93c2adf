//! Connections over a restart: written to the state directory at the end of one process, read at the start of the next.
//!
//! A snapshot is used once. One that cannot be read, or is of another version, costs the connections and nothing else:
//! the gateway starts without them and says why.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dataplane::{Dataplane, Restore};
use nat::Policy;
use nat::snapshot::{self, SavedConnection};
use tokio::sync::oneshot;

/// Name of the file in the state directory.
const FILE: &str = "connections.snapshot";
/// Connections that a worker saves between two bursts.
const PAGE: usize = 4096;
/// How long a worker may take for that.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any header and any record of a snapshot has.
const MARGIN: u64 = 128;

/// What the last process left, for at most `limit` connections; `now` in milliseconds after 1970.
pub(crate) fn load(state_dir: &Path, policy: Arc<Policy>, limit: u32, now: i64) -> Restore {
    let path = state_dir.join(FILE);
    let (connections, taken) = match read(&path, limit) {
        Ok(Some(found)) => found,
        Ok(None) => Default::default(),
        Err(error) => {
            tracing::warn!(file = %path.display(), error, "connections of the last run are not restored");
            Default::default()
        }
    };
    // Used or useless: a later start must not find connections that have ended since.
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "a used snapshot cannot be removed");
    }
    let passed = (now.max(0) as u64).saturating_sub(taken) / 1000;
    Restore {
        policy,
        connections,
        passed: u32::try_from(passed).unwrap_or(u32::MAX),
    }
}

type Snapshot = (Vec<SavedConnection>, u64);

fn read(path: &Path, limit: u32) -> Result<Option<Snapshot>, String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    file.take((u64::from(limit) + 1) * MARGIN)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    snapshot::decode(&bytes, limit)
        .map(Some)
        .map_err(|error| error.to_string())
}

/// Writes the connections of every worker. Says in the log if that cannot be done.
pub(crate) async fn save(dataplane: &Dataplane, state_dir: &Path, now: i64) {
    let mut connections = Vec::new();
    for worker in 0..dataplane.counters().len() {
        let mut from = Some(0);
        while let Some(slot) = from {
            let Some((page, next)) = page(dataplane, worker, slot).await else {
                tracing::warn!(worker, "did not save its connections in time");
                break;
            };
            connections.extend(page);
            from = next;
        }
    }
    let bytes = snapshot::encode(&connections, now.max(0) as u64);
    let path = state_dir.join(FILE);
    match write(&path, &bytes) {
        Ok(()) => tracing::info!(connections = connections.len(), file = %path.display(), "connections saved"),
        Err(error) => tracing::warn!(file = %path.display(), %error, "connections are not saved"),
    }
}

async fn page(dataplane: &Dataplane, worker: usize, from: u32) -> Option<(Vec<SavedConnection>, Option<u32>)> {
    let (sender, receiver) = oneshot::channel();
    let asked = dataplane.with_connections(worker, move |engine| {
        let mut page = Vec::with_capacity(PAGE);
        let next = engine.save(from, PAGE, &mut page);
        // Nobody waits for the answer any more: nothing to do.
        let _ = sender.send((page, next));
    });
    match asked {
        true => tokio::time::timeout(PATIENCE, receiver).await.ok()?.ok(),
        false => None,
    }
}

/// All or nothing: a reader never sees half a snapshot.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished: PathBuf = path.with_extension("unfinished");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("turnpike-survival-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        folder
    }

    fn policy() -> Arc<Policy> {
        Arc::new(Policy::compile(nat::PolicySpec::default()).expect("valid"))
    }

    #[test]
    fn a_snapshot_is_used_once() {
        let folder = folder("once");
        write(&folder.join(FILE), &snapshot::encode(&[], 5_000)).expect("written");
        assert_eq!(load(&folder, policy(), 10, 9_500).passed, 4);
        assert!(!folder.join(FILE).exists());
        assert!(load(&folder, policy(), 10, 9_500).connections.is_empty());
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_damaged_snapshot_costs_the_connections_alone() {
        let folder = folder("damaged");
        write(&folder.join(FILE), b"turnpike and something else").expect("written");
        assert!(load(&folder, policy(), 10, 0).connections.is_empty());
        assert!(!folder.join(FILE).exists());
        fs::remove_dir_all(folder).expect("removed");
    }
}
