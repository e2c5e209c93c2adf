//! Ctrl-C and SIGTERM: what was made outside the process is removed before it ends.

use std::thread;

use crate::janitor;

/// From here on an interrupt removes everything that this process made and ends it with status 130.
pub fn clean_up() {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let interrupted = runtime.is_ok_and(|runtime| runtime.block_on(signal()).is_ok());
        if interrupted {
            eprintln!("interrupted, cleaning up");
            janitor::remove_all_of(std::process::id());
            std::process::exit(130);
        }
    });
}

/// Ends this process when the one that started it ends, however that ends.
///
/// # Errors
/// If the kernel refuses.
pub fn end_with_parent() -> Result<(), String> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(|error| format!("cannot tie this process to its parent: {error}"))
}

async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
