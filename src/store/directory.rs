//! The resolver on the store: each fact is one indexed read or a cache entry.

use super::cache::{CacheOnly, SnapshotVersion};
use super::sql::Reader;
use super::{Store, agents, channels, companies, company_directories, tenants};
use crate::error::{Error, Result};
use crate::model::names::{AgentId, BotId, ClientId, CompanyId, M365TenantId, TenantNo};
use crate::model::words::ManagedAgentKey;
use crate::resolver::{
    Agent, Asker, Channel, Company, Directory, Linked, Purpose, Refused, Request, Resolution,
    Tenant, acting, resolve,
};

const OWNS_DIRECTORY: &str = "
SELECT EXISTS (SELECT 1 FROM company_directories WHERE tenant_no = ?1 AND m365_tenant_id = ?2)
    OR EXISTS (SELECT 1 FROM installs WHERE tenant_no = ?1 AND m365_tenant_id = ?2)
    OR EXISTS (SELECT 1 FROM unlinked_tenants WHERE tenant_no = ?1 AND m365_tenant_id = ?2)
    OR EXISTS (SELECT 1 FROM tenants WHERE tenant_no = ?1 AND entra_tenant_id = ?2) AS owns";

const IS_HOME: &str = "
SELECT EXISTS (SELECT 1 FROM tenants WHERE tenant_no = ?1 AND entra_tenant_id = ?2) AS is_home";

impl Directory for Reader<'_> {
    type Error = Error;

    fn tenant(&self, client_id: &ClientId) -> Result<Option<Tenant>> {
        tenants::facts_by_client_id(self, client_id)
    }

    fn tenant_by_no(&self, no: TenantNo) -> Result<Tenant> {
        tenants::facts_by_no(self, no)
    }

    fn installed_channel(&self, bot: &BotId, inbound: &M365TenantId) -> Result<Option<Channel>> {
        channels::installed(self, bot, inbound)
    }

    fn active_channels(&self, tenant: TenantNo, bot: &BotId) -> Result<Vec<Channel>> {
        channels::active(self, tenant, bot)
    }

    fn agent(&self, tenant: TenantNo, id: AgentId) -> Result<Option<Agent>> {
        agents::facts_of(self, tenant, id)
    }

    fn managed_agent(&self, tenant: TenantNo, key: ManagedAgentKey) -> Result<Option<Agent>> {
        agents::managed_facts(self, tenant, key)
    }

    fn linked(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<Linked> {
        company_directories::linked(self, tenant, inbound)
    }

    fn owns_directory(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<bool> {
        self.one(OWNS_DIRECTORY, (tenant, inbound), |row| row.get("owns"))
    }

    fn is_home(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<bool> {
        self.one(IS_HOME, (tenant, inbound), |row| row.get("is_home"))
    }

    fn company(&self, tenant: TenantNo, id: &CompanyId) -> Result<Option<Company>> {
        companies::named(self, tenant, id)
    }
}

/// Why no agent answers, and where.
#[derive(Clone, Debug)]
pub struct NoAnswer {
    /// The reason.
    pub refused: Refused,
    /// The tenant that a platform call acts in, if there is one.
    pub acting: Option<Tenant>,
}

/// Decides who answers, and finds the acting tenant of a refusal.
fn decide<D: Directory>(
    directory: &D,
    asker: &Asker,
    request: &Request,
    purpose: Purpose,
) -> Result<Result<Resolution, NoAnswer>, D::Error> {
    match resolve(directory, asker, request, purpose)? {
        Ok(resolution) => Ok(Ok(resolution)),
        Err(refused) => {
            let acting = acting(directory, asker, request)?;
            Ok(Err(NoAnswer { refused, acting }))
        }
    }
}

/// Who answers, as decided at a version of the configuration.
#[derive(Debug)]
pub struct Decided {
    /// The decision.
    pub outcome: Result<Resolution, NoAnswer>,
    /// The version.
    pub version: i64,
}

impl Store {
    /// Decides who answers, and says at which version of the configuration. If the cache holds every
    /// fact at `snapshot_version`, the decision needs no snapshot.
    pub async fn resolve(
        &self,
        snapshot_version: Option<SnapshotVersion>,
        asker: &Asker,
        request: &Request,
        purpose: Purpose,
    ) -> Result<Decided> {
        // A cache miss falls through to the read below.
        if let Some(version) = snapshot_version.and_then(SnapshotVersion::version)
            && let Ok(outcome) =
                decide(&self.cache.at(version, &CacheOnly), asker, request, purpose)
        {
            return Ok(Decided { outcome, version });
        }
        let (asker, request) = (asker.clone(), request.clone());
        self.look_up(move |cached| {
            let outcome = decide(cached, &asker, &request, purpose)?;
            let version = cached.version();
            Ok(Decided { outcome, version })
        })
        .await
    }
}
