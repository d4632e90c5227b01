//! Finds out how a table is written: by its first lines.

use super::records::Cells;

/// The separators that a table can have without saying so.
pub(in crate::input) const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// What a line before the headings is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input) enum Preamble {
    /// `sep=;`, which tells spreadsheets the separator.
    Separator(u8),
    /// `#TYPE …`, which PowerShell writes.
    Type,
}

impl Preamble {
    /// Reads a line; `None` for the line of the headings.
    pub(in crate::input) fn read(line: &[u8]) -> Option<Self> {
        let line = line.trim_ascii_start();
        let line = line.strip_prefix(b"\"").unwrap_or(line);
        let after = |word: &[u8]| {
            let (start, rest) = line.split_at_checked(word.len())?;
            start.eq_ignore_ascii_case(word).then_some(rest)
        };
        if after(b"#type").is_some() {
            return Some(Self::Type);
        }
        let separator = *after(b"sep=")?.first()?;
        let is_separator = separator.is_ascii_punctuation() || separator == b'\t';
        (is_separator && separator != b'"').then_some(Self::Separator(separator))
    }
}

/// The separator with which the line of the headings has the most known headings, then the most
/// cells.
pub(in crate::input) fn separator(headings: &[u8], is_known: impl Fn(&[u8]) -> bool) -> u8 {
    let mut best = (SEPARATORS[0], (0, 0));
    for separator in SEPARATORS {
        let cells = Cells::of(headings, separator);
        let known = cells.iter().filter(|cell| is_known(cell)).count();
        let rank = (known, cells.len());
        if rank > best.1 {
            best = (separator, rank);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_separator_is_the_one_that_gives_known_headings() {
        let found =
            |headings: &str| char::from(separator(headings.as_bytes(), |cell| cell == b"id"));
        assert_eq!(found("id,name"), ',');
        assert_eq!(found("name;id"), ';');
        assert_eq!(found("id\tname, first\tname, last"), '\t');
        assert_eq!(found("\"a;b\"|id"), '|');
        assert_eq!(found("id"), ',');
        assert_eq!(found("no;such,headings;here"), ';');
    }

    #[test]
    fn lines_before_the_headings_are_recognized_in_any_case() {
        let read = |line: &str| Preamble::read(line.as_bytes());
        assert_eq!(read("sep=;"), Some(Preamble::Separator(b';')));
        assert_eq!(read("\"SEP=,\""), Some(Preamble::Separator(b',')));
        assert_eq!(read("sep=\t"), Some(Preamble::Separator(b'\t')));
        assert_eq!(read("sep=;;;"), Some(Preamble::Separator(b';')));
        assert_eq!(read("#TYPE System.Object"), Some(Preamble::Type));
        assert_eq!(read("\"#type x\""), Some(Preamble::Type));
        for line in ["", "sep", "sep=", "sepa=;", "psa_company_id", "sep=a", "#"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
