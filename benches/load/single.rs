//! The server with one commit per change, which shows the gain of the group commit.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use actix_web::rt::{self, System};
use clap::{Args, Command as Arguments, FromArgMatches};
use switchboard::auth::Authenticator;
use switchboard::auth::signing::SigningSecret;
use switchboard::cli::flags::ServerFlags;
use switchboard::http::{self, App};
use switchboard::model::clock::Clock;
use switchboard::store::Store;
use switchboard::turns::respond::Responders;

use crate::Failed;
use crate::server::{ENVIRONMENT, PLATFORM_RATE_LIMIT, RATE_LIMIT, Server};

/// The interval of indexing new messages, as in the program.
const INDEX_EVERY: Duration = Duration::from_secs(5);

/// Starts the server in a process of its own.
pub fn start(data: &Path, log: &Path) -> Result<Server, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--serve-single-commits").arg(data);
    Server::run(command, log)
}

/// Serves until it is killed. It does not log requests, which is to its advantage.
pub fn serve(data: &Path) -> Result<(), Failed> {
    let flags = ServerFlags::augment_args(Arguments::new("limits"));
    let rate_limit = RATE_LIMIT.to_string();
    let given = flags.try_get_matches_from([
        "limits",
        "--rate-limit",
        &rate_limit,
        "--platform-rate-limit",
        PLATFORM_RATE_LIMIT,
    ])?;
    let flags = ServerFlags::from_arg_matches(&given)?;
    let store = Store::open_with_group_limit(data, Clock::System, 1)?;
    let signing = SigningSecret::of_store(&store)?;
    let authenticator = Authenticator::new(ENVIRONMENT.to_owned(), signing);
    let app = App::new(store, authenticator, Responders::new(None), flags.config())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    System::new().block_on(async move {
        app.engine.recover().await?;
        let store = app.store.clone();
        rt::spawn(async move {
            let mut index = tokio::time::interval(INDEX_EVERY);
            loop {
                index.tick().await;
                if let Err(error) = store.complete_search().await {
                    eprintln!("indexing messages failed and will be retried: {error}");
                }
            }
        });
        let server = http::serve(app, listener)?;
        eprintln!("listening on http://{address} with a commit for each change");
        server.await?;
        Ok(())
    })
}
