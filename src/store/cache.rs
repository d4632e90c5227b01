//! A cache of the configuration that every request reads, never older than the request's snapshot.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;
use std::mem::size_of;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use super::keys::{self, Credential};
use super::sign_ins::{self, SignIn};
use super::sql::Reader;
use super::users::{self, EntraUser};
use super::{channels, installs};
use crate::error::Result;
use crate::model::ids::{ChannelId, TokenId};
use crate::model::names::{AgentId, BotId, ClientId, CompanyId, M365TenantId, TenantNo};
use crate::model::words::ManagedAgentKey;
use crate::resolver::{Agent, Channel, Company, Directory, Linked, Tenant};

/// Approximate bytes that one table may take. A table that is full is cleared.
const TABLE_BYTES: usize = 4 * 1_024 * 1_024;
/// Bytes of an entry apart from its types' sizes: the text of its key, and its slot in the map.
const OVERHEAD: usize = 200;

/// The cache of one server: a table for each kind of query.
///
/// The database has a number, `configuration_version`, that triggers increment in the same
/// transaction as any change of a cached row, whichever process makes it. A request reads the
/// number with its snapshot and uses only entries that were loaded at the same number.
///
/// A negative result is cached only if ordinary requests lead to it: a bot that is not installed
/// for a directory, and a directory that no company carries.
#[derive(Debug, Default)]
pub struct Cache {
    keys: CacheTable<[u8; 32], Arc<Credential>>,
    sign_ins: CacheTable<TokenId, Arc<SignIn>>,
    entra_users: CacheTable<(M365TenantId, String), Arc<EntraUser>>,
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
    /// A view of the cache at a version. A cache miss reads from `directory`.
    pub fn at<'a, D>(&'a self, version: i64, directory: &'a D) -> Cached<'a, D> {
        Cached {
            cache: self,
            version,
            directory,
        }
    }
}

/// How long a request may reuse the version that it has read.
const MAX_AGE: Duration = Duration::from_millis(10);

/// The configuration version that a request read with its first snapshot.
///
/// Reusing the version spares a second snapshot. A change that was committed in between is missed,
/// which is correct: it was concurrent with the request.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotVersion {
    version: i64,
    read_at: Instant,
}

impl SnapshotVersion {
    /// The version, if it is recent enough.
    pub(super) fn version(self) -> Option<i64> {
        (self.read_at.elapsed() < MAX_AGE).then_some(self.version)
    }
}

/// A directory without a database: the cache alone answers.
pub(super) struct CacheOnly;

/// The error of [`CacheOnly`].
pub(super) struct CacheMiss;

const VERSION: &str = "SELECT version FROM configuration_version WHERE one = 1";

/// The number that grows with every change of a cached row.
pub(super) fn version(reader: &Reader<'_>) -> Result<i64> {
    reader.one(VERSION, (), |row| row.get("version"))
}

/// A directory behind the cache.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a, D> {
    cache: &'a Cache,
    version: i64,
    directory: &'a D,
}

impl<D> Cached<'_, D> {
    /// The version of the configuration at which the entries are valid.
    pub(super) fn version(&self) -> i64 {
        self.version
    }
}

impl<'a> Cached<'a, Reader<'a>> {
    /// The version of this snapshot, for the later steps of the same request.
    pub fn snapshot_version(&self) -> SnapshotVersion {
        SnapshotVersion {
            version: self.version,
            read_at: Instant::now(),
        }
    }

    /// The snapshot itself, for rows that are not cached.
    pub fn reader(&self) -> &'a Reader<'a> {
        self.directory
    }

    /// As [`keys::by_sha256`], except that `last_used_at` may be older than the snapshot.
    pub fn key(&self, sha256: &[u8; 32]) -> Result<Option<Arc<Credential>>> {
        self.cache.keys.get_or_load_some(self.version, *sha256, || {
            Ok(keys::by_sha256(self.directory, sha256)?.map(Arc::new))
        })
    }

    /// As [`sign_ins::by_jti`].
    pub fn sign_in(&self, jti: TokenId) -> Result<Option<Arc<SignIn>>> {
        self.cache.sign_ins.get_or_load_some(self.version, jti, || {
            Ok(sign_ins::by_jti(self.directory, jti)?.map(Arc::new))
        })
    }

    /// As [`users::entra_user`], except that `last_seen_at` may be older than the snapshot.
    pub fn entra_user(&self, directory: &M365TenantId, id: &str) -> Result<Option<Arc<EntraUser>>> {
        let key = (directory.clone(), id.to_owned());
        if let Some(cached) = self.cache.entra_users.get(self.version, &key) {
            return Ok(Some(cached));
        }
        let loaded = users::entra_user(self.directory, directory, id)?.map(Arc::new);
        if let Some(loaded) = loaded.as_ref().filter(|loaded| loaded.user.is_some()) {
            self.cache.entra_users.insert(self.version, key, loaded);
        }
        Ok(loaded)
    }

    /// As [`channels::facts_of`].
    pub fn channel(&self, id: ChannelId) -> Result<Option<Channel>> {
        let load = || channels::facts_of(self.directory, id);
        self.cache.channels.get_or_load_some(self.version, id, load)
    }

    /// As [`installs::is_installed`]. The channel must belong to the tenant: the tenant is not part
    /// of the entry's key.
    pub fn is_installed(
        &self,
        tenant: TenantNo,
        channel: ChannelId,
        directory: &M365TenantId,
    ) -> Result<bool> {
        let key = (channel, directory.clone());
        self.cache.installs.get_or_load(self.version, key, || {
            installs::is_installed(self.directory, tenant, channel, directory)
        })
    }
}

impl<D: Directory> Directory for Cached<'_, D> {
    type Error = D::Error;

    fn tenant(&self, client_id: &ClientId) -> Result<Option<Tenant>, D::Error> {
        let load = || self.directory.tenant(client_id);
        self.cache
            .tenants
            .get_or_load_some(self.version, client_id.clone(), load)
    }

    fn tenant_by_no(&self, no: TenantNo) -> Result<Tenant, D::Error> {
        let load = || self.directory.tenant_by_no(no);
        self.cache.tenants_by_no.get_or_load(self.version, no, load)
    }

    fn installed_channel(
        &self,
        bot: &BotId,
        inbound: &M365TenantId,
    ) -> Result<Option<Channel>, D::Error> {
        let key = (bot.clone(), inbound.clone());
        let load = || self.directory.installed_channel(bot, inbound);
        self.cache
            .installed_channels
            .get_or_load(self.version, key, load)
    }

    fn active_channels(&self, tenant: TenantNo, bot: &BotId) -> Result<Vec<Channel>, D::Error> {
        let key = (tenant, bot.clone());
        let load = || self.directory.active_channels(tenant, bot);
        self.cache
            .active_channels
            .get_or_load(self.version, key, load)
    }

    fn agent(&self, tenant: TenantNo, id: AgentId) -> Result<Option<Agent>, D::Error> {
        let load = || self.directory.agent(tenant, id);
        self.cache
            .agents
            .get_or_load_some(self.version, (tenant, id), load)
    }

    fn managed_agent(
        &self,
        tenant: TenantNo,
        key: ManagedAgentKey,
    ) -> Result<Option<Agent>, D::Error> {
        let load = || self.directory.managed_agent(tenant, key);
        self.cache
            .managed_agents
            .get_or_load_some(self.version, (tenant, key), load)
    }

    fn linked(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<Linked, D::Error> {
        let key = (tenant, inbound.clone());
        let load = || self.directory.linked(tenant, inbound);
        self.cache.linked.get_or_load(self.version, key, load)
    }

    fn owns_directory(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<bool, D::Error> {
        self.directory.owns_directory(tenant, inbound)
    }

    fn is_home(&self, tenant: TenantNo, inbound: &M365TenantId) -> Result<bool, D::Error> {
        self.directory.is_home(tenant, inbound)
    }

    fn company(&self, tenant: TenantNo, id: &CompanyId) -> Result<Option<Company>, D::Error> {
        self.directory.company(tenant, id)
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

    fn owns_directory(&self, _: TenantNo, _: &M365TenantId) -> Result<bool, CacheMiss> {
        Err(CacheMiss)
    }

    fn is_home(&self, _: TenantNo, _: &M365TenantId) -> Result<bool, CacheMiss> {
        Err(CacheMiss)
    }

    fn company(&self, _: TenantNo, _: &CompanyId) -> Result<Option<Company>, CacheMiss> {
        Err(CacheMiss)
    }
}

/// The cached results of one kind of query.
#[derive(Debug)]
struct CacheTable<K, V>(RwLock<Entries<K, V>>);

/// Entries that were all loaded at one version.
#[derive(Debug)]
struct Entries<K, V> {
    version: i64,
    bytes: usize,
    values: HashMap<K, V>,
}

impl<K, V> Default for CacheTable<K, V> {
    fn default() -> Self {
        Self(RwLock::new(Entries {
            version: 0,
            bytes: 0,
            values: HashMap::new(),
        }))
    }
}

impl<K: Eq + Hash, V: Cacheable> CacheTable<K, V> {
    /// The cached value. A cache miss loads the value and caches it.
    fn get_or_load<E>(
        &self,
        version: i64,
        key: K,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        if let Some(cached) = self.get(version, &key) {
            return Ok(cached);
        }
        let loaded = load()?;
        self.insert(version, key, &loaded);
        Ok(loaded)
    }

    /// As [`CacheTable::get_or_load`], without caching `None`.
    fn get_or_load_some<E>(
        &self,
        version: i64,
        key: K,
        load: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<V>, E> {
        if let Some(cached) = self.get(version, &key) {
            return Ok(Some(cached));
        }
        let loaded = load()?;
        if let Some(loaded) = &loaded {
            self.insert(version, key, loaded);
        }
        Ok(loaded)
    }

    fn get(&self, version: i64, key: &K) -> Option<V> {
        let entries = self.0.read().ok()?;
        let is_current = entries.version == version;
        is_current
            .then(|| entries.values.get(key).cloned())
            .flatten()
    }

    fn insert(&self, version: i64, key: K, value: &V) {
        let bytes = size_of::<(K, V)>() + OVERHEAD + value.heap_bytes();
        let Ok(mut entries) = self.0.write() else {
            return;
        };
        match version.cmp(&entries.version) {
            // The reader's snapshot is older than the entries, which newer requests use.
            Ordering::Less => return,
            Ordering::Equal if entries.bytes + bytes <= TABLE_BYTES => {}
            Ordering::Equal | Ordering::Greater => {
                entries.values.clear();
                (entries.version, entries.bytes) = (version, 0);
            }
        }
        if bytes <= TABLE_BYTES && entries.values.insert(key, value.clone()).is_none() {
            entries.bytes += bytes;
        }
    }
}

/// A value that can be cached.
trait Cacheable: Clone {
    /// Approximate bytes that the value owns on the heap. The text of a short name is part of
    /// [`OVERHEAD`].
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Cacheable for Tenant {}
impl Cacheable for Linked {}
impl Cacheable for bool {}

impl Cacheable for Agent {
    fn heap_bytes(&self) -> usize {
        let users = self.allowed_users.iter();
        self.name.len()
            + users
                .map(|id| size_of::<String>() + id.len())
                .sum::<usize>()
    }
}

impl Cacheable for Channel {
    fn heap_bytes(&self) -> usize {
        self.relay_prefix.as_ref().map_or(0, String::len)
    }
}

impl Cacheable for Option<Channel> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, Cacheable::heap_bytes)
    }
}

impl Cacheable for Vec<Channel> {
    fn heap_bytes(&self) -> usize {
        let texts: usize = self.iter().map(Cacheable::heap_bytes).sum();
        texts + self.len() * size_of::<Channel>()
    }
}

impl Cacheable for Arc<Credential> {
    fn heap_bytes(&self) -> usize {
        size_of::<Credential>() + self.key.name.len() + self.tenant.name.len()
    }
}

impl Cacheable for Arc<SignIn> {
    fn heap_bytes(&self) -> usize {
        size_of::<SignIn>() + self.tenant.name.len()
    }
}

impl Cacheable for Arc<EntraUser> {
    fn heap_bytes(&self) -> usize {
        let name = self.user.as_ref().and_then(|user| user.name.as_deref());
        size_of::<EntraUser>() + self.tenant.name.len() + name.map_or(0, str::len)
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
    use crate::store::sql::Session as Engine;
    use crate::store::sqlite::Session;
    use crate::store::{Store, database_file};

    /// Cached columns that may be older than the snapshot: they only decide whether the current
    /// minute is recorded again.
    const ALLOWED_STALE: &[(&str, &str)] =
        &[("api_keys", "last_used_at"), ("users", "last_seen_at")];
    /// Tables whose new rows change no cached result, because a missing row is not cached.
    const UNTRACKED_INSERTS: &[&str] = &["users", "sign_ins"];
    /// Tables whose rows count only through a row of `imports`, and do not change while it does.
    const FROZEN: &[&str] = &["import_holds"];

    /// Every table and column that a cached query reads.
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
        let reader = Reader::on(Engine::Sqlite(Session::of(file)));
        let cache = Cache::default();
        let cached = cache.at(version(&reader).unwrap(), &reader);
        let bot = BotId::parse("bot").unwrap();
        let directory = M365TenantId::parse("directory").unwrap();
        let tenant = TenantNo(1);
        let channel = ChannelId::from_bytes([0; 16]);
        cached.key(&[0; 32]).unwrap();
        cached.sign_in(TokenId::from_bytes([0; 16])).unwrap();
        cached.entra_user(&directory, "somebody").unwrap();
        cached.channel(channel).unwrap();
        cached.is_installed(tenant, channel, &directory).unwrap();
        cached.tenant(&ClientId::parse("tenant").unwrap()).unwrap();
        // The tenant does not exist, but the query runs.
        cached.tenant_by_no(tenant).unwrap_err();
        cached.installed_channel(&bot, &directory).unwrap();
        cached.active_channels(tenant, &bot).unwrap();
        cached.agent(tenant, AgentId(1)).unwrap();
        cached
            .managed_agent(tenant, ManagedAgentKey::NeoSupport)
            .unwrap();
        cached.linked(tenant, &directory).unwrap();
        file.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
            .unwrap();
        let mut read = read.lock().unwrap();
        read.retain(|(table, column)| {
            let is_tracked = table != "configuration_version" && !FROZEN.contains(&table.as_str());
            is_tracked && !column.is_empty()
        });
        read.clone()
    }

    #[test]
    fn every_cached_table_and_column_has_a_trigger_for_each_change() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path(), Clock::System).unwrap());
        let file = Connection::open(database_file(folder.path())).unwrap();
        let read = read_columns(&file);
        let tables: BTreeSet<&str> = read.iter().map(|(table, _)| table.as_str()).collect();
        assert_eq!(tables.len(), 9, "{tables:?}");
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
            let inserts = usize::from(!UNTRACKED_INSERTS.contains(&table));
            assert_eq!(triggers(table, "INSERT").len(), inserts, "{table}");
            assert_eq!(triggers(table, "UPDATE OF").len(), 1, "{table}");
        }
        for (table, column) in &read {
            if ALLOWED_STALE.contains(&(table, column)) {
                continue;
            }
            let sql = triggers(table, "UPDATE OF").remove(0);
            let (_, columns) = sql.split_once("UPDATE OF ").unwrap();
            let (columns, _) = columns.split_once(" ON ").unwrap();
            assert!(
                columns.split(", ").any(|name| name == column),
                "no trigger tracks {table}.{column}: {sql}"
            );
        }
    }

    #[test]
    fn an_old_snapshot_neither_reads_nor_replaces_newer_entries() {
        let table = CacheTable::default();
        let get = |version, loaded| table.get_or_load(version, 1, || Ok::<_, ()>(loaded));
        assert_eq!(get(2, true), Ok(true));
        assert_eq!(get(2, false), Ok(true));
        assert_eq!(get(1, false), Ok(false));
        assert_eq!(get(2, false), Ok(true));
        assert_eq!(get(3, false), Ok(false));
        assert_eq!(get(3, true), Ok(false));
    }

    #[test]
    fn a_table_never_exceeds_its_byte_limit() {
        let table = CacheTable::default();
        for key in 0..100_000_u64 {
            table.insert(1, key, &true);
            let entries = table.0.read().unwrap();
            assert!(entries.bytes <= TABLE_BYTES);
            assert_eq!(
                entries.bytes,
                entries.values.len() * (size_of::<(u64, bool)>() + OVERHEAD)
            );
        }
        assert_eq!(table.get(1, &99_999), Some(true));
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
        agents.insert(1, 1, &agent);
        assert!(agents.get(1, &1).is_none(), "larger than the table");
    }

    #[test]
    fn a_missing_row_is_not_cached() {
        let table = CacheTable::default();
        let get = |loaded| table.get_or_load_some(1, 1, || Ok::<_, ()>(loaded));
        assert_eq!(get(None), Ok(None));
        assert_eq!(get(Some(true)), Ok(Some(true)));
        assert_eq!(get(None), Ok(Some(true)));
    }
}
