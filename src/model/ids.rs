//! Time-ordered ids: a prefix and a UUIDv7 (RFC 9562) in the API, 16 bytes in the database.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::clock::Millis;

/// The millisecond and the counter of an id as one 60-bit number.
///
/// A tick orders ids by creation. It is also the key of the id's row and a stream cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub i64);

/// The number of ticks in a millisecond.
const TICKS_PER_MS: i64 = 1 << 12;

impl Tick {
    /// Makes a tick of a millisecond and a counter below 4,096.
    pub const fn new(time: Millis, counter: i64) -> Self {
        Self(time * TICKS_PER_MS + counter)
    }

    /// The millisecond.
    pub fn millis(self) -> Millis {
        self.0 / TICKS_PER_MS
    }

    /// The counter within the millisecond.
    pub fn counter(self) -> i64 {
        self.0 % TICKS_PER_MS
    }
}

/// A generator of strictly increasing ticks, even while the clock stands still or goes back.
///
/// Clones share one sequence.
#[derive(Clone, Debug)]
pub struct Ticker {
    state: Arc<TickerState>,
}

#[derive(Debug)]
struct TickerState {
    last: AtomicI64,
    /// The node's number, which is every tick modulo `nodes`.
    node: AtomicI64,
    /// The number of numbers: 1 if no other node generates ticks.
    nodes: AtomicI64,
}

impl Ticker {
    /// Starts after `last`, the greatest tick generated so far.
    pub fn after(last: Tick) -> Self {
        Self {
            state: Arc::new(TickerState {
                last: AtomicI64::new(last.0),
                node: AtomicI64::new(0),
                nodes: AtomicI64::new(1),
            }),
        }
    }

    /// Makes all later ticks equal to `node` modulo `nodes`, so that the ticks of several nodes are
    /// never equal.
    pub fn set_node(&self, node: i64, nodes: i64) {
        self.state.node.store(node, Ordering::Relaxed);
        self.state.nodes.store(nodes, Ordering::Release);
    }

    /// Makes all later ticks greater than `other`, which another process generated.
    pub fn pass(&self, other: Tick) {
        self.state.last.fetch_max(other.0, Ordering::AcqRel);
    }

    /// The greatest tick so far, of this sequence or passed.
    pub fn last(&self) -> Tick {
        Tick(self.state.last.load(Ordering::Acquire))
    }

    /// Returns the next tick: of millisecond `now`, or later if the sequence is already past it.
    pub fn next(&self, now: Millis) -> Tick {
        let nodes = self.state.nodes.load(Ordering::Acquire);
        let node = self.state.node.load(Ordering::Relaxed);
        let next = |last: i64| {
            let next = Tick::new(now, 0).0.max(last + 1);
            next + (node - next).rem_euclid(nodes)
        };
        let mut last = self.state.last.load(Ordering::Relaxed);
        loop {
            let tick = next(last);
            match self.state.last.compare_exchange_weak(
                last,
                tick,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Tick(tick),
                Err(other) => last = other,
            }
        }
    }
}

/// A kind of resource that has ids.
pub trait Kind {
    /// The prefix of its ids, such as `ses_`.
    const PREFIX: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {}
        impl Kind for $name {
            const PREFIX: &'static str = $prefix;
        }
    )*};
}

kinds! {
    /// A chat session.
    SessionKind = "ses_";
    /// A message.
    MessageKind = "msg_";
    /// A turn.
    TurnKind = "trn_";
    /// A channel.
    ChannelKind = "chn_";
    /// An install.
    InstallKind = "ins_";
    /// An API key.
    KeyKind = "key_";
    /// A knowledge article.
    ArticleKind = "art_";
    /// An audit event.
    AuditKind = "aud_";
    /// A session token.
    TokenKind = "jti_";
    /// An attachment of a session.
    AttachmentKind = "att_";
}

/// An id of one kind of resource.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<K> {
    bytes: [u8; 16],
    kind: PhantomData<K>,
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Id<K> {}

/// The id of a session.
pub type SessionId = Id<SessionKind>;
/// The id of a message.
pub type MessageId = Id<MessageKind>;
/// The id of a turn.
pub type TurnId = Id<TurnKind>;
/// The id of a channel.
pub type ChannelId = Id<ChannelKind>;
/// The id of an install.
pub type InstallId = Id<InstallKind>;
/// The id of an API key.
pub type KeyId = Id<KeyKind>;
/// The id of a knowledge article.
pub type ArticleId = Id<ArticleKind>;
/// The id of an audit event.
pub type AuditId = Id<AuditKind>;
/// The id of a session token.
pub type TokenId = Id<TokenKind>;
/// The id of an attachment of a session.
pub type AttachmentId = Id<AttachmentKind>;

impl<K> Id<K> {
    /// Makes a UUIDv7 of this tick whose last 62 bits come from `random`.
    pub fn new(tick: Tick, random: u64) -> Self {
        let high = (u64::try_from(tick.millis()).unwrap_or(0) << 16)
            | 0x7000
            | u64::try_from(tick.counter()).unwrap_or(0);
        let low = (random >> 2) | (1 << 63);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        Self::from_bytes(bytes)
    }

    /// Reads an id from its stored bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self {
            bytes,
            kind: PhantomData,
        }
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    /// The id's millisecond and counter, which are also the key of its row.
    pub fn tick(&self) -> Tick {
        let mut high = [0; 8];
        high.copy_from_slice(&self.bytes[..8]);
        let high = u64::from_be_bytes(high);
        let millis = i64::try_from(high >> 16).unwrap_or(0);
        let counter = i64::try_from(high & 0x0fff).unwrap_or(0);
        Tick::new(millis, counter)
    }
}

impl<K: Kind> Id<K> {
    /// Parses an id in exactly the form that [`fmt::Display`] writes; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix(K::PREFIX)?;
        let uuid = Uuid::try_parse(body).ok()?;
        let id = Self::from_bytes(uuid.into_bytes());
        let canonical = uuid.get_version_num() == 7 && id.to_string() == text;
        canonical.then_some(id)
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = Uuid::encode_buffer();
        f.write_str(K::PREFIX)?;
        f.write_str(
            Uuid::from_bytes(self.bytes)
                .hyphenated()
                .encode_lower(&mut buffer),
        )
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<K: Kind> JsonSchema for Id<K> {
    fn schema_name() -> Cow<'static, str> {
        format!("Id_{}", K::PREFIX).into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": Self::pattern() })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl<K: Kind> Id<K> {
    /// The format of an id as a regular expression (ECMA-262).
    pub fn pattern() -> String {
        format!(
            "^{}[0-9a-f]{{8}}-[0-9a-f]{{4}}-7[0-9a-f]{{3}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}$",
            K::PREFIX
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_version_7_uuid_that_keeps_its_tick() {
        let id = SessionId::new(Tick::new(1_764_000_000_007, 4_095), u64::MAX);
        assert_eq!(id.to_string(), "ses_019ab697-e807-7fff-bfff-ffffffffffff");
        assert_eq!(id.tick(), Tick::new(1_764_000_000_007, 4_095));
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn text_in_any_other_spelling_is_not_an_id() {
        for text in [
            "019ab697-e807-7fff-bfff-ffffffffffff",
            "msg_019ab697-e807-7fff-bfff-ffffffffffff",
            "ses_019AB697-e807-7fff-bfff-ffffffffffff",
            "ses_019ab697e8077fffbfffffffffffffff",
            "ses_019ab697-e807-4fff-bfff-ffffffffffff",
            "ses_",
            "",
        ] {
            assert_eq!(SessionId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ticks_grow_while_the_clock_stands_still_and_when_it_goes_back() {
        let ticker = Ticker::after(Tick::new(100, 7));
        let ticks = [
            ticker.next(100),
            ticker.next(99),
            ticker.next(200),
            ticker.next(150),
        ];
        assert_eq!(
            ticks,
            [
                Tick::new(100, 8),
                Tick::new(100, 9),
                Tick::new(200, 0),
                Tick::new(200, 1)
            ]
        );
    }

    #[test]
    fn a_millisecond_whose_counter_is_used_up_continues_in_the_next() {
        let ticker = Ticker::after(Tick::new(100, 4_095));
        assert_eq!(ticker.next(100), Tick::new(101, 0));
    }
}
