//! Parses a JSON Web Token strictly. It verifies nothing: signature and claims are checked
//! elsewhere.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::reason::Reason;
use crate::error::Result;

/// The longest token that is parsed, in bytes.
const MAX_BYTES: usize = 16 * 1_024;
/// The signature algorithms that a header may name (RFC 7518 and 8037). `none` is not one of them.
const ALGORITHMS: [&str; 14] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES256K", "ES384", "ES512", "EdDSA",
];

/// The parts of an unverified token.
#[derive(Debug)]
pub struct Token<'a> {
    /// The whole token.
    pub text: &'a str,
    /// The signed part: header and claims, still encoded.
    pub signed: &'a str,
    /// The signature, still encoded.
    pub signature: &'a str,
    /// The header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Whether text has the three parts of a token.
    pub fn has_token_form(text: &str) -> bool {
        let parts: Vec<&str> = text.split('.').collect();
        parts.len() == 3
            && parts[..2].iter().all(|part| !part.is_empty())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    }

    /// Parses a token.
    ///
    /// # Errors
    /// `unauthorized`, `malformed`: the token is too long, is not base64url or JSON objects, has a
    /// duplicate name, has no signature algorithm, or has a `crit` header. A reader must understand
    /// every extension that `crit` names (RFC 7515), and this one understands none.
    pub fn parse(text: &'a str) -> Result<Self> {
        Self::try_parse(text).ok_or_else(|| Reason::Malformed.into())
    }

    fn try_parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_BYTES || !Self::has_token_form(text) {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let token = Self {
            text,
            signed,
            signature,
            header: object(header)?,
            claims: object(claims)?,
        };
        let has_algorithm = token
            .header_text("alg")
            .is_some_and(|alg| ALGORITHMS.contains(&alg));
        (has_algorithm && !token.header.contains_key("crit")).then_some(token)
    }

    /// A string of the header.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    /// The issuer claim, which selects the verifier.
    ///
    /// # Errors
    /// `unauthorized`: `missing_claim`, or `malformed` if the claim is not a string.
    pub fn issuer(&self) -> Result<&str> {
        self.text_claim("iss")
    }

    /// A required claim, as a string.
    ///
    /// # Errors
    /// `unauthorized`: `missing_claim`, or `malformed` if the claim is not a string.
    pub fn text_claim(&self, name: &str) -> Result<&str> {
        match self.claims.get(name) {
            None | Some(Value::Null) => Err(Reason::MissingClaim.into()),
            Some(Value::String(text)) if text.is_empty() => Err(Reason::MissingClaim.into()),
            Some(Value::String(text)) => Ok(text),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(Reason::Malformed.into())
            }
        }
    }

    /// An optional claim that is a time, in Unix seconds.
    ///
    /// # Errors
    /// `unauthorized`, `malformed`, if the claim is not a number.
    pub fn time_claim(&self, name: &str) -> Result<Option<i64>> {
        match self.claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => {
                // RFC 7519 allows a fraction. `as` saturates a number that does not fit an i64.
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the time has a resolution of one second"
                )]
                let time = number
                    .as_i64()
                    .or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64));
                time.map(Some).ok_or_else(|| Reason::Malformed.into())
            }
            Some(Value::String(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                Err(Reason::Malformed.into())
            }
        }
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    strict_object(&bytes)
}

/// Parses a JSON object without duplicate names at any depth. `None` for anything else.
fn strict_object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = WithoutDuplicates.deserialize(&mut json).ok()?;
    json.end().ok()?;
    match value {
        Value::Object(object) => Some(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    }
}

/// Deserializes JSON without duplicate names. Of two claims with one name, two parsers may use
/// different ones.
#[derive(Clone, Copy)]
struct WithoutDuplicates;

impl<'de> DeserializeSeed<'de> for WithoutDuplicates {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for WithoutDuplicates {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate names")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Self)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate name"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_parsed_unless_it_has_a_duplicate_name() {
        let text = r#"{"a": [1, -2, 2.5, null, true, "x"], "b": {"a": {}}}"#;
        assert_eq!(
            strict_object(text.as_bytes()).map(Value::Object),
            serde_json::from_str(text).ok()
        );
        for bad in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"b": {"a": 1, "a": 2}}"#,
            r#"{"b": [{"a": 1, "\u0061": 2}]}"#,
            r#"{"a": 1} x"#,
            r#"[{"a": 1}]"#,
            "",
        ] {
            assert_eq!(strict_object(bad.as_bytes()), None, "{bad}");
        }
    }
}
