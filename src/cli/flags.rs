//! The flags that commands share, each with its environment variable (contract, section 12).
//!
//! The doc comments of the fields are the help texts.

mod teams;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

pub use self::teams::Teams;
use super::listen::ListenAddress;
use crate::auth::{entra, rate_limit};
use crate::config::{ClientTimeouts, EntraSignIn, ServerConfig};
use crate::model::api_key;
use crate::model::directory::DirectoryRule;
use crate::store::postgres::{CONNECTIONS, MIN_CONNECTIONS};
use crate::turns::openai;
use crate::turns::reasoning::Marks;

/// Which ids people may give to Microsoft directories.
#[derive(Args, Clone, Copy, Debug)]
pub struct Directories {
    /// Also accept names as ids of Microsoft directories and of users that are added: 1 to 64
    /// characters of A-Z, a-z, 0-9, '.', '_' and '-'; for tests only, because real ids are GUIDs
    #[arg(long, global = true, env = "SWITCHBOARD_ANY_TENANT_ID", value_parser = switch)]
    pub any_tenant_id: bool,
}

impl Directories {
    /// The rule that the flag selects.
    pub fn rule(self) -> DirectoryRule {
        if self.any_tenant_id {
            DirectoryRule::AnyId
        } else {
            DirectoryRule::Guid
        }
    }
}

/// The flags of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The data folder; serve, demo, import, restore and tenants create make it and its parents if
    /// they do not exist [default: ./switchboard-data; demo: ./switchboard-demo]
    #[arg(long, global = true, env = "SWITCHBOARD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// A database on a PostgreSQL server (15 or later), instead of the data folder:
    /// postgres://USER@HOST/DATABASE. A process list shows flags, so give a password in the variable
    /// or the file
    #[arg(
        long,
        global = true,
        env = "SWITCHBOARD_DATABASE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database: Option<String>,

    /// A file with the URL of --database
    #[arg(
        long,
        global = true,
        env = "SWITCHBOARD_DATABASE_FILE",
        value_name = "FILE"
    )]
    pub database_file: Option<PathBuf>,

    /// The most connections to the PostgreSQL server
    #[arg(
        long,
        global = true,
        env = "SWITCHBOARD_DATABASE_CONNECTIONS",
        value_name = "N",
        default_value_t = CONNECTIONS,
        value_parser = connections
    )]
    pub database_connections: usize,

    /// The environment's name, which is part of every API key: a key works in its own environment
    /// only [default: the one that the data folder remembers; dev in a new folder]
    #[arg(long = "env", global = true, env = "SWITCHBOARD_ENV", value_name = "NAME", value_parser = environment)]
    pub environment: Option<String>,

    /// The format of the log on stderr, text or json; the variable RUST_LOG selects its lines
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

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain text, for people.
    Text,
    /// A JSON object per line, for programs.
    Json,
}

/// Parses the address of a node.
fn node_address(text: &str) -> Result<String, String> {
    let is_valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match is_valid {
        true => Ok(text.to_owned()),
        false => Err("must be a host and a port, such as node-1:8080".to_owned()),
    }
}

/// Parses the number of connections to the database.
fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (MIN_CONNECTIONS..=1_000).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("must be a number from {MIN_CONNECTIONS} to 1000")),
    }
}

/// The environment of a folder that remembers none.
pub const DEFAULT_ENVIRONMENT: &str = "dev";

/// The variables that have no flag, because process lists show flags.
pub const WITHOUT_FLAG: [&str; 1] = [MODEL_API_KEY];

/// Parses the value of a switch, such as that of its variable.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "y" | "t" => Ok(true),
        "0" | "false" | "no" | "off" | "n" | "f" => Ok(false),
        _ => Err("must be 1, true, yes or on, or 0, false, no or off".to_owned()),
    }
}

/// Parses the name of an environment.
pub(super) fn environment(text: &str) -> Result<String, String> {
    if api_key::is_environment(text) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 16 characters of a-z and 0-9".to_owned())
    }
}

/// The flags of `serve`.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// Where to listen: a port of this machine (8080, :8080 or localhost:8080), an address and port
    /// ([::1]:8080 or 0.0.0.0:8080), or a socket file (unix:/run/switchboard.sock); a socket that
    /// systemd hands over comes first
    #[arg(
        long,
        env = "SWITCHBOARD_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: ListenAddress,

    /// The flags that `serve` shares with `demo`
    #[command(flatten)]
    pub server: ServerFlags,
}

/// The flags of a server, except the address that it listens on.
#[derive(Args, Clone, Debug)]
pub struct ServerFlags {
    /// A file with the 32 bytes that sign session tokens, sign-ins and links of files, instead of
    /// the secret in the data folder or in the database; nodes of one database need the same
    #[arg(long, env = "SWITCHBOARD_SIGNING_SECRET_FILE", value_name = "FILE")]
    pub signing_secret_file: Option<PathBuf>,

    /// The host and port at which the other nodes of a PostgreSQL database reach this one
    /// [default: the address of --listen; the machine's name if that is every address]
    #[arg(long, env = "SWITCHBOARD_NODE_ADDRESS", value_name = "HOST:PORT", value_parser = node_address)]
    pub node_address: Option<String>,

    /// The base URL at which clients reach the server, for links in replies [default: http:// and
    /// the Host header of the request, if it names this machine; else links are paths]
    #[arg(long, env = "SWITCHBOARD_PUBLIC_URL", value_name = "URL", value_parser = url)]
    pub public_url: Option<String>,

    /// Requests per minute for each tenant without a limit of its own; 0 means no limit
    #[arg(long, env = "SWITCHBOARD_RATE_LIMIT", value_name = "N", default_value_t = rate_limit::DEFAULT_PER_MINUTE,
          value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    pub rate_limit: i64,

    /// Requests per minute for each platform account, for all tenants together; 0 means no limit
    /// [default: 60000; no limit with --rate-limit 0]
    #[arg(long, env = "SWITCHBOARD_PLATFORM_RATE_LIMIT", value_name = "N", value_parser = clap::value_parser!(i64).range(0..=10_000_000))]
    pub platform_rate_limit: Option<i64>,

    /// An origin whose pages may call the server from a browser; separate several with commas or
    /// repeat the flag [default: none]
    #[arg(long = "cors-origin", env = "SWITCHBOARD_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = url)]
    pub cors_origins: Vec<String>,

    /// Take the client's address in audit events from the last entry of X-Forwarded-For, and the
    /// address in links from X-Forwarded-Host and X-Forwarded-Proto; set this only behind a proxy
    /// that adds the entry and sets the other two
    #[arg(long, env = "SWITCHBOARD_BEHIND_PROXY", value_parser = switch)]
    pub behind_proxy: bool,

    /// Number of threads that serve requests [default: one per core]
    #[arg(long, env = "SWITCHBOARD_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// Maximum number of open connections
    #[arg(long, env = "SWITCHBOARD_MAX_CONNECTIONS", value_name = "N", default_value_t = 25_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Maximum number of turns that are answered at the same time
    #[arg(long, env = "SWITCHBOARD_TURN_CONCURRENCY", value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub turn_concurrency: u16,

    /// The model that writes the answers
    #[command(flatten)]
    pub model: Model,

    /// Sign-in with Microsoft Entra ID
    #[command(flatten)]
    pub entra: Entra,

    /// Teams bots without a relay
    #[command(flatten)]
    pub teams: Teams,

    /// Which ids people may give to Microsoft directories
    #[command(flatten)]
    pub directories: Directories,

    /// Seconds that running requests and answers have to finish at a shutdown
    #[arg(long, env = "SWITCHBOARD_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub drain_seconds: u64,

    /// Serve /metrics for Prometheus on the address of --listen, without authentication
    #[arg(long, env = "SWITCHBOARD_METRICS", value_parser = switch)]
    pub metrics: bool,

    /// Serve /metrics for Prometheus on this separate address, in a form of --listen, without
    /// authentication [default: none]
    #[arg(long, env = "SWITCHBOARD_METRICS_LISTEN", value_name = "ADDR")]
    pub metrics_listen: Option<ListenAddress>,
}

impl ServerFlags {
    /// Makes the configuration of a server with these flags.
    pub fn config(&self) -> ServerConfig {
        let platform_rate_limit = match self.rate_limit {
            0 => 0,
            _ => rate_limit::DEFAULT_PLATFORM_PER_MINUTE,
        };
        ServerConfig {
            public_url: self.public_url.clone(),
            host_names: host_name().into_iter().collect(),
            rate_limit: self.rate_limit,
            platform_rate_limit: self.platform_rate_limit.unwrap_or(platform_rate_limit),
            cors_origins: self.cors_origins.clone(),
            behind_proxy: self.behind_proxy,
            workers: self.workers,
            max_connections: self.max_connections,
            turn_concurrency: self.turn_concurrency,
            drain_seconds: self.drain_seconds,
            metrics: self.metrics,
            entra_sign_in: self.entra.sign_in(),
            directories: self.directories.rule(),
            teams: self.teams.settings(),
            timeouts: ClientTimeouts::default(),
        }
    }
}

/// The name of this machine, if the system tells it.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Parses an http or https URL, and removes slashes at its end.
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

/// The flags of the model that writes the answers. Without a model, the built-in responder writes
/// them.
#[derive(Args, Clone, Debug)]
pub struct Model {
    /// The base URL of an OpenAI-compatible server that writes the answers, such as
    /// http://127.0.0.1:11434/v1, or Azure's address of a deployment with its api-version; the
    /// variable SWITCHBOARD_MODEL_API_KEY holds its key [default: none, answers quote knowledge
    /// articles]
    #[arg(long, env = "SWITCHBOARD_MODEL_URL", value_name = "URL", value_parser = url, requires = "model_fast", requires = "model_smart")]
    pub model_url: Option<String>,

    /// The name of the model for FAST turns; required with --model-url
    #[arg(long, env = "SWITCHBOARD_MODEL_FAST", value_name = "NAME")]
    pub model_fast: Option<String>,

    /// The name of the model for SMART turns; required with --model-url
    #[arg(long, env = "SWITCHBOARD_MODEL_SMART", value_name = "NAME")]
    pub model_smart: Option<String>,

    /// A file with the key of the model's server, instead of SWITCHBOARD_MODEL_API_KEY; read at the
    /// start [default: none]
    #[arg(long, env = "SWITCHBOARD_MODEL_API_KEY_FILE", value_name = "FILE")]
    pub model_api_key_file: Option<OsString>,

    /// Seconds to wait for the model's server to connect, and for more of an answer that has begun
    /// [default: 30]
    #[arg(long, env = "SWITCHBOARD_MODEL_TIMEOUT", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub model_timeout: Option<u64>,

    /// Seconds to wait for the first piece of an answer, since a server may have to load its model;
    /// keep-alives of the server make it up to four times as long [default: 120, or the model timeout
    /// if only that is given]
    #[arg(long, env = "SWITCHBOARD_MODEL_FIRST_BYTE_TIMEOUT", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub model_first_byte_timeout: Option<u64>,

    /// Maximum number of tokens in a request to the model: instructions, articles and history
    #[arg(long, env = "SWITCHBOARD_MODEL_CONTEXT_TOKENS", value_name = "N", default_value_t = 8_192,
          value_parser = clap::value_parser!(u32).range(256..=10_000_000))]
    pub model_context_tokens: u32,

    /// How the models mark their thoughts: unopened (each answer begins within a thought), tagged
    /// (between <think> and </think>) or none (tags are text) [default: tagged, and unopened for a
    /// model after it ends a thought that has no beginning]
    #[arg(
        long,
        env = "SWITCHBOARD_MODEL_REASONING",
        value_name = "HOW",
        hide_possible_values = true
    )]
    pub model_reasoning: Option<ModelReasoning>,
}

/// How the models mark their thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModelReasoning {
    /// Each answer begins within a thought.
    Unopened,
    /// With tags before and after them.
    Tagged,
    /// Not at all.
    None,
}

impl ModelReasoning {
    fn marks(self) -> Marks {
        match self {
            Self::Unopened => Marks::Unopened,
            Self::Tagged => Marks::Tagged,
            Self::None => Marks::None,
        }
    }
}

/// The flags of the sign-in with Microsoft Entra ID, which is off without an audience.
#[derive(Args, Clone, Debug)]
pub struct Entra {
    /// The audience of the Entra ID access tokens to accept, such as api://switchboard; separate
    /// several with commas or repeat the flag [default: none, Entra ID sign-in is off]
    #[arg(long = "entra-audience", env = "SWITCHBOARD_ENTRA_AUDIENCE", value_name = "AUDIENCE", value_delimiter = ',', value_parser = word)]
    pub entra_audiences: Vec<String>,

    /// The URL of the authority that issues the Entra ID access tokens
    #[arg(long, env = "SWITCHBOARD_ENTRA_AUTHORITY", value_name = "URL", default_value = entra::PUBLIC_AUTHORITY, value_parser = authority)]
    pub entra_authority: String,

    /// What happens to members of a directory at their first sign-in: user lets them in with the
    /// role USER, none lets in only those who were added or have an app role; guests always need
    /// one of the two
    #[arg(
        long,
        env = "SWITCHBOARD_ENTRA_FIRST_SIGHT",
        value_name = "user|none",
        hide_possible_values = true,
        default_value = "user"
    )]
    pub entra_first_sight: entra::FirstSight,

    /// How far the clocks of the authority and of this server may differ, in seconds: a token is
    /// accepted so long before its beginning and after its end
    #[arg(long, env = "SWITCHBOARD_ENTRA_LEEWAY", value_name = "SECONDS", default_value_t = entra::LEEWAY_S,
          value_parser = clap::value_parser!(i64).range(0..=entra::MAX_LEEWAY_S))]
    pub entra_leeway: i64,

    /// A file with the authority's keys (JSON Web Key Set), read again when it changes; for a
    /// server that cannot reach the authority [default: fetch the keys]
    #[arg(
        long,
        env = "SWITCHBOARD_ENTRA_KEYS",
        value_name = "FILE",
        requires = "entra_audiences"
    )]
    pub entra_keys: Option<PathBuf>,

    /// The id of the application with which the dashboard signs users in [default: none, the
    /// dashboard offers no Entra ID sign-in]
    #[arg(long, env = "SWITCHBOARD_ENTRA_CLIENT_ID", value_name = "ID", requires = "entra_audiences", value_parser = word)]
    pub entra_client_id: Option<String>,

    /// The scope that the dashboard requests; separate several with commas or repeat the flag
    /// [default: <first audience>/.default]
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
    /// Returns the settings with which a browser signs users in, if there are any.
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
            // The audience in tokens of version 2.0 is the application's bare id. A request names
            // the application by this URI.
            vec![format!("api://{audience}/.default")]
        };
        Some(EntraSignIn {
            authority: self.entra_authority.clone(),
            client_id: client_id.clone(),
            scopes,
        })
    }

    /// Makes the verifier of Entra ID tokens, if the sign-in is on.
    ///
    /// # Errors
    /// A sentence that names the invalid setting.
    pub fn verifier(&self) -> Result<Option<entra::Entra>, String> {
        if self.entra_audiences.is_empty() {
            return Ok(None);
        }
        entra::Entra::new(&entra::Settings {
            audiences: self.entra_audiences.clone(),
            authority: self.entra_authority.clone(),
            keys: self.entra_keys.clone(),
            leeway_s: self.entra_leeway,
            first_sight: self.entra_first_sight,
        })
        .map(Some)
    }
}

/// The variable that holds the model's API key. There is no flag, because process lists show flags.
const MODEL_API_KEY: &str = "SWITCHBOARD_MODEL_API_KEY";

impl Model {
    /// Makes the client of the configured model, if there is one.
    ///
    /// # Errors
    /// A sentence that names the invalid setting.
    pub fn client(&self) -> Result<Option<openai::Client>, String> {
        let api_key = self.api_key()?;
        let (Some(url), Some(fast), Some(smart)) =
            (&self.model_url, &self.model_fast, &self.model_smart)
        else {
            return Ok(None);
        };
        let mut settings = openai::Settings::new(url, fast, smart);
        settings.api_key = api_key;
        if let Some(seconds) = self.model_timeout {
            settings.timeout = Duration::from_secs(seconds);
        }
        if let Some(seconds) = self.model_first_byte_timeout.or(self.model_timeout) {
            settings.first_byte_timeout = Duration::from_secs(seconds);
        }
        settings.context_tokens = self.model_context_tokens as usize;
        settings.marks = self.model_reasoning.map(ModelReasoning::marks);
        openai::Client::new(settings).map(Some)
    }

    /// The key of the model's server, if there is one.
    fn api_key(&self) -> Result<Option<String>, String> {
        let key = std::env::var(MODEL_API_KEY).ok();
        let key = key.filter(|key| !key.trim().is_empty());
        let file = self.model_api_key_file.as_ref();
        let Some(file) = file.filter(|file| !file.is_empty()).map(Path::new) else {
            return Ok(key);
        };
        if key.is_some() {
            return Err(format!(
                "{MODEL_API_KEY} and {MODEL_API_KEY}_FILE are both given: leave one of them out"
            ));
        }
        let text = std::fs::read_to_string(file).map_err(|error| {
            format!(
                // The value may be the key itself, given by mistake.
                "{MODEL_API_KEY}_FILE: its file cannot be read: {error}; give the path of a file with the key"
            )
        })?;
        let key = text.trim_start_matches('\u{feff}').trim();
        if key.is_empty() {
            return Err(format!(
                "{MODEL_API_KEY}_FILE: the file {} is empty: write the key into it",
                file.display()
            ));
        }
        Ok(Some(key.to_owned()))
    }
}
