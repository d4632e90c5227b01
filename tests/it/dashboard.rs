//! The dashboard: the program serves all its files, caches are revalidated, and a strict
//! Content-Security-Policy allows nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::GzDecoder;

use crate::support::{DEMO, Server};
use crate::wire::{Reply, Request};

const SHELL: &str = "index.html";
/// Smaller files need not be compressed.
const WORTH_COMPRESSING: usize = 1_024;

/// A file of the page, as in the source tree.
struct File {
    name: String,
    content: Vec<u8>,
}

impl File {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dashboard");
        let files: Vec<Self> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                Self {
                    name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                    content: fs::read(path).unwrap(),
                }
            })
            .collect();
        assert!(files.len() > 3);
        files
    }

    fn shell() -> Self {
        Self::all()
            .into_iter()
            .find(|file| file.name == SHELL)
            .unwrap()
    }

    fn kind(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// The path that serves the file; the shell has the page's own address.
    fn path(&self) -> String {
        match self.name.as_str() {
            SHELL => "/dashboard".to_owned(),
            name => format!("/dashboard/{name}"),
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
    }

    fn content_type(&self) -> &'static str {
        match self.kind() {
            "css" => "text/css; charset=utf-8",
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => panic!("{} is of no kind that is served", self.name),
        }
    }

    fn hash(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.content))
    }

    fn tag(&self) -> String {
        format!("\"{}\"", self.hash())
    }

    fn gzip_tag(&self) -> String {
        format!("\"{}-gzip\"", self.hash())
    }

    /// The names of the other files that this one makes a browser load.
    fn names(&self) -> BTreeSet<&str> {
        let marks: &[&str] = match self.kind() {
            "html" => &["src=\"", "href=\""],
            "js" => &[
                "from './",
                "from \"./",
                "import './",
                "import \"./",
                "import('./",
                "import(\"./",
            ],
            "css" => &["url(\"", "@import \""],
            _ => &[],
        };
        let text = self.text();
        let named = marks.iter().flat_map(|mark| text.split(mark).skip(1));
        let named = named.map(|rest| rest.split(['"', '\'']).next().unwrap());
        // The shell's address is one level above those of its files.
        let base = if self.name == SHELL { "dashboard/" } else { "" };
        named
            .map(|name| {
                name.strip_prefix(base)
                    .unwrap_or_else(|| panic!("{} has {name}, not below {base}", self.name))
            })
            .collect()
    }
}

fn get(path: &str) -> Request {
    Request::new("GET", path)
}

fn policy(authority: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; \
         connect-src 'self'{authority}; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

#[track_caller]
fn is_safe(reply: &Reply) {
    for (name, value) in [
        ("content-security-policy", policy("").as_str()),
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        (
            "permissions-policy",
            "camera=(), microphone=(), geolocation=()",
        ),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    assert!(reply.header("x-request-id").is_some());
}

#[test]
fn every_file_is_served_without_a_credential_under_its_media_type() {
    let server = Server::demo();
    for file in File::all() {
        let reply = server.anonymous().send(get(&file.path())).expect(200);
        is_safe(&reply);
        assert_eq!(reply.header("content-type"), Some(file.content_type()));
        assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
        assert_eq!(reply.header("etag"), Some(file.tag().as_str()));
        assert_eq!(reply.header("content-encoding"), None);
        assert!(reply.body == file.content, "{}", file.name);

        let stranger = server.with_credential("a-credential-of-nobody");
        let same = stranger.send(get(&file.path())).expect(200);
        assert!(same.body == file.content, "{}", file.name);

        let head = server.anonymous().send(Request::new("HEAD", file.path()));
        let head = head.expect(200);
        is_safe(&head);
        for name in ["content-type", "content-length", "etag", "vary"] {
            assert_eq!(head.header(name), reply.header(name), "{name}");
        }
    }
}

#[test]
fn the_page_may_call_the_authority_only_if_browsers_sign_in_there() {
    let with = |flags: &[&str]| {
        let server = Server::with_world(DEMO, flags);
        let reply = server.anonymous().send(get("/dashboard")).expect(200);
        reply.header("content-security-policy").unwrap().to_owned()
    };
    let audience = "--entra-audience=api://switchboard";
    let client = "--entra-client-id=dashboard";
    assert_eq!(with(&[audience]), policy(""));
    assert_eq!(
        with(&[audience, client]),
        policy(" https://login.microsoftonline.com")
    );
    let authority = "--entra-authority=https://Login.Example.com:8443/base/";
    assert_eq!(with(&[audience, authority]), policy(""));
    assert_eq!(
        with(&[audience, client, authority]),
        policy(" https://login.example.com:8443")
    );
}

#[test]
fn a_file_is_sent_compressed_to_clients_that_accept_it() {
    let server = Server::demo();
    for file in File::all() {
        let asked = get(&file.path()).header("accept-encoding", "gzip");
        // The second reply comes from the cache of compressed files.
        for request in [asked.clone(), asked] {
            let reply = server.anonymous().send(request).expect(200);
            is_safe(&reply);
            assert_eq!(reply.header("content-type"), Some(file.content_type()));
            assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
            if reply.header("content-encoding").is_none() {
                assert!(file.content.len() < WORTH_COMPRESSING, "{}", file.name);
                assert_eq!(reply.header("etag"), Some(file.tag().as_str()));
                continue;
            }
            assert_eq!(reply.header("content-encoding"), Some("gzip"));
            assert_eq!(reply.header("etag"), Some(file.gzip_tag().as_str()));
            assert!(reply.body.len() < file.content.len());
            let mut whole = Vec::new();
            let mut reader = GzDecoder::new(reply.body.as_slice());
            reader.read_to_end(&mut whole).unwrap();
            assert!(whole == file.content, "{}", file.name);
        }
    }
    let big = File::all()
        .into_iter()
        .max_by_key(|file| file.content.len())
        .unwrap();
    for (accepted, encoding) in [
        ("gzip, deflate, br, zstd", Some("gzip")),
        ("GZIP", Some("gzip")),
        ("br;q=1.0, gzip;q=0.2", Some("gzip")),
        ("identity;q=0.5, gzip", Some("gzip")),
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip; q=0.000, br", None),
        ("gzip;q=0.4, identity;q=0.8", None),
        ("gzipped, x;y=gzip", None),
    ] {
        let request = get(&big.path()).header("accept-encoding", accepted);
        let reply = server.anonymous().send(request).expect(200);
        assert_eq!(reply.header("content-encoding"), encoding, "{accepted}");
    }
}

#[test]
fn a_file_in_the_browsers_cache_is_not_sent_again() {
    let server = Server::demo();
    let shell = File::shell();
    let (plain, gzip) = (shell.tag(), shell.gzip_tag());
    let ask = |known: &str| {
        let requests = ["GET", "HEAD"].map(|method| Request::new(method, "/dashboard"));
        requests.map(|request| {
            let request = request
                .header("accept-encoding", "gzip")
                .header("if-none-match", known);
            server.anonymous().send(request)
        })
    };
    for (known, tag) in [
        (plain.clone(), &plain),
        (gzip.clone(), &gzip),
        (format!("W/{plain}"), &plain),
        (format!("\"another\", W/\"one\" ,{gzip}"), &gzip),
        ("*".to_owned(), &plain),
    ] {
        for reply in ask(&known) {
            let reply = reply.expect(304);
            is_safe(&reply);
            assert_eq!(reply.header("etag"), Some(tag.as_str()), "{known}");
            assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
            assert_eq!(reply.header("content-type"), None);
            assert_eq!(reply.header("content-encoding"), None);
        }
    }
    for known in [
        "",
        "\"another\"",
        "W/*",
        plain.trim_matches('"'),
        &plain.to_lowercase(),
    ] {
        for reply in ask(known) {
            assert_eq!(reply.expect(200).header("etag"), Some(gzip.as_str()));
        }
    }
    let twice = get("/dashboard")
        .header("if-none-match", "\"another\"")
        .header("if-none-match", plain);
    server.anonymous().send(twice).expect(304);
}

#[test]
fn a_trailing_slash_redirects_to_the_page_below_any_path() {
    let server = Server::demo();
    for method in ["GET", "HEAD"] {
        let reply = server.anonymous().send(Request::new(method, "/dashboard/"));
        let reply = reply.expect(308);
        is_safe(&reply);
        assert_eq!(reply.header("location"), Some("../dashboard"));
        assert!(reply.body.is_empty());
    }
}

#[test]
fn other_paths_below_the_page_are_not_found() {
    let server = Server::demo();
    let anonymous = server.anonymous();
    for path in [
        "/dashboard/index.html",
        "/dashboard/nothing.js",
        "/dashboard/..",
        "/dashboard/..%2Fmain.rs",
        "/dashboard/..%2Fhttp%2Fdocs%2Fpage.js",
        "/dashboard/app.js/x",
        "/dashboards",
        "/public-api/dashboard",
        "/public-api/dashboard/",
        "/public-api/dashboard/app.js",
    ] {
        anonymous.send(get(path)).not_found();
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for path in ["/dashboard", "/dashboard/", "/dashboard/app.js"] {
            let reply = anonymous
                .send(Request::new(method, path))
                .refused(405, "method_not_allowed");
            assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
    let paths = anonymous.get("/openapi.json").expect(200).json()["paths"].take();
    let paths = paths.as_object().unwrap();
    assert!(!paths.keys().any(|path| path.contains("dashboard")));
}

#[test]
fn every_referenced_file_exists_and_every_file_is_referenced() {
    let files = File::all();
    let mut reached = BTreeSet::from([SHELL]);
    let mut waiting = vec![SHELL];
    while let Some(name) = waiting.pop() {
        let file = files.iter().filter(|file| file.name == name);
        let names = file.flat_map(File::names);
        waiting.extend(names.filter(|name| reached.insert(name)));
    }
    let there: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(reached, there, "what is named, and what is there");
}

/// The parts of a file that load from another host, or that would execute text.
fn faults(file: &File) -> Vec<String> {
    let text = file.text();
    let mut faults = Vec::new();
    for word in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "createContextualFragment",
        "DOMParser",
        "document.write",
        "srcdoc",
        "eval(",
        "new Function",
        "javascript:",
        "setAttribute('style'",
        "setAttribute(\"style\"",
        "setAttribute('on",
        "setAttribute(\"on",
        "import(`",
        "@import url",
        "ws://",
        "wss://",
        "'//",
        "\"//",
        "`//",
        "url(//",
    ] {
        if text.contains(word) {
            faults.push(word.to_owned());
        }
    }
    for scheme in ["http://", "https://"] {
        for rest in text.split(scheme).skip(1) {
            let address = rest.split(['\'', '"', '`', ')', ' ', '<', '\n']);
            let address = address.into_iter().next().unwrap_or_default();
            let host = address.split('/').next().unwrap_or_default();
            // Allowed: XML namespaces, reserved example hosts (RFC 2606), and a bare scheme.
            let is_no_place = address == "www.w3.org/2000/svg"
                || host == "example.com"
                || host.ends_with(".example.com")
                || address.is_empty();
            if !is_no_place {
                faults.push(format!("{scheme}{address}"));
            }
        }
    }
    if file.kind() == "html" {
        for tag in text.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap_or_default();
            let mut attributes = tag.split_whitespace();
            let element = attributes.next().unwrap_or_default();
            let names = attributes.map(|attribute| attribute.split('=').next().unwrap());
            let names: Vec<&str> = names.collect();
            let is_inline = element == "style"
                || (element == "script" && !names.contains(&"src"))
                || names
                    .iter()
                    .any(|name| *name == "style" || name.starts_with("on"));
            if is_inline {
                faults.push(tag.to_owned());
            }
        }
    }
    faults
}

#[test]
fn the_page_has_nothing_inline_evaluates_no_text_and_loads_from_no_other_host() {
    for file in File::all() {
        assert_eq!(faults(&file), Vec::<String>::new(), "{}", file.name);
    }
    for (name, text) in [
        ("a.html", "<p style=\"color: red\">x</p>"),
        (
            "a.html",
            "<button type=\"button\" onclick=\"go()\">x</button>",
        ),
        ("a.html", "<script>go()</script>"),
        ("a.html", "<style>p { color: red }</style>"),
        (
            "a.html",
            "<script src=\"https://cdn.example.org/x.js\"></script>",
        ),
        (
            "a.html",
            "<link rel=\"icon\" href=\"//cdn.example.org/x.svg\">",
        ),
        ("a.js", "import x from 'https://cdn.example.org/x.js';"),
        ("a.js", "fetch(`https://${host}/x`);"),
        ("a.js", "element.innerHTML = text;"),
        ("a.js", "element.setAttribute('style', 'color: red');"),
        (
            "a.css",
            "p { background: url(https://cdn.example.org/x.png) }",
        ),
        ("a.css", "p { background: url(//cdn.example.org/x.png) }"),
    ] {
        let file = File {
            name: name.to_owned(),
            content: text.into(),
        };
        assert_ne!(faults(&file), Vec::<String>::new(), "{text}");
    }
}
