//! Imports a seed file, or a list of companies, in one transaction (contract, section 11).

mod contents;
mod report;

use std::fmt::Display;

use serde_json::{Map, Value};

use self::report::{Change, line};
pub use self::report::{Imported, Report};
use super::rules::{self, Violation};
use super::tenants::{NewTenant, TenantRecord};
use super::{WriteTx, audit, export, installs, tenants};
use crate::error::Result;
use crate::input::fields::{Problem, Problems};
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
    pub step: &'a mut dyn FnMut(),
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
    let mut import = Import::new(tx, options);
    let stored = import.release_directories(seed)?;
    let mut imported = Vec::new();
    for (tenant, known) in seed.tenants.iter().zip(stored) {
        import.enter(&tenant.client_id);
        let before = import.done.changes();
        if let Some(no) = import.tenant(tenant, known)? {
            imported.push((no, tenant, import.done.changes() - before));
        }
    }
    for (no, tenant, changes) in &mut imported {
        import.enter(&tenant.client_id);
        let before = import.done.changes();
        import.contents(*no, tenant)?;
        *changes += import.done.changes() - before;
    }
    for (no, tenant, changes) in &mut imported {
        import.enter(&tenant.client_id);
        // After every agent of the file, so that no given number is one that the file names.
        *changes += import.managed_agent(*no)?;
        if *changes > 0 {
            import.record(*no, &tenant.client_id, actor, "seed.import", Map::new())?;
        }
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
    import.separator = ", ";
    for company in companies {
        import.company(tenant.no, company)?;
    }
    let done = import.done;
    if done.changes() > 0 {
        let mut details = Map::new();
        details.insert("created".to_owned(), done.created.into());
        details.insert("updated".to_owned(), done.updated.into());
        let action = "companies.import";
        import.record(tenant.no, &tenant.client_id, actor, action, details)?;
    }
    import.end()
}

struct Import<'a, 'tx, 'o> {
    tx: &'a mut WriteTx<'tx>,
    options: ImportOptions<'o>,
    problems: Problems,
    done: Imported,
    lines: Vec<String>,
    /// The tenant whose things are imported now.
    client_id: String,
    /// What separates the path of a thing from the name of a field.
    separator: &'static str,
}

impl<'a, 'tx, 'o> Import<'a, 'tx, 'o> {
    fn new(tx: &'a mut WriteTx<'tx>, options: ImportOptions<'o>) -> Self {
        Self {
            tx,
            options,
            problems: Problems::default(),
            done: Imported::default(),
            lines: Vec::new(),
            client_id: String::new(),
            separator: ".",
        }
    }

    fn enter(&mut self, client_id: &ClientId) {
        self.client_id = client_id.to_string();
    }

    fn end(self) -> Result<Result<Report, Rejected>> {
        let problems = self.problems.into_all();
        let is_rejected = !problems.is_empty();
        if is_rejected || self.options.dry_run {
            self.tx.roll_back()?;
        }
        if is_rejected {
            return Ok(Err(Rejected(problems)));
        }
        Ok(Ok(Report {
            done: self.done,
            lines: self.lines,
        }))
    }

    fn record(
        &mut self,
        tenant: TenantNo,
        client_id: &ClientId,
        actor: &Actor,
        action: &'static str,
        details: Map<String, Value>,
    ) -> Result<()> {
        let event = audit::Event {
            tenant,
            actor: actor.clone(),
            action,
            target: Some(client_id.to_string()),
            details,
            request_id: None,
            remote: None,
        };
        audit::record(self.tx, &event)
    }

    /// Counts a thing. A dry run adds its line, with what the thing is `before` and `after`.
    fn count(
        &mut self,
        change: Change,
        kind: &str,
        name: impl Display,
        show: impl FnOnce() -> (Value, Value),
    ) {
        self.done.count(change);
        (self.options.step)();
        if self.options.dry_run {
            let (before, after) = show();
            let name = name.to_string();
            let line = line(change, &self.client_id, kind, &name, (&before, &after));
            self.lines.push(line);
        }
    }

    fn created(&mut self, kind: &str, name: impl Display, show: impl FnOnce() -> Value) {
        self.count(Change::Created, kind, name, || (Value::Null, show()));
    }

    /// Counts a known thing. Returns whether it has to be written.
    fn differs<T: PartialEq>(
        &mut self,
        kind: &str,
        name: impl Display,
        (before, after): (&T, &T),
        show: fn(&T) -> Value,
    ) -> bool {
        let differs = before != after;
        let change = if differs {
            Change::Updated
        } else {
            Change::Unchanged
        };
        self.count(change, kind, name, || (show(before), show(after)));
        differs
    }

    fn problem(&self, path: &str, field: &str, value: &Value, reason: impl Into<String>) {
        let separator = self.separator;
        let path = format!("{path}{separator}{field}");
        self.problems.add(path, value, reason);
    }

    fn refuse(&self, path: &str, violation: Violation) {
        let value = Value::String(violation.value);
        self.problem(path, violation.field, &value, violation.reason);
    }

    /// Adds a problem for each violation. Returns whether there is one.
    fn refuse_all(&self, path: &str, violations: Vec<Violation>) -> bool {
        let is_refused = !violations.is_empty();
        for violation in violations {
            self.refuse(path, violation);
        }
        is_refused
    }

    fn require(&self, path: &str, field: &str, kind: &str) {
        let reason = format!("is required for a new {kind}");
        let path = format!("{path}{}{field}", self.separator);
        self.problems.add_absent(path, reason);
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
            self.require(&seed.path, "name", "tenant");
        }
        let (named, stored) = (&seed.draft.entra_tenant_id, before.entra_tenant_id.as_ref());
        let rule = self.options.directories;
        if let Some(violation) = rules::unfit_directory("entra_tenant_id", named, stored, rule) {
            self.refuse(&seed.path, violation);
            return Ok(no);
        }
        if let Some(violation) = tenants::taken_directory(self.tx.reader(), no, &after)? {
            self.refuse(&seed.path, violation);
            return Ok(no);
        }
        let name = &after.client_id;
        let Some(no) = no else {
            self.created("tenant", name, || export::tenant(&after));
            return tenants::insert(self.tx, &after).map(Some);
        };
        if self.differs("tenant", name, (&before, &after), export::tenant) {
            tenants::update(self.tx, no, &after)?;
        }
        Ok(Some(no))
    }

    /// A bot must never be installed for the directory of another MSP's own people.
    fn check_directories(&mut self, tenant: TenantNo, seed: &SeedTenant) -> Result<()> {
        for (client_id, directory) in installs::in_foreign_directories(self.tx.reader(), tenant)? {
            self.problems.add(
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
