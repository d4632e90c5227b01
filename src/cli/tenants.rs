//! `tenants create` and `tenants list`.

use clap::error::ErrorKind;
use clap::{Args, Subcommand};

use super::flags::Directories;
use super::{Common, Failed, column, open, operator, print, wrong_usage};
use crate::input::draft::NAME;
use crate::input::fields::shortened;
use crate::model::clock::rfc3339;
use crate::model::directory::{DirectoryId, DirectoryRule};
use crate::model::names::{ClientId, M365TenantId, Name};
use crate::store::audit;
use crate::store::tenants::{self, NewTenant};

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
    },
    /// List tenants in columns: client id, name, Microsoft 365 tenant, created
    List,
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
        } => {
            let rule = command.directories.rule();
            let entra_tenant_id = entra_tenant_id.as_deref().map(|text| directory(text, rule));
            let new = NewTenant {
                client_id: client_id.clone(),
                name: name.clone(),
                entra_tenant_id,
                rate_limit_per_minute: *rate_limit,
                retention_days: None,
            };
            open(common)?.write_now(move |tx| {
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
