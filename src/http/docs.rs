//! The documentation page: an embedded Swagger UI that needs no network (contract, section 10).

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};

use super::edge::page::secure_response;
use super::edge::routing::{PathRoutes, segment};
use crate::error::{Code, Result};

const PAGE_HTML: &str = include_str!("docs/page.html");
const PAGE_SCRIPT: &str = include_str!("docs/page.js");
const PAGE_STYLE: &str = include_str!("docs/page.css");
const GUIDE_STYLE: &str = include_str!("docs/guide.css");
/// The files of Swagger UI that the page uses, as gzip. build.rs takes them out of the archive.
const SWAGGER_UI_STYLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"));
const SWAGGER_UI_SCRIPT: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"));
/// The page loads from and calls this server only, and does not run scripts in the document's
/// texts.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The names of the page's files.
pub(super) fn files() -> impl Iterator<Item = &'static str> {
    [
        "guide.css",
        "page.css",
        "page.js",
        "swagger-ui.css",
        "swagger-ui-bundle.js",
    ]
    .into_iter()
}

pub(super) async fn page() -> Result<HttpResponse> {
    Ok(own_file("text/html; charset=utf-8", PAGE_HTML))
}

/// Redirects `/docs/` to the page, whose links are relative to `/docs`. The relative target works
/// with and without the prefix, and under any path prefix of a proxy.
async fn redirect_to_page() -> Result<HttpResponse> {
    Ok(secure_response(POLICY)
        .status(StatusCode::PERMANENT_REDIRECT)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::LOCATION, "../docs"))
        .finish())
}

/// The route of the redirect, which the document leaves out.
pub(super) fn path_routes() -> PathRoutes {
    PathRoutes {
        is_prefixed: true,
        ..PathRoutes::public_get("/docs/", web::get().to(redirect_to_page))
    }
}

pub(super) async fn file(request: HttpRequest) -> Result<HttpResponse> {
    match segment(&request, "file") {
        Some("guide.css") => Ok(own_file("text/css; charset=utf-8", GUIDE_STYLE)),
        Some("page.css") => Ok(own_file("text/css; charset=utf-8", PAGE_STYLE)),
        Some("page.js") => Ok(own_file("text/javascript; charset=utf-8", PAGE_SCRIPT)),
        Some("swagger-ui.css") => Ok(swagger_ui("text/css; charset=utf-8", SWAGGER_UI_STYLE)),
        Some("swagger-ui-bundle.js") => Ok(swagger_ui(
            "text/javascript; charset=utf-8",
            SWAGGER_UI_SCRIPT,
        )),
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
fn swagger_ui(content_type: &'static str, gzip: &'static [u8]) -> HttpResponse {
    secure_response(POLICY)
        .insert_header((header::CONTENT_ENCODING, "gzip"))
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "public, max-age=86400"))
        .body(Bytes::from_static(gzip))
}
