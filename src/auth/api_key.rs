//! Generates API keys (contract, section 2). Only the SHA-256 of a key is stored.

use crate::error::{Error, Result};
use crate::model::api_key::PREFIX;

const SECRET_CHARACTERS: usize = 43;
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Generates a key for an environment.
///
/// # Errors
/// `internal_error` if the system's random number generator fails.
pub fn generate(environment: &str) -> Result<String> {
    Ok(format!("{PREFIX}{environment}_{}", random_secret()?))
}

/// Generates a secret of 43 letters and digits from 256 random bits.
///
/// # Errors
/// `internal_error` if the system's random number generator fails.
pub fn random_secret() -> Result<String> {
    let mut number = [0; 32];
    getrandom::fill(&mut number).map_err(|error| Error::Internal(error.into()))?;
    let mut secret = String::with_capacity(SECRET_CHARACTERS);
    for _ in 0..SECRET_CHARACTERS {
        secret.push(char::from(ALPHABET[divide(&mut number, 62)]));
    }
    Ok(secret)
}

/// Divides a big-endian number in place and returns the remainder. 62^43 > 2^256, so 43 digits hold
/// every number of 256 bits.
fn divide(number: &mut [u8; 32], divisor: usize) -> usize {
    let mut remainder = 0;
    for byte in number {
        let part = remainder * 256 + usize::from(*byte);
        *byte = u8::try_from(part / divisor).unwrap_or(u8::MAX);
        remainder = part % divisor;
    }
    remainder
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::api_key::environment_of;

    #[test]
    fn a_new_key_has_43_letters_and_digits_and_names_its_environment() {
        let key = generate("dev").unwrap();
        let secret = key.strip_prefix("neo_sk_dev_").unwrap();
        assert_eq!(secret.len(), 43);
        assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(environment_of(&key), Some("dev"));
        assert_ne!(generate("dev").unwrap(), key);
    }
}
