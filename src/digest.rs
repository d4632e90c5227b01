//! SHA-256, for what is stored or compared without its text.

use aws_lc_rs::digest;

/// The SHA-256 of bytes or text.
pub fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes.as_ref()).as_ref());
    sum
}
