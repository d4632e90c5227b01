//! A checksum of a table's rows, which is equal on every engine.

use crate::digest::sha256;
use crate::store::sql::Value;

/// The number of rows, and a digest of all their values in the order of the key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) rows: u64,
    sum: [u8; 32],
    /// The encoding of one row, kept for its room.
    buffer: Vec<u8>,
}

impl Checksum {
    /// Adds the next row: its digest covers the digest of the rows before it.
    pub(super) fn add(&mut self, values: &[Value<'_>]) {
        self.rows += 1;
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.sum);
        for value in values {
            match value {
                Value::Null(_) => self.buffer.push(0),
                Value::Integer(number) => self.push(1, &number.to_be_bytes()),
                Value::Text(text) => self.push(2, text.as_bytes()),
                Value::Blob(bytes) => self.push(3, bytes),
            }
        }
        self.sum = sha256(&self.buffer);
    }

    /// The length keeps the border between two values.
    fn push(&mut self, kind: u8, bytes: &[u8]) {
        self.buffer.push(kind);
        self.buffer
            .extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether two tables have the same rows.
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.rows == other.rows && self.sum == other.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::Type;

    fn of(rows: &[&[Value<'_>]]) -> Checksum {
        let mut checksum = Checksum::default();
        rows.iter().for_each(|row| checksum.add(row));
        checksum
    }

    #[test]
    fn rows_that_differ_in_a_value_a_type_a_border_or_their_order_have_another_checksum() {
        let [a, b, ab, none] = ["a", "b", "ab", ""].map(Value::Text);
        let original = of(&[&[a, b], &[ab, none]]);
        assert!(original.equals(&of(&[&[a, b], &[ab, none]])));
        for other in [
            of(&[&[a, b]]),
            of(&[&[ab, none], &[a, b]]),
            of(&[&[ab, none], &[ab, none]]),
            of(&[&[a, b], &[a, b]]),
            of(&[&[a, b], &[ab, Value::Null(Type::Text)]]),
            of(&[&[a, Value::Blob(b"b")], &[ab, none]]),
        ] {
            assert!(!original.equals(&other));
        }
        assert!(of(&[&[Value::Null(Type::Text)]]).equals(&of(&[&[Value::Null(Type::Integer)]])));
        assert!(!of(&[&[Value::Integer(1)]]).equals(&of(&[&[Value::Integer(256)]])));
    }
}
