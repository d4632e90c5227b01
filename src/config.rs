//! The configuration of a server. The command line maps its flags to these types.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::directory::DirectoryRule;
use crate::teams;

/// The settings of a server, except the addresses that it listens on.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The base URL at which clients reach the server. By default, the URL that the request was
    /// sent to, if its host is an address or a name of this machine.
    pub public_url: Option<String>,
    /// The names of this machine, besides `localhost`.
    pub host_names: Vec<String>,
    /// Requests per minute for a tenant without a limit of its own; 0 means no limit.
    pub rate_limit: i64,
    /// Requests per minute for a platform account; 0 means no limit.
    pub platform_rate_limit: i64,
    /// The origins whose pages may call the server from a browser.
    pub cors_origins: Vec<String>,
    /// Whether a proxy adds the client's address to `X-Forwarded-For`, and sets
    /// `X-Forwarded-Host` and `X-Forwarded-Proto`.
    pub behind_proxy: bool,
    /// The number of threads that serve requests; by default, one per core.
    pub workers: Option<u16>,
    /// The maximum number of open connections.
    pub max_connections: u32,
    /// The maximum number of turns that run at the same time.
    pub turn_concurrency: u16,
    /// The seconds that running requests and answers have at a shutdown.
    pub drain_seconds: u64,
    /// Whether the server serves `/metrics` on its main address.
    pub metrics: bool,
    /// The settings with which the dashboard signs users in with Entra ID.
    pub entra_sign_in: Option<EntraSignIn>,
    /// The ids that people may give to Microsoft directories.
    pub directories: DirectoryRule,
    /// The settings of the Teams bots.
    pub teams: teams::Settings,
    /// The timeouts and limits for slow clients.
    pub timeouts: ClientTimeouts,
}

/// The timeouts and limits for slow clients. They have no flags, because only tests change them.
#[derive(Clone, Copy, Debug)]
pub struct ClientTimeouts {
    /// The timeout for a request's head.
    pub head: Duration,
    /// The timeout for a request's whole body.
    pub body: Duration,
    /// The timeout for the next bytes of a body.
    pub body_silence: Duration,
    /// The maximum number of concurrent uploads. Each is held in memory until it is stored.
    pub uploads: usize,
    /// How long another upload waits for a permit.
    pub upload_wait: Duration,
    /// How long a large reply waits for room.
    pub reply_wait: Duration,
    /// The timeout for a client that reads nothing of its reply.
    pub stuck: Duration,
    /// The timeout of an idle connection.
    pub keep_alive: Duration,
    /// The interval of the comments on a stream that keep proxies from closing it.
    pub heartbeat: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            body_silence: Duration::from_secs(15),
            uploads: 16,
            upload_wait: Duration::from_secs(5),
            reply_wait: Duration::from_secs(5),
            stuck: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// The settings with which a browser signs a user in with Entra ID. None of them is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EntraSignIn {
    /// The authority's base URL.
    pub authority: String,
    /// The application's id.
    pub client_id: String,
    /// The scopes to request.
    pub scopes: Vec<String>,
}
