//! The flags of the Teams bots.

use std::path::PathBuf;

use clap::Args;

use super::{authority, switch, word};
use crate::teams::{self, FILE_HOSTS, SERVICE_HOSTS, Settings};

/// The flags of the bots that Teams calls without a relay.
#[derive(Args, Clone, Debug)]
pub struct Teams {
    /// A JSON file with the bots that Teams sends to POST /api/messages, and their secrets; refused
    /// if others can read it, read again when it changes [default: none, no bot]
    #[arg(long, env = "SWITCHBOARD_TEAMS_BOTS", value_name = "FILE")]
    pub teams_bots: Option<PathBuf>,

    /// The OpenID document of the Bot Framework, which leads to the keys of its tokens
    #[arg(long, env = "SWITCHBOARD_TEAMS_OPENID_URL", value_name = "URL", default_value = teams::OPENID_URL, value_parser = authority)]
    pub teams_openid_url: String,

    /// The issuer of the Bot Framework's tokens
    #[arg(long, env = "SWITCHBOARD_TEAMS_ISSUER", value_name = "ISSUER", default_value = teams::ISSUER, value_parser = word)]
    pub teams_issuer: String,

    /// Where bots get their own tokens
    #[arg(long, env = "SWITCHBOARD_TEAMS_LOGIN_URL", value_name = "URL", default_value = teams::LOGIN_URL, value_parser = authority)]
    pub teams_login_url: String,

    /// The scope of a bot's own token
    #[arg(long, env = "SWITCHBOARD_TEAMS_SCOPE", value_name = "SCOPE", default_value = teams::SCOPE, value_parser = word)]
    pub teams_scope: String,

    /// A host that activities may name as their service URL, to which replies and the bot's token
    /// go: a whole host name, https but for loopback; separate several with commas or repeat the
    /// flag
    #[arg(long = "teams-service-hosts", env = "SWITCHBOARD_TEAMS_SERVICE_HOSTS", value_name = "HOST", value_delimiter = ',',
          default_values_t = SERVICE_HOSTS.map(str::to_owned), value_parser = service_host)]
    pub teams_service_hosts: Vec<String>,

    /// A host that files of people are fetched from, without the bot's token; *. stands for any
    /// subdomain; separate several with commas or repeat the flag
    #[arg(long = "teams-file-hosts", env = "SWITCHBOARD_TEAMS_FILE_HOSTS", value_name = "HOST", value_delimiter = ',',
          default_values_t = FILE_HOSTS.map(str::to_owned), value_parser = file_host)]
    pub teams_file_hosts: Vec<String>,

    /// Accept activities without a token, for emulators; only while listening on a loopback address
    #[arg(long, env = "SWITCHBOARD_TEAMS_ANONYMOUS", value_parser = switch)]
    pub teams_anonymous: bool,
}

impl Teams {
    /// The settings of these flags.
    pub fn settings(&self) -> Settings {
        Settings {
            bots: self.teams_bots.clone(),
            openid_url: self.teams_openid_url.clone(),
            issuer: self.teams_issuer.clone(),
            login_url: self.teams_login_url.clone(),
            scope: self.teams_scope.clone(),
            service_hosts: self.teams_service_hosts.clone(),
            file_hosts: self.teams_file_hosts.clone(),
            anonymous: self.teams_anonymous,
        }
    }
}

/// Parses a whole host name or an address, without a scheme, a port or a path.
fn service_host(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    let is_host = reqwest::Url::parse(&format!("https://{text}/"))
        .is_ok_and(|url| url.host_str() == Some(text.as_str()));
    match is_host && !text.contains('*') {
        true => Ok(text),
        false => Err("must be a whole host name, such as smba.trafficmanager.net".to_owned()),
    }
}

/// As [`service_host`], and `*.` may stand for any subdomain.
fn file_host(text: &str) -> Result<String, String> {
    match text.trim().strip_prefix("*.") {
        None => service_host(text),
        Some(domain) if domain.contains('.') => {
            service_host(domain).map(|domain| format!("*.{domain}"))
        }
        Some(_) => Err(
            "must be a host name, such as contoso.sharepoint.com or *.sharepoint.com".to_owned(),
        ),
    }
}
