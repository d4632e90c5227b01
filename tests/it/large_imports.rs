//! Imports of more companies than one transaction takes: beside a server, interrupted, refused.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::database::is_on_postgres;
use crate::process::{Client, CommandOutput, DEMO_FINDINGS, RELAY, Workspace};
use crate::shim::{Call, Failure, Shim};

const BOT: &str = "b07fab1e-c0de-4bee-8ace-facade0fb075";
const TENANT: [&str; 2] = ["--tenant", "northwind-it"];

/// A directory of this number.
fn directory(number: usize) -> String {
    format!(
        "{:08x}-0000-4000-8000-{number:012x}",
        number.wrapping_mul(2_654_435_761) & 0xffff_ffff
    )
}

/// A list of this many new companies with a directory each, with further rows after the first and
/// before the last of them.
fn list(companies: usize, early: &str, late: &str) -> String {
    let mut list = "psa_company_id,psa_company_name,tenant_id\n".to_owned();
    for number in 0..companies {
        if number + 1 == companies {
            list += late;
        }
        let directory = directory(number);
        writeln!(list, "n{number},New {number},{directory}").unwrap();
        if number == 0 {
            list += early;
        }
    }
    list
}

/// The same companies as a seed file, with an article for one of them and a new tenant.
fn seed(companies: usize) -> String {
    let companies: Vec<Value> = (0..companies)
        .map(|number| {
            json!({ "psa_company_id": format!("n{number}"), "psa_company_name": format!("New {number}"),
                    "tenant_id": directory(number), "custom_instructions": "Be brief." })
        })
        .collect();
    let last = companies.last().unwrap()["psa_company_id"].clone();
    json!({ "tenants": [
        {
            "client_id": "northwind-it",
            "end_companies": companies,
            "knowledge_articles": [{ "title": "Rooms", "body": "Book a room.", "audience": "END_USER", "end_company_id": last }],
        },
        { "client_id": "new-msp", "name": "New MSP", "end_companies": companies },
    ] })
    .to_string()
}

/// The whole configuration.
fn world(workspace: &Workspace) -> Value {
    serde_json::from_str(&workspace.ok(["export"])).unwrap()
}

/// One number from the database.
fn number(workspace: &Workspace, sql: &str) -> i64 {
    workspace.sql().stored(sql)
}

const STAGED: &str = "SELECT (SELECT count(*) FROM imports) + (SELECT count(*) FROM import_rows) + (SELECT count(*) FROM import_holds)";
const EVENTS: &str = "SELECT count(*) FROM audit_events";

fn import(workspace: &Workspace, file: &str) -> CommandOutput {
    match file.ends_with(".csv") {
        true => workspace.run(["import", file, TENANT[0], TENANT[1]]),
        false => workspace.run(["import", file]),
    }
}

/// Starts an import.
fn begin(workspace: &Workspace, file: &str) -> Child {
    let mut command = match file.ends_with(".json") {
        true => workspace.command(["import", file]),
        false => workspace.command(["import", file, "--csv", TENANT[0], TENANT[1]]),
    };
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until a query of the database returns 1.
fn wait_for(workspace: &Workspace, import: &mut Child, sql: &str) {
    while number(workspace, sql) == 0 {
        assert_eq!(import.try_wait().unwrap(), None, "the import ended first");
        thread::yield_now();
    }
}

/// Waits until no import is left, apart from rows that a server removes later.
fn wait_for_the_end(workspace: &Workspace) {
    while number(workspace, "SELECT count(*) FROM imports") > 0 {
        thread::yield_now();
    }
}

/// An import of nothing, which removes what is left of others.
fn import_nothing(workspace: &Workspace) -> CommandOutput {
    let done = import(workspace, &workspace.file("none.csv", "psa_company_id\n"));
    assert_eq!(
        done.stdout, "0 created, 0 updated, 0 unchanged\n",
        "{done:?}"
    );
    assert_eq!(number(workspace, STAGED), 0);
    done
}

/// Creates a session for a sender of a directory. Returns the company that it is pinned to, `None`
/// if it is refused.
fn pinned(client: &Client, directory: &str) -> Option<String> {
    let body = json!({ "client_id": "northwind-it", "managed_agent_key": "NEO_SUPPORT", "bot_id": BOT,
                       "inbound_tenant_id": directory });
    let reply = client.post(RELAY, "/chat/sessions", &body);
    match reply.status {
        201 => Some(reply.data()["end_company_id"].as_str().unwrap().to_owned()),
        409 => {
            assert_eq!(reply.code(), "end_company_not_mapped");
            None
        }
        status => panic!("{status}: {reply:?}"),
    }
}

#[test]
fn amid_an_import_a_directory_is_pinned_as_before_or_as_afterwards_or_not_at_all() {
    let workspace = Workspace::with_demo_world();
    let before = "psa_company_id,psa_company_name,tenant_id\n\
                  kept,Kept,dir-kept\nmoves,Moves,dir-left\nstays,Stays,dir-shared-before\n\
                  leaves,Leaves,dir-shared-before\ngone-1,Gone 1,dir-emptied\ngone-2,Gone 2,dir-emptied\n";
    let before = workspace.file("before.csv", before);
    assert_eq!(import(&workspace, &before).code, 0);
    let early = "early,Early,dir-shared-after\nmoves,,dir-joined\ngone-1,,dir-a\n";
    let late = "late,Late,dir-shared-after\nheir,Heir,dir-left\nleaves,,dir-b\ngone-2,,dir-c\n";
    let file = workspace.file("list.csv", list(6_000, early, late));
    // Directory, the company before, the company after. `None` is refused.
    let expected = [
        ("dir-kept", Some("kept"), Some("kept")),
        ("dir-left", Some("moves"), Some("heir")),
        ("dir-joined", None, Some("moves")),
        ("dir-shared-before", None, Some("stays")),
        ("dir-shared-after", None, None),
        ("dir-emptied", None, None),
        ("dir-a", None, Some("gone-1")),
        ("dir-c", None, Some("gone-2")),
    ];
    let server = workspace.serve_demo_world();
    let client = server.client();
    for (directory, before, _) in expected {
        assert_eq!(pinned(&client, directory).as_deref(), before, "{directory}");
    }
    let known = number(&workspace, "SELECT count(*) FROM unlinked_tenants");
    let mut importing = begin(&workspace, &file);
    let mut rounds = 0;
    while importing.try_wait().unwrap().is_none() {
        for (directory, before, after) in expected {
            let found = pinned(&client, directory);
            let found = found.as_deref();
            let is_expected = found == before || found == after || found.is_none();
            assert!(is_expected, "{directory}: {found:?}");
            // A directory whose companies stay is not refused meanwhile.
            assert!(directory != "dir-kept" || found.is_some());
        }
        rounds += 1;
    }
    assert!(importing.wait().unwrap().success());
    assert!(rounds > 0);
    for (directory, _, after) in expected {
        assert_eq!(pinned(&client, directory).as_deref(), after, "{directory}");
    }
    // No held directory was offered for linking: a directory that is linked now has no row.
    let rest = number(&workspace, "SELECT count(*) FROM unlinked_tenants");
    assert!(rest <= known, "{rest} after {known}");
    assert_eq!(number(&workspace, STAGED), 0);
    server.stop();
}

#[test]
fn an_import_that_is_killed_amid_its_changes_is_finished_by_the_next_server_or_import() {
    for (name, contents) in [
        ("list.csv", list(20_000, "1001,Contoso AG,\n", "")),
        ("world.json", seed(12_000)),
    ] {
        let whole = Workspace::with_demo_world();
        let done = import(&whole, &whole.file(name, &contents));
        assert_eq!(
            (done.code, done.stderr.as_str()),
            (0, DEMO_FINDINGS),
            "{done:?}"
        );
        let (expected, events) = (world(&whole), number(&whole, EVENTS));
        for finishes in ["serve", "import"] {
            let workspace = Workspace::with_demo_world();
            let before = world(&workspace);
            let mut importing = begin(&workspace, &workspace.file(name, &contents));
            wait_for(
                &workspace,
                &mut importing,
                "SELECT EXISTS (SELECT 1 FROM imports WHERE state = 'APPLYING' AND done_position > 2000)",
            );
            importing.kill().unwrap();
            importing.wait().unwrap();
            let partial = world(&workspace);
            assert!(partial != before && partial != expected);
            if finishes == "serve" {
                let server = workspace.serve_demo_world();
                server.wait_for_log("the interrupted import of companies is finished");
                wait_for_the_end(&workspace);
                server.stop();
            } else {
                let done = import_nothing(&workspace);
                assert!(
                    done.stderr.contains("was interrupted, and goes on"),
                    "{done:?}"
                );
            }
            assert!(world(&workspace) == expected, "{name}, {finishes}");
            assert_eq!(number(&workspace, EVENTS), events, "{name}, {finishes}");
            import_nothing(&workspace);
        }
    }
}

#[test]
fn a_running_server_finishes_an_import_that_is_killed_beside_it() {
    let workspace = Workspace::with_demo_world();
    let file = workspace.file("list.csv", list(20_000, "", ""));
    let server = workspace.serve_demo_world();
    let mut importing = begin(&workspace, &file);
    wait_for(
        &workspace,
        &mut importing,
        "SELECT EXISTS (SELECT 1 FROM imports WHERE state = 'APPLYING' AND done_position > 2000)",
    );
    importing.kill().unwrap();
    importing.wait().unwrap();
    server.wait_for_log("the interrupted import of companies is finished");
    let last = directory(19_999);
    assert_eq!(pinned(&server.client(), &last).as_deref(), Some("n19999"));
    server.stop();
    import_nothing(&workspace);
}

#[test]
fn an_import_that_is_killed_before_its_first_change_is_dropped() {
    for finishes in ["serve", "import"] {
        let workspace = Workspace::with_demo_world();
        let before = world(&workspace);
        let mut importing = begin(&workspace, "-");
        let mut input = importing.stdin.take().unwrap();
        // The list does not end.
        input.write_all(list(8_000, "", "").as_bytes()).unwrap();
        let rows = "SELECT EXISTS (SELECT 1 FROM import_rows)";
        wait_for(&workspace, &mut importing, rows);
        importing.kill().unwrap();
        importing.wait().unwrap();
        let said = "an import was interrupted before its first change, and is dropped";
        if finishes == "serve" {
            let server = workspace.serve_demo_world();
            server.wait_for_log(said);
            server.stop();
        } else {
            let done = import_nothing(&workspace);
            assert!(done.stderr.contains(said), "{done:?}");
        }
        assert!(world(&workspace) == before);
    }
}

#[test]
fn a_problem_in_the_last_row_of_a_large_import_imports_nothing() {
    let workspace = Workspace::with_demo_world();
    let (before, events) = (world(&workspace), number(&workspace, EVENTS));
    let refused = |name: &str, contents: String| {
        let done = import(&workspace, &workspace.file(name, contents));
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
        assert!(world(&workspace) == before, "{name}");
        assert_eq!(number(&workspace, EVENTS), events);
        assert_eq!(number(&workspace, STAGED), 0);
        done.stderr
    };
    let list = list(6_000, "", "");
    assert_eq!(
        refused("unnamed.csv", format!("{list}unnamed,,\n")),
        "line 6002, psa_company_name: is required for a new company\n"
    );
    assert_eq!(
        refused("again.csv", format!("{list}n5,Again,\nn5999,Again,\n")),
        "line 6002, psa_company_name: \"Again\": is not the name that line 7 gives the same company, \"New 5\"; give both lines one name, or each company its own id\n\
         line 6003, psa_company_name: \"Again\": is not the name that line 6001 gives the same company, \"New 5999\"; give both lines one name, or each company its own id\n"
    );
    assert_eq!(
        refused("cells.csv", format!("{list}short,Short\nunnamed,,\n")),
        "line 6002: has 2 cells, but the first line names 3 columns; give each row one cell per column\n"
    );
    let many = list
        .replace(",New ", ",")
        .replace(',', ",,")
        .replacen(",,", ",", 2);
    let told = refused("many.csv", many);
    assert_eq!(told.lines().count(), 1_001);
    assert!(
        told.ends_with("and 5000 more\n"),
        "{}",
        told.lines().last().unwrap()
    );

    let mut world: Value = serde_json::from_str(&seed(6_000)).unwrap();
    world["tenants"][0]["knowledge_articles"][0]["end_company_id"] = "nobody".into();
    world["tenants"][1]["end_companies"][5_999] = json!({ "psa_company_id": "unnamed" });
    assert_eq!(
        refused("world.json", world.to_string()),
        "tenants[0].knowledge_articles[0].end_company_id: \"nobody\": is not a company of this tenant\n\
         tenants[1].end_companies[5999].psa_company_name: is required for a new company\n"
    );
}

#[test]
fn a_large_import_twice_changes_nothing_and_its_dry_run_writes_nothing() {
    let workspace = Workspace::with_demo_world();
    let (before, events) = (world(&workspace), number(&workspace, EVENTS));
    let file = workspace.file("list.csv", list(6_000, "1001,Contoso AG,\n1003,,\n", ""));
    let dry_run = |file: &str, tenant: &[&str]| {
        let told = workspace.ok([&["import", file, "--dry-run"], tenant].concat());
        assert!(world(&workspace) == before);
        assert_eq!(number(&workspace, EVENTS), events);
        told.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let told = dry_run(&file, &TENANT);
    assert_eq!(told.len(), 6_003);
    assert_eq!(
        told[..3],
        [
            format!(
                "created\tnorthwind-it\tend_company\tn0\tpsa_company_id: \"n0\", psa_company_name: \"New 0\", tenant_id: \"{}\"",
                directory(0)
            ),
            "updated\tnorthwind-it\tend_company\t1001\tpsa_company_name: \"Contoso\" -> \"Contoso AG\"".to_owned(),
            "unchanged\tnorthwind-it\tend_company\t1003".to_owned(),
        ]
    );
    let summary = "6000 created, 1 updated, 1 unchanged";
    assert_eq!(
        told[6_002],
        format!("dry run, nothing was written: {summary}")
    );
    let of_seed = dry_run(&workspace.file("world.json", seed(6_000)), &[]);
    let summary_of_seed = "12003 created, 0 updated, 1 unchanged";
    assert_eq!(
        of_seed.last().unwrap(),
        &format!("dry run, nothing was written: {summary_of_seed}")
    );
    let path = workspace.file("world.json", seed(6_000));
    assert_eq!(
        workspace.ok(["import", &path]),
        format!("{summary_of_seed}\n")
    );
    assert_eq!(
        import(&workspace, &file).stdout,
        "0 created, 1 updated, 6001 unchanged\n"
    );
    let whole = world(&workspace);
    let events = number(&workspace, EVENTS);
    for (again, done) in [
        (&file, "0 created, 0 updated, 6002 unchanged\n"),
        (&path, "0 created, 0 updated, 12003 unchanged\n"),
    ] {
        assert_eq!(import(&workspace, again).stdout, done);
        assert!(world(&workspace) == whole);
        assert_eq!(number(&workspace, EVENTS), events);
    }
    // Companies are listed in the order of the file.
    let companies = whole["tenants"][0]["end_companies"].as_array().unwrap();
    let names: Vec<&str> = companies[4..]
        .iter()
        .map(|company| company["psa_company_id"].as_str().unwrap())
        .collect();
    // An article of the file names the last one, so that it is there before the others.
    assert_eq!(names[0], "n5999");
    assert_eq!(names[1..4], ["n0", "n1", "n2"]);
    assert_eq!(names.len(), 6_000);
}

#[test]
fn a_second_large_import_waits_for_the_first() {
    let workspace = Workspace::with_demo_world();
    let mut first = begin(&workspace, "-");
    let mut input = first.stdin.take().unwrap();
    input.write_all(list(8_000, "", "").as_bytes()).unwrap();
    let rows = "SELECT EXISTS (SELECT 1 FROM import_rows)";
    wait_for(&workspace, &mut first, rows);
    let small = workspace.file("small.csv", "psa_company_id,psa_company_name\ns1,Small\n");
    let done = import(&workspace, &small);
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("1 created, 0 updated, 0 unchanged\n", DEMO_FINDINGS)
    );
    let file = workspace.file("second.csv", list(6_000, "1001,Contoso AG,\n", ""));
    let second = thread::scope(|scope| {
        let second = scope.spawn(|| import(&workspace, &file));
        drop(input);
        assert!(first.wait().unwrap().success());
        second.join().unwrap()
    });
    assert_eq!(
        second.stdout, "0 created, 1 updated, 6000 unchanged\n",
        "{second:?}"
    );
    assert_eq!(number(&workspace, STAGED), 0);
}

/// Kills an import of a list at one of its syncs. Returns its exit code, `None` after a kill.
fn killed_at_sync(workspace: &Workspace, file: &str, which: i64) -> Option<i32> {
    let shim = Shim::of(workspace);
    shim.fail(Call::Sync, Failure::Death, which, 1);
    let command = workspace.command(["import", file, TENANT[0], TENANT[1]]);
    shim.under(command).output().unwrap().status.code()
}

/// Kills an import of a list as soon as a query of the database returns 1.
fn killed_when(workspace: &Workspace, file: &str, sql: &str) -> Option<i32> {
    let mut importing = begin(workspace, file);
    wait_for(workspace, &mut importing, sql);
    importing.kill().unwrap();
    importing.wait().unwrap().code()
}

#[test]
fn a_long_list_whose_import_is_killed_is_imported_whole_or_not_at_all_by_the_next_command() {
    let contents = list(6_000, "1001,Contoso AG,\n", "");
    let mut outcomes = Vec::new();
    let mut kill = |name: &str, kill: &dyn Fn(&Workspace, &str) -> Option<i32>| {
        let workspace = Workspace::with_demo_world();
        let events = number(&workspace, EVENTS);
        let file = workspace.file("list.csv", &contents);
        let ended = kill(&workspace, &file);
        import_nothing(&workspace);
        let imported = number(
            &workspace,
            "SELECT count(*) FROM end_companies WHERE psa_company_id LIKE 'n%' OR psa_company_name = 'Contoso AG'",
        );
        assert!(imported == 0 || imported == 6_001, "{name}: {imported}");
        let event = number(&workspace, EVENTS) - events;
        assert_eq!(event, i64::from(imported == 6_001), "{name}");
        outcomes.push((ended, imported));
    };
    if is_on_postgres() {
        // The program syncs nothing there: what it has stored tells how far it is.
        for sql in [
            "SELECT EXISTS (SELECT 1 FROM imports WHERE state = 'STAGING')",
            "SELECT count(*) > 2000 FROM import_rows",
            "SELECT EXISTS (SELECT 1 FROM imports WHERE state = 'APPLYING')",
            "SELECT EXISTS (SELECT 1 FROM imports WHERE state = 'APPLYING' AND done_position > 3000)",
        ] {
            kill(sql, &|workspace, file| killed_when(workspace, file, sql));
        }
    } else {
        for which in [2, 5, 8, 11, 14, 17, 20, 23, 26, 30] {
            let name = format!("sync {which}");
            kill(&name, &|workspace, file| {
                killed_at_sync(workspace, file, which)
            });
        }
    }
    assert!(outcomes.contains(&(None, 0)), "{outcomes:?}");
    assert!(outcomes.contains(&(None, 6_001)), "{outcomes:?}");
}

#[test]
fn each_directory_of_a_large_import_moves_to_the_next_company() {
    let workspace = Workspace::with_demo_world();
    let done = import(&workspace, &workspace.file("list.csv", list(6_000, "", "")));
    assert_eq!(done.stdout, "6000 created, 0 updated, 0 unchanged\n");
    let mut moved = "psa_company_id,tenant_id\n".to_owned();
    for number in 0..6_000 {
        writeln!(moved, "n{},{}", (number + 1) % 6_000, directory(number)).unwrap();
    }
    let done = import(&workspace, &workspace.file("moved.csv", moved));
    assert_eq!(done.stdout, "0 created, 6000 updated, 0 unchanged\n");
    let world = world(&workspace);
    let companies = world["tenants"][0]["end_companies"].as_array().unwrap();
    for (number, company) in companies[4..].iter().enumerate() {
        assert_eq!(company["psa_company_id"], format!("n{number}"));
        assert_eq!(company["tenant_id"], directory((number + 5_999) % 6_000));
    }
    assert_eq!(number(&workspace, STAGED), 0);
    workspace.ok(["check"]);
}

#[test]
fn rows_of_one_company_far_apart_in_a_large_list_add_up_and_its_dry_run_tells_the_same() {
    let rows = |name: &str, number: usize| format!("both,{name},{}\n", directory(number));
    let headings = "psa_company_id,psa_company_name,tenant_id\n";
    let others: String = (0..6_000)
        .map(|number| format!("c{number},C {number},\n"))
        .collect();
    let twin = format!("twin,Both ,{}\n", directory(1));
    let contents = [
        headings,
        &rows("", 1),
        &others,
        &twin,
        &rows("Both", 2),
        &rows("", 3),
    ]
    .concat();
    let workspace = Workspace::with_demo_world();
    let file = workspace.file("list.csv", &contents);
    let dry = workspace.run(["import", &file, TENANT[0], TENANT[1], "--dry-run"]);
    let done = import(&workspace, &file);
    assert_eq!(done.stdout, "6002 created, 0 updated, 0 unchanged\n");
    assert_eq!(
        dry.stdout.lines().last(),
        Some("dry run, nothing was written: 6002 created, 0 updated, 0 unchanged")
    );
    assert_eq!(dry.stderr, done.stderr);
    let findings: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(findings.len(), 3, "{findings:?}");
    assert!(findings[2].contains("both \"Both\", twin \"Both\" have the same name"));
    let whole = world(&workspace);
    let companies = whole["tenants"][0]["end_companies"].as_array().unwrap();
    let both = companies
        .iter()
        .find(|company| company["psa_company_id"] == "both");
    assert_eq!(
        both.unwrap()["tenant_ids"],
        json!([directory(1), directory(2), directory(3)])
    );
    assert_eq!(
        import(&workspace, &file).stdout,
        "0 created, 0 updated, 6002 unchanged\n"
    );
    let contradiction = workspace.file("other.csv", contents + &rows("Another", 4));
    assert_eq!(
        import(&workspace, &contradiction).failure(),
        "line 6006, psa_company_name: \"Another\": is not the name that line 2 gives the same company, \"Both\"; give both lines one name, or each company its own id"
    );
    assert!(world(&workspace) == whole);
    assert_eq!(number(&workspace, STAGED), 0);
}
