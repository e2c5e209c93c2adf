//! The environment abstraction layer: DPDK's memory and devices, once a process.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Errno, Error, Quote, c_string};
use crate::ffi;
use crate::log::{self, LogLevel};
use crate::port::PortId;
use crate::thread::{self, WorkerThread};

/// Folder that Debian's EAL loads drivers from.
const DRIVERS: &str = "/usr/lib/<architecture>/dpdk/pmds-23.0";

/// Where DPDK's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Hugepages of the system; no mount is needed and nothing is left behind.
    Hugepages {
        /// How much to reserve at the start.
        megabytes: u32,
    },
    /// Ordinary memory: slower, works everywhere and needs no privilege.
    NoHuge {
        /// How much to reserve; there is no more later.
        megabytes: u32,
    },
}

/// How DPDK starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// Name of the program, as DPDK shows it.
    pub program: String,
    /// Where memory comes from.
    pub memory: Memory,
    /// Core that DPDK calls its main one; `None` is one that the process may use. No thread is pinned to it.
    pub main_core: Option<u32>,
    /// How much DPDK logs to stderr.
    pub log_level: LogLevel,
    /// PCI addresses of NICs to use; empty leaves the PCI bus alone.
    pub pci: Vec<String>,
    /// Further EAL arguments, as they are.
    pub extra: Vec<String>,
}

impl EalConfig {
    /// The usual start of `program` with `memory`.
    pub fn new(program: impl Into<String>, memory: Memory) -> Self {
        Self {
            program: program.into(),
            memory,
            main_core: None,
            log_level: LogLevel::default(),
            pci: Vec::new(),
            extra: Vec::new(),
        }
    }

    fn arguments(&self, main_core: u32) -> Vec<String> {
        let mut arguments = vec![self.program.clone()];
        let mut add = |argument: &str| arguments.push(argument.to_owned());
        match self.memory {
            Memory::Hugepages { megabytes } => {
                add("--in-memory");
                add(&format!("-m{megabytes}"));
            }
            Memory::NoHuge { megabytes } => {
                add("--no-huge");
                add("--no-shconf");
                add(&format!("-m{megabytes}"));
            }
        }
        add("--iova-mode=va");
        add("--no-telemetry");
        add(&format!("--lcores=0@{main_core}"));
        add(&format!("--log-level={}", self.log_level.number()));
        if self.pci.is_empty() {
            add("--no-pci");
        }
        for address in &self.pci {
            add(&format!("--allow={address}"));
        }
        self.extra.iter().for_each(|argument| add(argument));
        arguments
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);
/// Attaching changes one list of ports: one at a time.
static DEVICES: Mutex<()> = Mutex::new(());

/// DPDK, initialised. The handle is a proof of that and is copied freely; DPDK runs until the process ends.
#[derive(Debug, Clone, Copy)]
pub struct Eal {
    _initialised: (),
}

/// A device and the ports that it brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHandle {
    devargs: String,
    bus: CString,
    device: CString,
    ports: Vec<PortId>,
}

impl PortHandle {
    /// Its ports; at least one.
    pub fn ports(&self) -> &[PortId] {
        &self.ports
    }

    /// Its first port: the only one of a virtual device.
    pub fn port(&self) -> PortId {
        self.ports[0]
    }

    /// What it was attached by.
    pub fn devargs(&self) -> &str {
        &self.devargs
    }
}

impl Eal {
    /// Starts DPDK in this process. The calling thread keeps its affinity, and no thread of the caller is touched.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialised`] on a second call, [`Error::Hugepages`] and [`Error::Permission`] before DPDK is
    /// asked at all, [`Error::Init`] with DPDK's own words.
    pub fn init(config: EalConfig) -> Result<Self, Error> {
        let affinity = thread::affinity();
        let main_core = match config.main_core {
            Some(core) => core,
            None => affinity.as_ref().and_then(thread::first_core).unwrap_or(0),
        };
        let arguments = config.arguments(main_core);
        let owned: Vec<CString> = arguments
            .iter()
            .map(|a| c_string("EAL argument", a))
            .collect::<Result<_, _>>()?;
        check_memory(config.memory)?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::AlreadyInitialised);
        }

        log::capture();
        let mark = log::mark();
        // EAL permutes the array and keeps pointers into the strings.
        let pointers: Vec<*mut c_char> = owned.into_iter().map(CString::into_raw).collect();
        let pointers = pointers.leak();
        let count = i32::try_from(pointers.len()).unwrap_or(i32::MAX);
        // SAFETY: `pointers` are `count` NUL-terminated strings, leaked and so valid for ever; STARTED makes this the
        // only call in the process.
        let status = unsafe { ffi::rte_eal_init(count, pointers.as_mut_ptr()) };
        if let Some(affinity) = affinity {
            thread::set_affinity(&affinity);
        }
        if status >= 0 {
            return Ok(Self { _initialised: () });
        }
        let errno = Errno::last();
        if matches!(errno.0, libc::EPERM | libc::EACCES) {
            return Err(Error::Permission {
                what: format!("DPDK's start with `{}`", arguments[1..].join(" ")),
            });
        }
        Err(Error::Init {
            arguments: arguments[1..].join(" "),
            errno,
            log: log::since(mark),
        })
    }

    /// Attaches a device, for example `net_af_packet0,iface=eth1` or `0000:01:00.0`.
    ///
    /// # Errors
    /// [`Error::DriverUnknown`], [`Error::DeviceMissing`], [`Error::DeviceInUse`], [`Error::Permission`], or
    /// [`Error::Attach`] with the driver's own words.
    pub fn attach(&self, devargs: &str) -> Result<PortHandle, Error> {
        let text = c_string("device", devargs)?;
        let _one_at_a_time = DEVICES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mark = log::mark();
        let in_use = || Error::DeviceInUse {
            devargs: devargs.to_owned(),
            log: log::since(mark),
        };
        let name = devargs.split(',').next().unwrap_or(devargs);
        if PortId::find(name).is_ok() {
            return Err(in_use());
        }
        // SAFETY: EAL is initialised; `text` is a NUL-terminated string, which DPDK copies.
        let status = unsafe { ffi::rte_dev_probe(text.as_ptr()) };
        if status < 0 {
            return Err(attach_error(devargs, Errno::of(status), log::since(mark)));
        }
        let ports = ports_of(&text);
        // DPDK takes a device that is there already for a success; without ports it is one whose ports were closed.
        let Some(first) = ports.first() else {
            return Err(in_use());
        };
        let (bus, device) = device_of(*first)?;
        Ok(PortHandle {
            devargs: devargs.to_owned(),
            bus,
            device,
            ports,
        })
    }

    /// Removes a device. Its ports must not be configured any more.
    ///
    /// # Errors
    /// [`Error::PortInUse`] while a port of the device is held, [`Error::Detach`] if the driver refuses.
    pub fn detach(&self, handle: PortHandle) -> Result<(), Error> {
        let _one_at_a_time = DEVICES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(port) = handle.ports.iter().find(|port| port.is_owned()) {
            return Err(Error::PortInUse(*port));
        }
        let mark = log::mark();
        // SAFETY: EAL is initialised; both are NUL-terminated strings; no handle of this process uses the ports.
        let status = unsafe { ffi::rte_eal_hotplug_remove(handle.bus.as_ptr(), handle.device.as_ptr()) };
        if status == 0 {
            return Ok(());
        }
        let device = handle.device.to_string_lossy().into_owned();
        Err(Error::Detach {
            device,
            errno: Errno::of(status),
            log: log::since(mark),
        })
    }

    /// Every port that nobody holds.
    pub fn ports(&self) -> Vec<PortId> {
        let no_owner = u64::from(ffi::RTE_ETH_DEV_NO_OWNER);
        let limit = ffi::RTE_MAX_ETHPORTS as u64;
        // SAFETY: EAL is initialised; the function takes any number.
        let next = |from| unsafe { ffi::rte_eth_find_next_owned_by(from, no_owner) };
        let mut ports = Vec::new();
        let mut id = next(0);
        while id < limit {
            let port = PortId(id as u16);
            ports.push(port);
            id = next(port.0 + 1);
        }
        ports
    }

    /// Makes the calling thread one that DPDK knows: it gets caches of the packet pools. Until the guard is dropped.
    ///
    /// # Errors
    /// [`Error::Register`] when too many threads are registered.
    pub fn register_thread(&self) -> Result<WorkerThread, Error> {
        WorkerThread::register()
    }
}

/// Refuses early, and with a remedy, what EAL would refuse late and in riddles.
fn check_memory(memory: Memory) -> Result<(), Error> {
    let Memory::Hugepages { megabytes } = memory else {
        return Ok(());
    };
    let read = |path: &Path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mut free_kb = 0;
    let mut page_kb = u64::MAX;
    let mut total_of_smallest = 0;
    for folder in std::fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = folder.file_name();
        let size = name
            .to_str()
            .and_then(|n| n.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok());
        let Some(size) = size else { continue };
        let free = read(&folder.path().join("free_hugepages")).unwrap_or(0);
        free_kb += free * size;
        if size < page_kb {
            page_kb = size;
            total_of_smallest = read(&folder.path().join("nr_hugepages")).unwrap_or(0);
        }
    }
    let wanted_kb = u64::from(megabytes) * 1024;
    if free_kb >= wanted_kb {
        return Ok(());
    }
    let page_kb = if page_kb == u64::MAX { 2048 } else { page_kb };
    let pages = total_of_smallest + (wanted_kb - free_kb).div_ceil(page_kb);
    Err(Error::Hugepages {
        wanted: megabytes,
        free: (free_kb / 1024) as u32,
        pages: pages as u32,
    })
}

fn attach_error(devargs: &str, errno: Errno, log: Quote) -> Error {
    let devargs = devargs.to_owned();
    if errno.0 == libc::EEXIST {
        return Error::DeviceInUse { devargs, log };
    }
    if log.lines().iter().any(|line| line.contains("failed to parse device")) {
        return Error::DriverUnknown {
            devargs,
            drivers: DRIVERS,
            log,
        };
    }
    if let Some(missing) = missing_interface(&devargs) {
        let what = format!("interface `{missing}`");
        return Error::DeviceMissing { devargs, what, log };
    }
    // SAFETY: asks the kernel for a number.
    let root = unsafe { libc::geteuid() } == 0;
    if matches!(errno.0, libc::EPERM | libc::EACCES) || (!root && devargs.contains("iface=")) {
        return Error::Permission {
            what: format!("device `{devargs}`"),
        };
    }
    if errno.0 == libc::ENODEV && !devargs.contains(',') {
        return Error::DeviceMissing {
            devargs,
            what: "such device".to_owned(),
            log,
        };
    }
    Error::Attach { devargs, errno, log }
}

/// The kernel interface that the devargs name and that does not exist.
fn missing_interface(devargs: &str) -> Option<&str> {
    let name = devargs
        .split(',')
        .find_map(|argument| argument.strip_prefix("iface="))?;
    // net_tap creates its interface.
    if devargs.starts_with("net_tap") {
        return None;
    }
    let text = CString::new(name).ok()?;
    // SAFETY: a NUL-terminated string.
    (unsafe { libc::if_nametoindex(text.as_ptr()) } == 0).then_some(name)
}

/// Ports of the device that the devargs describe.
fn ports_of(devargs: &CStr) -> Vec<PortId> {
    let mut iterator = ffi::rte_dev_iterator::default();
    let mut ports = Vec::new();
    // SAFETY: the iterator lives through the loop, which runs to its end and so leaves nothing to clean up.
    unsafe {
        if ffi::rte_eth_iterator_init(&mut iterator, devargs.as_ptr()) != 0 {
            return ports;
        }
        loop {
            let id = ffi::rte_eth_iterator_next(&mut iterator);
            if u32::from(id) >= ffi::RTE_MAX_ETHPORTS {
                return ports;
            }
            ports.push(PortId(id));
        }
    }
}

/// Names of the bus and the device of a port.
fn device_of(port: PortId) -> Result<(CString, CString), Error> {
    let info = port.info()?;
    // SAFETY: the device of a live port; names live as long as the device and are copied here.
    unsafe {
        let bus = CStr::from_ptr(ffi::rte_bus_name(ffi::rte_dev_bus(info.device))).to_owned();
        let device = CStr::from_ptr(ffi::rte_dev_name(info.device)).to_owned();
        Ok((bus, device))
    }
}
