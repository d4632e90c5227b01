//! A token in three parts, read strictly before anybody believes a word of it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::reason::Reason;
use crate::error::Result;

/// Longer text is refused before anything in it is read, in bytes.
const LONGEST: usize = 16 * 1_024;
/// The signature algorithms that a header can name (RFC 7518 and 8037); `none` is none.
const ALGORITHMS: [&str; 14] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES256K", "ES384", "ES512", "EdDSA",
];

/// A token's parts; nothing of it is proven.
#[derive(Debug)]
pub struct Token<'a> {
    /// The whole of it.
    pub text: &'a str,
    /// What the signature is over.
    pub signed: &'a str,
    /// The last part, as it came.
    pub signature: &'a str,
    /// The header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Whether text has the three parts of a token.
    pub fn is_like(text: &str) -> bool {
        let parts: Vec<&str> = text.split('.').collect();
        parts.len() == 3
            && parts[..2].iter().all(|part| !part.is_empty())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// `unauthorized`, `malformed`: too long, no base64url, no JSON objects, a name said twice, no signature
    /// algorithm, or a `crit` header (RFC 7515: what it names must be understood, and none of it is).
    pub fn read(text: &'a str) -> Result<Self> {
        Self::parse(text).ok_or_else(|| Reason::Malformed.into())
    }

    fn parse(text: &'a str) -> Option<Self> {
        if text.len() > LONGEST || !Self::is_like(text) {
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
        let names_an_algorithm = token
            .header_text("alg")
            .is_some_and(|alg| ALGORITHMS.contains(&alg));
        (names_an_algorithm && !token.header.contains_key("crit")).then_some(token)
    }

    /// A text of the header.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    /// Who says to have issued it: that alone decides who checks it.
    ///
    /// # Errors
    /// `unauthorized`: `missing_claim`, or `malformed` when it is no text.
    pub fn issuer(&self) -> Result<&str> {
        self.text_claim("iss")
    }

    /// A claim that must be there, as text.
    ///
    /// # Errors
    /// `unauthorized`: `missing_claim`, or `malformed` when it is no text.
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

    /// A claim that is a time, in Unix seconds; `None` where it is not there.
    ///
    /// # Errors
    /// `unauthorized`, `malformed`, when it is no number.
    pub fn time_claim(&self, name: &str) -> Result<Option<i64>> {
        match self.claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => {
                // RFC 7519 lets a time have a fraction; `as` keeps what no i64 holds at its ends.
                #[expect(clippy::cast_possible_truncation, reason = "whole seconds are meant")]
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

/// Reads a JSON object in which no name is said twice, at any depth; `None` for anything else.
pub fn strict_object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut json).ok()?;
    json.end().ok()?;
    match value {
        Value::Object(object) => Some(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    }
}

/// JSON whose objects say nothing twice: of two claims of one name, two readers may believe different ones.
#[derive(Clone, Copy)]
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without a name said twice")
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
                return Err(A::Error::custom("a name is said twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_it_is_unless_it_says_a_name_twice() {
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
