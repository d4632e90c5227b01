//! Who calls, once the credential has been checked (contract, section 2).

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::ids::{KeyId, SessionId, TokenId};
use super::names::{ClientId, TenantNo};
use super::tenant::Tenant;
use super::words::{CallerKind, Role};

/// A caller whose credential counts.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The caller's own tenant; for a session's token the tenant that the session acts for.
    pub tenant: Tenant,
    /// Requests a minute of that tenant, if it carries its own figure; 0 means no limit.
    pub rate_limit_per_minute: Option<i64>,
    /// Who it is.
    pub who: Who,
}

/// The kinds of callers.
#[derive(Clone, Debug)]
pub enum Who {
    /// A program with an API key.
    ServiceAccount {
        /// The key that was shown.
        key: KeyId,
        /// The first key's id: rotation keeps the account.
        account: KeyId,
        /// The key's name.
        name: String,
        /// Whether it serves the platform.
        platform: bool,
    },
    /// A person who signed in.
    DashboardUser {
        /// Entra's `oid`, or `local:<role>` with the role as the wire has it.
        id: String,
        /// The person's name.
        name: Option<String>,
        /// What the person may do.
        role: Role,
        /// The token of a local sign-in.
        sign_in: Option<TokenId>,
    },
    /// A token that was minted for one session.
    EndUserSession {
        /// The token.
        jti: TokenId,
        /// Its session.
        session: SessionId,
        /// Whom it was minted for.
        end_user: Option<String>,
    },
}

/// An account's id, as it is written.
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

/// A caller as sessions and audit events remember it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Actor {
    /// What kind of caller.
    pub kind: CallerKind,
    /// The account's id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
}

impl Caller {
    /// What kind of caller.
    pub fn kind(&self) -> CallerKind {
        match self.who {
            Who::ServiceAccount { .. } => CallerKind::ServiceAccount,
            Who::DashboardUser { .. } => CallerKind::DashboardUser,
            Who::EndUserSession { .. } => CallerKind::EndUserSession,
        }
    }

    /// The account: a key with the keys that it was rotated into, a user, or a token.
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

    /// Whether this is a service account of the platform.
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

/// Whose sessions a caller sees, and under which it was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// The session.
    pub id: SessionId,
    /// The MSP that it acts for.
    pub tenant: TenantNo,
    /// The home of the platform account that made it, if one did.
    pub platform_tenant: Option<TenantNo>,
    /// Who made it.
    pub created_by: Actor,
    /// Whether the tenant's other users may read it.
    pub shared: bool,
}

/// What a caller may do with a session that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nothing: to this caller it does not exist.
    None,
    /// Read it: another user's shared session.
    Read,
    /// Read and write it.
    Write,
    /// All that a caller of this kind may do in its own tenant.
    Own,
}

impl Caller {
    /// What this caller may do with a session (contract, section 2).
    pub fn reach(&self, session: &SessionFacts) -> Reach {
        let at_home = session.tenant == self.tenant.no;
        match &self.who {
            Who::ServiceAccount { platform, .. } => {
                if at_home {
                    Reach::Own
                } else if *platform && session.platform_tenant == Some(self.tenant.no) {
                    Reach::Write
                } else {
                    Reach::None
                }
            }
            Who::DashboardUser {
                role: Role::Admin, ..
            } if at_home => Reach::Own,
            Who::DashboardUser { id, .. } if at_home => {
                let own = session.created_by.kind == CallerKind::DashboardUser
                    && session.created_by.id == *id;
                if own {
                    Reach::Write
                } else if session.shared {
                    Reach::Read
                } else {
                    Reach::None
                }
            }
            Who::DashboardUser { .. } => Reach::None,
            Who::EndUserSession { session: own, .. } => {
                if *own == session.id && at_home {
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
    /// What kind of caller.
    pub kind: CallerKind,
    /// The account's id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its tenant.
    pub client_id: ClientId,
    /// A dashboard user's role.
    pub role: Option<Role>,
    /// Whether it serves the platform.
    pub platform: bool,
    /// The session of a session's token.
    pub session_id: Option<SessionId>,
}

impl Caller {
    /// Tells the caller who it is.
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
