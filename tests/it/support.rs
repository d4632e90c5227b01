//! A server on a real port over a real database, a manual clock, and HTTP clients.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::rt::System;
use clap::Parser;
use rusqlite::types::FromSql;
use serde_json::{Value, json};
use switchboard::auth::Authenticator;
use switchboard::auth::signing::SigningSecret;
use switchboard::cli::flags::ServerFlags;
use switchboard::config::ClientTimeouts;
use switchboard::http::{self, App};
use switchboard::input::seed;
use switchboard::model::caller::Actor as Recorded;
use switchboard::model::clock::{Clock, Millis};
use switchboard::model::directory::DirectoryRule;
use switchboard::model::words::CallerKind;
use switchboard::store::import;
use switchboard::store::import::ImportOptions;
use switchboard::store::postgres::NodeAddress;
use switchboard::turns::respond::Responders;
use tempfile::TempDir;
use tokio::runtime::Builder;

use crate::database::Database;
use crate::document;
use crate::scripted_model::ScriptedModel;
use crate::watchdog::{until, watch};
use crate::wire::{Connection, Reply, Request};

/// The world that `switchboard demo` serves.
pub const DEMO: &str = include_str!("../../fixtures/demo.json");
/// The environment of the demo world's keys.
pub const ENVIRONMENT: &str = "demo";
/// The relay's key: a platform service account of the tenant `relay-platform`.
pub const RELAY: &str = "neo_sk_demo_relay0000platform";
/// An ordinary service account of `northwind-it`.
pub const NORTHWIND: &str = "neo_sk_demo_northwind00000000";
/// An ordinary service account of `fabrikam-support`.
pub const FABRIKAM: &str = "neo_sk_demo_fabrikam000000000";

/// The bot that both MSPs' white-label channels carry.
pub const SHARED_BOT: &str = "b07fab1e-c0de-4bee-8ace-facade0fb075";
/// The bot of Northwind's technicians.
pub const TECHNICIAN_BOT: &str = "b07a1fa0-c0de-4bee-8ace-feed0a1fa001";
/// The M365 tenant of Contoso, Northwind's company 1001.
pub const CONTOSO: &str = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e";
/// The M365 tenant that two of Northwind's companies share.
pub const FOURTH_COFFEE: &str = "c0ffee00-be4d-4ade-8d0e-decafdecaf00";
/// The M365 tenant that Northwind's bot is installed for and no company is linked to.
pub const TAILSPIN: &str = "0ddba110-face-4fee-9add-1eaf1ed0dd01";
/// The M365 tenant of Woodgrove Bank, Fabrikam's company WOOD-01.
pub const WOODGROVE: &str = "5afe5afe-ba5e-4ca5-8e11-b0a4d0ff1ce5";

/// The time at which every test starts: 2025-11-24T16:00:00.000Z.
pub const START: Millis = 1_764_000_000_000;
/// A second, a minute and a day of the manual clock.
pub const SECOND: Millis = 1_000;
/// See [`SECOND`].
pub const MINUTE: Millis = 60 * SECOND;
/// See [`SECOND`].
pub const DAY: Millis = 24 * 60 * MINUTE;

/// Most tests name directories, so that they can be told apart.
const ANY_TENANT_ID: &str = "--any-tenant-id";
/// The flags of every server.
const BASE_FLAGS: [&str; 4] = ["server", "--workers=2", "--rate-limit=0", ANY_TENANT_ID];

/// A server's flags, parsed as the program parses them, so that a new flag needs no change here.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Flags {
    #[command(flatten)]
    server: ServerFlags,
}

/// A running server; dropping it stops the server.
pub struct Server {
    /// The shared state of the handlers.
    pub app: Arc<App>,
    /// The address of the server.
    pub address: SocketAddr,
    clock: Arc<AtomicI64>,
    database: Arc<Database>,
    _folder: Arc<TempDir>,
    flags: Vec<String>,
    timeouts: ClientTimeouts,
    /// Whether turns are answered. Otherwise they stay queued, which tests of queued turns need.
    answers: bool,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves the demo world, without a limit on requests.
    pub fn demo() -> Self {
        Self::with_world(DEMO, &[])
    }

    /// Serves a world that the test defines.
    pub fn of(world: &Value) -> Self {
        Self::with_world(&world.to_string(), &[])
    }

    /// Serves a seed file with these flags.
    pub fn with_world(world: &str, flags: &[&str]) -> Self {
        Self::begin(world, flags, false)
    }

    /// Serves the demo world with these flags, and answers turns.
    pub fn answering(flags: &[&str]) -> Self {
        Self::begin(DEMO, flags, true)
    }

    /// Serves a world that the test defines, and answers turns.
    pub fn answering_from(world: &Value, flags: &[&str]) -> Self {
        Self::begin(&world.to_string(), flags, true)
    }

    /// Serves the demo world with this model.
    pub fn with_model(model: &ScriptedModel, flags: &[&str]) -> Self {
        Self::with_world_and_model(DEMO, model, flags)
    }

    /// Serves a seed file with this model.
    pub fn with_world_and_model(world: &str, model: &ScriptedModel, flags: &[&str]) -> Self {
        let url = format!("--model-url={}", model.url());
        let asks = [url.as_str(), "--model-fast=quick", "--model-smart=deep"];
        Self::begin(world, &[&asks, flags].concat(), true)
    }

    /// Serves the demo world with these timeouts for clients, and answers turns.
    pub fn with_timeouts(timeouts: ClientTimeouts) -> Self {
        Self::begin_with(DEMO, &[], timeouts, true)
    }

    /// Serves the demo world and `/metrics` with these timeouts for clients, and answers turns.
    pub fn measured(timeouts: ClientTimeouts) -> Self {
        Self::begin_with(DEMO, &["--metrics"], timeouts, true)
    }

    /// Serves the demo world with these timeouts for clients and this model.
    pub fn with_timeouts_and_model(timeouts: ClientTimeouts, model: &ScriptedModel) -> Self {
        let url = format!("--model-url={}", model.url());
        let asks = [
            url.as_str(),
            "--model-fast=quick",
            "--model-smart=deep",
            "--metrics",
        ];
        Self::begin_with(DEMO, &asks, timeouts, true)
    }

    /// Serves the demo world with the product's own rule for the ids of directories.
    pub fn with_guids_only() -> Self {
        Self::with_guids_only_and(&[])
    }

    /// [`Server::with_guids_only`] with further flags.
    pub fn with_guids_only_and(flags: &[&str]) -> Self {
        let (folder, clock) = (TempDir::new().unwrap(), AtomicI64::new(START));
        let base = BASE_FLAGS.iter().filter(|flag| **flag != ANY_TENANT_ID);
        let flags = base.chain(flags).map(|flag| (*flag).to_owned()).collect();
        let timeouts = ClientTimeouts::default();
        let server = Self::start_in(folder, Arc::new(clock), flags, timeouts, false);
        server.import(DEMO);
        server
    }

    /// Serves an existing data folder, with the clock at this time.
    pub fn on(folder: TempDir, now: Millis) -> Self {
        let flags = BASE_FLAGS.map(str::to_owned);
        let clock = Arc::new(AtomicI64::new(now));
        let timeouts = ClientTimeouts::default();
        Self::start_in(folder, clock, flags.into(), timeouts, false)
    }

    fn begin(world: &str, flags: &[&str], answers: bool) -> Self {
        Self::begin_with(world, flags, ClientTimeouts::default(), answers)
    }

    fn begin_with(world: &str, flags: &[&str], timeouts: ClientTimeouts, answers: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(AtomicI64::new(START));
        let flags = BASE_FLAGS
            .iter()
            .chain(flags)
            .map(|flag| (*flag).to_owned())
            .collect();
        let server = Self::start_in(folder, clock, flags, timeouts, answers);
        server.import(world);
        server
    }

    fn start_in(
        folder: TempDir,
        clock: Arc<AtomicI64>,
        flags: Vec<String>,
        timeouts: ClientTimeouts,
        answers: bool,
    ) -> Self {
        let database = Arc::new(Database::of(folder.path()));
        Self::start(Arc::new(folder), database, clock, flags, timeouts, answers)
    }

    fn start(
        folder: Arc<TempDir>,
        database: Arc<Database>,
        clock: Arc<AtomicI64>,
        flags: Vec<String>,
        timeouts: ClientTimeouts,
        answers: bool,
    ) -> Self {
        watch();
        let store = database.open(Clock::Manual(Arc::clone(&clock)));
        let signing = SigningSecret::of_store(&store).unwrap();
        let given = Flags::parse_from(&flags).server;
        let mut config = given.config();
        let authenticator = Authenticator::new(ENVIRONMENT.to_owned(), signing)
            .with_entra(given.entra.verifier().unwrap());
        config.timeouts = timeouts;
        // The name that the tests' client sends as Host.
        config.host_names = vec!["switchboard".to_owned()];
        let responders = Responders::new(given.model.client().unwrap());
        let app = App::new(store, authenticator, responders, config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, handle) = mpsc::channel();
        let served = Arc::clone(&app);
        let thread = thread::spawn(move || {
            System::new().block_on(async move {
                if answers {
                    let host = address.to_string();
                    let public_url = None;
                    served.store.join(NodeAddress { host, public_url }).await;
                    served.engine.recover().await.unwrap();
                    if let Some(deliverer) = &served.deliverer {
                        deliverer.start();
                    }
                } else {
                    served.engine.stop(Duration::ZERO).await;
                }
                let server = http::serve(served, listener).unwrap();
                ready.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self {
            app,
            address,
            clock,
            database,
            _folder: folder,
            flags,
            timeouts,
            answers,
            handle: handle.recv().unwrap(),
            thread: Some(thread),
        }
    }

    /// Stops the server and starts another one on the same database and clock, on another port.
    pub fn restarted(self) -> Self {
        let (folder, clock) = (Arc::clone(&self._folder), Arc::clone(&self.clock));
        let database = Arc::clone(&self.database);
        let (flags, timeouts, answers) = (self.flags.clone(), self.timeouts, self.answers);
        drop(self);
        Self::start(folder, database, clock, flags, timeouts, answers)
    }

    /// Imports a seed file while the server runs, as the command line does.
    pub fn import(&self, world: &str) {
        let seed = seed::parse(world, ENVIRONMENT).unwrap();
        let operator = Recorded {
            kind: CallerKind::Operator,
            id: "test".to_owned(),
            name: None,
        };
        self.app
            .store
            .write_now(move |tx| {
                let options = ImportOptions {
                    dry_run: false,
                    directories: DirectoryRule::AnyId,
                    step: &mut || (),
                };
                import::apply_with(tx, &seed, &operator, options)
            })
            .unwrap()
            .unwrap();
    }

    /// Imports changes of one tenant.
    pub fn import_tenant(&self, client_id: &str, mut tenant: Value) {
        tenant["client_id"] = client_id.into();
        self.import(&json!({ "tenants": [tenant] }).to_string());
    }

    /// Advances the manual clock.
    pub fn advance_clock(&self, time: Millis) {
        self.clock.fetch_add(time, Ordering::SeqCst);
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The data folder.
    pub fn folder(&self) -> &std::path::Path {
        self.database.folder()
    }

    /// Reads one value from the database, on a separate connection.
    pub fn stored<T: FromSql>(&self, sql: &str) -> T {
        self.database.stored(sql)
    }

    /// Writes to the database on a separate connection, for states that no call and no import can
    /// create.
    pub fn execute_sql(&self, sql: &str) -> usize {
        self.database.execute_sql(sql)
    }

    /// Waits for what requests record of themselves after their replies.
    pub fn wait_for_records(&self) {
        let metrics = self.app.store.writer_metrics();
        until("no change waits or runs", || metrics.unfinished() == 0);
    }

    /// Northwind's white-label channel.
    pub fn client_help_bot(&self) -> String {
        let list = self.northwind().get("/channels?q=client+help+bot");
        list.expect(200).ids().swap_remove(0)
    }

    /// The install of that channel for a directory.
    pub fn install_of(&self, directory: &str) -> String {
        let path = format!("/channels/{}/installs", self.client_help_bot());
        let list = self.northwind().get(&path).expect(200).data();
        let installs = list.as_array().unwrap();
        let install = installs
            .iter()
            .find(|install| install["end_client_tenant_id"] == directory);
        install.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// A client with this credential.
    pub fn with_credential(&self, credential: &str) -> ApiClient {
        ApiClient::new(self.address, Some(format!("Bearer {credential}")))
    }

    /// The relay.
    pub fn relay(&self) -> ApiClient {
        self.with_credential(RELAY)
    }

    /// Northwind's ordinary account.
    pub fn northwind(&self) -> ApiClient {
        self.with_credential(NORTHWIND)
    }

    /// Fabrikam's ordinary account.
    pub fn fabrikam(&self) -> ApiClient {
        self.with_credential(FABRIKAM)
    }

    /// A client without a credential.
    pub fn anonymous(&self) -> ApiClient {
        ApiClient::new(self.address, None)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The call itself starts the stop. Joining the thread replaces awaiting the future.
        drop(self.handle.stop(false));
        if let Some(deliverer) = &self.app.deliverer {
            deliverer.abort();
        }
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            thread::panicking() || !matches!(ended, Some(Err(_))),
            "the server's thread panicked"
        );
    }
}

/// An HTTP client with one credential or none.
pub struct ApiClient {
    address: SocketAddr,
    authorization: Option<String>,
    idle: Mutex<Vec<Connection>>,
}

impl ApiClient {
    /// A client with this `Authorization` header.
    pub fn new(address: SocketAddr, authorization: Option<String>) -> Self {
        Self {
            address,
            authorization,
            idle: Mutex::default(),
        }
    }

    /// The `Authorization` header of the client's requests.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// Sends a request with the client's credential, and validates the reply against the document.
    #[track_caller]
    pub fn send(&self, mut request: Request) -> Reply {
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let idle = self.idle.lock().unwrap().pop();
        let connection = idle.unwrap_or_else(|| Connection::open(self.address));
        let (reply, connection) = connection.exchange(&request).unwrap();
        self.idle.lock().unwrap().extend(connection);
        let reply = reply.unwrap_or_else(|| {
            panic!(
                "{} {} got no reply, but a closed connection",
                request.method, request.target
            )
        });
        document::assert_documented(&request, &reply);
        reply
    }

    /// GET, below the API's prefix.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.send(Request::new("GET", format!("/public-api{path}")))
    }

    /// POST, below the API's prefix.
    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Request::new("POST", format!("/public-api{path}")).json(&body))
    }

    /// PATCH, below the API's prefix.
    #[track_caller]
    pub fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(Request::new("PATCH", format!("/public-api{path}")).json(&body))
    }

    /// PUT, below the API's prefix.
    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> Reply {
        self.send(Request::new("PUT", format!("/public-api{path}")).json(&body))
    }

    /// DELETE, below the API's prefix.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.send(Request::new("DELETE", format!("/public-api{path}")))
    }

    /// Creates a session.
    #[track_caller]
    pub fn create_session(&self, body: Value) -> Reply {
        self.post("/chat/sessions", body)
    }

    /// Creates a session with an `Idempotency-Key`.
    #[track_caller]
    pub fn create_session_once(&self, key: &str, body: Value) -> Reply {
        self.send(
            Request::new("POST", "/public-api/chat/sessions")
                .header("idempotency-key", key)
                .json(&body),
        )
    }

    /// Creates a session, which must succeed; returns its id.
    #[track_caller]
    pub fn session(&self, body: Value) -> String {
        self.create_session(body).expect(201).id()
    }

    /// Makes a dry run of a create.
    #[track_caller]
    pub fn resolve(&self, body: Value) -> Reply {
        self.post("/chat/sessions/resolve", body)
    }

    /// Reads a session.
    #[track_caller]
    pub fn read_session(&self, session: &str) -> Reply {
        self.get(&format!("/chat/sessions/{session}"))
    }

    /// Lists sessions; `query` without the question mark.
    #[track_caller]
    pub fn list_sessions(&self, query: &str) -> Reply {
        self.get(&format!("/chat/sessions?{query}"))
    }

    /// Changes a session.
    #[track_caller]
    pub fn update_session(&self, session: &str, body: Value) -> Reply {
        self.patch(&format!("/chat/sessions/{session}"), body)
    }

    /// Resets a session.
    #[track_caller]
    pub fn reset_session(&self, session: &str) -> Reply {
        self.post(&format!("/chat/sessions/{session}/reset"), json!({}))
    }

    /// Deletes a session.
    #[track_caller]
    pub fn delete_session(&self, session: &str) -> Reply {
        self.delete(&format!("/chat/sessions/{session}"))
    }

    /// Appends a message with this text.
    #[track_caller]
    pub fn append_text(&self, session: &str, text: &str) -> Reply {
        self.append(session, json!({ "message": text }))
    }

    /// Appends a message.
    #[track_caller]
    pub fn append(&self, session: &str, body: Value) -> Reply {
        self.post(&format!("/chat/sessions/{session}/messages"), body)
    }

    /// Lists a session's messages.
    #[track_caller]
    pub fn messages(&self, session: &str, query: &str) -> Reply {
        self.get(&format!("/chat/sessions/{session}/messages?{query}"))
    }

    /// Reads a turn.
    #[track_caller]
    pub fn turn(&self, session: &str, turn: &str, query: &str) -> Reply {
        self.get(&format!("/chat/sessions/{session}/turns/{turn}?{query}"))
    }

    /// Requests a link to upload a file of this type.
    #[track_caller]
    pub fn request_upload(&self, session: &str, content_type: &str) -> Reply {
        self.post(
            &format!("/chat/sessions/{session}/attachments/upload-url"),
            json!({ "content_type": content_type }),
        )
    }

    /// Follows a link from this server.
    #[track_caller]
    pub fn follow_link(&self, method: &str, url: &str, body: Option<&[u8]>) -> Reply {
        let target = url
            .strip_prefix("http://localhost")
            .unwrap_or_else(|| panic!("{url} leads elsewhere"));
        let request = Request::new(method, target);
        self.send(match body {
            Some(body) => request.bytes(body),
            None => request,
        })
    }

    /// Uploads a file; returns its `blob_path`.
    #[track_caller]
    pub fn upload(&self, session: &str, content_type: &str, content: &[u8]) -> String {
        let asked = self
            .request_upload(session, content_type)
            .expect(201)
            .data();
        let url = asked["upload_url"].as_str().unwrap();
        self.follow_link("PUT", url, Some(content)).expect(200);
        asked["blob_path"].as_str().unwrap().to_owned()
    }

    /// Mints a session token.
    #[track_caller]
    pub fn mint_token(&self, body: Value) -> Reply {
        self.post("/sessions", body)
    }

    /// A client with a new token for a session.
    #[track_caller]
    pub fn with_session_token(&self, session: &str) -> Self {
        let minted = self
            .mint_token(json!({ "session_id": session }))
            .expect(201);
        let token = minted.data()["token"].as_str().unwrap().to_owned();
        Self::new(self.address, Some(format!("Bearer {token}")))
    }
}

impl Reply {
    /// Asserts this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The data of a success.
    #[track_caller]
    pub fn data(&self) -> Value {
        self.json()["data"].clone()
    }

    /// The id of the created or read resource.
    #[track_caller]
    pub fn id(&self) -> String {
        let data = self.data();
        let id = data["id"].as_str();
        id.unwrap_or_else(|| panic!("{} has no id", self.text()))
            .to_owned()
    }

    /// The error of a refusal.
    #[track_caller]
    pub fn error(&self) -> Value {
        self.json()["error"].clone()
    }

    /// Asserts a refusal with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!(
            (self.status, self.error()["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.text()
        );
        self
    }

    /// Asserts a `validation_error` that names this field and reason.
    #[track_caller]
    pub fn refused_field(self, field: &str, reason: &str) -> Self {
        assert_eq!(
            (self.status, self.error()),
            (
                400,
                json!({
                    "code": "validation_error",
                    "message": format!("{field} {reason}."),
                    "details": { "field": field, "reason": reason },
                })
            )
        );
        self
    }

    /// Asserts the refusal of a request that names no agent, or more than one.
    #[track_caller]
    pub fn refused_choice(self) -> Self {
        assert_eq!(
            (self.status, self.error()),
            (
                400,
                json!({
                    "code": "validation_error",
                    "message": "Send exactly one of agent_id and managed_agent_key. A relay sends managed_agent_key: NEO_SUPPORT.",
                    "details": {
                        "field": "agent_id, managed_agent_key",
                        "reason": "exactly one of the two is required",
                    },
                })
            )
        );
        self
    }

    /// Asserts the one reply for absent and for foreign resources.
    #[track_caller]
    pub fn not_found(self) -> Self {
        assert_eq!((self.status, self.error()), (404, not_found()));
        self
    }

    /// The ids of a list's items, in its order.
    #[track_caller]
    pub fn ids(&self) -> Vec<String> {
        let data = self.data();
        let items = data.as_array();
        items
            .unwrap_or_else(|| panic!("{} is no list", self.text()))
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The cursor of a list's next page.
    #[track_caller]
    pub fn next_cursor(&self) -> Option<String> {
        let json = self.json();
        json["meta"]["pagination"]["next_cursor"]
            .as_str()
            .map(str::to_owned)
    }
}

/// Waits for a step of the store, which must succeed.
pub fn block_on<T>(future: impl Future<Output = switchboard::error::Result<T>>) -> T {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
        .unwrap()
}

/// The one error of a 404.
pub fn not_found() -> Value {
    json!({ "code": "not_found", "message": "This resource does not exist. Check the path and the ids." })
}

/// The body of a create with Northwind's technician assistant.
pub fn technician() -> Value {
    json!({ "agent_id": 102 })
}

/// The body of the relay's create for a person of this M365 tenant who writes to the shared bot.
pub fn from(directory: &str) -> Value {
    json!({ "managed_agent_key": "NEO_SUPPORT", "bot_id": SHARED_BOT, "inbound_tenant_id": directory })
}

/// An agent for a seed file.
pub fn agent(id: i64, audience: &str) -> Value {
    json!({
        "agent_id": id, "name": format!("Agent {id}"), "autonomy_type": "CONVERSATIONAL", "audience": audience,
    })
}

/// A channel for a seed file.
pub fn channel(name: &str, audience: &str, bot: &str, agent: i64) -> Value {
    json!({
        "internal_name": name, "audience": audience, "transport": "TEAMS", "bot_id": bot, "agent_id": agent,
    })
}
