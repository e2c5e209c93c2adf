//! RIB.
