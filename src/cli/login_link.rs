//! `login-link`: prints a link that signs a person in to the dashboard, once (contract, section 9).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;
use serde_json::Map;

use super::seed::find;
use super::{Common, Failed, flags, open, operator, print};
use crate::auth::sign_in;
use crate::digest;
use crate::model::words::Role;
use crate::store::tenants::TenantRecord;
use crate::store::{Store, audit, sign_ins};

#[derive(Args)]
pub(super) struct LoginLink {
    /// The tenant to sign in to
    #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
    tenant: String,
    /// The person's role: ADMIN, USER or VIEWER
    #[arg(long, env = "SWITCHBOARD_ROLE", default_value = "ADMIN", value_parser = role)]
    role: Role,
    /// The base URL at which browsers reach the server [default: http:// and the address of
    /// --listen]
    #[arg(long, env = "SWITCHBOARD_PUBLIC_URL", value_name = "URL", value_parser = flags::url)]
    public_url: Option<String>,
    /// The address and port that the server listens on
    #[arg(
        long,
        env = "SWITCHBOARD_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    listen: SocketAddr,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| format!("must be one of {}", Role::choices()))
}

pub(super) fn run(common: &Common, arguments: &LoginLink) -> Result<(), Failed> {
    let store = open(common)?;
    let tenant = store.read_now(|reader| find(reader, &arguments.tenant))?;
    let url = base(arguments.public_url.as_deref(), arguments.listen);
    print(make(&store, &tenant, arguments.role, &url)?)
}

/// Returns the URL at which a browser on this machine reaches a server that listens here.
///
/// A browser cannot open an unspecified address such as 0.0.0.0, so the loopback address replaces
/// it.
pub(super) fn base(public_url: Option<&str>, listen: SocketAddr) -> String {
    if let Some(public_url) = public_url {
        return public_url.to_owned();
    }
    let mut address = listen;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    format!("http://{address}")
}

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
