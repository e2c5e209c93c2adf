//! What can go wrong with a configuration file or with the store.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;
use net::Revision;

use crate::report::Invalid;

/// An error of this crate. As a [`miette::Diagnostic`] it prints where, what, and what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the configuration {path}: {source}")]
    #[diagnostic(help("check the path and that this user may read it"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was read and is not a valid configuration.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Invalid(#[from] Box<Invalid>),
    /// The folder or the file of the store does not allow writing.
    #[error("cannot write the configuration store {path}: {reason}")]
    #[diagnostic(help("create the folder and let this user write in it, or name another path"))]
    StoreUnwritable {
        /// The store.
        path: PathBuf,
        /// What the system or SQLite said.
        reason: String,
    },
    /// Another process has the store open.
    #[error("the configuration store {path} is in use by {holder}")]
    #[diagnostic(help("stop the other turnpiked, or give this one a store of its own"))]
    StoreLocked {
        /// The store.
        path: PathBuf,
        /// The process, as its lock file names it.
        holder: String,
    },
    /// The store was written by a later version.
    #[error("the configuration store {path} has schema {found}; this version knows schemas up to {known}")]
    #[diagnostic(help("run the version of Turnpike that wrote it, or a later one"))]
    StoreNewer {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema of this version.
        known: i64,
    },
    /// The file is not a store, or does not say what was written to it.
    #[error("the configuration store {path} is damaged: {reason}")]
    #[diagnostic(help("restore it from a backup, or move it away: the next start commits the TOML file anew"))]
    StoreCorrupt {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store does not have this revision.
    #[error("revision {wanted} does not exist: the newest is {head}")]
    #[diagnostic(help("list the revisions with `turnpike config log`"))]
    NoSuchRevision {
        /// The revision asked for.
        wanted: Revision,
        /// The newest one; 0 if there is none.
        head: Revision,
    },
    /// SQLite failed while the store was open.
    #[error("the configuration store {path} failed while it {doing}: {source}")]
    #[diagnostic(help("nothing was changed; check the disk's health and free space"))]
    Store {
        /// The store.
        path: PathBuf,
        /// What it was doing.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}
