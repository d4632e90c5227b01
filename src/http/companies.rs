//! End companies, directories without a link, and the health of the mapping (contract, section 6).

use actix_web::{HttpRequest, web};
use serde_json::Value;

use super::App;
use super::channels::NamedTenant;
use super::edge::admission::Permit;
use super::edge::audited;
use super::edge::context::event_of;
use super::edge::cursor::{self, List, ListQuery};
use super::edge::envelope::{MaybeSerialized, NoContent, Outcome, Reply};
use super::edge::extract::{Body, FromQuery, Query, QueryString, path_directory, path_name};
use super::edge::once::Once;
use super::edge::routing::as_segment;
use crate::error::{Code, Refusal, Result};
use crate::input::draft::CompanyDraft;
use crate::input::fields::{Field, Fields, FromFields};
use crate::model::names::{CompanyId, M365TenantId};
use crate::store::audit::Event;
use crate::store::companies::{self, CompanyFilter, CompanyRecord};
use crate::store::health::{self, Health, Viewer};
use crate::store::rules;
use crate::store::unlinked::{self, UnlinkedRecord};
use crate::store::{LongRead, Reader, idempotency};

/// The most findings of one kind in a reply. The reply also has their number.
const FINDINGS: usize = 200;

impl FromQuery for CompanyFilter {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(CompanyFilter {
            tenant_id: query.directory("tenant_id")?,
            q: query.search()?,
        })
    }
}

pub(super) async fn list(
    app: web::Data<App>,
    caller: Permit,
    Query(list): Query<ListQuery<CompanyFilter>>,
) -> Outcome<Vec<CompanyRecord>> {
    let filter = list.filter;
    cursor::of_tenant(
        &app,
        &caller,
        &list.page,
        "end-companies",
        move |reader, tenant, before, limit| {
            companies::page(reader, tenant, &filter, before, limit)
        },
        |company: &CompanyRecord| company.seq,
    )
    .await
}

pub(super) async fn get(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Outcome<CompanyRecord> {
    let id: CompanyId = path_name(&request, "psa_company_id")?;
    let tenant = caller.tenant.no;
    let company = app
        .store
        .read(move |reader| companies::by_id(reader, tenant, &id))
        .await?
        .ok_or(Code::NotFound)?;
    Ok(Reply::ok(company))
}

/// The body of a POST.
pub(super) struct NewCompany {
    id: Option<CompanyId>,
    draft: CompanyDraft,
}

impl FromFields for NewCompany {
    fn read(fields: &Fields<'_>) -> Self {
        let id = fields.required("psa_company_id", fields.named("psa_company_id"));
        let draft = CompanyDraft::read(fields);
        fields.required("psa_company_name", draft.psa_company_name.clone());
        Self { id, draft }
    }
}

pub(super) async fn create(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<NewCompany>,
) -> Outcome<MaybeSerialized<CompanyRecord>> {
    let new = body.read()?;
    let once = Once::of(&request, &caller, &body)?;
    let rule = app.config.directories;
    rules::refuse(rules::unfit_links(&new.draft, &[], rule))?;
    let id = new
        .id
        .ok_or_else(|| Refusal::invalid("psa_company_id", "is required"))?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "company.create", &id);
    let path = |company: &CompanyRecord| path_to(&company.psa_company_id);
    audited::create(&app, once, event, path, move |tx, event| {
        let company = CompanyRecord::fresh(id).changed(&new.draft);
        add_links(event, &company);
        companies::create(tx, tenant, &company)
    })
    .await
}

fn path_to(id: &CompanyId) -> String {
    format!("/end-companies/{}", as_segment(id.as_str()))
}

/// Adds a company's links to its event.
fn add_links(event: &mut Event, company: &CompanyRecord) {
    if let Some(first) = company.directories.first() {
        event.detail("tenant_id", first.as_str());
        let all = company.directories.as_slice().iter();
        event.detail(
            "tenant_ids",
            all.map(M365TenantId::as_str).collect::<Value>(),
        );
    }
}

/// The body of a PUT. It may repeat the company's id, which cannot change.
pub(super) struct CompanyChange {
    id: Field<CompanyId>,
    draft: CompanyDraft,
}

impl FromFields for CompanyChange {
    fn read(fields: &Fields<'_>) -> Self {
        let draft = CompanyDraft::read(fields);
        if let Field::Null = draft.psa_company_name {
            fields.refuse("psa_company_name", "must not be null: it has no default");
        }
        Self {
            id: fields.named("psa_company_id"),
            draft,
        }
    }
}

pub(super) async fn update(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
    body: Body<CompanyChange>,
) -> Outcome<CompanyRecord> {
    let change = body.read()?;
    let rule = app.config.directories;
    let id: CompanyId = path_name(&request, "psa_company_id")?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "company.update", &id);
    let load = move |reader: &Reader<'_>| companies::by_id(reader, tenant, &id);
    audited::update(&app, event, load, move |tx, before| {
        companies::change(tx, tenant, before, &change.id, &change.draft, rule)
    })
    .await
}

pub(super) async fn delete(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let id: CompanyId = path_name(&request, "psa_company_id")?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "company.delete", &id);
    audited::write(&app, event, move |tx, event| {
        let company = companies::by_id(tx.reader(), tenant, &id)?.ok_or(Code::NotFound)?;
        let articles = companies::delete(tx, tenant, &company)?;
        add_links(event, &company);
        idempotency::clear(tx, tenant, &path_to(&id))?;
        event.detail("psa_company_name", company.psa_company_name);
        event.detail("knowledge_articles", articles);
        Ok(())
    })
    .await?;
    Ok(NoContent)
}

pub(super) async fn list_unlinked(
    app: web::Data<App>,
    caller: Permit,
    Query(query): Query<ListQuery<NamedTenant>>,
) -> Outcome<Vec<UnlinkedRecord>> {
    let tenant = query.filter.or_own(&app, &caller).await?;
    let owner = tenant.0.to_string();
    let list = List {
        name: "unlinked-tenants",
        owner: &owner,
    };
    cursor::newest_first(
        &app,
        caller.tenant.no,
        &query.page,
        list,
        move |reader, before, limit| unlinked::page(reader, tenant, before, limit),
        |refused: &UnlinkedRecord| refused.seq,
    )
    .await
}

pub(super) async fn forget_unlinked(
    app: web::Data<App>,
    caller: Permit,
    request: HttpRequest,
) -> Result<NoContent> {
    let directory = path_directory(&request, "inbound_tenant_id")?;
    let tenant = caller.tenant.no;
    let event = event_of(&request, &caller, "unlinked_tenant.delete", &directory);
    audited::write(&app, event, move |tx, _| {
        if unlinked::delete(tx, tenant, &directory)? {
            Ok(())
        } else {
            Err(Code::NotFound.into())
        }
    })
    .await?;
    Ok(NoContent)
}

pub(super) async fn health(app: web::Data<App>, caller: Permit) -> Outcome<Health> {
    let (tenant, rule) = (caller.tenant.no, app.config.directories);
    let health = app
        .store
        .read_long(LongRead::List, Some(caller.tenant.no), move |reader| {
            health::of_tenant(reader, tenant, FINDINGS, rule, Viewer::Tenant)
        })
        .await?;
    Ok(Reply::ok(health))
}
