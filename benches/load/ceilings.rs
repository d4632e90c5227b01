//! The machine's ceilings: the framework alone, SQLite alone, and a server with one commit per
//! request.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, params};
use switchboard::digest;
use switchboard::model::clock::Clock;
use switchboard::model::ids::{KeyId, SessionId, Ticker};
use switchboard::store::database_file;

use crate::Failed;
use crate::measure::Target;

/// The number of rows in a transaction of SQLite alone.
const GROUP: usize = 64;
/// The number of database connections of the server with one commit per request.
const CONNECTIONS: u32 = 8;

/// A server in this process, on its own threads. Dropping the value stops the server.
pub struct InProcessServer {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl InProcessServer {
    pub fn start(
        configure: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    ) -> Result<Self, Failed> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let workers = std::thread::available_parallelism()?.get();
        let (started, starts) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || App::new().configure(configure.clone()))
                    .workers(workers)
                    .disable_signals()
                    .shutdown_timeout(1)
                    .listen(listener)
                    .map(HttpServer::run);
                let Ok(server) = server else {
                    return;
                };
                // The receiver is gone only if the start was given up.
                let _ = started.send(server.handle());
                if let Err(error) = server.await {
                    eprintln!("a server of the load program failed: {error}");
                }
            });
        });
        Ok(Self {
            address,
            handle: starts.recv_timeout(Duration::from_secs(10))?,
            thread: Some(thread),
        })
    }
}

impl Target for InProcessServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server shares its process with the client, so its time cannot be told apart.
    fn cpu(&self) -> Option<Duration> {
        None
    }
}

impl Drop for InProcessServer {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The framework, answering every request with the same JSON.
pub fn fixed_json(body: Vec<u8>) -> Result<InProcessServer, Failed> {
    let body = web::Bytes::from(body);
    InProcessServer::start(move |config| {
        let body = body.clone();
        config.default_service(web::to(move |_: web::Bytes| {
            let reply = HttpResponse::Created()
                .content_type("application/json")
                .body(body.clone());
            async move { reply }
        }));
    })
}

/// A plain server: each request takes a connection, writes its row and commits.
pub fn commit_per_request(data: &Path, template: &str) -> Result<InProcessServer, Failed> {
    let manager = SqliteConnectionManager::file(database_file(data)).with_init(set_up);
    let pool = Pool::builder().max_size(CONNECTIONS).build(manager)?;
    let plain = web::Data::new(Plain {
        pool,
        ticker: Mutex::new(Ticker::after(switchboard::model::ids::Tick(0))),
        template: template.to_owned(),
    });
    InProcessServer::start(move |config| {
        config
            .app_data(plain.clone())
            .default_service(web::to(create));
    })
}

struct Plain {
    pool: Pool<SqliteConnectionManager>,
    ticker: Mutex<Ticker>,
    template: String,
}

#[derive(serde::Deserialize)]
struct Ask {
    agent_id: i64,
}

/// Sets the pragmas of the server's own writer, except that SQLite runs its own checkpoints.
fn set_up(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

async fn create(
    plain: web::Data<Plain>,
    request: HttpRequest,
    ask: web::Json<Ask>,
) -> actix_web::Result<HttpResponse> {
    let token = request
        .headers()
        .get("Authorization")
        .and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or_else(|| actix_web::error::ErrorUnauthorized("no key"))?
        .to_owned();
    let body = web::block(move || plain.create(&token, ask.agent_id))
        .await?
        .map_err(|error| actix_web::error::ErrorInternalServerError(error.to_string()))?;
    Ok(HttpResponse::Created()
        .content_type("application/json")
        .body(body))
}

const CALLER: &str = "
SELECT k.account_id, k.name, k.tenant_no FROM api_keys k JOIN tenants t ON t.tenant_no = k.tenant_no
WHERE k.sha256 = ?1 AND k.revoked_at IS NULL";
const AGENT: &str = "
SELECT 1 FROM agents WHERE agent_id = ?1 AND tenant_no = ?2 AND autonomy_type = 'CONVERSATIONAL' AND state = 'ENABLED'";

impl Plain {
    fn create(
        &self,
        token: &str,
        agent: i64,
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let connection = self.pool.get()?;
        let (account, name, tenant): (KeyId, String, i64) = connection
            .prepare_cached(CALLER)?
            .query_row([digest::sha256(token)], |row| {
                Ok((KeyId::from_bytes(row.get(0)?), row.get(1)?, row.get(2)?))
            })?;
        connection
            .prepare_cached(AGENT)?
            .query_row((agent, tenant), |_| Ok(()))?;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let written = {
            let mut ticker = self.ticker.lock().map_err(|_| "a thread panicked")?;
            insert(&connection, &mut ticker, agent, tenant, account, &name)
        };
        let end = if written.is_ok() {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        connection.prepare_cached(end)?.execute([])?;
        written?;
        Ok(self.template.clone())
    }
}

const INSERT: &str = "
INSERT INTO sessions (seq, id, tenant_no, agent_id, channel, title, show_agent_progress_steps, channel_seq, channel_id, psa_company_id,
                      inbound_m365_tenant_id, rule, created_by_kind, created_by_id, created_by_name, platform_tenant_no, metadata,
                      created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, 'API', NULL, 1, NULL, NULL, NULL, NULL, 'selected', 'service_account', ?5, ?6, NULL, '{}', ?7, ?7)";

/// Writes the row of a plain create.
fn insert(
    connection: &Connection,
    ticker: &mut Ticker,
    agent: i64,
    tenant: i64,
    account: KeyId,
    name: &str,
) -> rusqlite::Result<usize> {
    let now = Clock::System.now();
    let tick = ticker.next(now);
    let random = tick.0.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = SessionId::new(tick, random);
    let account = account.to_string();
    connection.prepare_cached(INSERT)?.execute(params![
        tick.0,
        id.as_bytes(),
        tenant,
        agent,
        account,
        name,
        now
    ])
}

/// Measures the rows per second of SQLite alone, on one connection, in durable groups.
pub fn sqlite_alone(data: &Path, duration: Duration) -> Result<f64, Failed> {
    let mut connection = Connection::open(database_file(data))?;
    set_up(&mut connection)?;
    let (account, name, tenant): (KeyId, String, i64) = connection.query_row(
        "SELECT account_id, name, tenant_no FROM api_keys WHERE platform = 0",
        [],
        |row| Ok((KeyId::from_bytes(row.get(0)?), row.get(1)?, row.get(2)?)),
    )?;
    let mut ticker = Ticker::after(switchboard::model::ids::Tick(0));
    let begin = Instant::now();
    let mut rows = 0;
    while begin.elapsed() < duration {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for _ in 0..GROUP {
            rows += insert(&connection, &mut ticker, 102, tenant, account, &name)?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
    }
    Ok(rows as f64 / begin.elapsed().as_secs_f64())
}
