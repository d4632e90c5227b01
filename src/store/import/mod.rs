//! Imports a seed file, or a list of companies (contract, section 11): in one transaction. If very
//! many companies change, the import checks all of them first, then writes them in small
//! transactions.

mod companies;
mod contents;
mod findings;
mod large;
mod report;
mod staging;

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use self::findings::Foreseen;
pub use self::findings::findings;
use self::large::Staged;
pub use self::large::{
    CompanyList, LargeOptions, ONE_TRANSACTION, Resumer, apply_large, begin_large, is_applying,
    resume,
};
use self::report::Tally;
pub use self::report::{Imported, Report};
use super::installs::InstallRecord;
use super::rules;
use super::tenants::{NewTenant, TenantRecord};
use super::{WriteTx, audit, export, installs, tenants};
use crate::error::Result;
use crate::input::fields::Problem;
use crate::input::seed::{Seed, SeedCompany, SeedTenant};
use crate::model::caller::Actor;
use crate::model::directory::DirectoryRule;
use crate::model::names::{ClientId, TenantNo};

/// How an import runs.
pub struct ImportOptions<'a> {
    /// The change is rolled back at its end. The report has a line for each thing.
    pub dry_run: bool,
    /// The ids that the file may give to directories.
    pub directories: DirectoryRule,
    /// Called for each thing, to show the progress.
    pub step: &'a mut (dyn FnMut() + Send),
}

/// All problems that a file has with what is stored. Nothing of the file is imported.
#[derive(Debug, thiserror::Error)]
#[error("the file has {} problems", .0.len())]
pub struct Rejected(pub Vec<Problem>);

/// Imports a seed file: all of it, or nothing.
pub fn apply(
    tx: &mut WriteTx<'_>,
    seed: &Seed,
    actor: &Actor,
) -> Result<Result<Imported, Rejected>> {
    let options = ImportOptions {
        dry_run: false,
        directories: DirectoryRule::default(),
        step: &mut || (),
    };
    let outcome = apply_with(tx, seed, actor, options)?;
    Ok(outcome.map(|report| report.done))
}

/// As [`apply`], with options.
pub fn apply_with(
    tx: &mut WriteTx<'_>,
    seed: &Seed,
    actor: &Actor,
    options: ImportOptions<'_>,
) -> Result<Result<Report, Rejected>> {
    apply_staged(tx, seed, actor, options, HashMap::new())
}

/// As [`apply_with`]. The companies of some tenants were checked and staged before.
fn apply_staged(
    tx: &mut WriteTx<'_>,
    seed: &Seed,
    actor: &Actor,
    options: ImportOptions<'_>,
    staged: HashMap<ClientId, Staged>,
) -> Result<Result<Report, Rejected>> {
    let mut import = Import::new(tx, options);
    import.stage(staged);
    let stored = import.release_directories(seed)?;
    let mut imported = Vec::new();
    for (tenant, known) in seed.tenants.iter().zip(stored) {
        import.enter(&tenant.client_id);
        let before = import.tally.done.changes();
        if let Some(no) = import.tenant(tenant, known)? {
            imported.push((no, tenant, import.tally.done.changes() - before));
        }
    }
    for (no, tenant, changes) in &mut imported {
        import.enter(&tenant.client_id);
        let before = import.tally.done.changes();
        import.contents(*no, tenant)?;
        *changes += import.tally.done.changes() - before;
    }
    for (no, tenant, changes) in &mut imported {
        import.enter(&tenant.client_id);
        // After every agent of the file, so that no given number is one that the file names.
        *changes += import.managed_agent(*no)?;
        if *changes > 0 {
            import.record(*no, &tenant.client_id, actor, "seed.import", Map::new())?;
        }
    }
    for lost in std::mem::take(&mut import.lost) {
        let (tenant, details) = (lost.tenant, lost.details());
        import.record(tenant, &lost.id, actor, "install.delete", details)?;
    }
    for (no, tenant, _) in &imported {
        import.check_directories(*no, tenant)?;
    }
    import.end()
}

/// Imports a list of companies into one tenant: all of them, or none.
pub fn apply_companies(
    tx: &mut WriteTx<'_>,
    tenant: &TenantRecord,
    companies: &[SeedCompany],
    actor: &Actor,
    options: ImportOptions<'_>,
) -> Result<Result<Report, Rejected>> {
    let mut import = Import::new(tx, options);
    import.enter(&tenant.client_id);
    import.tally.separator = LIST_SEPARATOR;
    for company in companies {
        import.company(tenant.no, company)?;
    }
    let details = list_details(import.tally.done);
    if import.tally.done.changes() > 0 {
        import.record(tenant.no, &tenant.client_id, actor, LIST_ACTION, details)?;
    }
    import.end()
}

/// The audit event of a list of companies.
const LIST_ACTION: &str = "companies.import";
/// What separates the line of a list from the name of a column.
const LIST_SEPARATOR: &str = ", ";

fn list_details(done: Imported) -> Map<String, Value> {
    let details = [("created", done.created), ("updated", done.updated)];
    details
        .into_iter()
        .map(|(name, number)| (name.to_owned(), number.into()))
        .collect()
}

struct Import<'a, 'tx, 'o> {
    tx: &'a mut WriteTx<'tx>,
    tally: Tally<'o>,
    /// The companies that were checked before, by tenant.
    staged: HashMap<ClientId, Staged>,
    /// Whether the staged companies are few enough for this transaction.
    applies_staged: bool,
    /// The installs of deleted channels that installs of other tenants replaced.
    lost: Vec<InstallRecord>,
    /// The tenants of the file.
    client_ids: BTreeSet<ClientId>,
    /// The companies of a large dry run.
    foreseen: Foreseen,
}

impl<'a, 'tx, 'o> Import<'a, 'tx, 'o> {
    fn new(tx: &'a mut WriteTx<'tx>, options: ImportOptions<'o>) -> Self {
        Self {
            tx,
            tally: Tally::new(options),
            staged: HashMap::new(),
            applies_staged: false,
            lost: Vec::new(),
            client_ids: BTreeSet::new(),
            foreseen: Foreseen::new(),
        }
    }

    fn enter(&mut self, client_id: &ClientId) {
        self.tally.client_id = client_id.to_string();
        self.client_ids.insert(client_id.clone());
    }

    fn end(self) -> Result<Result<Report, Rejected>> {
        let problems = self.tally.problems.into_all();
        let is_rejected = !problems.is_empty();
        // Nothing of a dry run can be read afterwards.
        let findings = match self.tally.options.dry_run && !is_rejected {
            true => {
                let rule = self.tally.options.directories;
                findings::after(self.tx.reader(), &self.client_ids, self.foreseen, rule)?
            }
            false => Vec::new(),
        };
        if is_rejected || self.tally.options.dry_run {
            self.tx.roll_back()?;
        }
        if is_rejected {
            return Ok(Err(Rejected(problems)));
        }
        Ok(Ok(Report {
            done: self.tally.done,
            lines: self.tally.lines,
            findings,
        }))
    }

    fn record(
        &mut self,
        tenant: TenantNo,
        target: &impl ToString,
        actor: &Actor,
        action: &'static str,
        details: Map<String, Value>,
    ) -> Result<()> {
        let event = audit::Event {
            tenant,
            actor: actor.clone(),
            action,
            target: Some(target.to_string()),
            details,
            request_id: None,
            remote: None,
        };
        audit::record(self.tx, &event)
    }

    /// Returns the tenants that exist already, in the file's order. A directory that one tenant
    /// gives up is free before another takes it, whichever the file names first.
    fn release_directories(&mut self, seed: &Seed) -> Result<Vec<Option<TenantRecord>>> {
        let mut stored = Vec::with_capacity(seed.tenants.len());
        for tenant in &seed.tenants {
            let known = tenants::by_client_id(self.tx.reader(), &tenant.client_id)?;
            if let Some(known) = &known {
                let before = known.as_new();
                if before.changed(&tenant.draft).entra_tenant_id != before.entra_tenant_id {
                    let released = NewTenant {
                        entra_tenant_id: None,
                        ..before
                    };
                    tenants::update(self.tx, known.no, &released)?;
                }
            }
            stored.push(known);
        }
        Ok(stored)
    }

    /// Returns the tenant's number, unless the tenant is new and refused.
    fn tenant(
        &mut self,
        seed: &SeedTenant,
        known: Option<TenantRecord>,
    ) -> Result<Option<TenantNo>> {
        let no = known.as_ref().map(|known| known.no);
        let before = match &known {
            Some(known) => known.as_new(),
            None => NewTenant::fresh(seed.client_id.clone()),
        };
        let after = before.changed(&seed.draft);
        if after.name.is_empty() {
            self.tally.require(&seed.path, "name", "tenant");
        }
        let (named, stored) = (&seed.draft.entra_tenant_id, before.entra_tenant_id.as_ref());
        let rule = self.tally.options.directories;
        if let Some(violation) = rules::unfit_directory("entra_tenant_id", named, stored, rule) {
            self.tally.refuse(&seed.path, violation);
            return Ok(no);
        }
        if let Some(violation) = tenants::taken_directory(self.tx.reader(), no, &after)? {
            self.tally.refuse(&seed.path, violation);
            return Ok(no);
        }
        let name = &after.client_id;
        let Some(no) = no else {
            self.tally
                .created("tenant", name, || export::tenant(&after));
            return tenants::insert(self.tx, &after).map(Some);
        };
        if self
            .tally
            .differs("tenant", name, (&before, &after), export::tenant)
        {
            tenants::update(self.tx, no, &after)?;
        }
        Ok(Some(no))
    }

    /// A bot must never be installed for the directory of another MSP's own people.
    fn check_directories(&mut self, tenant: TenantNo, seed: &SeedTenant) -> Result<()> {
        for (client_id, directory) in installs::in_foreign_directories(self.tx.reader(), tenant)? {
            self.tally.problems.add(
                format!("{}.channels", seed.path),
                &Value::String(directory.to_string()),
                format!(
                    "is installed by {client_id}, but another tenant signs in with this directory"
                ),
            );
        }
        Ok(())
    }
}
