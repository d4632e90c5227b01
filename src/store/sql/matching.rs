//! Pages of a list with `q`: the texts are compared here, so that every engine finds the same rows.

use super::{Access, Columns, Next, Params, Reader, Row, Rows, Value};
use crate::error::Result;
use crate::model::ids::Tick;
use crate::terms;

/// Which rows of a list a page begins and ends with.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Keyset {
    /// The page begins with the newest row that is older.
    pub(in crate::store) before: Tick,
    /// The greatest number of rows.
    pub(in crate::store) limit: usize,
}

impl Keyset {
    fn after<'v>(self, params: &[Value<'v>]) -> Vec<Value<'v>> {
        let own = [Value::Integer(self.before.0), number(self.limit)];
        params.iter().copied().chain(own).collect()
    }
}

/// A number as a parameter, which borrows nothing.
fn number(number: usize) -> Value<'static> {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

impl Reader<'_> {
    /// A page of a list, as [`Reader::page`] reads it. With `q`, the page has the rows whose texts
    /// contain the words: `find` selects each row's `seq` and those texts, so that the other columns
    /// of other rows are not read.
    ///
    /// Both statements take `params`, then the two numbers of the keyset.
    pub(in crate::store) fn page_matching<T>(
        &self,
        q: Option<(&str, &[&'static str])>,
        [find, page]: [&str; 2],
        at: Keyset,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Rows<T>> {
        let params = params.values();
        let params = params.as_ref();
        let Some((q, texts)) = q else {
            return self.page(page, at.after(params), read);
        };
        let columns = Columns::default();
        let (mut part, mut bytes) = (Rows::from(Vec::new()), 0);
        for run in self.find(q, texts, at, find, params)? {
            self.session
                .query(Access::Read, page, &run.after(params), |row| {
                    if bytes >= self.page_bytes.get() {
                        part.ends_early = true;
                        return Ok(Next::Stop);
                    }
                    bytes += row.bytes()?;
                    part.rows.push(read(&Row::of_list(row, &columns))?);
                    Ok(Next::Row)
                })?;
            if part.ends_early {
                break;
            }
        }
        Ok(part)
    }

    /// The first rows whose texts contain the words of `q`, as runs of neighbors: a page on which
    /// every row has the words is one run.
    fn find(
        &self,
        q: &str,
        texts: &[&'static str],
        at: Keyset,
        sql: &str,
        params: &[Value<'_>],
    ) -> Result<Vec<Keyset>> {
        let (words, columns) = (terms::parts(q), Columns::default());
        let all = Keyset {
            limit: usize::MAX,
            ..at
        };
        let (mut runs, mut left): (Vec<Keyset>, _) = (Vec::new(), at.limit);
        let mut is_neighbor = false;
        self.session.stream(sql, &all.after(params), |row| {
            let row = Row::of_list(row, &columns);
            let texts = texts.iter().filter_map(|name| row.text(name).transpose());
            let texts: Vec<&str> = texts.collect::<Result<_>>()?;
            let is_found = terms::contain(texts, &words);
            if is_found {
                match runs.last_mut().filter(|_| is_neighbor) {
                    Some(run) => run.limit += 1,
                    None => runs.push(Keyset {
                        before: Tick(row.get::<Tick>("seq")?.0 + 1),
                        limit: 1,
                    }),
                }
                left = left.saturating_sub(1);
            }
            is_neighbor = is_found;
            Ok(match left {
                0 => Next::Stop,
                _ => Next::Row,
            })
        })?;
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::sql::Session as Engine;
    use crate::store::sqlite::Session;

    const FIND: &str =
        "SELECT seq, name, note FROM t WHERE owner = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3";
    const PAGE: &str =
        "SELECT seq, body FROM t WHERE owner = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3";

    /// The rows of a page, and whether it ends early.
    fn page(q: Option<&str>, before: i64, limit: usize, bytes: usize) -> (Vec<i64>, bool) {
        let file = Connection::open_in_memory().unwrap();
        file.execute_batch(
            "CREATE TABLE t (seq INTEGER PRIMARY KEY, owner INTEGER, name TEXT, note TEXT, body TEXT);
             INSERT INTO t VALUES (1, 1, 'Léa', NULL, '1234'), (2, 1, 'bob', 'lea', '1234'), (3, 2, 'lea', NULL, '1234'),
                                  (4, 1, 'LEA', NULL, '1234'), (5, 1, 'eve', NULL, '1234'), (6, 1, 'lea', 'b', '1234')",
        )
        .unwrap();
        let reader = Reader::on(Engine::Sqlite(Session::of(&file)));
        reader.limit_pages(bytes);
        let at = Keyset {
            before: Tick(before),
            limit,
        };
        let q = q.map(|q| (q, &["name", "note"][..]));
        let part = reader.page_matching(q, [FIND, PAGE], at, [1_i64], |row| row.get("seq"));
        let part = part.unwrap();
        (part.rows, part.ends_early)
    }

    #[test]
    fn a_page_has_the_newest_rows_whose_texts_together_contain_all_words() {
        for (q, before, limit, rows) in [
            (None, 9, 9, &[6, 5, 4, 2, 1][..]),
            (Some("lea"), 9, 9, &[6, 4, 2, 1]),
            (Some("lea"), 9, 3, &[6, 4, 2]),
            (Some("lea"), 4, 9, &[2, 1]),
            (Some("B lea"), 9, 9, &[6, 2]),
            (Some("leah"), 9, 9, &[]),
        ] {
            assert_eq!(page(q, before, limit, 99).0, rows, "{q:?} {before} {limit}");
        }
    }

    #[test]
    fn a_page_with_words_ends_early_only_if_another_row_with_them_follows() {
        assert_eq!(page(Some("lea"), 9, 9, 8), (vec![6, 4], true));
        assert_eq!(page(Some("lea"), 9, 9, 12), (vec![6, 4, 2], true));
        assert_eq!(page(Some("lea"), 9, 9, 16), (vec![6, 4, 2, 1], false));
        assert_eq!(page(Some("b"), 9, 9, 8), (vec![6, 2], false));
    }
}
