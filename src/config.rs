//! The configuration of a server, whoever read it: the command line maps its flags to these types.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

/// What a server's behavior depends on, wherever it listens.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The base URL that clients reach this server by; by default that of the request's `Host`.
    pub public_url: Option<String>,
    /// Requests a minute for tenants without a limit of their own; 0 means no limit.
    pub rate_limit: i64,
    /// Origins whose pages may call this server from a browser.
    pub cors_origins: Vec<String>,
    /// Requests come through a proxy that adds the client's address to `X-Forwarded-For`.
    pub behind_proxy: bool,
    /// Threads that serve requests; by default one per core.
    pub workers: Option<u16>,
    /// Connections that may be open at one time.
    pub max_connections: u32,
    /// Turns that are answered at one time.
    pub turn_concurrency: u16,
    /// Seconds that running requests and answers have at a shutdown.
    pub drain_seconds: u64,
    /// Serve `/metrics` beside everything else.
    pub metrics: bool,
    /// What the dashboard needs to sign people in by Entra ID.
    pub entra_sign_in: Option<EntraSignIn>,
    /// How long the server waits for its clients.
    pub timeouts: ClientTimeouts,
}

/// How long a server waits for its clients, and how much it takes from them at one time. No flags: only tests have others.
#[derive(Clone, Copy, Debug)]
pub struct ClientTimeouts {
    /// How long a client may take to send a request's head.
    pub head: Duration,
    /// How long it may take to send a body.
    pub body: Duration,
    /// How long it may send nothing amid a body.
    pub body_silence: Duration,
    /// Uploads that are received at one time: each is held in memory until it is stored.
    pub uploads: usize,
    /// How long one more waits for its turn.
    pub upload_wait: Duration,
    /// How long a client may take none of what it was sent.
    pub stuck: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How often a comment on a stream keeps proxies awake.
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
            stuck: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// What a browser needs to sign somebody in by Entra ID; nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EntraSignIn {
    /// The authority's base URL.
    pub authority: String,
    /// The application.
    pub client_id: String,
    /// What to ask for.
    pub scopes: Vec<String>,
}
