//! Security headers for the server's own pages and their files.

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};

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
