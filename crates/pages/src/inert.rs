//! The one escaper of all pages. Whatever a template prints comes out as text that can neither become
//! markup nor leave an attribute, nor hide or reorder what stands around it. It knows nothing of where
//! the text came from: everything is treated as hostile.

use std::fmt::{self, Write};

use askama::filters::Escaper;

/// Escapes for HTML text and double-quoted attributes, and writes characters that cannot be seen
/// (controls, zero-width, bidirectional overrides, tags) as their code point, for example `[U+202E]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inert;

/// Whether a character would act on the text around it instead of showing itself.
fn acts(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl Escaper for Inert {
    fn write_escaped_str<W: Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        let mut written = 0;
        for (at, c) in text.char_indices() {
            let entity = match c {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\'' => "&#39;",
                _ if acts(c) => "",
                _ => continue,
            };
            dest.write_str(&text[written..at])?;
            if entity.is_empty() {
                write!(dest, "[U+{:04X}]", c as u32)?;
            } else {
                dest.write_str(entity)?;
            }
            written = at + c.len_utf8();
        }
        dest.write_str(&text[written..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_after_escaping() {
        let mut out = String::new();
        Inert.write_escaped_str(&mut out, "a<b>&\"'\u{202e}\0\u{200b}ü\n").expect("a String takes all");
        assert_eq!(out, "a&lt;b&gt;&amp;&quot;&#39;[U+202E][U+0000][U+200B]ü\n");
    }
}
