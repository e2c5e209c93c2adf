//! IPv4 header (RFC 791).

use crate::Drop;
use crate::bytes::within;

/// Options that make the sender choose the route: loose and strict source routing.
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// Checks the options of a header: each has the length it claims, and none of them routes (RFC 7126 sections 4.3, 4.4).
///
/// # Errors
/// [`Drop::Ipv4Options`].
pub fn check_options(options: &[u8]) -> Result<(), Drop> {
    let mut rest = options;
    while let [kind, after @ ..] = rest {
        rest = match kind {
            0 => return Ok(()),
            1 => after,
            kind if SOURCE_ROUTES.contains(kind) => return Err(Drop::Ipv4Options),
            _ => {
                let length = usize::from(after.first().copied().unwrap_or_default());
                if length < 2 || within(rest, 0..length).is_empty() {
                    return Err(Drop::Ipv4Options);
                }
                within(rest, length..rest.len())
            }
        };
    }
    Ok(())
}
