//! Progress of long work: bars on a terminal, lines in the log otherwise.

use std::{
    io::{self, IsTerminal, Write},
    sync::LazyLock,
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All bars of this process, so that log lines can be put above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Standard error for the log: lines appear above the bars.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if io::stderr().is_terminal() {
            BARS.suspend(|| io::stderr().write(bytes))
        } else {
            io::stderr().write(bytes)
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Where progress is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bars {
    terminal: bool,
}

impl Bars {
    /// On standard error if that is a terminal and no program reads the output.
    pub(crate) fn new(machine_output: bool) -> Self {
        Self { terminal: !machine_output && io::stderr().is_terminal() }
    }

    /// A bar of `steps` steps; 0 for work of unknown length.
    pub(crate) fn bar(self, what: String, steps: u64) -> Bar {
        if !self.terminal {
            return Bar { bar: None, what, last: String::new() };
        }
        let bar = BARS.add(if steps == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(steps) });
        let template = if steps == 0 {
            "{spinner} {prefix} {msg} {elapsed}"
        } else {
            "{prefix} [{bar:30}] {pos}/{len} {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        Bar { bar: Some(bar), what, last: String::new() }
    }
}

/// One piece of long work; what is shown goes when this is dropped.
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    what: String,
    last: String,
}

impl Bar {
    /// So many steps are done.
    pub(crate) fn at(&mut self, step: u64, steps: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(step),
            None => tracing::info!(what = self.what, step, steps, "progress"),
        }
    }
    /// What is being done.
    pub(crate) fn doing(&mut self, words: &str) {
        if self.last == words {
            return;
        }
        self.last = words.to_owned();
        match &self.bar {
            Some(bar) => bar.set_message(words.to_owned()),
            None => tracing::info!(what = self.what, doing = words, "progress"),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
