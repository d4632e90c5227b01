//! Estimates how many tokens a text has, by its scripts and on the safe side: tokenizers differ,
//! and a prompt that is too long is refused.

/// The estimates are in quarters of a token.
const QUARTERS: usize = 4;
/// A word of ASCII letters that is longer than this is no word of prose: it is a name, a key or a
/// compound.
const LONG_WORD_LETTERS: usize = 12;

/// The most tokens that the common tokenizers make of a text, as a rule.
///
/// English prose has about four characters per token. Other languages in Latin letters, names in
/// capitals and keys have two, because tokenizers know few of their words. A digit or a mark is a
/// token. The letters of other scripts are one to three tokens each: some tokenizers fall back to
/// bytes.
pub(super) fn estimated(text: &str) -> usize {
    let is_english = !text.chars().any(|c| c.is_alphabetic() && !c.is_ascii());
    let (mut quarters, mut word, mut last) = (0, Word::default(), None);
    for character in text.chars() {
        if character.is_ascii_alphabetic() {
            if word.ends_before(character) {
                quarters += std::mem::take(&mut word).quarters(is_english);
            }
            word.add(character, last);
        } else {
            quarters += std::mem::take(&mut word).quarters(is_english);
            quarters += match character {
                // A tokenizer has tokens for runs of spaces and of dashes.
                _ if last == Some(character) && character.is_ascii_punctuation() => 2,
                // A word begins with its space.
                ' ' if last.is_some_and(char::is_alphabetic) => 0,
                _ => quarters_of(character),
            };
        }
        last = Some(character);
    }
    quarters += word.quarters(is_english);
    quarters.div_ceil(QUARTERS)
}

/// A run of ASCII letters in one case, perhaps after a capital.
#[derive(Default)]
struct Word {
    letters: usize,
    is_upper: bool,
    /// Whether it is part of a key, such as `5f4dcc3b`.
    follows_digit: bool,
}

impl Word {
    /// Whether a letter begins another word, as in `getUserById`.
    fn ends_before(&self, letter: char) -> bool {
        self.letters > 1 && self.is_upper != letter.is_ascii_uppercase()
    }

    fn add(&mut self, letter: char, last: Option<char>) {
        if self.letters == 0 {
            self.follows_digit = last.is_some_and(|last| last.is_ascii_digit());
        }
        self.letters += 1;
        self.is_upper = letter.is_ascii_uppercase();
    }

    fn quarters(&self, is_english: bool) -> usize {
        if self.letters == 0 {
            return 0;
        }
        if self.follows_digit {
            return QUARTERS * self.letters;
        }
        let common = self.letters.min(LONG_WORD_LETTERS);
        let is_prose = is_english && !(self.is_upper && self.letters > 1);
        let quarters = if is_prose { common } else { 2 * common };
        quarters.max(QUARTERS) + 2 * (self.letters - common)
    }
}

/// The quarters of a character that is no ASCII letter.
fn quarters_of(character: char) -> usize {
    match character {
        '\0'..='\u{7f}' => 4,
        // Latin letters with marks.
        '\u{80}'..='\u{ff}' | '\u{300}'..='\u{36f}' => 6,
        '\u{100}'..='\u{24f}' => 8,
        // Greek, Cyrillic, Hebrew, Arabic.
        '\u{370}'..='\u{52f}' | '\u{590}'..='\u{6ff}' => 6,
        // Devanagari, quotation marks and dashes.
        '\u{900}'..='\u{97f}' | '\u{2010}'..='\u{2027}' => 8,
        // Thai.
        '\u{e00}'..='\u{e7f}' => 9,
        // Kana and their punctuation.
        '\u{3000}'..='\u{30ff}' => 8,
        // Chinese characters.
        '\u{3400}'..='\u{9fff}' => 9,
        // A token per byte of UTF-8, which is the most: Korean, rarer scripts and emoji.
        other => QUARTERS * other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts with the most tokens that four published tokenizers of large and small models make of
    /// them.
    const COUNTED: &[(&str, usize)] = &[
        (
            "The printer on the second floor does not print. I have already restarted it twice, and the queue still shows three documents that nobody can delete. What should I try next?",
            36,
        ),
        (
            "Die Verbindung zum Drucker wurde unterbrochen, und die Warteschlange zeigt weiterhin drei Dokumente, die niemand löschen kann. Was soll ich als Nächstes versuchen? Bitte melden Sie sich möglichst schnell.",
            82,
        ),
        (
            "L'imprimante du deuxième étage n'imprime plus. J'ai déjà redémarré deux fois, et la file d'attente affiche toujours trois documents que personne ne peut supprimer.",
            61,
        ),
        (
            "Drukarka na drugim piętrze nie drukuje. Już dwa razy ją uruchomiłem ponownie, a kolejka nadal pokazuje trzy dokumenty, których nikt nie może usunąć.",
            78,
        ),
        (
            "Máy in ở tầng hai không in được. Tôi đã khởi động lại hai lần, nhưng hàng đợi vẫn còn ba tài liệu mà không ai xóa được.",
            108,
        ),
        (
            "二階のプリンターが印刷できません。二回再起動しましたが、キューにはまだ誰も削除できない三つの文書が残っています。次に何を試せばよいでしょうか。",
            101,
        ),
        (
            "二楼的打印机无法打印。我已经重启了两次，但队列里仍然有三个没有人能删除的文件。接下来我应该尝试什么？请尽快告诉我。",
            116,
        ),
        (
            "이 층의 프린터가 인쇄되지 않습니다. 두 번 다시 시작했지만 대기열에는 아무도 삭제할 수 없는 문서 세 개가 남아 있습니다.",
            144,
        ),
        (
            "Принтер на втором этаже не печатает. Я уже дважды перезапускал его, но в очереди всё ещё три документа, которые никто не может удалить.",
            148,
        ),
        (
            "الطابعة في الطابق الثاني لا تطبع. لقد أعدت تشغيلها مرتين، لكن قائمة الانتظار لا تزال تعرض ثلاثة مستندات لا يمكن لأحد حذفها.",
            131,
        ),
        (
            "המדפסת בקומה השנייה לא מדפיסה. הפעלתי אותה מחדש פעמיים, אבל התור עדיין מציג שלושה מסמכים שאף אחד לא יכול למחוק.",
            133,
        ),
        (
            "เครื่องพิมพ์ชั้นสองไม่พิมพ์ ฉันรีสตาร์ทสองครั้งแล้ว แต่คิวยังแสดงเอกสารสามฉบับที่ไม่มีใครลบได้",
            186,
        ),
        (
            "दूसरी मंज़िल का प्रिंटर प्रिंट नहीं कर रहा है। मैंने इसे दो बार फिर से चालू किया है, लेकिन कतार में अभी भी तीन दस्तावेज़ हैं।",
            192,
        ),
        ("😀😃🎉🚀👍🏽👩‍👩‍👧‍👦🇩🇪❤️🔥", 59),
        (
            "4915112345678 20261129170453 3.14159265358979 192.168.100.254 0x80070005",
            72,
        ),
        (
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            59,
        ),
        (
            "fn main() {\n    let mut xs: Vec<u32> = (0..10).map(|x| x * 2).collect();\n    if xs.len() > 3 { println!(\"{:?}\", xs); }\n\treturn foo_bar(a[i], &b->c, !d);\n}\n",
            82,
        ),
        (
            "{\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"too long\",\"param\":null,\"n_ctx\":2048}}",
            32,
        ),
        (
            "Donaudampfschifffahrtsgesellschaftskapitaen Rindfleischetikettierungsueberwachungsaufgabenuebertragungsgesetz",
            46,
        ),
        ("!?!?... ,,, ;;; ((())) ~~~ ``` *** === ### $$$ %%%", 23),
    ];

    #[test]
    fn no_script_is_counted_short_and_none_counts_twice() {
        for (text, tokens) in COUNTED {
            let found = estimated(text);
            assert!(found >= *tokens, "{found} of {tokens}: {text}");
            assert!(found <= 2 * tokens, "{found} of {tokens}: {text}");
        }
    }

    #[test]
    fn english_prose_has_about_four_characters_a_token() {
        let prose = COUNTED[0].0;
        let by_length = prose.len().div_ceil(4);
        assert!(estimated(prose).abs_diff(by_length) <= by_length / 10);
        assert_eq!(estimated(""), 0);
        assert_eq!(estimated("Hello"), 2);
    }

    #[test]
    fn japanese_text_of_1740_characters_counts_its_3035_tokens() {
        let text: String = COUNTED[5].0.chars().cycle().take(1_740).collect();
        assert!((3_035..4_000).contains(&estimated(&text)));
    }
}
