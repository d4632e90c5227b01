//! People of the caller's tenant and what they may do (contract, section 7).

use actix_web::{HttpRequest, web};

use super::App;
use super::context::event_of;
use super::cursor;
use super::envelope::{Outcome, Reply};
use super::extract::{Body, Query};
use super::permit::Permit;
use super::routing::segment;
use crate::error::Result;
use crate::fields::{Field, Fields};
use crate::model::words::Role;
use crate::store::audit;
use crate::store::users::{self, User};

fn filter(query: &Query) -> Result<(Option<Role>, Option<String>)> {
    let role = query.word("role", Role::parse, &Role::choices())?;
    Ok((role, query.search()?.map(str::to_owned)))
}

/// The parameters of the list, for the document.
pub(super) fn list_query(query: &Query) {
    drop(filter(query));
    cursor::describe(query);
}

pub(super) async fn list(app: web::Data<App>, caller: Permit, query: Query) -> Outcome<Vec<User>> {
    let (role, q) = filter(&query)?;
    cursor::of_tenant(
        &app,
        &caller,
        &query,
        "users",
        move |reader, tenant, before, limit| {
            users::page(reader, tenant, role, q.as_deref(), before, limit)
        },
        |user| user.seq,
    )
    .await
}

fn read_role(fields: &Fields<'_>) -> Field<Role> {
    fields.word("role", Role::parse, &Role::choices())
}

/// The body of a change, for the document.
pub(super) fn change_body(fields: &Fields<'_>) {
    read_role(fields);
}

pub(super) async fn patch(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body,
) -> Outcome<User> {
    let role = body.read(read_role)?;
    let tenant = caller.tenant.no;
    let id = segment(&request, "user_id").unwrap_or_default().to_owned();
    let mut event = event_of(&request, &caller, "user.update", &id);
    let user = app
        .store
        .write(move |tx| {
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
