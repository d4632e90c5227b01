//! Where a list goes on: opaque to clients, and good for the list that gave it only (contract, section 1, Lists).

use std::fmt::Write;

use serde::Serialize;

use super::App;
use super::envelope::{Outcome, Pagination, Reply};
use super::extract::Query;
use crate::auth::api_key::hash;
use crate::error::Result;
use crate::model::caller::Caller;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;
use crate::store::{Part, Reader};

const DEFAULT_SIZE: usize = 50;
const LARGEST_SIZE: i64 = 200;
const CHECK_BYTES: usize = 8;

/// Which list a cursor belongs to: its name, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// Such as `sessions`.
    pub name: &'a str,
    /// Such as a tenant's number or a session's id.
    pub owner: &'a str,
}

/// What part of a list is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Rows.
    pub size: usize,
    /// The last row that the caller has.
    pub after: Option<Tick>,
}

impl Page {
    /// Reads `page_size` and `cursor`.
    ///
    /// # Errors
    /// `validation_error` for a size out of range, and for a damaged or foreign cursor.
    pub fn of(query: &Query, list: List<'_>) -> Result<Self> {
        let size = query.number("page_size", 1..=LARGEST_SIZE)?;
        let size = size.and_then(|size| usize::try_from(size).ok());
        let after = query.opaque(
            "cursor",
            |text| decode(text, list),
            "is damaged, or was given by another list; begin again without it",
        )?;
        Ok(Self {
            size: size.unwrap_or(DEFAULT_SIZE),
            after,
        })
    }

    /// Rows to fetch: one more than asked for, to see whether there is more.
    pub fn fetch(&self) -> usize {
        self.size + 1
    }

    /// Cuts what was fetched to the page, and says whether there is more.
    pub fn cut<T>(
        &self,
        part: impl Into<Part<T>>,
        list: List<'_>,
        key: impl Fn(&T) -> Tick,
    ) -> (Vec<T>, Pagination) {
        let Part {
            mut rows,
            ends_early,
        } = part.into();
        let has_more = ends_early || rows.len() > self.size;
        rows.truncate(self.size);
        let next_cursor = rows
            .last()
            .filter(|_| has_more)
            .map(|last| encode(key(last), list));
        let pagination = Pagination {
            has_more,
            next_cursor,
        };
        (rows, pagination)
    }
}

/// A page of a list of the caller's tenant, newest first; `fetch` gives so many rows of that tenant from before a tick.
///
/// # Errors
/// As [`newest_first`].
pub async fn of_tenant<T: Serialize, P: Into<Part<T>> + Send + 'static>(
    app: &App,
    caller: &Caller,
    query: &Query,
    name: &str,
    fetch: impl Fn(&Reader<'_>, TenantNo, Tick, usize) -> Result<P> + Send + 'static,
    key: impl Fn(&T) -> Tick,
) -> Outcome<Vec<T>> {
    let tenant = caller.tenant.no;
    let owner = tenant.0.to_string();
    let list = List {
        name,
        owner: &owner,
    };
    newest_first(
        app,
        tenant,
        query,
        list,
        move |reader, before, limit| fetch(reader, tenant, before, limit),
        key,
    )
    .await
}

/// A page of a list that is newest first; `fetch` gives so many rows from before a tick.
///
/// # Errors
/// As [`Page::of`], and whatever `fetch` returns.
pub async fn newest_first<T: Serialize, P: Into<Part<T>> + Send + 'static>(
    app: &App,
    tenant: TenantNo,
    query: &Query,
    list: List<'_>,
    fetch: impl Fn(&Reader<'_>, Tick, usize) -> Result<P> + Send + 'static,
    key: impl Fn(&T) -> Tick,
) -> Outcome<Vec<T>> {
    let page = Page::of(query, list)?;
    let before = page.after.unwrap_or(BEHIND_ALL);
    let part = app
        .store
        .read_long(Some(tenant), move |reader| {
            fetch(reader, before, page.fetch())
        })
        .await?;
    let (rows, pagination) = page.cut(part, list, key);
    Ok(Reply::ok(rows).paged(pagination))
}

/// The parameters that every list takes, for the document.
pub fn describe(query: &Query) {
    let list = List {
        name: "",
        owner: "",
    };
    drop(Page::of(query, list));
}

fn check(tick: Tick, list: List<'_>) -> [u8; CHECK_BYTES] {
    let sum = hash(format!("{}\0{}\0{}", list.name, list.owner, tick.0).as_bytes());
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&sum[..CHECK_BYTES]);
    check
}

fn encode(tick: Tick, list: List<'_>) -> String {
    let mut text = format!("{:016x}", tick.0);
    for byte in check(tick, list) {
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

fn decode(text: &str, list: List<'_>) -> Option<Tick> {
    let tick = Tick(i64::from_str_radix(text.get(..16)?, 16).ok()?);
    (encode(tick, list) == text).then_some(tick)
}

/// Keys that lie before and behind every row.
pub const BEFORE_ALL: Tick = Tick(-1);
/// See [`BEFORE_ALL`].
pub const BEHIND_ALL: Tick = Tick(i64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list_only() {
        let list = List {
            name: "sessions",
            owner: "1",
        };
        let cursor = encode(Tick(77), list);
        assert_eq!(decode(&cursor, list), Some(Tick(77)));
        assert_eq!(decode(&cursor, List { owner: "2", ..list }), None);
        assert_eq!(
            decode(
                &cursor,
                List {
                    name: "messages",
                    ..list
                }
            ),
            None
        );
        assert_eq!(decode(&cursor.to_uppercase(), list), None);
        assert_eq!(decode("", list), None);
        assert_eq!(decode("é€é€é€é€é€é€", list), None);
    }
}
