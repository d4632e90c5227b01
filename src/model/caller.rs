//! Callers: the result of a checked credential (contract, section 2).

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::ids::{KeyId, SessionId, TokenId};
use super::names::{ClientId, TenantNo};
use super::tenant::Tenant;
use super::words::{CallerKind, Role};

/// A caller with a valid credential.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The caller's own tenant; for a session token, the tenant that the session acts for.
    pub tenant: Tenant,
    /// The caller's identity.
    pub who: Who,
}

/// A caller's identity.
#[derive(Clone, Debug)]
pub enum Who {
    /// A program with an API key.
    ServiceAccount {
        /// The key that the caller sent.
        key: KeyId,
        /// The id of the account's first key, which survives rotation.
        account: KeyId,
        /// The key's name.
        name: String,
        /// Whether this is a platform account.
        platform: bool,
    },
    /// A person who signed in.
    DashboardUser {
        /// Entra's `oid`, or `local:<role>` with the role as the API spells it.
        id: String,
        /// The person's name.
        name: Option<String>,
        /// The person's role.
        role: Role,
        /// The token of a local sign-in.
        sign_in: Option<TokenId>,
    },
    /// The holder of a token that was minted for one session.
    EndUserSession {
        /// The token.
        jti: TokenId,
        /// The session that the token is valid for.
        session: SessionId,
        /// The end user that the token was minted for.
        end_user: Option<String>,
    },
}

/// An account's id, for display.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a>(&'a Who);

impl fmt::Display for Account<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Who::ServiceAccount { account, .. } => account.fmt(f),
            Who::DashboardUser { id, .. } => f.write_str(id),
            Who::EndUserSession { jti, .. } => jti.fmt(f),
        }
    }
}

/// The account that a limit counts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccountKey {
    /// An API key, with its predecessors and successors.
    Program(KeyId),
    /// A dashboard user of a tenant.
    User(TenantNo, String),
    /// The holders of tokens for one session.
    EndUser(SessionId),
}

/// A caller as sessions and audit events store it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Actor {
    /// The kind of caller.
    pub kind: CallerKind,
    /// The account's id.
    pub id: String,
    /// The account's name.
    pub name: Option<String>,
}

impl Caller {
    /// The kind of caller.
    pub fn kind(&self) -> CallerKind {
        match self.who {
            Who::ServiceAccount { .. } => CallerKind::ServiceAccount,
            Who::DashboardUser { .. } => CallerKind::DashboardUser,
            Who::EndUserSession { .. } => CallerKind::EndUserSession,
        }
    }

    /// The caller's account: a key together with its successors, a user, or a session token.
    pub fn actor(&self) -> Actor {
        let name = match &self.who {
            Who::ServiceAccount { name, .. } => Some(name.clone()),
            Who::DashboardUser { name, .. } => name.clone(),
            Who::EndUserSession { end_user, .. } => end_user.clone(),
        };
        Actor {
            kind: self.kind(),
            id: self.account().to_string(),
            name,
        }
    }

    /// The account's id.
    pub fn account(&self) -> Account<'_> {
        Account(&self.who)
    }

    /// The account that limits count for.
    pub fn account_key(&self) -> AccountKey {
        match &self.who {
            Who::ServiceAccount { account, .. } => AccountKey::Program(*account),
            Who::DashboardUser { id, .. } => AccountKey::User(self.tenant.no, id.clone()),
            Who::EndUserSession { session, .. } => AccountKey::EndUser(*session),
        }
    }

    /// Whether this is a platform service account.
    pub fn is_platform(&self) -> bool {
        matches!(self.who, Who::ServiceAccount { platform: true, .. })
    }

    /// The role of a dashboard user.
    pub fn role(&self) -> Option<Role> {
        match &self.who {
            Who::DashboardUser { role, .. } => Some(*role),
            Who::ServiceAccount { .. } | Who::EndUserSession { .. } => None,
        }
    }
}

/// The facts of a session that decide what a caller may do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// The session.
    pub id: SessionId,
    /// The tenant that the session acts for.
    pub tenant: TenantNo,
    /// The own tenant of the platform account that created the session, if one did.
    pub platform_tenant: Option<TenantNo>,
    /// The caller that created the session.
    pub created_by: Actor,
    /// Whether the tenant's other users may read the session.
    pub shared: bool,
}

/// A caller's level of access to a session, from the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// No access: the session does not exist for this caller.
    None,
    /// Reading: another user's shared session.
    Read,
    /// Reading and writing.
    Write,
    /// Everything that a caller of this kind may do in its own tenant.
    Own,
}

impl Caller {
    /// The caller's level of access to a session (contract, section 2).
    pub fn reach(&self, session: &SessionFacts) -> Reach {
        let is_own_tenant = session.tenant == self.tenant.no;
        match &self.who {
            Who::ServiceAccount { platform, .. } => {
                if is_own_tenant {
                    Reach::Own
                } else if *platform && session.platform_tenant == Some(self.tenant.no) {
                    Reach::Write
                } else {
                    Reach::None
                }
            }
            Who::DashboardUser {
                role: Role::Admin, ..
            } if is_own_tenant => Reach::Own,
            Who::DashboardUser { id, .. } if is_own_tenant => {
                let is_creator = session.created_by.kind == CallerKind::DashboardUser
                    && session.created_by.id == *id;
                if is_creator {
                    Reach::Write
                } else if session.shared {
                    Reach::Read
                } else {
                    Reach::None
                }
            }
            Who::DashboardUser { .. } => Reach::None,
            Who::EndUserSession { session: own, .. } => {
                if *own == session.id && is_own_tenant {
                    Reach::Write
                } else {
                    Reach::None
                }
            }
        }
    }
}

/// The reply of `GET /whoami` (contract, section 7).
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct WhoAmI {
    /// The kind of caller.
    pub kind: CallerKind,
    /// The account's id.
    pub id: String,
    /// The account's name.
    pub name: Option<String>,
    /// The caller's tenant.
    pub client_id: ClientId,
    /// A dashboard user's role.
    pub role: Option<Role>,
    /// Whether this is a platform service account.
    pub platform: bool,
    /// The session that a session token is valid for.
    pub session_id: Option<SessionId>,
}

impl Caller {
    /// Describes the caller to itself.
    pub fn who_am_i(&self) -> WhoAmI {
        let actor = self.actor();
        WhoAmI {
            kind: actor.kind,
            id: actor.id,
            name: actor.name,
            client_id: self.tenant.client_id.clone(),
            role: self.role(),
            platform: self.is_platform(),
            session_id: match &self.who {
                Who::EndUserSession { session, .. } => Some(*session),
                Who::ServiceAccount { .. } | Who::DashboardUser { .. } => None,
            },
        }
    }
}
