//! Lists of companies as spreadsheets, PowerShell and PSAs write them.

use serde_json::Value;

use crate::process::{CommandOutput, Workspace, finish};

const DIRECTORY: &str = "11111111-2222-4333-8444-555555555501";
const OTHER: &str = "11111111-2222-4333-8444-555555555502";
const WHERE: &str = "find it in the Microsoft Entra admin center under Overview > Tenant ID";

/// A workspace with the tenant `n`.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.ok(["tenants", "create", "--client-id", "n", "--name", "N"]);
    workspace
}

/// Imports a list with the product's own rule for the ids of directories.
fn import(workspace: &Workspace, list: impl AsRef<[u8]>, flags: &[&str]) -> CommandOutput {
    let file = workspace.file("companies.csv", list);
    let mut command = workspace.command(["import", &file, "--tenant", "n"]);
    finish(command.args(flags).env_remove("SWITCHBOARD_ANY_TENANT_ID"))
}

/// The tenant's companies as `id|name|directories`.
fn companies(workspace: &Workspace) -> Vec<String> {
    let world: Value = serde_json::from_str(&workspace.ok(["export"])).unwrap();
    let companies = world["tenants"][0]["end_companies"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |company: &Value| {
        let directories = company["tenant_ids"].as_array().unwrap().iter();
        let directories: Vec<String> = directories.map(text).collect();
        let fields = ["psa_company_id", "psa_company_name"].map(|field| text(&company[field]));
        format!("{}|{}", fields.join("|"), directories.join(" "))
    };
    companies.iter().map(row).collect()
}

/// Imports a list, which must succeed; returns stderr and the companies.
#[track_caller]
fn taken(list: impl AsRef<[u8]>, flags: &[&str]) -> (String, Vec<String>) {
    let workspace = workspace();
    let done = import(&workspace, list, flags);
    assert_eq!(done.code, 0, "{done:?}");
    (done.stderr, companies(&workspace))
}

/// Imports a list, which must be refused; returns the lines on stderr.
#[track_caller]
fn refused(list: impl AsRef<[u8]>, flags: &[&str]) -> Vec<String> {
    let workspace = workspace();
    let done = import(&workspace, list, flags);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
    assert_eq!(companies(&workspace), [""; 0]);
    done.stderr.lines().map(str::to_owned).collect()
}

fn utf_16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_bytes).collect()
}

fn windows_1252(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap()).collect()
}

#[test]
fn a_list_is_read_whatever_its_separator_encoding_and_line_ends() {
    let rows = [
        "psa_company_id;psa_company_name;tenant_id".to_owned(),
        format!("2001;Müller & Söhne GmbH;{DIRECTORY}"),
        "2002;Plain;".to_owned(),
    ];
    let lines = |end: &str| rows.join(end) + end;
    let plain = lines("\r\n");
    let tabs = plain.replace(';', "\t");
    let quoted: Vec<String> = rows
        .iter()
        .map(|row| format!("\"{}\"\r\n", row.replace(';', "\",\"")))
        .collect();
    let quoted = quoted.concat();
    let expected = [
        format!("2001|Müller & Söhne GmbH|{DIRECTORY}"),
        "2002|Plain|".to_owned(),
    ];
    for (name, list) in [
        ("semicolons", plain.clone().into_bytes()),
        ("a mark", format!("\u{feff}{plain}").into_bytes()),
        ("commas", plain.replace(';', ",").into_bytes()),
        ("tabs", tabs.clone().into_bytes()),
        ("bars", plain.replace(';', "|").into_bytes()),
        ("LF", lines("\n").into_bytes()),
        ("CR", lines("\r").into_bytes()),
        ("no last line end", rows.join("\r").into_bytes()),
        (
            "mixed line ends",
            format!("{}\r{}\n\r\n{}", rows[0], rows[1], rows[2]).into_bytes(),
        ),
        ("Ctrl-Z", format!("{plain}\u{1a}").into_bytes()),
        (
            "Ctrl-Z after the last row",
            format!("{}\u{1a}", rows.join("\r\n")).into_bytes(),
        ),
        ("sep=", format!("sep=;\r\n{plain}").into_bytes()),
        (
            "a mark and sep=",
            format!("\u{feff}SEP=;\r\n{plain}").into_bytes(),
        ),
        (
            "PowerShell",
            format!("#TYPE System.Management.Automation.PSCustomObject\r\n{quoted}").into_bytes(),
        ),
        (
            "UTF-16 LE",
            utf_16(&format!("\u{feff}{tabs}"), u16::to_le_bytes),
        ),
        (
            "UTF-16 BE",
            utf_16(&format!("\u{feff}{tabs}"), u16::to_be_bytes),
        ),
        (
            "UTF-16 LE and sep=",
            utf_16(&format!("\u{feff}sep=\t\r\n{tabs}"), u16::to_le_bytes),
        ),
        (
            "empty last columns",
            plain.replace("\r\n", ";;;\r\n").into_bytes(),
        ),
        (
            "more cells than headings, all empty",
            plain.replace(";\r\n", ";;;\r\n").into_bytes(),
        ),
        (
            "blank lines",
            plain.replace("\r\n", "\r\n\r\n;;\r\n \r\n").into_bytes(),
        ),
        (
            "spaces around headings and cells",
            plain.replace(';', " ; ").into_bytes(),
        ),
        (
            "spaces before quotes",
            quoted.replace(',', ", ").into_bytes(),
        ),
        (
            "headings in capitals",
            plain
                .replace(
                    "psa_company_id;psa_company_name",
                    "PSA_Company_ID;PSA_COMPANY_NAME",
                )
                .into_bytes(),
        ),
    ] {
        let (said, found) = taken(list, &[]);
        assert_eq!(
            (said.as_str(), found.as_slice()),
            ("", &expected[..]),
            "{name}"
        );
    }
}

#[test]
fn an_encoding_that_the_file_does_not_say_is_told() {
    let list = format!("psa_company_id;psa_company_name;tenant_id\r\n2001;Müller;{DIRECTORY}\r\n");
    let expected = [format!("2001|Müller|{DIRECTORY}")];
    for (bytes, encoding) in [
        (windows_1252(&list), "Windows-1252"),
        (utf_16(&list, u16::to_le_bytes), "UTF-16LE"),
        (utf_16(&list, u16::to_be_bytes), "UTF-16BE"),
    ] {
        let (said, found) = taken(bytes, &[]);
        assert_eq!(found, expected, "{encoding}");
        assert_eq!(
            said,
            format!(
                "warning: the file: is not UTF-8 and has no mark; it is read as {encoding}. If names look wrong, save it as CSV UTF-8\n"
            )
        );
    }
}

#[test]
fn further_columns_are_passed_over_with_one_warning_that_names_them() {
    let list = format!(
        "psa_company_id,psa_company_name,tenant_id,City,Type,Notes\r\n\
         2007,Acme,{DIRECTORY},Leeds,Client,\"Key under\nthe mat, \"\"left\"\"\"\r\n\
         2008,Beta,{OTHER},York\r\n"
    );
    let warning = "warning: ignored: line 1: these columns are no fields of a company: \"City\", \"Type\", \"Notes\"\n";
    for flags in [&[] as &[&str], &["--allow-unknown"]] {
        let (said, found) = taken(&list, flags);
        assert_eq!(said, warning);
        assert_eq!(
            found,
            [
                format!("2007|Acme|{DIRECTORY}"),
                format!("2008|Beta|{OTHER}")
            ]
        );
    }
    // A cell beside all columns is a problem all the same.
    let list = "psa_company_id,City\n1,Leeds,left\n2,York\n";
    assert_eq!(
        refused(list, &[])[1..],
        [
            "line 2: has 3 cells, but the first line names 2 columns; give each row one cell per column"
        ]
    );
}

#[test]
fn the_headings_of_psas_are_mapped_and_the_mapping_is_told() {
    for (headings, told) in [
        (
            "Company ID,Company Name,Azure Tenant ID",
            "\"Company ID\" is read as psa_company_id, \"Company Name\" is read as psa_company_name, \"Azure Tenant ID\" is read as tenant_id",
        ),
        (
            "client_id,client_name,azure_tenant_id",
            "\"client_id\" is read as psa_company_id, \"client_name\" is read as psa_company_name, \"azure_tenant_id\" is read as tenant_id",
        ),
        (
            "Account ID [updates only],Account Name*,Microsoft Tenant ID",
            "\"Account ID [updates only]\" is read as psa_company_id, \"Account Name*\" is read as psa_company_name, \"Microsoft Tenant ID\" is read as tenant_id",
        ),
        (
            "id,name,tenant_id",
            "\"id\" is read as psa_company_id, \"name\" is read as psa_company_name",
        ),
        (
            "ORGANIZATION ID,Organization,M365 Tenant ID",
            "\"ORGANIZATION ID\" is read as psa_company_id, \"Organization\" is read as psa_company_name, \"M365 Tenant ID\" is read as tenant_id",
        ),
    ] {
        let (said, found) = taken(format!("{headings}\r\n2007,Acme,{DIRECTORY}\r\n"), &[]);
        assert_eq!(said, format!("note: {told}\n"));
        assert_eq!(found, [format!("2007|Acme|{DIRECTORY}")]);
    }
}

#[test]
fn a_map_names_the_column_of_a_field() {
    let list = format!("Debtor;Company ID;Label;MS\n7;8;Acme;{DIRECTORY}\n");
    let flags = [
        "--map",
        "debtor=psa_company_id",
        "--map=Label=psa_company_name;MS=tenant_id",
    ];
    let (said, found) = taken(&list, &flags);
    assert_eq!(
        said,
        "warning: ignored: line 1: these columns are no fields of a company: \"Company ID\"\n"
    );
    assert_eq!(found, [format!("7|Acme|{DIRECTORY}")]);
    let workspace = workspace();
    let file = workspace.file("list.txt", &list);
    let mut command = workspace.command(["import", &file, "--csv", "--tenant", "n", "--dry-run"]);
    let done = finish(command.env("SWITCHBOARD_MAP", "Label=psa_company_name"));
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (
            0,
            "created\tn\tend_company\t8\tpsa_company_id: \"8\", psa_company_name: \"Acme\"\n\
             dry run, nothing was written: 1 created, 0 updated, 0 unchanged\n"
        )
    );
}

#[test]
fn a_map_that_fits_no_column_or_field_is_refused() {
    let list = "Company ID,Client ID,Name\n7,8,Acme\n";
    assert_eq!(
        refused(list, &[]),
        [
            "line 1, psa_company_id: the columns \"Company ID\", \"Client ID\" can each be this; choose one with --map \"HEADING=psa_company_id\", or remove the others"
        ]
    );
    let (_, found) = taken(list, &["--map", "Client ID=psa_company_id"]);
    assert_eq!(found, ["8|Acme|"]);
    assert_eq!(
        refused(list, &["--map", "Debtor=psa_company_id"])[0],
        "line 1: \"Debtor\": is named by --map, but is no column of the file; its columns are \"Company ID\", \"Client ID\", \"Name\""
    );
    let workspace = workspace();
    for map in ["Name=name", "psa_company_id", "=psa_company_id"] {
        let done = import(&workspace, list, &["--map", map]);
        assert_eq!(done.code, 2, "{done:?}");
        let rule = "must be HEADING=FIELD, where FIELD is psa_company_id, psa_company_name or tenant_id, such as \"Company ID=psa_company_id\"";
        assert!(done.stderr.contains(rule), "{done:?}");
    }
    let seed = workspace.file("seed.json", "{\"tenants\":[]}");
    let done = workspace.run(["import", &seed, "--map", "A=tenant_id"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("--map is for a CSV file"), "{done:?}");
}

#[test]
fn the_total_of_a_report_is_named_by_line_and_not_imported() {
    for total in [
        "Total: 1 records,,",
        "total",
        "TOTALS,5,",
        "Grand Total,,N/A",
        "Sum: 1",
        "Summe,1,-",
        "Total,12,7",
        "\"Total\"",
    ] {
        let list = format!(
            "psa_company_id,psa_company_name,tenant_id\r\n2041,Acme,{DIRECTORY}\r\n\r\n{total}\r\n\r\n"
        );
        let (said, found) = taken(list, &[]);
        let cell = total.split(',').next().unwrap().trim_matches('"');
        assert_eq!(
            said,
            format!(
                "warning: ignored: line 4: \"{cell}\": is a total, not a company; the line is not imported\n"
            )
        );
        assert_eq!(found, [format!("2041|Acme|{DIRECTORY}")]);
    }
}

#[test]
fn a_company_that_is_called_like_a_total_is_imported() {
    let list = format!(
        "psa_company_id,psa_company_name,tenant_id\nTotal,Total Energy,\nSUM-1,Sum,{OTHER}\nSumatra,Coffee,\n"
    );
    let (said, found) = taken(list, &[]);
    assert_eq!(said, "");
    assert_eq!(
        found,
        [
            "Total|Total Energy|".to_owned(),
            format!("SUM-1|Sum|{OTHER}"),
            "Sumatra|Coffee|".to_owned()
        ]
    );
    let list =
        format!("psa_company_id,psa_company_name,tenant_id\nTotal,Total Energy,{DIRECTORY}\n");
    assert_eq!(
        taken(list, &[]).1,
        [format!("Total|Total Energy|{DIRECTORY}")]
    );
}

#[test]
fn a_cell_where_the_directory_belongs_is_an_id_a_word_for_none_or_refused_by_line() {
    let headings = "psa_company_id,psa_company_name,tenant_id";
    let plain = DIRECTORY.replace('-', "");
    let list = format!("{headings}\n1,A,{plain}\n2,B,{{{OTHER}}}\n");
    let (said, found) = taken(list, &[]);
    assert_eq!(said, "");
    assert_eq!(found, [format!("1|A|{DIRECTORY}"), format!("2|B|{OTHER}")]);

    let words = ["N/A", "-", "None", "NULL", "#N/A", "n/a", "none"];
    let rows = (2..).zip(words);
    let list = rows
        .clone()
        .map(|(line, word)| format!("{line},A {line},{word}\n"));
    let list = format!("{headings}\n{}", list.collect::<String>());
    let (said, found) = taken(list, &[]);
    let warnings = rows.map(|(line, word)| {
        format!("warning: ignored: line {line}, tenant_id: \"{word}\": is read as an empty cell\n")
    });
    assert_eq!(said, warnings.collect::<String>());
    assert_eq!(found.len(), words.len());
    assert_eq!(found[0], "2|A 2|");

    let no_guid = |line: u8, value: &str| {
        format!(
            "line {line}, tenant_id: \"{value}\": must be the GUID of a Microsoft directory, but \"{value}\" is not one; {WHERE}"
        )
    };
    let list = format!("{headings}\n1,A,acme.onmicrosoft.com\n2,B,None\n3,C,TBC\n4,D,unknown\n");
    assert_eq!(
        refused(list, &[]),
        [
            "warning: ignored: line 3, tenant_id: \"None\": is read as an empty cell".to_owned(),
            no_guid(2, "acme.onmicrosoft.com"),
            no_guid(4, "TBC"),
            no_guid(5, "unknown"),
        ]
    );
    let nobodys = |line: u8, id: &str, meaning: &str| {
        format!(
            "line {line}, tenant_id: \"{id}\": must be the id of an organization's directory, but {id:?} stands for {meaning}; {WHERE}"
        )
    };
    let (zeros, private) = (
        "00000000-0000-0000-0000-000000000000",
        "9188040d-6c67-4c5b-b112-36a304b66dad",
    );
    assert_eq!(
        refused(format!("{headings}\n1,A,{zeros}\n2,B,{private}\n"), &[]),
        [
            nobodys(2, zeros, "no directory in particular"),
            nobodys(
                3,
                private,
                "all private Microsoft accounts, which cannot be served"
            ),
        ]
    );
}

#[test]
fn ids_of_psas_are_taken_and_what_a_spreadsheet_damaged_is_refused_by_line() {
    let list = "psa_company_id,psa_company_name\r\n\
                ACME & Sons,Acme & Sons\r\nSMITH/JONES,Smith Jones\r\n12 345,Spaced\r\n\
                \"1,234\",Thousands\r\nMÜLLER,Müller\r\n'00124,Apos\r\n";
    let (said, found) = taken(list, &[]);
    assert_eq!(said, "");
    assert_eq!(
        found,
        [
            "ACME & Sons|Acme & Sons|",
            "SMITH/JONES|Smith Jones|",
            "12 345|Spaced|",
            "1,234|Thousands|",
            "MÜLLER|Müller|",
            "'00124|Apos|"
        ]
    );
    let list = format!("{list}1.00E+05,Sci\r\n=\"00123\",Formula\r\n\"1,5E+12\",Sci\r\n");
    let rounded = |line: u8, id: &str| {
        format!(
            "line {line}, psa_company_id: \"{id}\": must not be a number with an exponent, such as 1.00E+05: a spreadsheet has rounded the id; format the column as text and export the list again"
        )
    };
    assert_eq!(
        refused(list, &[]),
        [
            rounded(8, "1.00E+05"),
            "line 9, psa_company_id: \"=\\\"00123\\\"\": must not begin with '=': a spreadsheet wrote the id as a formula; export the list again, with the id as plain text".to_owned(),
            rounded(10, "1,5E+12"),
        ]
    );
}

#[test]
fn a_quote_that_is_never_closed_is_a_problem_and_swallows_no_companies() {
    let list = "psa_company_id,Notes\n1,fine\n2,\"open\n3,lost\n";
    assert_eq!(
        refused(list, &[])[1..],
        ["line 3: begins with a cell whose closing quote is missing"]
    );
}

#[test]
fn rows_of_one_company_add_up_to_its_directories() {
    let both = [format!("2030|Acme|{DIRECTORY} {OTHER}")];
    for rows in [
        format!("2030,Acme,{DIRECTORY}\n2030,Acme,{OTHER}\n"),
        format!("2030,,{DIRECTORY}\n2030,Acme,{OTHER}\n2030,Acme,{DIRECTORY}\n"),
        format!("2030,Acme,\n2030,Acme,{DIRECTORY}\n2030,,{OTHER}\n"),
        format!("2030,Acme,{DIRECTORY};{OTHER}\n"),
        format!("2030,Acme,\" {DIRECTORY} ; {{{OTHER}}} ; {DIRECTORY};\"\n"),
    ] {
        let list = format!("psa_company_id,psa_company_name,tenant_id\n{rows}");
        let (said, found) = taken(&list, &[]);
        assert_eq!((said.as_str(), found.as_slice()), ("", &both[..]), "{list}");
    }
    let list =
        format!("psa_company_id;psa_company_name;tenant_id\n2030;Acme;\"{DIRECTORY};{OTHER}\"\n");
    assert_eq!(taken(list, &[]).1, both);
}

#[test]
fn the_directories_of_a_list_replace_those_of_the_company() {
    let workspace = workspace();
    let headings = "psa_company_id,psa_company_name,tenant_id";
    let import = |rows: String| {
        let done = import(&workspace, format!("{headings}\n{rows}"), &[]);
        assert_eq!(done.code, 0, "{done:?}");
        (done.stdout, companies(&workspace))
    };
    import(format!("1,A,{DIRECTORY}\n1,A,{OTHER}\n"));
    for (rows, summary, directories) in [
        (
            format!("1,A,{OTHER}\n1,,{DIRECTORY}\n"),
            "0 created, 1 updated, 0 unchanged\n",
            format!("{OTHER} {DIRECTORY}"),
        ),
        (
            "1,A,\n1,A,N/A\n".to_owned(),
            "0 created, 0 updated, 1 unchanged\n",
            format!("{OTHER} {DIRECTORY}"),
        ),
        (
            format!("1,A,{DIRECTORY}\n"),
            "0 created, 1 updated, 0 unchanged\n",
            DIRECTORY.to_owned(),
        ),
    ] {
        assert_eq!(
            import(rows),
            (summary.to_owned(), vec![format!("1|A|{directories}")])
        );
    }
}

#[test]
fn rows_of_one_company_that_contradict_each_other_are_a_problem_by_line() {
    let headings = "psa_company_id,psa_company_name,tenant_id";
    assert_eq!(
        refused(
            format!("{headings}\n1,A,{DIRECTORY}\n2,B,\n1,Other,{OTHER}\n2,,TBC;{OTHER}\n"),
            &[]
        ),
        [
            "line 4, psa_company_name: \"Other\": is not the name that line 2 gives the same company, \"A\"; give both lines one name, or each company its own id"
        ]
    );
    let told = refused(
        format!("{headings}\n1,A,{DIRECTORY}\n2,B,\n1,,acme.example\n"),
        &[],
    );
    assert_eq!(
        told,
        [format!(
            "lines 2, 4, tenant_ids[1]: \"acme.example\": must be the GUID of a Microsoft directory, but \"acme.example\" is not one; {WHERE}"
        )]
    );
    let many = (0..101).map(|number| format!("{number:08x}-0000-4000-8000-000000000001"));
    let many: Vec<String> = many.collect();
    let too_many = format!("{headings}\n1,A,\"{}\"\n", many.join(";"));
    let told = refused(too_many, &[]);
    assert!(
        told[0].ends_with("has more than 100 M365 tenants, the most that a company can have"),
        "{told:?}"
    );
    let rows = many.iter().map(|id| format!("1,A,{id}\n"));
    let told = refused(format!("{headings}\n{}", rows.collect::<String>()), &[]);
    assert_eq!(
        told,
        [format!(
            "line 102, tenant_id: \"{}\": is one more than the 100 M365 tenants that a company can have",
            many[100]
        )]
    );
}
