//! Tests of HTML as text.

use super::*;

#[track_caller]
fn is(body: &str, text: &str) {
    assert_eq!(text_of(body), text, "{body}");
}

#[test]
fn blocks_become_lines_lists_dashes_and_entities_characters() {
    is(
        "<h2 class=\"x\">Reset&nbsp;the password</h2>\n<p>Open <b>the</b>\n portal &amp; sign in.</p><ul><li>Click\u{a0}<i>Reset</i></li>\
         <li><p>Wait</p></li></ul><p>Done&#33; &Uuml;bung &#x2713;</p>",
        "## Reset the password\n\nOpen the portal & sign in.\n\n- Click Reset\n- Wait\n\nDone! Übung ✓",
    );
    is(
        "<div>One</div><div>Two<br>Three<br/>Four</div>",
        "One\nTwo\nThree\nFour",
    );
    is("<ol start=3><li>a<li>b</ol>", "3. a\n4. b");
    is(
        "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>",
        "- a\n  - b\n- c",
    );
    is(
        "<table><tr><th>Host</th><th>Port</th></tr><tr><td>mail</td><td>993</td></tr></table>",
        "Host | Port\nmail | 993",
    );
    is(
        "<p>a</p><pre>one\n  two &lt;x&gt;</pre><p>b</p>",
        "a\n\n```\none\n  two <x>\n```\n\nb",
    );
}

#[test]
fn scripts_styles_comments_and_the_head_are_dropped() {
    is(
        "<!DOCTYPE html><html><head><title>T</title><style>p { color: red }</style></head><body><!-- a > b -->\
         <script>if (a < b) { alert('</p>') }</script><p style='x: \">\"'>Text</p><o:p></o:p></body></html>",
        "Text",
    );
    is("<p>a</p><script>never closed", "a");
}

#[test]
fn a_link_names_its_address_unless_that_is_its_text() {
    is(
        "<p><a href=\"https://x.example/a?b=1&amp;c=2\">the portal</a>, <a href='https://x.example'>https://x.example</a>, \
         <a href=\"javascript:alert(1)\">run</a>, <a href=mailto:a@b.c>a@b.c</a></p>",
        "the portal (https://x.example/a?b=1&c=2), https://x.example, run, a@b.c",
    );
    is(
        "<p><img src=x alt=\"A &quot;plan&quot;\"></p>",
        "A \"plan\"",
    );
}

#[test]
fn text_with_some_html_keeps_its_lines_its_code_and_its_placeholders() {
    is(
        "# Title\nOpen the <b>portal</b><br>and run `<b>` for <server name>:\n\n```\n<p>code</p>\n```\n",
        "# Title\nOpen the portal\nand run `<b>` for <server name>:\n\n```\n<p>code</p>\n```",
    );
    is("Step one<br><br>Step two", "Step one\n\nStep two");
}

#[test]
fn text_that_is_not_html_stays_as_it_is() {
    for body in [
        "",
        "Use `<div>` and `</div>` here.",
        "```html\n<p>Example</p>\n```",
        "  ```\n<p>no end",
        "a < b and c > d; Mail <ada@example.com>, press <Enter>.",
        "| a | b |\n| --- | --- |\n| one<br>two | three |",
        "5 &lt; 6 &amp; so on",
        "<https://example.com>",
        "Dear <first name>,\n\nwelcome.",
    ] {
        assert!(
            matches!(text_of(body), Cow::Borrowed(same) if same == body),
            "{body}"
        );
    }
}

#[test]
fn no_input_takes_long_or_panics() {
    for part in [
        "<",
        "<a ",
        "</",
        "<!--",
        "&",
        "&#",
        "<a \"",
        "`",
        "``` ",
        "<p",
        "<li>",
        "<script>",
        "<td>",
        "ü<b>",
        "&#x110000;",
    ] {
        let body = format!("<p>{}</p>", part.repeat(2_000));
        let text = text_of(&body);
        assert!(
            !text.contains("</p>") || part.contains(['"', '<']),
            "{part}"
        );
    }
}

/// The longest body of an article.
const MAX_BYTES: usize = 65_536;

/// As many repetitions as an article can have.
fn filled(part: &str) -> String {
    part.repeat(MAX_BYTES / part.len())
}

/// Runs of backticks of rising length, none of which has an end.
fn rising_runs() -> String {
    let runs: Vec<_> = (1..=357).map(|length| "`".repeat(length)).collect();
    runs.join(" ")
}

// Code that is searched for from each backtick anew takes minutes or hours for these bodies.
#[test]
fn backticks_without_an_end_are_text() {
    let rising = rising_runs();
    assert!(rising.len() > 64_000);
    let run = format!("x{}", "`".repeat(65_000));
    let falling: Vec<_> = (1..=357).rev().map(|length| "`".repeat(length)).collect();
    for ticks in [rising, run, format!("x {}", falling.join("\n\nx "))] {
        assert!(matches!(text_of(&ticks), Cow::Borrowed(_)));
        let html = format!("{ticks}<br><br>end");
        assert_eq!(text_of(&html), format!("{ticks}\n\nend"));
    }
}

#[test]
fn code_ends_at_a_run_of_its_length_and_a_fenced_block_at_one_as_long() {
    is("a `` ` `<b>` `` <b>c</b>", "a `` ` `<b>` `` c");
    is("``` `<b>` <b>c</b> ``", "``` `<b>` <b>c</b> ``");
    is("x ``` `<b>` <b>c</b> ``", "x ``` `<b>` c ``");
    is("a `b\n\n<b>c</b> d` e", "a `b\n\nc d` e");
    is("a `b\r\n\r\n<b>c</b> d` e", "a `b\n\nc d` e");
    is(
        "```\n``\n<b>\n````\n<b>c</b>\n  ```\n<b>",
        "```\n``\n<b>\n````\nc\n  ```\n<b>",
    );
    // Two codes side by side, and a run within a tag.
    is("`<b>` `<i>` <b title='`'>c</b>`", "`<b>` `<i>` c`");
}

#[test]
fn deep_lists_and_empty_items_make_no_large_text() {
    let nested = filled("<ul><li>");
    let items = format!("{}{}", "<ul>".repeat(40), filled("<li>"));
    let numbered = format!(
        "{}<ol start=999999990>{}",
        "<ul>".repeat(40),
        filled("<li>")
    );
    let texts = format!("{}{}", "<ol>".repeat(40), filled("<li>a"));
    for body in [nested, items, numbered, texts] {
        let body = format!("{body}</li>");
        let text = text_of(&body);
        assert!(text.len() <= 4 * body.len() + 1_000, "{}", text.len());
        let items = text.lines().filter(|line| !line.is_empty()).count();
        assert_eq!(items, body.matches("<li>").count());
    }
    let body = format!("{}<li>a</li>", "<ul>".repeat(30));
    is(&body, &format!("{}- a", "  ".repeat(16)));
}

#[test]
fn a_list_starts_at_any_number_of_markdown() {
    for (start, numbers) in [
        ("999999999", ["999999999", "999999999"]),
        ("18446744073709551615", ["1", "2"]),
        ("4294967295", ["1", "2"]),
        ("-5", ["1", "2"]),
        ("0", ["0", "1"]),
        ("\" 7 \"", ["7", "8"]),
    ] {
        is(
            &format!("<ol start={start}><li>a<li>b</ol>"),
            &format!("{}. a\n{}. b", numbers[0], numbers[1]),
        );
    }
}

#[test]
fn a_picture_in_an_address_is_dropped_and_a_link_ends_where_the_next_one_begins() {
    let picture = "iVBORw0KGgo".repeat(1_000);
    is(
        &format!("<p>a <img src=\"data:image/png;base64,{picture}\"> b</p>"),
        "a b",
    );
    is(
        "<p><a href=https://a.example>one <a href=https://b.example>two</a> three</a></p>",
        "one (https://a.example) two (https://b.example) three",
    );
}

#[test]
fn a_body_of_hostile_parts_makes_a_text_of_its_own_length() {
    for part in [
        "<a \"",
        "<a '",
        "<a \"'",
        "<a\"'\"",
        "</",
        "</a ",
        "<!",
        "<!--",
        "<?",
        "<script",
        "<svg ",
        "<script>",
        "</script",
        "<script></",
        "&",
        "&#",
        "&lt",
        "& ;",
        "<",
        "<<",
        "<x>",
        "</x>",
        "<td>",
        "<br>",
        "<pre>",
        "</pre>",
        "<h6>",
        "<p>",
        "<a href=tel:1>",
        "</a>",
        "<a href==",
        "<br \n",
        "\n",
        " \n",
        " ",
        "- `",
        "`\n\n",
        "\n```",
        "``` `",
        "[",
        "*",
        "|",
        "<b ü>",
        "<a href=\"http://x\"><br>",
        "<b =",
        "<img alt=\" \">",
    ] {
        for (start, end) in [
            ("", ""),
            ("<p>", "</p>"),
            ("# x\n<p>", "<br><br>"),
            ("<pre>", "</b>"),
        ] {
            let body = format!("{start}{}{end}", filled(part));
            let text = text_of(&body);
            assert!(
                text.len() <= 4 * body.len() + 1_000,
                "{part}: {}",
                text.len()
            );
        }
    }
}
