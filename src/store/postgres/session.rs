//! The store's SQL types on a PostgreSQL connection.

use std::error::Error as StdError;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type as PgType, to_sql_checked};

use super::link::Link;
use super::locks;
use crate::error::{Error, Result};
use crate::model::ids::Tick;
use crate::store::sql::{Access, Next, Type, Value};

/// A connection within a transaction, or before it: the transaction begins with the first
/// statement.
#[derive(Clone, Copy)]
pub(in crate::store) struct Session<'a> {
    link: &'a Link,
}

impl<'a> Session<'a> {
    pub(super) fn of(link: &'a Link) -> Self {
        Self { link }
    }

    /// Visits the rows of a statement until `visit` returns [`Next::Stop`]. The transaction of a
    /// reader is read-only, so that the server refuses a statement that writes.
    pub(in crate::store) fn query(
        self,
        _access: Access,
        sql: &str,
        values: &[Value<'_>],
        mut visit: impl FnMut(&Row) -> Result<Next>,
    ) -> Result<()> {
        for row in self.link.query(sql, values)? {
            if visit(&Row { row })? == Next::Stop {
                break;
            }
        }
        Ok(())
    }

    /// As [`Session::query`], a part of the rows at a time.
    pub(in crate::store) fn stream(
        self,
        sql: &str,
        values: &[Value<'_>],
        mut visit: impl FnMut(&Row) -> Result<Next>,
    ) -> Result<()> {
        let cursor = self.link.open_cursor(sql, values)?;
        loop {
            let rows = self.link.fetch(&cursor)?;
            let is_last = rows.len() < Link::FETCHED_ROWS;
            for row in rows {
                if visit(&Row { row })? == Next::Stop {
                    return self.link.close_cursor(&cursor);
                }
            }
            if is_last {
                return self.link.close_cursor(&cursor);
            }
        }
    }

    pub(in crate::store) fn execute(self, sql: &str, values: &[Value<'_>]) -> Result<usize> {
        self.link.execute(sql, values)
    }

    pub(in crate::store) fn blob_slice(
        self,
        table: &str,
        column: &str,
        row: Tick,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<u8>> {
        // The names are the program's own. The server reads only the part that is asked for,
        // because the column is stored uncompressed.
        let sql = format!(
            "SELECT substring({column} FROM CAST(?2 AS integer) FOR CAST(?3 AS integer)) AS slice FROM {table} \
             WHERE {table}.{key} = ?1",
            key = "attachment_seq"
        );
        let first = i64::try_from(offset).unwrap_or(i64::MAX).saturating_add(1);
        let values = [
            Value::Integer(row.0),
            Value::Integer(first.min(i32::MAX.into())),
            Value::Integer(
                i64::try_from(limit)
                    .unwrap_or(i64::MAX)
                    .min(i32::MAX.into()),
            ),
        ];
        let rows = self.link.query(&sql, &values)?;
        let row = rows.first();
        let row = row.ok_or_else(|| Error::internal("a query returned no row"))?;
        Ok(row.try_get::<_, Vec<u8>>(0)?)
    }
}

impl Session<'_> {
    /// Locks the row of a session until the change ends.
    pub(in crate::store) fn lock_session(self, session: Tick) -> Result<()> {
        let values = [Value::Integer(session.0)];
        self.link.query(locks::SESSION, &values).map(drop)
    }
}

/// The PostgreSQL type of a parameter.
pub(super) fn type_of(value: &Value<'_>) -> PgType {
    let kind = match value {
        Value::Null(kind) => *kind,
        Value::Integer(_) => Type::Integer,
        Value::Text(_) => Type::Text,
        Value::Blob(_) => Type::Blob,
    };
    column_type(kind)
}

/// The PostgreSQL type of a column.
pub(super) fn column_type(kind: Type) -> PgType {
    match kind {
        Type::Integer => PgType::INT8,
        Type::Text => PgType::TEXT,
        Type::Blob => PgType::BYTEA,
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &PgType,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null(_) => Ok(IsNull::Yes),
            Self::Integer(number) => number.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Blob(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &PgType) -> bool {
        [PgType::INT8, PgType::TEXT, PgType::BYTEA].contains(kind)
    }

    to_sql_checked!();
}

/// A row of a query's result.
pub(in crate::store) struct Row {
    row: tokio_postgres::Row,
}

impl Row {
    pub(super) fn of(row: tokio_postgres::Row) -> Self {
        Self { row }
    }

    pub(in crate::store) fn column_count(&self) -> usize {
        self.row.len()
    }

    pub(in crate::store) fn is_named(&self, column: usize, name: &str) -> bool {
        self.row.columns()[column].name() == name
    }

    /// The bytes of all texts and blobs of the row.
    pub(in crate::store) fn bytes(&self) -> usize {
        let values = (0..self.column_count()).map(|column| match self.value(column) {
            Ok(Value::Text(text)) => text.len(),
            Ok(Value::Blob(bytes)) => bytes.len(),
            Ok(Value::Null(_) | Value::Integer(_)) | Err(_) => 0,
        });
        values.sum()
    }

    /// The value of a column. A boolean is 0 or 1.
    pub(in crate::store) fn value(&self, column: usize) -> Result<Value<'_>> {
        let kind = self.row.columns()[column].type_();
        let null = Value::Null(Type::Integer);
        let value = match *kind {
            PgType::INT8 => (self.row.try_get::<_, Option<i64>>(column)?).map(Value::Integer),
            PgType::INT4 => (self.row.try_get::<_, Option<i32>>(column)?)
                .map(|number| Value::Integer(number.into())),
            PgType::BOOL => (self.row.try_get::<_, Option<bool>>(column)?)
                .map(|is_true| Value::Integer(is_true.into())),
            PgType::TEXT | PgType::VARCHAR => {
                (self.row.try_get::<_, Option<&str>>(column)?).map(Value::Text)
            }
            PgType::BYTEA => (self.row.try_get::<_, Option<&[u8]>>(column)?).map(Value::Blob),
            _ => {
                return Err(Error::internal(format!(
                    "a column holds a value of the type {kind}"
                )));
            }
        };
        Ok(value.unwrap_or(null))
    }
}
