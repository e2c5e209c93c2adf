//! Identifiers. Each is a newtype whose value is valid by construction.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a number is not the identifier it was offered as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A VNI is 24 bits wide and 0 is reserved (RFC 7348 section 5).
    #[error("VNI {0} is out of range: use 1 to 16777215")]
    Vni(u32),
    /// VLAN IDs 0 and 4095 are reserved (IEEE 802.1Q-2022 table 9-2).
    #[error("VLAN ID {0} is out of range: use 1 to 4094")]
    Vlan(u16),
    /// VPC 0 would be the default VRF.
    #[error("VPC id 0 is the default VRF: use 1 to 65535")]
    Vpc,
    /// Not a number at all.
    #[error("`{0}` is not a number")]
    NotANumber(String),
}

/// VXLAN network identifier: 1 to 2^24 - 1 (RFC 7348 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(NonZeroU32);

impl Vni {
    /// The largest VNI, 2^24 - 1.
    pub const MAX: u32 = 0x00ff_ffff;

    /// A VNI from its number.
    ///
    /// # Errors
    /// [`IdError::Vni`] for 0 and for anything wider than 24 bits.
    pub const fn new(value: u32) -> Result<Self, IdError> {
        match NonZeroU32::new(value) {
            Some(v) if value <= Self::MAX => Ok(Self(v)),
            _ => Err(IdError::Vni(value)),
        }
    }

    /// The number, 1 to 2^24 - 1.
    pub const fn value(self) -> u32 {
        self.0.get()
    }
}

/// VLAN ID of an 802.1Q tag: 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(NonZeroU16);

impl VlanId {
    /// A VLAN ID from its number.
    ///
    /// # Errors
    /// [`IdError::Vlan`] for 0 and for 4095 and above.
    pub const fn new(value: u16) -> Result<Self, IdError> {
        match NonZeroU16::new(value) {
            Some(v) if value < 4095 => Ok(Self(v)),
            _ => Err(IdError::Vlan(value)),
        }
    }

    /// The number, 1 to 4094.
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}

/// One tenant network. Its VRF has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VpcId(NonZeroU16);

impl VpcId {
    /// A VPC id from its number.
    ///
    /// # Errors
    /// [`IdError::Vpc`] for 0, which is the default VRF.
    pub const fn new(value: u16) -> Result<Self, IdError> {
        match NonZeroU16::new(value) {
            Some(v) => Ok(Self(v)),
            None => Err(IdError::Vpc),
        }
    }

    /// The number, never 0.
    pub const fn value(self) -> u16 {
        self.0.get()
    }

    /// The VRF of this VPC.
    pub const fn vrf(self) -> VrfId {
        VrfId(self.0.get())
    }
}

macro_rules! try_from_number {
    ($($type:ident: $number:ty),* $(,)?) => {$(
        impl TryFrom<$number> for $type {
            type Error = IdError;
            fn try_from(value: $number) -> Result<Self, IdError> {
                Self::new(value)
            }
        }
        impl From<$type> for $number {
            fn from(id: $type) -> $number {
                id.value()
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.value())
            }
        }
        impl FromStr for $type {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                s.parse::<$number>().map_err(|_| IdError::NotANumber(s.to_owned())).and_then(Self::new)
            }
        }
    )*};
}
try_from_number!(Vni: u32, VlanId: u16, VpcId: u16);

macro_rules! plain_id {
    ($($(#[$doc:meta])* $type:ident($number:ty)),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub $number);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )*};
}
plain_id!(
    /// A routing table set; 0 is the default (underlay) VRF, others carry their VPC's number.
    VrfId(u16),
    /// A DPDK ethdev that the gateway forwards on; the number DPDK gave it.
    PortId(u16),
    /// A logical interface of the gateway: a port, a VLAN on a port, or a VNI. Dense from 0, stable while the process runs.
    InterfaceId(u16),
    /// Interface index of the kernel; 0 means none.
    IfIndex(u32),
    /// An entry of the next-hop table; stable while anything refers to it.
    NextHopId(u32),
    /// One published route-table state. 0 is the empty state before the first publish.
    Generation(u64),
    /// One committed state of the configuration. 0 is the empty store.
    Revision(u64),
);

impl VrfId {
    /// The default (underlay) VRF.
    pub const DEFAULT: Self = Self(0);

    /// The VPC this VRF belongs to; `None` for the default VRF.
    pub fn vpc(self) -> Option<VpcId> {
        VpcId::new(self.0).ok()
    }
}

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vni_rejects_zero_and_25_bits() {
        assert_eq!(Vni::new(0), Err(IdError::Vni(0)));
        assert_eq!(Vni::new(1 << 24), Err(IdError::Vni(1 << 24)));
        assert_eq!(Vni::new(Vni::MAX).map(Vni::value), Ok(Vni::MAX));
    }

    #[test]
    fn vlan_rejects_reserved_ids() {
        for reserved in [0, 4095, u16::MAX] {
            assert_eq!(VlanId::new(reserved), Err(IdError::Vlan(reserved)));
        }
        assert!(VlanId::new(4094).is_ok());
    }

    #[test]
    fn default_vrf_has_no_vpc() {
        assert_eq!(VrfId::DEFAULT.vpc(), None);
        assert_eq!(VrfId(7).vpc().map(VpcId::vrf), Some(VrfId(7)));
    }

    #[test]
    fn ids_parse_from_text_and_refuse_words() {
        assert_eq!("42".parse::<Vni>().map(Vni::value), Ok(42));
        assert_eq!("x".parse::<Vni>(), Err(IdError::NotANumber("x".into())));
    }
}
