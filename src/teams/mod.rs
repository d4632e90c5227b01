//! Microsoft Teams without a relay: bots whose messages Teams sends to this server itself.

pub mod activity;
pub mod bots;
pub mod compose;
pub mod connector;
pub mod deliver;
pub mod files;
pub mod hosts;
mod keys;
pub mod login;
pub mod markdown;
pub mod receive;
pub mod routing;
pub mod split;
pub mod text_in;
pub mod token;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;

use self::bots::{Bots, BotsFile};
use self::connector::Connector;
use self::deliver::Deliverer;
use self::files::Files;
use self::token::Verifier;
use crate::metrics::Counter;
use crate::model::clock::Millis;
use crate::store::Store;
use crate::turns::engine::Engine;
use crate::turns::signals::Signals;

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

/// The Teams bots of a server.
#[derive(Debug)]
pub struct Teams {
    /// The settings.
    pub settings: Settings,
    /// The file of the bots, if one is given.
    pub bots_file: Option<Arc<BotsFile>>,
    /// Verifies the tokens of activities.
    pub verifier: Verifier,
    /// Wakes the worker that sends deliveries.
    pub deliveries: Arc<Notify>,
    /// Counts the activities.
    pub activities: ActivityCounters,
}

impl Teams {
    /// Reads the file of the bots. Nothing is fetched yet.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let bots_file = settings.bots.as_deref().map(BotsFile::open).transpose()?;
        Ok(Self {
            bots_file: bots_file.map(Arc::new),
            verifier: Verifier::new(&settings)?,
            settings,
            deliveries: Arc::default(),
            activities: ActivityCounters::default(),
        })
    }

    /// The worker that sends what the bots say. None if there is no bot.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn deliverer(
        &self,
        store: &Store,
        engine: &Engine,
        signals: &Signals,
    ) -> Result<Option<Deliverer>, String> {
        if self.bots_file.is_none() && !self.settings.anonymous {
            return Ok(None);
        }
        let settings = self.settings.clone();
        let connector = Connector::new(settings, self.bots_file.clone(), store.clock().clone())?;
        let (connector, wake) = (Arc::new(connector), Arc::clone(&self.deliveries));
        let files = Files::new(Arc::clone(&connector), store.clone(), wake);
        engine.prepare_with(Arc::new(files));
        let deliverer = Deliverer::new(
            store.clone(),
            engine.clone(),
            signals.clone(),
            connector,
            Arc::clone(&self.deliveries),
        );
        deliverer.map(Some).map_err(|error| error.to_string())
    }

    /// The bots now.
    pub fn bots(&self, now: Millis) -> Arc<Bots> {
        match &self.bots_file {
            Some(file) => file.bots(now),
            None => Arc::default(),
        }
    }

    /// Starts to load the keys of the Bot Framework, so that the first activity need not wait.
    pub fn prepare(&self, now: Millis) {
        if self.bots_file.is_some() {
            self.verifier.prepare(now);
        }
    }
}

/// What became of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It changed something.
    Accepted,
    /// It was delivered before, and changed nothing.
    Repeated,
    /// The person was told why it is not answered.
    Refused,
    /// It asks for nothing.
    Ignored,
    /// Its token, or the activity itself, is not valid.
    Rejected,
}

impl Handled {
    /// All, in the order of the metrics.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Repeated,
        Self::Refused,
        Self::Ignored,
        Self::Rejected,
    ];

    /// The label in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
        }
    }
}

/// Counts the activities by what became of them.
#[derive(Debug, Default)]
pub struct ActivityCounters([Counter; Handled::ALL.len()]);

impl ActivityCounters {
    /// Counts an activity.
    pub fn count(&self, handled: Handled) {
        self.0[handled as usize].add(1);
    }

    /// The count.
    pub fn get(&self, handled: Handled) -> u64 {
        self.0[handled as usize].get()
    }
}
