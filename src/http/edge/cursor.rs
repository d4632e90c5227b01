//! List cursors: opaque, and valid only for the list that issued them (contract, section 1, Lists).

use std::fmt::Write;

use serde::Serialize;

use super::envelope::{Outcome, Pagination, Reply};
use super::extract::{FromQuery, QueryString};
use super::reply_limiter::REPLY_BYTES;
use crate::digest;
use crate::error::{Error, Refusal, Result};
use crate::http::App;
use crate::model::caller::Caller;
use crate::model::ids::Tick;
use crate::model::names::TenantNo;
use crate::store::{LongRead, Reader, Rows};

const DEFAULT_SIZE: usize = 50;
const LARGEST_SIZE: i64 = 200;
const CHECK_BYTES: usize = 8;
/// The bytes that may be read for a page before there is room for a large reply.
const BYTES_WITHOUT_ROOM: usize = 256 * 1_024;

/// The list that a cursor belongs to.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// The list's name, such as `sessions`.
    pub name: &'a str,
    /// The owner of the list, such as a tenant's number or a session's id.
    pub owner: &'a str,
}

/// A requested page of a list.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The number of rows.
    pub size: usize,
    /// The key of the last row that the caller has.
    pub after: Option<Tick>,
    /// The bytes that may be read for the page.
    pub bytes: usize,
}

/// The keys of a page's rows, from which the cursor of the next page is made.
pub struct PageKeys {
    keys: Vec<Tick>,
    has_more: bool,
    ends_early: bool,
    list_name: String,
    list_owner: String,
}

impl PageKeys {
    /// Whether the page ended because of its bytes.
    pub(super) fn ends_early(&self) -> bool {
        self.ends_early
    }

    /// The pagination of a page that ends after this number of rows.
    pub(super) fn pagination(&self, rows: usize) -> Pagination {
        let has_more = self.has_more || rows < self.keys.len();
        let list = List {
            name: &self.list_name,
            owner: &self.list_owner,
        };
        let last = rows.checked_sub(1).and_then(|last| self.keys.get(last));
        Pagination {
            has_more,
            next_cursor: last.filter(|_| has_more).map(|last| encode(*last, list)),
        }
    }
}

/// The query parameters `page_size` and `cursor`, before the cursor is decoded.
#[derive(Clone, Debug)]
pub struct PageRequest {
    size: usize,
    cursor: Option<String>,
    /// Whether the page comes from a list or from a search in it.
    kind: LongRead,
    bytes: usize,
}

impl FromQuery for PageRequest {
    fn read(query: &QueryString) -> Result<Self> {
        let size = query.number("page_size", 1..=LARGEST_SIZE)?;
        let size = size.and_then(|size| usize::try_from(size).ok());
        Ok(Self {
            size: size.unwrap_or(DEFAULT_SIZE),
            cursor: query.text("cursor").map(str::to_owned),
            kind: match query.search_text() {
                Some(_) => LongRead::Search,
                None => LongRead::List,
            },
            bytes: if query.has_room {
                REPLY_BYTES
            } else {
                BYTES_WITHOUT_ROOM
            },
        })
    }
}

/// The query of a list: a filter and a page.
pub struct ListQuery<F> {
    /// The filter.
    pub filter: F,
    /// The page.
    pub page: PageRequest,
}

impl<F: FromQuery> FromQuery for ListQuery<F> {
    fn read(query: &QueryString) -> Result<Self> {
        Ok(Self {
            filter: F::read(query)?,
            page: PageRequest::read(query)?,
        })
    }
}

impl Page {
    /// Decodes the requested page of this list.
    ///
    /// # Errors
    /// `validation_error` for an invalid cursor and for a cursor of another list.
    pub fn of(request: &PageRequest, list: List<'_>) -> Result<Self> {
        let decoded = |cursor: &String| {
            decode(cursor, list).ok_or_else(|| {
                let reason = "is invalid or belongs to another list; start again without a cursor";
                Error::from(Refusal::invalid("cursor", reason))
            })
        };
        Ok(Self {
            size: request.size,
            after: request.cursor.as_ref().map(decoded).transpose()?,
            bytes: request.bytes,
        })
    }

    /// The number of rows to fetch: one more than the page size, to learn whether there are more.
    pub fn fetch(&self) -> usize {
        self.size + 1
    }

    /// Cuts the fetched rows to the page, and takes their keys.
    pub fn cut<T>(
        &self,
        part: impl Into<Rows<T>>,
        list: List<'_>,
        key: impl Fn(&T) -> Tick,
    ) -> (Vec<T>, PageKeys) {
        let Rows {
            mut rows,
            ends_early,
        } = part.into();
        let has_more = ends_early || rows.len() > self.size;
        rows.truncate(self.size);
        let keys = PageKeys {
            keys: rows.iter().map(key).collect(),
            has_more,
            ends_early,
            list_name: list.name.to_owned(),
            list_owner: list.owner.to_owned(),
        };
        (rows, keys)
    }
}

/// A page of a list of the caller's tenant, newest first. `fetch` returns up to a number of the
/// tenant's rows from before a tick.
///
/// # Errors
/// `validation_error` for a cursor that is not of this list, and the errors of `fetch`.
pub async fn of_tenant<T: Serialize, P: Into<Rows<T>> + Send + 'static>(
    app: &App,
    caller: &Caller,
    page: &PageRequest,
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
        page,
        list,
        move |reader, before, limit| fetch(reader, tenant, before, limit),
        key,
    )
    .await
}

/// A page of a list, newest first. `fetch` returns up to a number of rows from before a tick.
///
/// # Errors
/// `validation_error` for a cursor that is not of this list, and the errors of `fetch`.
pub async fn newest_first<T: Serialize, P: Into<Rows<T>> + Send + 'static>(
    app: &App,
    tenant: TenantNo,
    page: &PageRequest,
    list: List<'_>,
    fetch: impl Fn(&Reader<'_>, Tick, usize) -> Result<P> + Send + 'static,
    key: impl Fn(&T) -> Tick,
) -> Outcome<Vec<T>> {
    let kind = page.kind;
    let page = Page::of(page, list)?;
    let before = page.after.unwrap_or(AFTER_ALL);
    let part = app
        .store
        .read_long(kind, Some(tenant), move |reader| {
            reader.limit_pages(page.bytes);
            fetch(reader, before, page.fetch())
        })
        .await?;
    let (rows, keys) = page.cut(part, list, key);
    Ok(Reply::ok(rows).paged(keys))
}

fn check(tick: Tick, list: List<'_>) -> [u8; CHECK_BYTES] {
    let sum = digest::sha256(format!("{}\0{}\0{}", list.name, list.owner, tick.0));
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

/// A key before every row.
pub const BEFORE_ALL: Tick = Tick(-1);
/// A key after every row.
pub const AFTER_ALL: Tick = Tick(i64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_valid_for_its_own_list_only() {
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
