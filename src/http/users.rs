//! Users of the caller's tenant and their roles (contract, section 7).

use actix_web::{HttpRequest, web};

use super::App;
use super::edge::admission::Permit;
use super::edge::audited;
use super::edge::context::event_of;
use super::edge::cursor::{self, ListQuery};
use super::edge::envelope::{MaybeSerialized, NoContent, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString};
use super::edge::once::Once;
use super::edge::routing::{as_segment, decoded_segment};
use crate::error::{Refusal, Result};
use crate::input::draft::NAME;
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::user_id::UserId;
use crate::model::words::Role;
use crate::store::users::{self, User, UserRecord};
use crate::store::{Extent, audit, idempotency};

/// The filter of a list of users.
pub(super) struct UserFilter {
    role: Option<Role>,
    q: Option<String>,
}

impl FromQuery for UserFilter {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(Self {
            role: query.word("role", Role::parse, &Role::choices())?,
            q: query.search()?,
        })
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(list): Query<ListQuery<UserFilter>>,
) -> Outcome<Vec<User>> {
    let UserFilter { role, q } = list.filter;
    cursor::of_tenant(
        &app,
        &caller,
        &list.page,
        "users",
        move |reader, tenant, before, limit| {
            users::page(reader, tenant, role, q.as_deref(), before, limit)
        },
        |user| user.seq,
    )
    .await
}

/// The body of a POST.
pub(super) struct NewUser {
    id: Option<UserId>,
    name: Field<String>,
    email: Field<String>,
    role: Field<Role>,
}

impl FromFields for NewUser {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            id: fields.required("id", fields.user("id")),
            name: fields.text("name", 0..=NAME),
            email: fields.text("email", 0..=320),
            role: fields.word("role", Role::parse, &Role::choices()),
        }
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<NewUser>,
) -> Outcome<MaybeSerialized<User>> {
    let new = body.read()?;
    let once = Once::of(&request, &caller, &body)?;
    let named = new
        .id
        .ok_or_else(|| Refusal::invalid("id", "is required"))?;
    let record = UserRecord {
        id: named
            .accepted(app.config.directories)
            .map_err(|reason| Refusal::invalid("id", reason))?,
        name: new.name.value(),
        email: new.email.value(),
        role: new.role.over(Role::User, Role::User),
    };
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "user.create", &record.id);
    let path = |user: &User| path_to(&user.id);
    audited::create(&app, once, event, path, move |tx, event| {
        event.detail("role", record.role.as_str());
        users::create(tx, tenant, &record)
    })
    .await
}

fn path_to(id: &str) -> String {
    format!("/users/{}", as_segment(id))
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let tenant = caller.tenant.no;
    let id = decoded_segment(&request, "user_id")
        .unwrap_or_default()
        .into_owned();
    let event = event_of(&request, &caller, "user.delete", &id);
    audited::write(&app, event, move |tx, event| {
        let user = users::delete(tx, tenant, &id)?;
        idempotency::clear(tx, tenant, &path_to(&id))?;
        event.detail("role", user.role.as_str());
        Ok(())
    })
    .await?;
    Ok(NoContent)
}

/// The body of an update.
pub(super) struct UserChange {
    role: Field<Role>,
}

impl FromFields for UserChange {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            role: fields.word("role", Role::parse, &Role::choices()),
        }
    }
}

pub(super) async fn patch(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<UserChange>,
) -> Outcome<User> {
    let UserChange { role } = body.read()?;
    let tenant = caller.tenant.no;
    let id = decoded_segment(&request, "user_id")
        .unwrap_or_default()
        .into_owned();
    let mut event = event_of(&request, &caller, "user.update", &id);
    let user = app
        .store
        .write(Extent::Configuration, move |tx| {
            let user = users::of_tenant(tx.reader(), tenant, &id)?;
            let role = role.over(user.role, Role::User);
            if role == user.role {
                return Ok(user);
            }
            let (before, after) = users::set_role(tx, tenant, &id, role)?;
            event.details = audit::difference(&before, &after)?;
            audit::record(tx, &event)?;
            Ok(after)
        })
        .await?;
    Ok(Reply::ok(user))
}
