//! Making devices of drivers.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::driver::{Driver, DriverError};
use super::ops;
use crate::error::{Error, c_string};
use crate::ffi;

/// A device that is being attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    name: String,
    arguments: Vec<(String, String)>,
}

impl Probe {
    /// Its name, as in `net_softasic0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its arguments, in order: `key=value` after the name.
    pub fn arguments(&self) -> &[(String, String)] {
        &self.arguments
    }

    /// The last value of an argument.
    pub fn argument(&self, key: &str) -> Option<&str> {
        self.arguments
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    fn parse(name: &str, arguments: &str) -> Self {
        let pair = |argument: &str| {
            let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
            (key.trim().to_owned(), value.trim().to_owned())
        };
        let arguments = arguments
            .split(',')
            .filter(|argument| !argument.trim().is_empty())
            .map(pair)
            .collect();
        Self {
            name: name.to_owned(),
            arguments,
        }
    }
}

type Attach = Box<dyn Fn(&Probe, *mut ffi::rte_vdev_device) -> Result<(), DriverError> + Send + Sync>;

struct Registered {
    name: &'static str,
    attach: Attach,
}

/// Drivers that were registered, for the life of the process: devices point at them.
static DRIVERS: Mutex<Vec<&'static Registered>> = Mutex::new(Vec::new());

/// Makes a driver known to DPDK, before [`crate::Eal::init`]: devices whose names begin with `name` are its, and
/// `factory` makes them. By DPDK's custom the name begins with `net_`.
///
/// # Errors
/// [`Error::Argument`] if the name is taken or holds a NUL byte.
pub fn register<D: Driver>(
    name: &'static str,
    factory: impl Fn(&Probe) -> Result<D, DriverError> + Send + Sync + 'static,
) -> Result<(), Error> {
    let c_name = c_string("driver name", name)?;
    let mut drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
    if drivers.iter().any(|driver| driver.name == name) {
        return Err(Error::Argument {
            what: "driver name",
            value: name.to_owned(),
            why: "it is registered already",
        });
    }
    let attach: Attach = Box::new(move |probe, device| {
        let driver = factory(probe)?;
        // SAFETY: DPDK hands over a live device to attach, and nobody has made a port of it.
        unsafe { ops::attach(driver, device) }
    });
    drivers.push(Box::leak(Box::new(Registered { name, attach })));
    let raw = Box::leak(Box::new(ffi::rte_vdev_driver {
        driver: ffi::rte_driver {
            name: c_name.into_raw(),
            alias: ptr::null(),
            ..Default::default()
        },
        probe: Some(probe),
        remove: Some(remove),
        ..Default::default()
    }));
    // SAFETY: the structure and the name live for ever, and DPDK takes note of each once.
    unsafe { ffi::rte_vdev_register(raw) };
    Ok(())
}

/// # Safety
/// `text` is null or NUL-terminated.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

unsafe extern "C" fn probe(device: *mut ffi::rte_vdev_device) -> i32 {
    // SAFETY: DPDK hands over a live device, whose strings are NUL-terminated.
    let (name, arguments) = unsafe {
        let raw = &(*device).device;
        let arguments = raw
            .devargs
            .as_ref()
            .map_or(ptr::null(), |devargs| devargs.__bindgen_anon_1.args);
        (text(raw.name), text(arguments))
    };
    // Longest name first, so that one driver's name may begin with another's; the lock is not held while the factory
    // runs, which is not ours.
    let found = {
        let drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
        drivers
            .iter()
            .filter(|driver| name.starts_with(driver.name))
            .max_by_key(|driver| driver.name.len())
            .copied()
    };
    let Some(driver) = found else { return -libc::ENODEV };
    match (driver.attach)(&Probe::parse(&name, &arguments), device) {
        Ok(()) => 0,
        Err(error) => -error.0.0.abs().max(1),
    }
}

unsafe extern "C" fn remove(device: *mut ffi::rte_vdev_device) -> i32 {
    // SAFETY: DPDK hands over a live device; the port is looked up by its name and released if it is still there.
    unsafe {
        let port = ffi::rte_eth_dev_allocated((*device).device.name);
        if port.is_null() {
            return 0;
        }
        let close = (*port).dev_ops.as_ref().and_then(|operations| operations.dev_close);
        if let Some(close) = close {
            close(port);
        }
        ffi::rte_eth_dev_release_port(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_pairs_and_the_last_one_counts() {
        let probe = Probe::parse("net_x0", "port=a,flag,port=b=c,");
        assert_eq!(probe.arguments().len(), 3);
        assert_eq!(probe.argument("port"), Some("b=c"));
        assert_eq!(probe.argument("flag"), Some(""));
        assert_eq!(probe.argument("none"), None);
    }
}
