//! The types of attachments that people send from Windows, Outlook and iPhones.

use crate::support::{Server, technician};

const OLD_OFFICE: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0";

/// "Größe;1\r\n" in UTF-16 with its mark.
fn utf_16(unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    "\u{feff}Größe;😀\r\n"
        .encode_utf16()
        .flat_map(unit)
        .collect()
}

#[test]
fn text_in_the_encodings_of_excel_and_notepad_is_accepted_and_given_back_as_it_is() {
    let server = Server::demo();
    let northwind = server.northwind();
    let (little, big) = (utf_16(u16::to_le_bytes), utf_16(u16::to_be_bytes));
    for mime in ["text/csv", "text/plain"] {
        let session = northwind.session(technician());
        for content in [
            "\u{feff}Größe;1\r\n".as_bytes(),
            &little,
            &big,
            b"Gr\xf6\xdfe;1\r\n\x1a",
            b"\x80 5 \x96 10",
        ] {
            let path = northwind.upload(&session, mime, content);
            assert!(path.starts_with("chat/attachments/"), "{path}");
        }
        let odd = &little[..little.len() - 1];
        let lone = b"\xff\xfe\x00\xd8a\0";
        for content in [
            PNG,
            JPEG,
            OLD_OFFICE,
            odd,
            lone,
            b"\xff\xfe\0\0",
            b"Gr\xf6\x81e",
            b"a\0b",
            b"\xf6\x1b[",
        ] {
            let url = northwind.request_upload(&session, mime).expect(201).data();
            let url = url["upload_url"].as_str().unwrap();
            northwind
                .follow_link("PUT", url, Some(content))
                .refused_field("body", &format!("is not a file of the type {mime}"));
        }
    }
}

#[test]
fn emails_photographs_of_iphones_and_archives_are_accepted_by_their_first_bytes() {
    let server = Server::demo();
    let northwind = server.northwind();
    let session = northwind.session(technician());
    let email: &[u8] =
        b"Received: from mail.example.com\r\n by x\r\nSubject: Gr\xfc\xdfe\r\n\r\nText";
    let heic: &[u8] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    let empty_zip: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    type Contents<'a> = &'a [&'a [u8]];
    let kinds: [(&str, Contents<'_>, Contents<'_>); 4] = [
        (
            "message/rfc822",
            &[
                email,
                b"From a@b.c Mon Nov 30\nTo: x\n\ny",
                b"\xef\xbb\xbfX-A: b\n",
            ],
            &[
                b"Dear all,\n\nSubject: x",
                PNG,
                b"a;b\n1;2\n",
                b"no header: \x00",
            ],
        ),
        ("application/vnd.ms-outlook", &[OLD_OFFICE], &[email, heic]),
        (
            "image/heic",
            &[heic, b"\0\0\0\x18ftypmif1"],
            &[PNG, b"\0\0\0\x18ftypmp42", b"ftypheic"],
        ),
        (
            "application/zip",
            &[empty_zip],
            &[OLD_OFFICE, b"PK\x03\x04", b"Rar!\x1a\x07"],
        ),
    ];
    for (mime, good, bad) in kinds {
        for content in bad {
            let url = northwind.request_upload(&session, mime).expect(201).data();
            northwind
                .follow_link("PUT", url["upload_url"].as_str().unwrap(), Some(content))
                .refused_field("body", &format!("is not a file of the type {mime}"));
        }
        for content in good {
            let path = northwind.upload(&session, mime, content);
            let file = serde_json::json!({"message": "", "attachments": [{"blob_path": path, "mime": mime}]});
            northwind.append(&session, file).expect(202);
        }
    }
    let messages = northwind.messages(&session, "").data();
    let url = messages[0]["attachments"][0]["url"].as_str().unwrap();
    let reply = northwind.follow_link("GET", url, None).expect(200);
    assert_eq!(reply.header("content-disposition"), Some("attachment"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
}
