//! The page that shows the document (contract, section 10): Swagger UI out of the program itself, so that it needs no network.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::edge::page::{bytes, safe};
use super::edge::routing::segment;
use crate::error::{Code, Error, Result};

const PAGE: &str = include_str!("docs/page.html");
const SCRIPT: &str = include_str!("docs/page.js");
const STYLE: &str = include_str!("docs/page.css");
/// What the page takes of Swagger UI.
const SWAGGER_UI: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];
/// The page loads and calls this server and nobody else, and runs nothing that stands in a text of the document.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The files beside the page.
pub(super) fn files() -> impl Iterator<Item = &'static str> {
    ["page.css", "page.js"].into_iter().chain(SWAGGER_UI)
}

pub(super) async fn page() -> Result<HttpResponse> {
    Ok(ours("text/html; charset=utf-8", PAGE))
}

pub(super) async fn file(request: HttpRequest) -> Result<HttpResponse> {
    match segment(&request, "file") {
        Some("page.css") => Ok(ours("text/css; charset=utf-8", STYLE)),
        Some("page.js") => Ok(ours("text/javascript; charset=utf-8", SCRIPT)),
        Some(name) if SWAGGER_UI.contains(&name) => swagger_ui(name),
        Some(_) | None => Err(Code::NotFound.into()),
    }
}

fn ours(content_type: &'static str, text: &'static str) -> HttpResponse {
    safe(POLICY)
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(text)
}

/// A file of Swagger UI's. It is kept small and sent so: whoever does not say what it takes takes gzip too (RFC 9110, 12.5.3).
fn swagger_ui(name: &str) -> Result<HttpResponse> {
    // The settings are the page's own.
    let file: SwaggerFile<'static> = utoipa_swagger_ui::serve(name, Arc::new(Config::from("")))
        .map_err(|error| Error::internal(error.to_string()))?
        .ok_or(Code::NotFound)?;
    let mut response = safe(POLICY);
    if file.gzpipped {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response
        .insert_header((
            header::CONTENT_TYPE,
            format!("{}; charset=utf-8", file.content_type),
        ))
        .insert_header((header::CACHE_CONTROL, "public, max-age=86400"))
        .body(bytes(file.bytes)))
}
