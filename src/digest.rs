//! SHA-256, for secrets and bodies of which only the digest is stored.

use aws_lc_rs::digest;

/// Returns the SHA-256 of bytes or text.
pub fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes.as_ref()).as_ref());
    sum
}
