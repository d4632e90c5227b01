//! The file of `--teams-bots`: the bots of this server and their credentials, read again when it
//! changes.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Deserialize;

use crate::model::clock::Millis;
use crate::model::names::{BotId, M365TenantId};

/// The longest file that is accepted, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The least time between two checks for a change, in milliseconds.
const CHECK_INTERVAL: Millis = 1_000;
/// The permission of a file that lets everybody read it.
const OTHERS_READ: u32 = 0o004;

/// Where a bot's tokens come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AppType {
    /// From the bot's own directory.
    SingleTenant,
    /// From the directory of the Bot Framework.
    MultiTenant,
}

/// A secret, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret, such as a token.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A bot of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bot {
    /// The id of its application.
    pub id: BotId,
    /// The directory in which the application is registered.
    pub directory: Option<M365TenantId>,
    /// Where its tokens come from.
    pub app_type: AppType,
    /// The secret of the application.
    pub secret: Secret,
}

/// The bots of one reading of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bots {
    bots: Vec<Bot>,
    /// The ids as the file spells them.
    spellings: Vec<String>,
}

impl Bots {
    /// The bot with this id.
    pub fn get(&self, id: &BotId) -> Option<&Bot> {
        self.bots.iter().find(|bot| bot.id == *id)
    }

    /// The bot that a token's audience names: exactly, as the file or in lower case.
    pub fn audience(&self, audience: &str) -> Option<&Bot> {
        let mut bots = self.bots.iter().zip(&self.spellings);
        let named =
            bots.find(|(bot, spelling)| bot.id.as_str() == audience || *spelling == audience);
        named.map(|(bot, _)| bot)
    }

    /// All bots, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Bot> {
        self.bots.iter()
    }
}

/// The state of a file, compared to detect a change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    modified_at: Option<SystemTime>,
    bytes: u64,
    mode: u32,
}

#[derive(Debug)]
struct State {
    fingerprints: Vec<Option<Fingerprint>>,
    /// The files of secrets that the bots name.
    secret_files: Vec<PathBuf>,
    /// The time of the last check for a change.
    checked_at: Option<Millis>,
    bots: Arc<Bots>,
}

/// The file of the bots.
#[derive(Debug)]
pub struct BotsFile {
    path: PathBuf,
    state: Mutex<State>,
}

impl BotsFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// A sentence for the operator, which shows no secret.
    pub fn open(path: &Path) -> Result<Self, String> {
        let (bots, secret_files) = load(path)?;
        Ok(Self {
            path: path.to_owned(),
            state: Mutex::new(State {
                fingerprints: fingerprints(path, &secret_files),
                secret_files,
                checked_at: None,
                bots: Arc::new(bots),
            }),
        })
    }

    /// The bots, up to one second older than the files. If a file becomes unusable, the previous
    /// bots stay.
    pub fn bots(&self, now: Millis) -> Arc<Bots> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not delay the check.
        let is_recent = |checked_at| now >= checked_at && now - checked_at < CHECK_INTERVAL;
        if state.checked_at.is_some_and(is_recent) {
            return Arc::clone(&state.bots);
        }
        state.checked_at = Some(now);
        let found = fingerprints(&self.path, &state.secret_files);
        if found != state.fingerprints {
            // Stored before the reading, so that a broken file is read and logged only once.
            state.fingerprints = found;
            match load(&self.path) {
                Ok((bots, secret_files)) => {
                    log::info!("teams: read {} again", self.path.display());
                    state.fingerprints = fingerprints(&self.path, &secret_files);
                    state.secret_files = secret_files;
                    state.bots = Arc::new(bots);
                }
                Err(cause) => log::warn!("teams: {cause}; the previous bots stay in use"),
            }
        }
        Arc::clone(&state.bots)
    }
}

fn fingerprints(path: &Path, secret_files: &[PathBuf]) -> Vec<Option<Fingerprint>> {
    let files = std::iter::once(path).chain(secret_files.iter().map(PathBuf::as_path));
    let of = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some(Fingerprint {
            modified_at: metadata.modified().ok(),
            bytes: metadata.len(),
            mode: metadata.permissions().mode(),
        })
    };
    files.map(of).collect()
}

/// A bot as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBot {
    bot_id: String,
    tenant_id: Option<String>,
    client_secret: Option<String>,
    client_secret_file: Option<PathBuf>,
    app_type: Option<AppType>,
}

/// Reads the bots, and the names of the files that hold secrets.
fn load(path: &Path) -> Result<(Bots, Vec<PathBuf>), String> {
    let failed = |cause: &str| format!("cannot use --teams-bots {}: {cause}", path.display());
    let metadata = fs::metadata(path).map_err(|error| failed(&error.to_string()))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(failed("it must be a file of up to 1 MiB"));
    }
    if metadata.permissions().mode() & OTHERS_READ != 0 {
        return Err(failed(
            "others can read it, and it holds secrets; run chmod 600 on it",
        ));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(&error.to_string()))?;
    let raw: Vec<RawBot> = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| failed(&not_bots(&error)))?;
    let (mut bots, mut spellings, mut files) = (Vec::<Bot>::new(), Vec::new(), Vec::new());
    for (index, raw) in raw.into_iter().enumerate() {
        let number = index + 1;
        let failed = |cause: &str| failed(&format!("bot {number} {cause}"));
        spellings.push(raw.bot_id.trim().to_owned());
        let bot = bot(raw, path, &mut files).map_err(|cause| failed(&cause))?;
        if bots.iter().any(|other| other.id == bot.id) {
            return Err(failed("has the bot_id of another one"));
        }
        bots.push(bot);
    }
    Ok((Bots { bots, spellings }, files))
}

/// What is wrong with the JSON, without a value of it, which may be a secret.
fn not_bots(error: &serde_json::Error) -> String {
    let form = "[{\"bot_id\": \"…\", \"tenant_id\": \"…\", \"client_secret\": \"…\", \"app_type\": \"SingleTenant\"}]";
    let text = error.to_string();
    let field = ["unknown field", "missing field"]
        .iter()
        .find(|phrase| text.starts_with(**phrase))
        .and_then(|_| text.split(',').next())
        .and_then(|phrase| phrase.split(" at line").next());
    let field = field.map_or_else(String::new, |field| format!("{field}, "));
    format!(
        "line {} is not as expected ({field}the form is {form})",
        error.line()
    )
}

fn bot(raw: RawBot, list: &Path, files: &mut Vec<PathBuf>) -> Result<Bot, String> {
    let id = BotId::parse(raw.bot_id.trim()).ok_or(
        "has a bot_id that is no application id, such as 11111111-2222-3333-4444-555555555555",
    )?;
    let directory = raw.tenant_id.map(|text| {
        let directory = M365TenantId::parse(text.trim());
        directory.ok_or("has a tenant_id that is no directory id")
    });
    let directory = directory.transpose()?;
    let app_type = raw.app_type.unwrap_or(AppType::SingleTenant);
    if app_type == AppType::SingleTenant && directory.is_none() {
        return Err("needs a tenant_id: its own directory issues its tokens".to_owned());
    }
    let secret = match (raw.client_secret, raw.client_secret_file) {
        (Some(secret), None) => secret,
        (None, Some(file)) => {
            // A relative path is meant beside the list.
            let file = list.parent().unwrap_or(Path::new("")).join(file);
            let secret = fs::read_to_string(&file)
                .map_err(|error| format!("has a client_secret_file that cannot be read: {error}"));
            files.push(file);
            secret?
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err("needs a client_secret or a client_secret_file, not both".to_owned());
        }
    };
    let secret = secret.trim_start_matches('\u{feff}').trim();
    if secret.is_empty() {
        return Err("has an empty client secret".to_owned());
    }
    Ok(Bot {
        id,
        directory,
        app_type,
        secret: Secret(secret.to_owned()),
    })
}
