//! API keys: `neo_sk_<env>_<secret>`, of which only the SHA-256 is kept (contract, section 2).

use aws_lc_rs::digest;

use crate::error::{Error, Result};

/// What every key begins with.
pub const PREFIX: &str = "neo_sk_";
const SECRET_CHARACTERS: usize = 43;
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The environment that a key names; `None` for text that is no key.
pub fn environment_of(key: &str) -> Option<&str> {
    let (environment, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let fits = is_environment(environment)
        && secret.len() >= 8
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then_some(environment)
}

/// Whether text can name an environment: 1 to 16 of a-z and 0-9.
pub fn is_environment(text: &str) -> bool {
    (1..=16).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// A new key: 43 characters made from 256 random bits.
///
/// # Errors
/// The system has no random bytes.
pub fn generate(environment: &str) -> Result<String> {
    Ok(format!("{PREFIX}{environment}_{}", random_secret()?))
}

/// 43 letters and digits made from 256 random bits, which nobody guesses.
///
/// # Errors
/// The system has no random bytes.
pub fn random_secret() -> Result<String> {
    let mut number = [0; 32];
    getrandom::fill(&mut number).map_err(|error| Error::Internal(error.into()))?;
    let mut secret = String::with_capacity(SECRET_CHARACTERS);
    for _ in 0..SECRET_CHARACTERS {
        secret.push(char::from(ALPHABET[divide(&mut number, 62)]));
    }
    Ok(secret)
}

/// Divides a big-endian number in place; the remainder. 62^43 > 2^256, so 43 digits hold all of it.
fn divide(number: &mut [u8; 32], divisor: usize) -> usize {
    let mut remainder = 0;
    for byte in number {
        let part = remainder * 256 + usize::from(*byte);
        *byte = u8::try_from(part / divisor).unwrap_or(u8::MAX);
        remainder = part % divisor;
    }
    remainder
}

/// What is kept of a key.
pub fn sha256(key: &str) -> [u8; 32] {
    hash(key.as_bytes())
}

/// SHA-256 of any bytes.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

/// What is shown of a key: its last four characters.
pub fn hint(key: &str) -> String {
    key.get(key.len().saturating_sub(4)..)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_43_letters_and_digits_and_names_its_environment() {
        let key = generate("dev").unwrap();
        let secret = key.strip_prefix("neo_sk_dev_").unwrap();
        assert_eq!(secret.len(), 43);
        assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(environment_of(&key), Some("dev"));
        assert_ne!(generate("dev").unwrap(), key);
    }

    #[test]
    fn text_of_another_form_is_no_key() {
        for text in [
            "neo_sk_dev_1234567",
            "neo_sk_DEV_12345678",
            "neo_sk__12345678",
            "neo_sk_dev_1234567!",
            "neo_sk_dev",
            "neo_pk_dev_12345678",
            "neo_sk_abcdefghijklmnopq_12345678",
        ] {
            assert_eq!(environment_of(text), None, "{text}");
        }
    }
}
