//! The dashboard: embedded files that use the public API as any client does (contract, section 9).

use std::io;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use rust_embed::RustEmbed;

use super::edge::page;
use super::edge::routing::{PathRoutes, segment};
use super::login_command;
use crate::auth::entra;
use crate::config::EntraSignIn;
use crate::error::{Code, Result};

const INDEX: &str = "index.html";
const ICON: &str = "icon.svg";

/// The files of the dashboard. A debug build reads them from disk on every request, so that a
/// change shows without a new build.
#[derive(RustEmbed)]
#[folder = "src/dashboard"]
struct Files;

/// The state that all requests for the dashboard share.
pub(super) struct Dashboard {
    policy: HeaderValue,
    compressed: page::CompressedFiles,
}

impl Dashboard {
    /// Builds the content security policy, which lets the page call the configured authority.
    ///
    /// # Errors
    /// The authority's URL is invalid, or is not valid in a header.
    pub(super) fn new(sign_in: Option<&EntraSignIn>) -> io::Result<Self> {
        let authority = match sign_in {
            Some(sign_in) => {
                let authority = entra::authority(&sign_in.authority).map_err(io::Error::other)?;
                format!(" {}", authority.origin().ascii_serialization())
            }
            None => String::new(),
        };
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; \
             connect-src 'self'{authority}; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        );
        Ok(Self {
            policy: HeaderValue::try_from(policy).map_err(io::Error::other)?,
            compressed: page::CompressedFiles::default(),
        })
    }

    fn response(&self) -> HttpResponseBuilder {
        let mut response = page::secure_response(self.policy.clone());
        response.insert_header((header::CACHE_CONTROL, "no-cache"));
        response
    }

    fn file(&self, request: &HttpRequest, name: &str) -> Result<HttpResponse> {
        let content_type = content_type(name).ok_or(Code::NotFound)?;
        let file = Files::get(name).ok_or(Code::NotFound)?;
        let (hash, response) = (file.metadata.sha256_hash(), self.response());
        self.compressed
            .send(request, response, content_type, hash, || {
                Ok(page::into_bytes(file.data))
            })
    }
}

/// The media type of a file; `None` for a file that is not part of the page.
fn content_type(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "css" => Some("text/css; charset=utf-8"),
        "html" => Some("text/html; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

async fn index(dashboard: web::Data<Dashboard>, request: HttpRequest) -> Result<HttpResponse> {
    dashboard.file(&request, INDEX)
}

async fn file(dashboard: web::Data<Dashboard>, request: HttpRequest) -> Result<HttpResponse> {
    // The page's links to its files are relative to `/dashboard`, so that the page works only
    // there.
    let name = segment(&request, "file").filter(|name| *name != INDEX);
    dashboard.file(&request, name.ok_or(Code::NotFound)?)
}

/// The icon, for browsers that ask at the root because a reply names none.
async fn icon(dashboard: web::Data<Dashboard>, request: HttpRequest) -> Result<HttpResponse> {
    let mut response = dashboard.file(&request, ICON)?;
    let for_a_day = HeaderValue::from_static("public, max-age=86400");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, for_a_day);
    Ok(response)
}

/// Leads from the root to the page. Not for ever: another program can take the address later.
async fn lead_to_page(dashboard: web::Data<Dashboard>) -> Result<HttpResponse> {
    Ok(dashboard
        .response()
        .status(StatusCode::FOUND)
        .insert_header((header::LOCATION, "./dashboard"))
        .finish())
}

/// Redirects `/dashboard/` to the page. The relative target works under any path prefix of a proxy.
async fn redirect_to_page(dashboard: web::Data<Dashboard>) -> Result<HttpResponse> {
    Ok(dashboard
        .response()
        .status(StatusCode::PERMANENT_REDIRECT)
        .insert_header((header::LOCATION, "../dashboard"))
        .finish())
}

/// The routes of the dashboard.
pub(super) fn path_routes() -> [PathRoutes; 6] {
    [
        PathRoutes::public_get("/", web::get().to(lead_to_page)),
        PathRoutes::public_get("/favicon.ico", web::get().to(icon)),
        PathRoutes::public_get("/dashboard", web::get().to(index)),
        PathRoutes::public_get("/dashboard/", web::get().to(redirect_to_page)),
        PathRoutes::public_get(
            "/dashboard/login-command",
            web::get().to(login_command::show),
        ),
        PathRoutes::public_get("/dashboard/{file}", web::get().to(file)),
    ]
}
