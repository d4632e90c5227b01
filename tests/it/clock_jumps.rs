//! A clock that jumps forward and back: ids keep their order, and access does not change.

use std::net::SocketAddr;
use std::thread;

use serde_json::json;
use switchboard::model::clock::{Clock, Millis, parse_rfc3339};

use crate::database::is_on_postgres;
use crate::event_reader::{Events, text_of};
use crate::faults::{address, kill, wait_until_all_turns_end};
use crate::history::{Writer, holds};
use crate::process::{NORTHWIND, Server, Workspace};
use crate::random::{Random, seed};
use crate::shim::Shim;
use crate::support::{ApiClient, DAY, MINUTE, SECOND, technician};

const HOUR: Millis = 60 * MINUTE;
const YEAR: Millis = 365 * DAY;

/// The jumps of a test, in order.
const JUMPS: [Millis; 8] = [
    DAY,
    -HOUR,
    -YEAR,
    10 * YEAR,
    -DAY,
    -20 * YEAR,
    HOUR,
    20 * YEAR,
];

/// A server whose clock the test sets by its offset from the machine's clock.
struct Jumping {
    workspace: Workspace,
    shim: Shim,
    server: Server,
    flags: &'static [&'static str],
    ahead: Millis,
}

impl Jumping {
    fn with_flags(flags: &'static [&'static str]) -> Self {
        let workspace = Workspace::with_demo_world();
        let shim = Shim::of(&workspace);
        Self {
            server: Self::start(&workspace, &shim, flags),
            workspace,
            shim,
            flags,
            ahead: 0,
        }
    }

    fn start(workspace: &Workspace, shim: &Shim, flags: &[&str]) -> Server {
        let mut command =
            workspace.command(["serve", "--listen", "127.0.0.1:0", "--env", "demo"].iter());
        command.args(flags);
        Server::start(shim.under(command))
    }

    fn jump(&mut self, by: Millis) {
        self.ahead += by;
        self.shim.set_clock_ahead(self.ahead);
    }

    /// Kills the server and starts it again with the same clock offset.
    fn restart_after_crash(self) -> Self {
        kill(self.server);
        let server = Self::start(&self.workspace, &self.shim, self.flags);
        Self { server, ..self }
    }

    fn address(&self) -> SocketAddr {
        address(&self.server)
    }

    fn northwind(&self) -> ApiClient {
        ApiClient::new(self.address(), Some(format!("Bearer {NORTHWIND}")))
    }

    /// Creates a session, which must carry the time of the server's clock.
    fn session(&self) -> String {
        let before = Clock::System.now();
        let opened = self.northwind().create_session(technician()).expect(201);
        let after = Clock::System.now();
        let created_at = parse_rfc3339(opened.data()["created_at"].as_str().unwrap()).unwrap();
        let by_the_machine = created_at - self.ahead;
        // On PostgreSQL, a server soon goes by the clock of the database again.
        assert!(
            is_on_postgres() || (before..=after).contains(&by_the_machine),
            "{by_the_machine} is not from {before} to {after}"
        );
        opened.id()
    }

    /// Stops the server as an operator does; it has not panicked, and its file passes the check.
    fn stop(self) {
        let log = self.server.stop();
        assert!(
            !log.iter().any(|line| line.contains("panicked")),
            "{log:#?}"
        );
        let checked = self.workspace.ok(["check"]);
        assert!(checked.ends_with(" messages, 2 warnings\n"), "{checked}");
    }
}

#[test]
fn sessions_messages_and_streams_keep_their_order() {
    let mut server = Jumping::with_flags(&["--rate-limit", "0"]);
    let talk = server.session();
    let mut follower = Events::open(server.address(), NORTHWIND, &talk, "follow=true");
    let (mut sessions, mut texts, mut cursors) = (vec![talk.clone()], Vec::new(), Vec::new());
    for (number, jump) in JUMPS.into_iter().enumerate() {
        server.jump(jump);
        sessions.push(server.session());
        let text = format!("Hello, number {number}");
        let accepted = server
            .northwind()
            .append_text(&talk, &text)
            .expect(202)
            .data();
        texts.push(text);
        // A permanent follower and a reader of this answer alone read the same events.
        let followed = follower.turn();
        let query = format!("since={}", accepted["since_cursor"].as_str().unwrap());
        let answer = Events::open(server.address(), NORTHWIND, &talk, &query).rest();
        assert_eq!(text_of(&answer), text_of(&followed));
        assert!(!text_of(&answer).is_empty());
        cursors.push((followed[followed.len() - 1].id.clone(), text_of(&answer)));
    }
    drop(follower);
    let mut sorted = sessions.clone();
    sorted.sort();
    assert_eq!(sorted, sessions);
    // A server that starts with its clock set back continues after its last id.
    server.jump(-30 * DAY);
    let server = server.restart_after_crash();
    sessions.push(server.session());
    assert!(sessions[sessions.len() - 1] > sessions[sessions.len() - 2]);
    sessions.reverse();
    let northwind = server.northwind();
    assert_eq!(northwind.list_sessions("").expect(200).ids(), sessions);
    let listed = northwind
        .messages(&talk, "page_size=100")
        .expect(200)
        .data();
    let said = listed.as_array().unwrap();
    let asked = said.iter().filter(|message| message["role"] == "user");
    let asked: Vec<&str> = asked
        .map(|message| message["content"].as_str().unwrap())
        .collect();
    assert_eq!(asked, texts);
    let answered = said.iter().filter(|message| message["role"] == "assistant");
    assert_eq!(answered.count(), texts.len());
    // After the end of each answer comes the next one.
    for (before, after) in cursors.iter().zip(&cursors[1..]) {
        let query = format!("since={}", before.0);
        let next = Events::open(server.address(), NORTHWIND, &talk, &query).rest();
        assert_eq!(text_of(&next), after.1);
    }
    server.stop();
}

#[test]
fn a_list_started_before_a_jump_continues_after_it() {
    let mut server = Jumping::with_flags(&["--rate-limit", "0"]);
    let mut sessions = Vec::new();
    for jump in JUMPS {
        server.jump(jump);
        sessions.push(server.session());
    }
    sessions.reverse();
    let mut listed = Vec::new();
    let mut query = "page_size=1".to_owned();
    for jump in JUMPS {
        let page = server.northwind().list_sessions(&query).expect(200);
        listed.extend(page.ids());
        server.jump(jump);
        // A new session sorts before all others, so it is on none of the remaining pages.
        server.session();
        if let Some(cursor) = page.next_cursor() {
            query = format!("page_size=1&cursor={cursor}");
        }
    }
    assert_eq!(listed, sessions);
    server.stop();
}

#[test]
fn a_repeat_is_recognized_for_a_day_of_the_clock_despite_jumps() {
    let mut server = Jumping::with_flags(&["--rate-limit", "0"]);
    let opens = |server: &Jumping| {
        let opened = server.northwind().create_session_once("once", technician());
        opened.expect(201).id()
    };
    let first = opens(&server);
    for (jump, is_known) in [
        (-HOUR, true),
        (-YEAR, true),
        (YEAR + 23 * HOUR, true),
        (3 * HOUR, false),
    ] {
        server.jump(jump);
        assert_eq!(opens(&server) == first, is_known, "{jump}");
    }
    server.stop();
}

#[test]
fn tokens_and_links_expire_by_the_clock_and_none_expires_when_it_is_set_back() {
    let mut server = Jumping::with_flags(&["--rate-limit", "0"]);
    let session = server.session();
    let guest = server.northwind().with_session_token(&session);
    let upload = || server.northwind().request_upload(&session, "text/plain");
    let links: Vec<String> = [upload(), upload()]
        .map(|asked| {
            asked.expect(201).data()["upload_url"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .into();
    server.jump(-YEAR);
    guest.read_session(&session).expect(200);
    let anonymous = ApiClient::new(server.address(), None);
    anonymous
        .follow_link("PUT", &links[0], Some(b"Hello"))
        .expect(200);
    server.jump(YEAR + DAY);
    guest.read_session(&session).refused(401, "unauthorized");
    anonymous
        .follow_link("PUT", &links[1], Some(b"Hello"))
        .refused(403, "forbidden");
    let other = server.northwind().with_session_token(&session);
    other.read_session(&session).expect(200);
    server.stop();
}

#[test]
fn a_jump_makes_no_caller_wait_at_the_rate_limit() {
    let mut server = Jumping::with_flags(&["--rate-limit", "3"]);
    let northwind = server.northwind();
    for jump in [0, DAY, -HOUR, -YEAR, 10 * YEAR, -2 * HOUR] {
        server.jump(jump);
        for _ in 0..3 {
            northwind.get("/whoami").expect(200);
        }
        let refused = northwind.get("/whoami").refused(429, "rate_limited");
        let wait_s: Millis = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait_s), "{jump}: {wait_s}");
        // A caller that waits as long as the reply says is served.
        server.jump(wait_s * SECOND);
        northwind.get("/whoami").expect(200);
        server.jump(MINUTE);
    }
    server.stop();
}

#[test]
fn a_server_whose_clock_keeps_jumping_loses_nothing_and_reuses_no_id() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut server = Jumping::with_flags(&["--rate-limit", "0"]);
    let recorded = || 0;
    let mut histories = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for part in 0..2 {
        let address = server.address();
        thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let recorded = &recorded;
                    scope.spawn(move || {
                        let name = format!("Part {part}, writer {writer}");
                        let mut writer = Writer::new(name, address, seed + writer, recorded);
                        for _ in 0..10 {
                            writer.write_session().unwrap();
                            writer.delete().unwrap();
                            writer.write_session().unwrap();
                        }
                        writer.history
                    })
                })
                .collect();
            let northwind = server.northwind();
            while !writers.iter().all(|writer| writer.is_finished()) {
                // Stay within a day, after which stored first replies expire.
                let ahead = HOUR * i64::try_from(random.below(23)).unwrap() - 11 * HOUR;
                server.jump(ahead - server.ahead);
                let id = northwind.session(json!({ "agent_id": 102 }));
                assert!(
                    ids.last().is_none_or(|last| *last < id),
                    "{id} behind {ids:?}"
                );
                ids.push(id);
            }
            histories.extend(writers.into_iter().map(|writer| writer.join().unwrap()));
        });
        wait_until_all_turns_end(&server.workspace);
        server = server.restart_after_crash();
    }
    kill(server.server);
    holds(server.workspace.sql(), &histories, u64::MAX).unwrap();
}
