//! Cursors, ids and times: what is accepted is what the server writes, and good only where it was given out.

#![no_main]

use std::fmt::Display;

use actix_web::FromRequest;
use actix_web::dev::Payload;
use actix_web::http::Uri;
use actix_web::test::TestRequest;
use form_urlencoded::Serializer;
use libfuzzer_sys::fuzz_target;
use switchboard::error::Result;
use switchboard::http::edge::cursor::{List, Page};
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

/// A tick has 60 bits.
const TICKS: i64 = 1 << 60;

/// The query of a request for `/?…`; `None` for text that no request line holds.
fn query(text: &str) -> Option<Query> {
    let uri = format!("/?{text}");
    Uri::try_from(&uri).ok()?;
    let request = TestRequest::with_uri(&uri).to_http_request();
    Query::from_request(&request, &mut Payload::None)
        .into_inner()
        .ok()
}

fn page(cursor: &str, list: List<'_>) -> Result<Page> {
    let text = Serializer::new(String::new())
        .append_pair("page_size", "7")
        .append_pair("cursor", cursor)
        .finish();
    Page::of(&query(&text).expect("an encoded query"), list)
}

/// The cursor that a full page which ends with this row gives out.
fn given_out(page: &Page, last: Tick, list: List<'_>) -> String {
    let rows = vec![last; page.fetch()];
    let (rows, pagination) = page.cut(rows, list, |row| *row);
    assert_eq!((rows.len(), pagination.has_more), (page.size, true));
    pagination.next_cursor.expect("there is more")
}

/// A cursor from outside, for each list: it leads somewhere in one list at most, and only as it was given out.
fn check_cursor(text: &str) {
    let mut accepted = 0;
    for list in LISTS {
        match page(text, list) {
            Ok(page) => {
                let after = page.after.expect("a cursor was sent");
                assert_eq!(given_out(&page, after, list), text);
                accepted += 1;
            }
            Err(error) => assert_eq!(refused_field(error), "cursor"),
        }
    }
    assert!(accepted <= 1, "{text} is good for {accepted} lists");
}

/// A row's cursor comes back as that row, for its own list alone, and not with any byte of it changed.
fn check_row(row: Tick, place: usize, other: u8) {
    for (number, list) in LISTS.into_iter().enumerate() {
        let page_of = |text: &str, list| page(text, list).map(|page| page.after);
        let first = Page::of(&query("").expect("an empty query"), list).expect("a first page");
        let cursor = given_out(&first, row, list);
        assert_eq!(page_of(&cursor, list).expect("its own list"), Some(row));
        let foreign = LISTS[(number + 1 + place % 3) % 4];
        assert!(page_of(&cursor, foreign).is_err(), "{cursor}");
        let mut bent = cursor.clone().into_bytes();
        let place = place % bent.len();
        bent[place] = other & 0x7f;
        let bent = String::from_utf8(bent).expect("ASCII");
        assert_eq!(page_of(&bent, list).is_ok(), bent == cursor, "{bent}");
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
    let Some(query) = query(text) else { return };
    for list in LISTS {
        match Page::of(&query, list) {
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
        let [row @ .., place, other] = *head;
        let row = i64::from_be_bytes(row).rem_euclid(TICKS);
        check_row(Tick(row), usize::from(place), other);
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
