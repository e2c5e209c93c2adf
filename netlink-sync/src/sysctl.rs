//! Settings of a host interface that have no netlink message.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::Error;

/// `(family, file, value)` below `/proc/sys/net/<family>/conf/<interface>/`.
const SETTINGS: [(&str, &str, &str); 6] = [
    // Traffic is asymmetric from the kernel's view: it sees only what was punted.
    ("ipv4", "rp_filter", "0"),
    // Answer ARP only for addresses of the interface that was asked: each port is its own segment.
    ("ipv4", "arp_ignore", "1"),
    ("ipv4", "arp_announce", "2"),
    // Routes come from the gateway, not from router advertisements.
    ("ipv6", "accept_ra", "0"),
    // The fabric knows the addresses already; waiting for duplicate detection would delay BGP by seconds.
    ("ipv6", "accept_dad", "0"),
    ("ipv6", "keep_addr_on_down", "1"),
];

/// Sets what a host interface needs before it gets addresses. A kernel without IPv6 is fine.
///
/// # Errors
/// [`Error::InterfaceName`] if `name` cannot be an interface, [`Error::Sysctl`] with the file that could not be written.
pub fn prepare_host_interface(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(['/', ' ', '\t', '\n']) {
        return Err(Error::InterfaceName(name.to_owned()));
    }
    for (family, setting, value) in SETTINGS {
        let file = PathBuf::from(format!("/proc/sys/net/{family}/conf/{name}/{setting}"));
        match fs::write(&file, value) {
            Err(error) if family == "ipv6" && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Sysctl { file, value, source }),
            Ok(()) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["", "..", "a/b", "sixteen-letters-", "a b"] {
            assert!(
                matches!(prepare_host_interface(name), Err(Error::InterfaceName(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_missing_interface_names_the_file() {
        let error = prepare_host_interface("no-such-if0").expect_err("no such interface");
        assert!(
            error
                .to_string()
                .contains("/proc/sys/net/ipv4/conf/no-such-if0/rp_filter"),
            "{error}"
        );
    }
}
