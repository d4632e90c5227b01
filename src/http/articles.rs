//! Knowledge articles of the caller's tenant (contract, section 6).

use actix_web::{HttpRequest, web};

use super::App;
use super::edge::admission::Permit;
use super::edge::audited;
use super::edge::context::event_of;
use super::edge::cursor::{self, ListQuery};
use super::edge::envelope::{MaybeSerialized, NoContent, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_id};
use super::edge::once::Once;
use crate::error::{Code, Result};
use crate::input::draft::ArticleDraft;
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::ids::ArticleId;
use crate::model::names::AgentId;
use crate::model::words::Audience;
use crate::store::Reader;
use crate::store::articles::{self, ArticleFilter, ArticleRecord};

impl FromQuery for ArticleFilter {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(ArticleFilter {
            audience: query.word("audience", Audience::parse, &Audience::choices())?,
            company: query.named("end_company_id")?,
            agent: query.number("agent_id", i64::MIN..=i64::MAX)?.map(AgentId),
            q: query.search()?,
        })
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(list): Query<ListQuery<ArticleFilter>>,
) -> Outcome<Vec<ArticleRecord>> {
    let filter = list.filter;
    cursor::of_tenant(
        &app,
        &caller,
        &list.page,
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
    let tenant = caller.tenant.no;
    let article = app
        .store
        .read(move |reader| articles::by_id(reader, tenant, id))
        .await?
        .ok_or(Code::NotFound)?;
    Ok(Reply::ok(article))
}

/// The body of a POST.
pub(super) struct NewArticle(ArticleDraft);

impl FromFields for NewArticle {
    fn read(fields: &Fields<'_>) -> Self {
        let draft = ArticleDraft::read(fields);
        fields.required("title", draft.title.clone());
        fields.required("body", draft.body.clone());
        Self(draft)
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<NewArticle>,
) -> Outcome<MaybeSerialized<ArticleRecord>> {
    let NewArticle(draft) = body.read()?;
    let once = Once::of(&request, &caller, &body)?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "article.create", "");
    let path = |article: &ArticleRecord| articles::path_to(article.id);
    audited::create(&app, once, event, path, move |tx, event| {
        let article = articles::create(tx, tenant, &draft)?;
        event.target = Some(article.id.to_string());
        event.detail("title", article.title.as_str());
        Ok(article)
    })
    .await
}

/// The body of a PUT.
pub(super) struct ArticleChange(ArticleDraft);

impl FromFields for ArticleChange {
    fn read(fields: &Fields<'_>) -> Self {
        let draft = ArticleDraft::read(fields);
        for (name, field) in [("title", &draft.title), ("body", &draft.body)] {
            if let Field::Null = field {
                fields.refuse(name, "must not be null: it has no default");
            }
        }
        Self(draft)
    }
}

pub(super) async fn update(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<ArticleChange>,
) -> Outcome<ArticleRecord> {
    let ArticleChange(draft) = body.read()?;
    let id: ArticleId = path_id(&request, "article_id")?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "article.update", id);
    let load = move |reader: &Reader<'_>| articles::by_id(reader, tenant, id);
    audited::update(&app, event, load, move |tx, before| {
        articles::change(tx, tenant, before, &draft)
    })
    .await
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let id: ArticleId = path_id(&request, "article_id")?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "article.delete", id);
    audited::write(&app, event, move |tx, event| {
        let article = articles::by_id(tx.reader(), tenant, id)?.ok_or(Code::NotFound)?;
        articles::delete(tx, tenant, id)?;
        event.detail("title", article.title);
        Ok(())
    })
    .await?;
    Ok(NoContent)
}
