//! Attachments of messages: size, paths, and checks of their content (contract, section 5).

use super::clock::Millis;
use super::ids::AttachmentId;
use super::words::FileType;

/// The largest attachment, in bytes.
pub const MAX_FILE_BYTES: usize = 10 * 1_024 * 1_024;
/// The lifetime of a link to an attachment.
pub const LINK_LIFETIME_MS: Millis = 15 * 60 * 1_000;

const BLOB_FOLDER: &str = "chat/attachments/";

/// Returns the path by which a client names an attachment.
pub fn blob_path(id: AttachmentId) -> String {
    format!("{BLOB_FOLDER}{id}")
}

/// Parses a path in exactly the form that [`blob_path`] writes; `None` for any other text.
pub fn parse_blob_path(text: &str) -> Option<AttachmentId> {
    text.strip_prefix(BLOB_FOLDER).and_then(AttachmentId::parse)
}

impl FileType {
    /// Whether this is an image that a model can view.
    pub fn is_image(self) -> bool {
        match self {
            Self::Png | Self::Jpeg | Self::Gif | Self::Webp => true,
            // Models and browsers do not know HEIC.
            Self::Pdf
            | Self::Text
            | Self::Csv
            | Self::Doc
            | Self::Docx
            | Self::Xlsx
            | Self::Eml
            | Self::Msg
            | Self::Heic
            | Self::Zip => false,
        }
    }

    /// Whether these bytes look like a file of this type.
    ///
    /// The check reads the file's signature, or the directory of an archive, and nothing else.
    pub fn is_content(self, bytes: &[u8]) -> bool {
        match self {
            Self::Png => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
            Self::Jpeg => bytes.starts_with(b"\xff\xd8\xff"),
            Self::Gif => bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a"),
            Self::Webp => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
            Self::Pdf => bytes.starts_with(b"%PDF-"),
            Self::Text | Self::Csv => is_text(bytes),
            Self::Doc | Self::Msg => bytes.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
            Self::Docx => is_open_xml(bytes, b"word/"),
            Self::Xlsx => is_open_xml(bytes, b"xl/"),
            Self::Eml => is_email(bytes),
            Self::Heic => is_heic(bytes),
            Self::Zip => is_zip(bytes),
        }
    }
}

/// Whether these bytes are text in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252, as
/// Excel and Notepad write it.
fn is_text(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, rest @ ..] => is_utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => is_utf_16(rest, u16::from_be_bytes),
        _ if std::str::from_utf8(bytes).is_ok() => !bytes.contains(&0),
        _ => is_windows_1252(bytes),
    }
}

fn is_utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> bool {
    let (units, rest) = bytes.as_chunks::<2>();
    let mut text = char::decode_utf16(units.iter().map(|two| unit(*two)));
    rest.is_empty() && text.all(|c| c.is_ok_and(|c| c != '\0'))
}

/// Whether these bytes are Windows-1252 without control characters. Almost any bytes are, so the
/// signature of an image excludes text. Ctrl-Z ends a text of old programs.
fn is_windows_1252(bytes: &[u8]) -> bool {
    let is_character = |byte: &u8| {
        matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1a | b' '..=b'~')
            || (*byte >= 0x80 && !matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d))
    };
    let is_image = |file: &FileType| file.is_image() && file.is_content(bytes);
    bytes.iter().all(is_character) && !FileType::ALL.iter().any(is_image)
}

/// Whether these bytes begin as an email does: with a header (RFC 5322, section 2.2).
fn is_email(bytes: &[u8]) -> bool {
    const MAX_LINE_BYTES: usize = 998;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let bytes = bytes.trim_ascii_start();
    // The line that separates the emails of a mailbox file.
    let bytes = match bytes.strip_prefix(b"From ") {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b'\n');
            end.map_or(rest, |end| &rest[end + 1..])
        }
        None => bytes,
    };
    let line = bytes.split(|byte| *byte == b'\n').next();
    let line = line.unwrap_or_default();
    let name = line
        .iter()
        .position(|byte| *byte == b':')
        .map(|end| &line[..end]);
    let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    line.len() <= MAX_LINE_BYTES && name.is_some_and(is_name) && !line.contains(&0)
}

/// Whether this is a container of the brands of HEIC (ISO/IEC 23008-12, annex B).
fn is_heic(bytes: &[u8]) -> bool {
    const BRANDS: [&[u8]; 8] = [
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
    ];
    bytes.get(4..8) == Some(b"ftyp".as_slice())
        && bytes
            .get(8..12)
            .is_some_and(|brand| BRANDS.contains(&brand))
}

/// Whether this is a zip archive with a directory, or an empty one.
fn is_zip(bytes: &[u8]) -> bool {
    zip_names(bytes).is_some() || bytes.starts_with(b"PK\x05\x06")
}

/// Whether this is an OpenXML document with a file in this folder.
///
/// Every OpenXML document is a zip archive that has a list of contents under a fixed name.
fn is_open_xml(bytes: &[u8], folder: &[u8]) -> bool {
    const CONTENTS: &[u8] = b"[Content_Types].xml";
    let Some(names) = zip_names(bytes) else {
        return false;
    };
    names.iter().any(|name| name.starts_with(folder)) && names.contains(&CONTENTS)
}

/// The names in a zip archive's central directory; `None` for other content.
fn zip_names(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    const END_BYTES: usize = 22;
    const MAX_COMMENT_BYTES: usize = 65_535;
    const ENTRY_BYTES: usize = 46;
    if !bytes.starts_with(b"PK\x03\x04") {
        return None;
    }
    // Only a comment may follow the end record.
    let earliest = bytes.len().saturating_sub(END_BYTES + MAX_COMMENT_BYTES);
    let latest = bytes.len().checked_sub(END_BYTES)?;
    let end = (earliest..=latest)
        .rev()
        .find(|at| bytes[*at..].starts_with(b"PK\x05\x06"))?;
    let entries = number(bytes, end + 10, 2)?;
    let mut at = number(bytes, end + 16, 4)?;
    let mut names = Vec::new();
    for _ in 0..entries {
        let entry = bytes.get(at..)?;
        if !entry.starts_with(b"PK\x01\x02") {
            return None;
        }
        let (name, extra, comment) = (
            number(entry, 28, 2)?,
            number(entry, 30, 2)?,
            number(entry, 32, 2)?,
        );
        names.push(entry.get(ENTRY_BYTES..ENTRY_BYTES + name)?);
        at += ENTRY_BYTES + name + extra + comment;
    }
    Some(names)
}

/// Reads a little-endian number of `length` bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + length)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| (number << 8) | usize::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of empty files with these names and a comment.
    fn zip(names: &[&str], comment: &str) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04 what the files hold".to_vec();
        let directory = bytes.len();
        let two = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
        for name in names {
            let mut entry = [0; 46];
            entry[..4].copy_from_slice(b"PK\x01\x02");
            entry[28..30].copy_from_slice(&two(name.len()));
            bytes.extend_from_slice(&entry);
            bytes.extend_from_slice(name.as_bytes());
        }
        let mut end = [0; 22];
        end[..4].copy_from_slice(b"PK\x05\x06");
        end[10..12].copy_from_slice(&two(names.len()));
        end[16..20].copy_from_slice(&u32::try_from(directory).unwrap().to_le_bytes());
        end[20..22].copy_from_slice(&two(comment.len()));
        bytes.extend_from_slice(&end);
        bytes.extend_from_slice(comment.as_bytes());
        bytes
    }

    #[test]
    fn an_open_xml_document_is_recognized_by_the_files_in_its_archive() {
        let word = zip(&["[Content_Types].xml", "word/document.xml"], "");
        let excel = zip(&["xl/workbook.xml", "[Content_Types].xml"], "a comment");
        assert!(FileType::Docx.is_content(&word) && !FileType::Xlsx.is_content(&word));
        assert!(FileType::Xlsx.is_content(&excel) && !FileType::Docx.is_content(&excel));
        for other in [
            zip(&["word/document.xml"], ""),
            zip(&["[Content_Types].xml", "ppt/slide.xml"], ""),
            zip(&[], ""),
            b"PK\x03\x04 word/ [Content_Types].xml".to_vec(),
        ] {
            assert!(!FileType::Docx.is_content(&other));
        }
    }

    #[test]
    fn a_truncated_or_corrupted_archive_is_never_read_beyond_its_end() {
        let word = zip(&["[Content_Types].xml", "word/document.xml"], "");
        for length in 0..word.len() {
            assert!(!FileType::Docx.is_content(&word[..length]), "{length}");
        }
        for at in 0..word.len() {
            let mut corrupted = word.clone();
            corrupted[at] ^= 0xff;
            FileType::Docx.is_content(&corrupted);
        }
    }

    #[test]
    fn a_path_is_parsed_only_as_it_is_written() {
        let id = AttachmentId::parse("att_019ab697-e807-7000-8000-000000000000").unwrap();
        assert_eq!(parse_blob_path(&blob_path(id)), Some(id));
        for other in [
            "",
            "chat/attachments/",
            "att_019ab697-e807-7000-8000-000000000000",
        ] {
            assert_eq!(parse_blob_path(other), None);
        }
    }
}
