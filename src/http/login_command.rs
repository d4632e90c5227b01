//! The command that makes a sign-in link for this server, ready to paste (contract, section 9).

use std::path::{Path, PathBuf};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::App;
use super::edge::forwarded::loopback_host;
use super::edge::page;
use crate::error::Result;
use crate::store::tenants;

/// The environment without `--env`.
const DEFAULT_ENVIRONMENT: &str = "dev";
/// Where a link leads without `--public-url`.
const DEFAULT_HOST: &str = "127.0.0.1:8080";
/// The command for a caller who must not learn the server's paths and tenants.
const GENERIC: &str = "switchboard login-link --tenant CLIENT_ID";

/// The program's file and the data folder, as absolute paths. On PostgreSQL there is no folder: the
/// command reads the URL, which holds a password, from its environment.
pub(super) struct Paths {
    program: PathBuf,
    folder: Option<PathBuf>,
}

impl Paths {
    /// The paths of this process, which must not change its working directory. `None` if the system
    /// does not tell them. An upgrade can replace the file later, so they are read at the start.
    pub(super) fn of_process(folder: Option<&Path>) -> Option<Self> {
        Some(Self {
            program: std::env::current_exe().ok()?,
            folder: folder.map(std::path::absolute).transpose().ok()?,
        })
    }
}

/// The reply: a command, and what it is for.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct LoginCommand {
    /// A line for a POSIX shell.
    command: String,
    /// The tenant that the link signs in to. Null in the generic command, and in the one that
    /// creates the first tenant.
    client_id: Option<String>,
    /// Whether the server has no tenant yet, so that the command creates one.
    creates_tenant: bool,
    /// Whether the server has other tenants, which the command can name too.
    has_others: bool,
}

/// Returns the command. A caller on another machine gets the generic one, because the paths and the
/// tenants are nobody else's business.
pub(super) async fn show(
    app: web::Data<App>,
    paths: web::Data<Option<Paths>>,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let known = (**paths).as_ref().and_then(|paths| {
        let program = paths.program.to_str()?;
        let folder = match &paths.folder {
            Some(folder) => Some(folder.to_str()?),
            None => None,
        };
        Some((program, folder, loopback_host(&app, &request)?))
    });
    let reply = match known {
        None => LoginCommand {
            command: GENERIC.to_owned(),
            client_id: None,
            creates_tenant: false,
            has_others: false,
        },
        Some((program, folder, host)) => {
            let tenants = app.store.read(|reader| tenants::oldest(reader, 2)).await?;
            let mut ids = tenants.into_iter().map(|tenant| tenant.client_id);
            let client_id = ids.next().map(|id| id.to_string());
            LoginCommand {
                command: exact(
                    program,
                    folder,
                    app.authenticator.environment(),
                    client_id.as_deref(),
                    host,
                ),
                creates_tenant: client_id.is_none(),
                has_others: ids.next().is_some(),
                client_id,
            }
        }
    };
    let mut response = page::plain_response();
    Ok(response
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(reply))
}

/// The command of this server. Without a tenant, the command creates one.
fn exact(
    program: &str,
    folder: Option<&str>,
    environment: &str,
    client_id: Option<&str>,
    host: &str,
) -> String {
    let mut words = vec![program];
    words.extend(folder.into_iter().flat_map(|folder| ["--data", folder]));
    if environment != DEFAULT_ENVIRONMENT {
        words.extend(["--env", environment]);
    }
    let public_url = format!("http://{host}");
    match client_id {
        None => words.extend([
            "tenants",
            "create",
            "--client-id",
            "my-msp",
            "--name",
            "My MSP",
        ]),
        Some(client_id) => {
            words.extend(["login-link", "--tenant", client_id]);
            if host != DEFAULT_HOST {
                words.extend(["--public-url", &public_url]);
            }
        }
    }
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    words.join(" ")
}

/// A word that a POSIX shell reads back as it is.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_only_if_a_shell_would_change_it() {
        for (word, text) in [
            ("/usr/bin/switchboard", "/usr/bin/switchboard"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://[::1]:8080", "'http://[::1]:8080'"),
            ("/home/ann/My data", "'/home/ann/My data'"),
            ("/srv/ann's", r"'/srv/ann'\''s'"),
            ("/srv/$HOME;`id`", "'/srv/$HOME;`id`'"),
            ("~", "'~'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), text);
        }
    }
}
