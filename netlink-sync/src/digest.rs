//! A digest of a set: equal sets have equal digests, in whatever order their elements come.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Serialize, Serializer};

/// Sum of the hashes of all elements. Comparable within one process only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Adds an element.
    pub(crate) fn add(&mut self, element: &impl Hash) {
        let mut hasher = DefaultHasher::new();
        element.hash(&mut hasher);
        self.0 = self.0.wrapping_add(hasher.finish());
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(elements: &[u32]) -> Digest {
        let mut digest = Digest::default();
        elements.iter().for_each(|e| digest.add(e));
        digest
    }

    #[test]
    fn order_does_not_matter_and_each_element_does() {
        assert_eq!(of(&[1, 2, 3]), of(&[3, 1, 2]));
        assert_ne!(of(&[1, 2]), of(&[1, 2, 2]));
        assert_ne!(of(&[1, 2]), of(&[1, 3]));
        assert_eq!(of(&[]).to_string(), "0000000000000000");
    }
}
