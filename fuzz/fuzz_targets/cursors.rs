//! Cursors, ids and times: the server accepts only what it writes, and a cursor only for its own
//! list.

#![no_main]

use std::fmt::Display;

use actix_web::FromRequest;
use actix_web::dev::Payload;
use actix_web::http::Uri;
use actix_web::test::TestRequest;
use form_urlencoded::Serializer;
use libfuzzer_sys::fuzz_target;
use switchboard::error::Result;
use switchboard::http::edge::cursor::{List, Page, PageRequest};
use switchboard::http::edge::extract::Query;
use switchboard::model::clock::{parse_rfc3339, rfc3339};
use switchboard::model::ids::{Id, Kind, MessageKind, SessionId, SessionKind, Tick, TokenKind};
use switchboard::model::session::Cursor;
use switchboard_fuzz::refused_field;

const LISTS: [List<'static>; 4] = [
    List {
        name: "sessions",
        owner: "1",
    },
    List {
        name: "sessions",
        owner: "11",
    },
    List {
        name: "messages",
        owner: "1",
    },
    List {
        name: "messages",
        owner: "ses_019ab697-e807-7fff-bfff-ffffffffffff",
    },
];

/// The number of ticks: a tick has 60 bits.
const TICKS: i64 = 1 << 60;

/// Reads the page that a request for `/?…` asks for; `None` if a request line cannot contain the
/// text.
fn query(text: &str) -> Option<Result<PageRequest>> {
    let uri = format!("/?{text}");
    Uri::try_from(&uri).ok()?;
    let request = TestRequest::with_uri(&uri).to_http_request();
    let read = Query::from_request(&request, &mut Payload::None).into_inner();
    Some(read.map(|Query(page)| page))
}

fn page(cursor: &str, list: List<'_>) -> Result<Page> {
    let text = Serializer::new(String::new())
        .append_pair("page_size", "7")
        .append_pair("cursor", cursor)
        .finish();
    Page::of(&query(&text).expect("an encoded query")?, list)
}

/// Returns the cursor of a full page that ends with this row.
fn next_cursor_of(page: &Page, last: Tick, list: List<'_>) -> String {
    let rows = vec![last; page.fetch()];
    let (rows, pagination) = page.cut(rows, list, |row| *row);
    assert_eq!((rows.len(), pagination.has_more), (page.size, true));
    pagination.next_cursor.expect("there is more")
}

/// Checks an arbitrary cursor: at most one list accepts it, and only in the form that the server
/// writes.
fn check_cursor(text: &str) {
    let mut accepted = 0;
    for list in LISTS {
        match page(text, list) {
            Ok(page) => {
                let after = page.after.expect("a cursor was sent");
                assert_eq!(next_cursor_of(&page, after, list), text);
                accepted += 1;
            }
            Err(error) => assert_eq!(refused_field(error), "cursor"),
        }
    }
    assert!(accepted <= 1, "{text} is good for {accepted} lists");
}

/// Checks that a row's cursor returns that row, for its own list only, and not after a change of a
/// byte.
fn check_row(row: Tick, position: usize, other: u8) {
    for (number, list) in LISTS.into_iter().enumerate() {
        let page_of = |text: &str, list| page(text, list).map(|page| page.after);
        let request = query("").expect("an empty query").expect("no parameters");
        let first = Page::of(&request, list).expect("a first page");
        let cursor = next_cursor_of(&first, row, list);
        assert_eq!(page_of(&cursor, list).expect("its own list"), Some(row));
        let foreign = LISTS[(number + 1 + position % 3) % 4];
        assert!(page_of(&cursor, foreign).is_err(), "{cursor}");
        let mut edited = cursor.clone().into_bytes();
        let position = position % edited.len();
        edited[position] = other & 0x7f;
        let edited = String::from_utf8(edited).expect("ASCII");
        assert_eq!(page_of(&edited, list).is_ok(), edited == cursor, "{edited}");
    }
    let cursor = Cursor(row);
    assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
    let id = SessionId::new(row, u64::from(other));
    assert_eq!(id.tick(), row);
    assert_eq!(SessionId::parse(&id.to_string()), Some(id));
}

fn assert_same<T: Display>(read: Option<T>, text: &str) {
    if let Some(read) = read {
        assert_eq!(read.to_string(), text);
    }
}

fn check_id<K: Kind>(text: &str) {
    let id: Option<Id<K>> = Id::parse(text);
    if let Some(id) = id {
        assert_eq!(id.to_string(), text);
        assert!((0..TICKS).contains(&id.tick().0));
    }
}

fn check_query(text: &str) {
    for list in LISTS {
        let Some(request) = query(text) else { return };
        match request.and_then(|request| Page::of(&request, list)) {
            Ok(page) => assert!((1..=200).contains(&page.size)),
            Err(error) => {
                let field = refused_field(error);
                assert!(["page_size", "cursor"].contains(&field.as_str()), "{field}");
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((head, _)) = bytes.split_first_chunk::<10>() {
        let [row @ .., position, other] = *head;
        let row = i64::from_be_bytes(row).rem_euclid(TICKS);
        check_row(Tick(row), usize::from(position), other);
    }
    let text = String::from_utf8_lossy(bytes);
    check_cursor(&text);
    check_query(&text);
    assert_same(Cursor::parse(&text), &text);
    check_id::<SessionKind>(&text);
    check_id::<MessageKind>(&text);
    check_id::<TokenKind>(&text);
    if let Some(time) = parse_rfc3339(&text) {
        assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time), "{text}");
    }
});
