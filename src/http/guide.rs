//! The guide: the Markdown pages of `docs/`, as HTML pages that need no network (contract,
//! section 10).

use std::collections::HashMap;
use std::fmt::Write as _;

use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use pulldown_cmark::{Alignment, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};
use rust_embed::RustEmbed;

use super::App;
use super::edge::page::{self, secure_response};
use super::edge::routing::segment;
use crate::error::{Code, Result};

/// The page that `SUMMARY.md` names first.
const FIRST: &str = "README";
const SUMMARY: &str = "SUMMARY";
/// A page runs no script and loads nothing from elsewhere.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// The pages and their pictures. A debug build reads them from disk on every request.
#[derive(RustEmbed)]
#[folder = "docs"]
struct Sources;

pub(super) async fn first_page(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse> {
    send(&app, &request, FIRST, "guide/")
}

pub(super) async fn page_or_picture(
    app: web::Data<App>,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let name = segment(&request, "page").unwrap_or_default();
    let picture = match name.rsplit_once('.') {
        Some((_, "png")) => Some("image/png"),
        Some((_, "svg")) => Some("image/svg+xml"),
        Some(_) => return Err(Code::NotFound.into()),
        None => None,
    };
    let Some(content_type) = picture else {
        // These are the first page, which has an address of its own, and the contents.
        if name == FIRST || name == SUMMARY {
            return Err(Code::NotFound.into());
        }
        return send(&app, &request, name, "");
    };
    let file = Sources::get(name).ok_or(Code::NotFound)?;
    let hash = file.metadata.sha256_hash();
    app.pages
        .send(&request, response(), content_type, hash, || {
            Ok(page::into_bytes(file.data))
        })
}

fn response() -> HttpResponseBuilder {
    let mut response = secure_response(POLICY);
    response.insert_header((header::CACHE_CONTROL, "no-cache"));
    response
}

/// Sends a page. `to_pages` leads from the page's address to those of the pages beside it.
fn send(app: &App, request: &HttpRequest, name: &str, to_pages: &str) -> Result<HttpResponse> {
    let source = Sources::get(&format!("{name}.md")).ok_or(Code::NotFound)?;
    let summary = Sources::get(&format!("{SUMMARY}.md")).ok_or(Code::NotFound)?;
    let mut hash = source.metadata.sha256_hash();
    // The contents and the program are in each page.
    let others = (
        summary.metadata.sha256_hash(),
        crate::digest::sha256(env!("CARGO_PKG_VERSION")),
    );
    for (byte, (one, two)) in hash.iter_mut().zip(others.0.iter().zip(others.1)) {
        *byte ^= one ^ two;
    }
    app.pages.send(
        request,
        response(),
        "text/html; charset=utf-8",
        hash,
        || {
            let text = String::from_utf8_lossy(&source.data);
            let contents = String::from_utf8_lossy(&summary.data);
            Ok(Bytes::from(html_page(&text, &contents, name, to_pages)))
        },
    )
}

/// The whole page.
fn html_page(text: &str, contents: &str, name: &str, to_pages: &str) -> String {
    let contents = contents.trim_start_matches("# Summary");
    let (title, article) = article(text, to_pages, 0);
    let (_, contents) = article_of_contents(contents, name, to_pages);
    let (to_docs, version) = (
        if to_pages.is_empty() { "../" } else { "" },
        env!("CARGO_PKG_VERSION"),
    );
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Switchboard</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{to_docs}guide.css">
</head>
<body>
<nav aria-label="Pages">
<p class="name">Switchboard <small>{version}</small></p>
{contents}
<p><a href="{to_docs}../docs">Try the API</a></p>
</nav>
<main>
{article}
</main>
</body>
</html>
"#
    )
}

/// The contents, with the page that is shown marked.
fn article_of_contents(contents: &str, name: &str, to_pages: &str) -> (String, String) {
    let (title, html) = article(contents, to_pages, 1);
    let address = match name {
        FIRST if to_pages.is_empty() => "../guide".to_owned(),
        FIRST => "guide".to_owned(),
        name => format!("{to_pages}{name}"),
    };
    let shown = format!("href=\"{address}\"");
    let html = html.replacen(&shown, &format!("{shown} aria-current=\"page\""), 1);
    (title, html)
}

/// The text of the first heading, and the Markdown as HTML. Headings have the ids that the pages'
/// links use, and are `deeper` levels deeper. HTML in the Markdown is left out: it only marks
/// blocks for the test of the pages.
fn article(text: &str, to_pages: &str, deeper: usize) -> (String, String) {
    let mut title = None;
    let mut used: HashMap<String, usize> = HashMap::new();
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut heading: Option<(usize, String)> = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
        if matches!(event, Event::Html(_) | Event::InlineHtml(_)) {
            continue;
        }
        if let Event::Start(Tag::Heading { level, .. }) = event {
            heading = Some((events.len(), String::new()));
            events.push(heading_start(level, deeper, None));
        } else if let Event::End(TagEnd::Heading(level)) = event {
            if let Some((at, words)) = heading.take() {
                let id = unique_id(&words, &mut used);
                if let Some(start) = events.get_mut(at) {
                    *start = heading_start(level, deeper, Some(id));
                }
                title.get_or_insert(words);
            }
            events.push(Event::End(TagEnd::Heading(lowered(level, deeper))));
        } else {
            if let (Some((_, words)), Event::Text(text) | Event::Code(text)) =
                (&mut heading, &event)
            {
                words.push_str(text);
            }
            events.push(served(event, to_pages));
        }
    }
    let mut out = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut out, events.into_iter());
    let mut escaped = String::new();
    html::push_html(
        &mut escaped,
        std::iter::once(Event::Text(title.unwrap_or_default().into())),
    );
    (escaped, out)
}

/// An event as a served page needs it.
fn served<'a>(mut event: Event<'a>, to_pages: &str) -> Event<'a> {
    match &mut event {
        // Alignment is an inline style, which the policy forbids.
        Event::Start(Tag::Table(columns)) => columns.fill(Alignment::None),
        Event::Start(Tag::Link { dest_url, .. }) => {
            *dest_url = address_of(dest_url, to_pages).into();
        }
        Event::Start(Tag::Image { dest_url, .. }) => {
            *dest_url = format!("{to_pages}{dest_url}").into();
        }
        Event::Start(_)
        | Event::End(_)
        | Event::Text(_)
        | Event::Code(_)
        | Event::InlineMath(_)
        | Event::DisplayMath(_)
        | Event::Html(_)
        | Event::InlineHtml(_)
        | Event::FootnoteReference(_)
        | Event::SoftBreak
        | Event::HardBreak
        | Event::Rule
        | Event::TaskListMarker(_) => {}
    }
    event
}

fn heading_start(level: HeadingLevel, deeper: usize, id: Option<String>) -> Event<'static> {
    Event::Start(Tag::Heading {
        level: lowered(level, deeper),
        id: id.map(CowStr::from),
        classes: Vec::new(),
        attrs: Vec::new(),
    })
}

fn lowered(level: HeadingLevel, deeper: usize) -> HeadingLevel {
    HeadingLevel::try_from(level as usize + deeper).unwrap_or(HeadingLevel::H6)
}

/// The id of a heading: its words in lower case, joined by hyphens. A repeated one is numbered.
fn unique_id(words: &str, used: &mut HashMap<String, usize>) -> String {
    let mut id: String = words
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect();
    let times = used.entry(id.clone()).or_default();
    if *times > 0 {
        let _ = write!(id, "-{times}");
    }
    *times += 1;
    id
}

/// The address of a link's target. Other files of the source are not served, and stay as they are
/// written.
fn address_of(target: &str, to_pages: &str) -> String {
    let (file, fragment) = match target.split_once('#') {
        Some((file, fragment)) => (file, format!("#{fragment}")),
        None => (target, String::new()),
    };
    match file.strip_suffix(".md") {
        Some(name) if !name.contains('/') => match name {
            FIRST if to_pages.is_empty() => format!("../guide{fragment}"),
            FIRST => format!("guide{fragment}"),
            name => format!("{to_pages}{name}{fragment}"),
        },
        Some(_) | None => target.to_owned(),
    }
}
