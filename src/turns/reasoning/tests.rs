//! Answers and their thoughts, however they are cut.

use super::*;

const STOP: Option<FinishReason> = Some(FinishReason::Stop);

/// A thought and a text, as an [`Answer`](crate::turns::answer::Answer) joins the chunks.
type Parts = (String, String);

fn parts(chunks: &[Chunk]) -> Parts {
    let (mut thought, mut text, mut all) = (String::new(), String::new(), String::new());
    for chunk in chunks {
        match chunk {
            Chunk::Text(piece) => {
                text += piece;
                all += piece;
            }
            Chunk::Reasoning(piece) => {
                thought += piece;
                all += piece;
            }
            Chunk::Recast { thought_bytes } => {
                let (before, after) = all.split_at(*thought_bytes);
                thought = before.trim().to_owned();
                text = after.trim_start().to_owned();
            }
            Chunk::SourceUrl { .. } | Chunk::SourceDocument { .. } => panic!("a source"),
        }
        if let Chunk::Text(piece) | Chunk::Reasoning(piece) = chunk {
            assert!(!piece.is_empty());
        }
    }
    (thought, text)
}

fn read(marks: Marks, pieces: &[&str], end: Option<FinishReason>) -> (Parts, bool) {
    let (mut thoughts, mut chunks) = (Thoughts::new(marks), Vec::new());
    for piece in pieces {
        thoughts.push(piece, &mut chunks);
    }
    thoughts.finish(end, &mut chunks);
    let learns = marks != Marks::Unopened && thoughts.shows(None).is_some();
    (parts(&chunks), learns)
}

/// Asserts the thought and the text of an answer, cut in two and in three at every byte, and
/// cut into single characters.
#[track_caller]
fn assert_read(marks: Marks, answer: &str, thought: &str, text: &str) {
    assert_ended(marks, answer, STOP, thought, text, false);
}

#[track_caller]
fn assert_ended(
    marks: Marks,
    answer: &str,
    end: Option<FinishReason>,
    thought: &str,
    text: &str,
    learns: bool,
) {
    let expected = ((thought.to_owned(), text.to_owned()), learns);
    let cuts: Vec<usize> = (0..=answer.len())
        .filter(|at| answer.is_char_boundary(*at))
        .collect();
    for first in &cuts {
        for second in cuts.iter().filter(|second| *second >= first) {
            let pieces = [
                &answer[..*first],
                &answer[*first..*second],
                &answer[*second..],
            ];
            assert_eq!(read(marks, &pieces, end), expected, "{marks:?} {pieces:?}");
        }
    }
    let characters: Vec<&str> = cuts
        .windows(2)
        .map(|pair| &answer[pair[0]..pair[1]])
        .collect();
    assert_eq!(
        read(marks, &characters, end),
        expected,
        "{marks:?} {answer}"
    );
}

#[test]
fn a_thought_at_the_beginning_of_an_answer_is_separated_however_the_answer_is_cut() {
    for marks in [Marks::Tagged, Marks::Learned, Marks::Unopened] {
        for (answer, thought, text) in [
            ("<think>Hm.</think>Yes", "Hm.", "Yes"),
            (
                " \n<think>\nH m.\n\nHm?\n</think>\n\nYes <b>\n",
                "H m.\n\nHm?",
                "Yes <b>\n",
            ),
            ("<THINK>Hm.</Think>Yes", "Hm.", "Yes"),
            ("<think></think>Yes", "", "Yes"),
            ("<think> \n </think>\n", "", ""),
            (
                "<think>a < b <t </thin></think>ä <think>",
                "a < b <t </thin>",
                "ä <think>",
            ),
            ("<think>a<think>b</think>c</think>Yes", "abc", "Yes"),
            (
                "<think>A `</think>` ends it, `x`</think>Yes",
                "A `</think>` ends it, `x`",
                "Yes",
            ),
            (
                "<think>A <think> begins it.</think>Yes",
                "A  begins it.",
                "Yes",
            ),
            ("<think>a</think>\n<think>b</think> Yes", "ab", "Yes"),
            ("<think>a `b`</think>", "a `b`", ""),
            ("<think>a `</think>", "a `", ""),
            (
                "<think>use `netsh</think>`netsh winsock reset` fixes it",
                "use `netsh",
                "`netsh winsock reset` fixes it",
            ),
            ("<think>a `b`</think>`c`", "a `b`", "`c`"),
            ("<think>never closed", "never closed", ""),
            ("<think>never closed</thi", "never closed</thi", ""),
            ("<think>Hm.</think> <thi", "Hm.", "<thi"),
            ("<think>a</think>b</think>c", "a", "b</think>c"),
        ] {
            assert_read(marks, answer, thought, text);
        }
    }
}

#[test]
fn text_that_speaks_of_the_tags_keeps_them() {
    for marks in [Marks::None, Marks::Tagged, Marks::Learned] {
        for answer in [
            "",
            " \n",
            "Plain",
            "  Plain ",
            "<b>bold</b>",
            "< think>",
            "<thinking>no</thinking>",
            "Write <think>this</think> in XML",
            "```xml\n<think>\n</think>\n```",
            "The tag `</think>` ends a thought",
            " <thi",
            "a </think",
        ] {
            assert_read(marks, answer, "", answer);
        }
    }
    assert_read(
        Marks::None,
        "<think>Hm.</think>Yes",
        "",
        "<think>Hm.</think>Yes",
    );
    assert_read(Marks::Tagged, "Hm.</think>Yes", "", "Hm.</think>Yes");
}

#[test]
fn a_thought_that_ends_without_having_begun_is_learned() {
    for (answer, thought, text) in [
        ("Hm.</think>Yes", "Hm.", "Yes"),
        (
            "\nHm. `a`\n</THINK>\n\nYes </think> `</think>`",
            "Hm. `a`",
            "Yes </think> `</think>`",
        ),
        ("</think>Yes", "", "Yes"),
        ("Hm.</think>", "Hm.", ""),
    ] {
        for end in [STOP, Some(FinishReason::Length), None] {
            assert_ended(Marks::Learned, answer, end, thought, text, true);
        }
        assert_read(Marks::Unopened, answer, thought, text);
    }
}

#[test]
fn an_answer_of_the_unopened_kind_without_an_end_is_text_if_it_is_complete() {
    assert_read(Marks::Unopened, " Yes `<b>`\n", "", "Yes `<b>`");
    for end in [
        None,
        Some(FinishReason::Length),
        Some(FinishReason::ContentFilter),
    ] {
        assert_ended(Marks::Unopened, " Hm, I\n", end, "Hm, I", "", false);
    }
}

#[test]
fn a_thought_that_mentions_a_tag_loses_no_answer_that_reaches_the_length_limit() {
    let answer = "<think>About <think> tags</think>\nA tag marks";
    for marks in [Marks::Tagged, Marks::Learned, Marks::Unopened] {
        for end in [STOP, Some(FinishReason::Length)] {
            assert_ended(marks, answer, end, "About  tags", "A tag marks", false);
        }
        assert_ended(marks, answer, None, "About  tags\nA tag marks", "", false);
    }
}

#[test]
fn an_answer_that_alternates_has_64_parts_and_all_of_its_text() {
    let (mut thoughts, mut chunks) = (Thoughts::new(Marks::Tagged), Vec::new());
    for _ in 0..1_000 {
        thoughts.push_reasoning("r".to_owned(), &mut chunks);
        thoughts.push("t", &mut chunks);
    }
    thoughts.finish(STOP, &mut chunks);
    assert_eq!(parts(&chunks), ("r".repeat(32), "t".repeat(1_000)));
    let is_text = |chunk: &Chunk| matches!(chunk, Chunk::Text(_));
    let parts = chunks.chunk_by(|one, other| is_text(one) == is_text(other));
    assert_eq!(parts.count(), 64);
}

#[test]
fn white_space_before_an_answer_is_read_once() {
    let (mut thoughts, mut chunks) = (Thoughts::new(Marks::Tagged), Vec::new());
    for _ in 0..100_000 {
        thoughts.push("\n", &mut chunks);
        assert!(thoughts.held.is_empty() && chunks.is_empty());
    }
    thoughts.push("<think>Hm.</think>Yes", &mut chunks);
    assert_eq!(parts(&chunks), ("Hm.".to_owned(), "Yes".to_owned()));
}

#[test]
fn a_thought_that_begins_a_later_line_is_separated() {
    for marks in [Marks::Tagged, Marks::Learned] {
        for (answer, thought, text) in [
            (
                "Sure.\n<think>\nHm.\n</think>\n\nYes\n",
                "Hm.",
                "Sure.\nYes\n",
            ),
            ("A\n  <THINK>b</think>C", "b", "A\n  C"),
            (
                "<think>a</think>B\n<think>c</think>\nD <think>e</think>",
                "ac",
                "B\nD <think>e</think>",
            ),
            (
                "A\n<think>b `</think>` <think>c</think> d</think>E",
                "b `</think>` <think>c</think> d",
                "A\nE",
            ),
            (
                "A\n<think>the <think> tag</think>\nE",
                "the <think> tag</think>",
                "A\nE",
            ),
            ("A\n<think>b</think>", "b", "A\n"),
            ("A\n<think>b", "", "A\n<think>b"),
            ("A\n<think>b</thi", "", "A\n<think>b</thi"),
            (
                "A\n```\nx\n```\n<think>b</think>C",
                "b",
                "A\n```\nx\n```\nC",
            ),
            ("A\n``` b ```\n<think>b</think>C", "b", "A\n``` b ```\nC"),
        ] {
            assert_read(marks, answer, thought, text);
        }
        for answer in [
            "A\n```xml\n<think>\n</think>\n```\nB",
            "A\n~~~~\n```\n~~~\n<think>b</think>\n~~~~\nB",
            "A\n- <think>b</think>",
            "A\n    <think>b</think>",
            "A\n`<think>`\nB",
        ] {
            assert_read(marks, answer, "", answer);
        }
        let answer = "A\n<think>b";
        for end in [None, Some(FinishReason::Length)] {
            assert_ended(marks, answer, end, "", "A\n", false);
        }
        let answer = "A\n<think>the <think> tag</think>\nE";
        let thought = "the <think> tag</think>";
        let end = Some(FinishReason::Length);
        assert_ended(marks, answer, end, thought, "A\nE", false);
        assert_ended(marks, answer, None, "", "A\n", false);
    }
}

#[test]
fn a_stored_answer_is_read_without_the_thoughts_at_its_beginning() {
    for (stored, answer) in [
        ("Yes", "Yes"),
        (" \n<think>Hm.</think>\n\nYes\n", "Yes\n"),
        ("<think>a</think><think>b</think>Yes", "Yes"),
        ("<think>About <think> tags</think>\nA tag", "A tag"),
        ("<think>never closed", ""),
        ("Hm.</think>Yes", "Hm.</think>Yes"),
        ("Use <think>", "Use <think>"),
        ("<thin", "<thin"),
    ] {
        assert_eq!(without_thoughts(stored), answer);
    }
}

#[test]
fn an_answer_shows_how_the_models_answers_begin() {
    let shows = |marks: Marks, answer: &str, end: Option<FinishReason>| {
        let (mut thoughts, mut chunks) = (Thoughts::new(marks), Vec::new());
        thoughts.push(answer, &mut chunks);
        thoughts.finish(end, &mut chunks);
        thoughts.shows(end)
    };
    let length = Some(FinishReason::Length);
    for marks in [Marks::Learned, Marks::Unopened] {
        for answer in ["Hm.</think>Yes", "Hm.</think>", "</think>"] {
            for end in [STOP, length, None] {
                assert_eq!(
                    shows(marks, answer, end),
                    Some(Beginning::Thought),
                    "{answer}"
                );
            }
        }
        for answer in ["Yes", "<think>Hm.</think>Yes", "<think>Hm."] {
            assert_eq!(
                shows(marks, answer, STOP),
                Some(Beginning::Text),
                "{answer}"
            );
            assert_eq!(shows(marks, answer, length), None, "{answer}");
            assert_eq!(shows(marks, answer, None), None, "{answer}");
        }
    }
    let nested = "About <think> tags</think>\nYes";
    assert_eq!(
        shows(Marks::Unopened, nested, STOP),
        Some(Beginning::Thought)
    );
}

#[test]
fn what_the_server_separates_itself_teaches_nothing() {
    for marks in [Marks::Tagged, Marks::Learned, Marks::Unopened] {
        let (mut thoughts, mut chunks) = (Thoughts::new(marks), Vec::new());
        thoughts.push("\n", &mut chunks);
        thoughts.push_reasoning("Hm.".to_owned(), &mut chunks);
        thoughts.push("Yes </think> No", &mut chunks);
        thoughts.finish(STOP, &mut chunks);
        let expected = ("Hm.".to_owned(), "Yes </think> No".to_owned());
        let found = parts(&chunks);
        assert_eq!(
            (found.0, found.1.trim_start().to_owned()),
            expected,
            "{marks:?}"
        );
        assert_eq!(thoughts.shows(None), None);
    }
}
