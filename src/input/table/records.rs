//! Splits text into records and cells. A cell in quotes can contain separators and line ends (RFC
//! 4180).

use std::io::{self, BufRead, BufReader, Read};

/// The maximum length of a record, in bytes. Without its closing quote, a cell includes the rest of
/// the file, which may be very long.
const MAX_RECORD: usize = 1_024 * 1_024;
/// The character that ends a file of some old programs.
const CTRL_Z: u8 = 0x1a;

/// Where the scanner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first character of a cell that is not a space.
    Start,
    /// In a cell without quotes, or after the quotes.
    Plain,
    Quoted,
    /// After a quote in quotes: a second quote stands for one.
    Quote,
}

/// What a byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// A byte of the cell.
    Content,
    /// The quote that opens the cell; spaces before it do not count.
    Opening,
    /// A quote that is no content.
    Closing,
    /// The end of the cell.
    Separator,
    /// The end of the record.
    LineEnd,
}

impl Place {
    /// Passes a byte.
    fn pass(&mut self, byte: u8, separators: &[u8]) -> Meaning {
        let (place, meaning) = match (*self, byte) {
            (Self::Quoted, b'"') => (Self::Quote, Meaning::Closing),
            (Self::Quoted, _) => (Self::Quoted, Meaning::Content),
            (Self::Quote, b'"') => (Self::Quoted, Meaning::Content),
            (Self::Start, b'"') => (Self::Quoted, Meaning::Opening),
            (_, b'\r' | b'\n') => (Self::Start, Meaning::LineEnd),
            (_, byte) if separators.contains(&byte) => (Self::Start, Meaning::Separator),
            (Self::Start, b' ') => (Self::Start, Meaning::Content),
            (Self::Start | Self::Plain | Self::Quote, _) => (Self::Plain, Meaning::Content),
        };
        *self = place;
        meaning
    }
}

/// A record that is not split yet.
#[derive(Debug, Default)]
pub(in crate::input) struct Record {
    /// The line in which it begins.
    pub(in crate::input) line: u64,
    /// Its bytes, without the line end.
    pub(in crate::input) bytes: Vec<u8>,
    /// Whether the file ends inside of quotes.
    pub(in crate::input) is_open: bool,
}

/// The next record of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input) enum Next {
    Record,
    /// A record that is too long. The rest of the file is not read.
    TooLong,
    End,
}

/// A file as records. Line ends are CR, LF or both.
pub(in crate::input) struct Records<R> {
    input: BufReader<R>,
    /// The line of the next byte.
    line: u64,
    /// Whether the last byte was a CR: an LF after it ends no other line.
    is_after_cr: bool,
}

impl<R: Read> Records<R> {
    pub(in crate::input) fn over(input: R) -> Self {
        Self {
            input: BufReader::new(input),
            line: 1,
            is_after_cr: false,
        }
    }

    /// The reader of the file.
    pub(in crate::input) fn input(&self) -> &R {
        self.input.get_ref()
    }

    /// Reads the next record that is not empty.
    pub(in crate::input) fn next(
        &mut self,
        separators: &[u8],
        record: &mut Record,
    ) -> io::Result<Next> {
        loop {
            record.bytes.clear();
            record.line = self.line;
            let end = self.read(separators, record)?;
            let is_blank = record.bytes.iter().all(|byte| *byte == CTRL_Z);
            match end {
                Next::End if is_blank => return Ok(Next::End),
                // The file can end without a line end.
                Next::End => return Ok(Next::Record),
                Next::Record if is_blank => {}
                Next::Record | Next::TooLong => return Ok(end),
            }
        }
    }

    fn read(&mut self, separators: &[u8], record: &mut Record) -> io::Result<Next> {
        let mut place = Place::Start;
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                record.is_open = place == Place::Quoted;
                while !record.is_open && record.bytes.last() == Some(&CTRL_Z) {
                    record.bytes.pop();
                }
                return Ok(Next::End);
            }
            let (mut passed, mut is_end) = (0, false);
            for byte in bytes.iter().copied() {
                passed += 1;
                let is_second = std::mem::replace(&mut self.is_after_cr, byte == b'\r');
                let is_line_feed = byte == b'\n';
                if is_line_feed && is_second && place != Place::Quoted {
                    record.line = self.line;
                    continue;
                }
                if byte == b'\r' || (is_line_feed && !is_second) {
                    self.line += 1;
                }
                if place.pass(byte, separators) == Meaning::LineEnd {
                    is_end = true;
                    break;
                }
                record.bytes.push(byte);
            }
            self.input.consume(passed);
            if is_end {
                record.is_open = false;
                return Ok(Next::Record);
            }
            if record.bytes.len() > MAX_RECORD {
                return Ok(Next::TooLong);
            }
        }
    }
}

/// The cells of a record.
#[derive(Clone, Debug, Default)]
pub(in crate::input) struct Cells {
    bytes: Vec<u8>,
    /// The end of each cell in `bytes`.
    ends: Vec<usize>,
}

impl Cells {
    pub(in crate::input) fn of(record: &[u8], separator: u8) -> Self {
        let mut cells = Self::default();
        let (mut place, mut begin) = (Place::Start, 0);
        for byte in record.iter().copied() {
            match place.pass(byte, &[separator]) {
                // A record has no line end outside of quotes.
                Meaning::Content | Meaning::LineEnd => cells.bytes.push(byte),
                Meaning::Opening => cells.bytes.truncate(begin),
                Meaning::Closing => {}
                Meaning::Separator => {
                    begin = cells.bytes.len();
                    cells.ends.push(begin);
                }
            }
        }
        cells.ends.push(cells.bytes.len());
        cells
    }

    /// The number of cells, which is at least 1.
    pub(in crate::input) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A cell without the space around it; empty if the record has fewer cells.
    pub(in crate::input) fn get(&self, index: usize) -> &[u8] {
        let begin = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied(),
            None => Some(0),
        };
        let range = Option::zip(begin, self.ends.get(index).copied());
        let cell = range.and_then(|(begin, end)| self.bytes.get(begin..end));
        cell.unwrap_or_default().trim_ascii()
    }

    /// The cells from first to last.
    pub(in crate::input) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a file with their lines.
    fn records(file: &str) -> Vec<(u64, Vec<String>)> {
        let (mut records, mut record) = (Records::over(file.as_bytes()), Record::default());
        let mut all = Vec::new();
        while records.next(b",", &mut record).unwrap() == Next::Record {
            let cells = Cells::of(&record.bytes, b',');
            let text = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
            all.push((record.line, cells.iter().map(text).collect()));
        }
        all
    }

    fn row(line: u64, cells: &[&str]) -> (u64, Vec<String>) {
        (line, cells.iter().map(|cell| (*cell).to_owned()).collect())
    }

    #[test]
    fn records_end_at_any_line_end_and_know_their_line() {
        for end in ["\n", "\r\n", "\r"] {
            let file = ["", "a,b", "", "", "\"c", "d\",e", "f,"].join(end);
            let inner = format!("c{end}d");
            let expected = [
                row(2, &["a", "b"]),
                row(5, &[&inner, "e"]),
                row(7, &["f", ""]),
            ];
            assert_eq!(records(&file), expected, "{end:?}");
            assert_eq!(records(&format!("{file}{end}")), expected, "{end:?}");
        }
        let mixed = records("a\r\nb\rc\n\rd");
        let lines: Vec<u64> = mixed.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 5]);
    }

    #[test]
    fn quotes_hold_separators_and_quotes_and_are_ordinary_within_a_cell() {
        assert_eq!(
            records("\"a, \"\"b\"\"\", \"c,d\" ,5\" pipe,\"\""),
            [row(1, &["a, \"b\"", "c,d", "5\" pipe", ""])]
        );
    }

    #[test]
    fn ctrl_z_at_the_end_of_a_file_is_no_record() {
        for end in ["\u{1a}", "\n\u{1a}", "\n\u{1a}\u{1a}\n", "\r\n\u{1a}\r\n"] {
            assert_eq!(records(&format!("a,b{end}")), [row(1, &["a", "b"])]);
        }
    }

    #[test]
    fn a_file_that_ends_inside_of_quotes_is_told() {
        let mut record = Record::default();
        for (file, is_open) in [("a,\"b", true), ("a,\"b\"", false), ("\"a\nb\n", true)] {
            let mut records = Records::over(file.as_bytes());
            assert_eq!(records.next(b",", &mut record).unwrap(), Next::Record);
            assert_eq!(record.is_open, is_open, "{file}");
        }
    }
}
