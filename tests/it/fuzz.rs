//! Tens of thousands of mangled requests: each gets an envelope, and none an internal error.

use std::collections::HashMap;
use std::sync::Mutex;
use std::thread;

use form_urlencoded::Serializer;
use serde_json::{Map, Value, json};
use switchboard::error::Code;
use switchboard::http::edge::router;

use crate::random::{Random, number, seed};
use crate::support::{
    CONTOSO, FABRIKAM, NORTHWIND, RELAY, SHARED_BOT, Server, TAILSPIN, TECHNICIAN_BOT, from,
    technician,
};
use crate::wire::{Connection, Reply, Request};

/// The number of requests; `SWITCHBOARD_FUZZ` sets another one.
const REQUESTS: u64 = 40_000;
/// Concurrent clients.
const CLIENTS: u64 = 4;
/// The number of names of one kind that are kept for later requests.
const KEPT: usize = 64;

/// Values from replies that later requests use, in fitting and unfitting fields.
#[derive(Default)]
struct Seen {
    sessions: Vec<String>,
    turns: Vec<String>,
    tokens: Vec<String>,
    credentials: Vec<String>,
    channels: Vec<String>,
    installs: Vec<String>,
    cursors: Vec<String>,
}

impl Seen {
    fn learn(&mut self, reply: &Reply) {
        let Ok(json) = serde_json::from_slice::<Value>(&reply.body) else {
            return;
        };
        let data = &json["data"];
        let items = data
            .as_array()
            .map_or(std::slice::from_ref(data), Vec::as_slice);
        for item in items.iter().take(3) {
            keep(
                &mut self.channels,
                item["id"].as_str().filter(|text| text.starts_with("chn_")),
            );
            for (name, start, kept) in [
                ("id", "ses_", &mut self.sessions),
                ("chat_turn_id", "trn_", &mut self.turns),
                ("jti", "jti_", &mut self.tokens),
                ("token", "ey", &mut self.credentials),
                ("channel_id", "chn_", &mut self.channels),
                ("id", "ins_", &mut self.installs),
            ] {
                keep(
                    kept,
                    item[name].as_str().filter(|text| text.starts_with(start)),
                );
            }
        }
        keep(
            &mut self.cursors,
            json["meta"]["pagination"]["next_cursor"].as_str(),
        );
    }
}

fn keep(kept: &mut Vec<String>, name: Option<&str>) {
    let Some(name) = name else {
        return;
    };
    if kept.len() == KEPT {
        kept.remove(0);
    }
    kept.push(name.to_owned());
}

/// One client's random choices.
struct Mangler {
    random: Random,
    seen: Seen,
}

/// Text that often breaks programs.
const HARSH: &[&str] = &[
    "",
    " ",
    "\0",
    "a\0b",
    "null",
    "0",
    "-1",
    "1e400",
    "9223372036854775807",
    "9223372036854775808",
    "NaN",
    "true",
    "../../etc/passwd",
    "%2e%2e%2f",
    "' OR 1=1 --",
    "\"; DROP TABLE sessions; --",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "\u{feff}",
    "\u{202e}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "e\u{301}\u{301}\u{301}",
    "\u{fffd}",
    "\u{10ffff}",
    "\r\nx-injected: 1",
    "NEAR(a b)",
    "scope : \"t1\"",
    "*",
    "\"",
    "\\",
    "ses_",
    "ses_00000000-0000-7000-8000-000000000000",
    "ses_ffffffff-ffff-7fff-bfff-ffffffffffff",
];

impl Mangler {
    fn learnt(&mut self, of: impl Fn(&Seen) -> &Vec<String>) -> String {
        let names = of(&self.seen);
        match names.len() {
            0 => "nothing-yet".to_owned(),
            count => names[self.random.below(count)].clone(),
        }
    }

    fn text(&mut self) -> String {
        match self.random.below(14) {
            0..=3 => self.random.pick(HARSH).to_owned(),
            4 => {
                let length = self
                    .random
                    .pick(&[1_usize, 63, 64, 65, 128, 129, 200, 201, 512, 513, 5_000]);
                self.random
                    .pick(&["x", "\u{e9}", "\u{1f600}"])
                    .repeat(length)
            }
            5 => (0..self.random.below(12))
                .filter_map(|_| {
                    char::from_u32(u32::try_from(self.random.below(0x11_0000)).unwrap_or(0))
                })
                .collect(),
            6 => self.learnt(|seen| &seen.sessions),
            7 => self.learnt(|seen| &seen.cursors),
            8 => self.learnt(|seen| &seen.channels),
            9 => self
                .random
                .pick(&[
                    "northwind-it",
                    "fabrikam-support",
                    "relay-platform",
                    "no-such-tenant",
                ])
                .to_owned(),
            10 => self
                .random
                .pick(&[SHARED_BOT, TECHNICIAN_BOT, CONTOSO, TAILSPIN])
                .to_owned(),
            11 => self
                .random
                .pick(&["1001", "1002", "WOOD-01", "health", "102", "101", "60"])
                .to_owned(),
            12 => self
                .random
                .pick(&[
                    "asc",
                    "desc",
                    "all",
                    "true",
                    "FAST",
                    "SMART",
                    "NEO_SUPPORT",
                    "MSP",
                ])
                .to_owned(),
            _ => self.random.bits().to_string(),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.random.below(if depth > 3 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => self.random.chance(1, 2).into(),
            2 => self
                .random
                .pick(&[
                    0_i64,
                    1,
                    -1,
                    60,
                    100,
                    101,
                    102,
                    103,
                    105,
                    201,
                    86_400,
                    i64::MAX,
                    i64::MIN,
                ])
                .into(),
            3 => self.random.pick(&[0.5, -0.0, 1e308, 102.0]).into(),
            4 | 5 => self.text().into(),
            6 => (0..self.random.below(9))
                .map(|_| self.value(depth + 1))
                .collect(),
            _ => {
                let entries =
                    (0..self.random.below(20)).map(|_| (self.text(), self.value(depth + 1)));
                Value::Object(entries.collect::<Map<String, Value>>())
            }
        }
    }

    /// A valid body of a call, mostly of this path's own call.
    fn sensible(&mut self, path: &str) -> Value {
        const PATHS: &[&str] = &["/chat/sessions", "{session_id}", "/messages", "/sessions"];
        let path = if self.random.chance(1, 8) {
            self.random.pick(PATHS)
        } else {
            path
        };
        if path.ends_with("/messages") {
            let id = self.random.below(400).to_string();
            return json!({ "message": self.text(), "client_message_id": id, "model_tier": "FAST", "attachments": [] });
        }
        if path.ends_with("{session_id}") {
            let (archived, shared) = (self.random.chance(1, 8), self.random.chance(1, 2));
            return json!({ "title": self.text(), "archived": archived, "shared": shared, "metadata": { "a": "b" } });
        }
        if path == "/sessions" {
            let session = self.learnt(|seen| &seen.sessions);
            return json!({ "session_id": session, "ttl_seconds": 60, "allowed_agent_ids": [100, 101, 102], "end_user": "Mia" });
        }
        if path.starts_with("/channels") {
            let bot = self.random.pick(&[SHARED_BOT, TECHNICIAN_BOT, "b1", "b2"]);
            let directory = self.random.pick(&[CONTOSO, TAILSPIN, "d1", "d2", "d3"]);
            let company = self.random.pick(&["1001", "1002", "WOOD-01", "1005"]);
            let agent = self.random.pick(&[101, 102, 201, 202]);
            let audience = self.random.pick(&["MSP", "END_USER"]);
            let name = self.random.below(60).to_string();
            return if path.ends_with("/installs") {
                json!({ "end_client_tenant_id": directory, "psa_company_id": company })
            } else if path.ends_with("/install-events") {
                json!({ "end_client_tenant_id": directory, "bot_id": bot })
            } else if path.ends_with("{channel_id}") {
                json!({ "display_name": self.text(), "bot_id": bot, "status": "ACTIVE" })
            } else {
                json!({ "internal_name": name, "audience": audience, "agent_id": agent, "bot_id": bot })
            };
        }
        match self.random.below(5) {
            0 => technician(),
            1 => {
                json!({ "agent_id": 101, "end_company_id": "1001", "title": "Printer", "metadata": { "a": "b" } })
            }
            2 => from(CONTOSO),
            3 => {
                json!({ "managed_agent_key": "NEO_SUPPORT", "client_id": "northwind-it", "bot_id": TECHNICIAN_BOT })
            }
            _ => json!({ "managed_agent_key": "NEO_SUPPORT" }),
        }
    }

    fn body(&mut self, path: &str) -> Vec<u8> {
        let mut body = self.sensible(path);
        for _ in 0..self.random.below(3) {
            let value = self.value(0);
            if self.random.chance(1, 12) {
                body = value;
            } else if let Some(map) = body.as_object_mut() {
                let names: Vec<String> = map.keys().cloned().collect();
                let name = &names.get(self.random.below(names.len().max(1))).cloned();
                match (self.random.below(4), name) {
                    (0, Some(name)) => drop(map.remove(name)),
                    (1, _) | (_, None) => drop(map.insert(self.text(), value)),
                    (_, Some(name)) => drop(map.insert(name.clone(), value)),
                }
            }
        }
        let mut bytes = body.to_string().into_bytes();
        if self.random.chance(1, 5) {
            self.damage(&mut bytes);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.random.below(4) {
            let place = self.random.below(bytes.len().max(1));
            let byte = u8::try_from(self.random.below(256)).unwrap_or(0);
            match self.random.below(6) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place.min(bytes.len()), byte),
                2 if !bytes.is_empty() => drop(bytes.remove(place)),
                3 => bytes.extend(std::iter::repeat_n(
                    self.random.pick(b"[{\"0 "),
                    self.random.pick(&[3, 300, 300_000]),
                )),
                4 => bytes.extend_from_within(..place.min(bytes.len())),
                _ => {
                    if let Some(old) = bytes.get_mut(place) {
                        *old = byte;
                    }
                }
            }
        }
    }

    fn path(&mut self, pattern: &str) -> String {
        let mut path = self.random.pick(&["", "/public-api"]).to_owned();
        for part in pattern.split('/').skip(1) {
            path.push('/');
            let known = match part {
                "{session_id}" => self.learnt(|seen| &seen.sessions),
                "{chat_turn_id}" => self.learnt(|seen| &seen.turns),
                "{attachment_id}" => "att_019ab697-e807-7000-8000-000000000000".to_owned(),
                "{jti}" => self.learnt(|seen| &seen.tokens),
                "{channel_id}" => self.learnt(|seen| &seen.channels),
                "{install_id}" => self.learnt(|seen| &seen.installs),
                "{kind}" => self.random.pick(&["color", "outline"]).to_owned(),
                "{agent_id}" => self
                    .random
                    .pick(&["100", "101", "102", "201", "0", "-1"])
                    .to_owned(),
                other => other.to_owned(),
            };
            let chosen = if self.random.chance(1, 20) {
                self.text()
            } else {
                known
            };
            path.extend(escaped(&chosen));
        }
        if self.random.chance(1, 40) {
            path += self.random.pick(&[
                "/", "//", "/%00", "/x", "%", "%2", "%zz", "/..", "/.", ";a=b", "%ff%fe", "%c0%af",
            ]);
        }
        path
    }

    fn query(&mut self) -> String {
        const NAMES: &[&str] = &[
            "page_size",
            "cursor",
            "q",
            "archived",
            "agent_id",
            "channel_id",
            "end_company_id",
            "client_id",
            "order",
            "wait_seconds",
            "state",
            "audience",
            "autonomy_type",
            "status",
            "bot_id",
            "x",
        ];
        let mut query = Serializer::new(String::new());
        for _ in 0..self.random.below(4) {
            let name = self.random.pick(NAMES);
            let value = match name {
                // A valid wait would really wait and take too long.
                "wait_seconds" => self.random.pick(&["0", "-1", "61", "x"]).to_owned(),
                "page_size" if self.random.chance(2, 3) => {
                    self.random.pick(&["1", "2", "50", "200"]).to_owned()
                }
                "cursor" if self.random.chance(2, 3) => self.learnt(|seen| &seen.cursors),
                // The framework rejects a request target beyond 64 KiB as not HTTP.
                _ => self.text().chars().take(1_000).collect(),
            };
            query.append_pair(name, &value);
        }
        let mut query = query.finish();
        if self.random.chance(1, 20) {
            query += self.random.pick(&[
                "&&&",
                "=",
                "&=&=",
                "%",
                "%zz",
                "?",
                "&q",
                "&page_size",
                "&q=%ff%fe%00",
            ]);
        }
        query
    }

    fn credential(&mut self) -> Option<String> {
        Some(match self.random.below(16) {
            0..=4 => format!("Bearer {NORTHWIND}"),
            5..=7 => format!("Bearer {RELAY}"),
            8..=9 => format!("Bearer {FABRIKAM}"),
            10..=11 => format!("Bearer {}", self.learnt(|seen| &seen.credentials)),
            12 => {
                let mut token = self.learnt(|seen| &seen.credentials).into_bytes();
                self.damage(&mut token);
                token.truncate(4_000);
                format!("Bearer {}", visible(&String::from_utf8_lossy(&token)))
            }
            13 => format!("Bearer {}", visible(&self.text())),
            14 => visible(&self.text()),
            _ => return None,
        })
    }

    fn request(&mut self) -> Request {
        let table = router::table();
        let mut row = &table[self.random.below(table.len())];
        if row.method == "DELETE" && self.random.chance(19, 20) {
            // Otherwise most resources would be deleted before other calls use them.
            row = &table[self.random.below(table.len())];
        }
        let method = if self.random.chance(1, 25) {
            self.random
                .pick(&[
                    "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "BREW",
                ])
                .to_owned()
        } else {
            row.method.to_string()
        };
        let mut target = self.path(row.path);
        if self.random.chance(1, 3) {
            target.push('?');
            target += &self.query();
        }
        if row.path.ends_with("/events") {
            // An invalid cursor prevents a stream, which could wait for an answer for a long time.
            target += if target.contains('?') { "&" } else { "?" };
            target += "since=";
            target += self
                .random
                .pick(&["none", "0", "-", "1-", "99-99999", "0-0-0", "%00"]);
        }
        let mut request = Request::new(&method, target);
        if let Some(credential) = self.credential() {
            request = request.header("authorization", credential);
        }
        if self.random.chance(1, 8) {
            let key = if self.random.chance(1, 2) {
                "k".to_owned()
            } else {
                visible(&self.text())
            };
            request = request.header("idempotency-key", key);
        }
        if self.random.chance(1, 12) {
            let name = self.random.pick(&[
                "x-request-id",
                "origin",
                "accept",
                "accept-encoding",
                "content-encoding",
                "if-match",
                "range",
                "cookie",
                "x-forwarded-for",
                "expect-nothing",
                "last-event-id",
                "te",
                "upgrade-insecure-requests",
            ]);
            request = request.header(name, visible(&self.text()));
        }
        if method != "GET" && method != "DELETE" || self.random.chance(1, 10) {
            if !self.random.chance(1, 15) {
                let media_type = match self.random.below(12) {
                    0 => visible(&self.text()),
                    1 => "application/json; charset=utf-8".to_owned(),
                    _ => "application/json".to_owned(),
                };
                request = request.header("content-type", media_type);
            }
            request = request.bytes(self.body(row.path));
        }
        request
    }
}

/// A text for a path: illegal characters are escaped, and sometimes legal ones too.
fn escaped(text: &str) -> impl Iterator<Item = char> {
    let text = text.chars().take(600).collect::<String>();
    text.into_bytes().into_iter().flat_map(|byte| {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@%".contains(&byte);
        if plain {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
        .chars()
        .collect::<Vec<_>>()
    })
}

/// A text for a header value.
fn visible(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(4_000)
        .collect()
}

/// The fault of a reply, if there is one.
fn fault(request: &Request, reply: &Reply, codes: &HashMap<&str, u16>) -> Option<String> {
    if reply.status >= 500 {
        return Some(format!("an inner failure: {}", reply.text()));
    }
    let Some(id) = reply.header("x-request-id") else {
        return Some(format!("no request id for {}", reply.status));
    };
    if reply.status == 204 || request.method == "HEAD" {
        return (!reply.body.is_empty()).then(|| "a body that must not be there".to_owned());
    }
    if reply.header("content-security-policy").is_some() && matches!(reply.status, 200 | 302 | 308)
    {
        // Pages are HTML. The root, and another spelling of a page's path, lead to a page.
        return None;
    }
    if reply.header("content-type") != Some("application/json") {
        return Some(format!(
            "no JSON but {:?}: {}",
            reply.header("content-type"),
            reply.text()
        ));
    }
    let Ok(json) = serde_json::from_slice::<Value>(&reply.body) else {
        return Some(format!("no JSON: {}", reply.text()));
    };
    if json["openapi"].is_string() {
        return None;
    }
    if json["meta"]["request_id"] != id {
        return Some("two request ids".to_owned());
    }
    let fits = if reply.status < 300 {
        json.get("data").is_some() && json["meta"]["warnings"].is_array()
    } else {
        let known = json["error"]["code"]
            .as_str()
            .and_then(|code| codes.get(code));
        known == Some(&reply.status) && json["error"]["message"].is_string()
    };
    (!fits).then(|| format!("no envelope for {}: {}", reply.status, reply.text()))
}

#[test]
fn every_mangled_request_gets_an_envelope() {
    let seed = seed();
    let requests = number("SWITCHBOARD_FUZZ").unwrap_or(REQUESTS);
    let server = Server::answering(&[]);
    server.import_tenant("fabrikam-support", json!({ "rate_limit_per_minute": 0 }));
    let codes: HashMap<&str, u16> = Code::ALL
        .iter()
        .map(|code| (code.as_str(), code.status()))
        .collect();
    let tally = Mutex::new(HashMap::<u16, u64>::new());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, codes, tally) = (&server, &codes, &tally);
            scope.spawn(move || {
                let mut mangler = Mangler {
                    random: Random::new(seed.wrapping_add(client)),
                    seen: Seen::default(),
                };
                let mut kept: Option<Connection> = None;
                for number in 0..requests / CLIENTS {
                    let request = mangler.request();
                    let connection = kept
                        .take()
                        .unwrap_or_else(|| Connection::open(server.address));
                    let shown = || {
                        let head = String::from_utf8_lossy(&request.head()).into_owned();
                        let body =
                            String::from_utf8_lossy(request.body.as_deref().unwrap_or_default())
                                .into_owned();
                        format!(
                            "client {client}, request {number}:\n{head}{}",
                            body.chars().take(2_000).collect::<String>()
                        )
                    };
                    match connection.exchange(&request) {
                        Ok((Some(reply), connection)) => {
                            kept = connection;
                            if let Some(fault) = fault(&request, &reply, codes) {
                                panic!("{fault}\n{}", shown());
                            }
                            mangler.seen.learn(&reply);
                            *tally.lock().unwrap().entry(reply.status).or_default() += 1;
                        }
                        Ok((None, _)) => {
                            panic!("the connection was closed without a reply\n{}", shown())
                        }
                        Err(error) => panic!("{error}\n{}", shown()),
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{tally:?}");
    // A run that never gets past admission or validation proves little.
    for status in [200, 201, 202, 400, 401, 403, 404, 405, 409, 413, 415, 422] {
        assert!(
            requests < REQUESTS || tally.contains_key(&status),
            "nothing was answered with {status}"
        );
    }
    server.northwind().get("/whoami").expect(200);
}

#[test]
fn bytes_that_are_not_http_are_answered_or_cut_off_and_the_server_keeps_working() {
    let server = Server::demo();
    let seed = seed();
    let mut random = Random::new(seed);
    for _ in 0..300 {
        let mut bytes = Request::new("POST", "/chat/sessions")
            .json(&technician())
            .written();
        for _ in 0..=random.below(6) {
            let place = random.below(bytes.len());
            bytes[place] = u8::try_from(random.below(256)).unwrap();
        }
        let mut connection = Connection::open(server.address);
        // The server may close the connection early, and need not answer bytes that it cannot
        // parse.
        let _ = connection.write(&bytes);
        connection.shutdown_write();
        if let Ok(Some(reply)) = connection.read("POST") {
            assert!(reply.status < 500, "{}", reply.text());
        }
    }
    server.northwind().get("/whoami").expect(200);
}
