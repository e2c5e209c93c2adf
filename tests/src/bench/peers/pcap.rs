//! Capture files, to be replayed.

use std::fs;
use std::io;
use std::path::Path;

/// Microseconds, little endian; format 2.4; no zone, no accuracy; longest frame; Ethernet.
const HEADER: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, 1];

/// Writes `frames` as a capture file.
pub(super) fn write(path: &Path, frames: &[Vec<u8>]) -> io::Result<()> {
    let mut bytes = Vec::new();
    let words = |bytes: &mut Vec<u8>, words: &[u32]| {
        words
            .iter()
            .for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    };
    words(&mut bytes, &HEADER);
    for frame in frames {
        let length = frame.len() as u32;
        words(&mut bytes, &[0, 0, length, length]);
        bytes.extend_from_slice(frame);
    }
    fs::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    #[test]
    fn each_frame_has_its_record() {
        let scratch = Scratch::new();
        let path = scratch.path().join("x.pcap");
        write(&path, &[vec![1; 60], vec![2; 3]]).expect("the folder is there");
        let bytes = fs::read(path).expect("just written");
        assert_eq!(bytes.len(), 24 + 16 + 60 + 16 + 3);
        assert_eq!(bytes[..8], [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(bytes[24 + 8..24 + 16], [60, 0, 0, 0, 60, 0, 0, 0]);
        assert_eq!(bytes[24 + 16 + 60 + 16..], [2, 2, 2]);
    }
}
