//! The format of an API key: `neo_sk_<env>_<secret>` (contract, section 2).

/// The prefix of every key.
pub const PREFIX: &str = "neo_sk_";

/// Returns the environment that a key names, or `None` if the text is not a key.
pub fn environment_of(key: &str) -> Option<&str> {
    let (environment, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let is_key = is_environment(environment)
        && secret.len() >= 8
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_key.then_some(environment)
}

/// Whether a text is a valid environment name: 1 to 16 characters of a-z and 0-9.
pub fn is_environment(text: &str) -> bool {
    (1..=16).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// The part of a key that may be shown: its last four characters.
pub fn hint(key: &str) -> String {
    key.get(key.len().saturating_sub(4)..)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_any_other_format_is_not_a_key() {
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
