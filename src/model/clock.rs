//! The time of day, injected so that tests can set it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970-01-01 UTC.
pub type Millis = i64;

/// A time that the API writes as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub Millis);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(TimeText::of(self.0).as_str())
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// The source of the server's time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The operating system's clock.
    #[default]
    System,
    /// The operating system's clock and a difference in milliseconds, so that several nodes go by
    /// the clock of their database.
    Shifted(Arc<AtomicI64>),
    /// A clock that changes only when a test sets it.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The current time.
    pub fn now(&self) -> Millis {
        match self {
            Self::System => system_now(),
            Self::Shifted(difference) => system_now() + difference.load(Ordering::Relaxed),
            Self::Manual(time) => time.load(Ordering::SeqCst),
        }
    }
}

fn system_now() -> Millis {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// An RFC 3339 time in UTC with milliseconds and `Z` (contract, section 1), without an allocation.
#[derive(Debug)]
pub struct TimeText([u8; 24]);

impl TimeText {
    /// Formats a time. A time outside the years 0 to 9999 becomes the last millisecond of 9999.
    pub fn of(time: Millis) -> Self {
        let mut text = *b"9999-12-31T23:59:59.999Z";
        let Some(moment) = representable(time) else {
            return Self(text);
        };
        // Each session and message has several times. Writing the digits here takes a tenth of
        // the time that a format description takes.
        let mut put = |mut number: u32, places: Range<usize>| {
            for digit in text[places].iter_mut().rev() {
                *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
                number /= 10;
            }
        };
        put(moment.year().unsigned_abs(), 0..4);
        put(u32::from(u8::from(moment.month())), 5..7);
        put(u32::from(moment.day()), 8..10);
        put(u32::from(moment.hour()), 11..13);
        put(u32::from(moment.minute()), 14..16);
        put(u32::from(moment.second()), 17..19);
        put(u32::from(moment.millisecond()), 20..23);
        Self(text)
    }

    /// The formatted text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Formats a time as [`TimeText`] does, into a `String`.
pub fn rfc3339(time: Millis) -> String {
    TimeText::of(time).as_str().to_owned()
}

/// The month of a time in UTC, counted from January of the year 0.
pub fn month_of(time: Millis) -> i32 {
    representable(time).map_or(0, |moment| {
        12 * moment.year() + i32::from(u8::from(moment.month())) - 1
    })
}

/// The start of a month, by its number.
pub fn start_of_month(month: i32) -> Option<Millis> {
    parse_rfc3339(&format!("{}-01T00:00:00Z", month_text(month)))
}

/// A month as `2026-01`.
pub fn month_text(month: i32) -> String {
    format!(
        "{:04}-{:02}",
        month.div_euclid(12),
        month.rem_euclid(12) + 1
    )
}

/// Parses a month as `2026-01`.
pub fn parse_month(text: &str) -> Option<i32> {
    let month = month_of(parse_rfc3339(&format!("{text}-01T00:00:00Z"))?);
    (month_text(month) == text).then_some(month)
}

/// Parses an RFC 3339 time with any offset.
///
/// Returns `None` for any other text, and for a time whose year in UTC does not have four digits.
pub fn parse_rfc3339(text: &str) -> Option<Millis> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let time = i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()?;
    representable(time).map(|_| time)
}

/// The time, if RFC 3339 can express it: its years have exactly four digits.
fn representable(time: Millis) -> Option<OffsetDateTime> {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time) * 1_000_000);
    moment
        .ok()
        .filter(|moment| (0..=9_999).contains(&moment.year()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_formatted_with_milliseconds_and_z_and_parsed_back() {
        for (time, text) in [
            (1_764_000_000_007, "2025-11-24T16:00:00.007Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(TimeText::of(time).as_str(), text);
            assert_eq!(rfc3339(time), text);
        }
        assert_eq!(
            parse_rfc3339("2025-11-24T17:00:00.007+01:00"),
            Some(1_764_000_000_007)
        );
        assert_eq!(parse_rfc3339("tomorrow"), None);
    }

    #[test]
    fn a_month_is_parsed_and_begins_with_its_first_day_in_utc() {
        let month = parse_month("2025-11").unwrap();
        assert_eq!(month, month_of(1_764_000_000_007));
        assert_eq!(
            start_of_month(month).map(rfc3339).as_deref(),
            Some("2025-11-01T00:00:00.000Z")
        );
        assert_eq!(
            start_of_month(month + 2).map(rfc3339).as_deref(),
            Some("2026-01-01T00:00:00.000Z")
        );
        for text in [
            "",
            "2025",
            "2025-13",
            "2025-1",
            "2025-11-01",
            "+025-11",
            "2025-00",
        ] {
            assert_eq!(parse_month(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_that_rfc_3339_cannot_express_in_utc_is_not_parsed() {
        for text in ["9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01"] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
        for text in ["9999-12-31T23:59:59.000Z", "0000-01-01T00:00:00.000Z"] {
            assert_eq!(parse_rfc3339(text).map(rfc3339).as_deref(), Some(text));
        }
    }
}
