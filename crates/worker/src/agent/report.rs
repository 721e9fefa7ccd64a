//! What a command tells whoever called it: lines for a person, or one JSON object a line for a program.

/// Where words go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reporter {
    machine: bool,
}

impl Reporter {
    /// With `machine_output`, JSON lines on standard output and nothing else there.
    pub fn new(machine_output: bool) -> Self {
        Self { machine: machine_output }
    }
    /// Whether a program reads.
    pub(crate) fn is_machine(&self) -> bool {
        self.machine
    }
    /// A line for a person; a program is not told.
    pub(crate) fn say(&self, line: &str) {
        if !self.machine {
            print_line(line);
        }
    }
    /// An object for a program; a person is not told.
    pub(crate) fn event(&self, event: serde_json::Value) {
        if self.machine {
            print_line(&event.to_string());
        }
    }
}

/// A closed pipe is no reason to stop working.
fn print_line(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
