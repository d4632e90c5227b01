//! Corrects a misspelled word to a word of a vocabulary, without reading the whole vocabulary.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The minimum length of a word to correct, in letters. A shorter word has too many candidates.
const MIN_CORRECTED_LETTERS: usize = 5;
/// The maximum length of a word to correct and of its correction, in letters. A longer word has as
/// many keys as letters, and is hardly ever a word.
const MAX_CORRECTED_LETTERS: usize = 32;
/// How many keys share a bucket. Fewer take more memory, and more take more comparisons.
const KEYS_PER_BUCKET: usize = 8;
/// The base of the hash, an odd number without a pattern in its bits.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The words of some texts with their frequencies, without words of more than
/// [`MAX_CORRECTED_LETTERS`].
///
/// Two words at a Damerau-Levenshtein distance of 1 become equal if one letter of one or of both is
/// left out. So each word is found under the hash of the word and under the hashes of the word
/// without each of its letters. The first letter is always kept, because a candidate has to share
/// it.
#[derive(Debug, Default)]
pub struct Vocabulary {
    /// All words, in ascending order, one after another.
    text: String,
    words: Vec<Word>,
    /// The position in `ids` where each bucket begins, and where the last one ends.
    buckets: Vec<u32>,
    /// The positions in `words`, by bucket.
    ids: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    /// Where the word ends in the text of all words.
    end: u32,
    frequency: u32,
}

impl Vocabulary {
    /// The vocabulary of these words, each with its number of occurrences.
    pub fn of(frequencies: &BTreeMap<String, usize>) -> Self {
        let mut vocabulary = Self::default();
        let mut keys_count = 0;
        for (word, frequency) in frequencies {
            let letters = word.chars().count();
            if letters > MAX_CORRECTED_LETTERS {
                continue;
            }
            if vocabulary.text.len() + word.len() > saturated(usize::MAX) as usize {
                break;
            }
            vocabulary.text.push_str(word);
            vocabulary.words.push(Word {
                end: saturated(vocabulary.text.len()),
                frequency: saturated(*frequency),
            });
            keys_count += letters;
        }
        let buckets = (keys_count / KEYS_PER_BUCKET).next_power_of_two();
        // Counts the keys of each bucket, one position later, so that the sums become the begins.
        vocabulary.buckets = vec![0; buckets + 1];
        let mut letters = Vec::new();
        for id in 0..vocabulary.words.len() {
            vocabulary.read_letters(id, &mut letters);
            each_key(&letters, |key| {
                vocabulary.buckets[bucket_of(key, buckets) + 1] += 1;
            });
        }
        for bucket in 1..=buckets {
            vocabulary.buckets[bucket] += vocabulary.buckets[bucket - 1];
        }
        vocabulary.ids = vec![0; vocabulary.buckets[buckets] as usize];
        let mut next = vocabulary.buckets.clone();
        for id in 0..vocabulary.words.len() {
            vocabulary.read_letters(id, &mut letters);
            each_key(&letters, |key| {
                let place = &mut next[bucket_of(key, buckets)];
                vocabulary.ids[*place as usize] = saturated(id);
                *place += 1;
            });
        }
        vocabulary
    }

    /// Corrects a misspelled word to a word at a Damerau-Levenshtein distance of 1.
    /// `is_candidate` filters the words.
    ///
    /// Of several words, the one with the longest common prefix wins, then the most frequent one,
    /// then the first one.
    pub fn correct(&self, word: &str, is_candidate: impl Fn(&str) -> bool) -> Option<&str> {
        let letters: Vec<char> = word.chars().take(MAX_CORRECTED_LETTERS + 1).collect();
        if !(MIN_CORRECTED_LETTERS..=MAX_CORRECTED_LETTERS).contains(&letters.len())
            || !letters.iter().all(|c| c.is_alphabetic())
        {
            return None;
        }
        let mut best = None;
        let mut other_letters = Vec::new();
        for id in self.neighbors(&letters) {
            let other = self.word(id);
            // The first letter is seldom wrong: words that differ in it are mostly different words.
            if !other.starts_with(letters[0]) {
                continue;
            }
            self.read_letters(id, &mut other_letters);
            let Some(prefix) = prefix_at_distance_one(&letters, &other_letters) else {
                continue;
            };
            let rank = Some((prefix, self.words[id].frequency, Reverse(id)));
            if rank > best && is_candidate(other) {
                best = rank;
            }
        }
        best.map(|(_, _, Reverse(id))| self.word(id))
    }

    /// The words that share a bucket with a word, each of them once.
    fn neighbors(&self, letters: &[char]) -> impl ExactSizeIterator<Item = usize> + use<> {
        let buckets = self.buckets.len().saturating_sub(1);
        let mut ids = Vec::new();
        if buckets > 0 {
            each_key(letters, |key| {
                let bucket = bucket_of(key, buckets);
                let (begin, end) = (self.buckets[bucket], self.buckets[bucket + 1]);
                ids.extend_from_slice(&self.ids[begin as usize..end as usize]);
            });
            ids.sort_unstable();
            ids.dedup();
        }
        ids.into_iter().map(|id| id as usize)
    }

    fn word(&self, id: usize) -> &str {
        let begin = id.checked_sub(1).map_or(0, |before| self.words[before].end);
        &self.text[begin as usize..self.words[id].end as usize]
    }

    fn read_letters(&self, id: usize, letters: &mut Vec<char>) {
        letters.clear();
        letters.extend(self.word(id).chars());
    }
}

fn saturated(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Visits the hash of a word, and its hashes without each letter after the first. A hash that is
/// that of the letter before is visited once: equal letters side by side share it.
///
/// The hash is a polynomial in [`BASE`], so that each of them takes a few steps, whatever the
/// length of the word.
fn each_key(letters: &[char], mut visit: impl FnMut(u64)) {
    let mut power = 1_u64;
    // The letters before the one that is left out, and those after it, one place further ahead.
    let (mut before, mut after) = (0_u64, 0_u64);
    for letter in letters.iter().skip(1) {
        after = after.wrapping_add(u64::from(*letter).wrapping_mul(power));
        power = power.wrapping_mul(BASE);
    }
    power = 1;
    let mut last = None;
    for (place, letter) in letters.iter().enumerate() {
        let letter = u64::from(*letter);
        if place > 0 {
            after = after.wrapping_sub(letter.wrapping_mul(power));
            let key = before.wrapping_add(after);
            if last.replace(key) != Some(key) {
                visit(key);
            }
            power = power.wrapping_mul(BASE);
        }
        before = before.wrapping_add(letter.wrapping_mul(power));
    }
    visit(before);
}

/// The bucket of a key. `buckets` is a power of two.
fn bucket_of(key: u64, buckets: usize) -> usize {
    // The upper bits depend on all letters.
    let mixed = (key ^ (key >> 32)).wrapping_mul(BASE) >> 32;
    mixed as usize & (buckets - 1)
}

/// The length of the common prefix of two words whose Damerau-Levenshtein distance is 1. `None` for
/// any other distance.
fn prefix_at_distance_one(one: &[char], other: &[char]) -> Option<usize> {
    let prefix = one
        .iter()
        .zip(other)
        .take_while(|(one, other)| one == other)
        .count();
    let (one, other) = (&one[prefix..], &other[prefix..]);
    let is_one = match (one, other) {
        ([], [_]) | ([_], []) => true,
        ([a, b, one @ ..], [c, d, other @ ..]) if a == d && b == c && one == other => true,
        ([_, one @ ..], [_, other @ ..]) if one == other => true,
        ([_, one @ ..], other) if one == other => true,
        (one, [_, other @ ..]) => one == other,
        (_, []) => false,
    };
    is_one.then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator with the same numbers in every run.
    struct Xorshift(u64);

    impl Xorshift {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }

        fn word(&mut self, alphabet: &[char], lengths: std::ops::Range<usize>) -> String {
            let length = lengths.start + self.below(lengths.len());
            let letters = (0..length).map(|_| alphabet[self.below(alphabet.len())]);
            letters.collect()
        }
    }

    /// The correction by a scan of all words.
    fn scanned<'a>(
        frequencies: &'a BTreeMap<String, usize>,
        word: &str,
        is_candidate: impl Fn(&str) -> bool,
    ) -> Option<&'a str> {
        let letters: Vec<char> = word.chars().collect();
        if !(5..=32).contains(&letters.len()) || !letters.iter().all(|c| c.is_alphabetic()) {
            return None;
        }
        frequencies
            .iter()
            .filter(|(other, _)| other.starts_with(letters[0]) && other.chars().count() <= 32)
            .filter_map(|(other, frequency)| {
                let other_letters: Vec<char> = other.chars().collect();
                let prefix = prefix_at_distance_one(&letters, &other_letters)?;
                is_candidate(other).then_some((prefix, *frequency, other))
            })
            .max_by_key(|(prefix, frequency, other)| (*prefix, *frequency, Reverse(*other)))
            .map(|(_, _, other)| other.as_str())
    }

    #[test]
    fn a_correction_is_that_of_a_scan_of_all_words() {
        let mut random = Xorshift(5);
        let (mut corrected, mut long) = (0, 0);
        for alphabet in ["ab", "abc", "abc\u{e9}", "aß\u{1e9e}漢𝐱", "etaoinshr"] {
            let alphabet: Vec<char> = alphabet.chars().collect();
            for size in [0, 1, 30, 400] {
                let mut frequencies = BTreeMap::new();
                for _ in 0..size {
                    let word = random.word(&alphabet, 1..9);
                    frequencies.insert(word, 1 + random.below(3));
                }
                let vocabulary = Vocabulary::of(&frequencies);
                for _ in 0..400 {
                    let word = random.word(&alphabet, 1..10);
                    let no = random.below(4);
                    let is_candidate = |other: &str| no > 0 || other.len().is_multiple_of(2);
                    let expected = scanned(&frequencies, &word, is_candidate);
                    assert_eq!(vocabulary.correct(&word, is_candidate), expected, "{word}");
                    corrected += usize::from(expected.is_some());
                }
            }
            // Words of about the greatest length, with one letter changed.
            let mut frequencies = BTreeMap::new();
            for _ in 0..60 {
                frequencies.insert(random.word(&alphabet, 29..36), 1 + random.below(3));
            }
            let vocabulary = Vocabulary::of(&frequencies);
            for word in frequencies.keys() {
                let mut letters: Vec<char> = word.chars().collect();
                let at = 1 + random.below(letters.len() - 1);
                match random.below(3) {
                    0 => letters[at] = 'x',
                    1 => letters.insert(at, 'x'),
                    _ => drop(letters.remove(at)),
                }
                let word: String = letters.into_iter().collect();
                let expected = scanned(&frequencies, &word, |_| true);
                assert_eq!(vocabulary.correct(&word, |_| true), expected, "{word}");
                long += usize::from(expected.is_some());
            }
        }
        assert!(corrected > 400 && long > 100, "{corrected} {long}");
    }

    #[test]
    fn a_correction_compares_few_words_of_a_large_vocabulary() {
        let mut random = Xorshift(6);
        let alphabet: Vec<char> = ('a'..='z').collect();
        // All words share the first letter, as a hostile vocabulary would.
        let words = (0..50_000).map(|_| format!("p{}", random.word(&alphabet, 4..9)));
        let frequencies: BTreeMap<String, usize> = words.map(|word| (word, 1)).collect();
        let vocabulary = Vocabulary::of(&frequencies);
        let mut compared = 0;
        for word in frequencies.keys().step_by(100) {
            let misspelled = word.replacen(&word[2..3], "é", 1);
            let letters: Vec<char> = misspelled.chars().collect();
            compared += vocabulary.neighbors(&letters).len();
        }
        let average = compared / frequencies.keys().step_by(100).count();
        assert!(average < 200, "{average} of {}", frequencies.len());
        // The structure is smaller than the words themselves with an owner each.
        let bytes = vocabulary.text.len()
            + size_of_val(vocabulary.words.as_slice())
            + size_of_val(vocabulary.buckets.as_slice())
            + size_of_val(vocabulary.ids.as_slice());
        assert!(bytes < 64 * frequencies.len(), "{bytes}");
    }

    #[test]
    fn a_word_of_more_than_32_letters_is_neither_corrected_nor_a_correction() {
        let word = |letters: usize| "abcdefgh".repeat(5)[..letters].to_owned();
        let frequencies = BTreeMap::from([(word(31), 1), (word(33), 1), ("x".repeat(32_000), 1)]);
        let vocabulary = Vocabulary::of(&frequencies);
        assert_eq!(vocabulary.ids.len(), 31);
        assert_eq!(vocabulary.correct(&word(30), |_| true), Some(&*word(31)));
        assert_eq!(vocabulary.correct(&word(32), |_| true), Some(&*word(31)));
        assert_eq!(vocabulary.correct(&word(34), |_| true), None);
        assert_eq!(vocabulary.correct(&"x".repeat(31_999), |_| true), None);
    }

    #[test]
    fn words_that_share_a_key_are_compared_once_a_term() {
        let changed = |at: usize, letter: char| -> String {
            let letters = (0..32).map(|place| if place == at { letter } else { 'a' });
            letters.collect()
        };
        let letters = 'b'..='z';
        let words = letters.flat_map(|letter| (1..32).map(move |at| changed(at, letter)));
        let frequencies: BTreeMap<String, usize> = words.map(|word| (word, 1)).collect();
        let vocabulary = Vocabulary::of(&frequencies);
        // Each run of equal letters has one key, and the whole word one more.
        assert!(vocabulary.ids.len() <= 4 * frequencies.len());
        let term: Vec<char> = changed(16, 'é').chars().collect();
        assert!(vocabulary.neighbors(&term).len() <= frequencies.len());
    }
}
