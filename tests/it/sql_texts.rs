//! Every SQL text of the store, read from its source: a text that a test forgets does not exist.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A text, with its file below `src/store` and the constant that it belongs to.
pub struct SqlText {
    /// Such as `agents.rs PAGE`.
    pub name: String,
    /// The text, with macros expanded.
    pub sql: String,
}

/// A macro of one rule that makes a text: its parameters and its body.
type Macros = HashMap<String, (Vec<String>, String)>;

/// Every text of the files below `src/store`, apart from what only one engine has.
pub fn of_every_engine() -> Vec<SqlText> {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let files = files(&store);
    let sources: Vec<(String, String)> = files
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&store).unwrap().to_str().unwrap();
            (name.to_owned(), code(&fs::read_to_string(path).unwrap()))
        })
        .filter(|(name, _)| !name.starts_with("sqlite/") && !name.starts_with("postgres/"))
        .collect();
    let shared: Macros = sources.iter().flat_map(|(_, code)| macros(code)).collect();
    let texts = sources.iter().flat_map(|(name, code)| {
        let mut known = shared.clone();
        known.extend(macros(code));
        texts(name, &without_macros(code), &known)
    });
    texts.collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file's text without unit tests and lines of comment.
fn code(text: &str) -> String {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The places of a file's macros, each with the name, and the end of its definition.
fn definitions(code: &str) -> Vec<(&str, usize, usize)> {
    code.match_indices("macro_rules! ")
        .map(|(start, word)| {
            let after = &code[start + word.len()..];
            let name = after.split_whitespace().next().unwrap();
            let end = start + code[start..].find("\n}\n").unwrap() + 3;
            (name, start, end)
        })
        .collect()
}

fn macros(code: &str) -> Macros {
    let readable = definitions(code)
        .into_iter()
        .filter_map(|(name, start, end)| {
            let definition = &code[start..end];
            let (rule, body) = definition.split_once("=> {")?;
            let (_, rule) = rule.split_once('(')?;
            let parameters = rule.split('$').skip(1);
            let names = parameters.map(|parameter| {
                let (name, _) = parameter.split_once(':')?;
                Some(name.to_owned())
            });
            let names = names.collect::<Option<Vec<_>>>()?;
            Some((name.to_owned(), (names, body.to_owned())))
        });
    readable.collect()
}

fn without_macros(code: &str) -> String {
    let mut rest = code.to_owned();
    for (_, start, end) in definitions(code).into_iter().rev() {
        rest.replace_range(start..end, "");
    }
    rest
}

fn texts(file: &str, code: &str, macros: &Macros) -> Vec<SqlText> {
    let (mut found, mut constant, mut at) = (Vec::new(), "", 0);
    while let Some(rest) = code.get(at..) {
        let Some(letter) = rest.chars().next() else {
            break;
        };
        if let Some(declared) = rest.strip_prefix("const ") {
            constant = declared.split(':').next().unwrap();
        }
        let is_word = letter.is_ascii_alphanumeric() || letter == '_';
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let begins_text = match is_word {
            true => rest[length..].starts_with("!(") && is_text(&rest[..length], macros),
            false => letter == '"',
        };
        // A letter between quotes: '"' begins no text.
        if let Some(quote) = rest.strip_prefix('\'').and_then(|rest| rest.find('\''))
            && quote <= 2
        {
            at += quote + 2;
        } else if begins_text {
            let mut parser = Parser { code, at };
            let sql = parser.text(macros, &HashMap::new());
            at = parser.at;
            // A text for any table has a place for the name. The tests of `copy` run it on both.
            if let Some(sql) = sql.filter(|sql| is_sql(sql) && !sql.contains("\"{}\"")) {
                let nth = found
                    .iter()
                    .filter(|text: &&SqlText| text.name.starts_with(&format!("{file} {constant}[")))
                    .count();
                found.push(SqlText {
                    name: format!("{file} {constant}[{nth}]"),
                    sql,
                });
            }
        } else {
            at += if is_word { length } else { letter.len_utf8() };
        }
    }
    for text in &mut found {
        if let Some(only) = text.name.strip_suffix("[0]") {
            text.name = only.to_owned();
        }
    }
    found
}

fn is_text(name: &str, macros: &Macros) -> bool {
    name == "concat" || macros.contains_key(name)
}

fn is_sql(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].contains(&first)
}

/// Reads the expressions that texts are made of: literals, `concat!` and macros of one rule.
struct Parser<'a> {
    code: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.code[self.at..]
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let word = rest[..end.unwrap_or(rest.len())].to_owned();
        self.at += word.len();
        word
    }

    /// The value of an expression; `None` if it is no text.
    fn text(&mut self, macros: &Macros, arguments: &HashMap<String, String>) -> Option<String> {
        self.skip_space();
        if self.rest().starts_with('"') {
            return Some(self.literal());
        }
        if self.rest().starts_with('$') {
            self.at += 1;
            let name = self.word();
            return arguments.get(&name).cloned();
        }
        let name = self.word();
        if !self.rest().starts_with("!(") {
            return None;
        }
        self.at += 2;
        let mut given = Vec::new();
        loop {
            self.skip_space();
            match self.rest().chars().next()? {
                ')' => break self.at += 1,
                ',' => self.at += 1,
                _ => given.push(self.text(macros, arguments)?),
            }
        }
        if name == "concat" {
            return Some(given.concat());
        }
        let (parameters, body) = macros.get(&name)?;
        let given = parameters.iter().cloned().zip(given).collect();
        Parser { code: body, at: 0 }.text(macros, &given)
    }

    fn literal(&mut self) -> String {
        let mut text = String::new();
        let mut letters = self.rest().char_indices().skip(1).peekable();
        let mut end = 0;
        while let Some((place, letter)) = letters.next() {
            match letter {
                '"' => {
                    end = place + 1;
                    break;
                }
                '\\' => match letters.next().unwrap().1 {
                    '\n' => while letters.next_if(|(_, next)| next.is_whitespace()).is_some() {},
                    'n' => text.push('\n'),
                    escaped => text.push(escaped),
                },
                letter => text.push(letter),
            }
        }
        self.at += end;
        text
    }
}

#[test]
fn the_texts_of_the_store_are_read_from_its_source_with_their_macros() {
    let texts = of_every_engine();
    let sql = |name: &str| {
        let text = texts.iter().find(|text| text.name == name);
        &text.unwrap_or_else(|| panic!("no {name}")).sql
    };
    assert!(texts.len() > 200, "{}", texts.len());
    assert_eq!(
        sql("messages.rs EXISTS"),
        "SELECT 1 FROM sessions WHERE seq = ?1"
    );
    assert_eq!(
        sql("agents.rs MANAGED"),
        "SELECT agent_id, tenant_no, name, autonomy_type, audience, access, allowed_users, state FROM agents \
         WHERE tenant_no = ?1 AND managed_agent_key = ?2"
    );
    assert!(
        sql("sessions/lists.rs SHARED")
            .contains("s.seq < ?3 AND s.shared = 1 AND (?4 IS NULL OR s.agent_id = ?4)")
    );
    assert!(sql("audit.rs PAGES[3]").contains("actor_id = ?2 AND action = ?3"));
    assert!(!texts.iter().any(|text| text.sql.contains('$')));
}
