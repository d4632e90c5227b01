//! The dashboard: embedded files that use the public API as any client does (contract, section 9).

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use actix_web::http::StatusCode;
use actix_web::http::header::{
    self, AcceptEncoding, ETag, Encoding, EntityTag, Header, HeaderValue, IfNoneMatch,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;

use super::edge::page;
use super::edge::routing::{PathRoutes, segment};
use super::login_command;
use crate::auth::entra;
use crate::config::EntraSignIn;
use crate::error::{Code, Error, Result};

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
    /// Compressed files, by the hash of the content.
    compressed: Mutex<HashMap<[u8; 32], Bytes>>,
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
            compressed: Mutex::default(),
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
        let hash = file.metadata.sha256_hash();
        let tag = URL_SAFE_NO_PAD.encode(hash);
        let gzip = EntityTag::new_strong(format!("{tag}-gzip"));
        let plain = EntityTag::new_strong(tag);
        let mut response = self.response();
        response.insert_header((header::VARY, "Accept-Encoding"));
        // Both encodings represent the same file, so that a match of either tag is a match.
        let tags = [&plain, &gzip];
        if let Some(cached) = tags.into_iter().find(|tag| client_has(request, tag)) {
            return Ok(response
                .status(StatusCode::NOT_MODIFIED)
                .insert_header(ETag(cached.clone()))
                .finish());
        }
        response.insert_header((header::CONTENT_TYPE, content_type));
        let content = page::into_bytes(file.data);
        if accepts_gzip(request) {
            let compressed = self.compressed(hash, &content)?;
            if compressed.len() < content.len() {
                return Ok(response
                    .insert_header(ETag(gzip))
                    .insert_header((header::CONTENT_ENCODING, "gzip"))
                    .body(compressed));
            }
        }
        Ok(response.insert_header(ETag(plain)).body(content))
    }

    /// The content as gzip. Each file is compressed once.
    fn compressed(&self, hash: [u8; 32], content: &[u8]) -> Result<Bytes> {
        let mut cache = self
            .compressed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(compressed) = cache.get(&hash) {
            return Ok(compressed.clone());
        }
        let compressed = gzip(content).map_err(|error| Error::internal(error.to_string()))?;
        cache.insert(hash, compressed.clone());
        Ok(compressed)
    }
}

fn gzip(content: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    Ok(encoder.finish()?.into())
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

fn client_has(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|cached| cached.weak_eq(tag)),
        Err(_) => false,
    }
}

fn accepts_gzip(request: &HttpRequest) -> bool {
    let encodings = [Encoding::gzip(), Encoding::identity()];
    AcceptEncoding::parse(request)
        .is_ok_and(|accepted| accepted.negotiate(encodings.iter()) == Some(Encoding::gzip()))
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
        PathRoutes::public_get("/dashboard/login-command", web::get().to(login_command::show)),
        PathRoutes::public_get("/dashboard/{file}", web::get().to(file)),
    ]
}
