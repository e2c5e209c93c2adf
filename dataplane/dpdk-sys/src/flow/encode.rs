//! Rust items and actions into C's arrays, in place on the stack.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::ptr;

use arrayvec::ArrayVec;

use super::layer::{Layer, Mark, Meta, Represented, Representor};
use super::{
    Action, Eth, FlowError, FlowErrorKind, Ipv4, Ipv6, Item, MAX_ACTIONS, MAX_ITEMS, Match, TemplateAction, Udp, Vlan,
    VxlanTunnel,
};
use crate::ffi;
use crate::ffi::rte_flow_action_type as kind;

/// Memory for one C structure of an item or action.
#[repr(C, align(8))]
struct Slot([MaybeUninit<u8>; 48]);

impl Slot {
    fn new<T: Copy>(value: T) -> Self {
        const { assert!(size_of::<T>() <= 48 && align_of::<T>() <= 8, "structure does not fit") };
        let mut slot = Self([const { MaybeUninit::uninit() }; 48]);
        // SAFETY: size and alignment are checked above.
        unsafe { slot.0.as_mut_ptr().cast::<T>().write(value) };
        slot
    }

    fn pointer(&self) -> *const c_void {
        self.0.as_ptr().cast()
    }
}

/// Memory for a pattern in C's shape. What [`Items::encode`] returns points into it: keep it in place.
pub(super) struct Items {
    slots: ArrayVec<[Slot; 2], MAX_ITEMS>,
    raw: ArrayVec<ffi::rte_flow_item, { MAX_ITEMS + 1 }>,
}

impl Items {
    pub(super) fn new() -> Self {
        Self {
            slots: ArrayVec::new(),
            raw: ArrayVec::new(),
        }
    }

    /// The array, ended by END; valid as long as this stays where it is and is not encoded into again.
    pub(super) fn encode(&mut self, items: &[Item]) -> Result<*const ffi::rte_flow_item, FlowError> {
        if items.len() > MAX_ITEMS {
            return Err(FlowError::new(FlowErrorKind::Item, libc::E2BIG, "more than 16 items"));
        }
        self.slots.clear();
        self.raw.clear();
        for item in items {
            match item {
                Item::Eth(layer) => self.push(layer),
                Item::Vlan(layer) => self.push(layer),
                Item::Ipv4(layer) => self.push(layer),
                Item::Ipv6(layer) => self.push(layer),
                Item::Udp(layer) => self.push(layer),
                Item::Tcp(layer) => self.push(layer),
                Item::Icmp(layer) => self.push(layer),
                Item::Vxlan(layer) => self.push(layer),
                Item::Tag(layer) => self.push(layer),
                Item::Meta(layer) => self.push(&Match::new(Meta(layer.spec), Meta(layer.mask))),
                Item::Mark(layer) => self.push(&Match::new(Mark(layer.spec), Mark(layer.mask))),
                Item::PortRepresentor(port) => self.push(&Match::new(Representor::from(*port), Representor(u16::MAX))),
                Item::RepresentedPort(port) => self.push(&Match::new(Represented::from(*port), Represented(u16::MAX))),
            }
        }
        // The slots are all in place now, so pointers to them hold.
        for (raw, [spec, mask]) in self.raw.iter_mut().zip(&self.slots) {
            raw.spec = spec.pointer();
            raw.mask = mask.pointer();
        }
        self.raw.push(ffi::rte_flow_item::default());
        Ok(self.raw.as_ptr())
    }

    fn push<L: Layer>(&mut self, layer: &Match<L>) {
        self.slots
            .push([Slot::new(layer.spec.to_raw()), Slot::new(layer.mask.to_raw())]);
        self.raw.push(ffi::rte_flow_item {
            type_: L::KIND,
            ..Default::default()
        });
    }
}

/// All bits set: the mask of a template's fixed action.
#[repr(align(8))]
struct Ones([u8; 48]);
static ONES: Ones = Ones([0xff; 48]);

/// Memory for a list of actions in C's shape. What the methods return points into it: keep it in place.
pub(super) struct Actions {
    slots: ArrayVec<Slot, MAX_ACTIONS>,
    raw: ArrayVec<ffi::rte_flow_action, { MAX_ACTIONS + 1 }>,
    masks: ArrayVec<ffi::rte_flow_action, { MAX_ACTIONS + 1 }>,
    tunnel: Option<Items>,
}

impl Actions {
    pub(super) fn new() -> Self {
        Self {
            slots: ArrayVec::new(),
            raw: ArrayVec::new(),
            masks: ArrayVec::new(),
            tunnel: None,
        }
    }

    /// The array, ended by END; valid as long as this stays where it is, and `actions` too.
    pub(super) fn encode(&mut self, actions: &[Action]) -> Result<*const ffi::rte_flow_action, FlowError> {
        self.start(actions.len())?;
        for action in actions {
            self.push(action)?;
        }
        self.raw.push(end());
        Ok(self.raw.as_ptr())
    }

    /// The arrays of values and of masks, as [`Actions::encode`].
    pub(super) fn encode_template(
        &mut self,
        actions: &[TemplateAction],
    ) -> Result<(*const ffi::rte_flow_action, *const ffi::rte_flow_action), FlowError> {
        self.start(actions.len())?;
        for TemplateAction { action, fixed } in actions {
            self.push(action)?;
            let raw = *self.raw.last().unwrap_or(&end());
            let conf = match action {
                _ if raw.conf.is_null() || !fixed => ptr::null(),
                // These hold pointers, which a mask must keep valid.
                Action::VxlanEncap(_) | Action::RawEncap(_) | Action::RawDecap(_) => raw.conf,
                _ => (&raw const ONES.0).cast(),
            };
            self.masks.push(ffi::rte_flow_action { type_: raw.type_, conf });
        }
        self.raw.push(end());
        self.masks.push(end());
        Ok((self.raw.as_ptr(), self.masks.as_ptr()))
    }

    fn start(&mut self, count: usize) -> Result<(), FlowError> {
        if count > MAX_ACTIONS {
            return Err(FlowError::new(
                FlowErrorKind::Action,
                libc::E2BIG,
                "more than 24 actions",
            ));
        }
        self.slots.clear();
        self.raw.clear();
        self.masks.clear();
        self.tunnel = None;
        Ok(())
    }

    fn push(&mut self, action: &Action) -> Result<(), FlowError> {
        match *action {
            Action::Count => self.with(kind::RTE_FLOW_ACTION_TYPE_COUNT, ffi::rte_flow_action_count::default()),
            Action::Age { seconds, context } => {
                let mut conf = ffi::rte_flow_action_age {
                    context: context as *mut c_void,
                    ..Default::default()
                };
                conf.set_timeout(seconds.min(0x00ff_ffff));
                self.with(kind::RTE_FLOW_ACTION_TYPE_AGE, conf);
            }
            Action::SetIpv4Src(a) => self.with(kind::RTE_FLOW_ACTION_TYPE_SET_IPV4_SRC, u32::from(a).to_be()),
            Action::SetIpv4Dst(a) => self.with(kind::RTE_FLOW_ACTION_TYPE_SET_IPV4_DST, u32::from(a).to_be()),
            Action::SetIpv6Src(address) => self.with(kind::RTE_FLOW_ACTION_TYPE_SET_IPV6_SRC, address.octets()),
            Action::SetIpv6Dst(address) => self.with(kind::RTE_FLOW_ACTION_TYPE_SET_IPV6_DST, address.octets()),
            Action::SetTpSrc(port) => self.with(kind::RTE_FLOW_ACTION_TYPE_SET_TP_SRC, port.to_be()),
            Action::SetTpDst(port) => self.with(kind::RTE_FLOW_ACTION_TYPE_SET_TP_DST, port.to_be()),
            Action::SetMacSrc(mac) => self.with(kind::RTE_FLOW_ACTION_TYPE_SET_MAC_SRC, mac),
            Action::SetMacDst(mac) => self.with(kind::RTE_FLOW_ACTION_TYPE_SET_MAC_DST, mac),
            Action::DecTtl => self.bare(kind::RTE_FLOW_ACTION_TYPE_DEC_TTL),
            Action::SetTtl(ttl) => self.with(kind::RTE_FLOW_ACTION_TYPE_SET_TTL, ttl),
            Action::VxlanDecap => self.bare(kind::RTE_FLOW_ACTION_TYPE_VXLAN_DECAP),
            Action::VxlanEncap(ref tunnel) => self.push_tunnel(tunnel)?,
            Action::RawEncap(ref bytes) => {
                let data = bytes.as_ptr().cast_mut();
                let conf = ffi::rte_flow_action_raw_encap {
                    data,
                    preserve: ptr::null_mut(),
                    size: bytes.len(),
                };
                self.with(kind::RTE_FLOW_ACTION_TYPE_RAW_ENCAP, conf);
            }
            Action::RawDecap(ref bytes) => {
                let conf = ffi::rte_flow_action_raw_decap {
                    data: bytes.as_ptr().cast_mut(),
                    size: bytes.len(),
                };
                self.with(kind::RTE_FLOW_ACTION_TYPE_RAW_DECAP, conf);
            }
            Action::OfPopVlan => self.bare(kind::RTE_FLOW_ACTION_TYPE_OF_POP_VLAN),
            Action::OfPushVlan(tpid) => self.with(kind::RTE_FLOW_ACTION_TYPE_OF_PUSH_VLAN, tpid.to_be()),
            Action::OfSetVlanVid(vid) => self.with(kind::RTE_FLOW_ACTION_TYPE_OF_SET_VLAN_VID, vid.to_be()),
            Action::PortId(port) => {
                let conf = ffi::rte_flow_action_port_id {
                    id: port.0.into(),
                    ..Default::default()
                };
                self.with(kind::RTE_FLOW_ACTION_TYPE_PORT_ID, conf);
            }
            Action::PortRepresentor(port) => self.with(kind::RTE_FLOW_ACTION_TYPE_PORT_REPRESENTOR, port.0),
            Action::RepresentedPort(port) => self.with(kind::RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT, port.0),
            Action::Queue(queue) => self.with(kind::RTE_FLOW_ACTION_TYPE_QUEUE, queue),
            Action::Mark(mark) => self.with(kind::RTE_FLOW_ACTION_TYPE_MARK, mark),
            Action::SetMeta { data, mask } => {
                self.with(
                    kind::RTE_FLOW_ACTION_TYPE_SET_META,
                    ffi::rte_flow_action_set_meta { data, mask },
                );
            }
            Action::SetTag { data, mask, index } => {
                self.with(
                    kind::RTE_FLOW_ACTION_TYPE_SET_TAG,
                    ffi::rte_flow_action_set_tag { data, mask, index },
                );
            }
            Action::Jump(group) => self.with(kind::RTE_FLOW_ACTION_TYPE_JUMP, group),
            Action::Drop => self.bare(kind::RTE_FLOW_ACTION_TYPE_DROP),
        }
        Ok(())
    }

    fn bare(&mut self, kind: kind::Type) {
        self.raw.push(ffi::rte_flow_action {
            type_: kind,
            conf: ptr::null(),
        });
    }

    /// An action whose C structure is `conf`, or has it as its only field. Slots do not move while others are added.
    fn with<T: Copy>(&mut self, kind: kind::Type, conf: T) {
        self.slots.push(Slot::new(conf));
        let conf = self.slots.last().map_or(ptr::null(), Slot::pointer);
        self.raw.push(ffi::rte_flow_action { type_: kind, conf });
    }

    fn push_tunnel(&mut self, tunnel: &VxlanTunnel) -> Result<(), FlowError> {
        if self.tunnel.is_some() {
            return Err(FlowError::new(
                FlowErrorKind::Action,
                libc::EINVAL,
                "more than one VXLAN_ENCAP",
            ));
        }
        let definition = self.tunnel.insert(Items::new()).encode(&headers(tunnel)?)?.cast_mut();
        self.with(
            kind::RTE_FLOW_ACTION_TYPE_VXLAN_ENCAP,
            ffi::rte_flow_action_vxlan_encap { definition },
        );
        Ok(())
    }
}

fn end() -> ffi::rte_flow_action {
    ffi::rte_flow_action {
        type_: kind::RTE_FLOW_ACTION_TYPE_END,
        conf: ptr::null(),
    }
}

fn exactly<L: Layer>(spec: L, mask: L) -> Match<L> {
    Match { spec, mask }
}

/// The tunnel's headers as items, which is how `VXLAN_ENCAP` wants them.
fn headers(tunnel: &VxlanTunnel) -> Result<ArrayVec<Item, 5>, FlowError> {
    let mut items = ArrayVec::new();
    let network_type = if tunnel.src.is_ipv4() { 0x0800 } else { 0x86dd };
    let ether_type = if tunnel.vlan.is_some() { 0x8100 } else { network_type };
    let eth = Eth {
        dst: tunnel.dst_mac,
        src: tunnel.src_mac,
        ether_type,
    };
    items.push(Item::Eth(exactly(
        eth,
        Eth {
            ether_type: u16::MAX,
            ..Eth::DEFAULT_MASK
        },
    )));
    if let Some(vid) = tunnel.vlan {
        let mask = Vlan {
            tci: u16::MAX,
            inner_type: u16::MAX,
        };
        items.push(Item::Vlan(exactly(
            Vlan {
                tci: vid,
                inner_type: network_type,
            },
            mask,
        )));
    }
    items.push(match (tunnel.src, tunnel.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let spec = Ipv4 {
                version_ihl: 0x45,
                tos: tunnel.tos,
                ttl: tunnel.ttl,
                protocol: 17,
                src,
                dst,
                fragment: 0,
            };
            let mask = Ipv4 {
                tos: u8::MAX,
                ttl: u8::MAX,
                protocol: u8::MAX,
                ..Ipv4::DEFAULT_MASK
            };
            Item::Ipv4(exactly(spec, mask))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let version_class_flow = 6 << 28 | u32::from(tunnel.tos) << 20;
            let spec = Ipv6 {
                version_class_flow,
                protocol: 17,
                hop_limit: tunnel.ttl,
                src,
                dst,
            };
            let mask = Ipv6 {
                version_class_flow: u32::MAX,
                protocol: u8::MAX,
                hop_limit: u8::MAX,
                ..Ipv6::DEFAULT_MASK
            };
            Item::Ipv6(exactly(spec, mask))
        }
        _ => {
            let message = "source and destination of a tunnel are of different families";
            return Err(FlowError::new(FlowErrorKind::Action, libc::EINVAL, message));
        }
    });
    let udp = Udp {
        src: tunnel.udp_src,
        dst: tunnel.udp_dst,
    };
    items.push(Item::Udp(exactly(udp, Udp::DEFAULT_MASK)));
    let vxlan = super::Vxlan { vni: tunnel.vni };
    items.push(Item::Vxlan(exactly(vxlan, super::Vxlan::DEFAULT_MASK)));
    Ok(items)
}
