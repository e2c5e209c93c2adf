//! The durable history of the configuration, in SQLite.
//!
//! The config tables hold the newest revision row by row; the op log holds, for each revision, the changeset that made it
//! from its parent. A changeset can be inverted, so an earlier revision is the newest one with the later changesets
//! undone. History only grows.
//!
//! A commit is one transaction with `synchronous=FULL` on a write-ahead log: after a crash the store holds a revision
//! whole or not at all. One process at a time has the store open; the lock is a file beside it, so that `sqlite3` can
//! still look inside.

mod decode;
mod encode;
mod lock;
mod policy;
mod rows;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::Revision;
use rusqlite::session::{ConflictAction, Session, invert_strm};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{Checked, Committed, Config, Error};
use lock::Lock;
use rows::{Rows, TABLES};

/// What makes each schema of the one before, the first from nothing. A new store takes the same way as an old one, so
/// columns stand in the same order in both, which is what changesets go by.
const SCHEMAS: [&str; 2] = [include_str!("store/schema-1.sql"), include_str!("store/schema-2.sql")];

/// The newest schema, which this version writes.
const SCHEMA: i64 = SCHEMAS.len() as i64;

/// Marks the file as a configuration store: "TPKE".
const APPLICATION: i64 = 0x5450_4b45;

/// Who commits, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Who: a program or a person.
    pub actor: String,
    /// Why.
    pub comment: String,
    /// When: milliseconds since 1970-01-01 UTC.
    pub time: i64,
}

/// One revision in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogEntry {
    /// Its number.
    pub revision: Revision,
    /// The revision it was made from; 0 is the empty store.
    pub parent: Revision,
    /// Who committed it.
    pub actor: String,
    /// Why.
    pub comment: String,
    /// When: milliseconds since 1970-01-01 UTC.
    pub time: i64,
    /// SHA-256 of the canonical configuration, hexadecimal.
    pub hash: String,
    /// Size of its changeset, bytes.
    pub changeset_bytes: u32,
    /// What the subsystems said of it, by name.
    pub applied: Vec<Applied>,
}

/// What a subsystem said of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Applied {
    /// The subsystem.
    pub subsystem: String,
    /// Why it could not apply the revision; `None` if it did.
    pub error: Option<String>,
}

/// The store, locked for this process as long as the value lives.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
    head: Option<Committed>,
    /// Held for its effect; last, so that the database closes before the lock is released.
    _lock: Lock,
}

impl Store {
    /// Opens the store, or creates it with its folder.
    ///
    /// # Errors
    /// [`Error::StoreLocked`] if another process has it open, [`Error::StoreUnwritable`], [`Error::StoreNewer`] if a
    /// later version wrote it, [`Error::StoreCorrupt`] if the file is something else or does not hold what was committed.
    /// A store of an earlier version is copied beside itself and brought to the newest schema, whole or not at all.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let lock = Lock::take(path)?;
        make_private(path)?;
        let opened = Connection::open(path).and_then(|connection| {
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            Ok(connection)
        });
        let connection = opened.map_err(|error| failure(path, "was opened", error))?;
        let mut store = Self {
            path: path.to_owned(),
            connection,
            head: None,
            _lock: lock,
        };
        store.prepare_schema()?;
        store.head = store.load_head()?;
        Ok(store)
    }

    /// The newest revision; `None` if nothing was ever committed.
    pub fn head(&self) -> Option<Committed> {
        self.head.clone()
    }

    /// Makes the configuration the newest revision, durably, or finds that it is that already.
    ///
    /// # Errors
    /// [`Error::Store`] if SQLite cannot write; the store is unchanged.
    pub fn commit(&mut self, checked: Checked, info: CommitInfo) -> Result<Committed, Error> {
        let config = checked.into_config();
        let committed = match self.head.take_if(|head| head.config == config) {
            Some(head) => Committed { changed: false, ..head },
            None => {
                let revision = Revision(self.newest().0 + 1);
                self.write(revision, &config, &info)
                    .map_err(|error| self.failed("committed", error))?;
                tracing::info!(%revision, actor = info.actor, comment = info.comment, "config.commit");
                Committed {
                    revision,
                    config,
                    changed: true,
                }
            }
        };
        self.head = Some(Committed {
            changed: false,
            ..committed.clone()
        });
        Ok(committed)
    }

    /// Every revision, oldest first.
    ///
    /// # Errors
    /// [`Error::Store`] if SQLite cannot read.
    pub fn log(&self) -> Result<Vec<LogEntry>, Error> {
        self.read_log().map_err(|error| self.failed("read the log", error))
    }

    /// The configuration of a revision.
    ///
    /// # Errors
    /// [`Error::NoSuchRevision`]; [`Error::StoreCorrupt`] if the log does not lead back to what was committed.
    pub fn show(&self, revision: Revision) -> Result<Config, Error> {
        self.must_exist(revision)?;
        if let Some(head) = self.head.as_ref().filter(|head| head.revision == revision) {
            return Ok(head.config.clone());
        }
        let (rows, hash) = self
            .undo_to(revision)
            .map_err(|error| self.failed("undid revisions", error))?;
        self.verified(&rows, &hash, revision)
    }

    /// Records what a subsystem made of a revision: applied, or why not. The last word counts.
    ///
    /// # Errors
    /// [`Error::NoSuchRevision`]; [`Error::Store`] if SQLite cannot write.
    pub fn mark_applied(
        &mut self,
        revision: Revision,
        subsystem: &str,
        outcome: Result<(), String>,
    ) -> Result<(), Error> {
        self.must_exist(revision)?;
        let upsert = "INSERT INTO applied (revision, subsystem, error) VALUES (?1, ?2, ?3)
                      ON CONFLICT (revision, subsystem) DO UPDATE SET error = excluded.error";
        self.connection
            .execute(upsert, params![number(revision), subsystem, outcome.err()])
            .map(drop)
            .map_err(|error| self.failed("recorded what was applied", error))
    }

    fn newest(&self) -> Revision {
        self.head.as_ref().map_or(Revision(0), |head| head.revision)
    }

    fn must_exist(&self, revision: Revision) -> Result<(), Error> {
        if revision.0 == 0 || revision > self.newest() {
            return Err(Error::NoSuchRevision {
                wanted: revision,
                head: self.newest(),
            });
        }
        Ok(())
    }

    /// Checks that the file is a store of a schema that is known, or makes it one if it is new.
    fn prepare_schema(&self) -> Result<(), Error> {
        let reading = |error| self.failed("was opened", error);
        let pragma = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .map_err(reading)
        };
        let (application, found) = (pragma("application_id")?, pragma("user_version")?);
        let tables = "SELECT count(*) FROM sqlite_schema";
        let tables: i64 = self
            .connection
            .query_row(tables, [], |row| row.get(0))
            .map_err(reading)?;
        if application == 0 && found == 0 && tables == 0 {
            return self
                .bring_forward(0)
                .map_err(|error| self.failed("created its tables", error));
        }
        if application != APPLICATION {
            return Err(self.corrupt("it is a database of another program"));
        }
        if found > SCHEMA {
            return Err(Error::StoreNewer {
                path: self.path.clone(),
                found,
                known: SCHEMA,
            });
        }
        let quick_check = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        match self
            .connection
            .query_row("PRAGMA quick_check(1)", [], quick_check)
            .map_err(reading)?
        {
            verdict if verdict == "ok" => {}
            verdict => return Err(self.corrupt(verdict)),
        }
        if found == SCHEMA {
            return Ok(());
        }
        let copy = self.keep_copy(found)?;
        self.bring_forward(usize::try_from(found).unwrap_or(0))
            .map_err(|error| self.failed("was brought to the newest schema", error))?;
        tracing::info!(store = %self.path.display(), from = found, to = SCHEMA, copy = %copy.display(), "config.migrate");
        Ok(())
    }

    /// Makes the newest schema of this one, in one transaction; 0 is the empty file.
    fn bring_forward(&self, from: usize) -> rusqlite::Result<()> {
        let transaction = self.transaction()?;
        for step in &SCHEMAS[from..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
        transaction.commit()
    }

    /// Copies the store as it is, for a return to the version that wrote it: `config.db.schema-1` beside `config.db`.
    fn keep_copy(&self, schema: i64) -> Result<PathBuf, Error> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".schema-{schema}"));
        let copy = PathBuf::from(name);
        let unwritable = |error: std::io::Error| Error::StoreUnwritable {
            path: copy.clone(),
            reason: error.to_string(),
        };
        match std::fs::remove_file(&copy) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unwritable(error)),
            _ => make_private(&copy)?,
        }
        self.connection
            .execute("VACUUM INTO ?1", [copy.to_string_lossy()])
            .map_err(|error| failure(&copy, "was copied", error))?;
        Ok(copy)
    }

    fn load_head(&self) -> Result<Option<Committed>, Error> {
        let reading = |error| self.failed("read the newest revision", error);
        let newest = "SELECT number, hash FROM revision ORDER BY number DESC LIMIT 1";
        let mut select = self.connection.prepare(newest).map_err(reading)?;
        let mut found = select
            .query_map([], |row| Ok((stored(row, 0)?, row.get::<_, String>(1)?)))
            .map_err(reading)?;
        let Some(newest) = found.next() else { return Ok(None) };
        let (revision, hash) = newest.map_err(reading)?;
        let rows = Rows::load(&self.connection).map_err(reading)?;
        let config = self.verified(&rows, &hash, revision)?;
        Ok(Some(Committed {
            revision,
            config,
            changed: false,
        }))
    }

    /// The configuration that the rows say, which must be the one that was committed.
    fn verified(&self, rows: &Rows, hash: &str, revision: Revision) -> Result<Config, Error> {
        let config = decode::config(rows).map_err(|damage| self.corrupt(damage))?;
        if hash_of(&config) != hash {
            return Err(self.corrupt(format!(
                "revision {revision} is not what was committed (its hash differs)"
            )));
        }
        Ok(config)
    }

    fn transaction(&self) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
    }

    /// The commit itself: edits, their changeset and the op-log row in one transaction.
    fn write(&self, revision: Revision, config: &Config, info: &CommitInfo) -> rusqlite::Result<()> {
        let transaction = self.transaction()?;
        let mut session = Session::new(&transaction)?;
        for table in TABLES {
            session.attach(Some(table.name))?;
        }
        Rows::load(&transaction)?.edit_into(&encode::rows(config), &transaction)?;
        let mut changeset = Vec::new();
        session.changeset_strm(&mut changeset)?;
        drop(session);
        transaction.execute(
            "INSERT INTO revision (number, parent, actor, comment, time, changeset, hash, schema)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                number(revision),
                number(revision) - 1,
                info.actor,
                info.comment,
                info.time,
                changeset,
                hash_of(config),
                SCHEMA
            ],
        )?;
        transaction.commit()
    }

    /// The rows of an earlier revision and its hash, found by undoing what came after in a transaction that is rolled
    /// back.
    fn undo_to(&self, revision: Revision) -> rusqlite::Result<(Rows, String)> {
        let transaction = self.transaction()?;
        let later = "SELECT changeset FROM revision WHERE number > ?1 ORDER BY number DESC";
        let mut select = transaction.prepare(later)?;
        for changeset in select.query_map([number(revision)], |row| row.get::<_, Vec<u8>>(0))? {
            let mut inverse = Vec::new();
            invert_strm(&mut changeset?.as_slice(), &mut inverse as &mut dyn Write)?;
            transaction.apply_strm(&mut inverse.as_slice(), None::<fn(&str) -> bool>, |_, _| {
                ConflictAction::SQLITE_CHANGESET_ABORT
            })?;
        }
        let rows = Rows::load(&transaction)?;
        let hash = "SELECT hash FROM revision WHERE number = ?1";
        let hash = transaction.query_row(hash, [number(revision)], |row| row.get(0))?;
        Ok((rows, hash))
    }

    fn read_log(&self) -> rusqlite::Result<Vec<LogEntry>> {
        let mut applied: BTreeMap<Revision, Vec<Applied>> = BTreeMap::new();
        let outcomes = "SELECT revision, subsystem, error FROM applied ORDER BY revision, subsystem";
        let mut select = self.connection.prepare(outcomes)?;
        let mut found = select.query([])?;
        while let Some(row) = found.next()? {
            let outcome = Applied {
                subsystem: row.get(1)?,
                error: row.get(2)?,
            };
            applied.entry(stored(row, 0)?).or_default().push(outcome);
        }
        let revisions = "SELECT number, parent, actor, comment, time, hash, length(changeset)
                         FROM revision ORDER BY number";
        let mut select = self.connection.prepare(revisions)?;
        let entries = select.query_map([], |row| {
            let revision = stored(row, 0)?;
            Ok(LogEntry {
                revision,
                parent: stored(row, 1)?,
                actor: row.get(2)?,
                comment: row.get(3)?,
                time: row.get(4)?,
                hash: row.get(5)?,
                changeset_bytes: row.get(6)?,
                applied: applied.remove(&revision).unwrap_or_default(),
            })
        })?;
        entries.collect()
    }

    fn failed(&self, doing: &'static str, error: rusqlite::Error) -> Error {
        failure(&self.path, doing, error)
    }

    fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::StoreCorrupt {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }
}

/// What a failure of SQLite means for the one who wants to do something about it.
fn failure(path: &Path, doing: &'static str, source: rusqlite::Error) -> Error {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::StoreLocked {
            path,
            holder: "a program that is writing to it".to_owned(),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Error::StoreUnwritable {
            path,
            reason: source.to_string(),
        },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::StoreCorrupt {
            path,
            reason: source.to_string(),
        },
        _ => Error::Store { path, doing, source },
    }
}

/// A revision as SQLite's integer.
fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// The revision in a column.
fn stored(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Revision> {
    let number: i64 = row.get(column)?;
    u64::try_from(number)
        .map(Revision)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// SHA-256 of the canonical configuration as JSON, hexadecimal.
fn hash_of(config: &Config) -> String {
    let json = serde_json::to_vec(config).expect("a checked configuration has text keys and UTF-8 paths only");
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the file, if it is new, for its owner alone: it holds passwords. SQLite gives its other files the same mode.
fn make_private(path: &Path) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map(drop).map_err(|error| Error::StoreUnwritable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
