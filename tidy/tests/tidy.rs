//! Rules of this repository that neither the compiler nor clippy checks.
//!
//! Each test reports all that breaks its rule, each with its place and what would be right. None
//! knows the grammar of Rust: comments and literals are cut out, and what is left is split into
//! words and signs, which is enough to count lines and braces.

#![expect(
    clippy::expect_used,
    reason = "a repository that cannot be read fails the test"
)]

#[path = "tidy/arrows.rs"]
mod arrows;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Most lines of a file's production code.
const MAX_FILE_LINES: usize = 600;
/// Most lines of a function, from `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 70;
/// Names that say nothing about what belongs there, and so attract everything.
const EMPTY_NAMES: [&str; 8] = [
    "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils",
];
/// Workspaces of their own, whose code keeps the same rules.
const APART: [&str; 2] = ["check", "operator"];
/// Macros that mark what is not finished.
const UNFINISHED: [&str; 2] = ["dbg", "todo"];
/// Members whose manifests need not take over the workspace's lints.
const WITHOUT_LINTS: [(&str, &str); 1] = [("proto", "it holds generated code only")];
/// All that the model may depend on: nothing that reads a clock, draws a random number or does I/O.
const MODEL_DEPENDENCIES: [&str; 3] = ["crc32fast", "thiserror", "xxhash-rust"];

/// A function that may be longer than [`MAX_FUNCTION_LINES`].
struct Exemption {
    path: &'static str,
    function: &'static str,
    /// Why it is better whole.
    reason: &'static str,
}

const LONG_FUNCTIONS: &[Exemption] = &[
    Exemption {
        path: "client/src/fake/service.rs",
        function: "receive",
        reason: "one arm for each kind of operation; serves tests only",
    },
    Exemption {
        path: "model/src/locks/restore.rs",
        function: "restore_wait",
        reason: "one arm for each kind of wait",
    },
];

/// A file of Rust code.
struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// What comes before the module of tests, if one is at the end.
    fn production(&self) -> &str {
        let mut from = 0;
        for line in self.text.split_inclusive('\n') {
            let (before, rest) = self.text.split_at(from);
            if line.trim_end() == "#[cfg(test)]" && opens_module(rest) {
                return before;
            }
            from += line.len();
        }
        &self.text
    }
}

/// True if the attributes at the head of `text` belong to a module that is written out.
fn opens_module(text: &str) -> bool {
    let item = text.lines().find(|line| !line.starts_with("#["));
    item.is_some_and(|item| item.contains("mod ") && item.trim_end().ends_with('{'))
}

fn root() -> PathBuf {
    // Asked at run time: several clones share a target directory, and with it this test's binary.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this");
    let tidy = Path::new(&here);
    tidy.parent().expect("tidy is in the repository").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// The members of the workspace, by folder.
fn members() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let (_, list) = manifest
        .split_once("members = [")
        .expect("the workspace has members");
    let (list, _) = list.split_once(']').expect("the list of members ends");
    list.split(',')
        .map(|member| member.trim().trim_matches('"').to_owned())
        .filter(|member| !member.is_empty())
        .collect()
}

/// All code that is written by hand.
fn sources() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let apart = APART.map(str::to_owned);
    let mut folders: Vec<PathBuf> = members()
        .iter()
        .chain(&apart)
        .map(|folder| root.join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a member's folder") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                if !path.ends_with("src/gen") && !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("code is UTF-8");
                let path = path.strip_prefix(&root).expect("it is in the repository");
                let path = path.to_str().expect("paths are UTF-8").replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// A word or a sign of code.
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Code without comments, split; and its texts.
#[derive(Default)]
struct Lexed<'a> {
    tokens: Vec<Token<'a>>,
    texts: Vec<&'a str>,
}

fn lex(code: &str) -> Lexed<'_> {
    let mut lexed = Lexed::default();
    let mut rest = code;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, is_code) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (block_comment(rest), false)
        } else if let Some((length, text)) = raw_text(rest).or_else(|| text(rest)) {
            lexed.texts.push(text);
            (length, false)
        } else if let Some(length) = character(rest) {
            (length, false)
        } else if is_word(first) {
            (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), true)
        } else {
            (first.len_utf8(), !first.is_whitespace())
        };
        let (token, after) = rest.split_at(length);
        if is_code {
            lexed.tokens.push(Token { text: token, line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    lexed
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The length of a block comment; they nest.
fn block_comment(code: &str) -> usize {
    let mut depth = 0_usize;
    let mut length = 0;
    let mut rest = code;
    while !rest.is_empty() {
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        length += step;
        if depth == 0 {
            break;
        }
        rest = rest.split_at(step).1;
    }
    length
}

/// A text in quotes: its length in the code, and what is between the quotes.
fn text(code: &str) -> Option<(usize, &str)> {
    let inside = code.strip_prefix('"')?;
    let mut is_escaped = false;
    let end = inside.find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    })?;
    Some((end + 2, inside.split_at(end).0))
}

/// A text without escapes: `r"..."`, `r#"..."#`, ...
fn raw_text(code: &str) -> Option<(usize, &str)> {
    let after = code
        .strip_prefix("br")
        .or_else(|| code.strip_prefix("cr"))
        .or_else(|| code.strip_prefix('r'))?;
    let inside = after.trim_start_matches('#');
    let hashes = after.len() - inside.len();
    let inside = inside.strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = inside.find(&close)?;
    let head = code.len() - inside.len();
    Some((head + end + close.len(), inside.split_at(end).0))
}

/// The length of a character in quotes; none for a lifetime.
fn character(code: &str) -> Option<usize> {
    let inside = code.strip_prefix('\'')?;
    let mut chars = inside.chars();
    match chars.next()? {
        '\\' => {
            let escaped = chars.next()?.len_utf8();
            let after = inside.split_at(1 + escaped).1;
            Some(1 + 1 + escaped + after.find('\'')? + 1)
        }
        first => (chars.next()? == '\'').then_some(first.len_utf8() + 2),
    }
}

/// A function with a body.
struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
}

fn functions<'a>(tokens: &[Token<'a>]) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let mut after = tokens.iter().skip(at + 1);
        // A type has no name: `fn(u8) -> u8`.
        let name = after.next().filter(|name| name.text.starts_with(is_word));
        if token.text == "fn"
            && let Some(name) = name
            && let Some(end) = body_end(after)
        {
            found.push(Function {
                name: name.text,
                line: token.line,
                lines: end + 1 - token.line,
            });
        }
    }
    found
}

/// The line of the brace that closes a function; none if it is only declared.
fn body_end<'a>(signature: impl Iterator<Item = &'a Token<'a>>) -> Option<usize> {
    let mut brackets = 0_usize;
    let mut braces = 0_usize;
    for token in signature {
        match token.text {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets = brackets.saturating_sub(1),
            ";" if brackets == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

/// Fails with all complaints at once.
#[track_caller]
fn conclude(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_module_begins_with_what_it_is_for() {
    let complaints: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_test() && !source.text.starts_with("//! "))
        .map(|source| {
            format!(
                "{}:1: begin with `//!`: what the module is for, and its invariant",
                source.path
            )
        })
        .collect();
    conclude(&complaints);
}

#[test]
fn files_are_short() {
    let complaints: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| (source, source.production().lines().count()))
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(source, lines)| {
            format!(
                "{}: {lines} lines of production code, at most {MAX_FILE_LINES}: split it by concept",
                source.path
            )
        })
        .collect();
    conclude(&complaints);
}

#[test]
fn functions_are_short() {
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for function in functions(&lex(source.production()).tokens) {
            if function.lines <= MAX_FUNCTION_LINES {
                continue;
            }
            let Function { name, line, lines } = function;
            let exempt = LONG_FUNCTIONS
                .iter()
                .any(|exempt| exempt.path == source.path && exempt.function == name);
            if exempt {
                used.insert((source.path.clone(), name.to_owned()));
            } else {
                complaints.push(format!(
                    "{}:{line}: `{name}` has {lines} lines, at most {MAX_FUNCTION_LINES}",
                    source.path
                ));
            }
        }
    }
    for exempt in LONG_FUNCTIONS {
        let Exemption {
            path,
            function,
            reason,
        } = exempt;
        if !used.contains(&((*path).to_owned(), (*function).to_owned())) {
            complaints.push(format!(
                "{path}: `{function}` is not too long any more: remove its exemption ({reason})"
            ));
        }
    }
    conclude(&complaints);
}

#[test]
fn names_say_what_is_inside() {
    let mut complaints = Vec::new();
    for source in sources() {
        let path = &source.path;
        if path.ends_with("/mod.rs") {
            complaints.push(format!("{path}: write `folder.rs` beside `folder/`"));
        }
        let parts = path.split('/').map(|part| part.trim_end_matches(".rs"));
        for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
            complaints.push(format!("{path}: `{part}` says nothing: name the concept"));
        }
        let tokens = lex(&source.text).tokens;
        for (token, name) in tokens.iter().zip(tokens.iter().skip(1)) {
            if token.text == "mod" && EMPTY_NAMES.contains(&name.text) {
                complaints.push(format!(
                    "{path}:{}: `{}` says nothing: name the concept",
                    name.line, name.text
                ));
            }
        }
    }
    conclude(&complaints);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut complaints = Vec::new();
    for source in sources() {
        let tokens = lex(&source.text).tokens;
        for (token, next) in tokens.iter().zip(tokens.iter().skip(1)) {
            if UNFINISHED.contains(&token.text) && next.text == "!" {
                complaints.push(format!("{}:{}: `{}!`", source.path, token.line, token.text));
            }
        }
    }
    conclude(&complaints);
}

#[test]
fn every_member_takes_over_the_lints() {
    let mut complaints = Vec::new();
    for member in members() {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let exempt = WITHOUT_LINTS.iter().any(|(name, _)| *name == member);
        if !exempt && section(&manifest, "[lints]") != ["workspace = true"] {
            complaints.push(format!(
                "{member}/Cargo.toml: add `[lints]` with `workspace = true`"
            ));
        }
    }
    conclude(&complaints);
}

#[test]
fn the_model_stays_pure() {
    let manifest = read("model/Cargo.toml");
    let complaints: Vec<String> = section(&manifest, "[dependencies]")
        .iter()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !MODEL_DEPENDENCIES.contains(name))
        .map(|name| format!("model/Cargo.toml: `{name}`: does it read a clock, draw, or do I/O?"))
        .collect();
    conclude(&complaints);
}

/// The lines of a manifest's section that say something.
fn section<'a>(manifest: &'a str, header: &str) -> Vec<&'a str> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .collect()
}

/// The first cells in backticks of the tables under a heading of a document.
fn table(document: &str, heading: &str) -> BTreeSet<String> {
    document
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(cell, _)| cell.to_owned())
        .collect()
}

fn compare(document: &str, listed: &BTreeSet<String>, real: &BTreeSet<String>) {
    let missing = real
        .difference(listed)
        .map(|name| format!("{document}: `{name}` is missing"));
    let gone = listed
        .difference(real)
        .map(|name| format!("{document}: `{name}` is listed and does not exist"));
    let complaints: Vec<String> = missing.chain(gone).collect();
    assert!(
        !real.is_empty(),
        "nothing was found to compare {document} with"
    );
    conclude(&complaints);
}

#[test]
fn the_reasons_of_errors_are_documented() {
    let is_reason =
        |text: &&&str| text.len() > 3 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let is_api = |source: &&Source| {
        ["node/src/api/", "node/src/locks/", "node/src/entry.rs"]
            .iter()
            .any(|place| source.path.starts_with(place))
    };
    let sources = sources();
    let real = sources
        .iter()
        .filter(is_api)
        .flat_map(|source| {
            let texts = lex(source.production()).texts;
            let reasons = texts.iter().filter(is_reason);
            reasons.map(|text| (*text).to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let document = read("ARCHITECTURE.md");
    compare(
        "ARCHITECTURE.md, Error reasons",
        &table(&document, "## Error reasons"),
        &real,
    );
}

#[test]
fn the_keys_of_the_configuration_are_documented() {
    let code = read("node/src/config/raw.rs");
    let (_, keys) = code.split_once("KEYS: &[&str] = &[").expect("the keys");
    let (keys, _) = keys.split_once("];").expect("the end of the keys");
    let real = lex(keys).texts.iter().map(ToString::to_string).collect();
    let document = read("README.md");
    compare(
        "README.md, Configuration",
        &table(&document, "## Configuration"),
        &real,
    );
}

#[test]
fn every_member_has_its_place_in_the_code_map() {
    let document = read("ARCHITECTURE.md");
    let complaints: Vec<String> = members()
        .iter()
        .filter(|member| !document.contains(&format!("`{member}/`")))
        .map(|member| format!("ARCHITECTURE.md: `{member}/` is missing"))
        .collect();
    conclude(&complaints);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut complaints = Vec::new();
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        let text = read(document);
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let is_outside = target.is_empty() || target.contains("://");
            if !is_outside && !root().join(target).exists() {
                complaints.push(format!("{document}: {target} does not exist"));
            }
        }
    }
    conclude(&complaints);
}

#[test]
fn the_lexer_tells_code_from_what_looks_like_it() {
    let code = r##"
        // fn comment() {
        /* fn /* nested */ { */
        fn one<'a>(a: &'a str) -> char { let _ = ("}\"{", r#"}"#, b'}', '\'', '\u{7d}'); '{' }
        type F = fn(u8) -> u8;
        trait T { fn declared(a: [u8; 3]);
            fn two() {
                if true { }
            }
        }
    "##;
    let found: Vec<(&str, usize, usize)> = functions(&lex(code).tokens)
        .iter()
        .map(|function| (function.name, function.line, function.lines))
        .collect();
    assert_eq!(found, [("one", 4, 1), ("two", 7, 3)]);
}
