//! The documentation page: an embedded Swagger UI that needs no network (contract, section 10).

use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::edge::page::{into_bytes, secure_response};
use super::edge::routing::segment;
use crate::error::{Code, Error, Result};

const PAGE_HTML: &str = include_str!("docs/page.html");
const PAGE_SCRIPT: &str = include_str!("docs/page.js");
const PAGE_STYLE: &str = include_str!("docs/page.css");
/// The files of Swagger UI that the page uses.
const SWAGGER_UI: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];
/// The page loads from and calls this server only, and does not run scripts in the document's
/// texts.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The names of the page's files.
pub(super) fn files() -> impl Iterator<Item = &'static str> {
    ["page.css", "page.js"].into_iter().chain(SWAGGER_UI)
}

pub(super) async fn page() -> Result<HttpResponse> {
    Ok(own_file("text/html; charset=utf-8", PAGE_HTML))
}

pub(super) async fn file(request: HttpRequest) -> Result<HttpResponse> {
    match segment(&request, "file") {
        Some("page.css") => Ok(own_file("text/css; charset=utf-8", PAGE_STYLE)),
        Some("page.js") => Ok(own_file("text/javascript; charset=utf-8", PAGE_SCRIPT)),
        Some(name) if SWAGGER_UI.contains(&name) => swagger_ui(name),
        Some(_) | None => Err(Code::NotFound.into()),
    }
}

fn own_file(content_type: &'static str, text: &'static str) -> HttpResponse {
    secure_response(POLICY)
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(text)
}

/// A file of Swagger UI. The file is embedded and sent as gzip, which a client without
/// `Accept-Encoding` also accepts (RFC 9110, 12.5.3).
fn swagger_ui(name: &str) -> Result<HttpResponse> {
    // The configuration of the page is in page.js, so that the default suffices here.
    let file: SwaggerFile<'static> = utoipa_swagger_ui::serve(name, Arc::new(Config::from("")))
        .map_err(|error| Error::internal(error.to_string()))?
        .ok_or(Code::NotFound)?;
    let mut response = secure_response(POLICY);
    if file.gzpipped {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response
        .insert_header((
            header::CONTENT_TYPE,
            format!("{}; charset=utf-8", file.content_type),
        ))
        .insert_header((header::CACHE_CONTROL, "public, max-age=86400"))
        .body(into_bytes(file.bytes)))
}
