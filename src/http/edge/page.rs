//! The server's own pages and their files: security headers, caching and compression.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use actix_web::http::StatusCode;
use actix_web::http::header::{
    self, AcceptEncoding, ETag, Encoding, EntityTag, Header, HeaderName, HeaderValue, IfNoneMatch,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::{Error, Result};

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// A 200 response with this content security policy. The other headers forbid framing and access
/// from other pages.
pub(in crate::http) fn secure_response(policy: HeaderValue) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((OPENER_POLICY, "same-origin"))
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .insert_header((
            PERMISSIONS_POLICY,
            "camera=(), microphone=(), geolocation=()",
        ));
    response
}

/// A 200 response for a page of this server only, without a page's own headers.
pub(in crate::http) fn plain_response() -> HttpResponseBuilder {
    secure_response(HeaderValue::from_static(
        "default-src 'none'; frame-ancestors 'none'",
    ))
}

/// An embedded file as a response body, without a copy where possible.
pub(in crate::http) fn into_bytes(file: Cow<'static, [u8]>) -> Bytes {
    match file {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }
}

/// Content that this build of the program always sends alike, by the hash of its source.
#[derive(Default)]
pub(in crate::http) struct CompressedFiles(Mutex<HashMap<[u8; 32], Bytes>>);

impl CompressedFiles {
    /// Completes a response with content, compressed if the client accepts gzip, or with 304 if the
    /// client has the content. `content` is read only if it is sent, and compressed once.
    ///
    /// # Errors
    /// `internal_error` if the content cannot be read or compressed.
    pub(in crate::http) fn send(
        &self,
        request: &HttpRequest,
        mut response: HttpResponseBuilder,
        content_type: &'static str,
        hash: [u8; 32],
        content: impl FnOnce() -> Result<Bytes>,
    ) -> Result<HttpResponse> {
        let tag = URL_SAFE_NO_PAD.encode(hash);
        let gzip = EntityTag::new_strong(format!("{tag}-gzip"));
        let plain = EntityTag::new_strong(tag);
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
        if content_type != "image/png" && accepts_gzip(request) {
            return Ok(response
                .insert_header(ETag(gzip))
                .insert_header((header::CONTENT_ENCODING, "gzip"))
                .body(self.compressed(hash, content)?));
        }
        Ok(response.insert_header(ETag(plain)).body(content()?))
    }

    fn compressed(&self, hash: [u8; 32], content: impl FnOnce() -> Result<Bytes>) -> Result<Bytes> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compressed) = cache.get(&hash) {
            return Ok(compressed.clone());
        }
        let compressed =
            compress(&content()?).map_err(|error| Error::internal(error.to_string()))?;
        cache.insert(hash, compressed.clone());
        Ok(compressed)
    }
}

fn compress(content: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    Ok(encoder.finish()?.into())
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
