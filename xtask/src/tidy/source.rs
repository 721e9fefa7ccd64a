//! Rust source seen apart: code without comments, string contents and tests. It reads characters, not
//! grammar: enough to tell whether a name is used, and never fooled by a name in a comment or a string.

/// One Rust file seen twice, each view as long as the file, with the same lines.
pub struct Source {
    /// Comments, string contents and test items are blank.
    pub code: String,
    /// Comments and test items are blank; strings are there.
    pub with_strings: String,
}

impl Source {
    /// Sees `text` apart.
    pub fn new(text: &str) -> Self {
        let (mut code, mut with_strings) = blank(text.as_bytes());
        for range in tests(&code) {
            fill(&mut code[range.clone()]);
            fill(&mut with_strings[range]);
        }
        // Only whole comments and strings were blanked, byte by byte, so what is left is still UTF-8.
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: text(code), with_strings: text(with_strings) }
    }

    /// As `new`, but with tests in view.
    pub fn with_tests(text: &str) -> Self {
        let (code, with_strings) = blank(text.as_bytes());
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: text(code), with_strings: text(with_strings) }
    }

    /// Every identifier in the code with its offset.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        words(&self.code)
    }

    /// Lines on which module `name` of `std` is used, as `std::name` or within `std::{...}`.
    pub fn std_module(&self, name: &str) -> Vec<usize> {
        let mut lines = Vec::new();
        for (at, _) in self.words().filter(|(_, word)| *word == "std") {
            let Some(rest) = self.code[at + 3..].trim_start().strip_prefix("::").map(str::trim_start) else {
                continue;
            };
            let used = match rest.strip_prefix('{') {
                Some(group) => first_level(group).any(|(_, word)| word == name),
                None => words(rest).next().is_some_and(|(start, word)| start == 0 && word == name),
            };
            if used {
                lines.push(line_of(&self.code, at));
            }
        }
        lines
    }

    /// Lines on which `word` is used as an identifier.
    pub fn uses(&self, word: &str) -> Vec<usize> {
        self.words().filter(|(_, w)| *w == word).map(|(at, _)| line_of(&self.code, at)).collect()
    }

    /// For each call of macro `name`: its line, and the strings among its arguments.
    pub fn macro_strings(&self, name: &str) -> Vec<(usize, Vec<String>)> {
        let mut calls = Vec::new();
        for (at, _) in self.words().filter(|(_, word)| *word == name) {
            let after = at + name.len();
            let Some(open) = self.code[after..].strip_prefix('!').map(|_| after + 1) else { continue };
            let open = open + self.code[open..].len() - self.code[open..].trim_start().len();
            if let Some(close) = closing(self.code.as_bytes(), open) {
                calls.push((
                    line_of(&self.code, at),
                    strings(&self.code[open..close], &self.with_strings[open..close]),
                ));
            }
        }
        calls
    }
}

/// The line on which `offset` is, 1 for the first.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = code.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && !is_word(bytes[at]) {
            at += 1;
        }
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        (start < at).then(|| (start, &code[start..at]))
    })
}

/// The first word of each element of a group, given the text after its `{`.
fn first_level(group: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = group.as_bytes();
    let end = closing_from(bytes, 0, 1).unwrap_or(bytes.len());
    let mut depth = 0;
    let mut expects = true;
    let mut starts = Vec::new();
    for (at, byte) in bytes[..end].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => expects = true,
            byte if expects && depth == 0 && is_word(*byte) => {
                starts.push(at);
                expects = false;
            }
            _ => {}
        }
    }
    starts.into_iter().filter_map(move |at| words(&group[at..end]).next())
}

/// The strings in a stretch of source, given as code and with strings: blank in one and quoted in the other.
fn strings(code: &str, with_strings: &str) -> Vec<String> {
    let quotes: Vec<usize> =
        code.bytes().enumerate().filter(|(_, byte)| *byte == b'"').map(|(at, _)| at).collect();
    quotes
        .chunks_exact(2)
        .filter_map(|pair| with_strings.get(pair[0] + 1..pair[1]))
        .map(str::to_owned)
        .collect()
}

/// Where the bracket that opens at `open` closes, one past it.
fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    matches!(bytes.get(open)?, b'(' | b'[' | b'{').then(|| closing_from(bytes, open + 1, 1))?
}

fn closing_from(bytes: &[u8], start: usize, mut depth: usize) -> Option<usize> {
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// The stretches of items that only tests see: `#[cfg(test)]` up to the end of what it stands before.
fn tests(code: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = code[at..].windows(6).position(|window| window == b"#[cfg(") {
        let start = at + offset;
        at = start + 6;
        let Some(close) = closing(code, start + 5) else { break };
        let condition = String::from_utf8_lossy(&code[at..close]).replace(char::is_whitespace, "");
        if condition.contains("not(test)") || !words(&condition).any(|(_, word)| word == "test") {
            continue;
        }
        let end = end_of_item(code, close + 1).unwrap_or(code.len());
        found.push(start..end);
        at = end;
    }
    found
}

/// Where the item that begins at `start` ends: after its `;` or its block, whatever stands in brackets before.
fn end_of_item(code: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while at < code.len() {
        match code[at] {
            b'(' | b'[' => at = closing(code, at)?,
            b'{' => return closing(code, at),
            b';' => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

fn fill(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// The text without comments and string contents, and without comments only.
fn blank(text: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut code, mut with_strings) = (text.to_vec(), text.to_vec());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            fill(&mut code[at..end]);
            fill(&mut with_strings[at..end]);
            at = end;
        } else if rest.starts_with(b"/*") {
            let end = at + block_comment(rest);
            fill(&mut code[at..end]);
            fill(&mut with_strings[at..end]);
            at = end;
        } else if let Some((open, end)) = string(text, at) {
            fill(&mut code[open + 1..end - 1]);
            // A raw string's marks stay outside its quotes, and the closing ones behind.
            at = end;
        } else if rest[0] == b'\'' {
            let length = character(rest);
            if length > 1 {
                fill(&mut code[at + 1..at + length - 1]);
                fill(&mut with_strings[at + 1..at + length - 1]);
            }
            at += length;
        } else {
            at += 1;
        }
    }
    (code, with_strings)
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// If a string begins at `at`: the place of its opening quote and one past its closing quote.
fn string(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = &text[at..];
    if rest[0] == b'"' {
        let mut end = at + 1;
        while end < text.len() && text[end] != b'"' {
            end += if text[end] == b'\\' { 2 } else { 1 };
        }
        return Some((at, (end + 1).min(text.len())));
    }
    // A raw string: `r`, perhaps marks, a quote; `br` and `cr` reach here at their second letter.
    let before = at.checked_sub(1).map(|before| text[before]);
    let prefixed = before.is_some_and(is_word) && !matches!(before, Some(b'b' | b'c'));
    if rest[0] != b'r' || prefixed {
        return None;
    }
    let marks = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + marks) != Some(&b'"') {
        return None;
    }
    let open = at + 1 + marks;
    let close = [&b"\""[..], &vec![b'#'; marks]].concat();
    let end = text[open + 1..].windows(close.len()).position(|window| window == close)?;
    Some((open, open + 1 + end + 1))
}

/// How long the character that begins with `'` is; 1 if it is a lifetime or a label.
fn character(rest: &[u8]) -> usize {
    match rest.get(1) {
        Some(b'\\') => rest[2..].iter().skip(1).position(|byte| *byte == b'\'').map_or(1, |end| end + 4),
        Some(_) => {
            let width = std::str::from_utf8(&rest[1..rest.len().min(5)])
                .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]))
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(1, char::len_utf8);
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 1 }
        }
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str) {
        let source = Source::new(text);
        assert_eq!(source.code.split_whitespace().collect::<Vec<_>>().join(" "), code, "{text}");
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.code.lines().count(), text.lines().count());
    }

    #[test]
    fn comments_and_strings_are_blank() {
        check("a // b\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check("f(\"tokio // \\\" x\") // y", "f(\" \")");
        check("f(r#\"a \"b\" c\"#, b\"d\", br\"e\")", "f(r#\" \"#, b\" \", br\" \")");
        check("let x = '\"'; let y = \"z\";", "let x = ' '; let y = \" \";");
        check("match c { '\\'' => 'é', '\\u{41}' => '/' }", "match c { ' ' => ' ', ' ' => ' ' }");
        check("fn f<'a>(x: &'a str) -> &'a str { x }", "fn f<'a>(x: &'a str) -> &'a str { x }");
        check("for_r\"x\"", "for_r\" \"");
    }

    #[test]
    fn tests_are_blank_and_what_follows_is_not() {
        check("a;\n#[cfg(test)]\nmod tests { fn f() { g() } }\nb;", "a; b;");
        check("#[cfg(all(test, unix))]\n#[allow(x)]\nfn f(a: [u8; 3]) -> u8 { 1 }\nb;", "b;");
        check("#[cfg(test)] mod tests;\nb;", "b;");
        check("#[cfg(not(test))] fn f() {}", "#[cfg(not(test))] fn f() {}");
        check("#[cfg(feature = \"test\")] fn f() {}", "#[cfg(feature = \" \")] fn f() {}");
    }

    #[test]
    fn modules_of_std_are_found_however_they_are_named() {
        let lines = |text: &str| Source::new(text).std_module("fs");
        for used in [
            "use std::fs;",
            "use std::{fs, io};",
            "use std::{io::{self, Read}, fs::File};",
            "std :: fs::read()",
        ] {
            assert_eq!(lines(used), [1], "{used}");
        }
        for unused in [
            "use std::io;",
            "// std::fs",
            "\"std::fs\"",
            "use std::{io::{fs}, fmt};",
            "mystd::fs",
            "std::fsx",
        ] {
            assert!(lines(unused).is_empty(), "{unused}");
        }
    }

    #[test]
    fn strings_of_a_macro_are_found() {
        let source = Source::new("a();\nlet x = format!(\"SELECT {y}\", f(\"b\")); format(\"c\");");
        assert_eq!(source.macro_strings("format"), [(2, vec!["SELECT {y}".to_owned(), "b".to_owned()])]);
    }
}
