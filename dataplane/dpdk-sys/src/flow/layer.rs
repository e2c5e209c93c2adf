//! Each header's C structure, to and from its Rust value; fields that we do not name are zero.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Eth, Icmp, Ipv4, Ipv6, Tag, Tcp, Udp, Vlan, Vxlan};
use crate::ffi;
use crate::ffi::rte_flow_item_type as kind;
use crate::port::PortId;

/// A header with a C structure for it.
pub(crate) trait Layer: Copy + Default {
    /// The C structure.
    type Raw: Copy;
    /// Its type number.
    const KIND: kind::Type;
    /// What counts when a rule gives no mask: `rte_flow_item_*_mask` in DPDK.
    const DEFAULT_MASK: Self;

    fn to_raw(self) -> Self::Raw;
    fn from_raw(raw: Self::Raw) -> Self;
}

const ALL_MAC: [u8; 6] = [0xff; 6];

impl Layer for Eth {
    type Raw = ffi::rte_flow_item_eth;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_ETH;
    const DEFAULT_MASK: Self = Self {
        dst: ALL_MAC,
        src: ALL_MAC,
        ether_type: 0,
    };

    fn to_raw(self) -> Self::Raw {
        let mut raw = Self::Raw::default();
        raw.__bindgen_anon_1.hdr = ffi::rte_ether_hdr {
            dst_addr: ffi::rte_ether_addr { addr_bytes: self.dst },
            src_addr: ffi::rte_ether_addr { addr_bytes: self.src },
            ether_type: self.ether_type.to_be(),
        };
        raw
    }

    fn from_raw(raw: Self::Raw) -> Self {
        // SAFETY: every variant of the union is plain integers.
        let header = unsafe { raw.__bindgen_anon_1.hdr };
        Self {
            dst: header.dst_addr.addr_bytes,
            src: header.src_addr.addr_bytes,
            ether_type: u16::from_be(header.ether_type),
        }
    }
}

impl Layer for Vlan {
    type Raw = ffi::rte_flow_item_vlan;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_VLAN;
    const DEFAULT_MASK: Self = Self {
        tci: 0x0fff,
        inner_type: 0,
    };

    fn to_raw(self) -> Self::Raw {
        let mut raw = Self::Raw::default();
        raw.__bindgen_anon_1.hdr = ffi::rte_vlan_hdr {
            vlan_tci: self.tci.to_be(),
            eth_proto: self.inner_type.to_be(),
        };
        raw
    }

    fn from_raw(raw: Self::Raw) -> Self {
        // SAFETY: every variant of the union is plain integers.
        let header = unsafe { raw.__bindgen_anon_1.hdr };
        Self {
            tci: u16::from_be(header.vlan_tci),
            inner_type: u16::from_be(header.eth_proto),
        }
    }
}

impl Layer for Ipv4 {
    type Raw = ffi::rte_flow_item_ipv4;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_IPV4;
    const DEFAULT_MASK: Self = Self {
        version_ihl: 0,
        tos: 0,
        fragment: 0,
        ttl: 0,
        protocol: 0,
        src: Ipv4Addr::BROADCAST,
        dst: Ipv4Addr::BROADCAST,
    };

    fn to_raw(self) -> Self::Raw {
        let mut raw = Self::Raw::default();
        raw.hdr.__bindgen_anon_1.version_ihl = self.version_ihl;
        raw.hdr.type_of_service = self.tos;
        raw.hdr.fragment_offset = self.fragment.to_be();
        raw.hdr.time_to_live = self.ttl;
        raw.hdr.next_proto_id = self.protocol;
        raw.hdr.src_addr = u32::from(self.src).to_be();
        raw.hdr.dst_addr = u32::from(self.dst).to_be();
        raw
    }

    fn from_raw(raw: Self::Raw) -> Self {
        let header = raw.hdr;
        Self {
            // SAFETY: every variant of the union is plain integers.
            version_ihl: unsafe { header.__bindgen_anon_1.version_ihl },
            tos: header.type_of_service,
            fragment: u16::from_be(header.fragment_offset),
            ttl: header.time_to_live,
            protocol: header.next_proto_id,
            src: Ipv4Addr::from(u32::from_be(header.src_addr)),
            dst: Ipv4Addr::from(u32::from_be(header.dst_addr)),
        }
    }
}

impl Layer for Ipv6 {
    type Raw = ffi::rte_flow_item_ipv6;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_IPV6;
    const DEFAULT_MASK: Self = Self {
        version_class_flow: 0,
        protocol: 0,
        hop_limit: 0,
        src: Ipv6Addr::from_bits(u128::MAX),
        dst: Ipv6Addr::from_bits(u128::MAX),
    };

    fn to_raw(self) -> Self::Raw {
        let mut raw = Self::Raw::default();
        raw.hdr.vtc_flow = self.version_class_flow.to_be();
        raw.hdr.proto = self.protocol;
        raw.hdr.hop_limits = self.hop_limit;
        raw.hdr.src_addr = self.src.octets();
        raw.hdr.dst_addr = self.dst.octets();
        raw
    }

    fn from_raw(raw: Self::Raw) -> Self {
        let header = raw.hdr;
        Self {
            version_class_flow: u32::from_be(header.vtc_flow),
            protocol: header.proto,
            hop_limit: header.hop_limits,
            src: Ipv6Addr::from(header.src_addr),
            dst: Ipv6Addr::from(header.dst_addr),
        }
    }
}

impl Layer for Udp {
    type Raw = ffi::rte_flow_item_udp;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_UDP;
    const DEFAULT_MASK: Self = Self {
        src: u16::MAX,
        dst: u16::MAX,
    };

    fn to_raw(self) -> Self::Raw {
        let mut raw = Self::Raw::default();
        raw.hdr.src_port = self.src.to_be();
        raw.hdr.dst_port = self.dst.to_be();
        raw
    }

    fn from_raw(raw: Self::Raw) -> Self {
        Self {
            src: u16::from_be(raw.hdr.src_port),
            dst: u16::from_be(raw.hdr.dst_port),
        }
    }
}

impl Layer for Tcp {
    type Raw = ffi::rte_flow_item_tcp;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_TCP;
    const DEFAULT_MASK: Self = Self {
        src: u16::MAX,
        dst: u16::MAX,
        flags: 0,
    };

    fn to_raw(self) -> Self::Raw {
        let mut raw = Self::Raw::default();
        raw.hdr.src_port = self.src.to_be();
        raw.hdr.dst_port = self.dst.to_be();
        raw.hdr.tcp_flags = self.flags;
        raw
    }

    fn from_raw(raw: Self::Raw) -> Self {
        let header = raw.hdr;
        Self {
            src: u16::from_be(header.src_port),
            dst: u16::from_be(header.dst_port),
            flags: header.tcp_flags,
        }
    }
}

impl Layer for Icmp {
    type Raw = ffi::rte_flow_item_icmp;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_ICMP;
    const DEFAULT_MASK: Self = Self {
        icmp_type: u8::MAX,
        code: u8::MAX,
        identifier: 0,
    };

    fn to_raw(self) -> Self::Raw {
        let mut raw = Self::Raw::default();
        raw.hdr.icmp_type = self.icmp_type;
        raw.hdr.icmp_code = self.code;
        raw.hdr.icmp_ident = self.identifier.to_be();
        raw
    }

    fn from_raw(raw: Self::Raw) -> Self {
        let header = raw.hdr;
        Self {
            icmp_type: header.icmp_type,
            code: header.icmp_code,
            identifier: u16::from_be(header.icmp_ident),
        }
    }
}

impl Layer for Vxlan {
    type Raw = ffi::rte_flow_item_vxlan;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_VXLAN;
    const DEFAULT_MASK: Self = Self { vni: 0x00ff_ffff };

    fn to_raw(self) -> Self::Raw {
        let mut raw = Self::Raw::default();
        raw.__bindgen_anon_1.hdr = ffi::rte_vxlan_hdr {
            vx_flags: 0,
            vx_vni: (self.vni << 8).to_be(),
        };
        raw
    }

    fn from_raw(raw: Self::Raw) -> Self {
        // SAFETY: every variant of the union is plain integers.
        let header = unsafe { raw.__bindgen_anon_1.hdr };
        Self {
            vni: u32::from_be(header.vx_vni) >> 8,
        }
    }
}

impl Layer for Tag {
    type Raw = ffi::rte_flow_item_tag;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_TAG;
    const DEFAULT_MASK: Self = Self {
        data: u32::MAX,
        index: u8::MAX,
    };

    fn to_raw(self) -> Self::Raw {
        Self::Raw {
            data: self.data,
            index: self.index,
        }
    }

    fn from_raw(raw: Self::Raw) -> Self {
        Self {
            data: raw.data,
            index: raw.index,
        }
    }
}

/// Metadata, as a layer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Meta(pub(crate) u32);

impl Layer for Meta {
    type Raw = ffi::rte_flow_item_meta;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_META;
    const DEFAULT_MASK: Self = Self(u32::MAX);

    fn to_raw(self) -> Self::Raw {
        Self::Raw { data: self.0 }
    }

    fn from_raw(raw: Self::Raw) -> Self {
        Self(raw.data)
    }
}

/// A mark, as a layer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mark(pub(crate) u32);

impl Layer for Mark {
    type Raw = ffi::rte_flow_item_mark;
    const KIND: kind::Type = kind::RTE_FLOW_ITEM_TYPE_MARK;
    const DEFAULT_MASK: Self = Self(u32::MAX);

    fn to_raw(self) -> Self::Raw {
        Self::Raw { id: self.0 }
    }

    fn from_raw(raw: Self::Raw) -> Self {
        Self(raw.id)
    }
}

/// What the application sent through a port.
#[derive(Clone, Copy, Default)]
pub(crate) struct Representor(pub(crate) u16);

/// What came from the wire of a port.
#[derive(Clone, Copy, Default)]
pub(crate) struct Represented(pub(crate) u16);

macro_rules! port_layer {
    ($name:ident, $kind:ident) => {
        impl Layer for $name {
            type Raw = ffi::rte_flow_item_ethdev;
            const KIND: kind::Type = kind::$kind;
            const DEFAULT_MASK: Self = Self(u16::MAX);

            fn to_raw(self) -> Self::Raw {
                Self::Raw { port_id: self.0 }
            }

            fn from_raw(raw: Self::Raw) -> Self {
                Self(raw.port_id)
            }
        }

        impl From<PortId> for $name {
            fn from(port: PortId) -> Self {
                Self(port.0)
            }
        }
    };
}

port_layer!(Representor, RTE_FLOW_ITEM_TYPE_PORT_REPRESENTOR);
port_layer!(Represented, RTE_FLOW_ITEM_TYPE_REPRESENTED_PORT);
