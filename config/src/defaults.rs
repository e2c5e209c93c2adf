//! Every default of the file, in one place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use net::{Mac, Source, VpcId};

use crate::model::{BatchBounds, Bfd, Distances, Family, GracefulRestart, Memory, Poll, PortRange};

pub(crate) const WORKERS: [u16; 1] = [0];
pub(crate) const POLL: Poll = Poll::Adaptive;
pub(crate) const MEMORY: Memory = Memory::Hugepages;
pub(crate) const MEMORY_MB: u32 = 512;
pub(crate) const BUFFERS: u32 = 32_768;
pub(crate) const CONNECTIONS: u32 = 65_536;

pub(crate) const VXLAN_PORT: u16 = 4789;
pub(crate) const PORT_MTU: u16 = 1500;
/// The MTU of a VPC on a VNI leaves room for VXLAN over IPv4 in 1500 bytes; one on a VLAN has a port's.
pub(crate) const VXLAN_MTU: u16 = 1450;

/// Small enough that what changes meanwhile is not late.
pub(crate) const BATCH: BatchBounds = BatchBounds { size: 4_096, time: 10 };
/// A full table is a handful of generations.
pub(crate) const LARGE_BATCH: BatchBounds = BatchBounds {
    size: 200_000,
    time: 250,
};

/// Workers lose about a hundredth of their lookups to a stream of changes, and nobody notices the delay.
pub(crate) const PUBLISH_INTERVAL: u32 = 5;

/// Those that `net` gives.
pub(crate) fn distances() -> Distances {
    Distances {
        fixed: Source::Static.default_distance(),
        ebgp: Source::Ebgp.default_distance(),
        ibgp: Source::Ibgp.default_distance(),
        kernel: Source::Kernel.default_distance(),
        fpm: Source::Fpm.default_distance(),
    }
}

pub(crate) const KERNEL_TABLE: u32 = 254;
/// Nobody else's: iproute2 and FRR name 186 to 198 theirs.
pub(crate) const KERNEL_PROTOCOL: u8 = 212;
/// Below zebra's 20: where both have a route, the host goes where the gateway does.
pub(crate) const KERNEL_METRIC: u32 = 10;
pub(crate) const KERNEL_AUDIT_INTERVAL: u32 = 30;

/// As FRR connects when its configuration says nothing else.
pub(crate) const FPM_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2620);
/// Long enough for zebra to come back and BGP behind it to converge.
pub(crate) const FPM_STALE_TIME: u32 = 120;

pub(crate) const BGP_PORT: u16 = 179;
pub(crate) const MULTIPATH: u16 = 1;
/// A full table of a router that is there comes in less.
pub(crate) const SELECTION_DEFERRAL_TIME: u32 = 60;
pub(crate) const MULTIPATH_INTERNAL: u16 = 1;
pub(crate) const DYNAMIC_PEERS: u32 = 100;
pub(crate) const HOLD_TIME: u16 = 90;
/// RFC 9687 section 3.
pub(crate) const SEND_HOLD_TIME: u32 = 480;
pub(crate) const MAX_PREFIXES_WARN: u8 = 75;
pub(crate) const GRACEFUL_RESTART: GracefulRestart = GracefulRestart::Helper;
pub(crate) const RESTART_TIME: u16 = 120;
pub(crate) const STALE_TIME: u32 = 360;
pub(crate) const LONG_LIVED_STALE_TIME: u32 = 0;
pub(crate) const CONNECT_RETRY: u16 = 5;
pub(crate) const RPKI_PREFERENCE: u8 = 100;
/// Seconds.
pub(crate) const STATISTICS_INTERVAL: u32 = 60;
/// As FRR's.
pub(crate) const BFD: Bfd = Bfd {
    min_tx_ms: 300,
    min_rx_ms: 300,
    multiplier: 3,
};
pub(crate) const FAMILIES: [Family; 2] = [Family::Ipv4Unicast, Family::Ipv6Unicast];

pub(crate) const TCP_ESTABLISHED: u32 = 7440;
pub(crate) const TCP_TRANSITORY: u32 = 240;
pub(crate) const UDP: u32 = 300;
pub(crate) const ICMP: u32 = 60;
/// As Linux has it for protocols that it does not know.
pub(crate) const OTHER: u32 = 600;
/// Time enough for every connection that is in use to have sent something.
pub(crate) const PICK_UP: u32 = 120;

pub(crate) const BLOCK_COUNT: u16 = 4;
pub(crate) const BLOCK_QUARANTINE: u32 = 60;

/// Every address of the host.
pub(crate) fn bgp_listen() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, BGP_PORT))
}

/// Ports above the well-known ones.
pub(crate) fn masquerade_ports() -> PortRange {
    PortRange::new(1024, u16::MAX).expect("1024 is not above 65535")
}

pub(crate) const API_SOCKET: &str = "/run/turnpike/api.sock";

/// Tap of the port or VPC `name`.
pub(crate) fn host_interface(name: &str) -> String {
    format!("tp-{name}")
}

/// MAC address of the gateway in a VPC that is in EVPN: other gateways have others, since they have other endpoints.
pub(crate) fn router_mac(endpoint: Ipv4Addr) -> Mac {
    let [a, b, c, d] = endpoint.octets();
    Mac([0x02, 0x54, a, b, c, d])
}

/// MAC address of the gateway in a VPC: locally administered, the same on every start and in every gateway.
pub(crate) fn vpc_mac(id: VpcId) -> Mac {
    let [_, a, b, c] = u32::from(id.value()).to_be_bytes();
    Mac([0x02, 0x54, 0x50, a, b, c])
}
