//! The Internet checksum: full sums (RFC 1071), incremental updates (RFC 1624) and pseudo-headers.
//!
//! A rewrite never sums a packet again. [`Delta`] is what a rewrite does to a checksum; a NAT connection computes one
//! for layer 3 and one for layer 4 when it is made, and applies them to each of its packets.

/// One's complement sum in progress. Pieces may be added in any order, but only the last one may have an odd length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed yet.
    pub const ZERO: Self = Self(0);

    /// IPv4 pseudo-header of TCP and UDP (RFC 9293 section 3.1, RFC 768); `length` is that of layer 4.
    #[inline]
    pub const fn pseudo_v4(source: u32, destination: u32, protocol: u8, length: u16) -> Self {
        Self(source as u64 + destination as u64 + protocol as u64 + length as u64)
    }

    /// IPv6 pseudo-header (RFC 8200 section 8.1); `length` is that of the upper layer.
    #[inline]
    pub const fn pseudo_v6(source: u128, destination: u128, protocol: u8, length: u32) -> Self {
        Self(words(source) + words(destination) + protocol as u64 + length as u64)
    }

    /// Adds a 16-bit word.
    #[inline]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds a 32-bit word.
    #[inline]
    pub const fn long(self, long: u32) -> Self {
        Self(self.0 + long as u64)
    }

    /// Adds bytes; an odd last byte counts as if a zero followed.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(self.0 + u64::from(u16::from_be(fold(native_sum(bytes)))))
    }

    /// The value for the checksum field, if that field was summed as zero.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !fold(self.0)
    }

    /// The same for UDP, where a computed zero is sent as 0xffff because zero says that there is no checksum (RFC 768).
    #[inline]
    #[must_use]
    pub const fn udp_checksum(self) -> u16 {
        never_zero(self.checksum())
    }

    /// True if the bytes summed, checksum field included, are as they were sent.
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }
}

/// The checksum of `bytes`, whose checksum field is zero.
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::ZERO.bytes(bytes).checksum()
}

/// True if the checksum inside `bytes` is right.
#[inline]
#[must_use]
pub fn is_valid(bytes: &[u8]) -> bool {
    // The sum of valid bytes is all ones in either byte order, so there is nothing to swap.
    fold(native_sum(bytes)) == 0xffff
}

/// [`is_valid`] for an IPv4 header without options: three loads and two additions with carry, where a loop over words
/// becomes vector code that takes longer to leave its registers than to sum.
#[inline(always)]
#[must_use]
pub fn is_valid_header(header: &[u8; 20]) -> bool {
    let (words, last) = header.as_chunks::<8>();
    let add = |sum: u64, word: u64| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u64::from(carry)
    };
    let sum = words.iter().fold(0, |sum, word| add(sum, u64::from_ne_bytes(*word)));
    let last = last.first_chunk().map_or(0, |word| u32::from_ne_bytes(*word));
    fold(add(sum, u64::from(last))) == 0xffff
}

/// The checksum `old_sum` after a 16-bit word under it changed (RFC 1624 equation 3).
#[inline]
#[must_use]
pub const fn incremental16(old_sum: u16, old_word: u16, new_word: u16) -> u16 {
    Delta::NONE.word(old_word, new_word).apply(old_sum)
}

/// The checksum `old_sum` after a 32-bit word under it, aligned to 16 bits, changed.
#[inline]
#[must_use]
pub const fn incremental32(old_sum: u16, old_word: u32, new_word: u32) -> u16 {
    Delta::NONE.word32(old_word, new_word).apply(old_sum)
}

/// What a set of changes under a checksum does to it: made once, applied to many packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[must_use]
pub struct Delta(u16);

impl Delta {
    /// No change.
    pub const NONE: Self = Self(0);

    /// Bytes that summed to `before` now sum to `after`.
    #[inline]
    pub const fn between(before: Sum, after: Sum) -> Self {
        Self::NONE.word(fold(before.0), fold(after.0))
    }

    /// And a 16-bit word changes.
    #[inline]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(fold(self.0 as u64 + !old as u64 + new as u64))
    }

    /// And a 32-bit word, such as an IPv4 address, changes.
    #[inline]
    pub const fn word32(self, old: u32, new: u32) -> Self {
        Self(fold(self.0 as u64 + !old as u64 + new as u64))
    }

    /// And a 128-bit word, such as an IPv6 address, changes.
    #[inline]
    pub const fn word128(self, old: u128, new: u128) -> Self {
        Self(fold(self.0 as u64 + words(!old) + words(new)))
    }

    /// And everything in `other` changes.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(fold(self.0 as u64 + other.0 as u64))
    }

    /// The way back: undoes these changes.
    #[inline]
    pub const fn reversed(self) -> Self {
        Self(!self.0)
    }

    /// The checksum after the changes.
    #[inline]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        let sum = !checksum as u32 + self.0 as u32;
        !((sum & 0xffff) + (sum >> 16)) as u16
    }

    /// The UDP checksum after the changes: "none" stays none, and a computed zero becomes 0xffff (RFC 768).
    #[inline]
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            0
        } else {
            never_zero(self.apply(checksum))
        }
    }
}

#[inline]
const fn never_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// One's complement sum of 16-bit words, zero only if all of them are. Adding a number to itself with its halves
/// swapped leaves their sum, end-around carry included, in the upper half.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_right(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_right(16)) >> 16) as u16
}

#[inline]
const fn words(value: u128) -> u64 {
    (value >> 96) as u32 as u64 + (value >> 64) as u32 as u64 + (value >> 32) as u32 as u64 + value as u32 as u64
}

/// Sum of the 32-bit words as this machine reads them; folded and brought to network order by the caller.
#[inline]
fn native_sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum: u64 = words.iter().map(|w| u64::from(u32::from_ne_bytes(*w))).sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    sum + u64::from(u32::from_ne_bytes(last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 section 4.1, as written there: 16 bits at a time.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn rfc_1071_example() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn rfc_1624_example_does_not_give_minus_zero() {
        assert_eq!(incremental16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn udp_without_checksum_stays_without_and_zero_is_sent_as_ones() {
        let delta = Delta::NONE.word(0x5555, 0x3285);
        assert_eq!(delta.apply_udp(0), 0);
        assert_eq!(delta.apply_udp(0xdd2f), 0xffff);
        assert_eq!(Sum::ZERO.word(0xffff).udp_checksum(), 0xffff);
    }

    proptest! {
        #[test]
        fn full_sum_is_that_of_rfc_1071(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(checksum(&bytes), plain(&bytes));
        }

        #[test]
        fn header_check_is_that_of_the_slice(mut header: [u8; 20], mend: bool) {
            if mend {
                header[10..12].fill(0);
                let right = checksum(&header);
                header[10..12].copy_from_slice(&right.to_be_bytes());
                prop_assert!(is_valid_header(&header));
            }
            prop_assert_eq!(is_valid_header(&header), plain(&header) == 0);
        }

        #[test]
        fn pieces_sum_like_the_whole(a in proptest::collection::vec(any::<[u8; 2]>(), 0..40), b in proptest::collection::vec(any::<u8>(), 0..80)) {
            let a = a.concat();
            let whole = [a.as_slice(), b.as_slice()].concat();
            prop_assert_eq!(Sum::ZERO.bytes(&a).bytes(&b).checksum(), plain(&whole));
        }

        #[test]
        fn delta_is_a_full_recompute(
            old in any::<[u16; 16]>(), a in any::<u16>(), b in any::<u32>(), c in any::<u128>(),
        ) {
            let serialize = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
            let before = serialize(&old);
            prop_assume!(before.iter().any(|b| *b != 0));
            let mut after = before.clone();
            after[0..2].copy_from_slice(&a.to_be_bytes());
            after[2..6].copy_from_slice(&b.to_be_bytes());
            after[6..22].copy_from_slice(&c.to_be_bytes());
            prop_assume!(after.iter().any(|b| *b != 0));
            let word = |at: usize| u16::from_be_bytes([before[at], before[at + 1]]);
            let first = Delta::NONE.word(word(0), a);
            let second = Delta::NONE
                .word32(u32::from_be_bytes(before[2..6].try_into().expect("four")), b)
                .word128(u128::from_be_bytes(before[6..22].try_into().expect("sixteen")), c);
            let delta = first.and(second);
            prop_assert_eq!(delta.apply(plain(&before)), plain(&after));
            prop_assert_eq!(delta.reversed().apply(plain(&after)), plain(&before));
            prop_assert_eq!(incremental16(plain(&before), word(0), a), first.apply(plain(&before)));
        }
    }
}
