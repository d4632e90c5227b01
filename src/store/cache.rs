//! What every request looks up and what rarely changes, kept beside the file and never older than the snapshot that is read.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;
use std::mem::size_of;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use super::keys::{self, Credential};
use super::sign_ins::{self, SignIn};
use super::sql::Reader;
use super::users::{self, SignsIn};
use super::{channels, installs};
use crate::error::Result;
use crate::model::ids::{ChannelId, TokenId};
use crate::model::names::{AgentId, BotId, ClientId, CompanyId, M365TenantId, TenantNo};
use crate::model::words::ManagedAgentKey;
use crate::resolver::{Agent, Channel, Directory, Linked, Tenant};

/// Bytes that the answers to one kind of question may take, about; a shelf that is full begins anew.
const TABLE_BYTES: usize = 4 * 1_024 * 1_024;
/// What an answer takes beside its own size: its key's text, and its place.
const OVERHEAD: usize = 200;

/// Answers of one server, each kind on a shelf of its own.
///
/// The file has a number that grows in the same transaction as any change of what is kept here, whoever makes it
/// (`configuration_version`, with a trigger for each table). A request reads it with its snapshot and takes only what was
/// answered under the same number. That something is unknown is not kept, but for what a usual question leads to: a bot that
/// is not installed for a directory, and a directory that no company carries.
#[derive(Debug, Default)]
pub struct Cache {
    keys: CacheTable<[u8; 32], Arc<Credential>>,
    sign_ins: CacheTable<TokenId, Arc<SignIn>>,
    people: CacheTable<(M365TenantId, String), Arc<SignsIn>>,
    tenants: CacheTable<ClientId, Tenant>,
    tenants_by_no: CacheTable<TenantNo, Tenant>,
    agents: CacheTable<(TenantNo, AgentId), Agent>,
    managed_agents: CacheTable<(TenantNo, ManagedAgentKey), Agent>,
    installed_channels: CacheTable<(BotId, M365TenantId), Option<Channel>>,
    active_channels: CacheTable<(TenantNo, BotId), Vec<Channel>>,
    channels: CacheTable<ChannelId, Channel>,
    installs: CacheTable<(ChannelId, M365TenantId), bool>,
    linked: CacheTable<(TenantNo, M365TenantId), Linked>,
}

impl Cache {
    /// What a directory says at a version of it, which is asked for what is not kept.
    pub fn at<'a, D>(&'a self, version: i64, directory: &'a D) -> Cached<'a, D> {
        Cached {
            cache: self,
            version,
            directory,
        }
    }
}

/// How long a look may lie behind that a request goes on from.
const MOMENT: Duration = Duration::from_millis(10);

/// The version that a request read with its first look, a moment ago.
///
/// What came after it came while the request was there already, which may as well have been served before.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotVersion {
    version: i64,
    at: Instant,
}

impl SnapshotVersion {
    pub(super) fn version(self) -> Option<i64> {
        (self.at.elapsed() < MOMENT).then_some(self.version)
    }
}

/// A file that is not looked into: what is not kept is not known.
pub(super) struct CacheOnly;

/// Something is not kept.
pub(super) struct CacheMiss;

const VERSION: &str = "SELECT version FROM configuration_version WHERE one = 1";

/// The number that grows with every change of what is kept.
pub(super) fn version(reader: &Reader<'_>) -> Result<i64> {
    reader.one(VERSION, (), |row| row.get("version"))
}

/// A directory with what is kept of it.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a, D> {
    cache: &'a Cache,
    version: i64,
    directory: &'a D,
}

impl<'a> Cached<'a, Reader<'a>> {
    /// What the rest of this request may go on from.
    pub fn snapshot_version(&self) -> SnapshotVersion {
        SnapshotVersion {
            version: self.version,
            at: Instant::now(),
        }
    }

    /// The snapshot itself, for what is not kept.
    pub fn reader(&self) -> &'a Reader<'a> {
        self.directory
    }

    /// As [`keys::by_sha256`], but for when it was last used.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn key(&self, sha256: &[u8; 32]) -> Result<Option<Arc<Credential>>> {
        self.cache.keys.known(self.version, *sha256, || {
            Ok(keys::by_sha256(self.directory, sha256)?.map(Arc::new))
        })
    }

    /// As [`sign_ins::by_jti`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sign_in(&self, jti: TokenId) -> Result<Option<Arc<SignIn>>> {
        self.cache.sign_ins.known(self.version, jti, || {
            Ok(sign_ins::by_jti(self.directory, jti)?.map(Arc::new))
        })
    }

    /// As [`users::who_signs_in`], but for when the person was last seen.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn who_signs_in(&self, directory: &M365TenantId, id: &str) -> Result<Option<Arc<SignsIn>>> {
        let key = (directory.clone(), id.to_owned());
        if let Some(kept) = self.cache.people.get(self.version, &key) {
            return Ok(Some(kept));
        }
        let found = users::who_signs_in(self.directory, directory, id)?.map(Arc::new);
        if let Some(found) = found.as_ref().filter(|found| found.user.is_some()) {
            self.cache.people.keep(self.version, key, found);
        }
        Ok(found)
    }

    /// As [`channels::facts_of`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn channel(&self, id: ChannelId) -> Result<Option<Channel>> {
        let ask = || channels::facts_of(self.directory, id);
        self.cache.channels.known(self.version, id, ask)
    }

    /// As [`installs::is_installed`], of a channel of this tenant.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_installed(
        &self,
        tenant: TenantNo,
        channel: ChannelId,
        directory: &M365TenantId,
    ) -> Result<bool> {
        let key = (channel, directory.clone());
        self.cache.installs.answer(self.version, key, || {
            installs::is_installed(self.directory, tenant, channel, directory)
        })
    }
}

impl<D: Directory> Directory for Cached<'_, D> {
    type Error = D::Error;

    fn tenant(&self, client_id: &ClientId) -> Result<Option<Tenant>, D::Error> {
        let ask = || self.directory.tenant(client_id);
        self.cache
            .tenants
            .known(self.version, client_id.clone(), ask)
    }

    fn tenant_by_no(&self, no: TenantNo) -> Result<Tenant, D::Error> {
        let ask = || self.directory.tenant_by_no(no);
        self.cache.tenants_by_no.answer(self.version, no, ask)
    }

    fn installed_channel(
        &self,
        bot: &BotId,
        inbound: &M365TenantId,
    ) -> Result<Option<Channel>, D::Error> {
        let key = (bot.clone(), inbound.clone());
        let ask = || self.directory.installed_channel(bot, inbound);
        self.cache.installed_channels.answer(self.version, key, ask)
    }

    fn active_channels(&self, tenant: TenantNo, bot: &BotId) -> Result<Vec<Channel>, D::Error> {
        let key = (tenant, bot.clone());
        let ask = || self.directory.active_channels(tenant, bot);
        self.cache.active_channels.answer(self.version, key, ask)
    }

    fn agent(&self, tenant: TenantNo, id: AgentId) -> Result<Option<Agent>, D::Error> {
        let ask = || self.directory.agent(tenant, id);
        self.cache.agents.known(self.version, (tenant, id), ask)
    }

    fn managed_agent(
        &self,
        tenant: TenantNo,
        key: ManagedAgentKey,
    ) -> Result<Option<Agent>, D::Error> {
        let ask = || self.directory.managed_agent(tenant, key);
        self.cache
            .managed_agents
            .known(self.version, (tenant, key), ask)
    }

    fn linked(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<Linked, D::Error> {
        let key = (tenant, inbound.clone());
        let ask = || self.directory.linked(tenant, inbound);
        self.cache.linked.answer(self.version, key, ask)
    }

    fn has_company(&self, tenant: TenantNo, company: &CompanyId) -> Result<bool, D::Error> {
        self.directory.has_company(tenant, company)
    }
}

impl Directory for CacheOnly {
    type Error = CacheMiss;

    fn tenant(&self, _: &ClientId) -> Result<Option<Tenant>, CacheMiss> {
        Err(CacheMiss)
    }

    fn tenant_by_no(&self, _: TenantNo) -> Result<Tenant, CacheMiss> {
        Err(CacheMiss)
    }

    fn installed_channel(&self, _: &BotId, _: &M365TenantId) -> Result<Option<Channel>, CacheMiss> {
        Err(CacheMiss)
    }

    fn active_channels(&self, _: TenantNo, _: &BotId) -> Result<Vec<Channel>, CacheMiss> {
        Err(CacheMiss)
    }

    fn agent(&self, _: TenantNo, _: AgentId) -> Result<Option<Agent>, CacheMiss> {
        Err(CacheMiss)
    }

    fn managed_agent(&self, _: TenantNo, _: ManagedAgentKey) -> Result<Option<Agent>, CacheMiss> {
        Err(CacheMiss)
    }

    fn linked(&self, _: TenantNo, _: &M365TenantId) -> Result<Linked, CacheMiss> {
        Err(CacheMiss)
    }

    fn has_company(&self, _: TenantNo, _: &CompanyId) -> Result<bool, CacheMiss> {
        Err(CacheMiss)
    }
}

/// Answers to one kind of question, all of one version.
#[derive(Debug)]
struct CacheTable<K, V>(RwLock<Entries<K, V>>);

#[derive(Debug)]
struct Entries<K, V> {
    version: i64,
    bytes: usize,
    answers: HashMap<K, V>,
}

impl<K, V> Default for CacheTable<K, V> {
    fn default() -> Self {
        Self(RwLock::new(Entries {
            version: 0,
            bytes: 0,
            answers: HashMap::new(),
        }))
    }
}

impl<K: Eq + Hash, V: Answer> CacheTable<K, V> {
    /// What is kept, else what is found now, which is kept whatever it is.
    fn answer<E>(&self, version: i64, key: K, ask: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        if let Some(kept) = self.get(version, &key) {
            return Ok(kept);
        }
        let found = ask()?;
        self.keep(version, key, &found);
        Ok(found)
    }

    /// What is kept, else what is found now, which is kept unless it is nothing.
    fn known<E>(
        &self,
        version: i64,
        key: K,
        ask: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<V>, E> {
        if let Some(kept) = self.get(version, &key) {
            return Ok(Some(kept));
        }
        let found = ask()?;
        if let Some(found) = &found {
            self.keep(version, key, found);
        }
        Ok(found)
    }

    fn get(&self, version: i64, key: &K) -> Option<V> {
        let kept = self.0.read().ok()?;
        let is_current = kept.version == version;
        is_current.then(|| kept.answers.get(key).cloned()).flatten()
    }

    fn keep(&self, version: i64, key: K, answer: &V) {
        let bytes = size_of::<(K, V)>() + OVERHEAD + answer.more_bytes();
        let Ok(mut kept) = self.0.write() else {
            return;
        };
        match version.cmp(&kept.version) {
            // An old snapshot that somebody still reads: others are further by now.
            Ordering::Less => return,
            Ordering::Equal if kept.bytes + bytes <= TABLE_BYTES => {}
            Ordering::Equal | Ordering::Greater => {
                kept.answers.clear();
                (kept.version, kept.bytes) = (version, 0);
            }
        }
        if bytes <= TABLE_BYTES && kept.answers.insert(key, answer.clone()).is_none() {
            kept.bytes += bytes;
        }
    }
}

/// What can be kept.
trait Answer: Clone {
    /// Bytes that it takes beside its own size, about, where they are more than a name's.
    fn more_bytes(&self) -> usize {
        0
    }
}

impl Answer for Tenant {}
impl Answer for Channel {}
impl Answer for Option<Channel> {}
impl Answer for Linked {}
impl Answer for bool {}

impl Answer for Agent {
    fn more_bytes(&self) -> usize {
        let users = self.allowed_users.iter();
        self.name.len()
            + users
                .map(|id| size_of::<String>() + id.len())
                .sum::<usize>()
    }
}

impl Answer for Vec<Channel> {
    fn more_bytes(&self) -> usize {
        self.len() * size_of::<Channel>()
    }
}

impl Answer for Arc<Credential> {
    fn more_bytes(&self) -> usize {
        size_of::<Credential>() + self.key.name.len() + self.tenant.name.len()
    }
}

impl Answer for Arc<SignIn> {
    fn more_bytes(&self) -> usize {
        size_of::<SignIn>() + self.tenant.name.len()
    }
}

impl Answer for Arc<SignsIn> {
    fn more_bytes(&self) -> usize {
        let name = self.user.as_ref().and_then(|user| user.name.as_deref());
        size_of::<SignsIn>() + self.tenant.name.len() + name.map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use rusqlite::Connection;
    use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

    use super::*;
    use crate::model::clock::Clock;
    use crate::store::sqlite::Session;
    use crate::store::{Store, database_file};

    /// What is read with a kept answer and may be older than the snapshot, since only the minute of a write hangs on it.
    const MAY_BE_OLD: &[(&str, &str)] = &[("api_keys", "last_used_at"), ("users", "last_seen_at")];
    /// Tables whose new rows change no kept answer: that somebody is unknown is not kept.
    const MADE_UNSEEN: &[&str] = &["users", "sign_ins"];

    /// Every table and column that a look-up reads.
    fn read_columns(file: &Connection) -> BTreeSet<(String, String)> {
        let read = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&read);
        file.authorizer(Some(move |context: AuthContext<'_>| {
            if let AuthAction::Read {
                table_name,
                column_name,
            } = context.action
            {
                let column = (table_name.to_owned(), column_name.to_owned());
                seen.lock().unwrap().insert(column);
            }
            Authorization::Allow
        }))
        .unwrap();
        let reader = Reader::on(Session::of(file));
        let cache = Cache::default();
        let known = cache.at(version(&reader).unwrap(), &reader);
        let bot = BotId::parse("bot").unwrap();
        let directory = M365TenantId::parse("directory").unwrap();
        let tenant = TenantNo(1);
        let channel = ChannelId::from_bytes([0; 16]);
        known.key(&[0; 32]).unwrap();
        known.sign_in(TokenId::from_bytes([0; 16])).unwrap();
        known.who_signs_in(&directory, "somebody").unwrap();
        known.channel(channel).unwrap();
        known.is_installed(tenant, channel, &directory).unwrap();
        known.tenant(&ClientId::parse("tenant").unwrap()).unwrap();
        // There is none; it is read all the same.
        known.tenant_by_no(tenant).unwrap_err();
        known.installed_channel(&bot, &directory).unwrap();
        known.active_channels(tenant, &bot).unwrap();
        known.agent(tenant, AgentId(1)).unwrap();
        known
            .managed_agent(tenant, ManagedAgentKey::NeoSupport)
            .unwrap();
        known.linked(tenant, &directory).unwrap();
        file.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
            .unwrap();
        let mut read = read.lock().unwrap();
        read.retain(|(table, column)| table != "configuration_version" && !column.is_empty());
        read.clone()
    }

    #[test]
    fn whatever_is_kept_has_a_trigger_for_each_change_of_its_tables_and_columns() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path(), Clock::System).unwrap());
        let file = Connection::open(database_file(folder.path())).unwrap();
        let read = read_columns(&file);
        let tables: BTreeSet<&str> = read.iter().map(|(table, _)| table.as_str()).collect();
        assert_eq!(tables.len(), 8, "{tables:?}");
        let triggers = |table: &str, change: &str| -> Vec<String> {
            let mut statement = file
                .prepare(
                    "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?1
                     AND instr(sql, 'AFTER ' || ?2) > 0
                     AND instr(sql, 'UPDATE configuration_version SET version = version + 1') > 0",
                )
                .unwrap();
            let rows = statement.query_map((table, change), |row| row.get(0));
            rows.unwrap().map(Result::unwrap).collect()
        };
        for table in tables {
            assert_eq!(triggers(table, "DELETE").len(), 1, "{table}");
            let made = usize::from(!MADE_UNSEEN.contains(&table));
            assert_eq!(triggers(table, "INSERT").len(), made, "{table}");
            assert_eq!(triggers(table, "UPDATE OF").len(), 1, "{table}");
        }
        for (table, column) in &read {
            if MAY_BE_OLD.contains(&(table, column)) {
                continue;
            }
            let sql = triggers(table, "UPDATE OF").remove(0);
            let (_, columns) = sql.split_once("UPDATE OF ").unwrap();
            let (columns, _) = columns.split_once(" ON ").unwrap();
            assert!(
                columns.split(", ").any(|name| name == column),
                "{table}.{column} changes unseen: {sql}"
            );
        }
    }

    #[test]
    fn an_old_snapshot_neither_takes_nor_leaves_anything() {
        let shelf = CacheTable::default();
        let asked = |version, found| shelf.answer(version, 1, || Ok::<_, ()>(found));
        assert_eq!(asked(2, true), Ok(true));
        assert_eq!(asked(2, false), Ok(true));
        assert_eq!(asked(1, false), Ok(false));
        assert_eq!(asked(2, false), Ok(true));
        assert_eq!(asked(3, false), Ok(false));
        assert_eq!(asked(3, true), Ok(false));
    }

    #[test]
    fn a_shelf_never_takes_more_than_its_room() {
        let shelf = CacheTable::default();
        for key in 0..100_000_u64 {
            shelf.keep(1, key, &true);
            let kept = shelf.0.read().unwrap();
            assert!(kept.bytes <= TABLE_BYTES);
            assert_eq!(
                kept.bytes,
                kept.answers.len() * (size_of::<(u64, bool)>() + OVERHEAD)
            );
        }
        assert_eq!(shelf.get(1, &99_999), Some(true));
        let agent = Agent {
            id: AgentId(1),
            name: "Everybody's".to_owned(),
            autonomy_type: crate::model::words::AutonomyType::Conversational,
            audience: crate::model::words::Audience::Msp,
            access: crate::model::words::Access::SpecificUsers,
            allowed_users: vec!["x".repeat(100); 100_000],
            state: crate::model::words::AgentState::Enabled,
        };
        let agents = CacheTable::default();
        agents.keep(1, 1, &agent);
        assert!(agents.get(1, &1).is_none(), "it is larger than the shelf");
    }

    #[test]
    fn what_is_unknown_is_asked_for_each_time() {
        let shelf = CacheTable::default();
        let asked = |found| shelf.known(1, 1, || Ok::<_, ()>(found));
        assert_eq!(asked(None), Ok(None));
        assert_eq!(asked(Some(true)), Ok(Some(true)));
        assert_eq!(asked(None), Ok(Some(true)));
    }
}
