//! The Ethernet header and its VLAN tag.

use crate::bytes::be16;
use crate::eth::ether_type;
use crate::{Drop, Mac, VlanId};

/// What the Ethernet header and at most one VLAN tag say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Destination MAC.
    pub destination: Mac,
    /// Source MAC.
    pub source: Mac,
    /// EtherType of what follows [`Link::l3`]; below 0x600 it is an IEEE 802.3 length.
    pub ether_type: u16,
    /// VLAN; `None` for untagged and for priority-tagged (VLAN ID 0) frames.
    pub vlan: Option<VlanId>,
    /// Offset of layer 3 in the frame.
    pub l3: u16,
}

/// Reads the Ethernet header and an 802.1Q or 802.1ad tag.
///
/// # Errors
/// [`Drop::FrameTruncated`], [`Drop::VlanStack`] for a second tag, [`Drop::VlanUnknown`] for the reserved ID 4095.
#[inline(always)]
pub fn parse_link(frame: &[u8]) -> Result<Link, Drop> {
    let Some(header) = frame.first_chunk::<14>() else {
        return Err(Drop::FrameTruncated);
    };
    let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, e0, e1] = header;
    let link = Link {
        destination: Mac([d0, d1, d2, d3, d4, d5]),
        source: Mac([s0, s1, s2, s3, s4, s5]),
        ether_type: u16::from_be_bytes([e0, e1]),
        vlan: None,
        l3: 14,
    };
    if ether_type::is_vlan(link.ether_type) {
        tagged(link, frame)
    } else {
        Ok(link)
    }
}

#[inline(never)]
fn tagged(link: Link, frame: &[u8]) -> Result<Link, Drop> {
    let Some(header) = frame.first_chunk::<18>() else {
        return Err(Drop::FrameTruncated);
    };
    let ether_type = be16(header, 16);
    if ether_type::is_vlan(ether_type) {
        return Err(Drop::VlanStack);
    }
    let vlan = match be16(header, 14) & 0x0fff {
        0 => None,
        id => Some(VlanId::new(id).map_err(|_| Drop::VlanUnknown)?),
    };
    Ok(Link {
        ether_type,
        vlan,
        l3: 18,
        ..link
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MAC addresses and then these 16-bit words.
    fn frame(words: &[u16]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        frame.extend(words.iter().flat_map(|w| w.to_be_bytes()));
        frame
    }

    fn read(words: &[u16]) -> Result<(Option<u16>, u16, u16), Drop> {
        parse_link(&frame(words)).map(|l| (l.vlan.map(VlanId::value), l.ether_type, l.l3))
    }

    #[test]
    fn untagged_tagged_and_priority_tagged() {
        assert_eq!(read(&[0x0800]), Ok((None, 0x0800, 14)));
        assert_eq!(read(&[0x8100, 0xe064, 0x86dd]), Ok((Some(100), 0x86dd, 18)));
        assert_eq!(read(&[0x88a8, 0x0001, 0x0800]), Ok((Some(1), 0x0800, 18)));
        assert_eq!(read(&[0x8100, 0xe000, 0x0806]), Ok((None, 0x0806, 18)));
    }

    #[test]
    fn stacks_reserved_ids_and_short_frames_are_refused() {
        assert_eq!(read(&[0x8100, 1, 0x8100, 2, 0x0800]), Err(Drop::VlanStack));
        assert_eq!(read(&[0x88a8, 1, 0x8100, 2, 0x0800]), Err(Drop::VlanStack));
        assert_eq!(read(&[0x8100, 0, 0x88a8, 2, 0x0800]), Err(Drop::VlanStack));
        assert_eq!(read(&[0x8100, 4095, 0x0800]), Err(Drop::VlanUnknown));
        let tagged = frame(&[0x8100, 1, 0x0800]);
        for length in 0..18 {
            assert_eq!(
                parse_link(&tagged[..length]),
                Err(Drop::FrameTruncated),
                "{length} bytes"
            );
        }
    }
}
