//! `users list` and `users set-role`: the people who sign in through Entra ID.

use clap::Subcommand;

use super::login_link::role;
use super::seed::find;
use super::{Common, Failed, column, open, open_to_change, operator, print};
use crate::error::{Error, Result as StoreResult};
use crate::model::clock::rfc3339;
use crate::model::names::TenantNo;
use crate::model::words::Role;
use crate::store::users::{self, User};
use crate::store::{Reader, audit};

#[derive(Subcommand)]
pub(super) enum Users {
    /// List a tenant's users in columns: id, role, name, email, last seen
    List {
        /// The tenant whose users to list
        #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
        tenant: String,
    },
    /// Change a user's role, for example to appoint the first administrator
    SetRole {
        /// The user's id as 'users list' shows it, or the email address
        user: String,
        /// The user's tenant
        #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
        tenant: String,
        /// The new role: ADMIN, USER or VIEWER
        #[arg(long, env = "SWITCHBOARD_ROLE", value_parser = role)]
        role: Role,
    },
}

pub(super) fn run(common: &Common, command: &Users) -> Result<(), Failed> {
    match command {
        Users::List { tenant } => {
            let store = open(common)?;
            let users = store.read_now(|reader| users::list(reader, find(reader, tenant)?.no))?;
            users.iter().try_for_each(|user| print(line(user)))
        }
        Users::SetRole { user, tenant, role } => {
            let store = open_to_change(common)?;
            let (client_id, named, role) = (tenant.clone(), user.clone(), *role);
            let changed = store.write_now(move |tx| {
                let tenant = find(tx.reader(), &client_id)?.no;
                let id = named_user(tx.reader(), tenant, &named)?.id;
                let (before, after) = users::set_role(tx, tenant, &id, role)?;
                if before != after {
                    audit::record(
                        tx,
                        &audit::Event {
                            tenant,
                            actor: operator(),
                            action: "user.update",
                            target: Some(id),
                            details: audit::difference(&before, &after)?,
                            request_id: None,
                            remote: None,
                        },
                    )?;
                }
                Ok(after)
            })?;
            print(line(&changed))
        }
    }
}

/// Finds the user of this id, or the only one of this email address.
fn named_user(reader: &Reader<'_>, tenant: TenantNo, named: &str) -> StoreResult<User> {
    let is_named = |user: &User| {
        let email = user.email.as_deref();
        user.id == named || email.is_some_and(|email| email.eq_ignore_ascii_case(named))
    };
    let mut found = users::list(reader, tenant)?;
    found.retain(is_named);
    let by_id = found.iter().position(|user| user.id == named);
    match (by_id, found.len()) {
        (Some(place), _) => Ok(found.swap_remove(place)),
        (None, 1) => Ok(found.swap_remove(0)),
        (None, 0) => Err(Error::internal(format!(
            "the tenant has no user {named:?}; 'switchboard users list' shows the users"
        ))),
        (None, several) => Err(Error::internal(format!(
            "{several} users have the email address {named:?}; name one of them by its id, as 'switchboard users list' shows it"
        ))),
    }
}

fn line(user: &User) -> String {
    let or_dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), column);
    format!(
        "{}\t{}\t{}\t{}\t{}",
        column(&user.id),
        user.role.as_str(),
        or_dash(user.name.as_deref()),
        or_dash(user.email.as_deref()),
        or_dash(user.last_seen_at.map(|time| rfc3339(time.0)).as_deref())
    )
}
