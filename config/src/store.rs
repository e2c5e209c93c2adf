//! The durable history of the configuration.
//!
//! (API first; see below.)

use crate::{Checked, Committed, Config, Error};
use net::Revision;
use std::path::Path;

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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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
    pub changeset_bytes: usize,
    /// What the subsystems said of it, by name.
    pub applied: Vec<Applied>,
}

/// What a subsystem said of a revision.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Applied {
    /// The subsystem.
    pub subsystem: String,
    /// Why it could not apply the revision; `None` if it did.
    pub error: Option<String>,
}

/// The store, locked for this process as long as the value lives.
#[derive(Debug)]
pub struct Store {}

#[allow(missing_docs, clippy::missing_errors_doc, clippy::todo, unused)]
impl Store {
    pub fn open(path: &Path) -> Result<Self, Error> {
        todo!()
    }
    pub fn head(&self) -> Option<Committed> {
        todo!()
    }
    pub fn commit(&mut self, checked: Checked, info: CommitInfo) -> Result<Committed, Error> {
        todo!()
    }
    pub fn log(&self) -> Result<Vec<LogEntry>, Error> {
        todo!()
    }
    pub fn show(&self, revision: Revision) -> Result<Config, Error> {
        todo!()
    }
    pub fn mark_applied(
        &mut self,
        revision: Revision,
        subsystem: &str,
        outcome: Result<(), String>,
    ) -> Result<(), Error> {
        todo!()
    }
}
