//! The way of a configuration: [`Candidate`] (read) -> [`Checked`] (valid) -> [`Committed`] (durable).

use std::fs;
use std::path::Path;

use net::Revision;

use crate::model::Config;
use crate::parse::Document;
use crate::report::Invalid;
use crate::{Error, check, parse};

/// A TOML file that was read, not yet checked.
#[derive(Debug, Clone)]
pub struct Candidate {
    name: String,
    text: String,
}

impl Candidate {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self::new(path.display().to_string(), text))
    }

    /// A candidate from text; `name` stands for the file in messages.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }

    /// Parses the file, fills in defaults, resolves names and checks everything that can be known without touching the
    /// system.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem of the file, not only the first.
    pub fn check(self) -> Result<Checked, Error> {
        let Document {
            config,
            spans,
            mut found,
            incomplete,
        } = parse::document(&self.text);
        let findings = check::config(&config).into_iter();
        let certain = findings.filter(|finding| finding.absent_from.is_none_or(|part| !incomplete.contains(part)));
        found.extend(certain.map(|finding| finding.located(&spans)));
        if found.is_empty() {
            Ok(Checked {
                config: config.canonical(),
            })
        } else {
            Err(Box::new(Invalid::in_file(&self.name, &self.text, found)).into())
        }
    }
}

/// A configuration whose values and cross references are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    config: Config,
}

impl Checked {
    /// Checks a configuration that did not come from a file.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem, without places.
    pub fn from_config(config: Config) -> Result<Self, Error> {
        let found: Vec<_> = check::config(&config)
            .into_iter()
            .map(check::Finding::unlocated)
            .collect();
        if found.is_empty() {
            Ok(Self {
                config: config.canonical(),
            })
        } else {
            Err(Box::new(Invalid::without_file(found)).into())
        }
    }

    /// The configuration, in canonical order.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration itself.
    pub fn into_config(self) -> Config {
        self.config
    }
}

/// A configuration that is durable in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its number, from 1.
    pub revision: Revision,
    /// What it says.
    pub config: Config,
    /// True if this commit made the revision; false if the store already held an equal configuration.
    pub changed: bool,
}
