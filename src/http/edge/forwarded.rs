//! What a request, or the proxy before the server, says about the addresses of both ends.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, web};

use crate::http::App;

/// The last entry of a header that proxies append to. A client can forge the entries before it.
fn last_entry<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let last = headers.get_all(name).last()?.to_str().ok()?;
    last.rsplit(',').next().map(str::trim)
}

/// The client's address. `X-Forwarded-For` counts only with `--behind-proxy`, because a client can
/// forge it.
pub(super) fn client_address(request: &ServiceRequest) -> Option<IpAddr> {
    let is_behind_proxy = request
        .app_data::<web::Data<App>>()
        .is_some_and(|app| app.config.behind_proxy);
    let forwarded = is_behind_proxy
        .then(|| {
            last_entry(request.headers(), "X-Forwarded-For")?
                .parse()
                .ok()
        })
        .flatten();
    forwarded.or_else(|| request.peer_addr().map(|peer| peer.ip()))
}

/// The base URL of links to this server, without a slash at its end.
///
/// It is the configured URL, else what a trusted proxy forwards, else the request's `Host` if that
/// names this machine. The client can send any other `Host`, and the `Host` must not lead the
/// readers of a link to another server. The base is then empty, so that links are paths.
pub(in crate::http) fn base_url(app: &App, request: &HttpRequest) -> String {
    if let Some(url) = &app.config.public_url {
        return url.clone();
    }
    let headers = request.headers();
    let forwarded = last_entry(headers, "X-Forwarded-Host");
    if app.config.behind_proxy
        && let Some(host) = forwarded.filter(|host| Host::parse(host).is_some())
    {
        let scheme = last_entry(headers, "X-Forwarded-Proto");
        let is_https = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let scheme = if is_https { "https" } else { "http" };
        return format!("{scheme}://{host}");
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let own = host.filter(|host| {
        Host::parse(host).is_some_and(|host| host.is_of_this_machine(&app.config.host_names))
    });
    let Some(host) = own else {
        warn(app, RELATIVE);
        return String::new();
    };
    if app.config.behind_proxy {
        warn(app, NOT_FORWARDED);
    }
    format!("http://{host}")
}

const RELATIVE: &str = "a link in a reply is a path alone, because the request's Host does not name this machine; \
                        set --public-url to the address that clients use";
const NOT_FORWARDED: &str = "a link in a reply begins with the request's Host, because the proxy sent no host in \
                             X-Forwarded-Host; let the proxy set it, or set --public-url";

/// Logs a line about links, at most once a minute.
fn warn(app: &App, line: &'static str) {
    if app.link_warnings.admit(line, app.store.now()) {
        log::warn!("{line}");
    }
}

/// Headers that a proxy adds to a request.
const PROXY_HEADERS: [&str; 7] = [
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Real-IP",
];

/// The request's `Host`, if a person on this machine sent the request: from a loopback address, to a
/// loopback name, through no proxy.
///
/// The name must be a loopback one, because a page of another site can lead its own name to this
/// machine (DNS rebinding).
pub(in crate::http) fn loopback_host<'a>(app: &App, request: &'a HttpRequest) -> Option<&'a str> {
    let headers = request.headers();
    let is_direct = !app.config.behind_proxy
        && PROXY_HEADERS
            .iter()
            .all(|name| !headers.contains_key(*name))
        && request.peer_addr()?.ip().to_canonical().is_loopback();
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let is_loopback = match Host::parse(host)? {
        Host::Address(address) => address.to_canonical().is_loopback(),
        Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
    };
    (is_direct && is_loopback).then_some(host)
}

/// A host with an optional port, as `Host` and `X-Forwarded-Host` carry it.
#[derive(Debug, PartialEq, Eq)]
enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

impl<'a> Host<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                (Self::Address(address.into()), port)
            }
            None => {
                let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                let is_name_byte =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                let has_letter = name.bytes().any(|byte| byte.is_ascii_alphanumeric());
                if !has_letter || !name.bytes().all(is_name_byte) {
                    return None;
                }
                let host = name.parse().map_or(Self::Name(name), Self::Address);
                (host, port)
            }
        };
        let is_port = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        };
        match port.strip_prefix(':') {
            Some(port) => is_port(port),
            None => port.is_empty(),
        }
        .then_some(host)
    }

    /// Whether this is loopback, an address of this machine or one of its names.
    fn is_of_this_machine(&self, names: &[String]) -> bool {
        match self {
            Self::Address(address) => {
                let address = address.to_canonical();
                address.is_loopback() || is_local(address)
            }
            Self::Name(name) => {
                let is = |other: &str| name.eq_ignore_ascii_case(other);
                is("localhost") || names.iter().any(|other| is(other))
            }
        }
    }
}

/// Whether an interface of this machine has the address. The system refuses to bind any other.
fn is_local(address: IpAddr) -> bool {
    let is_of_one_host = !address.is_unspecified() && !address.is_multicast();
    is_of_one_host && UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        let name = |text| Some(Host::Name(text));
        let address = |text: &str| Some(Host::Address(text.parse().unwrap()));
        for (text, host) in [
            ("chat.example.com", name("chat.example.com")),
            ("chat.example.com:8443", name("chat.example.com")),
            ("my_host", name("my_host")),
            ("192.0.2.7:80", address("192.0.2.7")),
            ("[2001:db8::7]", address("2001:db8::7")),
            ("[2001:db8::7]:80", address("2001:db8::7")),
            ("", None),
            ("...", None),
            ("-", None),
            ("_:80", None),
            (":80", None),
            ("chat.example.com:", None),
            ("chat.example.com:+80", None),
            ("chat.example.com:65536", None),
            ("chat.example.com:80:80", None),
            ("chat.example.com/path", None),
            ("user@chat.example.com", None),
            ("chat.example.com ", None),
            ("[chat]", None),
            ("[::1]x", None),
            ("::1", None),
        ] {
            assert_eq!(Host::parse(text), host, "{text:?}");
        }
    }

    #[test]
    fn only_addresses_of_this_machine_are_local() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("192.0.2.7", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("2001:db8::7", false),
        ] {
            assert_eq!(is_local(address.parse().unwrap()), expected, "{address}");
        }
    }
}
