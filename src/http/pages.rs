//! Public pages about a channel's bot: who runs it, what is kept, and on which terms. An app package
//! leads to them if the tenant has no pages of its own (contract, section 10).

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};

use super::App;
use super::app_packages::name;
use super::edge::extract::path_id;
use super::edge::page::secure_response;
use super::edge::routing::PathRoutes;
use crate::error::{Code, Result};
use crate::model::ids::ChannelId;
use crate::model::words::Audience;
use crate::store::channels::{self, ChannelRecord};
use crate::store::tenants::{self, TenantRecord};
use crate::text::counted;

/// A page runs no script and loads its style sheet only.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A page about a bot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Page {
    Website,
    Privacy,
    Terms,
}

impl Page {
    /// The path of the page of a channel.
    pub(super) fn path(self, channel: ChannelId) -> String {
        match self {
            Self::Website => format!("/pages/{channel}"),
            Self::Privacy => format!("/pages/{channel}/privacy"),
            Self::Terms => format!("/pages/{channel}/terms"),
        }
    }

    /// The page in a sentence.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Website => "the MSP's website",
            Self::Privacy => "a privacy statement",
            Self::Terms => "terms of use",
        }
    }

    /// The title, and what leads from the page's folder to the root of the server.
    fn title(self) -> (&'static str, &'static str) {
        match self {
            Self::Website => ("About", "../"),
            Self::Privacy => ("Privacy", "../../"),
            Self::Terms => ("Terms of use", "../../"),
        }
    }
}

/// The routes of the pages.
pub(super) fn path_routes() -> [PathRoutes; 3] {
    [
        PathRoutes::public_get("/pages/{channel_id}", web::get().to(website)),
        PathRoutes::public_get("/pages/{channel_id}/privacy", web::get().to(privacy)),
        PathRoutes::public_get("/pages/{channel_id}/terms", web::get().to(terms)),
    ]
}

async fn website(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse> {
    send(&app, &request, Page::Website).await
}

async fn privacy(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse> {
    send(&app, &request, Page::Privacy).await
}

async fn terms(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse> {
    send(&app, &request, Page::Terms).await
}

/// Sends a page. The pages of a deleted channel stay, because its app may still be installed.
async fn send(app: &App, request: &HttpRequest, page: Page) -> Result<HttpResponse> {
    let id: ChannelId = path_id(request, "channel_id")?;
    let read = app.store.read(move |reader| {
        let channel = channels::by_id(reader, id)?.ok_or(Code::NotFound)?;
        let tenant = tenants::by_no(reader, channel.tenant)?;
        Ok((channel, tenant))
    });
    let (channel, tenant) = read.await?;
    Ok(secure_response(POLICY)
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .body(html(&channel, &tenant, page)))
}

fn html(channel: &ChannelRecord, tenant: &TenantRecord, page: Page) -> String {
    let (title, root) = page.title();
    let bot = escaped(name(channel));
    let body = match page {
        Page::Website => about(channel, tenant),
        Page::Privacy => privacy_statement(channel, tenant),
        Page::Terms => terms_of_use(channel, tenant),
    };
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title} · {bot}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}docs/guide.css">
</head>
<body class="alone">
<main>
<h1>{title}: <bdi>{bot}</bdi></h1>
{body}
</main>
</body>
</html>
"#
    )
}

/// Who runs the bot, and for whom.
fn who(channel: &ChannelRecord, tenant: &TenantRecord) -> String {
    let (bot, msp) = (escaped(name(channel)), escaped(&tenant.name));
    let people = match channel.audience {
        Audience::Msp => "its own staff",
        Audience::EndUser => "the staff of its clients",
    };
    format!(
        "<p><bdi>{bot}</bdi> is a bot in Microsoft Teams that answers questions. <bdi>{msp}</bdi> runs it for {people}.</p>"
    )
}

fn about(channel: &ChannelRecord, tenant: &TenantRecord) -> String {
    let description = channel.description.as_deref().unwrap_or_default();
    let paragraphs: String = description
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| format!("<p dir=\"auto\">{}</p>\n", escaped(line)))
        .collect();
    let link = |page: Page, own: &Option<String>| {
        let (title, _) = page.title();
        let address = match own {
            Some(own) => own.clone(),
            None => format!("..{}", page.path(channel.id)),
        };
        format!("<li><a href=\"{}\">{title}</a></li>", escaped(&address))
    };
    format!(
        "{}\n{paragraphs}<ul>\n{}\n{}\n</ul>",
        who(channel, tenant),
        link(Page::Privacy, &tenant.privacy_url),
        link(Page::Terms, &tenant.terms_url)
    )
}

fn privacy_statement(channel: &ChannelRecord, tenant: &TenantRecord) -> String {
    let msp = escaped(&tenant.name);
    let time = match tenant.retention_days {
        Some(days) => format!(
            "A conversation is deleted {} after its last change, with everything in it.",
            counted(days, "day", "days")
        ),
        None => {
            format!("Conversations have no date of deletion. <bdi>{msp}</bdi> can delete them.")
        }
    };
    let who = who(channel, tenant);
    format!(
        "{who}
<h2>What is kept</h2>
<ul>
<li>The messages and files that you send to the bot, and its answers.</li>
<li>When they were sent, and your feedback on answers.</li>
<li>What Microsoft Teams says about you: your name, your id and that of your organization.</li>
</ul>
<h2>What for</h2>
<p>To answer you, and to show <bdi>{msp}</bdi> what was asked and answered. Answers are written by software, which may
include a language model that <bdi>{msp}</bdi> has chosen.</p>
<h2>For how long</h2>
<p>{time}</p>
<h2>Who can read it</h2>
<p>You, the people in the same chat, and the administrators of <bdi>{msp}</bdi> and of this server. The staff of other
clients cannot.</p>
<h2>Your rights</h2>
<p>Ask <bdi>{msp}</bdi> to show you, correct or delete what is kept about you.</p>"
    )
}

fn terms_of_use(channel: &ChannelRecord, tenant: &TenantRecord) -> String {
    let msp = escaped(&tenant.name);
    let who = who(channel, tenant);
    format!(
        "{who}
<ul>
<li>Answers are written by software and can be wrong. Check an answer before you act on it.</li>
<li>Do not send passwords or verification codes. The bot never needs them.</li>
<li>Use the bot for your work, and send only what you may share with <bdi>{msp}</bdi>.</li>
<li>Otherwise, the agreement between <bdi>{msp}</bdi> and your organization applies.</li>
</ul>"
    )
}

/// A text in HTML, between tags or in a quoted attribute.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            letter => html.push(letter),
        }
    }
    html
}
