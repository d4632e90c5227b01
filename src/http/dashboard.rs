//! The dashboard (contract, section 9): a page out of the program itself, which calls the public API as any other client does.

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
use super::edge::routing::{Address, segment};
use crate::auth::entra;
use crate::config::EntraSignIn;
use crate::error::{Code, Error, Result};

const SHELL: &str = "index.html";

/// A debug build reads them from disk each time, so that a change shows without a build.
#[derive(RustEmbed)]
#[folder = "src/dashboard"]
struct Files;

/// What all requests for the dashboard share.
pub(super) struct Dashboard {
    policy: HeaderValue,
    /// Files made small, by the hash of what they hold.
    small: Mutex<HashMap<[u8; 32], Bytes>>,
}

impl Dashboard {
    /// Lets the page call the authority that signs people in, where there is one.
    ///
    /// # Errors
    /// The authority's address cannot stand in a header.
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
            small: Mutex::default(),
        })
    }

    fn safe(&self) -> HttpResponseBuilder {
        let mut response = page::safe(self.policy.clone());
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
        let mut response = self.safe();
        response.insert_header((header::VARY, "Accept-Encoding"));
        // Whichever form a client has, it has the file.
        if let Some(known) = [&plain, &gzip].into_iter().find(|tag| has(request, tag)) {
            return Ok(response
                .status(StatusCode::NOT_MODIFIED)
                .insert_header(ETag(known.clone()))
                .finish());
        }
        response.insert_header((header::CONTENT_TYPE, content_type));
        let whole = page::bytes(file.data);
        if takes_gzip(request) {
            let small = self.small(hash, &whole)?;
            if small.len() < whole.len() {
                return Ok(response
                    .insert_header(ETag(gzip))
                    .insert_header((header::CONTENT_ENCODING, "gzip"))
                    .body(small));
            }
        }
        Ok(response.insert_header(ETag(plain)).body(whole))
    }

    /// A file as gzip, made once.
    fn small(&self, hash: [u8; 32], whole: &[u8]) -> Result<Bytes> {
        let mut known = self.small.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(small) = known.get(&hash) {
            return Ok(small.clone());
        }
        let small = gzip(whole).map_err(|error| Error::internal(error.to_string()))?;
        known.insert(hash, small.clone());
        Ok(small)
    }
}

fn gzip(whole: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(whole)?;
    Ok(encoder.finish()?.into())
}

/// Nothing but what a page is made of is served.
fn content_type(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "css" => Some("text/css; charset=utf-8"),
        "html" => Some("text/html; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

fn has(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}

fn takes_gzip(request: &HttpRequest) -> bool {
    let forms = [Encoding::gzip(), Encoding::identity()];
    AcceptEncoding::parse(request)
        .is_ok_and(|accepted| accepted.negotiate(forms.iter()) == Some(Encoding::gzip()))
}

async fn shell(dashboard: web::Data<Dashboard>, request: HttpRequest) -> Result<HttpResponse> {
    dashboard.file(&request, SHELL)
}

async fn file(dashboard: web::Data<Dashboard>, request: HttpRequest) -> Result<HttpResponse> {
    // The shell names its files from one place above: at an address of a file it would find none of them.
    let name = segment(&request, "file").filter(|name| *name != SHELL);
    dashboard.file(&request, name.ok_or(Code::NotFound)?)
}

/// The shell's own address, said so that it holds below whatever path a proxy serves it.
async fn without_slash(dashboard: web::Data<Dashboard>) -> Result<HttpResponse> {
    Ok(dashboard
        .safe()
        .status(StatusCode::PERMANENT_REDIRECT)
        .insert_header((header::LOCATION, "../dashboard"))
        .finish())
}

/// Its addresses.
pub(super) fn addresses() -> [Address; 3] {
    [
        Address::to_fetch("/dashboard", || web::to(shell)),
        Address::to_fetch("/dashboard/", || web::to(without_slash)),
        Address::to_fetch("/dashboard/{file}", || web::to(file)),
    ]
}
