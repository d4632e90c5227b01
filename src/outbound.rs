//! Outbound HTTP: the one function that builds clients, documents that are read, and helpers for
//! errors.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, StatusCode, Url, redirect, retry};

/// Creates an HTTP client for one server. Each call has its own connection: dropping a call closes
/// the connection, and no call reuses one that the server is about to close. The client follows no
/// redirects, so requests go to that server only.
///
/// # Errors
/// A phrase for the operator, if TLS cannot be set up.
pub fn client(server: &Url, connect_timeout: Duration) -> Result<Client, String> {
    build(|builder| {
        let builder = builder.connect_timeout(connect_timeout);
        match is_loopback(server) {
            true => builder.no_proxy(),
            false => builder,
        }
    })
}

/// As [`client`], for a server on a socket file, whatever the host of the URL.
///
/// # Errors
/// Those of [`client`].
pub fn socket_client(path: &Path) -> Result<Client, String> {
    build(|builder| builder.unix_socket(path).no_proxy())
}

/// As [`client`], which connects to this address and to no other one.
///
/// # Errors
/// Those of [`client`].
pub fn pinned_client(
    server: &Url,
    address: SocketAddr,
    connect_timeout: Duration,
) -> Result<Client, String> {
    let host = server.host_str().unwrap_or_default();
    build(|builder| {
        builder
            .connect_timeout(connect_timeout)
            .resolve(host, address)
            .no_proxy()
    })
}

fn build(configure: impl Fn(ClientBuilder) -> ClientBuilder) -> Result<Client, String> {
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
            .pool_max_idle_per_host(0)
            .redirect(redirect::Policy::none())
            .retry(retry::never());
        configure(builder)
    };
    builder()
        .build()
        .or_else(|_| {
            // Without a system certificate store, as in a slim container, the build fails even for
            // http.
            let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
            let roots = roots
                .map(|root| reqwest::Certificate::from_der(root))
                .collect::<Result<Vec<_>, _>>()?;
            builder().tls_certs_only(roots).build()
        })
        .map_err(|error| causes(&error))
}

/// The longest document that is read: one of OpenID, or of keys.
const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Reads a document of at most 1 MiB. The caller sets the time limit.
///
/// # Errors
/// A sentence for the operator.
pub async fn document(client: &Client, url: &Url) -> Result<Vec<u8>, String> {
    let failed = |error: reqwest::Error| format!("{url}: {}", causes(&error.without_url()));
    let mut reply = client.get(url.clone()).send().await.map_err(failed)?;
    if reply.status() != StatusCode::OK {
        return Err(format!("{url} answered {}", reply.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = reply.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_DOCUMENT_BYTES {
            return Err(format!("{url} is longer than 1 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The address of the keys that an OpenID document names: https, or a loopback address.
///
/// # Errors
/// A sentence for the operator.
pub fn keys_url(document: &Url, jwks_uri: &str) -> Result<Url, String> {
    let url = Url::parse(jwks_uri).ok();
    let is_safe =
        |url: &Url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
    url.filter(is_safe)
        .ok_or_else(|| format!("{document} has a jwks_uri that is not https"))
}

/// Whether a URL's host is a loopback address.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// An error and its sources, on one line.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_bypass_the_proxy() {
        let loopback = |url: &str| is_loopback(&Url::parse(url).unwrap());
        for url in [
            "http://localhost:1",
            "http://LOCALHOST",
            "http://m.localhost",
            "http://127.1.2.3",
            "http://[::1]:1",
        ] {
            assert!(loopback(url), "{url}");
        }
        for url in [
            "http://127.0.0.1.example.com",
            "http://notlocalhost",
            "http://10.0.0.1",
            "http://[2001:db8::1]",
        ] {
            assert!(!loopback(url), "{url}");
        }
    }
}
