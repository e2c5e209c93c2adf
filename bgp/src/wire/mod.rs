//! Codec facade.
