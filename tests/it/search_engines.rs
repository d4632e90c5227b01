//! Both engines find the same sessions, whatever is written and whatever is searched for.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchboard::input::seed;
use switchboard::model::author::{Author, Authorship};
use switchboard::model::caller::Actor;
use switchboard::model::clock::Clock;
use switchboard::model::directory::DirectoryRule;
use switchboard::model::ids::{SessionId, Tick};
use switchboard::model::names::{AgentId, ClientId};
use switchboard::model::session::Metadata;
use switchboard::model::tenant::Tenant;
use switchboard::model::words::{CallerKind, ModelTier, Rule, SessionChannel};
use switchboard::store::import::{self, ImportOptions};
use switchboard::store::messages::{self, NewMessage};
use switchboard::store::postgres::search_texts::{
    FIRST_MESSAGES_WITH, FIRST_TITLES_WITH, MESSAGES_WITH, NEWEST_FROM, NEWEST_MESSAGES_WITH,
    NEWEST_TITLES_WITH, TITLES_WITH,
};
use switchboard::store::postgres::{MIN_CONNECTIONS, Target};
use switchboard::store::sessions::{self, NewSession, Scope, SessionChange, SessionFilter};
use switchboard::store::{Extent, Store, tenants};
use switchboard::terms;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::support::{DEMO, ENVIRONMENT};

const SERVER: &str = "SWITCHBOARD_TEST_POSTGRES";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A database of the test on the PostgreSQL server.
struct Database {
    server: String,
    name: String,
}

impl Database {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let server = std::env::var(SERVER).unwrap_or_else(|_| {
            panic!("set {SERVER} to the URL of a PostgreSQL superuser, such as postgres://postgres@127.0.0.1:5432/postgres")
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchboard_search_{}_{number}", std::process::id());
        let database = Self { server, name };
        database.on_server(&format!("CREATE DATABASE {}", database.name));
        database
    }

    fn on_server(&self, sql: &str) {
        block_on(async { connect(&self.server).await.batch_execute(sql).await }).unwrap();
    }

    fn url(&self) -> String {
        let (place, _) = self.server.rsplit_once('/').unwrap();
        format!("{place}/{}", self.name)
    }

    /// The lines of a query's plan, or of its result.
    fn lines(&self, sql: &str) -> Vec<String> {
        let url = self.url();
        let rows = block_on(async { connect(&url).await.query(sql, &[]).await });
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*)::text FROM {table}");
        self.lines(&sql)[0].parse().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.on_server(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// A session that was found: its number, and where its message has the words.
type Hit = (usize, Option<(String, Vec<[usize; 2]>)>);

/// The demo world in a store, and the sessions that a test has created.
struct World {
    store: Store,
    tenants: [Tenant; 2],
    sessions: Vec<SessionId>,
}

impl World {
    fn of(store: Store) -> Self {
        let world = seed::parse(DEMO, ENVIRONMENT).unwrap();
        let tenants = store.write_now(move |tx| {
            let options = ImportOptions {
                dry_run: false,
                directories: DirectoryRule::AnyId,
                step: &mut || (),
            };
            import::apply_with(tx, &world, &actor(), options)?.unwrap();
            Ok(["northwind-it", "fabrikam-support"].map(|client_id| {
                let client_id = ClientId::parse(client_id).unwrap();
                let tenant = tenants::facts_by_client_id(tx.reader(), &client_id);
                tenant.unwrap().unwrap()
            }))
        });
        Self {
            store,
            tenants: tenants.unwrap(),
            sessions: Vec::new(),
        }
    }

    /// Creates a session with a title, or one with a message and a title of the message's first
    /// words. Returns its number.
    fn add(&mut self, tenant: usize, title: Option<&str>, message: Option<&str>) -> usize {
        let tenant = self.tenants[tenant].clone();
        let no = tenant.no;
        let new = NewSession {
            tenant,
            agent_id: AgentId(102),
            channel: SessionChannel::Api,
            title: title.map(str::to_owned),
            show_agent_progress_steps: true,
            channel_id: None,
            relay_prefix: None,
            company: None,
            pinned_by: None,
            rule: Rule::Selected,
            created_by: actor(),
            platform_tenant: None,
            external: None,
            end_user: None,
            metadata: Metadata::default(),
            metadata_json: "{}".to_owned(),
        };
        let message = message.map(str::to_owned);
        let created = self.store.write_now(move |tx| {
            let session = sessions::insert(tx, new)?.id;
            if let Some(content) = message {
                let title = content.chars().take(60).collect();
                let message = NewMessage {
                    session,
                    tenant: no,
                    authorship: Authorship {
                        author: Author::agent(AgentId(102), None),
                        is_given: false,
                        sent_by: None,
                    },
                    content,
                    attachments: Vec::new(),
                    title: Some(title),
                    model_tier: ModelTier::Fast,
                    client_message_id: None,
                };
                messages::append(tx, &message)?;
            }
            Ok(session)
        });
        self.sessions.push(created.unwrap());
        self.sessions.len() - 1
    }

    /// What the first tenant finds, newest first.
    fn search(&self, q: &str) -> Vec<Hit> {
        assert!(block_on(self.store.complete_search()).unwrap());
        let scope = Scope::Tenant(self.tenants[0].no);
        let found = self.store.read_now(|reader| {
            sessions::search_page(
                reader,
                &scope,
                &SessionFilter::default(),
                &terms::phrases(q),
                Tick(i64::MAX),
                10_000,
            )
        });
        let hits = found.unwrap().into_iter().map(|one| {
            let id = one.session.id;
            let number = self.sessions.iter().position(|session| *session == id);
            let snippet = one.snippet.flatten();
            (number.unwrap(), snippet.map(|one| (one.text, one.marks)))
        });
        hits.collect()
    }

    fn numbers(&self, q: &str) -> Vec<usize> {
        let hits = self.search(q).into_iter();
        hits.map(|(number, _)| number).collect()
    }

    fn change_title(&self, session: usize, title: Option<&str>) {
        let (id, title) = (self.sessions[session], title.map(str::to_owned));
        let change = SessionChange {
            title: Some(title),
            ..SessionChange::default()
        };
        let changed = self
            .store
            .write_now(move |tx| sessions::change(tx, id, change));
        changed.unwrap();
    }

    fn delete(&self, session: usize) {
        let id = self.sessions[session];
        let extent = Extent::Session(id.tick());
        block_on(self.store.write(extent, move |tx| sessions::delete(tx, id))).unwrap();
    }
}

fn actor() -> Actor {
    Actor {
        kind: CallerKind::Operator,
        id: "test".to_owned(),
        name: None,
    }
}

/// The same world on both engines.
struct Twins {
    sqlite: World,
    postgres: World,
    database: Database,
    _folder: TempDir,
}

impl Twins {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let database = Database::new();
        let target = Target::parse(&database.url()).unwrap();
        let postgres = Store::connect(&target, Clock::System, MIN_CONNECTIONS, false).unwrap();
        Self {
            sqlite: World::of(Store::open(folder.path(), Clock::System).unwrap()),
            postgres: World::of(postgres),
            database,
            _folder: folder,
        }
    }

    fn add(&mut self, tenant: usize, title: Option<&str>, message: Option<&str>) -> usize {
        self.sqlite.add(tenant, title, message);
        self.postgres.add(tenant, title, message)
    }

    fn both(&self, step: impl Fn(&World)) {
        step(&self.sqlite);
        step(&self.postgres);
    }

    /// What both engines find.
    #[track_caller]
    fn search(&self, q: &str) -> Vec<Hit> {
        let hits = self.sqlite.search(q);
        assert_eq!(hits, self.postgres.search(q), "{q}");
        hits
    }
}

/// Texts as people and programs write them: hosts, addresses, paths, numbers, other scripts.
const TEXTS: [&str; 48] = [
    "The printer on floor 3 does not print since Monday, please help.",
    "printer printers printing PRINTED",
    "mail.example.com does not answer, MAIL.EXAMPLE.ORG does",
    "See https://help.northwind-it.example/vpn/setup?lang=en#step-2 for the VPN",
    "Write to anna.maria+tickets@contoso.co.uk or o'neil@contoso.com",
    "10.0.0.12 and 10.0.12.0, 192.168.001.1/24, fe80::1ff:fe23:4567:890a",
    r"\\files-01\share\Q3_report (final).xlsx in C:\Users\anna\AppData",
    "/usr/local/bin/switchboard --data /var/lib/switchboard",
    "e-mail email e mail E-Mail",
    "state-of-the-art state of the art, well-known, co-operate",
    "it's Anna's, don't: rock'n'roll",
    "O'Brien said \"restart\"; then 'reboot' \\ escape",
    "KB5034441 KB5034 kb-5034 KB 5034",
    "v1.2.3-rc.1+build.5 v1.2.3 v1.2",
    "1,000.50 1000.50 -40 +49 (30) 123-456 3e8 0x1F",
    "snake_case camelCase kebab-case SCREAMING_SNAKE",
    "C++ C# .NET node.js F# a&b <b>bold</b> &amp; | ! : * ( )",
    "and or not AND OR NOT NEAR the a is",
    "the the the the",
    "Büro in Österreich, größere Pläne",
    "Bu\u{308}ro in O\u{308}sterreich",
    "BUERO BURO buro Osterreich",
    "Straße STRASSE strasse Gro\u{1e9e}",
    "naïve café déjà-vu façade Ærø Łódź þorn ðə",
    "İstanbul ISTANBUL ıstanbul istanbul",
    "ΟΔΟΣ οδός Αθήνα ΑΘΗΝΑ ᾳ ώ",
    "Ёлка елка й и и\u{306} Київ",
    "العَرَبِيَّة العربية مـــد",
    "שָׁלוֹם שלום",
    "हिन्दी हिंदी प्रिंटर",
    "三楼的打印机从星期一开始无法打印，请帮忙。",
    "打印 印机 机打 打 机",
    "プリンターが動きません。ｶﾞｽ ガス カ\u{3099}ス",
    "3층 프린터가 인쇄되지 않습니다",
    "เครื่องพิมพ์ชั้นสามไม่พิมพ์",
    "Windows更新のKB5034441をrestart後",
    "ＶＰＮ １２３ ｖｐｎ Ⅳ ① ㌖ ﬁle ½",
    "co\u{ad}operate zero\u{200b}width non\u{a0}breaking",
    "\u{1f600}\u{1f4a5} emoji\u{1f600}inside \u{2764}\u{fe0f}",
    "a b c d e f g",
    "aa ab ac aaa aab",
    "ab-ac aa.ab",
    "x",
    "* - . ' \\ \" /",
    "t1 t2 /1 scope words /2 t 1",
    "'/1' & 'x':* <-> !y | z",
    "tab\there\nnew line\r\nreturn",
    "UPPER lower MiXeD ǅ ǆ Ǆ",
];

/// Queries that are made of a text's own parts, and of parts that follow each other otherwise.
fn queries() -> BTreeSet<String> {
    let mut queries: BTreeSet<String> = [
        "",
        "print",
        "pri",
        "printer floor",
        "floor printer help",
        "floor 3",
        "mail.com",
        "example.com mail",
        "10.0",
        "0.0.12",
        "192.168.1.1",
        "Q3 report",
        "report Q3",
        "anna contoso",
        "tickets@contoso",
        "vpn set",
        "b5034",
        "KB 5034",
        "art state",
        "state of",
        "of-the",
        "not and",
        "the the",
        "the the the the the",
        "a b",
        "b a",
        "a c",
        "österr",
        "buero",
        "strase",
        "stras",
        "istan",
        "οδοσ",
        "елк",
        "и",
        "й",
        "打印机 星期一",
        "打机",
        "印",
        "機",
        "ガ",
        "カス",
        "프린터 인쇄",
        "프터",
        "ชั้น",
        "พิม",
        "vpn 12",
        "1/2",
        "file",
        "fi",
        "キロメートル",
        "キロ",
        "cooperate",
        "co operate",
        "zerowidth",
        "zero width",
        "emojiinside",
        "emoji inside",
        "aa a",
        "a aa",
        "ab.ac",
        "ab-ac aa",
        "ac-aa",
        "/1",
        "t1",
        "scope",
        "words t1",
        "'/1'",
        "x y",
        "x:*",
        "!y",
        "z | x",
        "\\",
        "o'neil",
        "o neil",
        "oneil",
        "o'ne",
        "dž",
        "ǆ",
        "new line return",
        "line-return",
        "newline",
        "printer 打印",
        "northwind-it.example/vpn",
        "northwind it example vp",
        "files 01",
        "c users",
        "users c",
    ]
    .map(str::to_owned)
    .into();
    for text in TEXTS {
        let parts: Vec<&str> = text.split_whitespace().collect();
        for (nth, part) in parts.iter().enumerate() {
            queries.insert((*part).to_owned());
            let beginning = part.chars().count().div_ceil(2);
            queries.insert(part.chars().take(beginning).collect());
            if let Some(next) = parts.get(nth + 1) {
                queries.insert(format!("{part}-{next}"));
                queries.insert(format!("{next} {part}"));
            }
        }
    }
    queries
}

#[test]
fn both_engines_find_the_same_sessions_for_the_same_texts() {
    let mut twins = Twins::new();
    for text in TEXTS {
        twins.add(0, Some(text), None);
        twins.add(1, Some(text), Some(text));
        twins.add(0, None, Some(text));
    }
    let queries = queries();
    assert!(queries.len() > 600, "{}", queries.len());
    let mut finding = 0;
    for q in &queries {
        let hits = twins.search(q);
        // Those of the second tenant are never found.
        assert!(hits.iter().all(|(number, _)| number % 3 != 1), "{q}");
        finding += usize::from(!hits.is_empty());
    }
    assert!(finding > 400, "{finding}");
}

#[test]
fn a_long_text_is_found_by_every_word_and_every_phrase_on_both_engines() {
    let mut twins = Twins::new();
    let numbered: Vec<String> = (0..5_000).map(|nth| format!("n{nth}")).collect();
    let letters: String = (0..16_000)
        .map(|nth| char::from_u32(0x4e00 + nth % 5_003).unwrap())
        .collect();
    let [often, long] = [
        format!("{}last-word", "the ".repeat(7_000)),
        "y".repeat(5_000),
    ];
    let texts = [
        numbered.join(" "),
        letters.clone(),
        format!("{letters}{letters}"),
        often,
        format!("{long} {long}z"),
    ];
    for text in &texts {
        twins.add(0, None, Some(text));
    }
    let phrase = |from: usize, count: usize| letters.chars().skip(from).take(count).collect();
    let mut queries: Vec<String> = vec![
        "n4999".to_owned(),
        "n4998-n4999".to_owned(),
        "n4999-n4998".to_owned(),
        "the-last-wo".to_owned(),
        "the-the-the-last".to_owned(),
        "the last-word".to_owned(),
        "last-the".to_owned(),
        "y".repeat(200),
        "z".to_owned(),
    ];
    for at in (0..15_000)
        .step_by(997)
        .chain([8_191, 8_192, 8_193, 15_999])
    {
        queries.push(format!("n{at}-n{}", at + 1));
        queries.push(format!("n{at}-n{}", at + 2));
        queries.push(phrase(at, 3));
        queries.push(phrase(at, 199));
    }
    let mut finding = 0;
    for q in &queries {
        finding += usize::from(!twins.search(q).is_empty());
    }
    assert!(finding > 40, "{finding}");
    assert_eq!(twins.postgres.numbers("n4998-n4999"), [0]);
    assert_eq!(twins.postgres.numbers("the-last-word"), [3]);
    assert_eq!(twins.postgres.numbers(&phrase(15_900, 100)), [2, 1]);
    assert_eq!(twins.postgres.numbers(&"y".repeat(200)), [4]);
}

#[test]
fn on_postgres_words_come_and_go_with_their_text() {
    let mut twins = Twins::new();
    let titled = twins.add(0, Some("Blue screen"), None);
    let said = twins.add(
        0,
        None,
        Some("Green screen of https://example.com/a/very/long/address/of/some/page/below"),
    );
    let both = twins.add(0, Some("Red screen"), Some("Yellow screen"));
    let found = |q: &str| -> Vec<usize> {
        let hits = twins.search(q).into_iter();
        hits.map(|(number, _)| number).collect()
    };
    assert_eq!(found("screen"), [both, said, titled]);
    assert_eq!(found("red yellow"), [both]);
    twins.both(|world| world.change_title(titled, Some("Blue window")));
    twins.both(|world| world.change_title(said, Some("Orange")));
    twins.both(|world| world.change_title(both, None));
    assert_eq!(found("screen"), [both, said]);
    assert_eq!(found("window"), [titled]);
    assert_eq!(found("orange green"), [said]);
    assert_eq!(found("red"), [0; 0]);
    assert_eq!(found("address of"), [said]);
    twins.both(|world| world.delete(both));
    twins.both(|world| world.delete(titled));
    assert_eq!(found("screen"), [said]);
    assert_eq!(found("window"), [0; 0]);
    assert_eq!(twins.database.count("title_search"), 1);
    block_on(twins.postgres.store.complete_removal()).unwrap();
    assert_eq!(twins.database.count("message_search"), 1);
    twins.both(|world| world.delete(said));
    twins.both(|world| block_on(world.store.complete_removal()).unwrap());
    for table in [
        "message_search",
        "title_search",
        "search_removals",
        "removed_sessions",
    ] {
        assert_eq!(twins.database.count(table), 0, "{table}");
    }
    // The passes of the other engine have nothing to do.
    let store = &twins.postgres.store;
    block_on(store.maintain_index(std::time::Duration::from_secs(9)));
    assert_eq!(block_on(store.missing_in_search()).unwrap(), 0);
    assert!(block_on(store.rebuild_search_batch()).unwrap());
}

/// 40,000 messages and titles. All have `often`, and each thousandth has `seldom`.
const MANY_TEXTS: [&str; 3] = [
    "INSERT INTO message_search (seq, part, session_seq, words)
     SELECT seq, 1, 1, CAST(concat('/1 often:1 w', seq % 997, ':2', CASE WHEN seq % 1000 = 0 THEN ' seldom:3' END) AS tsvector)
     FROM generate_series(1, 40000) AS seq",
    "INSERT INTO title_search (seq, part, words) SELECT seq, part, words FROM message_search",
    "ANALYZE message_search, title_search",
];

#[test]
fn on_postgres_a_search_reads_by_the_index_of_words_or_a_short_range_of_ticks() {
    let database = Database::new();
    let target = Target::parse(&database.url()).unwrap();
    drop(Store::connect(&target, Clock::System, MIN_CONNECTIONS, false).unwrap());
    for sql in MANY_TEXTS {
        block_on(async { connect(&database.url()).await.batch_execute(sql).await }).unwrap();
    }
    let newest = (35_905, i64::MAX);
    for (sql, word, (from, end), index) in [
        (NEWEST_MESSAGES_WITH, "often", newest, "message_search_pkey"),
        (
            NEWEST_MESSAGES_WITH,
            "seldom",
            newest,
            "message_search_pkey",
        ),
        (NEWEST_TITLES_WITH, "seldom", newest, "title_search_pkey"),
        (
            FIRST_MESSAGES_WITH,
            "often",
            (256, 0),
            "message_search_words",
        ),
        (FIRST_TITLES_WITH, "often", (256, 0), "title_search_words"),
        (
            MESSAGES_WITH,
            "often",
            (30_000, 32_000),
            "message_search_pkey",
        ),
        (MESSAGES_WITH, "seldom", (1, 32_000), "message_search_words"),
        (TITLES_WITH, "seldom", (1, 32_000), "title_search_words"),
        (NEWEST_FROM, "4096", (0, 0), "message_search_pkey"),
    ] {
        let first = match sql {
            NEWEST_FROM => word.to_owned(),
            _ => format!("'/1 & {word}'"),
        };
        let sql = sql.replace("?1", &first);
        let sql = sql.replace("?2", &from.to_string());
        let sql = sql.replace("?3", &end.to_string());
        let plan = database.lines(&format!("EXPLAIN {sql}")).join("\n");
        assert!(plan.contains(index), "{sql}\n{plan}");
        assert!(!plan.contains("Seq Scan"), "{sql}\n{plan}");
    }
}
