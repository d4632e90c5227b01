//! Names that clients choose: tenants, M365 tenants, bots, companies (contract, section 1, Ids).
//! [`super::company_id`] has the rules of a company's id.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::{company_id, directory};

/// A name that clients choose, with its format in words and as a pattern.
pub trait Name: Sized {
    /// The format as the rest of a sentence that begins with the field's name.
    const RULE: &'static str;
    /// The format as a regular expression (ECMA-262).
    const PATTERN: &'static str;

    /// Parses a name; `None` for text in another format.
    fn read(text: &str) -> Option<Self>;

    /// The reason if nothing new may have this name, as the rest of a sentence that begins with the
    /// field's name. What an older version stored keeps its name.
    fn refused(text: &str) -> Option<&'static str> {
        match Self::read(text) {
            Some(_) => None,
            None => Some(Self::RULE),
        }
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $read:path, $rule:expr, $pattern:expr $(, $refused:path)?;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name; `None` for text in another format.
            pub fn parse(text: &str) -> Option<Self> {
                $read(text).map(|name| Self(name.into()))
            }

            /// The name as it is stored and shown.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Name for $name {
            const RULE: &'static str = $rule;
            const PATTERN: &'static str = $pattern;

            fn read(text: &str) -> Option<Self> {
                Self::parse(text)
            }

            $(fn refused(text: &str) -> Option<&'static str> {
                $refused(text)
            })?
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }

            fn inline_schema() -> bool {
                true
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )*};
}

names! {
    /// A tenant (an MSP).
    ClientId: client_id, "must be 1 to 63 characters of a-z, 0-9 and '-', and must not start with '-'", "^[a-z0-9][a-z0-9-]{0,62}$";
    /// A Microsoft 365 tenant as a relay, a token or the database names it; in lower case, and a
    /// GUID has its dashes, so that comparisons ignore the spelling.
    M365TenantId: m365_tenant_id, "must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'", "^[A-Za-z0-9._-]{1,64}$";
    /// A bot; stored in lower case, so that comparisons ignore case.
    BotId: lower_case_id, "must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'", "^[A-Za-z0-9._-]{1,64}$";
    /// A session, as the client that opens it names its conversation.
    ExternalId: visible_text, "must be 1 to 255 visible characters", "^[!-~]{1,255}$";
    /// A client company of an MSP, as the MSP's PSA (ticket system) names it.
    CompanyId: company_id::normalized, company_id::RULE, company_id::PATTERN, company_id::refused;
}

fn client_id(text: &str) -> Option<String> {
    let is_valid = (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    is_valid.then(|| text.to_owned())
}

fn visible_text(text: &str) -> Option<String> {
    let is_valid = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_valid.then(|| text.to_owned())
}

fn has_id_format(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn lower_case_id(text: &str) -> Option<String> {
    has_id_format(text).then(|| text.to_ascii_lowercase())
}

fn m365_tenant_id(text: &str) -> Option<String> {
    // A GUID without dashes is the only other spelling that has the form of an id.
    let is_plain_guid = text.len() == 32;
    match is_plain_guid.then(|| directory::guid(text)).flatten() {
        Some(guid) => Some(guid),
        None => lower_case_id(text),
    }
}

/// An agent's number, unique on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct AgentId(pub i64);

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The database's number of a tenant: the first column of every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantNo(pub i64);

/// The database's row of an end company. No two companies ever have the same one, whereas a
/// [`CompanyId`] can name another company after a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompanyRow(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_of_m365_tenant_and_bot_ids_ignore_case() {
        assert_eq!(M365TenantId::parse("AbC-1"), M365TenantId::parse("abc-1"));
        assert_eq!(BotId::parse("AbC.1").unwrap().as_str(), "abc.1");
        assert_eq!(
            M365TenantId::parse("CA5CADE04CE54D0E9B1D0F0A51DECA5E"),
            M365TenantId::parse("ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e")
        );
    }

    #[test]
    fn names_in_another_format_are_refused() {
        let long = "a".repeat(64);
        for text in ["", "-a", "A", "a b", "ä", long.as_str()] {
            assert_eq!(ClientId::parse(text), None, "{text}");
        }
    }
}
