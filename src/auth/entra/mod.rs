//! Microsoft Entra ID: whether an access token is one of the authority's, for this server, and whom it names
//! (contract, section 2, Entra tokens).

mod authority;
mod file;
mod keys;

use std::future::Future;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use serde_json::Value;

use self::authority::{Authority, Want};
use self::file::KeysFile;
use super::jwt::Token;
use super::reason::Reason;
use crate::error::Error;
use crate::model::clock::Millis;
use crate::model::names::M365TenantId;
use crate::model::words::Role;
use crate::outbound;

/// Microsoft's own authority.
pub const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
/// What stands for the token's own `tid` in an issuer.
const PLACEHOLDER: &str = "{tenantid}";
/// The issuer of tokens of version 1.0.
const ISSUER_V1: &str = "https://sts.windows.net/{tenantid}/";
/// How far the clocks of both sides may be apart, in seconds.
const LEEWAY_S: i64 = 60;
/// The longest name and address that are kept, in characters.
const LONGEST_NAME: usize = 200;
const LONGEST_EMAIL: usize = 320;

/// Whose tokens count.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The audiences that tokens for this server carry; one at least.
    pub audiences: Vec<String>,
    /// The authority's base URL.
    pub authority: String,
    /// A key set on disk, in place of the authority's documents.
    pub keys: Option<PathBuf>,
}

/// Reads the address of an authority.
///
/// # Errors
/// The rule that it breaks, as a phrase.
pub fn authority(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim())
        .ok()
        .filter(Url::has_host)
        .ok_or("must be an https URL, such as https://login.microsoftonline.com")?;
    let is_safe =
        url.scheme() == "https" || (url.scheme() == "http" && outbound::is_loopback(&url));
    if !is_safe {
        return Err("must be an https URL; http is for this machine's own addresses");
    }
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_plain {
        return Err("must have no user, password, query or fragment");
    }
    Ok(url)
}

/// Whom a token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The directory: `tid`.
    pub directory: M365TenantId,
    /// The person, or the program: `oid`.
    pub id: String,
    /// The name, if the token has one.
    pub name: Option<String>,
    /// The address, if the token has one.
    pub email: Option<String>,
    /// The highest of the token's roles that this server knows.
    pub role: Option<Role>,
}

/// Issuers and keys.
#[derive(Debug, Default)]
struct Discovery {
    issuers: Vec<String>,
    keys: keys::Keys,
    /// Nothing is missing that could still come.
    is_complete: bool,
}

impl Discovery {
    fn of<'a>(
        documents: impl Iterator<Item = (&'a String, &'a keys::Keys)>,
        is_complete: bool,
    ) -> Self {
        let mut known = Self {
            is_complete,
            ..Self::default()
        };
        for (issuer, keys) in documents {
            known.issuers.push(issuer.clone());
            for (kid, keys) in keys {
                let all = known.keys.entry(kid.clone()).or_default();
                all.extend(keys.iter().cloned());
            }
        }
        known
    }
}

/// The issuer that a directory's tokens carry; nothing, if this is the issuer of another directory alone.
fn issuer_for(issuer: &str, tid: &str) -> Option<String> {
    if issuer.contains(PLACEHOLDER) {
        return Some(issuer.replace(PLACEHOLDER, tid));
    }
    let names_it = issuer.split('/').any(|segment| segment == tid);
    names_it.then(|| issuer.to_owned())
}

#[derive(Debug)]
enum Source {
    Authority(Authority),
    File(KeysFile),
}

/// Why a token is not believed, or not yet.
#[derive(Debug)]
enum Unproven {
    Refused(Error),
    Wants(Want),
}

impl From<Error> for Unproven {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Reason> for Unproven {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

/// What came of a look at a token.
pub enum Checked<F> {
    /// It names somebody.
    Identity(Identity),
    /// Keys were asked for; it can be looked at again when this resolves.
    Waits(F),
}

/// Checks tokens of one authority.
#[derive(Debug)]
pub struct Entra {
    audiences: Vec<String>,
    source: Source,
}

impl Entra {
    /// Reads the keys' file, if there is one; the authority is not asked yet.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let base =
            authority(&settings.authority).map_err(|rule| format!("--entra-authority {rule}"))?;
        let source = match &settings.keys {
            None => Source::Authority(Authority::new(&base)?),
            Some(path) => Source::File(Self::open_file(path, &base)?),
        };
        Ok(Self {
            audiences: settings.audiences.clone(),
            source,
        })
    }

    fn open_file(path: &Path, base: &Url) -> Result<KeysFile, String> {
        let base = base.as_str().trim_end_matches('/');
        let issuers = vec![format!("{base}/{PLACEHOLDER}/v2.0"), ISSUER_V1.to_owned()];
        KeysFile::open(path, issuers)
    }

    /// Has the authority's documents loaded, so that the first token need not wait for them.
    pub fn prepare(&self, now: Millis) {
        match &self.source {
            Source::Authority(authority) => {
                drop(authority.ask(Want::Document, &authority.known(), now));
            }
            Source::File(_) => {}
        }
    }

    /// Checks a token by what is known now, and has what is missing asked for where it is time to.
    ///
    /// # Errors
    /// `unauthorized` with the contract's reason.
    pub fn check(
        &self,
        token: &Token<'_>,
        now: Millis,
    ) -> Result<Checked<impl Future<Output = ()> + use<>>, Error> {
        let known = match &self.source {
            Source::Authority(authority) => authority.known(),
            Source::File(file) => file.known(now),
        };
        let outcome = self.identity(&known, token, now.div_euclid(1_000));
        match (outcome, &self.source) {
            (Ok(identity), Source::Authority(authority)) => {
                authority.freshen(&known, now);
                Ok(Checked::Identity(identity))
            }
            (Ok(identity), Source::File(_)) => Ok(Checked::Identity(identity)),
            (Err(Unproven::Refused(error)), _) => Err(error),
            (Err(Unproven::Wants(want)), Source::Authority(authority)) => authority
                .ask(want, &known, now)
                .map(Checked::Waits)
                .ok_or_else(|| Reason::UnknownKey.into()),
            (Err(Unproven::Wants(_)), Source::File(_)) => Err(Reason::UnknownKey.into()),
        }
    }

    fn identity(
        &self,
        known: &Discovery,
        token: &Token<'_>,
        now_s: i64,
    ) -> Result<Identity, Unproven> {
        let (issuer, tid) = (token.issuer()?, token.text_claim("tid")?);
        let directory = M365TenantId::parse(tid).ok_or(Reason::Malformed)?;
        let is_ours = |known: &String| issuer_for(known, tid).is_some_and(|known| known == issuer);
        if !known.issuers.iter().any(is_ours) {
            return Err(if known.is_complete {
                Reason::WrongIssuer.into()
            } else {
                Unproven::Wants(Want::Document)
            });
        }
        check_signature(known, token, tid)?;

        let (exp, nbf) = (token.time_claim("exp")?, token.time_claim("nbf")?);
        let (Some(exp), Some(nbf)) = (exp, nbf) else {
            return Err(Reason::MissingClaim.into());
        };
        let id = token.text_claim("oid")?;
        // The form of a directory's id is that of a person's; ids of local sign-in have another.
        M365TenantId::parse(id).ok_or(Reason::Malformed)?;
        match token.claims.get("aud") {
            None | Some(Value::Null) => return Err(Reason::MissingClaim.into()),
            Some(Value::String(audience)) if self.audiences.contains(audience) => {}
            Some(_) => return Err(Reason::WrongAudience.into()),
        }
        if exp.saturating_add(LEEWAY_S) <= now_s {
            return Err(Reason::Expired.into());
        }
        let begins = token.time_claim("iat")?.map_or(nbf, |iat| iat.max(nbf));
        if begins.saturating_sub(LEEWAY_S) > now_s {
            return Err(Reason::NotYetValid.into());
        }
        let role = highest_role(token);
        let of_a_person = token.claims.get("idtyp").and_then(Value::as_str) != Some("app")
            && has_text(token, "scp");
        if !of_a_person && role.is_none() {
            return Err(Reason::MissingClaim.into());
        }
        Ok(Identity {
            directory,
            id: id.to_owned(),
            name: kept_text(token, "name", LONGEST_NAME),
            email: ["email", "preferred_username", "upn"]
                .iter()
                .filter_map(|name| kept_text(token, name, LONGEST_EMAIL))
                .find(|text| text.contains('@')),
            role,
        })
    }
}

fn check_signature(known: &Discovery, token: &Token<'_>, tid: &str) -> Result<(), Unproven> {
    // The one algorithm is this server's choice; a header that names another cannot have it used.
    let is_access_token = token.header.get("typ").is_none_or(|kind| {
        let kind = kind.as_str().unwrap_or_default();
        kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case("at+jwt")
    });
    if token.header_text("alg") != Some("RS256") || !is_access_token {
        return Err(Reason::BadSignature.into());
    }
    // Only the `kid` is looked up: keys and addresses of keys in a header are an offer to be fooled.
    let Some(kid) = token.header_text("kid") else {
        return Err(Reason::UnknownKey.into());
    };
    let Some(keys) = known.keys.get(kid) else {
        return Err(Unproven::Wants(Want::Key));
    };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(token.signature) else {
        return Err(Reason::BadSignature.into());
    };
    let signer = keys.iter().find(|key| key.signed(token.signed, &signature));
    match signer {
        None => Err(Reason::BadSignature.into()),
        Some(key) if key.is_for(tid) => Ok(()),
        Some(_) => Err(Reason::WrongIssuer.into()),
    }
}

fn has_text(token: &Token<'_>, name: &str) -> bool {
    let text = token.claims.get(name).and_then(Value::as_str);
    text.is_some_and(|text| !text.trim().is_empty())
}

/// A text for people: trimmed, cut, and left out where it could not be stored or shown.
fn kept_text(token: &Token<'_>, name: &str, longest: usize) -> Option<String> {
    let text = token.claims.get(name)?.as_str()?.trim();
    let fits = !text.is_empty() && !text.contains('\0');
    fits.then(|| text.chars().take(longest).collect())
}

fn highest_role(token: &Token<'_>) -> Option<Role> {
    let roles = token.claims.get("roles")?.as_array()?;
    roles
        .iter()
        .filter_map(Value::as_str)
        .filter_map(role_of)
        .max()
}

/// As app roles are named in Entra.
fn role_of(word: &str) -> Option<Role> {
    Some(match word {
        "Admin" => Role::Admin,
        "User" => Role::User,
        "Viewer" => Role::Viewer,
        _ => return None,
    })
}
