//! The flags that commands share, each with its environment variable (contract, section 12).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use crate::auth::{entra, rate_limit};
use crate::config::{ClientTimeouts, EntraSignIn, ServerConfig};
use crate::model::api_key;
use crate::turns::openai;

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The data folder; made, with its parents, if it is missing [default: ./switchboard-data; demo: ./switchboard-demo]
    #[arg(long, global = true, env = "SWITCHBOARD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// The environment's name: part of every API key, so that keys of one cannot be used in another
    #[arg(long = "env", global = true, env = "SWITCHBOARD_ENV", value_name = "NAME", default_value = "dev", value_parser = environment)]
    pub environment: String,

    /// How a line of the log on stderr is written; RUST_LOG says which are
    #[arg(
        long,
        global = true,
        env = "SWITCHBOARD_LOG_FORMAT",
        value_name = "text|json",
        hide_possible_values = true,
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for programs.
    Json,
}

impl Common {
    /// The data folder that was asked for, or the usual one.
    pub fn folder(&self) -> PathBuf {
        self.data
            .clone()
            .unwrap_or_else(|| PathBuf::from("./switchboard-data"))
    }
}

fn environment(text: &str) -> Result<String, String> {
    if api_key::is_environment(text) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 16 of a-z and 0-9".to_owned())
    }
}

/// What a server takes.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// Where to listen
    #[arg(
        long,
        env = "SWITCHBOARD_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,

    /// How it behaves
    #[command(flatten)]
    pub server: ServerFlags,
}

/// What a server's behaviour depends on, wherever it listens.
#[derive(Args, Clone, Debug)]
pub struct ServerFlags {
    /// The address that clients reach this server by, for the links that it gives out
    #[arg(long, env = "SWITCHBOARD_PUBLIC_URL", value_name = "URL", value_parser = url)]
    pub public_url: Option<String>,

    /// Requests a minute and tenant, for tenants without a figure of their own; 0: no limit
    #[arg(long, env = "SWITCHBOARD_RATE_LIMIT", value_name = "N", default_value_t = rate_limit::DEFAULT_PER_MINUTE,
          value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    pub rate_limit: i64,

    /// An origin whose pages may call this server from a browser; may be given several times
    #[arg(long = "cors-origin", env = "SWITCHBOARD_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = url)]
    pub cors_origins: Vec<String>,

    /// Clients come through a proxy that adds their address to X-Forwarded-For: the last one there is written into audit events
    #[arg(long, env = "SWITCHBOARD_BEHIND_PROXY", value_parser = BoolishValueParser::new())]
    pub behind_proxy: bool,

    /// Threads that serve requests; by default one a core
    #[arg(long, env = "SWITCHBOARD_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// Connections that may be open at one time
    #[arg(long, env = "SWITCHBOARD_MAX_CONNECTIONS", value_name = "N", default_value_t = 25_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Turns that are answered at one time
    #[arg(long, env = "SWITCHBOARD_TURN_CONCURRENCY", value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub turn_concurrency: u16,

    /// Who writes the answers
    #[command(flatten)]
    pub model: Model,

    /// Who signs in
    #[command(flatten)]
    pub entra: Entra,

    /// Seconds that running requests and answers have to end in, at a shutdown
    #[arg(long, env = "SWITCHBOARD_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub drain_seconds: u64,

    /// Serve /metrics for Prometheus where everything else is served, to whoever asks
    #[arg(long, env = "SWITCHBOARD_METRICS", value_parser = BoolishValueParser::new())]
    pub metrics: bool,

    /// Serve /metrics on an address of its own
    #[arg(long, env = "SWITCHBOARD_METRICS_LISTEN", value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,
}

impl ServerFlags {
    /// The configuration of a server with these flags.
    pub fn config(&self) -> ServerConfig {
        ServerConfig {
            public_url: self.public_url.clone(),
            rate_limit: self.rate_limit,
            cors_origins: self.cors_origins.clone(),
            behind_proxy: self.behind_proxy,
            workers: self.workers,
            max_connections: self.max_connections,
            turn_concurrency: self.turn_concurrency,
            drain_seconds: self.drain_seconds,
            metrics: self.metrics,
            entra_sign_in: self.entra.sign_in(),
            timeouts: ClientTimeouts::default(),
        }
    }
}

/// An http or https URL, without a slash at its end.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => {
            Ok(text.to_owned())
        }
        Some(_) | None => {
            Err("must be an http or https URL, such as https://chat.example.com".to_owned())
        }
    }
}

/// The model that writes the answers; without one the built-in responder does.
#[derive(Args, Clone, Debug)]
pub struct Model {
    /// The base URL of an OpenAI-compatible server, such as http://127.0.0.1:11434/v1; its key comes in SWITCHBOARD_MODEL_API_KEY
    #[arg(long, env = "SWITCHBOARD_MODEL_URL", value_name = "URL", value_parser = url, requires = "model_fast", requires = "model_smart")]
    pub model_url: Option<String>,

    /// The model for FAST turns
    #[arg(long, env = "SWITCHBOARD_MODEL_FAST", value_name = "NAME")]
    pub model_fast: Option<String>,

    /// The model for SMART turns
    #[arg(long, env = "SWITCHBOARD_MODEL_SMART", value_name = "NAME")]
    pub model_smart: Option<String>,

    /// Seconds for connecting, for the first byte, and of silence
    #[arg(long, env = "SWITCHBOARD_MODEL_TIMEOUT", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub model_timeout: u64,

    /// Tokens that the instructions, the articles and the history may take together
    #[arg(long, env = "SWITCHBOARD_MODEL_CONTEXT_TOKENS", value_name = "N", default_value_t = 8_192,
          value_parser = clap::value_parser!(u32).range(256..=10_000_000))]
    pub model_context_tokens: u32,
}

/// Sign-in by Microsoft Entra ID; off unless there is an audience.
#[derive(Args, Clone, Debug)]
pub struct Entra {
    /// An audience of Entra ID access tokens that are for this server, such as api://switchboard; may be given several times
    #[arg(long = "entra-audience", env = "SWITCHBOARD_ENTRA_AUDIENCE", value_name = "AUDIENCE", value_delimiter = ',', value_parser = word)]
    pub entra_audiences: Vec<String>,

    /// The authority that issues them
    #[arg(long, env = "SWITCHBOARD_ENTRA_AUTHORITY", value_name = "URL", default_value = entra::PUBLIC_AUTHORITY, value_parser = authority)]
    pub entra_authority: String,

    /// A file with the authority's keys (a JSON Web Key Set), for a server that cannot reach it; read again when it changes
    #[arg(
        long,
        env = "SWITCHBOARD_ENTRA_KEYS",
        value_name = "FILE",
        requires = "entra_audiences"
    )]
    pub entra_keys: Option<PathBuf>,

    /// The application that the dashboard signs people in as
    #[arg(long, env = "SWITCHBOARD_ENTRA_CLIENT_ID", value_name = "ID", requires = "entra_audiences", value_parser = word)]
    pub entra_client_id: Option<String>,

    /// A scope that the dashboard asks for; may be given several times [default: <first audience>/.default]
    #[arg(long = "entra-scope", env = "SWITCHBOARD_ENTRA_SCOPE", value_name = "SCOPE", value_delimiter = ',', requires = "entra_client_id", value_parser = word)]
    pub entra_scopes: Vec<String>,
}

fn word(text: &str) -> Result<String, String> {
    let fits =
        !text.is_empty() && text.len() <= 2_048 && text.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 2,048 visible characters without spaces".to_owned())
    }
}

fn authority(text: &str) -> Result<String, String> {
    entra::authority(text)?;
    Ok(text.trim().trim_end_matches('/').to_owned())
}

impl Entra {
    /// What to tell a browser, if it can sign people in.
    pub fn sign_in(&self) -> Option<EntraSignIn> {
        let (client_id, audience) = (
            self.entra_client_id.as_ref()?,
            self.entra_audiences.first()?,
        );
        let scopes = if !self.entra_scopes.is_empty() {
            self.entra_scopes.clone()
        } else if audience.contains("://") {
            vec![format!("{audience}/.default")]
        } else {
            // Tokens of version 2.0 carry the bare id of what is asked for by this name.
            vec![format!("api://{audience}/.default")]
        };
        Some(EntraSignIn {
            authority: self.entra_authority.clone(),
            client_id: client_id.clone(),
            scopes,
        })
    }

    /// What checks Entra's tokens, if they count.
    ///
    /// # Errors
    /// A sentence that says which setting is wrong.
    pub fn verifier(&self) -> Result<Option<entra::Entra>, String> {
        if self.entra_audiences.is_empty() {
            return Ok(None);
        }
        entra::Entra::new(&entra::Settings {
            audiences: self.entra_audiences.clone(),
            authority: self.entra_authority.clone(),
            keys: self.entra_keys.clone(),
        })
        .map(Some)
    }
}

/// The variable that holds the model's key; no flag, since flags show in process lists.
const MODEL_API_KEY: &str = "SWITCHBOARD_MODEL_API_KEY";

impl Model {
    /// The client of the configured model, if there is one.
    ///
    /// # Errors
    /// A sentence that says which setting is wrong.
    pub fn client(&self) -> Result<Option<openai::Client>, String> {
        let (Some(url), Some(fast), Some(smart)) =
            (&self.model_url, &self.model_fast, &self.model_smart)
        else {
            return Ok(None);
        };
        let mut settings = openai::Settings::new(url, fast, smart);
        settings.api_key = std::env::var(MODEL_API_KEY).ok();
        settings.timeout = Duration::from_secs(self.model_timeout);
        settings.context_tokens = self.model_context_tokens as usize;
        openai::Client::new(settings).map(Some)
    }
}
