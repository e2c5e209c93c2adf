//! VLAN tag (IEEE 802.1Q): the four bytes behind the MAC addresses.

use crate::bytes::{be16, put16};
use crate::eth::ether_type;
use crate::{Drop, VlanId};

/// Length of a tag.
pub const LENGTH: usize = 4;

/// The part of a tag that follows its EtherType, and what is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan<B>(B);

impl<B: AsRef<[u8]>> Vlan<B> {
    /// Views the payload of an Ethernet header whose EtherType is that of a tag.
    ///
    /// # Errors
    /// [`Drop::FrameTruncated`].
    #[inline]
    pub fn new(bytes: B) -> Result<Self, Drop> {
        if bytes.as_ref().len() < LENGTH {
            Err(Drop::FrameTruncated)
        } else {
            Ok(Self(bytes))
        }
    }

    /// Priority code point.
    #[inline]
    pub fn priority(&self) -> u8 {
        self.0.as_ref()[0] >> 5
    }

    /// VLAN; `None` for a priority tag (ID 0) and for the reserved ID 4095.
    #[inline]
    pub fn id(&self) -> Option<VlanId> {
        VlanId::new(be16(self.0.as_ref(), 0) & 0x0fff).ok()
    }

    /// EtherType of what follows.
    #[inline]
    pub fn ether_type(&self) -> u16 {
        be16(self.0.as_ref(), 2)
    }

    /// Everything behind the tag.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.0.as_ref()[LENGTH..]
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Vlan<B> {
    /// Sets the VLAN, keeping the priority.
    #[inline]
    pub fn set_id(&mut self, id: VlanId) {
        let kept = be16(self.0.as_ref(), 0) & 0xf000;
        put16(self.0.as_mut(), 0, kept | id.value());
    }
}

/// Tags a frame that begins [`LENGTH`] bytes into `bytes`; afterwards it begins at the first byte.
///
/// # Errors
/// [`Drop::FrameTruncated`] if there is no whole Ethernet header behind the room for the tag.
#[inline]
pub fn push(bytes: &mut [u8], id: VlanId) -> Result<(), Drop> {
    let Some(header) = bytes.first_chunk_mut::<18>() else {
        return Err(Drop::FrameTruncated);
    };
    header.copy_within(LENGTH..LENGTH + 12, 0);
    put16(header, 12, ether_type::VLAN);
    put16(header, 14, id.value());
    Ok(())
}

/// Takes the tag from a frame; afterwards the frame begins [`LENGTH`] bytes into `bytes`.
///
/// # Errors
/// [`Drop::FrameTruncated`] if there is no whole tag.
#[inline]
pub fn pop(bytes: &mut [u8]) -> Result<(), Drop> {
    let Some(header) = bytes.first_chunk_mut::<18>() else {
        return Err(Drop::FrameTruncated);
    };
    header.copy_within(0..12, LENGTH);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mac, parse_link};

    #[test]
    fn push_then_pop_is_the_same_frame() {
        let mut bytes: [u8; 24] = std::array::from_fn(|i| i as u8);
        bytes[16..18].copy_from_slice(&[0x08, 0x00]);
        let before = bytes;
        let id = VlanId::new(100).expect("valid");
        push(&mut bytes, id).expect("room");
        let link = parse_link(&bytes).expect("valid");
        assert_eq!((link.vlan, link.ether_type, link.l3), (Some(id), 0x0800, 18));
        assert_eq!(
            (link.destination, link.source),
            (Mac([4, 5, 6, 7, 8, 9]), Mac([10, 11, 12, 13, 14, 15]))
        );
        pop(&mut bytes).expect("tag");
        assert_eq!(bytes[4..], before[4..]);
        assert_eq!(push(&mut [0; 17], id), Err(Drop::FrameTruncated));
    }

    #[test]
    fn setting_the_id_keeps_the_priority() {
        let mut vlan = Vlan::new([0xe0, 0, 0x86, 0xdd]).expect("valid");
        assert_eq!(vlan.id(), None);
        vlan.set_id(VlanId::new(4094).expect("valid"));
        assert_eq!(
            (vlan.priority(), vlan.id().map(VlanId::value), vlan.ether_type()),
            (7, Some(4094), 0x86dd)
        );
    }
}
