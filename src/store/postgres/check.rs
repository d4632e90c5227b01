//! Checks what PostgreSQL itself can say of a database: its indexes and its references.

use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::sql::Reader;

const NO_TIME_LIMIT: &str = "SET LOCAL statement_timeout = 0";
/// The function of the extension amcheck that compares an index with its table.
const AMCHECK: &str = "
SELECT quote_ident(n.nspname) AS schema, has_function_privilege(p.oid, 'EXECUTE') AS may_run
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = 'bt_index_check' AND p.pronargs = 2
WHERE e.extname = 'amcheck'";
const INDEXES: &str = "
SELECT CAST(c.relname AS text) AS name, quote_ident(c.relname) AS quoted, i.indisvalid AS is_valid, m.amname = 'btree' AS is_btree
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() ORDER BY c.relname";
const UNCHECKED: &str = "
SELECT CAST(k.conname AS text) AS name, CAST(c.relname AS text) AS table_name
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND NOT k.convalidated ORDER BY k.conname";

const NOT_INSTALLED: &str = "the indexes were not compared with their tables, because the database has no extension amcheck; \
                             a superuser adds it: CREATE EXTENSION amcheck";
const NOT_ALLOWED: &str = "the indexes were not compared with their tables, because this role may not; \
                           a superuser allows it: GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO the role";

struct Index {
    name: String,
    quoted: String,
    is_valid: bool,
    is_btree: bool,
}

/// Lets the statements of this snapshot take as long as they need.
pub(in crate::store) fn take_time(reader: &Reader<'_>) -> Result<()> {
    reader.optional(NO_TIME_LIMIT, (), |_| Ok(())).map(drop)
}

/// The faults of the indexes, and what was not checked.
pub(in crate::store) fn damage(store: &Store) -> Result<(Vec<String>, Vec<String>)> {
    let (indexes, amcheck) = store.read_now(|reader| {
        let indexes = reader.all(INDEXES, (), |row| {
            Ok(Index {
                name: row.get("name")?,
                quoted: row.get("quoted")?,
                is_valid: row.get("is_valid")?,
                is_btree: row.get("is_btree")?,
            })
        })?;
        let amcheck = reader.optional(AMCHECK, (), |row| {
            Ok((row.get::<String>("schema")?, row.get("may_run")?))
        })?;
        Ok((indexes, amcheck))
    })?;
    let invalid = indexes.iter().filter(|index| !index.is_valid);
    let mut damage: Vec<String> = invalid
        .map(|index| format!("the index {} is not valid; run REINDEX", index.name))
        .collect();
    let schema = match amcheck {
        None => return Ok((damage, vec![NOT_INSTALLED.to_owned()])),
        Some((_, false)) => return Ok((damage, vec![NOT_ALLOWED.to_owned()])),
        Some((schema, true)) => schema,
    };
    let check = format!("SELECT {schema}.bt_index_check(CAST(?1 AS regclass), true)");
    for index in indexes
        .iter()
        .filter(|index| index.is_valid && index.is_btree)
    {
        // In a transaction of its own, which damage ends.
        let checked = store.read_now(|reader| {
            take_time(reader)?;
            reader.optional(&check, [index.quoted.as_str()], |_| Ok(()))
        });
        match checked {
            Ok(_) => {}
            Err(Error::Internal(cause)) => damage.push(format!("index {}: {cause}", index.name)),
            Err(refused) => return Err(refused),
        }
    }
    Ok((damage, Vec::new()))
}

/// References that the server does not hold.
pub(in crate::store) fn unchecked_references(reader: &Reader<'_>) -> Result<Vec<String>> {
    reader.all(UNCHECKED, (), |row| {
        let (name, table): (String, String) = (row.get("name")?, row.get("table_name")?);
        Ok(format!(
            "the reference {name} of {table} is not validated; run ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
        ))
    })
}
