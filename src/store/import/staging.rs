//! The staged rows of an import, and the change of a few of them.

use std::time::Instant;

use serde_json::{Map, Value};

use super::companies::{Decision, decide};
use super::{Imported, LIST_ACTION, list_details};
use crate::error::{Error, Result};
use crate::input::company_set::add_up;
use crate::input::draft::CompanyDraft;
use crate::input::fields::{Field, Fields, Problem, Problems};
use crate::input::seed::SeedCompany;
use crate::model::caller::Actor;
use crate::model::directory::DirectoryRule;
use crate::model::names::{CompanyId, M365TenantId, TenantNo};
use crate::store::{Reader, WriteTx, audit, sql::Row, tenants};

/// The number of a staged import.
pub(super) type ImportNo = i64;

/// A staged company, checked.
pub(super) struct Checked {
    pub(super) id: CompanyId,
    /// Whether the company has to be written.
    pub(super) is_change: bool,
    /// The directories whose companies the change is about.
    pub(super) holds: Vec<M365TenantId>,
}

const NEXT_NO: &str = "
SELECT coalesce(max(used.number), 0) + 1 AS number
FROM (SELECT max(import_id) AS number FROM imports
      UNION ALL SELECT max(import_id) FROM import_rows
      UNION ALL SELECT max(import_id) FROM import_holds) AS used";
const BEGIN: &str = "
INSERT INTO imports (import_id, state, any_directory, done_position, created, updated, started_at)
VALUES (?1, 'STAGING', ?2, -1, 0, 0, ?3)";

/// Begins to stage an import. Rows that an earlier import left have another number.
pub(super) fn begin(tx: &mut WriteTx<'_>, rule: DirectoryRule) -> Result<ImportNo> {
    let number: ImportNo = tx.reader().one(NEXT_NO, (), |row| row.get("number"))?;
    let (any, now) = (rule == DirectoryRule::AnyId, tx.now());
    tx.execute(BEGIN, (number, any, now))?;
    Ok(number)
}

const ADD: &str = "
INSERT INTO import_rows (import_id, psa_company_id, position, draft) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (import_id, psa_company_id) DO NOTHING";
const STAGED: &str = "
SELECT position, psa_company_id, draft FROM import_rows WHERE import_id = ?1 AND psa_company_id = ?2";
const ADD_UP: &str =
    "UPDATE import_rows SET draft = ?3 WHERE import_id = ?1 AND psa_company_id = ?2";
const KEEP: &str =
    "UPDATE import_rows SET draft = NULL WHERE import_id = ?1 AND psa_company_id = ?2";
const HOLD: &str = "
INSERT INTO import_holds (import_id, m365_tenant_id) VALUES (?1, ?2)
ON CONFLICT (import_id, m365_tenant_id) DO NOTHING";

/// Stages rows. A row adds to the company that an earlier row names. Returns the rows that
/// contradict an earlier one.
pub(super) fn add(
    tx: &WriteTx<'_>,
    import: ImportNo,
    rows: &[(u64, SeedCompany)],
) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for (position, row) in rows {
        let (id, draft) = (&row.psa_company_id, draft_as_json(&row.draft)?);
        if tx.execute(ADD, (import, id, *position, &draft))? > 0 {
            continue;
        }
        let (first, mut company) = tx.reader().one(STAGED, (import, id), staged)?;
        match add_up(&mut company.draft, first, row) {
            Ok(()) => {
                let draft = draft_as_json(&company.draft)?;
                tx.execute(ADD_UP, (import, id, &draft))?;
            }
            Err(problem) => problems.push(problem),
        }
    }
    Ok(problems)
}

/// The staged companies after a position, up to `limit` of them.
pub(super) fn after(
    reader: &Reader<'_>,
    import: ImportNo,
    position: i64,
    limit: usize,
) -> Result<Vec<(u64, SeedCompany)>> {
    reader.all(NEXT, (import, position, limit), staged)
}

/// Keeps what the check of staged companies found.
pub(super) fn settle(tx: &WriteTx<'_>, import: ImportNo, checked: &[Checked]) -> Result<()> {
    for company in checked {
        if !company.is_change {
            tx.execute(KEEP, (import, &company.id))?;
        }
        for directory in &company.holds {
            tx.execute(HOLD, (import, directory))?;
        }
    }
    Ok(())
}

const APPLY: &str = "
UPDATE imports SET state = 'APPLYING', tenant_no = ?2, created = ?3, updated = ?4, actor_kind = ?5, actor_id = ?6, actor_name = ?7
WHERE import_id = ?1";

/// Begins to apply an import. After this change is committed, the import is always finished, even
/// after a crash. Its end is an audit event if there is an actor.
pub(super) fn begin_to_apply(
    tx: &WriteTx<'_>,
    import: ImportNo,
    tenant: TenantNo,
    done: Imported,
    actor: Option<&Actor>,
) -> Result<()> {
    let parameters = (
        import,
        tenant,
        done.created,
        done.updated,
        actor.map(|actor| actor.kind),
        actor.map(|actor| actor.id.clone()),
        actor.and_then(|actor| actor.name.clone()),
    );
    tx.execute(APPLY, parameters).map(drop)
}

/// An import that was begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) number: ImportNo,
    pub(super) is_applying: bool,
}

const ALL: &str = "SELECT import_id, state FROM imports ORDER BY import_id";

/// The imports that were begun and did not end.
pub(super) fn all(reader: &Reader<'_>) -> Result<Vec<Begun>> {
    reader.all(ALL, (), |row| {
        let state: String = row.get("state")?;
        Ok(Begun {
            number: row.get("import_id")?,
            is_applying: state == "APPLYING",
        })
    })
}

const IS_EMPTY: &str = "
SELECT NOT EXISTS (SELECT 1 FROM imports) AND NOT EXISTS (SELECT 1 FROM import_rows)
   AND NOT EXISTS (SELECT 1 FROM import_holds) AS is_empty";

/// Whether nothing of an import is left.
pub(super) fn is_empty(reader: &Reader<'_>) -> Result<bool> {
    reader.one(IS_EMPTY, (), |row| row.get("is_empty"))
}

const DROP: &str = "DELETE FROM imports WHERE import_id = ?1";

/// Ends an import. Its rows then belong to no import.
pub(super) fn end(tx: &WriteTx<'_>, import: ImportNo) -> Result<()> {
    tx.execute(DROP, [import]).map(drop)
}

const CLEAN_ROWS: &str = "
DELETE FROM import_rows WHERE (import_id, psa_company_id) IN (
  SELECT import_id, psa_company_id FROM import_rows ORDER BY import_id, psa_company_id LIMIT ?1)";
const CLEAN_HOLDS: &str = "
DELETE FROM import_holds WHERE (import_id, m365_tenant_id) IN (
  SELECT import_id, m365_tenant_id FROM import_holds ORDER BY import_id, m365_tenant_id LIMIT ?1)";

/// Deletes up to `limit` rows that no import needs. These are the rows of all imports, because one
/// process imports at a time. Returns how many.
pub(super) fn clean(tx: &WriteTx<'_>, limit: usize) -> Result<usize> {
    Ok(tx.execute(CLEAN_ROWS, [limit])? + tx.execute(CLEAN_HOLDS, [limit])?)
}

/// An import that is being applied.
struct Applying {
    tenant: TenantNo,
    rule: DirectoryRule,
    done_position: i64,
    done: Imported,
    actor: Option<Actor>,
}

const APPLYING: &str = "
SELECT tenant_no, any_directory, done_position, created, updated, actor_kind, actor_id, actor_name
FROM imports WHERE import_id = ?1 AND state = 'APPLYING'";

fn applying(reader: &Reader<'_>, import: ImportNo) -> Result<Option<Applying>> {
    reader.optional(APPLYING, [import], |row| {
        let tenant = row.get("tenant_no")?;
        let any_directory: bool = row.get("any_directory")?;
        let done_position = row.get("done_position")?;
        let done = Imported {
            created: row.get("created")?,
            updated: row.get("updated")?,
            unchanged: 0,
        };
        let (kind, id) = (row.get("actor_kind")?, row.get("actor_id")?);
        let name = row.get("actor_name")?;
        let actor = |(kind, id)| Actor { kind, id, name };
        Ok(Applying {
            tenant,
            rule: match any_directory {
                true => DirectoryRule::AnyId,
                false => DirectoryRule::Guid,
            },
            done_position,
            done,
            actor: Option::zip(kind, id).map(actor),
        })
    })
}

const NEXT: &str = "
SELECT position, psa_company_id, draft FROM import_rows
WHERE import_id = ?1 AND draft IS NOT NULL AND position > ?2 ORDER BY position LIMIT ?3";
/// Rows that are read at a time, because the deadline leaves the others to a later change.
const FEW: usize = 50;
const PROGRESS: &str = "UPDATE imports SET done_position = ?2 WHERE import_id = ?1";

/// Applies the next rows, up to `limit` of them and until a deadline. Returns how many; 0 after the
/// last, when the import has ended.
pub(super) fn apply_next(
    tx: &mut WriteTx<'_>,
    import: ImportNo,
    limit: usize,
    deadline: Option<Instant>,
) -> Result<usize> {
    let Some(record) = applying(tx.reader(), import)? else {
        return Ok(0);
    };
    let (mut done, mut done_position) = (0, record.done_position);
    loop {
        let few = FEW.min(limit - done);
        let rows = (tx.reader()).all(NEXT, (import, done_position, few), staged)?;
        for (position, company) in &rows {
            apply(tx, &record, *position, company)?;
            done_position = i64::try_from(*position).unwrap_or(i64::MAX);
        }
        done += rows.len();
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if rows.is_empty() || done == limit || is_late {
            break;
        }
    }
    if done > 0 {
        tx.execute(PROGRESS, (import, done_position))?;
        return Ok(done);
    }
    if let Some(actor) = record.actor {
        let tenant = tenants::facts_by_no(tx.reader(), record.tenant)?;
        let event = audit::Event {
            tenant: record.tenant,
            actor,
            action: LIST_ACTION,
            target: Some(tenant.client_id.to_string()),
            details: list_details(record.done),
            request_id: None,
            remote: None,
        };
        audit::record(tx, &event)?;
    }
    end(tx, import)?;
    Ok(0)
}

fn apply(
    tx: &mut WriteTx<'_>,
    record: &Applying,
    position: u64,
    company: &SeedCompany,
) -> Result<()> {
    let decision = decide(tx.reader(), Some(record.tenant), company, record.rule)?;
    match decision {
        // Somebody changed the company after the check.
        Decision::Refuse(_) | Decision::Unnamed => log::warn!(
            "the company {} of an import is left out (line or place {position}): it was deleted or changed meanwhile",
            company.psa_company_id
        ),
        Decision::Keep(_) | Decision::Create(_) | Decision::Update(_) => {}
    }
    decision.write(tx, record.tenant)
}

/// Reads a staged company and its position.
fn staged(row: &Row<'_>) -> Result<(u64, SeedCompany)> {
    let position = row.get("position")?;
    let psa_company_id = row.get("psa_company_id")?;
    let fields: Value = row.json("draft")?;
    let problems = Problems::default();
    let draft = Fields::root(&fields, &problems).map(|fields| CompanyDraft::read(&fields));
    problems.into_result()?;
    let company = SeedCompany {
        path: String::new(),
        psa_company_id,
        draft: draft.unwrap_or_default().with_only_link(),
    };
    Ok((position, company))
}

/// The fields that a draft has, as JSON that [`CompanyDraft::read`] reads.
pub(super) fn draft_as_json(draft: &CompanyDraft) -> Result<String> {
    let text = |field: &Field<String>| field.clone().map(Value::String);
    let directories = draft.directories().map(|ids| {
        let ids = ids.iter().map(M365TenantId::as_str);
        ids.collect::<Value>()
    });
    let fields = [
        ("psa_company_name", text(&draft.psa_company_name)),
        ("tenant_ids", directories),
        ("custom_instructions", text(&draft.custom_instructions)),
        (
            "custom_instructions_for_user_facing_chat",
            text(&draft.custom_instructions_for_user_facing_chat),
        ),
    ];
    let mut members = Map::new();
    for (name, field) in fields {
        let value = match field {
            Field::Absent => continue,
            Field::Null => Value::Null,
            Field::Set(value) => value,
        };
        members.insert(name.to_owned(), value);
    }
    serde_json::to_string(&members).map_err(|error| Error::Internal(error.into()))
}
