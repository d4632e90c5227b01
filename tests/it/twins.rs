//! Both engines have the same schema, and take every text of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use switchboard::model::clock::Clock;
use switchboard::store::{Store, database_file};
use tempfile::TempDir;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, Row};

use crate::sql_texts::{self, SqlText};
use crate::upgrade::newest_migration;

/// Tables that differ on purpose, each with the reason.
const OTHER_TABLES: [(&str, &str); 3] = [
    (
        "message_search",
        "SQLite has an FTS5 table, PostgreSQL a `tsvector`",
    ),
    (
        "title_search",
        "SQLite has an FTS5 table, PostgreSQL a `tsvector`",
    ),
    (
        "refinery_schema_history",
        "each engine's runner keeps its own record",
    ),
];

fn migrations(engine: &str) -> BTreeMap<i64, (String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = fs::read_dir(folder.join(engine)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let number = name[1..name.find("__").unwrap()].parse().unwrap();
            (number, (name, fs::read_to_string(path).unwrap()))
        })
        .collect()
}

fn sqlite() -> (TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path(), Clock::System).unwrap());
    let file = Connection::open(database_file(folder.path())).unwrap();
    (folder, file)
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs a step on a new PostgreSQL database with all migrations, and drops the database.
async fn on_postgres<T>(step: impl AsyncFnOnce(&Client) -> T) -> T {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let url = std::env::var("SWITCHBOARD_TEST_POSTGRES").expect(
        "set SWITCHBOARD_TEST_POSTGRES to the URL of a PostgreSQL superuser, such as postgres://postgres@127.0.0.1:5432/postgres",
    );
    let mut config: Config = url.parse().unwrap();
    let server = connect(&config).await;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("twins_{}_{number}", std::process::id());
    server
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    config.dbname(&name);
    let client = connect(&config).await;
    for (file, sql) in migrations("postgres").into_values() {
        let migration = format!("BEGIN; {sql}; COMMIT");
        let done = client.batch_execute(&migration).await;
        done.unwrap_or_else(|error| panic!("{file}: {error:?}"));
    }
    let result = step(&client).await;
    drop(client);
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    server.batch_execute(&drop).await.unwrap();
    result
}

/// What a schema has: a line for each column, key, index and trigger.
type Schema = BTreeSet<String>;

fn is_compared(table: &str) -> bool {
    let is_part = |other: &str| table == other || table.starts_with(&format!("{other}_"));
    !table.starts_with("sqlite_") && !OTHER_TABLES.iter().any(|(other, _)| is_part(other))
}

/// A condition without what the engines write in other ways: brackets, casts, case of keywords.
fn condition(text: &str) -> String {
    let text = text.replace("::text", "").replace(['(', ')'], "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn column(table: &str, name: &str, kind: &str, required: bool, default: Option<&str>) -> String {
    let null = if required { "NOT NULL" } else { "NULL" };
    let default = default.unwrap_or("none").replace("::text", "");
    format!("column {table}.{name} {kind} {null} default {default}")
}

fn key(kind: &str, table: &str, columns: &[String]) -> String {
    format!("{kind} of {table} ({})", columns.join(", "))
}

fn index(name: &str, table: &str, columns: &[String], unique: bool, filter: &str) -> String {
    let unique = if unique { "unique " } else { "" };
    let columns = columns.join(", ");
    let filter = condition(filter);
    format!("{unique}index {name} on {table} ({columns}) where [{filter}]")
}

/// A trigger, by what it says before its body: when it fires, and on which table.
fn trigger(name: &str, table: &str, definition: &str) -> String {
    let (_, after) = definition.split_once(" AFTER ").unwrap();
    let (event, _) = after.split_once(" ON ").unwrap();
    let event: Vec<&str> = event.split_whitespace().collect();
    format!("trigger {name} after {} on {table}", event.join(" "))
}

fn rows<T>(file: &Connection, sql: &str, read: impl Fn(&rusqlite::Row<'_>) -> T) -> Vec<T> {
    let mut statement = file.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok(read(row))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn text(row: &rusqlite::Row<'_>, column: &str) -> String {
    row.get::<_, Option<String>>(column)
        .unwrap()
        .unwrap_or_default()
}

fn schema_of_sqlite(file: &Connection) -> Schema {
    let mut schema = Schema::new();
    let tables = rows(
        file,
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table'",
        |row| (text(row, "name"), text(row, "sql")),
    );
    for (table, definition) in tables.iter().filter(|(table, _)| is_compared(table)) {
        let checks = definition.matches("CHECK (").count();
        schema.insert(format!("table {table} with {checks} checks"));
        let mut primary = BTreeMap::new();
        let mut rowid = None;
        rows(
            file,
            &format!("SELECT * FROM pragma_table_info('{table}')"),
            |row| {
                let (name, kind): (String, String) = (text(row, "name"), text(row, "type"));
                let place: i64 = row.get("pk").unwrap();
                let is_required = row.get::<_, bool>("notnull").unwrap() || place > 0;
                let default: Option<String> = row.get("dflt_value").unwrap();
                (name, kind, place, is_required, default)
            },
        )
        .into_iter()
        .for_each(|(name, kind, place, is_required, default)| {
            schema.insert(column(table, &name, &kind, is_required, default.as_deref()));
            if place > 0 {
                if kind == "INTEGER" {
                    rowid = Some(name.clone());
                }
                primary.insert(place, name);
            }
        });
        // The only column of an integer key names the row, and every index ends in it.
        let rowid = rowid.filter(|_| primary.len() == 1);
        let primary: Vec<String> = primary.into_values().collect();
        schema.insert(key("primary key", table, &primary));
        schema.extend(references_of_sqlite(file, table));
        schema.extend(indexes_of_sqlite(file, table, rowid.as_ref()));
    }
    let triggers = "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger'";
    schema.extend(rows(file, triggers, |row| {
        trigger(
            &text(row, "name"),
            &text(row, "tbl_name"),
            &text(row, "sql").replace('\n', " "),
        )
    }));
    schema
}

fn references_of_sqlite(file: &Connection, table: &str) -> Vec<String> {
    let sql = format!("SELECT * FROM pragma_foreign_key_list('{table}') ORDER BY id, seq");
    let parts = rows(file, &sql, |row| {
        let id: i64 = row.get("id").unwrap();
        let to = format!(
            "{} on delete {}",
            text(row, "table"),
            text(row, "on_delete")
        );
        (id, to, text(row, "from"), text(row, "to"))
    });
    let mut references: BTreeMap<i64, (String, Vec<String>, Vec<String>)> = BTreeMap::new();
    for (id, to, column, target) in parts {
        let reference = references.entry(id).or_default();
        reference.0 = to;
        reference.1.push(column);
        reference.2.push(target);
    }
    let references = references.into_values();
    references
        .map(|(to, columns, targets)| {
            format!(
                "{} to ({}) of {to}",
                key("reference", table, &columns),
                targets.join(", ")
            )
        })
        .collect()
}

fn indexes_of_sqlite(file: &Connection, table: &str, rowid: Option<&String>) -> Vec<String> {
    let sql = format!(
        "SELECT l.name AS name, l.\"unique\" AS is_unique, l.origin AS origin, s.sql AS sql
         FROM pragma_index_list('{table}') l JOIN sqlite_schema s ON s.name = l.name WHERE l.origin <> 'pk'"
    );
    let indexes = rows(file, &sql, |row| {
        let is_unique: bool = row.get("is_unique").unwrap();
        (
            text(row, "name"),
            is_unique,
            text(row, "origin"),
            text(row, "sql"),
        )
    });
    let lines = indexes.into_iter().map(|(name, is_unique, origin, sql)| {
        let columns = format!("SELECT name FROM pragma_index_info('{name}') ORDER BY seqno");
        let mut columns = rows(file, &columns, |row| text(row, "name"));
        if origin == "u" {
            return key("unique", table, &columns);
        }
        if let Some(rowid) = rowid.filter(|rowid| !is_unique && !columns.contains(rowid)) {
            columns.push(rowid.clone());
        }
        let filter = sql.split_once("WHERE").map_or("", |(_, filter)| filter);
        index(&name, table, &columns, is_unique, filter)
    });
    lines.collect()
}

const COLUMNS: &str = "
SELECT table_name::text, column_name::text, data_type::text, is_nullable = 'NO' AS required,
       column_default::text, coalesce(collation_name, '')::text AS collation
FROM information_schema.columns WHERE table_schema = 'public'";
const KEYS: &str = "
SELECT c.contype::text AS kind, t.relname::text AS table_name, coalesce(r.relname, '')::text AS target, c.confdeltype::text AS on_delete,
       (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(c.conkey) WITH ORDINALITY k (no, place)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.no) AS columns,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(c.confkey) WITH ORDINALITY k (no, place)
                 JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.no), '{}') AS targets
FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid LEFT JOIN pg_class r ON r.oid = c.confrelid
WHERE c.connamespace = 'public'::regnamespace";
const INDEXES: &str = "
SELECT i.relname::text AS name, t.relname::text AS table_name, x.indisunique AS is_unique,
       coalesce(pg_get_expr(x.indpred, x.indrelid), '') AS filter,
       (SELECT array_agg(pg_get_indexdef(x.indexrelid, n, true) ORDER BY n) FROM generate_series(1, x.indnkeyatts) n) AS columns
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
WHERE i.relnamespace = 'public'::regnamespace AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = x.indexrelid)";
const TRIGGERS: &str = "
SELECT g.tgname::text AS name, t.relname::text AS table_name, pg_get_triggerdef(g.oid) AS definition
FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal";

async fn schema_of_postgres(client: &Client) -> Schema {
    let mut schema = Schema::new();
    let table = |row: &Row| row.get::<_, String>("table_name");
    let query = async |sql: &str| -> Vec<Row> {
        let rows = client.query(sql, &[]).await.unwrap();
        rows.into_iter()
            .filter(|row| is_compared(&table(row)))
            .collect()
    };
    let mut checks: BTreeMap<String, usize> = BTreeMap::new();
    for row in query(COLUMNS).await {
        checks.entry(table(&row)).or_default();
        let (collation, kind): (&str, &str) = (row.get("collation"), row.get("data_type"));
        let kind = match (kind, collation) {
            ("bigint", "") => "INTEGER",
            ("text", "C") => "TEXT",
            ("bytea", "") => "BLOB",
            (other, _) => panic!("{}: {other} {collation}", table(&row)),
        };
        let name: &str = row.get("column_name");
        let (required, default) = (row.get("required"), row.get("column_default"));
        schema.insert(column(&table(&row), name, kind, required, default));
    }
    for row in query(KEYS).await {
        let (kind, columns): (&str, Vec<String>) = (row.get("kind"), row.get("columns"));
        let line = match kind {
            "p" => key("primary key", &table(&row), &columns),
            "u" => key("unique", &table(&row), &columns),
            "f" => {
                let on_delete = match row.get("on_delete") {
                    "c" => "CASCADE",
                    "a" => "NO ACTION",
                    other => other,
                };
                let (targets, target): (Vec<String>, &str) =
                    (row.get("targets"), row.get("target"));
                let (own, targets) = (key("reference", &table(&row), &columns), targets.join(", "));
                format!("{own} to ({targets}) of {target} on delete {on_delete}")
            }
            "c" => {
                *checks.entry(table(&row)).or_default() += 1;
                continue;
            }
            other => panic!("a constraint {other} of {}", table(&row)),
        };
        schema.insert(line);
    }
    for (table, checks) in checks {
        schema.insert(format!("table {table} with {checks} checks"));
    }
    for row in query(INDEXES).await {
        // A column that has a keyword's name is quoted.
        let columns: Vec<String> = row.get("columns");
        let columns: Vec<String> = columns.iter().map(|name| name.replace('"', "")).collect();
        let (name, is_unique, filter) = (row.get("name"), row.get("is_unique"), row.get("filter"));
        schema.insert(index(name, &table(&row), &columns, is_unique, filter));
    }
    for row in query(TRIGGERS).await {
        schema.insert(trigger(
            row.get("name"),
            &table(&row),
            row.get("definition"),
        ));
    }
    schema
}

#[test]
fn every_migration_has_a_twin_of_the_same_number_and_name() {
    let names = |engine: &str| -> Vec<String> {
        migrations(engine)
            .into_values()
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
    assert_eq!(migrations("sqlite").len() as i64, newest_migration());
}

#[tokio::test]
async fn both_engines_have_the_same_tables_columns_keys_indexes_and_triggers() {
    let (_folder, file) = sqlite();
    let sqlite = schema_of_sqlite(&file);
    let postgres = on_postgres(async |client| schema_of_postgres(client).await).await;
    let only: [Vec<&String>; 2] = [
        sqlite.difference(&postgres).collect(),
        postgres.difference(&sqlite).collect(),
    ];
    assert!(
        only.iter().all(Vec::is_empty),
        "only in SQLite and only in PostgreSQL: {only:#?}"
    );
    assert!(sqlite.len() > 300, "{}", sqlite.len());
}

/// The types that the store binds and reads.
const BOUND: [Type; 3] = [Type::INT8, Type::TEXT, Type::BYTEA];
/// A literal number is an `int4`, and so is a length; a condition is a `bool`.
const READ: [Type; 5] = [Type::INT8, Type::TEXT, Type::BYTEA, Type::INT4, Type::BOOL];

/// Prepares a text with types that the store binds. PostgreSQL infers most of them.
///
/// Where it cannot, as in `?1 IS NULL`, each type is tried: the store states the type of each value.
async fn prepare(client: &Client, text: &SqlText) -> Result<(), String> {
    let sql = text.sql.replace('?', "$");
    let numbers = text.sql.split('?').skip(1);
    let numbers = numbers.filter_map(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<usize>().ok()
    });
    let mut tried = vec![vec![Type::UNKNOWN; numbers.max().unwrap_or(0)]];
    let mut refused = String::new();
    while let Some(types) = tried.pop() {
        match client.prepare_typed(&sql, &types).await {
            Ok(statement) => {
                // A number beside a literal number is inferred to be as short as the literal.
                let bound: Vec<Type> = statement.params().to_vec();
                if bound.contains(&Type::INT4) {
                    let wide = bound.into_iter().map(|kind| match kind {
                        Type::INT4 => Type::INT8,
                        other => other,
                    });
                    tried.push(wide.collect());
                    continue;
                }
                let odd = bound.iter().find(|kind| !BOUND.contains(kind));
                let mut columns = statement.columns().iter();
                let unread = columns.find(|column| !READ.contains(column.type_()));
                return match (odd, unread) {
                    (None, None) => Ok(()),
                    (odd, unread) => Err(format!("types {odd:?} {unread:?}")),
                };
            }
            Err(error) => {
                let error = error.as_db_error().unwrap();
                let unknown = [
                    SqlState::INDETERMINATE_DATATYPE,
                    SqlState::AMBIGUOUS_PARAMETER,
                ];
                let number = error
                    .message()
                    .rsplit_once('$')
                    .filter(|_| unknown.contains(error.code()));
                match number {
                    None => refused = error.message().to_owned(),
                    Some((_, number)) => tried.extend(BOUND.map(|kind| {
                        let mut types = types.clone();
                        types[number.parse::<usize>().unwrap() - 1] = kind;
                        types
                    })),
                }
            }
        }
    }
    Err(refused)
}

#[tokio::test]
async fn both_engines_take_every_text_of_the_store() {
    let (_folder, file) = sqlite();
    let texts = sql_texts::of_every_engine();
    for text in &texts {
        let prepared = file.prepare(&text.sql);
        assert!(
            prepared.is_ok(),
            "{}: {:?}\n{}",
            text.name,
            prepared.err(),
            text.sql
        );
    }
    let refused: Vec<(String, String)> = on_postgres(async |client| {
        let mut refused = Vec::new();
        for text in &texts {
            if let Err(error) = prepare(client, text).await {
                refused.push((text.name.clone(), error));
            }
        }
        refused
    })
    .await;
    assert_eq!(refused, []);
}

const VERSION: &str = "SELECT version FROM configuration_version";

#[tokio::test]
async fn on_postgres_a_change_of_what_a_cache_holds_raises_the_version_and_another_does_not() {
    on_postgres(async |client| {
        let version = async || -> i64 { client.query_one(VERSION, &[]).await.unwrap().get(0) };
        for (sql, raises) in [
            ("INSERT INTO tenants (tenant_no, seq, client_id, name, created_at) VALUES (1, 1, 'a', 'A', 1), (2, 2, 'b', 'B', 1)", true),
            ("UPDATE tenants SET knowledge_version = 1", false),
            ("UPDATE tenants SET name = 'C'", true),
            ("INSERT INTO users (tenant_no, user_id, seq, name, role) VALUES (1, 'u', 3, 'U', 'ADMIN')", false),
            ("UPDATE users SET name = 'U', role = 'ADMIN', last_seen_at = 5", false),
            ("UPDATE users SET name = NULL", true),
            ("UPDATE users SET role = 'USER'", true),
            ("DELETE FROM users WHERE user_id = 'nobody'", false),
            ("INSERT INTO end_companies (tenant_no, psa_company_id, seq, psa_company_name, created_at, updated_at) VALUES (1, 'c', 4, 'C', 1, 1)", false),
            ("INSERT INTO company_directories VALUES (1, 'd', 4, 'c', 0)", true),
            ("DELETE FROM end_companies", true),
            ("DELETE FROM end_companies", false),
            ("DELETE FROM users", true),
            ("DELETE FROM tenants", true),
        ] {
            let before = version().await;
            client.batch_execute(sql).await.unwrap();
            assert_eq!(version().await, before + i64::from(raises), "{sql}");
        }
    })
    .await;
}

#[tokio::test]
async fn on_postgres_a_demotion_ends_the_tokens_that_the_user_minted_and_a_promotion_does_not() {
    on_postgres(async |client| {
        client
            .batch_execute(
                "INSERT INTO tenants (tenant_no, seq, client_id, name, created_at) VALUES (1, 1, 'a', 'A', 1);
                 INSERT INTO users (tenant_no, user_id, seq, role) VALUES (1, 'u', 2, 'USER'), (1, 'v', 3, 'USER');
                 INSERT INTO sessions (seq, id, tenant_no, agent_id, channel, show_agent_progress_steps, rule, created_by_kind, created_by_id, metadata, created_at, updated_at)
                 VALUES (4, '\\x00', 1, 1, 'API', 0, '', '', '', '{}', 1, 1);
                 INSERT INTO session_tokens (jti, session_seq, tenant_no, minted_by_kind, minted_by_id, created_at, expires_at)
                 VALUES ('\\x01', 4, 1, 'dashboard_user', 'u', 1, 1), ('\\x02', 4, 1, 'dashboard_user', 'v', 1, 1), ('\\x03', 4, 1, 'api_key', 'u', 1, 1)",
            )
            .await
            .unwrap();
        let revoked = async || -> Vec<String> {
            let sql = "SELECT encode(jti, 'hex') FROM session_tokens WHERE revoked_at > 1700000000000 ORDER BY jti";
            let rows = client.query(sql, &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        };
        client.batch_execute("UPDATE users SET role = 'ADMIN' WHERE user_id = 'v'").await.unwrap();
        assert_eq!(revoked().await, [""; 0]);
        client.batch_execute("UPDATE users SET role = 'VIEWER' WHERE user_id = 'u'").await.unwrap();
        assert_eq!(revoked().await, ["01"]);
    })
    .await;
}
