//! The values of SQL: parameters with a static type, and what a column is read as.

use crate::model::ids::{Id, Tick};
use crate::model::names::{
    AgentId, BotId, ClientId, CompanyId, CompanyRow, ExternalId, M365TenantId, TenantNo,
};

/// The static type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A signed 64-bit integer. Booleans are 0 and 1.
    Integer,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Blob,
}

/// A value that is bound as a parameter or read from a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// NULL, with the type of the parameter. A NULL that is read from a column may have any type.
    Null(Type),
    /// An integer or a boolean.
    Integer(i64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

impl Value<'_> {
    /// About the bytes that the value takes.
    pub(in crate::store) fn bytes(&self) -> usize {
        size_of::<i64>()
            + match self {
                Self::Null(_) | Self::Integer(_) => 0,
                Self::Text(text) => text.len(),
                Self::Blob(bytes) => bytes.len(),
            }
    }
}

/// A type that can be bound as a parameter.
pub trait ToValue {
    /// The static type of the values.
    const TYPE: Type;

    /// The value, borrowed.
    fn to_value(&self) -> Value<'_>;
}

/// A type that a column can be read as.
pub trait FromValue: Sized {
    /// Reads a column's value. `None` if the value has another type or does not parse.
    fn from_value(value: Value<'_>) -> Option<Self>;
}

/// The parameters of a statement, in the order of their numbers: `()`, an array, a tuple of up to
/// eight, or [`params!`].
pub trait Params {
    /// The values.
    fn values(&self) -> impl AsRef<[Value<'_>]>;
}

/// Any number of parameters of different types.
pub(in crate::store) struct ParamList<'a, const N: usize>(pub(in crate::store) [Value<'a>; N]);

impl<const N: usize> Params for ParamList<'_, N> {
    fn values(&self) -> impl AsRef<[Value<'_>]> {
        self.0
    }
}

/// The parameters of a statement with more than eight.
macro_rules! params {
    ($($value:expr),+ $(,)?) => {
        $crate::store::sql::ParamList([$($crate::store::sql::ToValue::to_value(&$value)),+])
    };
}
pub(in crate::store) use params;

impl Params for () {
    fn values(&self) -> impl AsRef<[Value<'_>]> {
        [Value::Null(Type::Integer); 0]
    }
}

impl Params for Vec<Value<'_>> {
    fn values(&self) -> impl AsRef<[Value<'_>]> {
        self.as_slice()
    }
}

impl<T: ToValue, const N: usize> Params for [T; N] {
    fn values(&self) -> impl AsRef<[Value<'_>]> {
        self.each_ref().map(ToValue::to_value)
    }
}

macro_rules! tuples {
    ($($(($type:ident $index:tt))+;)+) => {$(
        impl<$($type: ToValue),+> Params for ($($type,)+) {
            fn values(&self) -> impl AsRef<[Value<'_>]> {
                [$(self.$index.to_value()),+]
            }
        }
    )+};
}

tuples! {
    (A 0)(B 1);
    (A 0)(B 1)(C 2);
    (A 0)(B 1)(C 2)(D 3);
    (A 0)(B 1)(C 2)(D 3)(E 4);
    (A 0)(B 1)(C 2)(D 3)(E 4)(F 5);
    (A 0)(B 1)(C 2)(D 3)(E 4)(F 5)(G 6);
    (A 0)(B 1)(C 2)(D 3)(E 4)(F 5)(G 6)(H 7);
}

impl<T: ToValue + ?Sized> ToValue for &T {
    const TYPE: Type = T::TYPE;

    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    const TYPE: Type = T::TYPE;

    fn to_value(&self) -> Value<'_> {
        self.as_ref()
            .map_or(Value::Null(T::TYPE), ToValue::to_value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null(_) => Some(None),
            value @ (Value::Integer(_) | Value::Text(_) | Value::Blob(_)) => {
                T::from_value(value).map(Some)
            }
        }
    }
}

impl ToValue for i64 {
    const TYPE: Type = Type::Integer;

    fn to_value(&self) -> Value<'_> {
        Value::Integer(*self)
    }
}

impl FromValue for i64 {
    #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(number),
            Value::Null(_) | Value::Text(_) | Value::Blob(_) => None,
        }
    }
}

impl ToValue for bool {
    const TYPE: Type = Type::Integer;

    fn to_value(&self) -> Value<'_> {
        Value::Integer((*self).into())
    }
}

impl FromValue for bool {
    #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
        i64::from_value(value).map(|number| number != 0)
    }
}

macro_rules! unsigned {
    ($($type:ty),+) => {$(
        /// A number above `i64::MAX` is stored as `i64::MAX`.
        impl ToValue for $type {
            const TYPE: Type = Type::Integer;

            fn to_value(&self) -> Value<'_> {
                Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }

        impl FromValue for $type {
            #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
                i64::from_value(value).and_then(|number| number.try_into().ok())
            }
        }
    )+};
}

unsigned!(u64, usize);

impl ToValue for str {
    const TYPE: Type = Type::Text;

    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for String {
    const TYPE: Type = Type::Text;

    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl FromValue for String {
    #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
        text(value).map(str::to_owned)
    }
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Null(_) | Value::Integer(_) | Value::Blob(_) => None,
    }
}

fn blob(value: Value<'_>) -> Option<&[u8]> {
    match value {
        Value::Blob(bytes) => Some(bytes),
        Value::Null(_) | Value::Integer(_) | Value::Text(_) => None,
    }
}

impl ToValue for [u8] {
    const TYPE: Type = Type::Blob;

    fn to_value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl ToValue for Vec<u8> {
    const TYPE: Type = Type::Blob;

    fn to_value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl FromValue for Vec<u8> {
    #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
        blob(value).map(<[u8]>::to_vec)
    }
}

impl<const N: usize> ToValue for [u8; N] {
    const TYPE: Type = Type::Blob;

    fn to_value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl<const N: usize> FromValue for [u8; N] {
    #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
        blob(value)?.try_into().ok()
    }
}

impl<K> ToValue for Id<K> {
    const TYPE: Type = Type::Blob;

    fn to_value(&self) -> Value<'_> {
        Value::Blob(self.as_bytes())
    }
}

impl<K> FromValue for Id<K> {
    #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
        <[u8; 16]>::from_value(value).map(Self::from_bytes)
    }
}

macro_rules! integers {
    ($($name:ident),*) => {$(
        impl ToValue for $name {
            const TYPE: Type = Type::Integer;

            fn to_value(&self) -> Value<'_> {
                Value::Integer(self.0)
            }
        }

        impl FromValue for $name {
            #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
                i64::from_value(value).map(Self)
            }
        }
    )*};
}

integers!(Tick, AgentId, TenantNo, CompanyRow);

macro_rules! texts {
    ($($name:ident),*) => {$(
        impl ToValue for $name {
            const TYPE: Type = Type::Text;

            fn to_value(&self) -> Value<'_> {
                Value::Text(self.as_str())
            }
        }

        impl FromValue for $name {
            #[inline]
    fn from_value(value: Value<'_>) -> Option<Self> {
                text(value).and_then(Self::parse)
            }
        }
    )*};
}

texts!(ClientId, M365TenantId, BotId, CompanyId, ExternalId);

mod words {
    use super::{FromValue, ToValue, Type, Value, text};
    use crate::model::words::*;

    texts!(
        Audience,
        AutonomyType,
        Access,
        AgentState,
        FileType,
        ChannelStatus,
        GroupReplies,
        IconKind,
        Transport,
        ManagedAgentKey,
        SessionChannel,
        Role,
        Rule,
        TurnStatus,
        ModelTier,
        MessageRole,
        Rating,
        CallerKind
    );
}
