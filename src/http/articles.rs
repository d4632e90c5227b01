//! Knowledge articles of the caller's tenant (contract, section 6).

use actix_web::{HttpRequest, web};

use super::App;
use super::context::event_of;
use super::cursor;
use super::envelope::{Gone, Outcome, Reply};
use super::extract::{Body, Query, path_id};
use super::permit::Permit;
use crate::draft::ArticleDraft;
use crate::error::{Code, Result};
use crate::fields::{Field, Fields};
use crate::model::ids::ArticleId;
use crate::model::names::AgentId;
use crate::model::words::Audience;
use crate::store::articles::{self, ArticleFilter, ArticleRecord};
use crate::store::audit;

fn filter(query: &Query) -> Result<ArticleFilter> {
    Ok(ArticleFilter {
        audience: query.word("audience", Audience::parse, &Audience::choices())?,
        company: query.named("end_company_id")?,
        agent: query.number("agent_id", i64::MIN..=i64::MAX)?.map(AgentId),
        q: query.search()?.map(str::to_owned),
    })
}

/// The parameters of the list, for the document.
pub(super) fn list_query(query: &Query) {
    drop(filter(query));
    cursor::describe(query);
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    query: Query,
) -> Outcome<Vec<ArticleRecord>> {
    let filter = filter(&query)?;
    cursor::of_tenant(
        &app,
        &caller,
        &query,
        "articles",
        move |reader, tenant, before, limit| articles::page(reader, tenant, &filter, before, limit),
        |article: &ArticleRecord| article.id.tick(),
    )
    .await
}

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<ArticleRecord> {
    let id: ArticleId = path_id(&request, "article_id")?;
    let article = app
        .store
        .read(|reader| articles::by_id(reader, caller.tenant.no, id))?
        .ok_or(Code::NotFound)?;
    Ok(Reply::ok(article))
}

fn read_new(fields: &Fields<'_>) -> ArticleDraft {
    let draft = ArticleDraft::read(fields);
    fields.required("title", draft.title.clone());
    fields.required("body", draft.body.clone());
    draft
}

/// The body of a create, for the document.
pub(super) fn create_body(fields: &Fields<'_>) {
    read_new(fields);
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body,
) -> Outcome<ArticleRecord> {
    let draft = body.read(read_new)?;
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "article.create", "");
    let article = app
        .store
        .write(move |tx| {
            let id = tx.new_id()?;
            let article = ArticleRecord::fresh(id, String::new()).changed(&draft);
            articles::check(tx.reader(), tenant, &article)?;
            articles::insert(tx, tenant, &article)?;
            event.target = Some(id.to_string());
            event
                .details
                .insert("title".to_owned(), article.title.into());
            audit::record(tx, &event)?;
            Ok(articles::by_id(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?)
        })
        .await?;
    let id = article.id;
    Ok(Reply::created(
        format_args!("/knowledge-articles/{id}"),
        article,
    ))
}

fn read_change(fields: &Fields<'_>) -> ArticleDraft {
    let draft = ArticleDraft::read(fields);
    for (name, field) in [("title", &draft.title), ("body", &draft.body)] {
        if let Field::Null = field {
            fields.refuse(name, "must not be null: an article has one");
        }
    }
    draft
}

/// The body of a change, for the document.
pub(super) fn update_body(fields: &Fields<'_>) {
    read_change(fields);
}

pub(super) async fn update(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body,
) -> Outcome<ArticleRecord> {
    let draft = body.read(read_change)?;
    let id: ArticleId = path_id(&request, "article_id")?;
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "article.update", id);
    let article = app
        .store
        .write(move |tx| {
            let before = articles::by_id(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
            let after = before.changed(&draft);
            if after == before {
                return Ok(before);
            }
            articles::check(tx.reader(), tenant, &after)?;
            articles::update(tx, tenant, &after)?;
            event.details = audit::difference(&before, &after)?;
            audit::record(tx, &event)?;
            Ok(articles::by_id(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?)
        })
        .await?;
    Ok(Reply::ok(article))
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<Gone> {
    let id: ArticleId = path_id(&request, "article_id")?;
    let tenant = caller.tenant.no;
    let mut event = event_of(&request, &caller, "article.delete", id);
    app.store
        .write(move |tx| {
            let article = articles::by_id(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
            articles::delete(tx, tenant, id)?;
            event
                .details
                .insert("title".to_owned(), article.title.into());
            audit::record(tx, &event)
        })
        .await?;
    Ok(Gone)
}
