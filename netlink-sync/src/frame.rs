//! Framing of netlink datagrams: the 16-byte header walk, acknowledgements and serialisation.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Attribute of an extended acknowledgement that holds the kernel's own words (`NLMSGERR_ATTR_MSG`).
const ERROR_MESSAGE: u16 = 1;
/// The acknowledgement carries attributes behind the repeated header (`NLM_F_ACK_TLVS`).
const ACK_HAS_ATTRIBUTES: u16 = 0x200;

/// One netlink message in a datagram, not yet parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// `nlmsg_type`
    pub(crate) kind: u16,
    /// `nlmsg_flags`
    pub(crate) flags: u16,
    /// `nlmsg_seq`
    pub(crate) sequence: u32,
    /// `nlmsg_pid`: the socket whose request caused the message.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

/// The datagram ends in the middle of a message: it was longer than the buffer it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truncated;

/// Walks the messages of one datagram.
pub(crate) struct Frames<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let datagram = std::mem::take(&mut self.0);
        let Some((header, _)) = datagram.split_first_chunk::<HEADER>() else {
            return Some(Err(Truncated));
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(body) = datagram.get(HEADER..length) else {
            return Some(Err(Truncated));
        };
        self.0 = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Frame {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            body,
        }))
    }
}

/// The kernel's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nack {
    /// Positive errno.
    pub(crate) errno: i32,
    /// The kernel's own words, when it had any.
    pub(crate) words: Option<String>,
}

impl Nack {
    /// Errno and words of an `NLMSG_ERROR` or `NLMSG_DONE` body; `Ok` for an acknowledgement.
    pub(crate) fn parse(frame: &Frame<'_>) -> Result<(), Self> {
        let errno = frame
            .body
            .first_chunk::<4>()
            .map_or(0, |b| i32::from_ne_bytes(*b))
            .saturating_neg();
        if errno == 0 {
            return Ok(());
        }
        let attributes = frame
            .body
            .get(4 + HEADER..)
            .filter(|_| frame.flags & ACK_HAS_ATTRIBUTES != 0);
        Err(Self {
            errno,
            words: attributes.and_then(words),
        })
    }
}

impl std::fmt::Display for Nack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        self.words.as_ref().map_or(Ok(()), |words| write!(f, ": {words}"))
    }
}

impl From<Nack> for io::Error {
    fn from(nack: Nack) -> Self {
        let error = Self::from_raw_os_error(nack.errno);
        match nack.words {
            Some(_) => Self::new(error.kind(), nack.to_string()),
            None => error,
        }
    }
}

fn words(mut attributes: &[u8]) -> Option<String> {
    while let Some(([l0, l1, k0, k1], _)) = attributes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([*k0, *k1]) == ERROR_MESSAGE {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Appends a request to `buffer`.
pub(crate) fn push(buffer: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let start = buffer.len();
    buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
    if let Some(room) = buffer.get_mut(start..) {
        message.serialize(room);
    }
}

/// Appends a request of a type that the netlink crate does not know.
pub(crate) fn push_raw(buffer: &mut Vec<u8>, kind: u16, body: &[u8], flags: u16, sequence: u32) {
    let length = HEADER + body.len();
    buffer.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend(flags.to_ne_bytes());
    buffer.extend(sequence.to_ne_bytes());
    buffer.extend([0; 4]);
    buffer.extend(body);
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkMessage;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_messages_are_walked_and_a_cut_one_is_told() {
        let mut datagram = Vec::new();
        push(
            &mut datagram,
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            5,
            7,
        );
        push(
            &mut datagram,
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            5,
            8,
        );
        let sequences: Vec<_> = Frames(&datagram).map(|f| f.map(|f| f.sequence)).collect();
        assert_eq!(sequences, [Ok(7), Ok(8)]);
        let cut = datagram.len() - 3;
        assert_eq!(Frames(&datagram[..cut]).last(), Some(Err(Truncated)));
    }

    #[test]
    fn an_extended_acknowledgement_gives_the_kernels_words() {
        let mut body = (-17_i32).to_ne_bytes().to_vec();
        body.extend([0; HEADER]);
        body.extend(8_u16.to_ne_bytes());
        body.extend(ERROR_MESSAGE.to_ne_bytes());
        body.extend(*b"no\0\0");
        let frame = Frame {
            kind: 2,
            flags: ACK_HAS_ATTRIBUTES,
            sequence: 1,
            port: 1,
            body: &body,
        };
        let nack = Nack::parse(&frame).expect_err("EEXIST");
        assert_eq!((nack.errno, nack.words.as_deref()), (17, Some("no")));
        assert_eq!(
            Nack::parse(&Frame {
                body: &[0; 20],
                ..frame
            }),
            Ok(())
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_walk_panic_or_run_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for frame in Frames(&bytes).flatten() {
                let _ = Nack::parse(&frame);
            }
        }
    }
}
