//! The settings of `serve`, declared once: as flags, as environment variables and as keys of a file.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use gangline_server::Config;
use gangline_types::MicroCredits;
use serde::Deserialize;

use crate::problem::Problem;

/// Settings as somebody gave them; what nobody gave has a default.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Folder of the databases and the network's key [default: gangline-data].
    #[arg(long, value_name = "DIR", env = "GANGLINE_DATA")]
    pub data: Option<PathBuf>,
    /// Address and port to listen on; plain HTTP, so a loopback address or one behind a TLS proxy
    /// [default: 127.0.0.1:7700].
    #[arg(long, value_name = "ADDRESS", env = "GANGLINE_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Listen on an address that is not loopback although the server itself speaks plain HTTP: only
    /// where a proxy in front of it speaks TLS.
    #[arg(long, env = "GANGLINE_PLAIN_HTTP", num_args = 0..=1, default_missing_value = "true", value_name = "YES")]
    pub plain_http: Option<bool>,
    /// How people and machines reach this server, for example https://gangline.example; links and
    /// signatures name it [default: the listen address].
    #[arg(long, value_name = "URL", env = "GANGLINE_PUBLIC_URL")]
    pub public_url: Option<String>,
    /// Minutes in a snapshot period of the first season, 1 to 60 and a divisor of 60 [default: 60].
    #[arg(long, value_name = "MINUTES", env = "GANGLINE_PERIOD_MINUTES")]
    pub period_minutes: Option<u32>,
    /// What one period shares out, in millionths of a credit [default: 1000000000].
    #[arg(long, value_name = "MICRO_CREDITS", env = "GANGLINE_PERIOD_BUDGET_MICRO_CREDITS")]
    pub period_budget_micro_credits: Option<u64>,
    /// How long after a period's end its snapshot waits for late beats, in seconds [default: 600].
    #[arg(long, value_name = "SECONDS", env = "GANGLINE_SNAPSHOT_GRACE_SECONDS")]
    pub snapshot_grace_seconds: Option<u64>,
    /// Days of the first season [default: 90].
    #[arg(long, value_name = "DAYS", env = "GANGLINE_SEASON_DAYS")]
    pub season_days: Option<u32>,
    /// A machine that runs a cluster and says nothing for so long is lost, in seconds [default: 90].
    #[arg(long, value_name = "SECONDS", env = "GANGLINE_SILENT_SECONDS")]
    pub silent_seconds: Option<u64>,
    /// How long requests may finish once the server is asked to stop, in seconds [default: 10].
    #[arg(long, value_name = "SECONDS", env = "GANGLINE_DRAIN_SECONDS")]
    pub drain_seconds: Option<u64>,
    /// A sentence at the top of every page, for demonstrations.
    #[arg(long, value_name = "TEXT", env = "GANGLINE_BANNER")]
    pub banner: Option<String>,
}

impl Settings {
    /// Reads a file of settings.
    ///
    /// # Errors
    /// When it cannot be read, or holds a key that is no setting.
    pub fn read(file: &std::path::Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| Problem::usage(format!("the settings file {} cannot be read", file.display())))?;
        toml::from_str(&text).with_context(|| {
            Problem::usage(format!("the settings file {} holds something that is no setting", file.display()))
                .hint("see docs/CONFIGURATION.md for all settings")
        })
    }

    /// These, and where nothing is given, `other`'s.
    pub fn or(self, other: Self) -> Self {
        Self {
            data: self.data.or(other.data),
            listen: self.listen.or(other.listen),
            plain_http: self.plain_http.or(other.plain_http),
            public_url: self.public_url.or(other.public_url),
            period_minutes: self.period_minutes.or(other.period_minutes),
            period_budget_micro_credits: self.period_budget_micro_credits.or(other.period_budget_micro_credits),
            snapshot_grace_seconds: self.snapshot_grace_seconds.or(other.snapshot_grace_seconds),
            season_days: self.season_days.or(other.season_days),
            silent_seconds: self.silent_seconds.or(other.silent_seconds),
            drain_seconds: self.drain_seconds.or(other.drain_seconds),
            banner: self.banner.or(other.banner),
        }
    }

    /// The server's configuration.
    ///
    /// # Errors
    /// When a value is out of its range, or plain HTTP would leave this machine.
    pub fn into_config(self) -> anyhow::Result<Config> {
        let default = Config::default();
        let config = Config {
            data: self.data.unwrap_or(default.data),
            listen: self.listen.unwrap_or(default.listen),
            public_url: self.public_url,
            period_minutes: self.period_minutes.unwrap_or(default.period_minutes),
            period_budget: self.period_budget_micro_credits.map_or(default.period_budget, MicroCredits),
            snapshot_grace_seconds: self.snapshot_grace_seconds.unwrap_or(default.snapshot_grace_seconds),
            season_days: self.season_days.unwrap_or(default.season_days),
            silent_seconds: self.silent_seconds.unwrap_or(default.silent_seconds),
            drain_seconds: self.drain_seconds.unwrap_or(default.drain_seconds),
            banner: self.banner,
            operator_link: false,
        };
        if !(1..=60).contains(&config.period_minutes) || 60 % config.period_minutes != 0 {
            return Err(Problem::usage(format!("a period of {} minutes cannot be", config.period_minutes))
                .hint("choose a divisor of 60: 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60")
                .into());
        }
        if !(1..=3650).contains(&config.season_days) {
            return Err(Problem::usage(format!("a season of {} days cannot be", config.season_days)).hint("choose 1 to 3650").into());
        }
        if config.silent_seconds < 30 {
            return Err(Problem::usage(format!("{} s of silence are too few: a machine speaks every 20 s", config.silent_seconds))
                .hint("choose 30 or more")
                .into());
        }
        if !config.listen.ip().is_loopback() && self.plain_http != Some(true) {
            return Err(Problem::usage(format!("{} is not loopback, and this server speaks plain HTTP", config.listen))
                .hint("put a proxy that speaks TLS in front of it and listen on 127.0.0.1; or, if the proxy is on another machine and the way to it is safe, say --plain-http")
                .into());
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let file: Settings = toml::from_str("listen = \"127.0.0.1:1\"\nseason_days = 3").unwrap();
        let flags = Settings { listen: Some("127.0.0.1:2".parse().unwrap()), ..Settings::default() };
        let config = flags.or(file).into_config().unwrap();
        assert_eq!((config.listen.port(), config.season_days, config.drain_seconds), (2, 3, Config::default().drain_seconds));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        assert!(toml::from_str::<Settings>("listn = \"127.0.0.1:1\"").is_err(), "an unknown key was taken");
        for bad in ["period_minutes = 7", "period_minutes = 0", "season_days = 0", "silent_seconds = 5", "listen = \"0.0.0.0:7700\""] {
            let settings: Settings = toml::from_str(bad).unwrap();
            assert!(settings.into_config().is_err(), "{bad} was taken");
        }
        let open: Settings = toml::from_str("listen = \"0.0.0.0:7700\"\nplain_http = true").unwrap();
        assert!(open.into_config().is_ok());
    }
}
