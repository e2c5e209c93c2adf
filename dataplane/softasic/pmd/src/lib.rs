//! softasic for programs that do not know it: `librte_net_softasic.so`, loaded by EAL's `-d`.
//!
//! Owns: the constructor that registers the drivers when the object is loaded, as DPDK's own drivers do, and an output
//! for what the drivers have to say. Never does: anything else; the drivers are those of [`softasic`].
//!
//! ```text
//! cargo build --release -p softasic-pmd
//! dpdk-testpmd -d target/release/librte_net_softasic.so --vdev=net_ring0 --vdev=net_softasic0,wire=net_ring0 -- -i
//! ```
//!
//! EAL refuses an object in a folder below one that everybody may write to, such as `/tmp`. The object is for programs of
//! the same libdpdk that it was built with.

use std::io::stderr;
use std::panic::catch_unwind;

use tracing::Level;

// SAFETY: the section holds pointers to functions of this type, which the loader calls once, before it returns the object
// and so before EAL starts. Neither libdpdk's nor libc's state is missing then: they are loaded before what needs them.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = register;

extern "C" fn register() {
    // The loader is C: nothing may unwind into it.
    let registered = catch_unwind(|| {
        // Another object of the program may have set one already.
        let _ = tracing_subscriber::fmt()
            .with_writer(stderr)
            .with_max_level(Level::WARN)
            .without_time()
            .try_init();
        softasic::register().and_then(|()| softasic::register_generator())
    });
    match registered {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "softasic is not registered"),
        Err(_) => tracing::error!("softasic is not registered: its constructor panicked"),
    }
}
