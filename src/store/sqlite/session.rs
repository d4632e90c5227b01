//! The store's SQL types on a SQLite connection: binds parameters, visits rows, refuses writes.

use std::io::{self, Read, Seek, SeekFrom};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql};

use crate::error::{Error, Result};
use crate::model::ids::Tick;
use crate::store::sql::{Access, Next, Type, Value};

/// A connection within a transaction.
#[derive(Clone, Copy)]
pub(in crate::store) struct Session<'a> {
    connection: &'a Connection,
}

impl<'a> Session<'a> {
    pub(in crate::store) fn of(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// Visits the rows of a statement until `visit` returns [`Next::Stop`].
    pub(in crate::store) fn query(
        self,
        access: Access,
        sql: &str,
        values: &[Value<'_>],
        mut visit: impl FnMut(&Row<'_>) -> Result<Next>,
    ) -> Result<()> {
        let mut statement = self.prepare(sql, values)?;
        if access == Access::Read && !statement.readonly() {
            return Err(Error::internal(
                "a reader cannot run a statement that writes",
            ));
        }
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            if visit(&Row { row })? == Next::Stop {
                break;
            }
        }
        Ok(())
    }

    pub(in crate::store) fn execute(self, sql: &str, values: &[Value<'_>]) -> Result<usize> {
        Ok(self.prepare(sql, values)?.raw_execute()?)
    }

    pub(in crate::store) fn blob_slice(
        self,
        table: &str,
        column: &str,
        row: Tick,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<u8>> {
        let mut blob = self
            .connection
            .blob_open("main", table, column, row.0, true)?;
        let unreadable = |error: io::Error| Error::Internal(error.into());
        blob.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
        let left = blob
            .len()
            .saturating_sub(usize::try_from(offset).unwrap_or(usize::MAX));
        let mut slice = vec![0; left.min(limit)];
        blob.read_exact(&mut slice).map_err(unreadable)?;
        Ok(slice)
    }

    fn prepare(self, sql: &str, values: &[Value<'_>]) -> Result<CachedStatement<'a>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        if statement.parameter_count() != values.len() {
            return Err(Error::internal(format!(
                "a statement has {} parameters, but {} values were given",
                statement.parameter_count(),
                values.len()
            )));
        }
        for (index, value) in values.iter().enumerate() {
            statement.raw_bind_parameter(index + 1, value)?;
        }
        Ok(statement)
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null(_) => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A row of a query's result.
#[derive(Clone, Copy)]
pub(in crate::store) struct Row<'a> {
    row: &'a rusqlite::Row<'a>,
}

impl<'a> Row<'a> {
    pub(super) fn of(row: &'a rusqlite::Row<'a>) -> Self {
        Self { row }
    }
}

impl Row<'_> {
    pub(in crate::store) fn column_count(&self) -> usize {
        self.row.as_ref().column_count()
    }

    pub(in crate::store) fn is_named(&self, column: usize, name: &str) -> bool {
        let column = self.row.as_ref().column_name(column);
        column.is_ok_and(|column| column == name)
    }

    /// The bytes of all texts and blobs of the row.
    pub(in crate::store) fn bytes(&self) -> Result<usize> {
        let mut bytes = 0;
        for column in 0..self.column_count() {
            bytes += match self.row.get_ref(column)? {
                ValueRef::Text(value) | ValueRef::Blob(value) => value.len(),
                ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
            };
        }
        Ok(bytes)
    }

    // A list reads some 25 columns a row: these calls are worth their place in the caller.
    #[inline(always)]
    pub(in crate::store) fn value(&self, column: usize) -> Result<Value<'_>> {
        Ok(match self.row.get_ref(column)? {
            ValueRef::Null => Value::Null(Type::Integer),
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Text(text) => Value::Text(std::str::from_utf8(text).map_err(not_text)?),
            ValueRef::Blob(bytes) => Value::Blob(bytes),
            ValueRef::Real(_) => {
                return Err(Error::internal("a column holds a real number"));
            }
        })
    }
}

#[cold]
fn not_text(error: std::str::Utf8Error) -> Error {
    Error::Internal(error.into())
}

#[cfg(test)]
mod tests {
    use crate::store::sql::{Reader, Session as Engine};

    use super::*;

    #[test]
    fn columns_are_found_by_name_in_whatever_order_each_row_is_read() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = "SELECT 1 AS one, 2 AS two, 3 AS three UNION ALL SELECT 4, 5, 6 UNION ALL SELECT 7, 8, 9";
        let rows: Vec<Vec<i64>> = Reader::on(Engine::Sqlite(Session::of(&connection)))
            .all(sql, (), |row| {
                let one = row.get("one")?;
                // Each row may be read in another order.
                let others = if one == 4 {
                    [row.get("three")?, row.get("two")?]
                } else {
                    [row.get("two")?, row.get("three")?]
                };
                assert!(row.get::<i64>("four").is_err());
                Ok([&[one], &others[..]].concat())
            })
            .unwrap();
        assert_eq!(rows, [[1, 2, 3], [4, 6, 5], [7, 8, 9]]);
    }

    #[test]
    fn a_reader_refuses_a_statement_that_writes_or_has_another_number_of_parameters() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (x INTEGER)")
            .unwrap();
        let reader = Reader::on(Engine::Sqlite(Session::of(&connection)));
        let insert = "INSERT INTO t (x) VALUES (1) RETURNING x";
        assert!(reader.optional(insert, (), |_| Ok(())).is_err());
        assert!(reader.all("SELECT ?1 AS x", (), |_| Ok(())).is_err());
        assert!(reader.all("SELECT 1 AS x", [1_i64], |_| Ok(())).is_err());
        let rows = reader.all("SELECT x FROM t", (), |row| row.get::<i64>("x"));
        assert_eq!(rows.unwrap(), [0_i64; 0]);
    }
}
