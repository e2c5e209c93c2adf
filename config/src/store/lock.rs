//! One process at a time: an advisory lock beside the store, which the kernel releases when the process ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// The lock, held as long as the value lives. The file stays: removing it would let two processes lock two files.
#[derive(Debug)]
pub(super) struct Lock {
    /// Dropping the file releases the lock.
    _file: File,
}

impl Lock {
    /// Locks the store at `path`.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let unwritable = |error: std::io::Error| Error::StoreUnwritable {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(unwritable)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(lock_path(path)).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(path, &mut file)),
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        let note = format!("process {}", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(unwritable)?;
        Ok(Self { _file: file })
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn locked(path: &Path, file: &mut File) -> Error {
    let mut holder = String::new();
    if file.read_to_string(&mut holder).is_err() || holder.is_empty() {
        holder = "another process".to_owned();
    }
    Error::StoreLocked {
        path: path.to_owned(),
        holder,
    }
}
