//! The settings of `serve`, declared once: as flags, as environment variables and as keys of a file.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use gangline_guard::outbound::Exceptions;
use gangline_server::{
    Config, DatabaseUrl,
    config::{Acme, BeatUdp, Connections, Notice, Oidc, Outbound, Tls},
};
use gangline_types::MicroCredits;
use gangline_wire::api::account::Role;
use serde::Deserialize;

use crate::problem::Problem;

/// Settings as somebody gave them; what nobody gave has a default.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Folder of the databases and the network's key [default: gangline-data].
    #[arg(long, value_name = "DIR", env = "GANGLINE_DATA")]
    pub data: Option<PathBuf>,
    /// Keep the books in this database of PostgreSQL, postgres://user:password@host:5432/database, and not in the
    /// data folder; commas between hosts where one of several is the primary. Others on this machine may see a
    /// command line: a password belongs into the environment or into --database-file. See docs/SCALING.md.
    #[arg(long, value_name = "URL", env = "GANGLINE_DATABASE", hide_env_values = true)]
    pub database: Option<Hidden>,
    /// File that holds the database's address and nothing else, which only this user may read (chmod 600).
    #[arg(long, value_name = "FILE", env = "GANGLINE_DATABASE_FILE")]
    pub database_file: Option<PathBuf>,
    /// Address and port to listen on; without TLS a loopback address, or one behind a TLS proxy
    /// [default: 127.0.0.1:7700].
    #[arg(long, value_name = "ADDRESS", env = "GANGLINE_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Listen on an address that is not loopback although the server itself speaks plain HTTP: only
    /// where a proxy in front of it speaks TLS.
    #[arg(long, env = "GANGLINE_PLAIN_HTTP", num_args = 0..=1, default_missing_value = "true", value_name = "YES")]
    pub plain_http: Option<bool>,
    /// This server's certificate, and after it those that lead to a known authority: a PEM file, read again when
    /// it changes. Needs --tls-key.
    #[arg(long, value_name = "FILE", env = "GANGLINE_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key: a PEM file that not everybody may read.
    #[arg(long, value_name = "FILE", env = "GANGLINE_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Names of this server, with commas between them: its certificate is got from an ACME authority and
    /// renewed. Whoever sets this agrees to that authority's terms. The server must be reachable there, at
    /// port 443 or as --acme-http-listen says.
    #[arg(long, value_name = "NAME,…", env = "GANGLINE_ACME_DOMAIN")]
    pub acme_domain: Option<String>,
    /// Address of the ACME authority's directory, as the authority publishes it; needed with --acme-domain.
    #[arg(long, value_name = "URL", env = "GANGLINE_ACME_DIRECTORY")]
    pub acme_directory: Option<String>,
    /// Where the authority can reach you, for example mailto:ops@gangline.example, with commas between several.
    #[arg(long, value_name = "URL,…", env = "GANGLINE_ACME_CONTACT")]
    pub acme_contact: Option<String>,
    /// Answer the authority over plain HTTP (http-01) at this address, which it must reach as port 80, and send
    /// all else there on to https. Without it, it is answered on the TLS port (tls-alpn-01).
    #[arg(long, value_name = "ADDRESS", env = "GANGLINE_ACME_HTTP_LISTEN")]
    pub acme_http_listen: Option<SocketAddr>,
    /// Most connections held at once [default: 20000].
    #[arg(long, value_name = "CONNECTIONS", env = "GANGLINE_CONNECTIONS_MAX")]
    pub connections_max: Option<u32>,
    /// Most connections held at once from one IPv4 address or one IPv6 network of 64 bits; those from this
    /// machine itself, where a proxy may stand, are not counted [default: 1000].
    #[arg(long, value_name = "CONNECTIONS", env = "GANGLINE_CONNECTIONS_PER_ADDRESS_MAX")]
    pub connections_per_address_max: Option<u32>,
    /// Networks beside the public internet that this server may ask by itself, with commas between them, for
    /// example 10.0.0.0/8,127.0.0.1. The hosts of the identity provider and of the ACME authority need not be
    /// named.
    #[arg(long, value_name = "NETWORK,…", env = "GANGLINE_OUTBOUND_ALLOW")]
    pub outbound_allow: Option<String>,
    /// Certificate authorities that this server believes, beside the system's, when it asks others: a PEM file.
    #[arg(long, value_name = "FILE", env = "GANGLINE_OUTBOUND_CA_FILE")]
    pub outbound_ca_file: Option<PathBuf>,
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
    /// How long a machine's or command line's old key is still taken after the one in its place was first used,
    /// in seconds, at most 86400 [default: 900].
    #[arg(long, value_name = "SECONDS", env = "GANGLINE_KEY_OVERLAP_SECONDS")]
    pub key_overlap_seconds: Option<u64>,
    /// Where to take beats by UDP: an address and port, or `off` [default: address and port number of --listen].
    /// Each datagram carries a MAC, so this need not be loopback.
    #[arg(long, value_name = "ADDRESS", env = "GANGLINE_BEAT_UDP_LISTEN")]
    pub beat_udp_listen: Option<String>,
    /// How machines reach that, as host:port [default: the host they reach this server at].
    #[arg(long, value_name = "HOST:PORT", env = "GANGLINE_BEAT_UDP_PUBLIC")]
    pub beat_udp_public: Option<String>,
    /// Where to take beats by plain HTTP of the intake's own, besides the main port [default: nowhere]. Like
    /// --listen a loopback address, or one behind a TLS proxy with --plain-http.
    #[arg(long, value_name = "ADDRESS", env = "GANGLINE_BEAT_LISTEN")]
    pub beat_listen: Option<SocketAddr>,
    /// How machines reach that, for example https://beats.gangline.example; without it they use the main port.
    #[arg(long, value_name = "URL", env = "GANGLINE_BEAT_URL")]
    pub beat_url: Option<String>,
    /// A sentence at the top of every page, for demonstrations.
    #[arg(long, value_name = "TEXT", env = "GANGLINE_BANNER")]
    pub banner: Option<String>,
    /// How long uptime is kept, in days, 100 to 36500 [default: 400].
    #[arg(long, value_name = "DAYS", env = "GANGLINE_UPTIME_DAYS")]
    pub uptime_days: Option<u32>,
    /// Start on books that `gangline fleet seed` filled with simulated machines: only in a network for tests.
    #[arg(long, env = "GANGLINE_ALLOW_SIMULATED", num_args = 0..=1, default_missing_value = "true", value_name = "YES")]
    pub allow_simulated: Option<bool>,
    /// Whether alarms freeze by rule: a key that writes to what is another's, an account that reaches for more
    /// GPUs than it has, names that change far more than ever. Heartbeats are never frozen [default: true].
    #[arg(long, env = "GANGLINE_FREEZE_BY_RULE", num_args = 0..=1, default_missing_value = "true", value_name = "YES")]
    pub freeze_by_rule: Option<bool>,
    /// How long refused attempts are kept, in days [default: 90].
    #[arg(long, value_name = "DAYS", env = "GANGLINE_REFUSALS_KEPT_DAYS")]
    pub refusals_kept_days: Option<u32>,
    /// How long their addresses are kept whole, in days; afterwards only the block they are from is (/24 of
    /// IPv4, /48 of IPv6) [default: 14].
    #[arg(long, value_name = "DAYS", env = "GANGLINE_ADDRESSES_KEPT_DAYS")]
    pub addresses_kept_days: Option<u32>,
    /// People sign in through this OpenID Connect provider: its issuer, exactly as the provider writes it.
    /// https, or http on this machine alone. Its redirect address for this server is PUBLIC_URL/signin/callback,
    /// after signing out PUBLIC_URL/signin, for back-channel logout PUBLIC_URL/signin/backchannel. One-time
    /// links work all the same, the operator's first one too.
    #[arg(long, value_name = "URL", env = "GANGLINE_OIDC_ISSUER")]
    pub oidc_issuer: Option<String>,
    /// This server's client id at the provider.
    #[arg(long, value_name = "ID", env = "GANGLINE_OIDC_CLIENT_ID")]
    pub oidc_client_id: Option<String>,
    /// File with this server's client secret, which only this user may read (chmod 600); none for a public
    /// client.
    #[arg(long, value_name = "FILE", env = "GANGLINE_OIDC_CLIENT_SECRET_FILE")]
    pub oidc_client_secret_file: Option<PathBuf>,
    /// Scopes to ask for, with spaces between them [default: openid profile email].
    #[arg(long, value_name = "SCOPES", env = "GANGLINE_OIDC_SCOPES")]
    pub oidc_scopes: Option<String>,
    /// Claim that holds somebody's roles, by name or by a path such as /realm_access/roles
    /// [default: roles].
    #[arg(long, value_name = "CLAIM", env = "GANGLINE_OIDC_ROLE_CLAIM")]
    pub oidc_role_claim: Option<String>,
    /// What the claim's values mean, for example `gpu-admins=operator,gpu-owners=supplier,*=renter`: the first
    /// that somebody has decides, `*` is everybody who can sign in there, and who has none is refused
    /// [default: operator=operator,supplier=supplier,renter=renter].
    #[arg(long, value_name = "VALUE=ROLE,…", env = "GANGLINE_OIDC_ROLE_MAP")]
    pub oidc_role_map: Option<String>,
    /// Claim that holds somebody's organisation or organisations; needs --oidc-orgs.
    #[arg(long, value_name = "CLAIM", env = "GANGLINE_OIDC_ORG_CLAIM")]
    pub oidc_org_claim: Option<String>,
    /// Organisations whose people may come in, with commas between them; needs --oidc-org-claim.
    #[arg(long, value_name = "ORG,…", env = "GANGLINE_OIDC_ORGS")]
    pub oidc_orgs: Option<String>,
}

/// A text that is shown to nobody.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl std::str::FromStr for Hidden {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// The database's address, as given or from its file.
///
/// # Errors
/// When both are given, the file cannot be read or can be read by others, or it is no address.
pub fn address_of(given: Option<Hidden>, file: Option<PathBuf>) -> anyhow::Result<Option<DatabaseUrl>> {
    let text = match (given, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Problem::usage("the database's address is given twice")
                .hint("give either --database or --database-file")
                .into());
        }
        (Some(Hidden(text)), None) => text,
        (None, Some(file)) => {
            let facts = std::fs::metadata(&file).with_context(|| {
                Problem::usage(format!("the database's address cannot be read from {}", file.display()))
            })?;
            #[cfg(unix)]
            if std::os::unix::fs::MetadataExt::mode(&facts) & 0o077 != 0 {
                return Err(Problem::usage(format!("others may read {}", file.display()))
                    .hint(format!("chmod 600 {}", file.display()))
                    .into());
            }
            let _ = facts;
            std::fs::read_to_string(&file).with_context(|| {
                Problem::usage(format!("the database's address cannot be read from {}", file.display()))
            })?
        }
    };
    let url = text.trim().parse::<DatabaseUrl>();
    url.map(Some).map_err(|e| {
        let problem = Problem::usage(e.to_string());
        match e.hint() {
            Some(hint) => problem.hint(hint).into(),
            None => problem.into(),
        }
    })
}

/// The parts of a list that somebody wrote with commas.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// What claim values mean, as somebody wrote it.
fn role_map(text: &str) -> anyhow::Result<Vec<(String, Role)>> {
    let entry = |part: &str| {
        // A value may hold a `=` itself; a role does not.
        let (value, role) = part.rsplit_once('=')?;
        let role = Role::ALL.into_iter().find(|r| r.to_string() == role.trim())?;
        Some((value.trim().to_owned(), role)).filter(|(value, _)| !value.is_empty())
    };
    listed(text)
        .map(|part| {
            entry(part).ok_or_else(|| {
                Problem::usage(format!("`{part}` maps no role"))
                    .hint("write VALUE=ROLE, where ROLE is operator, supplier or renter, with commas between entries")
                    .into()
            })
        })
        .collect()
}

impl Settings {
    /// Reads a file of settings.
    ///
    /// # Errors
    /// When it cannot be read, or holds a key that is no setting.
    pub fn read(file: &std::path::Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| {
            Problem::usage(format!("the settings file {} cannot be read", file.display()))
        })?;
        toml::from_str(&text).with_context(|| {
            Problem::usage(format!("the settings file {} holds something that is no setting", file.display()))
                .hint("see docs/CONFIGURATION.md for all settings")
        })
    }

    /// These, and where nothing is given, `other`'s.
    pub fn or(self, other: Self) -> Self {
        Self {
            data: self.data.or(other.data),
            database: self.database.or(other.database),
            database_file: self.database_file.or(other.database_file),
            listen: self.listen.or(other.listen),
            plain_http: self.plain_http.or(other.plain_http),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            acme_domain: self.acme_domain.or(other.acme_domain),
            acme_directory: self.acme_directory.or(other.acme_directory),
            acme_contact: self.acme_contact.or(other.acme_contact),
            acme_http_listen: self.acme_http_listen.or(other.acme_http_listen),
            connections_max: self.connections_max.or(other.connections_max),
            connections_per_address_max: self
                .connections_per_address_max
                .or(other.connections_per_address_max),
            outbound_allow: self.outbound_allow.or(other.outbound_allow),
            outbound_ca_file: self.outbound_ca_file.or(other.outbound_ca_file),
            public_url: self.public_url.or(other.public_url),
            period_minutes: self.period_minutes.or(other.period_minutes),
            period_budget_micro_credits: self
                .period_budget_micro_credits
                .or(other.period_budget_micro_credits),
            snapshot_grace_seconds: self.snapshot_grace_seconds.or(other.snapshot_grace_seconds),
            season_days: self.season_days.or(other.season_days),
            silent_seconds: self.silent_seconds.or(other.silent_seconds),
            drain_seconds: self.drain_seconds.or(other.drain_seconds),
            key_overlap_seconds: self.key_overlap_seconds.or(other.key_overlap_seconds),
            beat_udp_listen: self.beat_udp_listen.or(other.beat_udp_listen),
            beat_udp_public: self.beat_udp_public.or(other.beat_udp_public),
            beat_listen: self.beat_listen.or(other.beat_listen),
            beat_url: self.beat_url.or(other.beat_url),
            banner: self.banner.or(other.banner),
            uptime_days: self.uptime_days.or(other.uptime_days),
            allow_simulated: self.allow_simulated.or(other.allow_simulated),
            freeze_by_rule: self.freeze_by_rule.or(other.freeze_by_rule),
            refusals_kept_days: self.refusals_kept_days.or(other.refusals_kept_days),
            addresses_kept_days: self.addresses_kept_days.or(other.addresses_kept_days),
            oidc_issuer: self.oidc_issuer.or(other.oidc_issuer),
            oidc_client_id: self.oidc_client_id.or(other.oidc_client_id),
            oidc_client_secret_file: self.oidc_client_secret_file.or(other.oidc_client_secret_file),
            oidc_scopes: self.oidc_scopes.or(other.oidc_scopes),
            oidc_role_claim: self.oidc_role_claim.or(other.oidc_role_claim),
            oidc_role_map: self.oidc_role_map.or(other.oidc_role_map),
            oidc_org_claim: self.oidc_org_claim.or(other.oidc_org_claim),
            oidc_orgs: self.oidc_orgs.or(other.oidc_orgs),
        }
    }

    /// Where beats are taken by UDP.
    fn beat_udp(&self) -> anyhow::Result<BeatUdp> {
        match self.beat_udp_listen.as_deref() {
            None => Ok(BeatUdp::Beside),
            Some("off") => Ok(BeatUdp::Off),
            Some(text) => text.parse().map(BeatUdp::At).map_err(|_| {
                Problem::usage(format!("beats cannot be taken by UDP at `{text}`"))
                    .hint("write an address and port, for example 0.0.0.0:7700, or off")
                    .into()
            }),
        }
    }

    /// The identity provider, if one is set.
    fn oidc(&self) -> anyhow::Result<Option<Oidc>> {
        let others = [
            &self.oidc_client_id,
            &self.oidc_scopes,
            &self.oidc_role_claim,
            &self.oidc_role_map,
            &self.oidc_org_claim,
            &self.oidc_orgs,
        ];
        let (issuer, client_id) = match (&self.oidc_issuer, &self.oidc_client_id) {
            (Some(issuer), Some(client_id)) => (issuer.clone(), client_id.clone()),
            (None, None) if self.oidc_client_secret_file.is_none() && others.iter().all(|o| o.is_none()) => {
                return Ok(None);
            }
            _ => {
                return Err(Problem::usage(
                    "an identity provider needs both its issuer and this server's client id there",
                )
                .hint("give --oidc-issuer and --oidc-client-id, or none of the --oidc settings")
                .into());
            }
        };
        let default = Oidc::default();
        Ok(Some(Oidc {
            issuer,
            client_id,
            client_secret_file: self.oidc_client_secret_file.clone(),
            scopes: self
                .oidc_scopes
                .as_ref()
                .map_or(default.scopes, |s| s.split_whitespace().map(str::to_owned).collect()),
            role_claim: self.oidc_role_claim.clone().unwrap_or(default.role_claim),
            role_map: self.oidc_role_map.as_deref().map(role_map).transpose()?.unwrap_or(default.role_map),
            org_claim: self.oidc_org_claim.clone(),
            orgs: listed(self.oidc_orgs.as_deref().unwrap_or_default()).map(str::to_owned).collect(),
        }))
    }

    /// Where the certificate comes from, if there is one.
    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let files = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(Tls::Files { cert: cert.clone(), key: key.clone() }),
            (None, None) => None,
            _ => {
                return Err(Problem::usage("a certificate needs its key, and a key its certificate")
                    .hint("give both --tls-cert and --tls-key")
                    .into());
            }
        };
        let Some(domains) = &self.acme_domain else {
            if self.acme_directory.is_some() || self.acme_contact.is_some() || self.acme_http_listen.is_some()
            {
                return Err(Problem::usage("an ACME authority must know what to vouch for")
                    .hint("name this server with --acme-domain")
                    .into());
            }
            return Ok(files);
        };
        if files.is_some() {
            return Err(Problem::usage("a certificate comes from files or from an ACME authority, not both")
                .hint("leave out --tls-cert and --tls-key, or the --acme settings")
                .into());
        }
        let domains: Vec<String> = listed(domains).map(str::to_ascii_lowercase).collect();
        let is_name = |name: &String| {
            name.len() <= 253
                && name.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                })
        };
        if domains.is_empty() || domains.len() > 100 || !domains.iter().all(is_name) {
            return Err(Problem::usage("--acme-domain holds something that is no host name")
                .hint("write names such as gangline.example, with commas between them")
                .into());
        }
        let directory = self.acme_directory.clone().unwrap_or_default();
        if !directory.starts_with("https://") {
            return Err(Problem::usage(
                "an ACME authority has a directory at an address that begins with https://",
            )
            .hint("give it with --acme-directory; your authority publishes it")
            .into());
        }
        Ok(Some(Tls::Acme(Acme {
            directory,
            domains,
            contacts: listed(self.acme_contact.as_deref().unwrap_or_default()).map(str::to_owned).collect(),
            http_listen: self.acme_http_listen,
        })))
    }

    /// Whom the server may ask by itself.
    fn outbound(&self) -> anyhow::Result<Outbound> {
        let networks = listed(self.outbound_allow.as_deref().unwrap_or_default());
        let exceptions = Exceptions::of_networks(networks)
            .map_err(|bad| Problem::usage(bad.to_string()).hint("see --outbound-allow"))?;
        Ok(Outbound { exceptions, ca_file: self.outbound_ca_file.clone() })
    }

    /// What is done about what is noticed.
    fn notice(&self) -> anyhow::Result<Notice> {
        let default = Notice::default();
        let days = |given: Option<u32>, default| match given {
            Some(days) if !(1..=3650).contains(&days) => {
                let what = format!("records that are kept for {days} days cannot be");
                Err(Problem::usage(what).hint("choose 1 to 3650"))
            }
            given => Ok(given.unwrap_or(default)),
        };
        Ok(Notice {
            freeze_by_rule: self.freeze_by_rule.unwrap_or(default.freeze_by_rule),
            refusals_kept_days: days(self.refusals_kept_days, default.refusals_kept_days)?,
            addresses_kept_days: days(self.addresses_kept_days, default.addresses_kept_days)?,
        })
    }

    /// The server's configuration.
    ///
    /// # Errors
    /// When a value is out of its range, or plain HTTP would leave this machine.
    pub fn into_config(self) -> anyhow::Result<Config> {
        let default = Config::default();
        let beat_udp = self.beat_udp()?;
        let oidc = self.oidc()?;
        let tls = self.tls()?;
        let outbound = self.outbound()?;
        let notice = self.notice()?;
        let database = address_of(self.database, self.database_file)?;
        let config = Config {
            data: self.data.unwrap_or(default.data),
            database,
            listen: self.listen.unwrap_or(default.listen),
            public_url: self.public_url,
            period_minutes: self.period_minutes.unwrap_or(default.period_minutes),
            period_budget: self.period_budget_micro_credits.map_or(default.period_budget, MicroCredits),
            snapshot_grace_seconds: self.snapshot_grace_seconds.unwrap_or(default.snapshot_grace_seconds),
            season_days: self.season_days.unwrap_or(default.season_days),
            silent_seconds: self.silent_seconds.unwrap_or(default.silent_seconds),
            drain_seconds: self.drain_seconds.unwrap_or(default.drain_seconds),
            key_overlap_seconds: self.key_overlap_seconds.unwrap_or(default.key_overlap_seconds),
            banner: self.banner,
            beat_udp,
            beat_udp_public: self.beat_udp_public,
            beat_listen: self.beat_listen,
            beat_url: self.beat_url,
            beat_clock: default.beat_clock,
            operator_link: false,
            uptime_days: self.uptime_days.unwrap_or(default.uptime_days),
            allow_simulated: self.allow_simulated.unwrap_or(default.allow_simulated),
            software_epoch: default.software_epoch,
            oidc,
            tls,
            connections: Connections {
                max: self.connections_max.unwrap_or(default.connections.max),
                per_address_max: self
                    .connections_per_address_max
                    .unwrap_or(default.connections.per_address_max),
            },
            outbound,
            notice,
        };
        if !(1..=60).contains(&config.period_minutes) || 60 % config.period_minutes != 0 {
            return Err(Problem::usage(format!("a period of {} minutes cannot be", config.period_minutes))
                .hint("choose a divisor of 60: 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60")
                .into());
        }
        if !(1..=3650).contains(&config.season_days) {
            return Err(Problem::usage(format!("a season of {} days cannot be", config.season_days))
                .hint("choose 1 to 3650")
                .into());
        }
        if !(100..=36_500).contains(&config.uptime_days) {
            return Err(Problem::usage(format!("uptime cannot be kept for {} days", config.uptime_days))
                .hint("choose 100 to 36500: pages and checks look 90 days back")
                .into());
        }
        if config.silent_seconds < 30 {
            return Err(Problem::usage(format!(
                "{} s of silence are too few: a machine speaks every 20 s",
                config.silent_seconds
            ))
            .hint("choose 30 or more")
            .into());
        }
        if config.key_overlap_seconds > 86_400 {
            return Err(Problem::usage(format!(
                "an overlap of {} s would keep keys that were replaced for more than a day",
                config.key_overlap_seconds
            ))
            .hint("choose at most 86400")
            .into());
        }
        if config.connections.max < 16 || config.connections.per_address_max < 1 {
            return Err(Problem::usage("so few connections would keep everybody out")
                .hint("choose 16 or more in all, and 1 or more from one address")
                .into());
        }
        let open = |at: SocketAddr| !at.ip().is_loopback() && self.plain_http != Some(true);
        if let Some(at) = config.beat_listen.filter(|at| open(*at)) {
            return Err(Problem::usage(format!(
                "{at} is not loopback, and beats are taken there by plain HTTP"
            ))
            .hint("put a proxy that speaks TLS in front of it, or say --plain-http as for --listen")
            .into());
        }
        if open(config.listen) && config.tls.is_none() {
            return Err(Problem::usage(format!("{} is not loopback, and this server speaks plain HTTP", config.listen))
                .hint("give it a certificate with --tls-cert and --tls-key, or with --acme-domain; or put a proxy that speaks TLS in front of it and listen on 127.0.0.1; or, if the proxy is on another machine and the way to it is safe, say --plain-http")
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
        assert_eq!(
            (config.listen.port(), config.season_days, config.drain_seconds),
            (2, 3, Config::default().drain_seconds)
        );
    }

    #[test]
    fn an_address_with_a_password_shows_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("database");
        let write = |text: &str, mode: u32| {
            std::fs::write(&file, text).unwrap();
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            Settings { database_file: Some(file.clone()), ..Settings::default() }.into_config()
        };
        let config = write("postgres://ada:hunter2@db/books\n", 0o600).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.database.unwrap().to_string(), "postgres://ada@db/books");
        assert!(write("postgres://ada:hunter2@db/books", 0o644).is_err(), "others may read it");
        let wrong = write("hunter2@db", 0o600).unwrap_err();
        assert!(!format!("{wrong:?}").contains("hunter2"));
        let settings: Settings = toml::from_str("database = \"postgres://ada:hunter2@db/books\"").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        let both = Settings { database_file: Some(file.clone()), ..settings };
        assert!(both.into_config().is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        assert!(toml::from_str::<Settings>("listn = \"127.0.0.1:1\"").is_err(), "an unknown key was taken");
        for bad in [
            "period_minutes = 7",
            "period_minutes = 0",
            "season_days = 0",
            "uptime_days = 99",
            "silent_seconds = 5",
            "key_overlap_seconds = 86401",
            "beat_udp_listen = \"nowhere\"",
            "beat_listen = \"0.0.0.0:7701\"",
            "listen = \"0.0.0.0:7700\"",
        ] {
            let settings: Settings = toml::from_str(bad).unwrap();
            assert!(settings.into_config().is_err(), "{bad} was taken");
        }
        let open: Settings = toml::from_str("listen = \"0.0.0.0:7700\"\nplain_http = true").unwrap();
        assert!(open.into_config().is_ok());
    }

    #[test]
    fn a_certificate_comes_from_files_or_from_an_authority() {
        let config = |text: &str| toml::from_str::<Settings>(text).unwrap().into_config();
        let files = "listen = \"0.0.0.0:443\"\ntls_cert = \"c\"\ntls_key = \"k\"\n";
        assert_eq!(config(files).unwrap().tls, Some(Tls::Files { cert: "c".into(), key: "k".into() }));
        let acme = "acme_directory = \"https://ca.example/dir\"\n";
        let Some(Tls::Acme(found)) =
            config(&format!("{acme}acme_domain = \"A.example, b.example\"")).unwrap().tls
        else {
            panic!("no authority");
        };
        assert_eq!(found.domains, ["a.example", "b.example"]);
        for bad in ["", " , ", "a b", "*.a.example", "-a.example"] {
            assert!(config(&format!("{acme}acme_domain = \"{bad}\"")).is_err(), "{bad} was taken");
        }
        for bad in [
            "tls_cert = \"c\"",
            "tls_key = \"k\"",
            "acme_domain = \"a.example\"",
            "acme_domain = \"a.example\"\nacme_directory = \"http://ca.example\"",
            "acme_contact = \"mailto:a@a.example\"",
            "connections_max = 0",
            "outbound_allow = \"ten\"",
        ] {
            assert!(config(bad).is_err(), "{bad} was taken");
        }
        assert!(config(&format!("{files}{acme}acme_domain = \"a.example\"")).is_err());
    }

    #[test]
    fn an_identity_provider_is_set_whole_or_not_at_all() {
        let config = |text: &str| toml::from_str::<Settings>(text).unwrap().into_config();
        assert_eq!(config("").unwrap().oidc, None);
        let all = "oidc_issuer = \"https://idp.example\"\noidc_client_id = \"gangline\"\n";
        let oidc = config(all).unwrap().oidc.unwrap();
        assert_eq!(oidc.role_map.len(), 3);
        let oidc = config(&format!(
            "{all}oidc_role_map = \"a=b=operator, *=renter\"\noidc_scopes = \"openid groups\""
        ))
        .unwrap()
        .oidc
        .unwrap();
        assert_eq!(oidc.role_map, [("a=b".to_owned(), Role::Operator), ("*".to_owned(), Role::Renter)]);
        assert_eq!(oidc.scopes, ["openid", "groups"]);
        for bad in [
            "oidc_issuer = \"https://idp.example\"",
            "oidc_client_id = \"x\"",
            "oidc_orgs = \"x\"",
            "oidc_client_secret_file = \"x\"",
        ] {
            assert!(config(bad).is_err(), "{bad} was taken");
        }
        for map in ["operator", "a=admin", "=renter", "a=Renter"] {
            assert!(config(&format!("{all}oidc_role_map = \"{map}\"")).is_err(), "{map} was taken");
        }
    }
}
