//! The icons of a bot: what Teams demands of uploaded ones, and the drawn ones, which show the
//! initials of the bot's name.

use std::io;

use unicode_normalization::UnicodeNormalization;

use super::png::{self, Pixel};

/// The pixels of a side of the color icon.
pub const COLOR_SIDE: u32 = 192;
/// The pixels of a side of the outline icon.
pub const OUTLINE_SIDE: u32 = 32;

/// How far a sample of a white pixel may be from white: editors round.
const WHITE: u8 = 250;

/// Checks an uploaded color icon.
///
/// # Errors
/// What is wrong with the icon, as the rest of a sentence that begins with its name.
pub fn check_color(png: &[u8]) -> Result<(), String> {
    png::decode(png, COLOR_SIDE).map(drop)
}

/// Checks an uploaded outline icon, which must be white on a transparent ground.
///
/// # Errors
/// What is wrong with the icon, as the rest of a sentence that begins with its name.
pub fn check_outline(png: &[u8]) -> Result<(), String> {
    let pixels = png::decode(png, OUTLINE_SIDE)?;
    let is_white = |pixel: &Pixel| pixel[..3].iter().all(|sample| *sample >= WHITE);
    let mut visible = pixels.iter().filter(|pixel| pixel[3] > 0).peekable();
    let has_ground = pixels.iter().any(|pixel| pixel[3] == 0);
    if visible.peek().is_some() && has_ground && visible.all(is_white) {
        Ok(())
    } else {
        Err("must be white on a transparent ground, without another color".to_owned())
    }
}

/// A sign: its width in cells, and its rows, each with the leftmost cell in the highest bit of that
/// width.
#[derive(Clone, Copy)]
struct Glyph {
    width: usize,
    rows: [u8; ROWS],
}

/// The cells of a sign's height.
const ROWS: usize = 7;

impl Glyph {
    const fn letter(rows: [u8; ROWS]) -> Self {
        Self { width: 5, rows }
    }

    /// Whether the cell is part of the sign. Cells beyond the sign are not.
    fn has(&self, column: i32, row: i32) -> bool {
        let (Ok(column), Ok(row)) = (usize::try_from(column), usize::try_from(row)) else {
            return false;
        };
        let bits = self.rows.get(row).filter(|_| column < self.width);
        bits.is_some_and(|bits| bits >> (self.width - 1 - column) & 1 == 1)
    }
}

/// A speech bubble, for a name without Latin letters and digits.
const BUBBLE: Glyph = Glyph {
    width: 7,
    rows: [
        0b011_1110, 0b111_1111, 0b111_1111, 0b111_1111, 0b011_1110, 0b001_1000, 0b001_0000,
    ],
};

/// The letters `A` to `Z`, then the digits.
const LETTERS: [Glyph; 36] = [
    Glyph::letter([
        0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001,
    ]),
    Glyph::letter([
        0b11110, 0b10001, 0b10001, 0b11110, 0b10001, 0b10001, 0b11110,
    ]),
    Glyph::letter([
        0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110,
    ]),
    Glyph::letter([
        0b11100, 0b10010, 0b10001, 0b10001, 0b10001, 0b10010, 0b11100,
    ]),
    Glyph::letter([
        0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111,
    ]),
    Glyph::letter([
        0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b10000,
    ]),
    Glyph::letter([
        0b01110, 0b10001, 0b10000, 0b10111, 0b10001, 0b10001, 0b01110,
    ]),
    Glyph::letter([
        0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001,
    ]),
    Glyph::letter([
        0b01110, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110,
    ]),
    Glyph::letter([
        0b00111, 0b00010, 0b00010, 0b00010, 0b00010, 0b10010, 0b01100,
    ]),
    Glyph::letter([
        0b10001, 0b10010, 0b10100, 0b11000, 0b10100, 0b10010, 0b10001,
    ]),
    Glyph::letter([
        0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111,
    ]),
    Glyph::letter([
        0b10001, 0b11011, 0b10101, 0b10101, 0b10001, 0b10001, 0b10001,
    ]),
    Glyph::letter([
        0b10001, 0b10001, 0b11001, 0b10101, 0b10011, 0b10001, 0b10001,
    ]),
    Glyph::letter([
        0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110,
    ]),
    Glyph::letter([
        0b11110, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000, 0b10000,
    ]),
    Glyph::letter([
        0b01110, 0b10001, 0b10001, 0b10001, 0b10101, 0b10010, 0b01101,
    ]),
    Glyph::letter([
        0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001,
    ]),
    Glyph::letter([
        0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110,
    ]),
    Glyph::letter([
        0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100,
    ]),
    Glyph::letter([
        0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110,
    ]),
    Glyph::letter([
        0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01010, 0b00100,
    ]),
    Glyph::letter([
        0b10001, 0b10001, 0b10001, 0b10101, 0b10101, 0b10101, 0b01010,
    ]),
    Glyph::letter([
        0b10001, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001, 0b10001,
    ]),
    Glyph::letter([
        0b10001, 0b10001, 0b10001, 0b01010, 0b00100, 0b00100, 0b00100,
    ]),
    Glyph::letter([
        0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b10000, 0b11111,
    ]),
    Glyph::letter([
        0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110,
    ]),
    Glyph::letter([
        0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110,
    ]),
    Glyph::letter([
        0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111,
    ]),
    Glyph::letter([
        0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110,
    ]),
    Glyph::letter([
        0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010,
    ]),
    Glyph::letter([
        0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110,
    ]),
    Glyph::letter([
        0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110,
    ]),
    Glyph::letter([
        0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000,
    ]),
    Glyph::letter([
        0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110,
    ]),
    Glyph::letter([
        0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100,
    ]),
];

/// The first letters of the first two words that have one, without accents.
fn initials(name: &str) -> Vec<Glyph> {
    let first = |word: &str| {
        let letter = word.nfkd().find(char::is_ascii_alphanumeric)?;
        let at = match letter.to_ascii_uppercase() {
            digit @ '0'..='9' => 26 + digit as usize - '0' as usize,
            letter => letter as usize - 'A' as usize,
        };
        LETTERS.get(at).copied()
    };
    let glyphs: Vec<Glyph> = name.split_whitespace().filter_map(first).take(2).collect();
    if glyphs.is_empty() {
        vec![BUBBLE]
    } else {
        glyphs
    }
}

/// How much of each pixel the initials cover, from 0 to 1, row by row.
fn coverage(name: &str, side: u32) -> Vec<f32> {
    let glyphs = initials(name);
    // A column of cells between two signs.
    let columns = glyphs.iter().map(|glyph| glyph.width + 1).sum::<usize>() - 1;
    // Two letters take up to seven tenths of the width.
    let cell = (side as usize * 7 / 10 / columns.max(ROWS + 2)).max(1) as f32;
    let left = (side as f32 - columns as f32 * cell) / 2.0;
    let top = (side as f32 - ROWS as f32 * cell) / 2.0;
    let has = |column: i32, row: i32| {
        let mut start = 0;
        for glyph in &glyphs {
            if glyph.has(column - start, row) {
                return 1.0;
            }
            start += glyph.width as i32 + 1;
        }
        0.0
    };
    let pixels = (0..side * side).map(|at| {
        // The place among the centers of the cells. Between them, the edge of a sign is where nearly
        // half of the surrounding cells belong to it, so that corners are round and cells that
        // touch at a corner are joined.
        let x = ((at % side) as f32 + 0.5 - left) / cell - 0.5;
        let y = ((at / side) as f32 + 0.5 - top) / cell - 0.5;
        let (column, row) = (x.floor() as i32, y.floor() as i32);
        let (right, down) = (x - x.floor(), y - y.floor());
        let upper = has(column, row) * (1.0 - right) + has(column + 1, row) * right;
        let lower = has(column, row + 1) * (1.0 - right) + has(column + 1, row + 1) * right;
        let inside = upper * (1.0 - down) + lower * down;
        ((inside - 0.4) * cell + 0.5).clamp(0.0, 1.0)
    });
    pixels.collect()
}

/// Draws a color icon: white initials on this ground.
///
/// # Errors
/// None that the memory does not cause.
pub fn draw_color(name: &str, ground: [u8; 3]) -> io::Result<Vec<u8>> {
    let mixed = |ground: u8, cover: f32| {
        let ground = f32::from(ground);
        (ground + (255.0 - ground) * cover).round() as u8
    };
    let pixels: Vec<Pixel> = coverage(name, COLOR_SIDE)
        .into_iter()
        .map(|cover| {
            let [red, green, blue] = ground.map(|sample| mixed(sample, cover));
            [red, green, blue, u8::MAX]
        })
        .collect();
    png::encode(COLOR_SIDE, &pixels)
}

/// Draws an outline icon: white initials on nothing.
///
/// # Errors
/// None that the memory does not cause.
pub fn draw_outline(name: &str) -> io::Result<Vec<u8>> {
    let pixels: Vec<Pixel> = coverage(name, OUTLINE_SIDE)
        .into_iter()
        .map(|cover| [255, 255, 255, (255.0 * cover).round() as u8])
        .collect();
    png::encode(OUTLINE_SIDE, &pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of letters: `#` where a pixel is covered more than half.
    fn drawn(name: &str) -> Vec<String> {
        let rows = coverage(name, OUTLINE_SIDE);
        let rows = rows.chunks(OUTLINE_SIDE as usize).map(|row| {
            row.iter()
                .map(|cover| if *cover > 0.5 { '#' } else { ' ' })
                .collect::<String>()
        });
        rows.filter(|row| row.contains('#'))
            .map(|row| row.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn drawn_icons_pass_the_checks_of_uploaded_ones() {
        for name in ["Northwind helper", "Ärzte", "日本語", "", "7 of 9", "!"] {
            check_color(&draw_color(name, [10, 90, 160]).unwrap()).unwrap();
            check_outline(&draw_outline(name).unwrap()).unwrap();
        }
    }

    #[test]
    fn the_initials_are_those_of_the_first_two_words_without_accents() {
        let same = |one: &str, other: &str| assert_eq!(drawn(one), drawn(other), "{one}, {other}");
        same("Northwind helper of all", "n h");
        same("Ärzte Österreich", "A O");
        same("(Ärzte) - 7", "a 7");
        same("日本語", "");
        assert_ne!(drawn("A"), drawn("B"));
        let letters = ('A'..='Z').chain('0'..='9').map(String::from);
        let mut shapes: Vec<Vec<String>> = letters.map(|letter| drawn(&letter)).collect();
        shapes.sort();
        shapes.dedup();
        assert_eq!(shapes.len(), 36);
    }

    #[test]
    fn an_outline_in_another_color_or_without_a_ground_is_refused() {
        let reason = Err("must be white on a transparent ground, without another color".to_owned());
        let icon = |pixel: Pixel| {
            let mut pixels = vec![[0, 0, 0, 0]; 1_024];
            pixels[7] = pixel;
            png::encode(OUTLINE_SIDE, &pixels).unwrap()
        };
        assert_eq!(check_outline(&icon([255; 4])), Ok(()));
        assert_eq!(check_outline(&icon([255, 255, 255, 9])), Ok(()));
        assert_eq!(check_outline(&icon([255, 0, 0, 255])), reason);
        assert_eq!(check_outline(&icon([0, 0, 0, 0])), reason);
        let full = png::encode(OUTLINE_SIDE, &[[255; 4]; 1_024]).unwrap();
        assert_eq!(check_outline(&full), reason);
    }
}
