//! The BFD control packet (RFC 5880 section 4.1): 24 octets, without an authentication section.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Octets of a packet without authentication.
pub const LENGTH: usize = 24;
const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// State of a session (RFC 5880 section 4.1, `Sta`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The operator does not want the session.
    AdminDown,
    /// The other side is not heard, or has just gone.
    #[default]
    Down,
    /// The other side is heard, and does not say yet that it hears us.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }

    /// The word that people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "admin-down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a side last left `Up` (RFC 5880 section 4.1, `Diag`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// Nothing to say.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const TIME_EXPIRED: Self = Self(1);
    /// The other side said that it is down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// The operator ended the session.
    pub const ADMIN_DOWN: Self = Self(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "none",
            1 => "detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

/// A control packet as it is on the wire, checked as far as it can be without a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Why the sender last left `Up`.
    pub diagnostic: Diagnostic,
    /// State of the sender.
    pub state: State,
    /// The sender wants an answer with `is_final`.
    pub poll: bool,
    /// Answer to a packet with `poll`.
    pub is_final: bool,
    /// The sender's BFD survives its control plane.
    pub control_plane_independent: bool,
    /// The sender wants no periodic packets while both are up.
    pub demand: bool,
    /// Packets in a row that may be lost; not 0.
    pub multiplier: u8,
    /// The sender's name of the session; not 0.
    pub my_discriminator: u32,
    /// Our name of the session as the sender knows it; 0 while it does not.
    pub your_discriminator: u32,
    /// Shortest interval at which the sender wants to send; microseconds on the wire.
    pub desired_min_tx: Duration,
    /// Shortest interval at which the sender can receive; 0 wants no periodic packets.
    pub required_min_rx: Duration,
}

/// Why a packet is not taken (RFC 5880 section 6.8.6, RFC 5881 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Discard {
    /// It has come over a router, or pretends to be from this link.
    #[error("TTL or hop limit is not 255")]
    Ttl,
    /// Wrong version, length, multiplier or discriminator, or the multipoint bit.
    #[error("malformed")]
    Malformed,
    /// It is authenticated, which is not offered.
    #[error("authentication is not offered")]
    Authentication,
    /// No session is with its sender, or none of that name.
    #[error("no session of ours")]
    UnknownSession,
}

impl Control {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`Discard::Malformed`] or [`Discard::Authentication`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Discard> {
        let Some((head, _)) = bytes.split_first_chunk::<LENGTH>() else {
            return Err(Discard::Malformed);
        };
        let [version, flags, multiplier, length, words @ ..] = *head;
        let word = |at: usize| u32::from_be_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]);
        let micros = |at: usize| Duration::from_micros(u64::from(word(at)));
        let length = usize::from(length);
        if version >> 5 != VERSION
            || length < LENGTH
            || length > bytes.len()
            || multiplier == 0
            || flags & MULTIPOINT != 0
            || word(0) == 0
        {
            return Err(Discard::Malformed);
        }
        if flags & AUTHENTICATION != 0 {
            return Err(Discard::Authentication);
        }
        let control = Self {
            diagnostic: Diagnostic(version & 0x1f),
            state: State::from_bits(flags >> 6),
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            multiplier,
            my_discriminator: word(0),
            your_discriminator: word(4),
            desired_min_tx: micros(8),
            required_min_rx: micros(12),
        };
        // Who does not know our name cannot have heard us.
        if control.your_discriminator == 0 && matches!(control.state, State::Init | State::Up) {
            return Err(Discard::Malformed);
        }
        Ok(control)
    }

    /// Writes the packet. It offers no echo function.
    pub fn encode(&self) -> [u8; LENGTH] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let micros = |interval: Duration| u32::try_from(interval.as_micros()).unwrap_or(u32::MAX).to_be_bytes();
        let mut bytes = [0; LENGTH];
        bytes[0] = VERSION << 5 | (self.diagnostic.0 & 0x1f);
        bytes[1] = self.state.bits() << 6
            | flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.demand, DEMAND);
        bytes[2] = self.multiplier;
        bytes[3] = LENGTH as u8;
        bytes[4..8].copy_from_slice(&self.my_discriminator.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.your_discriminator.to_be_bytes());
        bytes[12..16].copy_from_slice(&micros(self.desired_min_tx));
        bytes[16..20].copy_from_slice(&micros(self.required_min_rx));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Up`, from the examples of a capture of FRR's bfdd.
    const UP: [u8; LENGTH] = [
        0x20, 0xc0, 3, 24, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0, 4, 0x93, 0xe0, 0, 4, 0x93, 0xe0, 0, 0, 0,
        0,
    ];

    #[test]
    fn a_packet_is_read_and_written_alike() {
        let control = Control::parse(&UP).expect("valid");
        assert_eq!(control.state, State::Up);
        assert_eq!(
            (control.my_discriminator, control.your_discriminator),
            (0x1234_5678, 0x9abc_def0)
        );
        assert_eq!(control.desired_min_tx, Duration::from_millis(300));
        assert_eq!(control.encode(), UP);
    }

    #[test]
    fn what_the_rfc_wants_discarded_is() {
        let with = |at: usize, byte: u8| {
            let mut bytes = UP;
            bytes[at] = byte;
            Control::parse(&bytes)
        };
        for (at, byte) in [(0, 0x40), (2, 0), (3, 23), (3, 25), (1, 0xc1)] {
            assert_eq!(with(at, byte), Err(Discard::Malformed), "octet {at} {byte:#x}");
        }
        assert_eq!(with(1, 0xc4), Err(Discard::Authentication));
        assert_eq!(Control::parse(&UP[..23]), Err(Discard::Malformed));
        let mut nameless = UP;
        nameless[4..8].fill(0);
        assert_eq!(Control::parse(&nameless), Err(Discard::Malformed));
        let mut unheard = UP;
        unheard[8..12].fill(0);
        assert_eq!(Control::parse(&unheard), Err(Discard::Malformed));
        unheard[1] = 0x40;
        assert!(Control::parse(&unheard).is_ok(), "the first packet of a neighbour");
        assert!(
            Control::parse(&[&UP[..], &[0; 8]].concat()).is_ok(),
            "padding is ignored"
        );
    }
}
