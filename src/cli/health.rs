//! `health`: asks a server whether it can work, for the health check of a container.

use std::time::Duration;

use actix_web::rt::System;
use clap::Args;
use reqwest::Url;
use serde_json::Value;

use super::listen::ListenAddress;
use super::{Failed, column, flags, print};
use crate::outbound;
use crate::text::counted;

/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Args)]
pub(super) struct Health {
    /// The base URL of the server [default: the address of --listen]
    #[arg(long, env = "SWITCHBOARD_URL", value_name = "URL", value_parser = flags::url)]
    url: Option<String>,
    /// Where the server listens, for a check without --url
    #[arg(
        long,
        env = "SWITCHBOARD_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    listen: ListenAddress,
}

/// Prints one line, and fails unless the server can work.
pub(super) fn run(arguments: &Health) -> Result<(), Failed> {
    let (server, base, client) = match (&arguments.url, &arguments.listen) {
        (None, ListenAddress::Unix(path)) => {
            let (server, base) = (arguments.listen.to_string(), "http://localhost".to_owned());
            (server, base, outbound::socket_client(path))
        }
        (url, listen) => {
            let url = url.clone().or_else(|| listen.url()).unwrap_or_default();
            let client = Url::parse(&url).map_err(|error| format!("cannot read {url}: {error}"));
            let client = client.and_then(|url| outbound::client(&url, TIMEOUT));
            (url.clone(), url, client)
        }
    };
    let client = client.map_err(Failed::saying)?;
    let request = client.get(format!("{base}/ready")).timeout(TIMEOUT);
    let (status, body) = System::new()
        .block_on(async {
            let reply = request.send().await?;
            let status = reply.status();
            Ok((status, reply.bytes().await?))
        })
        .map_err(|error: reqwest::Error| {
            let why = if error.is_timeout() {
                format!("no reply within {} seconds", TIMEOUT.as_secs())
            } else {
                outbound::causes(&error.without_url())
            };
            Failed::saying(format!("cannot reach {server}: {}", column(&why)))
        })?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_success() {
        return print(format_args!(
            "ok: {server} is ready{}",
            nodes(&body["data"])
        ));
    }
    let code = body["error"]["code"].as_str().unwrap_or_default();
    Err(Failed::saying(format!(
        "{server} is not ready: {} {}",
        status.as_u16(),
        column(code)
    )))
}

/// What a server on PostgreSQL adds to the line: how many of them there are.
fn nodes(ready: &Value) -> String {
    match (ready["engine"].as_str(), ready["nodes"].as_u64()) {
        (Some("postgresql"), Some(nodes)) => {
            format!(" (PostgreSQL, {})", counted(nodes, "node", "nodes"))
        }
        _ => String::new(),
    }
}
