//! Framing of the FPM stream: a four-byte header (version, type, length with the header, network order) before each batch
//! of netlink messages. Sans-IO: bytes in, frames out.

/// Length of the header.
const HEADER: usize = 4;
/// The one version there is.
const VERSION: u8 = 1;
/// What follows is netlink; 2 would be protocol buffers.
const NETLINK: u8 = 1;

/// Why the stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Another version, or no FPM at all.
    #[error("FPM version {0}, not 1: is it FRR that connects?")]
    Version(u8),
    /// Protocol buffers, or no FPM at all.
    #[error("FPM message type {0}, not 1 (netlink): start zebra with `-M dplane_fpm_nl`")]
    Type(u8),
    /// A frame shorter than its own header.
    #[error("an FPM frame of {0} bytes, shorter than its header")]
    Short(u16),
    /// A netlink message that is longer than its frame.
    #[error("a netlink message that is longer than its FPM frame")]
    Truncated,
}

/// Cuts the stream into frames.
#[derive(Debug, Default)]
pub(super) struct Stream {
    bytes: Vec<u8>,
    /// Bytes at the front that were given out.
    taken: usize,
}

impl Stream {
    /// Appends what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Netlink messages of the next frame that is whole.
    ///
    /// # Errors
    /// [`StreamError`]: where the next frame begins is not known any more.
    pub(super) fn next_frame(&mut self) -> Result<Option<&[u8]>, StreamError> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some(&[version, kind, l0, l1]) = rest.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        if version != VERSION {
            return Err(StreamError::Version(version));
        }
        if kind != NETLINK {
            return Err(StreamError::Type(kind));
        }
        let length = u16::from_be_bytes([l0, l1]);
        if usize::from(length) < HEADER {
            return Err(StreamError::Short(length));
        }
        let Some(frame) = rest.get(HEADER..usize::from(length)) else {
            return Ok(None);
        };
        self.taken += usize::from(length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every frame, and whether the stream ended in an error.
    fn frames(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Option<StreamError>) {
        let (mut stream, mut found) = (Stream::default(), Vec::new());
        for chunk in chunks {
            stream.push(chunk);
            loop {
                match stream.next_frame() {
                    Ok(Some(frame)) => found.push(frame.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    #[test]
    fn what_is_not_fpm_is_refused_with_its_reason() {
        assert_eq!(frames(&[b"GET / HTTP/1.1"]).1, Some(StreamError::Version(b'G')));
        assert_eq!(frames(&[&[1, 2, 0, 4]]).1, Some(StreamError::Type(2)));
        assert_eq!(frames(&[&[1, 1, 0, 3]]).1, Some(StreamError::Short(3)));
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_how_the_stream_is_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            cut in 1..50_usize,
        ) {
            let mut bytes = Vec::new();
            for body in &bodies {
                bytes.extend([VERSION, NETLINK]);
                bytes.extend(u16::try_from(body.len() + HEADER).expect("short").to_be_bytes());
                bytes.extend(body);
            }
            let chunks: Vec<_> = bytes.chunks(cut).collect();
            prop_assert_eq!(frames(&chunks), (bodies, None));
        }

        #[test]
        fn no_bytes_make_it_panic_or_give_more_than_it_got(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let given: usize = frames(&[&bytes]).0.iter().map(|f| f.len() + HEADER).sum();
            prop_assert!(given <= bytes.len());
        }
    }
}
