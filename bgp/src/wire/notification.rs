//! NOTIFICATION: codes, subcodes, and the texts that people read (RFC 4271 section 4.5, 4486, 6608, 8538, 9003).

use std::fmt;

use bytes::Bytes;
use rustbgpd_wire as library;

/// Error codes.
pub mod code {
    /// Message Header Error.
    pub const HEADER: u8 = 1;
    /// OPEN Message Error.
    pub const OPEN: u8 = 2;
    /// UPDATE Message Error.
    pub const UPDATE: u8 = 3;
    /// Hold Timer Expired.
    pub const HOLD_TIMER: u8 = 4;
    /// Finite State Machine Error.
    pub const FSM: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error (RFC 7313).
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send Hold Timer Expired (RFC 9687).
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of a message header error.
pub mod header {
    /// Bad Message Length.
    pub const BAD_LENGTH: u8 = super::library::notification::header_subcode::BAD_MESSAGE_LENGTH;
    /// Bad Message Type.
    pub const BAD_TYPE: u8 = super::library::notification::header_subcode::BAD_MESSAGE_TYPE;
}

/// Subcodes of an OPEN message error.
pub mod open_error {
    use super::library::notification::open_subcode as subcode;

    /// Bad Peer AS.
    pub const BAD_PEER_AS: u8 = subcode::BAD_PEER_AS;
    /// Bad BGP Identifier.
    pub const BAD_IDENTIFIER: u8 = subcode::BAD_BGP_IDENTIFIER;
    /// Unacceptable Hold Time.
    pub const HOLD_TIME: u8 = subcode::UNACCEPTABLE_HOLD_TIME;
    /// Unsupported Capability (RFC 5492).
    pub const CAPABILITY: u8 = subcode::UNSUPPORTED_CAPABILITY;
    /// Role Mismatch (RFC 9234).
    pub const ROLE: u8 = subcode::ROLE_MISMATCH;
}

/// Subcodes of a ROUTE-REFRESH message error (RFC 7313 section 5).
pub mod refresh {
    /// Invalid Message Length.
    pub const BAD_LENGTH: u8 = 1;
}

/// Subcodes of a state machine error (RFC 6608).
pub mod fsm {
    /// Unexpected message in OpenSent.
    pub const OPEN_SENT: u8 = 1;
    /// Unexpected message in OpenConfirm.
    pub const OPEN_CONFIRM: u8 = 2;
    /// Unexpected message in Established.
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of Cease (RFC 4486).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cease {
    /// Too many prefixes.
    MaxPrefixes,
    /// The operator ended the session.
    AdministrativeShutdown,
    /// The peer was removed from the configuration.
    PeerDeconfigured,
    /// The configuration of the session changed.
    ConfigurationChange,
    /// A connection that is not wanted.
    ConnectionRejected,
    /// The other of two connections is kept (RFC 4271 section 6.8).
    CollisionResolution,
    /// BFD says that the peer is not reached any more (RFC 9384).
    BfdDown,
}

/// Cease subcode that forbids to keep routes (RFC 8538 section 3); the real reason is in its data.
const HARD_RESET: u8 = 9;

impl Cease {
    const fn subcode(self) -> u8 {
        use library::notification::cease_subcode as subcode;
        match self {
            Self::MaxPrefixes => subcode::MAX_PREFIXES,
            Self::AdministrativeShutdown => subcode::ADMINISTRATIVE_SHUTDOWN,
            Self::PeerDeconfigured => subcode::PEER_DECONFIGURED,
            Self::ConfigurationChange => subcode::OTHER_CONFIGURATION_CHANGE,
            Self::ConnectionRejected => subcode::CONNECTION_REJECTED,
            Self::CollisionResolution => subcode::CONNECTION_COLLISION_RESOLUTION,
            Self::BfdDown => subcode::BFD_DOWN,
        }
    }
}

/// A NOTIFICATION, sent or received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Diagnostic data.
    pub data: Bytes,
}

impl Notification {
    /// Without data.
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self {
            code,
            subcode,
            data: Bytes::new(),
        }
    }

    /// A Cease.
    pub const fn cease(reason: Cease) -> Self {
        Self::new(code::CEASE, reason.subcode())
    }

    /// Administrative Shutdown with a text for the peer's operator (RFC 9003); what is beyond 255 octets is cut off.
    pub fn shutdown(communication: &str) -> Self {
        let shutdown = Self::cease(Cease::AdministrativeShutdown);
        if communication.is_empty() {
            return shutdown;
        }
        // The library stops at the 128 octets of RFC 8203.
        let text = &communication[..communication.floor_char_boundary(usize::from(u8::MAX))];
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        let mut data = vec![length];
        data.extend_from_slice(text.as_bytes());
        shutdown.with_data(data)
    }

    /// The same as a hard reset, so that a peer with which RFC 8538 is in use keeps no routes.
    #[must_use]
    pub fn into_hard_reset(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self::new(code::CEASE, HARD_RESET).with_data(data)
    }

    /// True if it forbids to keep routes.
    pub const fn is_hard_reset(&self) -> bool {
        self.code == code::CEASE && self.subcode == HARD_RESET
    }

    /// The same with diagnostic data.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Bytes>) -> Self {
        self.data = data.into();
        self
    }

    /// Encodes the whole message. Data that would not fit is cut off.
    pub fn encode(&self) -> Bytes {
        let longest = usize::from(super::MAX_MESSAGE) - super::HEADER - 2;
        super::encode_infallible(&library::Message::Notification(library::NotificationMessage::new(
            library::NotificationCode::from_u8(self.code),
            self.subcode,
            self.data.slice(..self.data.len().min(longest)),
        )))
    }
}

impl From<library::DecodeError> for Notification {
    fn from(error: library::DecodeError) -> Self {
        let (code, subcode, data) = error.to_notification();
        Self {
            code: code.as_u8(),
            subcode,
            data,
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_hard_reset()
            && let [code, subcode, ..] = self.data[..]
        {
            let inner = Self::new(code, subcode).with_data(self.data.slice(2..));
            // A hard reset in a hard reset says nothing more.
            if !inner.is_hard_reset() {
                return write!(f, "{}/{HARD_RESET} hard reset: {inner}", self.code);
            }
        }
        let code = library::NotificationCode::from_u8(self.code);
        write!(
            f,
            "{}/{} {}",
            self.code,
            self.subcode,
            library::notification::description(code, self.subcode)
        )?;
        let message = library::NotificationMessage::new(code, self.subcode, self.data.clone());
        match library::notification::extract_shutdown_communication(&message) {
            Ok(Some(text)) if !text.is_empty() => write!(f, ": {text:?}"),
            _ => Ok(()),
        }
    }
}
