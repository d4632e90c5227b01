//! `demo`: a server with example data in a folder of its own, and commands to paste.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use clap::Args;

use super::listen::{Bound, ListenAddress};
use super::{Common, Failed, ServerFlags, environment, login_link, print, seed, serve};
use crate::model::words::Role;
use crate::store::tenants;

/// The example data, as a seed file.
const SEED: &str = include_str!("../../fixtures/demo.json");
/// The environment of the example's API keys, which are public.
const ENVIRONMENT: &str = "demo";
/// The tenant that the dashboard link signs in to.
const TENANT: &str = "northwind-it";
const RELAY_KEY: &str = "neo_sk_demo_relay0000platform";
const NORTHWIND_KEY: &str = "neo_sk_demo_northwind00000000";
const SHARED_BOT: &str = "b07fab1e-c0de-4bee-8ace-facade0fb075";
const CONTOSO: &str = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e";
const TAILSPIN: &str = "0ddba110-face-4fee-9add-1eaf1ed0dd01";
/// The number of ports to try after the requested one.
const FURTHER_PORTS: u16 = 100;

#[derive(Args)]
pub(super) struct Arguments {
    /// The loopback address and port to listen on; if the port is in use, the next free one
    #[arg(
        long,
        env = "SWITCHBOARD_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    listen: ListenAddress,

    #[command(flatten)]
    server: ServerFlags,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> Result<(), Failed> {
    let requested = match &arguments.listen {
        ListenAddress::Tcp(address) if address.ip().is_loopback() => *address,
        other @ (ListenAddress::Tcp(_) | ListenAddress::Unix(_)) => {
            return Err(Failed::saying(format!(
                "{other} is not a loopback address; the demo's API keys are public, so choose an address such as 127.0.0.1:8080"
            )));
        }
    };
    let place = common.place_or("./switchboard-demo")?;
    let (store, lock) = place.open_to_serve()?;
    let demo = Common {
        data: store.folder().map(Path::to_owned),
        environment: Some(ENVIRONMENT.to_owned()),
        ..common.clone()
    };
    environment::of(&store, &demo)?;
    environment::remember(&store, ENVIRONMENT)?;
    if store.read_now(tenants::all)?.is_empty() {
        // Only an empty folder is filled, so that a restart keeps the user's changes.
        seed::take(&store, SEED, ENVIRONMENT)?;
    }
    let listener = bind(requested)?;
    let address = listener.local_addr()?;
    if address.port() != requested.port() && requested.port() != 0 {
        print(format_args!(
            "Port {} is in use. The demo uses port {} instead.",
            requested.port(),
            address.port()
        ))?;
    }
    let tenant = store.read_now(|reader| seed::find(reader, TENANT))?;
    let bound = Bound::tcp(listener)?;
    if let Some(lock) = &lock {
        login_link::announce(lock, &arguments.server, &bound.address);
    }
    let public_url = arguments.server.public_url.clone();
    let url = public_url.unwrap_or_else(|| format!("http://{address}"));
    print(welcome(
        &format!("http://{address}"),
        &store.place(),
        &login_link::make(&store, &tenant, Role::Admin, &url)?,
    ))?;
    serve::until_stopped(store, ENVIRONMENT, &with_emulator(&arguments.server), bound)
}

/// Has an emulator of Teams on this machine talk to the demo without tokens.
fn with_emulator(server: &ServerFlags) -> ServerFlags {
    let mut server = server.clone();
    if server.teams.teams_bots.is_none() {
        server.teams.teams_anonymous = true;
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        server.teams.teams_service_hosts.extend(loopback);
    }
    server
}

fn bind(listen: SocketAddr) -> Result<TcpListener, Failed> {
    let mut address = listen;
    let last = listen.port().saturating_add(FURTHER_PORTS);
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() < last => {
                address.set_port(address.port() + 1);
            }
            Err(error) => {
                return Err(Failed::saying(format!(
                    "cannot listen on {address}: {error}; choose another address with --listen"
                )));
            }
        }
    }
}

fn welcome(url: &str, folder: &str, dashboard: &str) -> String {
    let create = |key: &str, body: &str| {
        format!(
            "curl -s {url}/public-api/chat/sessions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{body}'"
        )
    };
    let technician = create(
        NORTHWIND_KEY,
        r#"{"agent_id": 102, "title": "Printer on floor 3"}"#,
    );
    let pinned = create(
        RELAY_KEY,
        &format!(
            r#"{{"agent_id": 101, "bot_id": "{SHARED_BOT}", "inbound_tenant_id": "{CONTOSO}"}}"#
        ),
    );
    let refused = create(
        RELAY_KEY,
        &format!(
            r#"{{"agent_id": 101, "bot_id": "{SHARED_BOT}", "inbound_tenant_id": "{TAILSPIN}"}}"#
        ),
    );
    format!(
        "The Switchboard demo serves on {url} and stores its data in {folder}. Press Ctrl-C to stop it.\n\n\
         Open the dashboard as an administrator of Northwind IT (the link works once, for 15 minutes):\n\n{dashboard}\n\n\
         A technician of Northwind IT opens a session with an internal agent:\n\n{technician}\n\n\
         An employee of Contoso writes to the bot in Teams. The session is pinned to the company 1001:\n\n{pinned}\n\n\
         An employee of Tailspin Toys writes to the bot. No company is linked to that Microsoft 365 tenant,\n\
         so the request is refused (end_company_not_mapped):\n\n{refused}\n"
    )
}
