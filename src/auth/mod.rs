//! Authentication: turns the `Authorization` header into a caller (contract, section 2).

pub mod api_key;
pub mod attempts;
pub mod entra;
pub mod jwk;
pub mod jwt;
pub mod rate_limit;
pub mod reason;
pub mod session_token;
pub mod sign_in;
pub mod signed_link;
pub mod signing;
pub mod sliding_window;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::digest;
use crate::error::{Error, Refusal, Result};
use crate::limits::{OncePerMinute, minute_of};
use crate::model;
use crate::model::caller::{Caller, Who};
use crate::model::clock::Millis;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;
use crate::model::words::Role;
use crate::store::cache::SnapshotVersion;
use crate::store::users::{self, LastSeen};
use crate::store::{Extent, Store, keys, tokens};

use self::entra::{Entra, Identity, TokenCheck};
use self::jwt::Token;
use self::reason::{NotAdmitted, Reason};
use self::signed_link::LinkKey;
use self::signing::{SigningSecret, TokenKind};

/// How often a check is repeated after it waited: for signing keys, for newer keys, for a user's
/// record.
const MAX_RECHECKS: usize = 4;
/// The timeout of all waits for one credential. It bounds the time that an invalid credential can
/// hold a request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Authenticates requests.
pub struct Authenticator {
    environment: String,
    signing: SigningSecret,
    links: LinkKey,
    entra: Option<Entra>,
    /// Throttles the record of a key's last use to one write per minute.
    key_uses: OncePerMinute<Tick>,
    /// Throttles the record of a user's last request to one write per minute.
    user_requests: OncePerMinute<(TenantNo, String)>,
}

/// Resolves when a check can be repeated.
type Ready = Pin<Box<dyn Future<Output = ()>>>;

/// The caller, the version of the configuration under which the credential was found, and the
/// reason if the caller is not let in.
pub type Authenticated = (Caller, Option<SnapshotVersion>, Option<NotAdmitted>);

/// The result of one check of a credential.
enum CredentialCheck {
    /// The caller.
    Caller(Box<Authenticated>),
    /// The check needs keys or a record first. It can be repeated when the future resolves.
    Pending(Ready),
}

impl From<Caller> for CredentialCheck {
    fn from(caller: Caller) -> Self {
        Self::Caller(Box::new((caller, None, None)))
    }
}

impl Authenticator {
    /// The key by which the nodes of one database know one another.
    pub fn node_key(&self) -> aws_lc_rs::hmac::Key {
        self.signing.node_key()
    }

    /// Creates an authenticator for the API keys of one environment and for this server's own
    /// tokens.
    pub fn new(environment: String, signing: SigningSecret) -> Self {
        Self {
            environment,
            links: LinkKey::of(&signing),
            signing,
            entra: None,
            key_uses: OncePerMinute::default(),
            user_requests: OncePerMinute::default(),
        }
    }

    /// Accepts Entra access tokens too.
    #[must_use]
    pub fn with_entra(mut self, entra: Option<Entra>) -> Self {
        self.entra = entra;
        self
    }

    /// Starts to load the signing keys, so that the first token need not wait. Must be called in a
    /// runtime.
    pub fn prepare(&self, now: Millis) {
        if let Some(entra) = &self.entra {
            entra.prepare(now);
        }
    }

    /// The environment whose API keys are accepted.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// The secret that signs this server's own tokens.
    pub fn signing(&self) -> &SigningSecret {
        &self.signing
    }

    /// The key that signs links to files.
    pub fn links(&self) -> &LinkKey {
        &self.links
    }

    /// Authenticates an `Authorization` header without waiting for keys.
    ///
    /// # Errors
    /// `unauthorized` with the contract's reason. The reason is `unknown_key` also if the keys may
    /// still arrive. `forbidden` for a user who is not let in.
    pub async fn caller(&self, store: &Store, header: Option<&[u8]>) -> Result<Caller> {
        match self.known(store, header).await? {
            (caller, _, None) => Ok(caller),
            (_, _, Some(reason)) => Err(Refusal::from(reason).into()),
        }
    }

    /// As [`Authenticator::authenticate`], without waiting.
    async fn known(&self, store: &Store, header: Option<&[u8]>) -> Result<Authenticated> {
        match self.check(store, header, false).await? {
            CredentialCheck::Caller(known) => Ok(*known),
            CredentialCheck::Pending(_) => Err(Reason::UnknownKey.into()),
        }
    }

    /// Authenticates an `Authorization` header. Waits up to 5 s for signing keys and for the record
    /// of a new user.
    ///
    /// # Errors
    /// `unauthorized` with the contract's reason.
    pub async fn authenticate(
        &self,
        store: &Store,
        header: Option<&[u8]>,
    ) -> Result<Authenticated> {
        match self.check(store, header, true).await? {
            CredentialCheck::Caller(known) => Ok(*known),
            // Boxed, so that the future of every other request stays small.
            CredentialCheck::Pending(ready) => {
                Box::pin(self.authenticate_after(store, header, ready)).await
            }
        }
    }

    async fn authenticate_after(
        &self,
        store: &Store,
        header: Option<&[u8]>,
        mut ready: Ready,
    ) -> Result<Authenticated> {
        let deadline = Instant::now() + TIMEOUT;
        for _ in 0..MAX_RECHECKS {
            if timeout_at(deadline, ready).await.is_err() {
                break;
            }
            match self.check(store, header, true).await? {
                CredentialCheck::Caller(known) => return Ok(*known),
                CredentialCheck::Pending(next) => ready = next,
            }
        }
        self.known(store, header).await
    }

    /// Checks a credential once, without waiting. With `may_wait`, the record of a new user is a
    /// reason to return [`CredentialCheck::Pending`].
    async fn check(
        &self,
        store: &Store,
        header: Option<&[u8]>,
        may_wait: bool,
    ) -> Result<CredentialCheck> {
        let Some(header) = header else {
            return Err(Refusal::unauthorized(
                "missing",
                "No credential was sent. Send one as 'Authorization: Bearer <token>'.",
            )
            .into());
        };
        let token = bearer(header).ok_or_else(malformed)?;
        if token.starts_with(model::api_key::PREFIX) {
            return self.service_account(store, token).await;
        }
        if !Token::has_token_form(token) {
            return Err(malformed());
        }
        let token = Token::parse(token)?;
        // The issuer decides which verifier runs; verifiers are never tried in turn. Their futures
        // are boxed, so that the future of a request with an API key stays small.
        match token.issuer()? {
            issuer if issuer == session_token::KIND.issuer => {
                let caller = Box::pin(self.end_user_session(store, &token)).await?;
                Ok(CredentialCheck::from(caller))
            }
            issuer if issuer == sign_in::KIND.issuer => {
                let caller = Box::pin(self.local_user(store, &token)).await?;
                Ok(CredentialCheck::from(caller))
            }
            _ => match &self.entra {
                Some(entra) => Box::pin(self.entra_user(entra, store, &token, may_wait)).await,
                None => Err(Entra::is_off(&token)),
            },
        }
    }

    async fn service_account(&self, store: &Store, token: &str) -> Result<CredentialCheck> {
        match model::api_key::environment_of(token) {
            None => return Err(malformed()),
            Some(environment) if environment != self.environment => {
                return Err(Refusal::unauthorized(
                    "wrong_environment",
                    "This API key belongs to another environment. Use a key of this server.",
                )
                .into());
            }
            Some(_) => {}
        }
        let sha256 = digest::sha256(token);
        let (found, snapshot_version) = store
            .look_up(move |cache| Ok((cache.key(&sha256)?, cache.snapshot_version())))
            .await?;
        let Some(found) = found else {
            return Err(Refusal::unauthorized(
                "unknown",
                "This API key does not exist on this server. Check the key, or use another one.",
            )
            .into());
        };
        let (key, now) = (&found.key, store.now());
        if key.revoked_at.is_some() {
            return Err(Refusal::unauthorized(
                "revoked",
                "This API key was revoked. Use another one.",
            )
            .into());
        }
        if key.expires_at.is_some_and(|expires| expires <= now) {
            return Err(Refusal::unauthorized(
                "expired",
                "This API key has expired. Use another one.",
            )
            .into());
        }
        self.record_key_use(store, key.id.tick(), key.last_used_at, now);
        let caller = Caller {
            tenant: found.tenant.clone(),
            who: Who::ServiceAccount {
                key: key.id,
                account: key.account,
                name: key.name.clone(),
                platform: key.platform,
            },
        };
        Ok(CredentialCheck::Caller(Box::new((
            caller,
            Some(snapshot_version),
            None,
        ))))
    }

    /// Records the minute of a key's last use, up to once a minute per key.
    fn record_key_use(&self, store: &Store, key: Tick, last_used_at: Option<Millis>, now: Millis) {
        let minute = minute_of(now);
        let is_recorded = last_used_at.is_some_and(|last| last >= minute);
        if is_recorded || !self.key_uses.admit(key, now) {
            return;
        }
        // Not awaited: a lost minute is not worth a delay or an error.
        drop(store.write(Extent::Statement, move |tx| {
            keys::record_use(tx, key, minute)
        }));
    }

    async fn entra_user(
        &self,
        entra: &Entra,
        store: &Store,
        token: &Token<'_>,
        may_wait: bool,
    ) -> Result<CredentialCheck> {
        let now = store.now();
        let identity = match entra.check(token, now)? {
            TokenCheck::Identity(identity) => identity,
            TokenCheck::Pending(ready) => return Ok(CredentialCheck::Pending(Box::pin(ready))),
        };
        let found = store
            .look_up({
                let (directory, id) = (identity.directory.clone(), identity.id.clone());
                move |cache| cache.entra_user(&directory, &id)
            })
            .await?
            .ok_or_else(|| Entra::unknown_tenant(token))?;
        let tenant = found.tenant.no;
        let is_unknown = found.user.is_none();
        // A user who is not let in at first sight is not recorded: the record would let the user in
        // after an app role is taken away.
        let barred = entra.bars_unknown(&identity).filter(|_| is_unknown);
        if is_unknown && may_wait && barred.is_none() {
            let recording =
                store.write(Extent::Statement, record_user(tenant, &identity, now, true));
            return Ok(CredentialCheck::Pending(Box::pin(async move {
                // The user can read all the same, even if the disk is full: a later check does
                // without the record.
                if let Err(error) = recording.await {
                    log::warn!("a new user could not be recorded: {error}");
                }
            })));
        }
        let last_seen_at = found.user.as_ref().and_then(|user| user.last_seen_at);
        if barred.is_none() {
            self.record_user_request(store, tenant, &identity, last_seen_at, is_unknown, now);
        }
        let (recorded_name, recorded_role) = match (&found.user, barred) {
            (Some(user), _) => (user.name.clone(), user.role),
            (None, None) => (None, Role::User),
            (None, Some(_)) => (None, Role::Viewer),
        };
        let not_admitted = barred.filter(|_| identity.role.is_none());
        let caller = Caller {
            tenant: found.tenant.clone(),
            who: Who::DashboardUser {
                name: recorded_name.or(identity.name),
                id: identity.id,
                // The token's role applies to its own requests and is not recorded.
                role: identity.role.unwrap_or(recorded_role),
                sign_in: None,
            },
        };
        Ok(CredentialCheck::Caller(Box::new((
            caller,
            None,
            not_admitted,
        ))))
    }

    /// Records the minute of a user's last request, up to once a minute per user.
    fn record_user_request(
        &self,
        store: &Store,
        tenant: TenantNo,
        identity: &Identity,
        last_seen_at: Option<Millis>,
        is_unknown: bool,
        now: Millis,
    ) {
        let is_recorded = last_seen_at.is_some_and(|last| last >= minute_of(now));
        let user = (tenant, identity.id.clone());
        if is_recorded || !self.user_requests.admit(user, now) {
            return;
        }
        // Not awaited, for the same reason as a key's use.
        drop(store.write(
            Extent::Statement,
            record_user(tenant, identity, now, is_unknown),
        ));
    }

    /// Verifies one of this server's own tokens and checks its expiry.
    fn unexpired(
        &self,
        store: &Store,
        kind: TokenKind,
        token: &Token<'_>,
    ) -> Result<signing::Claims> {
        let claims = signing::verify(&self.signing, kind, token)?;
        if claims.exp.saturating_mul(1_000) <= store.now() {
            return Err(Reason::Expired.into());
        }
        Ok(claims)
    }

    async fn local_user(&self, store: &Store, token: &Token<'_>) -> Result<Caller> {
        let claims = self.unexpired(store, sign_in::KIND, token)?;
        let found = store
            .look_up(move |cache| cache.sign_in(claims.jti))
            .await?
            .filter(|sign_in| !sign_in.has_ended)
            .ok_or(Reason::Revoked)?;
        Ok(Caller {
            tenant: found.tenant.clone(),
            who: Who::DashboardUser {
                id: sign_in::id_of(found.role),
                name: Some(sign_in::NAME.to_owned()),
                role: found.role,
                sign_in: Some(claims.jti),
            },
        })
    }

    async fn end_user_session(&self, store: &Store, token: &Token<'_>) -> Result<Caller> {
        let claims = self.unexpired(store, session_token::KIND, token)?;
        let found = store
            .read(move |reader| tokens::by_jti(reader, claims.jti))
            .await?
            .filter(|token| !token.revoked)
            .ok_or(Reason::Revoked)?;
        Ok(Caller {
            tenant: found.tenant,
            who: Who::EndUserSession {
                jti: claims.jti,
                session: found.session,
                end_user: found.end_user,
            },
        })
    }
}

/// The write that records a user, or the user's last request.
fn record_user(
    tenant: TenantNo,
    identity: &Identity,
    now: Millis,
    is_unknown: bool,
) -> impl FnOnce(&mut crate::store::WriteTx<'_>) -> Result<()> + Send + use<> {
    let last_seen = LastSeen {
        tenant,
        id: identity.id.clone(),
        name: identity.name.clone(),
        email: identity.email.clone(),
        minute: minute_of(now),
        is_unknown,
    };
    move |tx| users::record_last_seen(tx, &last_seen)
}

/// The token of a `Bearer` credential.
fn bearer(header: &[u8]) -> Option<&str> {
    let header = std::str::from_utf8(header).ok()?;
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn malformed() -> Error {
    Refusal::unauthorized(
        "malformed",
        "The credential is malformed. Send it as 'Authorization: Bearer <token>'.",
    )
    .into()
}
