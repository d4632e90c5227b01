//! What a verifier expects of a token, beside what the token has: for the operator's log only.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Discovery, issuer_for};
use crate::auth::jwt::Token;
use crate::error::{Error, Refusal};
use crate::model::api_key;
use crate::model::directory;
use crate::model::names::M365TenantId;
use crate::text::shorten;

/// The longest claim that the log shows, in characters.
const MAX_SHOWN: usize = 200;

/// The form in which audiences are compared: the GUID of an application, with or without `api://`,
/// is one audience. Any other audience has to match exactly.
pub(super) fn audience(text: &str) -> String {
    let id = text.strip_prefix("api://").unwrap_or(text);
    // The other spellings of a GUID are no audience.
    let guid = (id.len() == 36).then(|| directory::guid(id)).flatten();
    guid.unwrap_or_else(|| text.to_owned())
}

/// A claim as the log shows it: cut, quoted and without API keys.
fn shown(claim: Option<&Value>) -> String {
    match claim {
        None => "none".to_owned(),
        Some(value) if value.to_string().contains(api_key::PREFIX) => "…".to_owned(),
        Some(value) => printable(&shorten(&value.to_string(), MAX_SHOWN)),
    }
}

/// JSON without the characters that it leaves as they are and some terminals obey.
fn printable(json: &str) -> String {
    let mut printable = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            printable.push(c);
        } else {
            printable.extend(c.escape_debug());
        }
    }
    printable
}

fn listed(texts: impl Iterator<Item = String>) -> String {
    let mut list = String::new();
    for text in texts {
        let separator = if list.is_empty() { "" } else { ", " };
        write!(list, "{separator}{text:?}").unwrap_or_default();
    }
    list
}

/// What a verifier with these audiences and issuers expects.
pub(super) fn expectation(
    token: &Token<'_>,
    audiences: &[String],
    discovery: &Discovery,
) -> String {
    let tid = token.claims.get("tid").and_then(Value::as_str);
    // Text that names no directory is left out, and so is an API key.
    let tid = tid.filter(|tid| M365TenantId::parse(tid).is_some());
    let tid = tid.filter(|tid| !tid.contains(api_key::PREFIX));
    let issuers = discovery.issuers.iter();
    let issuers = listed(issuers.filter_map(|issuer| match tid {
        Some(tid) => issuer_for(issuer, tid),
        None => Some(issuer.clone()),
    }));
    let issuers = match issuers.is_empty() {
        true => "none, because no document of the authority is loaded".to_owned(),
        false => issuers,
    };
    let audiences = listed(audiences.iter().cloned());
    format!("expected are the audience {audiences} and the issuer {issuers}")
}

/// The refusal of a token, with a sentence for the log that says what came and what was expected. It
/// never has the token or its signature.
pub fn explained(refusal: Refusal, token: &Token<'_>, expectation: &str) -> Error {
    let claim = |name: &str| shown(token.claims.get(name));
    let reason = refusal
        .details
        .as_ref()
        .and_then(|details| details.get("reason"));
    let sentence = format!(
        "{}: the token has the audience {}, the issuer {} and the tenant {}, and is valid from {} to {}; {expectation}",
        reason.and_then(Value::as_str).unwrap_or_default(),
        claim("aud"),
        claim("iss"),
        claim("tid"),
        claim("nbf"),
        claim("exp"),
    );
    refusal.logged(sentence).into()
}
