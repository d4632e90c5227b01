//! Reads a file in the encodings that spreadsheets write as UTF-8.

use std::io::{self, Read};

use encoding_rs::{Decoder, Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Bytes that are read, and looked at to find the encoding, at a time.
const CHUNK: usize = 64 * 1_024;
/// Bytes at the beginning of a file that show whether it is UTF-16 without a mark.
const BEGINNING: usize = 256;

const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF_16_MARKS: [(&[u8], &Encoding); 2] = [(b"\xff\xfe", UTF_16LE), (b"\xfe\xff", UTF_16BE)];

/// How the bytes that come next are read.
enum State {
    /// Nothing is read yet.
    Beginning,
    /// Everything was ASCII so far, which is the same in UTF-8 and Windows-1252.
    Ascii,
    /// The bytes pass as they are. They are not checked.
    Utf8,
    Decoded(Box<Decoder>),
}

/// A reader of text without its mark, in UTF-8. A file that contradicts its encoding can give other
/// bytes.
pub(in crate::input) struct Utf8<R> {
    input: R,
    state: State,
    assumed: Option<&'static str>,
    chunk: Vec<u8>,
    /// The bytes of a character that the last chunk cuts off.
    carried: Vec<u8>,
    is_at_end: bool,
    text: Vec<u8>,
    /// How many bytes of `text` were taken.
    taken: usize,
}

impl<R: Read> Utf8<R> {
    pub(in crate::input) fn over(input: R) -> Self {
        Self {
            input,
            state: State::Beginning,
            assumed: None,
            chunk: Vec::new(),
            carried: Vec::new(),
            is_at_end: false,
            text: Vec::new(),
            taken: 0,
        }
    }

    /// The encoding, if the file does not say its encoding and is not UTF-8. It is known when the
    /// whole file is read.
    pub(in crate::input) fn assumed(&self) -> Option<&'static str> {
        self.assumed
    }

    /// Reads the next chunk as text.
    fn fill(&mut self) -> io::Result<()> {
        self.chunk.clear();
        self.chunk.append(&mut self.carried);
        let read = (&mut self.input)
            .take(CHUNK as u64)
            .read_to_end(&mut self.chunk)?;
        self.is_at_end = read < CHUNK;
        let mut bytes = self.chunk.as_slice();
        if matches!(self.state, State::Beginning) {
            (self.state, self.assumed, bytes) = begin(bytes);
        }
        if matches!(self.state, State::Ascii) && !bytes.is_ascii() {
            match is_utf_8(bytes, self.is_at_end) {
                Some(true) => self.state = State::Utf8,
                Some(false) => {
                    self.assumed = Some("Windows-1252");
                    self.state = decoded(WINDOWS_1252);
                }
                None => {
                    let (ascii, cut) = bytes.split_at(bytes.partition_point(u8::is_ascii));
                    self.carried.extend_from_slice(cut);
                    bytes = ascii;
                }
            }
        }
        self.taken = 0;
        self.text.clear();
        match &mut self.state {
            State::Beginning | State::Ascii | State::Utf8 => self.text.extend_from_slice(bytes),
            State::Decoded(decoder) => {
                let length = decoder.max_utf8_buffer_length(bytes.len());
                self.text.resize(length.unwrap_or(CHUNK * 4), 0);
                let (_, _, written, _) =
                    decoder.decode_to_utf8(bytes, &mut self.text, self.is_at_end);
                self.text.truncate(written);
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf8<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.text.len() {
            if self.is_at_end {
                return Ok(0);
            }
            self.fill()?;
        }
        let left = self.text.get(self.taken..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(left) {
            *to = *from;
        }
        self.taken += count;
        Ok(count)
    }
}

/// The state at the beginning of a file, the encoding if it is assumed, and the bytes after a mark.
fn begin(bytes: &[u8]) -> (State, Option<&'static str>, &[u8]) {
    if let Some(rest) = bytes.strip_prefix(UTF_8_MARK) {
        return (State::Utf8, None, rest);
    }
    for (mark, encoding) in UTF_16_MARKS {
        if let Some(rest) = bytes.strip_prefix(mark) {
            return (decoded(encoding), None, rest);
        }
    }
    match utf_16_without_mark(bytes) {
        Some(encoding) => (decoded(encoding), Some(encoding.name()), bytes),
        None => (State::Ascii, None, bytes),
    }
}

fn decoded(encoding: &'static Encoding) -> State {
    State::Decoded(Box::new(encoding.new_decoder_without_bom_handling()))
}

/// Whether most of what is not ASCII is UTF-8. `None` if there is nothing but a character that is
/// cut off, because more bytes follow.
fn is_utf_8(bytes: &[u8], is_last: bool) -> Option<bool> {
    let (mut valid, mut invalid) = (0_usize, 0_usize);
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        let is_cut = chunks.peek().is_none() && !is_last;
        invalid += usize::from(!chunk.invalid().is_empty() && !is_cut);
    }
    match valid + invalid {
        0 => None,
        _ => Some(valid > invalid),
    }
}

/// The byte order of text whose every other byte is NUL, as in UTF-16 headings.
fn utf_16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let beginning = bytes.get(..BEGINNING).unwrap_or(bytes);
    let pairs = beginning.chunks_exact(2);
    let (count, mut first, mut second) = (pairs.len(), 0, 0);
    for pair in pairs {
        first += usize::from(pair.first() == Some(&0));
        second += usize::from(pair.last() == Some(&0));
    }
    match (first, second) {
        (0, nul) if nul * 2 > count => Some(UTF_16LE),
        (nul, 0) if nul * 2 > count => Some(UTF_16BE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (String, Option<&'static str>) {
        let mut reader = Utf8::over(bytes);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        (text, reader.assumed())
    }

    fn utf_16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn a_file_with_a_mark_is_read_in_the_encoding_of_the_mark() {
        let text = "id;name\nM\u{fc}ller \u{1f600}";
        let marked = format!("\u{feff}{text}");
        let expected = (text.to_owned(), None);
        assert_eq!(read(marked.as_bytes()), expected);
        assert_eq!(read(&utf_16(&marked, u16::to_le_bytes)), expected);
        assert_eq!(read(&utf_16(&marked, u16::to_be_bytes)), expected);
    }

    #[test]
    fn a_file_without_a_mark_is_utf_8_or_else_an_encoding_that_is_told() {
        let text = "id;name\nM\u{fc}ller";
        assert_eq!(read(text.as_bytes()), (text.to_owned(), None));
        assert_eq!(read(b"id\n1"), ("id\n1".to_owned(), None));
        let windows = b"id;name\nM\xfcller \x80";
        assert_eq!(
            read(windows),
            (format!("{text} \u{20ac}"), Some("Windows-1252"))
        );
        let assumed = |name| (text.to_owned(), Some(name));
        assert_eq!(read(&utf_16(text, u16::to_le_bytes)), assumed("UTF-16LE"));
        assert_eq!(read(&utf_16(text, u16::to_be_bytes)), assumed("UTF-16BE"));
    }

    #[test]
    fn characters_at_the_border_of_two_chunks_are_read_whole() {
        for start in 0..4 {
            let mut text = "a".repeat(CHUNK - start);
            text += &"\u{20ac}\u{1f600}".repeat(CHUNK / 4);
            assert_eq!(read(text.as_bytes()), (text.clone(), None));
            let marked = utf_16(&format!("\u{feff}{text}"), u16::to_le_bytes);
            assert_eq!(read(&marked), (text, None));
        }
    }

    #[test]
    fn a_file_in_utf_8_with_a_few_bad_bytes_stays_utf_8() {
        let mut bytes = "M\u{fc}ller, S\u{f6}hne, Stra\u{df}e\n".as_bytes().to_vec();
        bytes.extend_from_slice(b"\xff\n");
        let (text, assumed) = read(&bytes);
        assert_eq!(assumed, None);
        assert_eq!(text, "M\u{fc}ller, S\u{f6}hne, Stra\u{df}e\n\u{fffd}\n");
    }
}
