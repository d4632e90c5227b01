//! `login-link`: prints a link that signs a person in to the dashboard, once (contract, section 9).

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::listen::ListenAddress;
use super::seed::find;
use super::{Common, Failed, ServerFlags, flags, open, operator, print};
use crate::auth::sign_in;
use crate::digest;
use crate::model::words::Role;
use crate::store::tenants::TenantRecord;
use crate::store::{ServeLock, Store, audit, nodes, running_server, sign_ins};

#[derive(Args)]
pub(super) struct LoginLink {
    /// The tenant to sign in to
    #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
    tenant: String,
    /// The person's role: ADMIN, USER or VIEWER
    #[arg(long, env = "SWITCHBOARD_ROLE", default_value = "ADMIN", value_parser = role)]
    role: Role,
    /// The base URL at which browsers reach the server [default: the one of the running server; else
    /// http:// and the address of --listen]
    #[arg(long, env = "SWITCHBOARD_PUBLIC_URL", value_name = "URL", value_parser = flags::url)]
    public_url: Option<String>,
    /// Where the server listens [default: where the running server does; else 127.0.0.1:8080]
    #[arg(long, env = "SWITCHBOARD_LISTEN", value_name = "ADDR")]
    listen: Option<ListenAddress>,
}

pub(super) fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| format!("must be one of {}", Role::choices()))
}

pub(super) fn run(common: &Common, arguments: &LoginLink) -> Result<(), Failed> {
    let store = open(common)?;
    let tenant = store.read_now(|reader| find(reader, &arguments.tenant))?;
    let url = base(arguments, &store)?;
    print(make(&store, &tenant, arguments.role, &url)?)
}

/// Where the running server of a data folder is reached.
#[derive(Deserialize, Serialize)]
struct Place {
    public_url: Option<String>,
    listen: String,
}

/// Tells the commands beside a server where it is reached.
pub(super) fn announce(lock: &ServeLock, flags: &ServerFlags, listen: &ListenAddress) {
    let place = Place {
        public_url: flags.public_url.clone(),
        listen: listen.to_string(),
    };
    let text = serde_json::to_string(&place).map_err(std::io::Error::from);
    if let Err(error) = text.and_then(|text| lock.announce(&text)) {
        log::warn!("login-link cannot know where this server listens: {error}");
    }
}

/// The URL at which a browser reaches the server of a data folder.
fn base(arguments: &LoginLink, store: &Store) -> Result<String, Failed> {
    let running: Option<Place> = store
        .folder()
        .and_then(running_server)
        .and_then(|text| serde_json::from_str(&text).ok());
    let (public_url, listen) = match running {
        Some(Place { public_url, listen }) => (public_url, listen.parse().ok()),
        // On PostgreSQL, where there is no folder, the nodes say where they are.
        None => match store.read_now(nodes::place)? {
            None => (None, None),
            Some((public_url, address)) if address.is_empty() => {
                (public_url, Some(ListenAddress::Unix(PathBuf::new())))
            }
            Some((public_url, address)) => match address.parse() {
                Ok(listen) => (public_url, Some(listen)),
                // A name of a machine.
                Err(_) => (public_url.or(Some(format!("http://{address}"))), None),
            },
        },
    };
    if let Some(url) = arguments.public_url.clone().or(public_url) {
        return Ok(url);
    }
    // A server chooses its port itself for port 0.
    let given = arguments
        .listen
        .clone()
        .filter(|listen| !listen.is_any_port());
    let listen = given.or(listen).or_else(|| DEFAULT_LISTEN.parse().ok());
    listen.and_then(|listen| listen.url()).ok_or_else(|| {
        Failed::saying(
            "the server listens on a socket file; name the URL at which browsers reach it with --public-url",
        )
    })
}

/// Where a server listens by default.
const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// Makes a link. The code follows a `#`, because browsers do not send that part to any server.
pub(super) fn make(
    store: &Store,
    tenant: &TenantRecord,
    role: Role,
    url: &str,
) -> Result<String, Failed> {
    let code = sign_in::new_code()?;
    let (sha256, no) = (digest::sha256(&code), tenant.no);
    store.write_now(move |tx| {
        sign_ins::insert_code(tx, sha256, no, role)?;
        let mut details = Map::new();
        details.insert("role".to_owned(), role.as_str().into());
        audit::record(
            tx,
            &audit::Event {
                tenant: no,
                actor: operator(),
                action: "login_link.create",
                target: None,
                details,
                request_id: None,
                remote: None,
            },
        )
    })?;
    Ok(format!("{url}/dashboard#code={code}"))
}
