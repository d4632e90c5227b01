//! Decompresses the body of a reply as it arrives. Some servers and proxies compress a stream that
//! nobody asked them to compress.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

/// The largest piece of compressed data that is decompressed at a time. Its content has at most
/// about 1 MiB, so that the caller can stop before a small body fills the memory.
const STEP_BYTES: usize = 1 << 10;

/// The first bytes of a gzip file.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// The decoder of one body.
pub(super) enum Decoder {
    /// The first bytes, which tell the encoding, have not arrived yet.
    Start {
        /// Whether the header says `deflate`.
        is_deflate: bool,
        /// The bytes so far.
        first: Vec<u8>,
    },
    /// The body is not compressed.
    Plain,
    /// `gzip`.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// `deflate` as the standard has it, with the header of zlib.
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    /// `deflate` as some servers have it, without a header.
    Deflate(Box<DeflateDecoder<Vec<u8>>>),
}

impl Decoder {
    /// Makes the decoder of a body with these headers.
    ///
    /// # Errors
    /// A phrase for the operator, if the encoding is unknown.
    pub(super) fn new(headers: &HeaderMap) -> Result<Self, String> {
        let encoding = headers
            .get(CONTENT_ENCODING)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match encoding.as_str() {
            // The first bytes decide, because some proxies leave out the header or send a wrong
            // one.
            "" | "identity" | "none" | "utf-8" | "gzip" | "x-gzip" | "deflate" => Ok(Self::Start {
                is_deflate: encoding == "deflate",
                first: Vec::new(),
            }),
            other => Err(format!(
                "the reply is compressed with {other}, which the request did not ask for"
            )),
        }
    }

    /// Decompresses a piece of the body. Calls `take` with each piece of the content until `take`
    /// returns `false`.
    ///
    /// # Errors
    /// A phrase for the operator, if the body is damaged.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), String> {
        let held;
        let mut bytes = bytes;
        if let Self::Start { is_deflate, first } = self {
            first.extend_from_slice(bytes);
            let [one, two, ..] = first[..] else {
                return Ok(());
            };
            let is_deflate = *is_deflate;
            held = std::mem::take(first);
            bytes = &held;
            *self = match [one, two] {
                magic if magic == GZIP_MAGIC => Self::Gzip(Box::new(MultiGzDecoder::new(vec![]))),
                // The header of zlib: its method is 8, and it is a multiple of 31.
                _ if is_deflate && one & 0xf == 8 && u16::from_be_bytes([one, two]) % 31 == 0 => {
                    Self::Zlib(Box::new(ZlibDecoder::new(vec![])))
                }
                _ if is_deflate && !matches!(one, b'd' | b':' | b'{' | b'e' | b'\n' | b'\r') => {
                    Self::Deflate(Box::new(DeflateDecoder::new(vec![])))
                }
                _ => Self::Plain,
            };
        }
        let damaged = |error: io::Error| format!("the reply cannot be decompressed: {error}");
        match self {
            Self::Start { .. } | Self::Plain => {
                take(bytes);
            }
            Self::Gzip(decoder) => {
                push(&mut **decoder, |decoder| decoder.get_mut(), bytes, take).map_err(damaged)?;
            }
            Self::Zlib(decoder) => {
                push(&mut **decoder, |decoder| decoder.get_mut(), bytes, take).map_err(damaged)?;
            }
            Self::Deflate(decoder) => {
                push(&mut **decoder, |decoder| decoder.get_mut(), bytes, take).map_err(damaged)?;
            }
        }
        Ok(())
    }
}

fn push<D: Write>(
    decoder: &mut D,
    content: impl Fn(&mut D) -> &mut Vec<u8>,
    bytes: &[u8],
    mut take: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    for step in bytes.chunks(STEP_BYTES) {
        let outcome = decoder.write_all(step).and_then(|()| decoder.flush());
        let decoded = std::mem::take(content(decoder));
        if !decoded.is_empty() && !take(&decoded) {
            return Ok(());
        }
        outcome?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use reqwest::header::HeaderValue;

    use super::*;

    const TEXT: &[u8] = b"data: {\"choices\":[]}\n\n";

    fn headers(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    fn decode(encoding: &'static str, body: &[u8], size_bytes: usize) -> Result<Vec<u8>, String> {
        let mut decoder = Decoder::new(&headers(encoding))?;
        let mut text = Vec::new();
        for piece in body.chunks(size_bytes) {
            decoder.push(piece, |decoded| {
                text.extend_from_slice(decoded);
                true
            })?;
        }
        Ok(text)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_encoding_is_read_however_the_body_is_cut() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(TEXT).unwrap();
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(TEXT).unwrap();
        let (zlib, deflate) = (zlib.finish().unwrap(), deflate.finish().unwrap());
        for (encoding, body) in [
            ("gzip", gzip(TEXT)),
            ("X-GZIP", gzip(TEXT)),
            ("", gzip(TEXT)),
            ("deflate", zlib),
            ("deflate", deflate),
            ("identity", TEXT.to_vec()),
            ("gzip", TEXT.to_vec()),
            ("deflate", TEXT.to_vec()),
        ] {
            for size_bytes in 1..body.len() {
                let text = decode(encoding, &body, size_bytes);
                assert_eq!(text.as_deref(), Ok(TEXT), "{encoding} {size_bytes}");
            }
        }
    }

    #[test]
    fn a_piece_is_readable_as_soon_as_the_server_has_flushed_it() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut decoder = Decoder::new(&headers("gzip")).unwrap();
        for _ in 0..3 {
            encoder.write_all(TEXT).unwrap();
            encoder.flush().unwrap();
            let mut text = Vec::new();
            let flushed = std::mem::take(encoder.get_mut());
            decoder
                .push(&flushed, |decoded| {
                    text.extend_from_slice(decoded);
                    true
                })
                .unwrap();
            assert_eq!(text, TEXT);
        }
    }

    #[test]
    fn a_small_body_with_much_content_is_read_in_pieces_until_the_reader_stops() {
        let bomb = gzip(&vec![b'\n'; 64 << 20]);
        let mut decoder = Decoder::new(&headers("gzip")).unwrap();
        let (mut pieces, mut largest) = (0, 0);
        decoder
            .push(&bomb, |decoded| {
                pieces += 1;
                largest = largest.max(decoded.len());
                pieces < 3
            })
            .unwrap();
        assert_eq!(pieces, 3);
        assert!(largest <= 2 << 20, "{largest}");
    }

    #[test]
    fn an_unknown_encoding_and_a_damaged_body_are_faults() {
        assert!(decode("br", TEXT, 9).unwrap_err().contains("br"));
        let mut damaged = gzip(TEXT);
        // A kind of block that does not exist.
        damaged[10] = 0xff;
        assert!(decode("gzip", &damaged, 99).is_err());
    }
}
