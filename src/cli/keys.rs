//! `keys create`, `list`, `rotate` and `revoke`. A new key is shown once, alone on the last line of
//! stdout, so that a script can read it.

use clap::Subcommand;
use serde_json::Map;

use super::seed::find;
use super::{
    Common, Failed, column, environment, flags, open, open_to_change, operator, print, tenants,
};
use crate::auth::api_key;
use crate::digest;
use crate::error::Error;
use crate::model;
use crate::model::clock::{Millis, parse_rfc3339, rfc3339};
use crate::model::ids::KeyId;
use crate::store::keys::{self, KeyRecord, NewKey};
use crate::store::{WriteTx, audit};

#[derive(Subcommand)]
pub(super) enum Keys {
    /// Create a key and print it, alone on the last line; it is never shown again
    Create {
        /// The tenant that the key acts for
        #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
        tenant: String,
        /// The key's name for people, 1 to 200 characters
        #[arg(long, env = "SWITCHBOARD_NAME", value_parser = tenants::name)]
        name: String,
        /// Create a platform key, which a relay needs: bots route its sessions, and it may act for
        /// every tenant
        #[arg(long, env = "SWITCHBOARD_PLATFORM", value_parser = flags::switch)]
        platform: bool,
        /// When the key expires, such as 2027-01-31T00:00:00Z [default: never]
        #[arg(long, env = "SWITCHBOARD_EXPIRES", value_name = "TIME", value_parser = time)]
        expires: Option<Millis>,
    },
    /// List a tenant's keys in columns: id, name, hint, kind, state, created, expires, last used
    List {
        /// The tenant whose keys to list
        #[arg(long, env = "SWITCHBOARD_TENANT", value_name = "CLIENT_ID")]
        tenant: String,
    },
    /// Create a successor of a key; the old key works for 24 more hours
    Rotate {
        /// The key's id, as 'keys list' shows it
        #[arg(value_parser = key_id)]
        key_id: KeyId,
    },
    /// Revoke a key and the session tokens that it minted, at once
    Revoke {
        /// The key's id, as 'keys list' shows it
        #[arg(value_parser = key_id)]
        key_id: KeyId,
    },
}

fn key_id(text: &str) -> Result<KeyId, String> {
    KeyId::parse(text)
        .ok_or_else(|| "must be a key's id; 'switchboard keys list' shows the ids".to_owned())
}

fn time(text: &str) -> Result<Millis, String> {
    parse_rfc3339(text)
        .ok_or_else(|| "must be an RFC 3339 time, such as 2027-01-31T00:00:00Z".to_owned())
}

pub(super) fn run(common: &Common, command: &Keys) -> Result<(), Failed> {
    let store = match command {
        Keys::List { .. } => open(common)?,
        Keys::Create { .. } | Keys::Rotate { .. } | Keys::Revoke { .. } => open_to_change(common)?,
    };
    match command {
        Keys::Create {
            tenant,
            name,
            platform,
            expires,
        } => {
            if expires.is_some_and(|expires| expires <= store.now()) {
                return Err(Failed::saying("--expires must be in the future"));
            }
            let tenant = store.read_now(|reader| find(reader, tenant))?;
            let key = api_key::generate(&environment::of(&store, common)?)?;
            let new = NewKey {
                tenant: tenant.no,
                name: name.clone(),
                platform: *platform,
                expires_at: *expires,
                sha256: digest::sha256(&key),
                hint: model::api_key::hint(&key),
            };
            let id = store.write_now(move |tx| {
                let id = keys::create(tx, &new)?;
                record(tx, "api_key.create", id, &keys::by_id(tx.reader(), id)?)?;
                Ok(id)
            })?;
            print(format_args!("{id}\t{}", column(name)))?;
            print(key)
        }
        Keys::List { tenant } => {
            let now = store.now();
            let keys = store.read_now(|reader| keys::all(reader, find(reader, tenant)?.no))?;
            keys.iter().try_for_each(|key| print(line(key, now)))
        }
        Keys::Rotate { key_id } => {
            let key = api_key::generate(&environment::of(&store, common)?)?;
            let (sha256, hint, id) = (digest::sha256(&key), model::api_key::hint(&key), *key_id);
            let (new_id, old) = store.write_now(move |tx| {
                let (new_id, old) = keys::rotate(tx, id, sha256, hint)?;
                record(tx, "api_key.rotate", id, &Some(old.clone()))?;
                Ok((new_id, old))
            })?;
            print(format_args!("{new_id}\t{}", column(&old.name)))?;
            print(key)
        }
        Keys::Revoke { key_id } => {
            let id = *key_id;
            let key = store.write_now(move |tx| {
                let key = keys::revoke(tx, id)?;
                record(tx, "api_key.revoke", id, &Some(key.clone()))?;
                Ok(key)
            })?;
            print(format_args!("{id}\t{}\trevoked", column(&key.name)))
        }
    }
}

fn record(
    tx: &mut WriteTx<'_>,
    action: &'static str,
    id: KeyId,
    key: &Option<KeyRecord>,
) -> Result<(), Error> {
    let Some(key) = key else {
        return Ok(());
    };
    let mut details = Map::new();
    details.insert("name".to_owned(), key.name.as_str().into());
    let expires_at = key.expires_at.map(rfc3339).into();
    details.insert("expires_at".to_owned(), expires_at);
    audit::record(
        tx,
        &audit::Event {
            tenant: key.tenant,
            actor: operator(),
            action,
            target: Some(id.to_string()),
            details,
            request_id: None,
            remote: None,
        },
    )
}

fn line(key: &KeyRecord, now: Millis) -> String {
    let kind = if key.platform { "platform" } else { "tenant" };
    let state = if key.revoked_at.is_some() {
        "revoked"
    } else if key.is_living(now) {
        "active"
    } else {
        "expired"
    };
    let or_dash = |time: Option<Millis>| time.map_or_else(|| "-".to_owned(), rfc3339);
    format!(
        "{}\t{}\t…{}\t{kind}\t{state}\t{}\t{}\t{}",
        key.id,
        column(&key.name),
        key.hint,
        rfc3339(key.created_at),
        or_dash(key.expires_at),
        or_dash(key.last_used_at),
    )
}
