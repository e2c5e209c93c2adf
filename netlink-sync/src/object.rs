//! Next-hop objects (`RTM_NEWNEXTHOP`), which the netlink crate does not parse. Pure.

use std::net::IpAddr;

use net::IfIndex;

use crate::KernelNextHop;

/// Length of `struct nhmsg`.
const HEADER: usize = 8;
/// Where the flags are in it, and `RTNH_F_DEAD`.
const FLAGS: usize = 4;
const DEAD: u32 = 1;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// Upper bits of an attribute's type: nested, network byte order.
const TYPE: u16 = 0x3fff;

/// What a next-hop object stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    /// One way out, that the kernel does not use while it is dead: its interface is down.
    Single { hop: KernelNextHop, dead: bool },
    /// Nowhere.
    Blackhole,
    /// Several objects, each with its weight.
    Group(Vec<(u32, u16)>),
}

/// The number of the object and what it is, for a new one; `None` for a message that is malformed or says too little.
pub(crate) fn object(body: &[u8]) -> Option<(u32, Object)> {
    let (mut id, mut blackhole) = (None, false);
    let (mut gateway, mut interface, mut group) = (None, None, Vec::new());
    for (kind, value) in attributes(body)? {
        match kind {
            NHA_ID => id = Some(number(value)?),
            NHA_BLACKHOLE => blackhole = true,
            NHA_OIF => interface = Some(IfIndex(number(value)?)),
            NHA_GATEWAY => gateway = Some(address(value)?),
            NHA_GROUP => group = members(value)?,
            _ => {}
        }
    }
    let object = if blackhole {
        Object::Blackhole
    } else if !group.is_empty() {
        Object::Group(group)
    } else if gateway.is_some() || interface.is_some() {
        Object::Single {
            hop: KernelNextHop {
                gateway,
                interface,
                weight: 1,
            },
            dead: flags(body)? & DEAD != 0,
        }
    } else {
        return None;
    };
    Some((id?, object))
}

/// The number of an object that goes.
pub(crate) fn object_id(body: &[u8]) -> Option<u32> {
    let attributes = attributes(body)?;
    let id = attributes.into_iter().find(|(kind, _)| *kind == NHA_ID)?;
    number(id.1)
}

/// The attributes behind the header; `None` if one of them is cut.
fn attributes(body: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut rest = body.get(HEADER..)?;
    let mut found = Vec::new();
    while let Some(&[l0, l1, k0, k1]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        found.push((u16::from_ne_bytes([k0, k1]) & TYPE, rest.get(4..length)?));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(found)
}

fn flags(body: &[u8]) -> Option<u32> {
    number(body.get(FLAGS..HEADER)?)
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

/// `struct nexthop_grp`: number, weight less one, three bytes of nothing.
fn members(value: &[u8]) -> Option<Vec<(u32, u16)>> {
    let (members, rest) = value.as_chunks::<8>();
    let read = |&[i0, i1, i2, i3, weight, ..]: &[u8; 8]| {
        let id = u32::from_ne_bytes([i0, i1, i2, i3]);
        (id, u16::from(weight) + 1)
    };
    rest.is_empty().then(|| members.iter().map(read).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body of a message with these attributes.
    pub(crate) fn body(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![0; HEADER];
        for (kind, value) in attributes {
            body.extend(u16::try_from(value.len() + 4).expect("short").to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    }

    /// The body of a single object.
    pub(crate) fn single(id: u32, gateway: [u8; 4], interface: u32) -> Vec<u8> {
        body(&[
            (NHA_ID, &id.to_ne_bytes()),
            (NHA_GATEWAY, &gateway),
            (NHA_OIF, &interface.to_ne_bytes()),
        ])
    }

    /// The body of a group.
    pub(crate) fn group(id: u32, members: &[(u32, u8)]) -> Vec<u8> {
        let mut value = Vec::new();
        for (member, weight) in members {
            value.extend(member.to_ne_bytes());
            value.extend([weight - 1, 0, 0, 0]);
        }
        body(&[(NHA_ID, &id.to_ne_bytes()), (NHA_GROUP, &value)])
    }

    #[test]
    fn singles_groups_and_blackholes() {
        let (id, object_found) = object(&single(14, [192, 0, 2, 2], 3)).expect("object");
        let hop = KernelNextHop {
            gateway: Some([192, 0, 2, 2].into()),
            interface: Some(IfIndex(3)),
            weight: 1,
        };
        assert_eq!((id, object_found), (14, Object::Single { hop, dead: false }));
        let members = group(15, &[(14, 1), (16, 200)]);
        assert_eq!(object(&members), Some((15, Object::Group(vec![(14, 1), (16, 200)]))));
        assert_eq!(object_id(&members), Some(15));
        let blackhole = body(&[(NHA_ID, &2_u32.to_ne_bytes()), (NHA_BLACKHOLE, &[])]);
        assert_eq!(object(&blackhole), Some((2, Object::Blackhole)));
    }

    #[test]
    fn what_is_cut_or_says_nothing_is_no_object() {
        let whole = single(14, [192, 0, 2, 2], 3);
        assert_eq!(object(&whole[..whole.len() - 1]), None);
        assert_eq!(object(&body(&[(NHA_ID, &[1, 0, 0, 0])])), None);
        assert_eq!(object(&body(&[(NHA_GATEWAY, &[192, 0, 2, 2])])), None);
        assert_eq!(object(&body(&[(NHA_ID, &[1, 0]), (NHA_BLACKHOLE, &[])])), None);
        assert_eq!(object_id(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_run_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = (object(&bytes), object_id(&bytes));
        }
    }
}
