//! The memory and the start of a server: on a new folder, on a folder served before, and on a big
//! file.

use std::path::Path;
use std::time::Duration;

use crate::Failed;
use crate::measure::median;
use crate::report::{Aim, Report};
use crate::server::Server;

/// The number of starts in each folder.
const STARTS: usize = 11;
/// How long after its start a server is considered at rest.
const REST: Duration = Duration::from_secs(1);
const MB: f64 = 1e6;

/// Measures on an empty folder, and on a big file if there is one.
pub fn measure_start(folder: &Path, big: Option<&Path>, report: &mut Report) -> Result<(), Failed> {
    let log = folder.join("start.log");
    let new = |start: usize| start_once(&folder.join(format!("start-{start}")), &log);
    let before = folder.join("start-0");
    let new_ms = (0..STARTS).map(new).collect::<Result<Vec<_>, _>>()?;
    let soon = Some(Aim::AtMost(50.0));
    report.figure("ready on a new folder, ms", median(new_ms), soon);
    let again = |_| start_once(&before, &log);
    let again_ms = (0..STARTS).map(again).collect::<Result<Vec<_>, _>>()?;
    let what = "ready on a folder served before, ms";
    report.figure(what, median(again_ms), soon);
    let resident = resident_at_rest(&before, &log)?;
    report.figure("at rest, resident MB", resident, Some(Aim::AtMost(20.0)));
    if let Some(big) = big {
        let bytes = switchboard::store::database_file(big).metadata()?.len();
        report.figure("the big file, MB", bytes as f64 / MB, None);
        let start = |_| start_once(big, &log);
        let big_ms = (0..STARTS).map(start).collect::<Result<Vec<_>, _>>()?;
        let what = "ready on the big file, ms";
        report.figure(what, median(big_ms), Some(Aim::AtMost(100.0)));
        let resident = resident_at_rest(big, &log)?;
        report.figure("at rest on the big file, resident MB", resident, None);
    }
    Ok(())
}

/// Returns the milliseconds from a start until the server is ready.
fn start_once(data: &Path, log: &Path) -> Result<f64, Failed> {
    let (server, took) = Server::start_timed(data, log)?;
    server.stop()?;
    Ok(took.as_secs_f64() * 1e3)
}

fn resident_at_rest(data: &Path, log: &Path) -> Result<f64, Failed> {
    let (server, _) = Server::start_timed(data, log)?;
    std::thread::sleep(REST);
    Ok(server.resident()? as f64 / MB)
}
