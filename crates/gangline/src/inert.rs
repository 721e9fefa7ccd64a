//! Makes text from outside inert before a terminal sees it. A renter's job, a cluster and a server are
//! not the terminal's owner: none of them may move its cursor, rewrite what it showed or set its title.
//!
//! Knows no terminal; it maps characters.

/// What is shown for `c`: itself where it only draws or breaks a line, otherwise a picture of it.
fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        // Control pictures: U+2400 shows NUL, and so on in order.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        // C1 controls, direction overrides, separators, invisible characters and tags.
        '\u{80}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
        _ => c,
    }
}

/// Makes a stream of text inert, piece by piece. A carriage return begins a new line instead of
/// writing over the one before, so a progress bar becomes lines and nothing shown is ever rewritten.
#[derive(Debug, Default)]
pub struct Inert {
    after_return: bool,
}

impl Inert {
    /// The next piece as it may be printed.
    pub fn piece(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            let after_return = std::mem::take(&mut self.after_return);
            match c {
                '\r' => {
                    self.after_return = true;
                    out.push('\n');
                }
                '\n' if after_return => {}
                c => out.push(shown(c)),
            }
        }
        out
    }
}

/// One line of text as it may be printed: line breaks and tabs become spaces.
pub fn inert_line(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { shown(c) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_gets_through() {
        let hostile = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{8}\u{202e}ok\u{0}\u{7f}\n\tend";
        let text = Inert::default().piece(hostile);
        assert!(text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'), "{text:?}");
        assert_eq!(text, "␛]0;title␇␛[2J\u{fffd}31m␈\u{fffd}ok␀␡\n\tend");
        assert_eq!(inert_line("a\nb\tc\u{1b}"), "a b c␛");
    }

    #[test]
    fn a_return_never_rewrites_a_line_and_pieces_join_as_one() {
        for pieces in [vec!["10%\r20%\r\ndone\n"], vec!["10%\r", "20%\r", "\ndone\n"]] {
            let mut inert = Inert::default();
            let text: String = pieces.iter().map(|piece| inert.piece(piece)).collect();
            assert_eq!(text, "10%\n20%\ndone\n");
        }
    }
}
