//! The limit of open files: raised at the start, and compared with what the server needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ServerFlags;
use crate::text::counted;

/// Files besides connections: the database's connections, threads, and the standard streams.
const OTHER_FILES: u64 = 128;

/// Raises the soft limit to the hard one, because shells and container engines set a soft limit of
/// 1,024. Returns a warning if the limit is still too low for `--max-connections`.
pub(super) fn raise_limit(flags: &ServerFlags) -> Option<String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            log::debug!("cannot raise the limit of open files: {error}");
        }
    }
    // A process without a limit has enough.
    shortage(getrlimit(Resource::Nofile).current?, flags)
}

/// The warning for a limit below what the flags ask for. Each running turn may call a model.
fn shortage(limit: u64, flags: &ServerFlags) -> Option<String> {
    let connections = u64::from(flags.max_connections);
    let others = OTHER_FILES + u64::from(flags.turn_concurrency);
    (limit < connections + others).then(|| {
        format!(
            "this process may open {}, too few for the {connections} connections of --max-connections and {others} \
             other files; raise the limit (LimitNOFILE= in a systemd unit, ulimits in a compose file, ulimit -Hn in a \
             shell) or start with --max-connections {}",
            counted(limit, "file", "files"),
            limit.saturating_sub(others).max(1)
        )
    })
}
