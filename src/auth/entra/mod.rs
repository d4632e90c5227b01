//! Verifies Microsoft Entra ID access tokens (contract, section 2, Entra tokens).

mod authority;
mod expected;
mod file;
mod keys;

use std::future::Future;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;
use reqwest::Url;
use serde_json::Value;

use self::authority::{Authority, FetchReason};
pub use self::expected::explained;
use self::file::KeysFile;
use super::jwt::Token;
use super::reason::{NotAdmitted, Reason};
use crate::error::{Error, Refusal};
use crate::model::clock::Millis;
use crate::model::names::M365TenantId;
use crate::model::user_id;
use crate::model::words::Role;
use crate::outbound;

/// Microsoft's public authority.
pub const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
/// The placeholder for a token's `tid` in an issuer.
const PLACEHOLDER: &str = "{tenantid}";
/// The issuers of version 1.0 tokens: Microsoft's, and that of 21Vianet's cloud in China.
const ISSUERS_V1: [&str; 2] = [
    "https://sts.windows.net/{tenantid}/",
    "https://sts.chinacloudapi.cn/{tenantid}/",
];
/// The default of [`Settings::leeway_s`], as in Microsoft's own libraries.
pub const LEEWAY_S: i64 = 300;
/// The most that [`Settings::leeway_s`] can be.
pub const MAX_LEEWAY_S: i64 = 3_600;
/// The length to which a name is cut, in characters.
const MAX_NAME: usize = 200;
/// The length to which an e-mail address is cut, in characters.
const MAX_EMAIL: usize = 320;

/// The settings of an [`Entra`] verifier.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The accepted audiences; at least one.
    pub audiences: Vec<String>,
    /// The authority's base URL.
    pub authority: String,
    /// A key set on disk, instead of the authority's documents.
    pub keys: Option<PathBuf>,
    /// The accepted clock difference between the authority and this server, in seconds.
    pub leeway_s: i64,
    /// Which members of a directory are let in without being known.
    pub first_sight: FirstSight,
}

/// What happens at the first request of a directory's member whom nobody has added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FirstSight {
    /// The member becomes a user with the role USER.
    User,
    /// The member is refused, unless the token has an app role.
    None,
}

/// Parses the URL of an authority.
///
/// # Errors
/// The rule that the URL violates, as a phrase.
pub fn authority(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim())
        .ok()
        .filter(Url::has_host)
        .ok_or("must be an https URL, such as https://login.microsoftonline.com")?;
    let is_safe =
        url.scheme() == "https" || (url.scheme() == "http" && outbound::is_loopback(&url));
    if !is_safe {
        return Err("must be an https URL; http is allowed only for loopback addresses");
    }
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_plain {
        return Err("must not contain a user name, password, query or fragment");
    }
    Ok(url)
}

/// The user or program that a token identifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The directory: `tid`.
    pub directory: M365TenantId,
    /// The user or program: `oid`.
    pub id: String,
    /// The name, if the token has one.
    pub name: Option<String>,
    /// The e-mail address, if the token has one.
    pub email: Option<String>,
    /// The highest of the token's roles that are roles of this server.
    pub role: Option<Role>,
    /// Whether the user is a guest of the directory.
    pub is_guest: bool,
}

/// The authority's issuers and keys.
#[derive(Debug, Default)]
struct Discovery {
    issuers: Vec<String>,
    keys: keys::Keys,
    /// Whether all documents are loaded, so that no further issuer can follow.
    is_complete: bool,
}

impl Discovery {
    fn of<'a>(
        documents: impl Iterator<Item = (&'a String, &'a keys::Keys)>,
        is_complete: bool,
    ) -> Self {
        let mut discovery = Self {
            is_complete,
            ..Self::default()
        };
        for (issuer, keys) in documents {
            discovery.issuers.push(issuer.clone());
            for (kid, keys) in keys {
                let all = discovery.keys.entry(kid.clone()).or_default();
                all.extend(keys.iter().cloned());
            }
        }
        discovery
    }
}

/// The issuer of a directory's tokens. `None` if the issuer belongs to another directory.
fn issuer_for(issuer: &str, tid: &str) -> Option<String> {
    if issuer.contains(PLACEHOLDER) {
        return Some(issuer.replace(PLACEHOLDER, tid));
    }
    let names_directory = issuer.split('/').any(|segment| segment == tid);
    names_directory.then(|| issuer.to_owned())
}

#[derive(Debug)]
enum Source {
    Authority(Authority),
    File(KeysFile),
}

/// The reason for which a token is not accepted, or not yet.
#[derive(Debug)]
enum NotVerified {
    Refused(Error),
    /// The token may be valid after a fetch.
    NeedsFetch(FetchReason),
}

impl From<Error> for NotVerified {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Reason> for NotVerified {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

/// The result of one check of a token.
pub enum TokenCheck<F> {
    /// The token is valid.
    Identity(Identity),
    /// Keys are being fetched. The check can be repeated when the future resolves.
    Pending(F),
}

/// Verifies the tokens of one authority.
#[derive(Debug)]
pub struct Entra {
    audiences: Vec<String>,
    /// The audiences in the form in which they are compared.
    compared_audiences: Vec<String>,
    leeway_s: i64,
    source: Source,
    first_sight: FirstSight,
}

impl Entra {
    /// Creates a verifier. It loads the key file, if there is one, and fetches nothing yet.
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
        let audiences = settings.audiences.iter();
        Ok(Self {
            compared_audiences: audiences.map(|text| expected::audience(text)).collect(),
            audiences: settings.audiences.clone(),
            leeway_s: settings.leeway_s,
            source,
            first_sight: settings.first_sight,
        })
    }

    /// Why an unknown user is not recorded at first sight, and not let in without an app role.
    /// `None` if the server records and admits the user.
    pub fn bars_unknown(&self, identity: &Identity) -> Option<NotAdmitted> {
        match self.first_sight {
            FirstSight::User | FirstSight::None if identity.is_guest => Some(NotAdmitted::Guest),
            FirstSight::User => None,
            FirstSight::None => Some(NotAdmitted::NotRegistered),
        }
    }

    fn open_file(path: &Path, base: &Url) -> Result<KeysFile, String> {
        let base = base.as_str().trim_end_matches('/');
        let mut issuers = vec![format!("{base}/{PLACEHOLDER}/v2.0")];
        issuers.extend(ISSUERS_V1.map(str::to_owned));
        KeysFile::open(path, issuers)
    }

    /// The refusal of a valid token whose directory no tenant has.
    pub fn unknown_tenant(token: &Token<'_>) -> Error {
        let expectation = "expected is the entra_tenant_id of a tenant of this server";
        explained(Reason::UnknownTenant.into(), token, expectation)
    }

    /// The refusal of a token on a server without this sign-in.
    pub fn is_off(token: &Token<'_>) -> Error {
        let expectation = "expected is none, because no --entra-audience is given";
        explained(Reason::WrongIssuer.into(), token, expectation)
    }

    /// Starts to load the authority's documents, so that the first token need not wait.
    pub fn prepare(&self, now: Millis) {
        match &self.source {
            Source::Authority(authority) => {
                drop(authority.fetch(FetchReason::MissingDocument, &authority.discovery(), now));
            }
            Source::File(_) => {}
        }
    }

    /// Checks a token with the keys that are loaded now. If keys are missing, starts a fetch.
    ///
    /// # Errors
    /// `unauthorized` with the contract's reason.
    pub fn check(
        &self,
        token: &Token<'_>,
        now: Millis,
    ) -> Result<TokenCheck<impl Future<Output = ()> + use<>>, Error> {
        let discovery = match &self.source {
            Source::Authority(authority) => authority.discovery(),
            Source::File(file) => file.discovery(now),
        };
        let outcome = self.identity(&discovery, token, now.div_euclid(1_000));
        let refused = |refusal: Refusal| {
            let expectation = expected::expectation(token, &self.audiences, &discovery);
            explained(refusal, token, &expectation)
        };
        match (outcome, &self.source) {
            (Ok(identity), Source::Authority(authority)) => {
                authority.refresh(&discovery, now);
                Ok(TokenCheck::Identity(identity))
            }
            (Ok(identity), Source::File(_)) => Ok(TokenCheck::Identity(identity)),
            (Err(NotVerified::Refused(Error::Refused(refusal))), _) => Err(refused(*refusal)),
            (Err(NotVerified::Refused(error)), _) => Err(error),
            (Err(NotVerified::NeedsFetch(reason)), Source::Authority(authority)) => authority
                .fetch(reason, &discovery, now)
                .map(TokenCheck::Pending)
                .ok_or_else(|| refused(Reason::UnknownKey.into())),
            (Err(NotVerified::NeedsFetch(_)), Source::File(_)) => {
                Err(refused(Reason::UnknownKey.into()))
            }
        }
    }

    fn identity(
        &self,
        discovery: &Discovery,
        token: &Token<'_>,
        now_s: i64,
    ) -> Result<Identity, NotVerified> {
        let (issuer, tid) = (token.issuer()?, token.text_claim("tid")?);
        let directory = M365TenantId::parse(tid).ok_or(Reason::Malformed)?;
        let is_issuer =
            |known: &String| issuer_for(known, tid).is_some_and(|known| known == issuer);
        if !discovery.issuers.iter().any(is_issuer) {
            return Err(if discovery.is_complete {
                Reason::WrongIssuer.into()
            } else {
                NotVerified::NeedsFetch(FetchReason::MissingDocument)
            });
        }
        check_signature(discovery, token, tid)?;

        let (exp, nbf) = (token.time_claim("exp")?, token.time_claim("nbf")?);
        let (Some(exp), Some(nbf)) = (exp, nbf) else {
            return Err(Reason::MissingClaim.into());
        };
        let id = token.text_claim("oid")?;
        // A user's id has the form of a directory's id. Ids of local sign-ins have another form.
        M365TenantId::parse(id).ok_or(Reason::Malformed)?;
        match token.claims.get("aud") {
            None | Some(Value::Null) => return Err(Reason::MissingClaim.into()),
            Some(Value::String(audience))
                if (self.compared_audiences).contains(&expected::audience(audience)) => {}
            Some(_) => return Err(Reason::WrongAudience.into()),
        }
        if exp.saturating_add(self.leeway_s) <= now_s {
            return Err(Reason::Expired.into());
        }
        let valid_from = token.time_claim("iat")?.map_or(nbf, |iat| iat.max(nbf));
        if valid_from.saturating_sub(self.leeway_s) > now_s {
            return Err(Reason::NotYetValid.into());
        }
        // An older version may have stored such an id as a tenant's directory.
        if directory.no_organization().is_some() {
            return Err(Reason::UnknownTenant.into());
        }
        let role = highest_role(token);
        let is_user = token.claims.get("idtyp").and_then(Value::as_str) != Some("app")
            && has_text(token, "scp");
        if !is_user && role.is_none() {
            return Err(Reason::MissingClaim.into());
        }
        Ok(Identity {
            is_guest: is_guest(token, &directory),
            directory,
            id: user_id::normalized(id.to_owned()),
            name: display_text(token, "name", MAX_NAME),
            email: ["email", "preferred_username", "upn"]
                .iter()
                .filter_map(|name| display_text(token, name, MAX_EMAIL))
                .find(|text| text.contains('@')),
            role,
        })
    }
}

/// Whether the token is a guest's: the directory's authority says so, another identity provider has
/// signed the user in, or the user's name has the form of a guest's. A claim of an unknown form
/// counts as a guest's, because a guest who passes for a member could read too much.
fn is_guest(token: &Token<'_>, directory: &M365TenantId) -> bool {
    let claim = |name: &str| token.claims.get(name).filter(|value| !value.is_null());
    let is_account_of_guest = match claim("acct") {
        None => false,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !matches!(text.trim(), "" | "0"),
        Some(_) => true,
    };
    let is_from_elsewhere = match claim("idp") {
        None => false,
        Some(Value::String(provider)) => {
            let mut parts = provider.trim().split('/');
            !provider.trim().is_empty()
                && !parts.any(|part| M365TenantId::parse(part).as_ref() == Some(directory))
        }
        Some(_) => true,
    };
    let has_guest_name = ["upn", "preferred_username", "unique_name"]
        .iter()
        .any(|name| {
            let text = claim(name).and_then(Value::as_str).unwrap_or_default();
            text.to_ascii_uppercase().contains("#EXT#")
        });
    is_account_of_guest || is_from_elsewhere || has_guest_name
}

fn check_signature(discovery: &Discovery, token: &Token<'_>, tid: &str) -> Result<(), NotVerified> {
    // The server chooses the algorithm. A header cannot select another one.
    let is_access_token = token.header.get("typ").is_none_or(|kind| {
        let kind = kind.as_str().unwrap_or_default();
        kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case("at+jwt")
    });
    if token.header_text("alg") != Some("RS256") || !is_access_token {
        return Err(Reason::BadSignature.into());
    }
    // Only `kid` is used. A header's own keys, or URLs of keys, are an attacker's choice.
    let Some(kid) = token.header_text("kid") else {
        return Err(Reason::UnknownKey.into());
    };
    let Some(keys) = discovery.keys.get(kid) else {
        return Err(NotVerified::NeedsFetch(FetchReason::UnknownKey));
    };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(token.signature) else {
        return Err(Reason::BadSignature.into());
    };
    let signer = keys
        .iter()
        .find(|key| key.verifies(token.signed, &signature));
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

/// A claim to display: trimmed and cut. `None` if it is empty or has a NUL, which cannot be
/// displayed.
fn display_text(token: &Token<'_>, name: &str, max: usize) -> Option<String> {
    let text = token.claims.get(name)?.as_str()?.trim();
    let is_displayable = !text.is_empty() && !text.contains('\0');
    is_displayable.then(|| text.chars().take(max).collect())
}

fn highest_role(token: &Token<'_>) -> Option<Role> {
    let roles = token.claims.get("roles")?.as_array()?;
    roles
        .iter()
        .filter_map(Value::as_str)
        .filter_map(role_of)
        .max()
}

/// The role of an Entra app role.
fn role_of(word: &str) -> Option<Role> {
    Some(match word {
        "Admin" => Role::Admin,
        "User" => Role::User,
        "Viewer" => Role::Viewer,
        _ => return None,
    })
}
