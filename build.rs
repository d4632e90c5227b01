//! Takes the two files that the page at /docs needs out of the archive of Swagger UI, and finds out
//! the commit that is built.
//!
//! A ZIP archive and gzip use the same compression (RFC 1951), so the compressed bytes are copied
//! as they are: nothing is unpacked or compressed, and no crate for archives is needed.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

/// The files, each at its end of a path in the archive.
const FILES: [&str; 2] = ["/dist/swagger-ui.css", "/dist/swagger-ui-bundle.js"];
/// What begins the end of the archive, and each entry of its directory (APPNOTE 4.3.12, 4.3.16).
const END: &[u8] = b"PK\x05\x06";
const ENTRY: &[u8] = b"PK\x01\x02";
/// The length of the fixed part of an entry, and of a file's own header (APPNOTE 4.3.7).
const ENTRY_LENGTH: usize = 46;
const HEADER_LENGTH: usize = 30;
/// Deflate, of the methods of APPNOTE 4.4.5.
const DEFLATE: usize = 8;
/// A gzip header without a name, a time and a system (RFC 1952, 2.3).
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=BUILT_COMMIT={}", commit());
    let folder = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    for file in FILES {
        let gzip = gzip_of(file).ok_or_else(|| format!("the archive has no usable {file}"))?;
        let name = file.rsplit('/').next().unwrap_or(file);
        fs::write(Path::new(&folder).join(format!("{name}.gz")), gzip)?;
    }
    Ok(())
}

/// The variable with which a packager names the commit of a source without git.
const COMMIT: &str = "SWITCHBOARD_COMMIT";

/// The commit that is built, `unknown` for a source without git.
///
/// A debug build does not follow the commits: each one would build the whole crate again.
fn commit() -> String {
    println!("cargo::rerun-if-env-changed={COMMIT}");
    if let Some(commit) = env::var(COMMIT).ok().filter(|commit| !commit.is_empty()) {
        return commit;
    }
    // A source archive may lie within another repository.
    let commit = Path::new(".git")
        .exists()
        .then(|| git(&["rev-parse", "--short=12", "HEAD"]));
    let Some(commit) = commit.flatten() else {
        return "unknown".to_owned();
    };
    if env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return format!("{commit} or later, debug build");
    }
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    commit
}

/// The line that a git command prints.
fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git").args(arguments).output().ok()?;
    let line = String::from_utf8(done.stdout).ok()?.trim().to_owned();
    (done.status.success() && !line.is_empty()).then_some(line)
}

/// A file of the archive as gzip.
fn gzip_of(file: &str) -> Option<Vec<u8>> {
    let end = ARCHIVE.windows(END.len()).rposition(|four| four == END)?;
    let mut at = number(end + 16, 4)?;
    for _ in 0..number(end + 10, 2)? {
        let entry = ARCHIVE.get(at..)?;
        if !entry.starts_with(ENTRY) {
            return None;
        }
        let name = number(at + 28, 2)?;
        let next = at + ENTRY_LENGTH + name + number(at + 30, 2)? + number(at + 32, 2)?;
        let is_file = entry
            .get(ENTRY_LENGTH..ENTRY_LENGTH + name)?
            .ends_with(file.as_bytes());
        if is_file && number(at + 10, 2)? == DEFLATE {
            let header = number(at + 42, 4)?;
            let data = header + HEADER_LENGTH + number(header + 26, 2)? + number(header + 28, 2)?;
            let data = ARCHIVE.get(data..data + number(at + 20, 4)?)?;
            let checksum = ARCHIVE.get(at + 16..at + 20)?;
            let length = ARCHIVE.get(at + 24..at + 28)?;
            return Some([&GZIP, data, checksum, length].concat());
        }
        at = next;
    }
    None
}

/// A little-endian number of the archive.
fn number(at: usize, length: usize) -> Option<usize> {
    let bytes = ARCHIVE.get(at..at + length)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)),
    )
}
