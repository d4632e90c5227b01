//! `tenants create`, `tenants list` and `tenants delete`.

use std::io::{self, IsTerminal, Write};

use actix_web::rt::System;
use clap::error::ErrorKind;
use clap::{Args, Subcommand};

use super::flags::Directories;
use super::seed::find;
use super::{
    Common, Failed, column, environment, open, open_or_create, open_to_change, operator, print,
    wrong_usage,
};
use crate::input::draft::NAME;
use crate::input::fields::{shortened, web_address};
use crate::model::clock::rfc3339;
use crate::model::directory::{DirectoryId, DirectoryRule};
use crate::model::names::{ClientId, M365TenantId, Name};
use crate::store::tenants::{self, NewTenant, TenantRecord};
use crate::store::{audit, import, tenant_removal};
use crate::text::counted;

#[derive(Args)]
pub(super) struct Tenants {
    #[command(flatten)]
    directories: Directories,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a tenant with its managed agent, and print its client id
    Create {
        /// The tenant's name in the API: 1 to 63 characters of a-z, 0-9 and '-', not starting with
        /// '-'
        #[arg(long, env = "SWITCHBOARD_CLIENT_ID", value_name = "ID", value_parser = client_id)]
        client_id: ClientId,
        /// The tenant's name for people, 1 to 200 characters
        #[arg(long, env = "SWITCHBOARD_NAME", value_parser = name)]
        name: String,
        /// The Microsoft 365 tenant with which its users sign in, a GUID [default: none]
        #[arg(long, env = "SWITCHBOARD_ENTRA_TENANT_ID", value_name = "ID")]
        entra_tenant_id: Option<String>,
        /// The tenant's own requests per minute; 0 means no limit [default: --rate-limit of the
        /// server]
        #[arg(long, env = "SWITCHBOARD_TENANT_RATE_LIMIT", value_name = "N", value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
        rate_limit: Option<i64>,
        /// The https address of the tenant's website, for the app packages of its bots
        /// [default: a page of the server]
        #[arg(long, env = "SWITCHBOARD_WEBSITE_URL", value_name = "URL", value_parser = page)]
        website_url: Option<String>,
        /// The https address of the tenant's privacy statement [default: a page of the server]
        #[arg(long, env = "SWITCHBOARD_PRIVACY_URL", value_name = "URL", value_parser = page)]
        privacy_url: Option<String>,
        /// The https address of the tenant's terms of use [default: a page of the server]
        #[arg(long, env = "SWITCHBOARD_TERMS_URL", value_name = "URL", value_parser = page)]
        terms_url: Option<String>,
    },
    /// List tenants in columns: client id, name, Microsoft 365 tenant, created
    List,
    /// Delete a tenant with everything that belongs to it: sessions, files, companies, articles,
    /// agents, channels, keys, users and audit events; a server may be running
    Delete {
        /// The tenant's client id
        #[arg(value_name = "CLIENT_ID")]
        tenant: String,
        /// Confirm with the tenant's client id again [default: ask on the terminal]
        #[arg(long, env = "SWITCHBOARD_YES", value_name = "CLIENT_ID")]
        yes: Option<String>,
    },
}

fn client_id(text: &str) -> Result<ClientId, String> {
    ClientId::parse(text).ok_or_else(|| ClientId::RULE.to_owned())
}

/// Parses the id of a directory. An id that the rule excludes is wrong usage.
fn directory(text: &str, rule: DirectoryRule) -> M365TenantId {
    let read = DirectoryId::parse(text, &shortened(&text.into()));
    match read.and_then(|read| read.accepted(rule).cloned()) {
        Ok(directory) => directory,
        Err(reason) => wrong_usage(
            ErrorKind::ValueValidation,
            &format!("--entra-tenant-id {reason}"),
        ),
    }
}

/// Parses the https address of a page, by the rule of the API.
fn page(text: &str) -> Result<String, String> {
    web_address(text, &["https"]).map(str::to_owned)
}

/// Parses a name for people: 1 to 200 characters.
pub(super) fn name(text: &str) -> Result<String, String> {
    if (1..=NAME).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err(format!("must have 1 to {NAME} characters"))
    }
}

pub(super) fn run(common: &Common, command: &Tenants) -> Result<(), Failed> {
    match &command.command {
        Command::Create {
            client_id,
            name,
            entra_tenant_id,
            rate_limit,
            website_url,
            privacy_url,
            terms_url,
        } => {
            let rule = command.directories.rule();
            let entra_tenant_id = entra_tenant_id.as_deref().map(|text| directory(text, rule));
            let new = NewTenant {
                client_id: client_id.clone(),
                name: name.clone(),
                entra_tenant_id,
                rate_limit_per_minute: *rate_limit,
                retention_days: None,
                website_url: website_url.clone(),
                privacy_url: privacy_url.clone(),
                terms_url: terms_url.clone(),
            };
            let store = open_or_create(common)?;
            environment::remember_given(&store, common)?;
            store.write_now(move |tx| {
                let tenant = tenants::create(tx, &new)?;
                audit::record(
                    tx,
                    &audit::Event {
                        tenant,
                        actor: operator(),
                        action: "tenant.create",
                        target: Some(new.client_id.to_string()),
                        details: new.details()?,
                        request_id: None,
                        remote: None,
                    },
                )
            })?;
            print(client_id)
        }
        Command::Delete { tenant, yes } => delete(common, tenant, yes.as_deref()),
        Command::List => {
            for tenant in open(common)?.read_now(tenants::all)? {
                let entra_tenant_id = tenant
                    .entra_tenant_id
                    .as_ref()
                    .map_or("-", M365TenantId::as_str);
                print(format_args!(
                    "{}\t{}\t{entra_tenant_id}\t{}",
                    tenant.client_id,
                    column(&tenant.name),
                    rfc3339(tenant.created_at.0)
                ))?;
            }
            Ok(())
        }
    }
}

/// Deletes a tenant after a confirmation.
fn delete(common: &Common, named: &str, yes: Option<&str>) -> Result<(), Failed> {
    let store = open_to_change(common)?;
    let (tenant, contents) = store.read_now(|reader| {
        let tenant = find(reader, named)?;
        let contents = tenant_removal::contents(reader, tenant.no)?;
        Ok((tenant, contents))
    })?;
    let no = tenant.no;
    // An import that was interrupted would go on forever to be one of this tenant.
    import::resume(&store, &|| false)?;
    store.write_now(move |tx| tenant_removal::check(tx, no))?;
    let summary = format!(
        "{}, {}, {}, {}, {}",
        counted(contents.sessions, "session", "sessions"),
        counted(contents.companies, "company", "companies"),
        counted(contents.articles, "article", "articles"),
        counted(contents.users, "user", "users"),
        counted(contents.api_keys, "API key", "API keys"),
    );
    let answer = match yes {
        Some(yes) => yes.to_owned(),
        None => ask(&tenant, &summary)?,
    };
    if answer.trim() != tenant.client_id.as_str() {
        return Err(Failed::saying(format!(
            "nothing was deleted: the confirmation is not {}",
            tenant.client_id
        )));
    }
    System::new().block_on(store.delete_tenant(no))?;
    print(format_args!("{}\tdeleted: {summary}", tenant.client_id))
}

/// Asks for the tenant's client id on the terminal.
fn ask(tenant: &TenantRecord, summary: &str) -> Result<String, Failed> {
    if !io::stdin().is_terminal() {
        return Err(Failed::saying(format!(
            "nothing was deleted: there is no terminal to ask on; confirm with --yes {}",
            tenant.client_id
        )));
    }
    // Without stderr, nobody can read the question.
    let _ = write!(
        io::stderr(),
        "{} ({summary}) and its audit events are deleted for good.\nType {} to confirm: ",
        column(&tenant.name),
        tenant.client_id
    );
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer)
}
