//! Rust files as the rules look at them: without comments and texts, and knowing which lines are only tests.
//!
//! No parser: the sources are formatted by rustfmt and compile, so braces are balanced and items begin a line.

use crate::root;
use std::collections::BTreeSet;
use std::path::Path;

/// One file.
pub(crate) struct Source {
    /// From the root of the repository.
    pub(crate) path: String,
    text: String,
    /// The same with comments and the insides of literals blanked out: as long, and with the same lines.
    code: String,
    tests: Tests,
}

/// Which part of a file is only for tests.
enum Tests {
    All,
    /// These lines, counted from 0.
    Lines(BTreeSet<usize>),
}

/// One line of code.
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub(crate) number: usize,
    /// Without comments and texts.
    pub(crate) code: &'a str,
    pub(crate) text: &'a str,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Where it begins, counted from 1.
    pub(crate) line: usize,
    /// From its `fn` to its closing brace.
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let tests = if path.starts_with("tests/") || path.contains("/tests/") {
            Tests::All
        } else {
            Tests::Lines(test_lines(&code))
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            tests,
        }
    }

    /// Every line.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let both = self.code.lines().zip(self.text.lines());
        both.zip(1..)
            .map(|((code, text), number)| Line { number, code, text })
    }

    /// The lines that are part of the program.
    pub(crate) fn program(&self) -> impl Iterator<Item = Line<'_>> {
        self.lines().filter(|line| match &self.tests {
            Tests::All => false,
            Tests::Lines(tests) => !tests.contains(&(line.number - 1)),
        })
    }

    /// Every function that has a body, tests included.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        let mut start = 0;
        for line in self.code.split_inclusive('\n') {
            if let Some((at, name)) = function_name(line)
                && let Some(end) = end_of_item(&self.code, start + at)
                && self.code[..end].ends_with('}')
            {
                let newlines = |text: &str| text.matches('\n').count();
                functions.push(Function {
                    name: name.to_owned(),
                    line: newlines(&self.code[..start]) + 1,
                    lines: newlines(&self.code[start..end]) + 1,
                });
            }
            start += line.len();
        }
        functions
    }

    /// The files, without their ending, of modules that exist for tests only.
    fn test_modules(&self) -> Vec<String> {
        let folder = Path::new(&self.path).parent().unwrap();
        let stem = Path::new(&self.path).file_stem().unwrap();
        let inside = match stem.to_str().unwrap() {
            "mod" | "lib" | "main" => folder.to_owned(),
            stem => folder.join(stem),
        };
        let mut modules = Vec::new();
        let mut test = false;
        let mut path = None;
        for line in self.lines() {
            let code = line.code.trim();
            let named = code.strip_suffix(';').and_then(|c| c.rsplit_once("mod "));
            match named {
                Some((_, name)) if test => modules.push(match path.take() {
                    Some(path) => folder.join(path),
                    None => inside.join(name),
                }),
                _ if code.starts_with("#[path") => path = line.text.split('"').nth(1),
                _ => {}
            }
            test = code == "#[cfg(test)]" || test && code.starts_with('#');
        }
        let text =
            |path: &std::path::PathBuf| path.to_str().unwrap().trim_end_matches(".rs").into();
        modules.iter().map(text).collect()
    }
}

/// Every Rust file of the repository.
pub(crate) fn all() -> Vec<Source> {
    let mut sources: Vec<Source> = files(&["rs"])
        .into_iter()
        .map(|(path, text)| Source::new(&path, &text))
        .collect();
    let tests: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let name = source.path.trim_end_matches(".rs");
        let in_folder = |test: &String| name == test || name.starts_with(&format!("{test}/"));
        if tests.iter().any(in_folder) {
            source.tests = Tests::All;
        }
    }
    sources
}

/// The path from the root and the text of every file with one of these endings; an empty list stands for all of them.
pub(crate) fn files(endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let skipped = [
                "target",
                "node_modules",
                ".git",
                "__pycache__",
                "corpus",
                "artifacts",
            ];
            if skipped.contains(&name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let ending = path
                .extension()
                .map_or("", |ending| ending.to_str().unwrap());
            if (endings.is_empty() || endings.contains(&ending))
                // Not text, if it is not.
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                let path = path.strip_prefix(root()).unwrap();
                found.push((path.to_str().unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// Where the word `fn` and the function's name are, if this line begins one.
fn function_name(line: &str) -> Option<(usize, &str)> {
    let at = line.find("fn ")?;
    let modifiers = line[..at].split_whitespace();
    let modifier = |word: &str| {
        matches!(word, "pub" | "const" | "async" | "unsafe") || word.starts_with("pub(")
    };
    let mut modifiers = modifiers.filter(|word| !modifier(word));
    let name = line[at + 3..].split(['(', '<']).next()?;
    (modifiers.next().is_none() && !name.is_empty()).then_some((at, name))
}

/// The lines of items that are only compiled for tests.
fn test_lines(code: &str) -> BTreeSet<usize> {
    let newlines = |text: &str| text.matches('\n').count();
    let attributes = code.match_indices("#[cfg(test)]");
    let items = attributes.filter_map(|(at, _)| Some((at, end_of_item(code, at)?)));
    items
        .flat_map(|(start, end)| newlines(&code[..start])..=newlines(&code[..end]))
        .collect()
}

/// Behind the `}` or `;` with which the item ends that begins here.
fn end_of_item(code: &str, start: usize) -> Option<usize> {
    let mut open = 0_usize;
    for (at, character) in code[start..].char_indices() {
        match character {
            '{' | '[' | '(' => open += 1,
            '}' | ']' | ')' => {
                open = open.checked_sub(1)?;
                if open == 0 && character == '}' {
                    return Some(start + at + 1);
                }
            }
            ';' if open == 0 => return Some(start + at + 1),
            _ => {}
        }
    }
    None
}

/// Replaces comments, and what is inside literals, with spaces.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            '"' => quoted(rest),
            'r' | 'b' if !in_word => raw(rest).unwrap_or(0),
            '\'' => character(rest).unwrap_or(0),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (literal, after) = rest.split_at(length);
        let kept = |c: char| if c == '\n' { '\n' } else { ' ' };
        // As many bytes, so that places in both texts are the same.
        code.extend(
            literal
                .chars()
                .flat_map(|c| std::iter::repeat_n(kept(c), c.len_utf8())),
        );
        rest = after;
    }
    code
}

/// The length of the text literal at the start.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// The length of the raw or byte literal at the start, if it is one.
fn raw(text: &str) -> Option<usize> {
    let prefix = if text.starts_with("br") { 2 } else { 1 };
    let hashes = text[prefix..].chars().take_while(|c| *c == '#').count();
    let opening = prefix + hashes;
    if !text[opening..].starts_with('"') {
        return None;
    }
    if text.starts_with("b\"") {
        return Some(1 + quoted(&text[1..]));
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    let inside = text[opening + 1..].find(&closing)?;
    Some(opening + 1 + inside + closing.len())
}

/// The length of the character literal at the start, if it is one and no lifetime.
fn character(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    match characters.next()?.1 {
        '\\' => {
            characters.next()?;
            characters.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1)
        }
        _ => characters
            .next()
            .filter(|(_, c)| *c == '\'')
            .map(|(at, _)| at + 1),
    }
}

#[test]
fn comments_and_literals_are_blank() {
    let text = concat!(
        "let a = \"// {\\\"\"; // }\n",
        "let b = r#\"{ \" }\"#; /* {\n */ let c: &'a str = b\"{\";\n",
        "let d = ['{', '\\'', '\\u{7d}', 'é']; br\"{\"",
    );
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.lines().count(), text.lines().count());
    let left: String = code.split_whitespace().collect();
    assert_eq!(left, "leta=;letb=;letc:&'astr=;letd=[,,,];");
}

#[test]
fn tests_are_no_part_of_the_program() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nuse d;\nfn e() {}\n";
    let source = Source::new("src/lib.rs", text);
    let program: Vec<usize> = source.program().map(|line| line.number).collect();
    assert_eq!(program, [1, 6, 9]);
    assert_eq!(Source::new("tests/a.rs", text).program().count(), 0);
}

#[test]
fn modules_for_tests_are_known() {
    let text =
        "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\n#[path = \"d_tests.rs\"]\nmod c;\nmod e;\n";
    let modules = |path| Source::new(path, text).test_modules();
    assert_eq!(modules("x/lib.rs"), ["x/b", "x/d_tests"]);
    assert_eq!(modules("x/y.rs"), ["x/y/b", "x/d_tests"]);
}

#[test]
fn functions_are_measured() {
    let text = concat!(
        "trait T {\n    fn declared(&self, a: [u8; 2]);\n}\n",
        "pub(crate) async fn a(\n    b: [u8; 2],\n) -> u8 {\n    \"}\"\n}\n",
        "    const fn one() {}\n",
    );
    let measured = Source::new("src/lib.rs", text).functions();
    let measured: Vec<_> = measured
        .iter()
        .map(|f| (&*f.name, f.line, f.lines))
        .collect();
    assert_eq!(measured, [("a", 4, 5), ("one", 9, 1)]);
}
