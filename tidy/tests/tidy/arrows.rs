//! Which rooms of a crate may use which.
//!
//! A room is a folder or file of `src`, named by its path; a module belongs to the room with the longest
//! name that its own path begins with. The layers of a crate are written here from the ground up: a
//! module may use its own room, and rooms of lower layers. So no two rooms can ever need each other, and
//! each can be read, tested and changed knowing only those below it.

use std::collections::BTreeSet;

use super::{Source, Token, conclude, lex, sources};

/// The rooms of a crate, in layers.
struct Crate {
    src: &'static str,
    /// From the ground up.
    layers: &'static [&'static [&'static str]],
}

const CRATES: &[Crate] = &[Crate {
    src: "model/src/",
    layers: &[
        // The format, and the texts that it checks.
        &["id/name_error"],
        &["codec"],
        &["id", "cow_map"],
        // What is spoken of.
        &["value", "page", "request", "locks/mode", "meta/record"],
        &["session", "locks/deadlock", "ring"],
        // What each service is asked and answers.
        &[
            "locks/query",
            "locks/reply",
            "locks/change",
            "meta/query",
            "meta/reply",
        ],
        &["query", "reply", "placement"],
        // What each is told.
        &["locks/command", "meta/command", "outcome"],
        &["command", "applied", "kernel"],
        // The services.
        &["locks", "locks/chase", "meta", "queue"],
        // All together.
        &["shard"],
        &["machine"],
        &["snapshot"],
    ],
}];

/// A path that some module names.
struct Use {
    path: Vec<String>,
    line: usize,
}

#[test]
fn arrows_between_rooms_go_down() {
    let sources = sources();
    let mut complaints = Vec::new();
    for one in CRATES {
        let inside: Vec<(String, &Source)> = sources
            .iter()
            .filter(|source| !source.is_test())
            .filter_map(|source| Some((module(source, one.src)?, source)))
            .collect();
        let modules: BTreeSet<&str> = inside.iter().map(|(module, _)| module.as_str()).collect();
        complaints.extend(one.unknown(&modules));
        for (module, source) in &inside {
            complaints.extend(one.wrong_arrows(module, source, &modules));
        }
    }
    conclude(&complaints);
}

impl Crate {
    /// The room that a module belongs to, and its layer.
    fn room_of(&self, module: &str) -> Option<(usize, &'static str)> {
        let rooms = self.layers.iter().enumerate();
        let rooms = rooms.flat_map(|(layer, rooms)| rooms.iter().map(move |room| (layer, *room)));
        rooms
            .filter(|(_, room)| is_in(module, room))
            .max_by_key(|(_, room)| room.len())
    }

    /// Modules without a room, and rooms without a module.
    fn unknown(&self, modules: &BTreeSet<&str>) -> Vec<String> {
        let homeless = modules
            .iter()
            .filter(|module| self.room_of(module).is_none());
        let homeless = homeless.map(|module| {
            format!(
                "{}{module}.rs: belongs to no room: add one to its layers",
                self.src
            )
        });
        let rooms = self.layers.iter().copied().flatten();
        let empty = rooms.filter(|room| !modules.iter().any(|module| is_in(module, room)));
        let empty = empty.map(|room| format!("{}{room}: there is no such room", self.src));
        homeless.chain(empty).collect()
    }

    fn wrong_arrows(&self, module: &str, source: &Source, modules: &BTreeSet<&str>) -> Vec<String> {
        let Some((layer, room)) = self.room_of(module) else {
            return Vec::new();
        };
        let tokens = lex(source.production()).tokens;
        let mut wrong = Vec::new();
        for Use { path, line } in uses(&tokens, module) {
            let Some(used) = resolve(&path, modules) else {
                continue;
            };
            let Some((of, other)) = self.room_of(used) else {
                continue;
            };
            if other != room && of >= layer {
                wrong.push(format!(
                    "{}:{line}: `{room}` uses `{other}`, which is not below it",
                    source.path
                ));
            }
        }
        wrong
    }
}

/// The path of a module inside its crate; none for the crate's root and other crates' files.
fn module(source: &Source, src: &str) -> Option<String> {
    let path = source.path.strip_prefix(src)?.strip_suffix(".rs")?;
    (!matches!(path, "lib" | "main")).then(|| path.to_owned())
}

fn is_in(module: &str, room: &str) -> bool {
    let rest = module.strip_prefix(room);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The module that a path leads into: the longest that it begins with.
fn resolve<'a>(path: &[String], modules: &BTreeSet<&'a str>) -> Option<&'a str> {
    (1..=path.len()).rev().find_map(|length| {
        let name = path.get(..length)?.join("/");
        modules.get(name.as_str()).copied()
    })
}

/// All paths inside the crate that a module names, from the crate's root.
fn uses(tokens: &[Token<'_>], module: &str) -> Vec<Use> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        let begins = before.is_none_or(|before| before.text != ":");
        if begins && matches!(token.text, "crate" | "super" | "self") && follows(tokens, at) {
            at = tree(tokens, at, &parent_path(module), &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// A module's own path, in parts.
fn parent_path(module: &str) -> Vec<String> {
    module.split('/').map(str::to_owned).collect()
}

/// True if `::` follows.
fn follows(tokens: &[Token<'_>], at: usize) -> bool {
    let is_colon = |at: usize| tokens.get(at).is_some_and(|token| token.text == ":");
    is_colon(at + 1) && is_colon(at + 2)
}

/// Reads a path, or a tree of them, that continues `from`; gives where it ends.
fn tree(tokens: &[Token<'_>], mut at: usize, from: &[String], found: &mut Vec<Use>) -> usize {
    let mut path = from.to_vec();
    while let Some(Token { text, line }) = tokens.get(at) {
        match *text {
            "{" => {
                at += 1;
                while let Some(token) = tokens.get(at) {
                    match token.text {
                        "}" => return at + 1,
                        "," => at += 1,
                        _ => at = tree(tokens, at, &path, found),
                    }
                }
                return at;
            }
            "crate" => path.clear(),
            "super" => {
                path.pop();
            }
            "self" => {}
            word => path.push(word.to_owned()),
        }
        if !follows(tokens, at) {
            found.push(Use { path, line: *line });
            return skip_alias(tokens, at + 1);
        }
        at += 3;
    }
    at
}

/// Steps over `as name`.
fn skip_alias(tokens: &[Token<'_>], at: usize) -> usize {
    match tokens.get(at) {
        Some(token) if token.text == "as" => at + 2,
        _ => at,
    }
}
