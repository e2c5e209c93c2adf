//! Generates the bindings, compiles the shim, and says what is missing and how to get it.

use std::path::{Path, PathBuf};
use std::{env, process};

/// What the crate calls or fills in; the rest of DPDK's API would only cost build time.
const FUNCTIONS: &str = "rte_eal_(init|hotplug_remove)|rte_openlog_stream|rte_log_.*|rte_strerror|\
    rte_thread_(register|unregister)|rte_lcore_.*|rte_dev_(probe|name|bus)|rte_dev_iterator.*|rte_bus_name|\
    rte_pktmbuf_pool_create|rte_mempool_(free|lookup|avail_count|in_use_count)|rte_zmalloc|rte_free|\
    rte_eth_.*|rte_flow_.*|rte_vdev_(register|unregister)|rte_kvargs_.*|tp_.*";
const TYPES: &str = "rte_eth_.*|rte_flow_.*|eth_dev_ops|eth_rx_burst_t|eth_tx_burst_t|rte_vdev_d.*|rte_mbuf|rte_mempool|\
    rte_eth_rxtx_callback|rte_ether_addr|rte_kvargs.*";
const VARIABLES: &str = "rte_eth_fp_ops|rte_eth_devices|RTE_MAX_.*|RTE_PKTMBUF_.*|RTE_MBUF_.*|RTE_ETH_.*|RTE_ETHER_.*|\
    RTE_LOG_.*|RTE_FLOW_.*|RTE_DEV_.*|LCORE_.*|RTE_MEMPOOL_.*|TP_.*";

fn main() {
    println!("cargo::rerun-if-changed=src/shim");
    println!("cargo::rerun-if-changed=build.rs");

    let dpdk = pkg_config::Config::new()
        .cargo_metadata(false)
        .probe("libdpdk")
        .unwrap_or_else(|error| {
            let reason = error.to_string();
            let first = reason
                .lines()
                .map(str::trim)
                .find(|line| !line.is_empty())
                .unwrap_or_default();
            missing(&format!(
                "libdpdk was not found (Debian: libdpdk-dev, pkg-config): {first}"
            ))
        });
    let headers = driver_headers();
    println!("cargo::rerun-if-changed={}", headers.join("VERSION").display());
    check_libclang();

    let mut flags: Vec<String> = ["-include", "rte_config.h", "-march=corei7"].map(String::from).into();
    flags.extend(["-DALLOW_EXPERIMENTAL_API", "-DALLOW_INTERNAL_API"].map(String::from));
    flags.extend(
        dpdk.include_paths
            .iter()
            .chain([&headers])
            .map(|path| format!("-I{}", path.display())),
    );

    let mut shim = cc::Build::new();
    shim.file("src/shim/shim.c").opt_level(3);
    for flag in &flags {
        shim.flag(flag);
    }
    shim.compile("turnpike_dpdk_shim");

    link(&dpdk);
    generate(&flags);
}

/// Ends the build with what is missing and the remedy.
fn missing(what: &str) -> ! {
    println!("cargo::error={what}");
    println!("cargo::error=run `make setup` in the repository's root: it installs what DPDK needs to be built against");
    process::exit(1)
}

/// Folder of the headers that only DPDK's source package has.
fn driver_headers() -> PathBuf {
    let manifest = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let headers = Path::new(&manifest).join("../../.setup/dpdk-driver-headers");
    println!("cargo::rerun-if-changed={}", headers.display());
    if !headers.join("ethdev_driver.h").is_file() {
        missing(&format!("DPDK's driver headers are not in {}", headers.display()));
    }
    headers
}

/// bindgen panics without libclang; this says so in words first.
fn check_libclang() {
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");
    if let Err(error) = bindgen_libclang() {
        missing(&format!(
            "libclang was not found (Debian: libclang1-14, libclang-common-14-dev): {error}"
        ));
    }
}

fn bindgen_libclang() -> Result<(), String> {
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(bindgen::clang_version);
    let _ = std::panic::take_hook();
    found.map(|_| ()).map_err(|cause| {
        cause
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| "the library could not be loaded".to_owned())
    })
}

/// Links libdpdk and the vdev bus; drivers are loaded by EAL from Debian's folder of drivers at run time.
fn link(dpdk: &pkg_config::Library) {
    for path in &dpdk.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for library in &dpdk.libs {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    println!("cargo::rustc-link-lib=dylib=rte_bus_vdev");
}

fn generate(flags: &[String]) {
    let bindings = bindgen::Builder::default()
        .header("src/shim/bindings.h")
        .clang_args(flags)
        .allowlist_function(FUNCTIONS)
        .allowlist_type(TYPES)
        .allowlist_var(VARIABLES)
        // Packed and aligned at once, which Rust has no word for; none of them is used here.
        .opaque_type("rte_arp_ipv4|rte_arp_hdr|rte_l2tpv2_combined_msg_hdr|rte_gtp_psc_generic_hdr")
        .derive_default(true)
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(false)
        .generate()
        .unwrap_or_else(|error| missing(&format!("bindgen cannot read DPDK's headers: {error}")));
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    if let Err(error) = bindings.write_to_file(&out) {
        missing(&format!("cannot write {}: {error}", out.display()));
    }
}
