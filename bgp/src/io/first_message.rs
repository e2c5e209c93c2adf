//! The first message of a stream, kept for those who watch the session: an OPEN, if the peer keeps to the protocol.

use bytes::Bytes;

/// Marker, length and type (RFC 4271 section 4.1).
const HEADER: usize = 19;
const LENGTH_AT: usize = 16;

/// Collects what it is fed until one message is whole.
#[derive(Debug, Default)]
pub(super) struct FirstMessage {
    bytes: Vec<u8>,
}

impl FirstMessage {
    /// Takes the next bytes of the stream.
    pub(super) fn feed(&mut self, stream: &[u8]) {
        let (missing, rest) = stream.split_at(self.missing(HEADER).min(stream.len()));
        self.bytes.extend_from_slice(missing);
        if let Some(whole) = self.whole() {
            let missing = self.missing(whole).min(rest.len());
            self.bytes.extend_from_slice(&rest[..missing]);
        }
    }

    /// The message, or what has come of it.
    pub(super) fn message(&self) -> Bytes {
        Bytes::copy_from_slice(&self.bytes)
    }

    fn missing(&self, length: usize) -> usize {
        length.saturating_sub(self.bytes.len())
    }

    fn whole(&self) -> Option<usize> {
        let length = self.bytes.get(LENGTH_AT..HEADER)?;
        Some(usize::from(u16::from_be_bytes([length[0], length[1]])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_keepalive;
    use crate::wire::{Cease, Notification};

    #[test]
    fn one_message_is_kept_however_it_comes() {
        let first = Notification::shutdown("a text").encode();
        let stream = [
            &first[..],
            &encode_keepalive(),
            &Notification::cease(Cease::MaxPrefixes).encode(),
        ]
        .concat();
        for size in 1..=stream.len() {
            let mut collected = FirstMessage::default();
            stream.chunks(size).for_each(|chunk| collected.feed(chunk));
            assert_eq!(collected.message(), first, "in pieces of {size}");
        }
    }
}
