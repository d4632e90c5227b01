//! The page of the API document: the program serves all its files, under a strict policy.

use std::collections::BTreeSet;

use crate::support::Server;
use crate::wire::{Reply, Request};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The targets of a page's `src` and `href`.
fn named(page: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for attribute in ["src=\"", "href=\""] {
        for rest in page.split(attribute).skip(1) {
            named.insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    named
}

#[track_caller]
fn is_of(reply: &Reply, content_type: &str) {
    assert_eq!(reply.header("content-type"), Some(content_type));
    assert_eq!(reply.header("content-security-policy"), Some(POLICY));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    assert!(reply.header("x-request-id").is_some());
    assert!(!reply.body.is_empty());
}

#[test]
fn the_page_needs_no_credential_and_every_file_it_references_is_served() {
    let server = Server::demo();
    for prefix in ["", "/public-api"] {
        let at = |path: &str| {
            let request = Request::new("GET", format!("{prefix}/{path}"));
            server.anonymous().send(request).expect(200)
        };
        let page = at("docs");
        is_of(&page, "text/html; charset=utf-8");
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        let expected = [
            "data:,",
            "docs/guide",
            "docs/page.css",
            "docs/page.js",
            "docs/swagger-ui-bundle.js",
            "docs/swagger-ui.css",
            "openapi.json",
        ];
        let names = named(&page.text());
        assert!(names.iter().eq(expected), "{names:?}");
        for name in names
            .iter()
            .filter(|name| name.starts_with("docs/") && name.contains('.'))
        {
            let kind = match name.rsplit('.').next() {
                Some("css") => "text/css; charset=utf-8",
                _ => "text/javascript; charset=utf-8",
            };
            is_of(&at(name), kind);
        }
        assert_eq!(at("openapi.json").json()["openapi"], "3.1.0");
    }
}

#[test]
fn the_page_has_nothing_inline_and_loads_from_no_other_host() {
    let server = Server::demo();
    let text = |path: &str| server.anonymous().get(path).expect(200).text();
    let page = text("/docs");
    for script in page.split("<script").skip(1) {
        assert!(script.starts_with(" src=\"docs/"), "{script}");
        assert!(script.contains("defer></script>"), "{script}");
    }
    for inline in ["<style", "style=", " on", "javascript:"] {
        let tags = page.split('<').filter(|tag| !tag.starts_with("!--"));
        for tag in tags.map(|tag| tag.split('>').next().unwrap_or_default()) {
            assert!(!format!("<{tag}").contains(inline), "{tag}");
        }
    }
    for text in [page, text("/docs/page.js"), text("/docs/page.css")] {
        assert!(!text.contains("://"), "{text}");
    }
    assert!(text("/docs/page.js").contains("url: \"openapi.json\""));
    assert!(text("/docs/page.js").contains("validatorUrl: null"));
}

#[test]
fn other_paths_below_the_page_are_not_found() {
    let server = Server::demo();
    let anonymous = server.anonymous();
    for path in [
        "/docs/index.html",
        "/docs/swagger-initializer.js",
        "/docs/..%2Fopenapi.json",
        "/docs/page.js/x",
    ] {
        anonymous.get(path).not_found();
    }
    for method in ["POST", "PUT", "DELETE"] {
        for path in ["/docs", "/docs/page.js"] {
            let reply = anonymous.send(Request::new(method, path)).expect(405);
            assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
}

/// The targets of a guide page's links and files, as addresses on the server.
fn targets(address: &str, page: &str) -> BTreeSet<String> {
    let base = url::Url::parse(&format!("http://server{address}")).unwrap();
    named(page)
        .into_iter()
        .filter(|name| name != "data:,")
        .map(|name| base.join(&name).unwrap().to_string())
        .filter_map(|url| url.strip_prefix("http://server").map(str::to_owned))
        .collect()
}

#[test]
fn the_guide_is_served_and_all_its_links_lead_somewhere() {
    let server = Server::demo();
    for prefix in ["", "/public-api"] {
        let mut waiting = vec![format!("{prefix}/docs/guide")];
        let mut seen = BTreeSet::new();
        let mut pages = 0;
        while let Some(address) = waiting.pop() {
            let (path, fragment) = match address.split_once('#') {
                Some((path, fragment)) => (path.to_owned(), Some(fragment.to_owned())),
                None => (address, None),
            };
            let reply = server
                .anonymous()
                .send(Request::new("GET", &path))
                .expect(200);
            let is_page = path.contains("/docs/guide") && !path.contains('.');
            if let (Some(fragment), true) = (fragment, is_page) {
                let id = format!("id=\"{fragment}\"");
                assert!(reply.text().contains(&id), "{path} has no {fragment}");
            }
            if !seen.insert(path.clone()) || !is_page {
                continue;
            }
            pages += 1;
            assert_eq!(
                reply.header("content-type"),
                Some("text/html; charset=utf-8")
            );
            let text = reply.text();
            assert!(
                !text.contains("<script") && !text.contains("style=\"") && !text.contains("<!-- ")
            );
            assert_eq!(text.matches("aria-current").count(), 1, "{path}");
            // Files of the source beside the guide are named and not served.
            let links = targets(&path, &text);
            waiting.extend(links.into_iter().filter(|link| link.contains("/docs")));
        }
        assert_eq!(pages, 18, "{seen:?}");
    }
    for name in ["README", "SUMMARY", "nothing", "openapi.json", "..%2FCargo"] {
        server
            .anonymous()
            .send(Request::new("GET", format!("/docs/guide/{name}")))
            .not_found();
    }
}
