//! C's arrays of items and actions into Rust values, for drivers.

use std::ffi::c_void;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{ptr, slice};

use arrayvec::ArrayVec;

use super::layer::{Layer, Mark, Meta, Represented, Representor};
use super::{
    Action, Eth, FlowError, FlowErrorKind, HeaderBytes, Icmp, Ipv4, Ipv6, Item, MAX_ACTIONS, MAX_ITEMS, Match, Tag,
    Tcp, TemplateAction, Udp, Vlan, Vxlan, VxlanTunnel,
};
use crate::ffi;
use crate::ffi::{rte_flow_action_type as action_kind, rte_flow_item_type as item_kind};
use crate::port::PortId;

pub(crate) type Items = ArrayVec<Item, MAX_ITEMS>;
pub(crate) type Actions = ArrayVec<Action, MAX_ACTIONS>;
pub(crate) type TemplateActions = ArrayVec<TemplateAction, MAX_ACTIONS>;

fn bad_item(message: impl Into<std::borrow::Cow<'static, str>>) -> FlowError {
    FlowError::new(FlowErrorKind::Item, libc::ENOTSUP, message)
}

fn bad_action(message: impl Into<std::borrow::Cow<'static, str>>) -> FlowError {
    FlowError::new(FlowErrorKind::Action, libc::ENOTSUP, message)
}

/// A pattern.
///
/// # Safety
/// `raw` is null or an array of valid items that END ends.
pub(crate) unsafe fn items(raw: *const ffi::rte_flow_item, out: &mut Items) -> Result<(), FlowError> {
    if raw.is_null() {
        return Err(bad_item("no pattern"));
    }
    let mut next = raw;
    loop {
        // SAFETY: the array goes on until END, which returns below.
        let item = unsafe { &*next };
        // SAFETY: the item's structures are those that its type says.
        let decoded = unsafe {
            match item.type_ {
                item_kind::RTE_FLOW_ITEM_TYPE_END => return Ok(()),
                item_kind::RTE_FLOW_ITEM_TYPE_VOID => {
                    next = next.add(1);
                    continue;
                }
                item_kind::RTE_FLOW_ITEM_TYPE_ETH => Item::Eth(layer::<Eth>(item)?),
                item_kind::RTE_FLOW_ITEM_TYPE_VLAN => Item::Vlan(layer::<Vlan>(item)?),
                item_kind::RTE_FLOW_ITEM_TYPE_IPV4 => Item::Ipv4(layer::<Ipv4>(item)?),
                item_kind::RTE_FLOW_ITEM_TYPE_IPV6 => Item::Ipv6(layer::<Ipv6>(item)?),
                item_kind::RTE_FLOW_ITEM_TYPE_UDP => Item::Udp(layer::<Udp>(item)?),
                item_kind::RTE_FLOW_ITEM_TYPE_TCP => Item::Tcp(layer::<Tcp>(item)?),
                item_kind::RTE_FLOW_ITEM_TYPE_ICMP => Item::Icmp(layer::<Icmp>(item)?),
                item_kind::RTE_FLOW_ITEM_TYPE_VXLAN => Item::Vxlan(layer::<Vxlan>(item)?),
                item_kind::RTE_FLOW_ITEM_TYPE_TAG => Item::Tag(layer::<Tag>(item)?),
                item_kind::RTE_FLOW_ITEM_TYPE_META => {
                    let Match { spec, mask } = layer::<Meta>(item)?;
                    Item::Meta(Match {
                        spec: spec.0,
                        mask: mask.0,
                    })
                }
                item_kind::RTE_FLOW_ITEM_TYPE_MARK => {
                    let Match { spec, mask } = layer::<Mark>(item)?;
                    Item::Mark(Match {
                        spec: spec.0,
                        mask: mask.0,
                    })
                }
                item_kind::RTE_FLOW_ITEM_TYPE_PORT_REPRESENTOR => {
                    Item::PortRepresentor(PortId(layer::<Representor>(item)?.spec.0))
                }
                item_kind::RTE_FLOW_ITEM_TYPE_REPRESENTED_PORT => {
                    Item::RepresentedPort(PortId(layer::<Represented>(item)?.spec.0))
                }
                other => return Err(bad_item(format!("item type {other} is not supported"))),
            }
        };
        out.try_push(decoded).map_err(|_| bad_item("more than 16 items"))?;
        // SAFETY: this item was not END, so there is a next one.
        next = unsafe { next.add(1) };
    }
}

/// # Safety
/// The structures of `item` are of the type `L::Raw`, or null.
unsafe fn layer<L: Layer>(item: &ffi::rte_flow_item) -> Result<Match<L>, FlowError> {
    if !item.last.is_null() {
        return Err(bad_item("ranges are not supported"));
    }
    let read = |pointer: *const c_void| {
        // SAFETY: the caller's promise; C programs may align less than Rust would.
        (!pointer.is_null())
            .then(|| unsafe { ptr::read_unaligned(pointer.cast::<L::Raw>()) })
            .map(L::from_raw)
    };
    Ok(match (read(item.spec), read(item.mask)) {
        // A pattern template has masks alone; an item with neither matches any such header.
        (None, mask) => Match {
            spec: L::default(),
            mask: mask.unwrap_or_default(),
        },
        (Some(spec), mask) => Match {
            spec,
            mask: mask.unwrap_or(L::DEFAULT_MASK),
        },
    })
}

/// A list of actions.
///
/// # Safety
/// `raw` is null or an array of valid actions that END ends.
pub(crate) unsafe fn actions(raw: *const ffi::rte_flow_action, out: &mut Actions) -> Result<(), FlowError> {
    if raw.is_null() {
        return Err(bad_action("no actions"));
    }
    let mut next = raw;
    loop {
        // SAFETY: the array goes on until END, which returns here.
        let raw = unsafe { &*next };
        match raw.type_ {
            action_kind::RTE_FLOW_ACTION_TYPE_END => return Ok(()),
            action_kind::RTE_FLOW_ACTION_TYPE_VOID => {}
            _ => {
                // SAFETY: the action's structure is the one that its type says.
                let decoded = unsafe { action(raw, false) }?;
                out.try_push(decoded).map_err(|_| bad_action("more than 24 actions"))?;
            }
        }
        // SAFETY: this action was not END, so there is a next one.
        next = unsafe { next.add(1) };
    }
}

/// The actions of a template.
///
/// # Safety
/// Both are null or arrays of valid actions, of the same length, that END ends.
pub(crate) unsafe fn template_actions(
    values: *const ffi::rte_flow_action,
    masks: *const ffi::rte_flow_action,
    out: &mut TemplateActions,
) -> Result<(), FlowError> {
    if values.is_null() || masks.is_null() {
        return Err(bad_action("no actions or no masks"));
    }
    let (mut value, mut mask) = (values, masks);
    loop {
        // SAFETY: both arrays go on until END, which returns here.
        let (raw, raw_mask) = unsafe { (&*value, &*mask) };
        match raw.type_ {
            action_kind::RTE_FLOW_ACTION_TYPE_END => return Ok(()),
            action_kind::RTE_FLOW_ACTION_TYPE_VOID => {}
            _ => {
                // SAFETY: the structures are those that the type says.
                let (action, fixed) = unsafe { (action(raw, true)?, any_bit(raw.type_, raw_mask.conf)) };
                out.try_push(TemplateAction { action, fixed })
                    .map_err(|_| bad_action("more than 24 actions"))?;
            }
        }
        // SAFETY: this action was not END, so there is a next one in both arrays.
        unsafe { (value, mask) = (value.add(1), mask.add(1)) };
    }
}

/// True if the mask of a template's action has a bit set.
///
/// # Safety
/// `conf` is null or the structure that `kind` says.
unsafe fn any_bit(kind: action_kind::Type, conf: *const c_void) -> bool {
    let size = match kind {
        _ if conf.is_null() => return false,
        action_kind::RTE_FLOW_ACTION_TYPE_SET_TTL => 1,
        action_kind::RTE_FLOW_ACTION_TYPE_SET_TP_SRC
        | action_kind::RTE_FLOW_ACTION_TYPE_SET_TP_DST
        | action_kind::RTE_FLOW_ACTION_TYPE_OF_PUSH_VLAN
        | action_kind::RTE_FLOW_ACTION_TYPE_OF_SET_VLAN_VID
        | action_kind::RTE_FLOW_ACTION_TYPE_PORT_REPRESENTOR
        | action_kind::RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT
        | action_kind::RTE_FLOW_ACTION_TYPE_QUEUE => 2,
        action_kind::RTE_FLOW_ACTION_TYPE_SET_MAC_SRC | action_kind::RTE_FLOW_ACTION_TYPE_SET_MAC_DST => 6,
        action_kind::RTE_FLOW_ACTION_TYPE_PORT_ID
        | action_kind::RTE_FLOW_ACTION_TYPE_SET_META
        | action_kind::RTE_FLOW_ACTION_TYPE_SET_TAG
        | action_kind::RTE_FLOW_ACTION_TYPE_AGE => 8,
        action_kind::RTE_FLOW_ACTION_TYPE_SET_IPV6_SRC | action_kind::RTE_FLOW_ACTION_TYPE_SET_IPV6_DST => 16,
        action_kind::RTE_FLOW_ACTION_TYPE_VXLAN_ENCAP
        | action_kind::RTE_FLOW_ACTION_TYPE_RAW_ENCAP
        | action_kind::RTE_FLOW_ACTION_TYPE_RAW_DECAP => return true,
        _ => 4,
    };
    // SAFETY: the structure of that type has at least `size` bytes, none of them padding.
    unsafe { slice::from_raw_parts(conf.cast::<u8>(), size) }
        .iter()
        .any(|byte| *byte != 0)
}

/// One action. In a template its structure may be left out; its values are zero then.
///
/// # Safety
/// The structure of `raw` is the one that its type says, or null.
unsafe fn action(raw: &ffi::rte_flow_action, template: bool) -> Result<Action, FlowError> {
    let conf = raw.conf;
    if conf.is_null() && template {
        return without_conf(raw.type_);
    }
    // SAFETY: the caller's promise, for each type; C programs may align less than Rust would.
    Ok(unsafe {
        match raw.type_ {
            action_kind::RTE_FLOW_ACTION_TYPE_COUNT => Action::Count,
            action_kind::RTE_FLOW_ACTION_TYPE_AGE => {
                let age: ffi::rte_flow_action_age = read(conf)?;
                Action::Age {
                    seconds: age.timeout(),
                    context: age.context as u64,
                }
            }
            action_kind::RTE_FLOW_ACTION_TYPE_SET_IPV4_SRC => {
                Action::SetIpv4Src(Ipv4Addr::from(read::<[u8; 4]>(conf)?))
            }
            action_kind::RTE_FLOW_ACTION_TYPE_SET_IPV4_DST => {
                Action::SetIpv4Dst(Ipv4Addr::from(read::<[u8; 4]>(conf)?))
            }
            action_kind::RTE_FLOW_ACTION_TYPE_SET_IPV6_SRC => {
                Action::SetIpv6Src(Ipv6Addr::from(read::<[u8; 16]>(conf)?))
            }
            action_kind::RTE_FLOW_ACTION_TYPE_SET_IPV6_DST => {
                Action::SetIpv6Dst(Ipv6Addr::from(read::<[u8; 16]>(conf)?))
            }
            action_kind::RTE_FLOW_ACTION_TYPE_SET_TP_SRC => Action::SetTpSrc(u16::from_be(read(conf)?)),
            action_kind::RTE_FLOW_ACTION_TYPE_SET_TP_DST => Action::SetTpDst(u16::from_be(read(conf)?)),
            action_kind::RTE_FLOW_ACTION_TYPE_SET_MAC_SRC => Action::SetMacSrc(read(conf)?),
            action_kind::RTE_FLOW_ACTION_TYPE_SET_MAC_DST => Action::SetMacDst(read(conf)?),
            action_kind::RTE_FLOW_ACTION_TYPE_DEC_TTL => Action::DecTtl,
            action_kind::RTE_FLOW_ACTION_TYPE_SET_TTL => Action::SetTtl(read(conf)?),
            action_kind::RTE_FLOW_ACTION_TYPE_VXLAN_DECAP => Action::VxlanDecap,
            action_kind::RTE_FLOW_ACTION_TYPE_VXLAN_ENCAP => {
                let encap: ffi::rte_flow_action_vxlan_encap = read(conf)?;
                Action::VxlanEncap(tunnel(encap.definition)?)
            }
            action_kind::RTE_FLOW_ACTION_TYPE_RAW_ENCAP => {
                let encap: ffi::rte_flow_action_raw_encap = read(conf)?;
                Action::RawEncap(bytes(encap.data, encap.size)?)
            }
            action_kind::RTE_FLOW_ACTION_TYPE_RAW_DECAP => {
                let decap: ffi::rte_flow_action_raw_decap = read(conf)?;
                Action::RawDecap(bytes(decap.data, decap.size)?)
            }
            action_kind::RTE_FLOW_ACTION_TYPE_OF_POP_VLAN => Action::OfPopVlan,
            action_kind::RTE_FLOW_ACTION_TYPE_OF_PUSH_VLAN => Action::OfPushVlan(u16::from_be(read(conf)?)),
            action_kind::RTE_FLOW_ACTION_TYPE_OF_SET_VLAN_VID => Action::OfSetVlanVid(u16::from_be(read(conf)?)),
            action_kind::RTE_FLOW_ACTION_TYPE_PORT_ID => {
                let port: ffi::rte_flow_action_port_id = read(conf)?;
                Action::PortId(PortId(
                    port.id.try_into().map_err(|_| bad_action("port number is too large"))?,
                ))
            }
            action_kind::RTE_FLOW_ACTION_TYPE_PORT_REPRESENTOR => Action::PortRepresentor(PortId(read(conf)?)),
            action_kind::RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT => Action::RepresentedPort(PortId(read(conf)?)),
            action_kind::RTE_FLOW_ACTION_TYPE_QUEUE => Action::Queue(read(conf)?),
            action_kind::RTE_FLOW_ACTION_TYPE_MARK => Action::Mark(read(conf)?),
            action_kind::RTE_FLOW_ACTION_TYPE_SET_META => {
                let set: ffi::rte_flow_action_set_meta = read(conf)?;
                Action::SetMeta {
                    data: set.data,
                    mask: set.mask,
                }
            }
            action_kind::RTE_FLOW_ACTION_TYPE_SET_TAG => {
                let set: ffi::rte_flow_action_set_tag = read(conf)?;
                Action::SetTag {
                    data: set.data,
                    mask: set.mask,
                    index: set.index,
                }
            }
            action_kind::RTE_FLOW_ACTION_TYPE_JUMP => Action::Jump(read(conf)?),
            action_kind::RTE_FLOW_ACTION_TYPE_DROP => Action::Drop,
            other => return Err(bad_action(format!("action type {other} is not supported"))),
        }
    })
}

/// The action of a template in which each rule brings the values: all zero.
fn without_conf(kind: action_kind::Type) -> Result<Action, FlowError> {
    // Larger than every action's structure; without a definition or data these become empty headers.
    let zero = [0u64; 6];
    match kind {
        action_kind::RTE_FLOW_ACTION_TYPE_VXLAN_ENCAP => Ok(Action::VxlanEncap(VxlanTunnel {
            dst_mac: [0; 6],
            src_mac: [0; 6],
            vlan: None,
            src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ttl: 0,
            tos: 0,
            udp_src: 0,
            udp_dst: 0,
            vni: 0,
        })),
        _ => {
            let raw = ffi::rte_flow_action {
                type_: kind,
                conf: zero.as_ptr().cast(),
            };
            // SAFETY: zero is a value of every action's structure, and pointers in it are null with length 0.
            unsafe { action(&raw, false) }
        }
    }
}

/// # Safety
/// `conf` is null or points to a `T`, in any alignment.
unsafe fn read<T: Copy>(conf: *const c_void) -> Result<T, FlowError> {
    if conf.is_null() {
        return Err(FlowError::new(
            FlowErrorKind::Action,
            libc::EINVAL,
            "action without its values",
        ));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { ptr::read_unaligned(conf.cast::<T>()) })
}

/// # Safety
/// `data` is null or `size` readable bytes.
unsafe fn bytes(data: *const u8, size: usize) -> Result<HeaderBytes, FlowError> {
    let bytes = if data.is_null() || size == 0 {
        &[]
    } else {
        // SAFETY: the caller's promise.
        unsafe { slice::from_raw_parts(data, size) }
    };
    HeaderBytes::new(bytes).ok_or_else(|| bad_action("more than 103 bytes of headers"))
}

/// # Safety
/// `definition` is null or an array of valid items that END ends.
unsafe fn tunnel(definition: *const ffi::rte_flow_item) -> Result<VxlanTunnel, FlowError> {
    let mut headers = Items::new();
    // SAFETY: the caller's promise.
    unsafe { items(definition, &mut headers) }?;
    let (mut eth, mut vlan, mut network, mut udp, mut vni) = (None, None, None, None, None);
    for header in &headers {
        match header {
            Item::Eth(layer) => eth = Some(layer.spec),
            Item::Vlan(layer) => vlan = Some(layer.spec.tci & 0x0fff),
            Item::Ipv4(Match { spec, .. }) => {
                network = Some((IpAddr::V4(spec.src), IpAddr::V4(spec.dst), spec.ttl, spec.tos));
            }
            Item::Ipv6(Match { spec, .. }) => {
                let class = (spec.version_class_flow >> 20) as u8;
                network = Some((IpAddr::V6(spec.src), IpAddr::V6(spec.dst), spec.hop_limit, class));
            }
            Item::Udp(layer) => udp = Some(layer.spec),
            Item::Vxlan(layer) => vni = Some(layer.spec.vni),
            other => return Err(bad_action(format!("VXLAN_ENCAP with {}", other.name()))),
        }
    }
    let (Some(eth), Some((src, dst, ttl, tos)), Some(udp), Some(vni)) = (eth, network, udp, vni) else {
        return Err(bad_action("VXLAN_ENCAP without one of ETH, IPV4 or IPV6, UDP, VXLAN"));
    };
    let (udp_src, udp_dst) = (udp.src, udp.dst);
    Ok(VxlanTunnel {
        dst_mac: eth.dst,
        src_mac: eth.src,
        vlan,
        src,
        dst,
        ttl,
        tos,
        udp_src,
        udp_dst,
        vni,
    })
}
