//! Microsoft Teams without a relay: bots whose messages Teams sends to this server itself.

pub mod bots;
pub mod compose;
pub mod connector;
pub mod hosts;
pub mod login;
pub mod markdown;
pub mod split;

use std::path::PathBuf;

/// The OpenID document of the public cloud's Bot Framework.
pub const OPENID_URL: &str = "https://login.botframework.com/v1/.well-known/openidconfiguration";
/// The issuer of the tokens that the Bot Framework sends to bots.
pub const ISSUER: &str = "https://api.botframework.com";
/// Where bots get their own tokens.
pub const LOGIN_URL: &str = "https://login.microsoftonline.com";
/// The scope of a bot's own token.
pub const SCOPE: &str = "https://api.botframework.com/.default";
/// The hosts of the connector: the public cloud, then GCC, GCC High and DoD.
pub const SERVICE_HOSTS: [&str; 4] = [
    "smba.trafficmanager.net",
    "smba.infra.gcc.teams.microsoft.com",
    "smba.infra.gov.teams.microsoft.us",
    "smba.infra.dod.teams.microsoft.us",
];
/// The hosts of files that people attach: SharePoint and OneDrive.
pub const FILE_HOSTS: [&str; 4] = [
    "*.sharepoint.com",
    "*.sharepoint.us",
    "*.sharepoint-mil.us",
    "onedrive.live.com",
];

/// The settings of the Teams bots.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file with the bots and their credentials.
    pub bots: Option<PathBuf>,
    /// The OpenID document that leads to the keys of tokens that come in.
    pub openid_url: String,
    /// The issuer of tokens that come in.
    pub issuer: String,
    /// The base URL at which bots get their own tokens.
    pub login_url: String,
    /// The scope of a bot's own token.
    pub scope: String,
    /// The hosts of service URLs, in lower case: whole names.
    pub service_hosts: Vec<String>,
    /// The hosts of files that people attach, in lower case; `*.` stands for one or more labels.
    pub file_hosts: Vec<String>,
    /// Whether activities need no token, for emulators.
    pub anonymous: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bots: None,
            openid_url: OPENID_URL.to_owned(),
            issuer: ISSUER.to_owned(),
            login_url: LOGIN_URL.to_owned(),
            scope: SCOPE.to_owned(),
            service_hosts: SERVICE_HOSTS.map(str::to_owned).to_vec(),
            file_hosts: FILE_HOSTS.map(str::to_owned).to_vec(),
            anonymous: false,
        }
    }
}
