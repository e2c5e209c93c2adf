//! What a socket still has to send: messages as they were encoded, shared with whoever else sends them, never copied.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Most pieces that one write takes.
const PIECES: usize = 64;

/// Bytes in order, in the pieces in which they came.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Unsent {
    /// Adds bytes at the end.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.length += bytes.len();
            self.pieces.push_back(bytes);
        }
    }

    /// Bytes that wait.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// True if nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The first of it, for a vectored write.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        let pieces = self.pieces.iter().take(PIECES);
        pieces.map(|piece| IoSlice::new(piece)).collect()
    }

    /// So many bytes have been written.
    pub(super) fn advance(&mut self, mut written: usize) {
        self.length = self.length.saturating_sub(written);
        while let Some(first) = self.pieces.front_mut() {
            if first.len() > written {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.pieces.pop_front();
        }
    }

    /// The pieces that are left.
    pub(super) fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        self.pieces.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_any_steps_comes_out_once_and_in_order() {
        let pieces = [&b"one"[..], b"", b"three", b"f"];
        let whole = pieces.concat();
        for step in 1..=whole.len() {
            let mut unsent = Unsent::default();
            pieces
                .iter()
                .for_each(|piece| unsent.push(Bytes::copy_from_slice(piece)));
            let mut written: Vec<u8> = Vec::new();
            while !unsent.is_empty() {
                let offered: Vec<u8> = unsent.slices().iter().flat_map(|slice| slice.iter().copied()).collect();
                assert_eq!(offered, whole[written.len()..]);
                let taken = step.min(unsent.len());
                written.extend(&offered[..taken]);
                unsent.advance(taken);
            }
            assert_eq!(written, whole);
            assert_eq!(unsent.slices().len(), 0);
        }
    }

    #[test]
    fn a_write_takes_a_bounded_number_of_pieces() {
        let mut unsent = Unsent::default();
        (0..2 * PIECES).for_each(|_| unsent.push(Bytes::from_static(b"x")));
        assert_eq!((unsent.slices().len(), unsent.len()), (PIECES, 2 * PIECES));
        unsent.advance(PIECES);
        assert_eq!(unsent.into_pieces().count(), PIECES);
    }
}
