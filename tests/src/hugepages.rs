//! Reservation of hugepages for the length of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::janitor;
use crate::wait::{ensure, within};

const NAME: &str = "hugepages";
const SETTLE: Duration = Duration::from_secs(2);
const FOLDER: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Free 2 MiB pages, reserved from the kernel where there were too few; the number is put back when dropped.
#[derive(Debug)]
pub struct Hugepages {
    record: Option<PathBuf>,
}

impl Hugepages {
    /// Sees to it that `mebibytes` of hugepages are free.
    ///
    /// # Errors
    /// If the kernel has no hugepages or not enough memory in one piece for them, in words.
    pub fn reserve(mebibytes: u64) -> Result<Self, String> {
        janitor::once();
        let wanted = mebibytes.div_ceil(2);
        let missing = wanted.saturating_sub(read("free_hugepages")?);
        if missing == 0 {
            return Ok(Self { record: None });
        }
        let before = read("nr_hugepages")?;
        let record = janitor::path(std::process::id(), NAME);
        fs::write(&record, before.to_string())
            .map_err(|error| format!("cannot write {}: {error}", record.display()))?;
        let reserved = Self { record: Some(record) };
        write(before + missing)?;
        let free = read("free_hugepages")?;
        if free < wanted {
            return Err(format!(
                "only {free} of {wanted} hugepages of 2 MiB could be had: free some memory"
            ));
        }
        Ok(reserved)
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        if let Some(record) = &self.record {
            restore(record);
            let _ = fs::remove_file(record);
        }
    }
}

/// Hugepages that the system holds.
pub fn total() -> u64 {
    read("nr_hugepages").unwrap_or(0)
}

/// True for the file in which a run notes how many hugepages there were before it.
pub(crate) fn is_record(path: &Path) -> bool {
    path.to_string_lossy().ends_with(&format!("-{NAME}"))
}

/// Puts back the number of hugepages that `record` notes. Waits a moment: pages of a process that is just being killed
/// are counted until its last thread is gone.
pub(crate) fn restore(record: &Path) {
    let Some(before) = fs::read_to_string(record)
        .ok()
        .and_then(|text| text.trim().parse().ok())
    else {
        return;
    };
    let _ = write(before);
    // Somebody else may have reserved some meanwhile: then there are more, and that is right.
    let _ = within(SETTLE, || {
        ensure(total() <= before, || "pages are still in use".to_owned())
    });
}

fn read(name: &str) -> Result<u64, String> {
    let path = format!("{FOLDER}/{name}");
    let text = fs::read_to_string(&path).map_err(|error| format!("this kernel has no hugepages ({path}: {error})"))?;
    text.trim().parse().map_err(|error| format!("{path}: {error}"))
}

fn write(pages: u64) -> Result<(), String> {
    let path = format!("{FOLDER}/nr_hugepages");
    fs::write(&path, pages.to_string()).map_err(|error| format!("cannot reserve hugepages ({path}: {error})"))
}
