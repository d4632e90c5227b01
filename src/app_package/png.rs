//! Pictures in PNG (RFC 2083), as far as icons need them.

use std::io::{self, Read, Write};

use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

/// A pixel: red, green, blue and alpha.
pub type Pixel = [u8; 4];

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
const NOT_PNG: &str = "is not a PNG picture";
const DAMAGED: &str = "is a PNG picture that is damaged or incomplete";

/// Encodes a square picture, row by row from the top.
///
/// # Errors
/// None that the memory does not cause.
pub fn encode(side: u32, pixels: &[Pixel]) -> io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(13);
    header.extend(side.to_be_bytes());
    header.extend(side.to_be_bytes());
    // 8 bits a sample, RGBA, and the only methods there are, without interlace.
    header.extend([8, 6, 0, 0, 0]);
    let mut data = ZlibEncoder::new(Vec::new(), Compression::best());
    for row in pixels.chunks(side as usize) {
        data.write_all(&[0])?;
        data.write_all(row.as_flattened())?;
    }
    let mut png = SIGNATURE.to_vec();
    for (kind, content) in [
        (b"IHDR", header),
        (b"IDAT", data.finish()?),
        (b"IEND", vec![]),
    ] {
        png.extend(u32::try_from(content.len()).unwrap_or(0).to_be_bytes());
        png.extend(kind);
        png.extend(&content);
        png.extend(checksum(*kind, &content).to_be_bytes());
    }
    Ok(png)
}

fn checksum(kind: [u8; 4], content: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(&kind);
    sum.update(content);
    sum.sum()
}

/// Decodes a square picture with this number of pixels a side. Work and memory are bounded by that
/// number, whatever the bytes say.
///
/// # Errors
/// What is wrong with the picture, as the rest of a sentence that begins with its name.
pub fn decode(png: &[u8], side: u32) -> Result<Vec<Pixel>, String> {
    let rest = png.strip_prefix(&SIGNATURE).ok_or(NOT_PNG)?;
    let mut chunks = Chunks { rest };
    let header = match chunks.next() {
        Some(Ok((b"IHDR", content))) => Header::read(content)?,
        Some(_) | None => return Err(DAMAGED.to_owned()),
    };
    if (header.width, header.height) != (side, side) {
        let (width, height) = (header.width, header.height);
        return Err(format!(
            "must have {side} x {side} pixels, but has {width} x {height}"
        ));
    }
    if header.interlaced {
        return Err("must not be interlaced; save it without interlacing".to_owned());
    }
    let mut picture = Picture {
        header,
        palette: &[],
        transparency: &[],
    };
    let mut compressed = Vec::new();
    let mut has_ended = false;
    for chunk in chunks {
        let (kind, content) = chunk?;
        match kind {
            _ if has_ended => return Err(DAMAGED.to_owned()),
            b"PLTE" => picture.palette = content,
            b"tRNS" => picture.transparency = content,
            b"IDAT" => compressed.extend_from_slice(content),
            b"IEND" => has_ended = true,
            // A decoder may skip what begins with a small letter, and nothing else.
            [first, ..] if first.is_ascii_lowercase() => {}
            _ => return Err(DAMAGED.to_owned()),
        }
    }
    if !has_ended {
        return Err(DAMAGED.to_owned());
    }
    let rows = picture.header.unpacked(&compressed)?;
    picture.pixels(&rows).ok_or_else(|| DAMAGED.to_owned())
}

/// The chunks of a picture: kind and content, with a correct checksum.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<(&'a [u8; 4], &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let chunk = self.take();
        if chunk.is_none() {
            self.rest = &[];
        }
        Some(chunk.ok_or_else(|| DAMAGED.to_owned()))
    }
}

impl<'a> Chunks<'a> {
    fn take(&mut self) -> Option<(&'a [u8; 4], &'a [u8])> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (content, rest) = rest.split_at_checked(length)?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        self.rest = rest;
        (u32::from_be_bytes(*sum) == checksum(*kind, content)).then_some((kind, content))
    }
}

/// What a picture says about its pixels.
struct Header {
    width: u32,
    height: u32,
    /// Bits of a sample.
    depth: u8,
    color: Color,
    interlaced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Color {
    Gray,
    Rgb,
    Palette,
    GrayAlpha,
    Rgba,
}

impl Header {
    fn read(content: &[u8]) -> Result<Self, String> {
        let &[
            w0,
            w1,
            w2,
            w3,
            h0,
            h1,
            h2,
            h3,
            depth,
            color,
            0,
            0,
            interlace @ (0 | 1),
        ] = content
        else {
            return Err(DAMAGED.to_owned());
        };
        let color = match (color, depth) {
            (0, 1 | 2 | 4 | 8 | 16) => Color::Gray,
            (2, 8 | 16) => Color::Rgb,
            (3, 1 | 2 | 4 | 8) => Color::Palette,
            (4, 8 | 16) => Color::GrayAlpha,
            (6, 8 | 16) => Color::Rgba,
            _ => return Err(DAMAGED.to_owned()),
        };
        Ok(Self {
            width: u32::from_be_bytes([w0, w1, w2, w3]),
            height: u32::from_be_bytes([h0, h1, h2, h3]),
            depth,
            color,
            interlaced: interlace == 1,
        })
    }

    fn bits_of_pixel(&self) -> usize {
        let samples = match self.color {
            Color::Gray | Color::Palette => 1,
            Color::GrayAlpha => 2,
            Color::Rgb => 3,
            Color::Rgba => 4,
        };
        samples * usize::from(self.depth)
    }

    /// The bytes of a row.
    fn stride(&self) -> usize {
        (self.width as usize * self.bits_of_pixel()).div_ceil(8)
    }

    /// The rows after decompression, without their filters.
    fn unpacked(&self, compressed: &[u8]) -> Result<Vec<u8>, String> {
        let stride = self.stride();
        let expected = (stride + 1) * self.height as usize;
        let mut filtered = Vec::new();
        // One byte more shows that there are too many.
        ZlibDecoder::new(compressed)
            .take(expected as u64 + 1)
            .read_to_end(&mut filtered)
            .map_err(|_| DAMAGED)?;
        if filtered.len() != expected {
            return Err(DAMAGED.to_owned());
        }
        let back = (self.bits_of_pixel() / 8).max(1);
        let mut rows: Vec<u8> = Vec::with_capacity(stride * self.height as usize);
        let mut above = vec![0; stride];
        for row in filtered.chunks_exact(stride + 1) {
            let mut plain = vec![0; stride];
            for (at, byte) in row.iter().skip(1).enumerate() {
                let earlier = |row: &[u8]| at.checked_sub(back).map_or(0, |at| row[at]);
                let (left, up, corner) = (earlier(&plain), above[at], earlier(&above));
                let predicted = match row[0] {
                    0 => 0,
                    1 => left,
                    2 => up,
                    3 => u16::midpoint(left.into(), up.into()) as u8,
                    4 => nearest(left, up, corner),
                    _ => return Err(DAMAGED.to_owned()),
                };
                plain[at] = byte.wrapping_add(predicted);
            }
            rows.extend(&plain);
            above = plain;
        }
        Ok(rows)
    }
}

/// The Paeth predictor: the neighbor that is nearest to their plane.
fn nearest(left: u8, up: u8, corner: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(up), i16::from(corner));
    let plane = a + b - c;
    let (to_left, to_up, to_corner) = ((plane - a).abs(), (plane - b).abs(), (plane - c).abs());
    if to_left <= to_up && to_left <= to_corner {
        left
    } else if to_up <= to_corner {
        up
    } else {
        corner
    }
}

struct Picture<'a> {
    header: Header,
    palette: &'a [u8],
    transparency: &'a [u8],
}

impl Picture<'_> {
    /// The pixels of plain rows; `None` if one names a color that the palette lacks.
    fn pixels(&self, rows: &[u8]) -> Option<Vec<Pixel>> {
        let width = self.header.width as usize;
        rows.chunks_exact(self.header.stride())
            .flat_map(|row| (0..width).map(move |at| self.pixel(row, at)))
            .collect()
    }

    /// The sample of a row, as it is stored.
    fn sample(&self, row: &[u8], at: usize) -> u16 {
        match self.header.depth {
            16 => u16::from_be_bytes([row[2 * at], row[2 * at + 1]]),
            8 => row[at].into(),
            depth => {
                let depth = usize::from(depth);
                let bit = at * depth;
                let shift = 8 - depth - bit % 8;
                (u16::from(row[bit / 8]) >> shift) & ((1 << depth) - 1)
            }
        }
    }

    /// A sample with 8 bits.
    fn scaled(&self, sample: u16) -> u8 {
        let most = (1_u32 << self.header.depth) - 1;
        u8::try_from(u32::from(sample) * 255 / most).unwrap_or(u8::MAX)
    }

    /// The alpha of a color, of which the picture can make one transparent.
    fn alpha(&self, samples: &[u16]) -> u8 {
        let named = self.transparency.chunks_exact(2);
        let named = named.map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let is_named =
            self.transparency.len() == samples.len() * 2 && named.eq(samples.iter().copied());
        if is_named { 0 } else { u8::MAX }
    }

    fn pixel(&self, row: &[u8], at: usize) -> Option<Pixel> {
        let sample = |of, index| self.sample(row, at * of + index);
        let scaled = |of, index| self.scaled(sample(of, index));
        Some(match self.header.color {
            Color::Gray => {
                let gray = scaled(1, 0);
                [gray, gray, gray, self.alpha(&[sample(1, 0)])]
            }
            Color::GrayAlpha => {
                let gray = scaled(2, 0);
                [gray, gray, gray, scaled(2, 1)]
            }
            Color::Rgb => {
                let alpha = self.alpha(&[sample(3, 0), sample(3, 1), sample(3, 2)]);
                [scaled(3, 0), scaled(3, 1), scaled(3, 2), alpha]
            }
            Color::Rgba => [scaled(4, 0), scaled(4, 1), scaled(4, 2), scaled(4, 3)],
            Color::Palette => {
                let index = usize::from(sample(1, 0));
                let (colors, _) = self.palette.as_chunks::<3>();
                let [red, green, blue] = *colors.get(index)?;
                let alpha = self.transparency.get(index).copied();
                [red, green, blue, alpha.unwrap_or(u8::MAX)]
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of one chunk of data, whatever that holds.
    fn png(header: [u8; 13], between: &[(&[u8; 4], &[u8])], filtered: &[u8]) -> Vec<u8> {
        let mut data = ZlibEncoder::new(Vec::new(), Compression::fast());
        data.write_all(filtered).unwrap();
        let data = data.finish().unwrap();
        let mut chunks: Vec<(&[u8; 4], &[u8])> = vec![(b"IHDR", &header)];
        chunks.extend(between);
        chunks.extend([(b"IDAT", data.as_slice()), (b"IEND", &[])]);
        let mut png = SIGNATURE.to_vec();
        for (kind, content) in chunks {
            png.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
            png.extend(kind);
            png.extend(content);
            png.extend(checksum(*kind, content).to_be_bytes());
        }
        png
    }

    /// The header of a picture of 2 x 2 pixels.
    fn header(depth: u8, color: u8, interlace: u8) -> [u8; 13] {
        [0, 0, 0, 2, 0, 0, 0, 2, depth, color, 0, 0, interlace]
    }

    const WHITE: Pixel = [255; 4];
    const BLACK: Pixel = [0, 0, 0, 255];
    const NOTHING: Pixel = [0; 4];

    #[test]
    fn a_picture_comes_back_as_it_was_encoded() {
        let pixels = [[1, 2, 3, 4], WHITE, BLACK, [250, 251, 252, 253]];
        assert_eq!(decode(&encode(2, &pixels).unwrap(), 2), Ok(pixels.to_vec()));
    }

    #[test]
    fn every_kind_of_color_and_depth_is_read() {
        let gray1 = png(header(1, 0, 0), &[], &[0, 0b0100_0000, 0, 0b1000_0000]);
        assert_eq!(decode(&gray1, 2), Ok(vec![BLACK, WHITE, WHITE, BLACK]));
        let keyed = png(
            header(8, 0, 0),
            &[(b"tRNS", &[0, 7])],
            &[0, 7, 255, 0, 0, 7],
        );
        let gone = [7, 7, 7, 0];
        assert_eq!(decode(&keyed, 2), Ok(vec![gone, WHITE, BLACK, gone]));
        let palette = png(
            header(2, 3, 0),
            &[(b"PLTE", &[9, 8, 7, 255, 255, 255]), (b"tRNS", &[0])],
            &[0, 0b0001_0000, 0, 0b0100_0000],
        );
        let first = [9, 8, 7, 0];
        assert_eq!(decode(&palette, 2), Ok(vec![first, WHITE, WHITE, first]));
        let alpha = png(header(8, 4, 0), &[], &[0, 255, 255, 0, 0, 0, 0, 255, 0, 0]);
        assert_eq!(decode(&alpha, 2), Ok(vec![WHITE, NOTHING, BLACK, NOTHING]));
        let deep = [
            0, 255, 255, 0, 0, 128, 0, 255, 255, 255, 255, 255, 255, // red 16 bits a sample
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let deep = png(header(16, 2, 0), &[], &deep);
        let orange = [255, 0, 127, 255];
        assert_eq!(decode(&deep, 2), Ok(vec![orange, WHITE, BLACK, BLACK]));
    }

    #[test]
    fn every_filter_is_undone() {
        let rows = |filter: u8, second: [u8; 2]| {
            let filtered = [1, 10, 20, filter, second[0], second[1]];
            decode(&png(header(8, 0, 0), &[], &filtered), 2)
                .map(|pixels| pixels.iter().map(|pixel| pixel[0]).collect::<Vec<_>>())
        };
        assert_eq!(rows(0, [1, 2]), Ok(vec![10, 30, 1, 2]));
        assert_eq!(rows(1, [1, 2]), Ok(vec![10, 30, 1, 3]));
        assert_eq!(rows(2, [1, 2]), Ok(vec![10, 30, 11, 32]));
        assert_eq!(rows(3, [1, 2]), Ok(vec![10, 30, 6, 20]));
        assert_eq!(rows(4, [1, 2]), Ok(vec![10, 30, 11, 32]));
        assert_eq!(rows(5, [1, 2]), Err(DAMAGED.to_owned()));
    }

    #[test]
    fn what_is_no_whole_picture_is_refused_with_the_reason() {
        assert_eq!(decode(b"GIF89a", 2), Err(NOT_PNG.to_owned()));
        let damaged = Err(DAMAGED.to_owned());
        let whole = encode(2, &[WHITE; 4]).unwrap();
        for end in SIGNATURE.len()..whole.len() {
            assert_eq!(decode(&whole[..end], 2), damaged, "{end}");
        }
        for at in SIGNATURE.len()..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(decode(&other, 2), damaged, "{at}");
        }
        assert_eq!(decode(&[whole.as_slice(), b"x"].concat(), 2), damaged);
        let sizes = "must have 3 x 3 pixels, but has 2 x 2";
        assert_eq!(decode(&whole, 3), Err(sizes.to_owned()));
        let interlaced = png(header(8, 0, 1), &[], &[0; 6]);
        let reason = "must not be interlaced; save it without interlacing";
        assert_eq!(decode(&interlaced, 2), Err(reason.to_owned()));
        // More or fewer rows than announced, a color without a palette, an unknown part.
        assert_eq!(decode(&png(header(8, 0, 0), &[], &[0; 7]), 2), damaged);
        assert_eq!(decode(&png(header(8, 0, 0), &[], &[0; 5]), 2), damaged);
        assert_eq!(decode(&png(header(8, 3, 0), &[], &[0; 6]), 2), damaged);
        let critical = png(header(8, 0, 0), &[(b"ABCD", &[])], &[0; 6]);
        assert_eq!(decode(&critical, 2), damaged);
        let skipped = png(header(8, 0, 0), &[(b"tEXt", b"x")], &[0; 6]);
        assert_eq!(decode(&skipped, 2), Ok(vec![BLACK; 4]));
    }
}
