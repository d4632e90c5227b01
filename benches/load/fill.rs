//! Fills a file with sessions and messages, as months of use would.

use std::fs::File;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use switchboard::model::clock::Clock;
use switchboard::model::ids::{ChannelId, KeyId, MessageId, SessionId, Tick, TurnId};
use switchboard::store::database_file;
use switchboard::store::sqlite::migrations;
use switchboard::terms;

use crate::numbers::Random;
use crate::{Failed, SEED_FILE, server};

/// The number of tenants in a big file.
const TENANTS: usize = 200;
const BIG_SESSIONS: usize = 1_000_000;
/// The number of questions, each with its answer, of twenty sessions: 50 in total, so that a
/// session has 5 messages on average.
const QUESTIONS: [usize; 20] = [0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 5, 5, 6, 8];
/// The number of further sessions whose messages fill a page, for reading.
const READ_SESSIONS: usize = 64;
const READ_QUESTIONS: usize = 10;
const SESSIONS_PER_COMMIT: usize = 20_000;
/// The time that the sessions of a file span.
const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1_000;
/// A file in the folder of a big file: its content describes the complete big file.
const COMPLETE: &str = "filled.json";
/// A file in the folder of a big file: this program created the folder, and may fill it again.
const MARKER: &str = "filling";

/// The words of the messages.
const WORDS: &str = "\
    printer password laptop outlook teams vpn office screen since this morning please cannot \
    open shared folder calendar invoice user new starter phone code sign error restart \
    update windows drive backup restore file deleted meeting room headset sound camera \
    license mailbox full quota phishing mail suspicious link clicked browser slow wifi cable \
    dock monitor keyboard account locked again tried twice works for others the and";

/// Makes a data folder in which one tenant has just enough sessions to fill every page.
pub fn small(data: &Path) -> Result<(), Failed> {
    server::import(data, SEED_FILE)?;
    fill(data, 0)
}

/// Returns a data folder with a million sessions and five million messages, and makes it if needed.
pub fn big(folder: &Path) -> Result<PathBuf, Failed> {
    let data = folder.join("data");
    let complete = folder.join(COMPLETE);
    let wanted =
        json!({ "schema": migrations::newest(), "tenants": TENANTS, "sessions": BIG_SESSIONS })
            .to_string();
    let has = std::fs::read_to_string(&complete).ok();
    if has.is_some_and(|has| has == wanted) {
        return Ok(data);
    }
    std::fs::create_dir_all(folder)?;
    if folder.join(MARKER).is_file() {
        let _ = std::fs::remove_file(&complete);
        if data.is_dir() {
            std::fs::remove_dir_all(&data)?;
        }
    } else if folder.read_dir()?.next().is_some() {
        return Err(format!(
            "{} contains other files; choose another folder with --folder",
            folder.display()
        )
        .into());
    }
    std::fs::write(folder.join(MARKER), "")?;
    eprintln!(
        "filling the big file in {}; this takes some minutes, once",
        folder.display()
    );
    server::import(&data, &big_world()?)?;
    fill(&data, BIG_SESSIONS)?;
    std::fs::write(complete, wanted)?;
    Ok(data)
}

/// Copies a data folder, so that every run starts with the same one.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    std::fs::create_dir(to)?;
    for entry in from.read_dir()? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        std::fs::copy(entry.path(), &copy)?;
        // The disk must be idle before a measurement begins.
        File::open(copy)?.sync_all()?;
    }
    Ok(())
}

/// Returns the sessions of a filled file whose messages fill a page.
pub fn read_sessions(data: &Path) -> Result<Vec<String>, Failed> {
    let connection = Connection::open(database_file(data))?;
    let mut statement = connection.prepare(
        "SELECT id FROM sessions WHERE tenant_no = 1 AND message_count = ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    let ids = statement.query_map((READ_QUESTIONS * 2, READ_SESSIONS), |row| {
        row.get(0).map(SessionId::from_bytes)
    })?;
    ids.map(|id| Ok(id?.to_string())).collect()
}

/// Returns the usual seed with further tenants, each with companies, agents and a bot.
fn big_world() -> Result<String, Failed> {
    let mut seed_file: Value = serde_json::from_str(SEED_FILE)?;
    let tenants = seed_file["tenants"]
        .as_array_mut()
        .ok_or("the seed file has no tenants")?;
    for number in tenants.len()..TENANTS {
        let companies: Vec<Value> = (0..20)
            .map(|company| {
                json!({ "psa_company_id": format!("{company:04}"), "psa_company_name": format!("Client {company} of MSP {number}"),
                        "tenant_id": directory(number, company) })
            })
            .collect();
        let installs: Vec<Value> = (0..20)
            .map(|company| json!({ "end_client_tenant_id": directory(number, company) }))
            .collect();
        let first_agent = 1_000 + number * 10;
        tenants.push(json!({
            "client_id": format!("msp-{number:03}"), "name": format!("MSP {number}"),
            "agents": [
                { "agent_id": first_agent, "name": "Service desk", "autonomy_type": "CONVERSATIONAL", "audience": "END_USER" },
                { "agent_id": first_agent + 1, "name": "Technician assistant", "autonomy_type": "CONVERSATIONAL", "audience": "MSP" },
            ],
            "end_companies": companies,
            "channels": [{ "internal_name": "Teams", "audience": "END_USER", "transport": "TEAMS", "status": "ACTIVE",
                           "bot_id": format!("bot-{number:03}"), "agent_id": first_agent, "installs": installs }],
            "api_keys": [{ "name": "program", "key": format!("neo_sk_bench_program{number:08}"), "platform": false }],
        }));
    }
    Ok(seed_file.to_string())
}

fn directory(tenant: usize, company: usize) -> String {
    format!("d1ec7000-{tenant:04}-4000-8000-{company:012}")
}

/// The values from which a tenant's sessions are made.
struct Msp {
    no: i64,
    account: Option<KeyId>,
    technicians_agent: Option<i64>,
    routed: Option<Routed>,
    companies: Vec<(String, String)>,
}

struct Routed {
    channel: ChannelId,
    agent: i64,
}

fn msps(connection: &Connection) -> rusqlite::Result<Vec<Msp>> {
    let mut numbers = connection.prepare("SELECT tenant_no FROM tenants ORDER BY tenant_no")?;
    let numbers: Vec<i64> = numbers
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let msp = |no: i64| {
        let first = |sql| {
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query_map([no], |row| row.get::<_, i64>(0))?;
            rows.next().transpose()
        };
        let mut accounts = connection
            .prepare("SELECT account_id FROM api_keys WHERE tenant_no = ?1 AND platform = 0")?;
        let mut channels =
            connection.prepare("SELECT id, agent_id FROM channels WHERE tenant_no = ?1")?;
        let mut companies = connection.prepare(
            "SELECT psa_company_id, m365_tenant_id FROM company_directories WHERE tenant_no = ?1",
        )?;
        let routed = channels.query_map([no], |row| {
            Ok(Routed {
                channel: ChannelId::from_bytes(row.get(0)?),
                agent: row.get(1)?,
            })
        });
        Ok(Msp {
            no,
            account: accounts
                .query_map([no], |row| row.get(0).map(KeyId::from_bytes))?
                .next()
                .transpose()?,
            technicians_agent: first(
                "SELECT agent_id FROM agents WHERE tenant_no = ?1 AND audience = 'MSP' AND managed_agent_key IS NULL",
            )?,
            routed: routed?.next().transpose()?,
            companies: companies
                .query_map([no], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?,
        })
    };
    numbers.into_iter().map(msp).collect()
}

fn text(numbers: &mut Random, words: usize) -> String {
    let known: Vec<&str> = WORDS.split(' ').collect();
    let drawn: Vec<&str> = (0..words).map(|_| numbers.pick(&known)).collect();
    drawn.join(" ")
}

/// Adds `sessions` sessions of all tenants over a year, then the sessions for reading.
fn fill(data: &Path, sessions: usize) -> Result<(), Failed> {
    let connection = Connection::open(database_file(data))?;
    // An incomplete file is filled again, so nothing needs to survive a crash here.
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -512_000)?;
    connection.set_prepared_statement_cache_capacity(32);
    let msps = msps(&connection)?;
    // The first tenants are the largest: each weighs a little less than the one before it.
    let mut ends = Vec::with_capacity(msps.len());
    let mut weight = 0;
    for index in 0..msps.len() {
        weight += 1_000_000 / (index + 10);
        ends.push(weight);
    }
    let mut numbers = Random::new(0x2545_f491_4f6c_dd1d);
    let total = sessions + READ_SESSIONS;
    let first_ms = Clock::System.now() - YEAR_MS - 60 * 60 * 1_000;
    let step_ms = YEAR_MS / i64::try_from(total)?;
    let mut time_ms = first_ms;
    let bar = progress(sessions)?;
    connection.execute_batch("BEGIN")?;
    for number in 0..total {
        let is_read = number >= sessions;
        let (msp, questions) = if is_read {
            (&msps[0], READ_QUESTIONS)
        } else {
            let drawn = numbers.below(weight);
            let index = ends.partition_point(|end| *end <= drawn);
            (&msps[index], QUESTIONS[number * 7 % QUESTIONS.len()])
        };
        add_session(
            &connection,
            &mut numbers,
            msp,
            time_ms,
            step_ms,
            questions,
            is_read,
        )?;
        time_ms += step_ms;
        if number % SESSIONS_PER_COMMIT == SESSIONS_PER_COMMIT - 1 {
            connection.execute_batch("COMMIT; BEGIN")?;
            bar.set_position(number as u64);
        }
    }
    connection.execute(
        "UPDATE search_progress SET done_seq = (SELECT max(seq) FROM messages) WHERE what = 'messages'",
        [],
    )?;
    connection.execute_batch("COMMIT")?;
    bar.finish_and_clear();
    connection.pragma_update(None, "journal_mode", "WAL")?;
    Ok(())
}

fn progress(sessions: usize) -> Result<ProgressBar, Failed> {
    let style =
        ProgressStyle::with_template("filling the big file {wide_bar} {pos}/{len}, {eta} left")?;
    Ok(ProgressBar::new(sessions as u64).with_style(style))
}

const SESSION: &str = "
INSERT INTO sessions (seq, id, tenant_no, agent_id, channel, title, show_agent_progress_steps, channel_seq, channel_id, psa_company_id,
                      inbound_m365_tenant_id, rule, created_by_kind, created_by_id, created_by_name, platform_tenant_no, shared,
                      message_count, metadata, archived, archived_at, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, '{}', ?18, ?19, ?20, ?21)";
const MESSAGE: &str = "
INSERT INTO messages (seq, id, session_seq, turn_seq, role, content, finish_reason, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const TURN: &str = "
INSERT INTO turns (seq, id, session_seq, tenant_no, status, model_tier, user_message_id, assistant_message_id, since_tick,
                   input_tokens, output_tokens, queued_at, started_at, finished_at, terminal_tick)
VALUES (?1, ?2, ?3, ?4, 'COMPLETED', 'FAST', ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11, ?12)";
const TITLE_WORDS: &str = "INSERT INTO title_search (rowid, scope, words) VALUES (?1, ?2, ?3)";
const MESSAGE_WORDS: &str = "INSERT INTO message_search (rowid, scope, words) VALUES (?1, ?2, ?3)";

/// Adds a session with its questions and answers.
///
/// All of them precede the next session, so that rows are inserted in the order of their age.
fn add_session(
    connection: &Connection,
    numbers: &mut Random,
    msp: &Msp,
    begins_ms: i64,
    span_ms: i64,
    questions: usize,
    is_read: bool,
) -> rusqlite::Result<()> {
    let seq = Tick::new(begins_ms, 0);
    let scope = format!("t{}", msp.no);
    let company = if is_read || numbers.below(10) < 5 {
        None
    } else {
        let drawn = numbers.below(msp.companies.len().max(1));
        msp.routed.as_ref().zip(msp.companies.get(drawn))
    };
    // A fifth of the sessions in a big file is archived, more of the old than of the new ones.
    let is_archived = !is_read && numbers.below(5) == 0;
    let by_user = company.is_none() && !is_read && numbers.below(10) < 6;
    let ends_ms = begins_ms + span_ms - 1;
    let title = (questions > 0).then(|| text(numbers, 5));
    let account = msp.account.map(|account| account.to_string());
    let (kind, creator, name) = match (&company, by_user, account) {
        (Some(_), _, _) => ("service_account", "relay".to_owned(), "relay"),
        (None, false, Some(account)) => ("service_account", account, "program"),
        (None, _, _) => (
            "dashboard_user",
            format!("user-{}-{}", msp.no, numbers.below(30)),
            "A technician",
        ),
    };
    let routed = company.map(|(routed, _)| routed);
    connection.prepare_cached(SESSION)?.execute(params![
        seq.0,
        SessionId::new(seq, numbers.next()).as_bytes(),
        msp.no,
        routed.map_or(msp.technicians_agent.unwrap_or(102), |routed| routed.agent),
        if routed.is_some() { "TEAMS" } else { "API" },
        title,
        routed.map(|routed| routed.channel.tick().0),
        routed.map(|routed| *routed.channel.as_bytes()),
        company.map(|(_, (company, _))| company),
        company.map(|(_, (_, inbound))| inbound),
        if routed.is_some() {
            "white_label_install"
        } else {
            "selected"
        },
        kind,
        creator,
        name,
        routed.map(|_| 2),
        kind == "dashboard_user" && numbers.below(20) == 0,
        questions * 2,
        is_archived,
        is_archived.then_some(ends_ms),
        begins_ms,
        ends_ms,
    ])?;
    if let Some(title) = title {
        connection
            .prepare_cached(TITLE_WORDS)?
            .execute((seq.0, &scope, terms::of(&title)))?;
    }
    let apart_ms = span_ms / (i64::try_from(questions).unwrap_or(i64::MAX) + 1);
    for question in 0..questions {
        let asked_ms = begins_ms + apart_ms * i64::try_from(question).unwrap_or(0) + 1;
        let answered_ms = asked_ms + apart_ms / 2;
        let asked = MessageId::new(Tick::new(asked_ms, 1), numbers.next());
        let turn = TurnId::new(Tick::new(asked_ms, 2), numbers.next());
        let answered = MessageId::new(Tick::new(answered_ms, 3), numbers.next());
        for (id, role, reason, words) in [
            (asked, "user", None, 15),
            (answered, "assistant", Some("stop"), 40),
        ] {
            let words = words / 2 + numbers.below(words);
            let text = text(numbers, words);
            let at = id.tick().millis();
            connection.prepare_cached(MESSAGE)?.execute(params![
                id.tick().0,
                id.as_bytes(),
                seq.0,
                turn.tick().0,
                role,
                text,
                reason,
                at
            ])?;
            connection.prepare_cached(MESSAGE_WORDS)?.execute((
                id.tick().0,
                &scope,
                terms::of(&text),
            ))?;
        }
        let since = if question == 0 { Tick(0) } else { turn.tick() };
        connection.prepare_cached(TURN)?.execute(params![
            turn.tick().0,
            turn.as_bytes(),
            seq.0,
            msp.no,
            asked.as_bytes(),
            answered.as_bytes(),
            since.0,
            200 + numbers.below(2_000),
            50 + numbers.below(400),
            asked_ms,
            answered_ms,
            answered.tick().0,
        ])?;
    }
    Ok(())
}
