//! The settings of `serve`, declared once: as flags, as environment variables and as keys of a file. What takes
//! more than a default to understand is understood in a file for each topic.

mod database;
mod oidc;
mod outlets;
mod tls;
mod witnesses;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use gangline_guard::{forwarded::Proxies, outbound::Exceptions};
use gangline_server::{
    Config,
    config::{BeatJournal, BeatUdp, Connections, Notice, Outbound, SecondFactor},
};
use gangline_types::MicroCredits;
use serde::Deserialize;

use crate::problem::Problem;
pub use database::{DatabaseArgs, Hidden, address_of};

/// Settings as somebody gave them; what nobody gave has a default.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Folder of the databases and the network's key [default: gangline-data].
    #[arg(long, value_name = "DIR", env = "GANGLINE_DATA")]
    pub data: Option<PathBuf>,
    /// File with the network's key, 32 bytes that only this user may read, where a store of secrets keeps it: it must be
    /// there at every start [default: network.key in the data folder, made at the first start].
    #[arg(long, value_name = "FILE", env = "GANGLINE_NETWORK_KEY")]
    pub network_key: Option<PathBuf>,
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
    /// Networks of proxies before this server, with commas between them, for example 127.0.0.1,10.0.0.0/24: a request
    /// from there comes from where its `Forwarded` header (RFC 7239) says, for quotas, records and alarms. The proxy
    /// must set that header itself. No other header and nobody else is believed [default: none].
    #[arg(long, value_name = "NETWORK,…", env = "GANGLINE_TRUSTED_PROXY")]
    pub trusted_proxy: Option<String>,
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
    /// Room for bodies on their way to clusters, in MiB, at most 1048576: what is larger than 1 MiB waits in a file of
    /// the data folder until all of it was found to be what was signed. One account has a quarter of it at most,
    /// and one body may have 128 MiB, so at least 512 [default: 2048].
    #[arg(long, value_name = "MIB", env = "GANGLINE_RAY_SPOOL_MIB")]
    pub ray_spool_mib: Option<u64>,
    /// How long a machine's or command line's old key is still taken after the one in its place was first used,
    /// in seconds, at most 86400 [default: 900].
    #[arg(long, value_name = "SECONDS", env = "GANGLINE_KEY_OVERLAP_SECONDS")]
    pub key_overlap_seconds: Option<u64>,
    /// Let people sign in with a password of 15 characters or more, which they set after a one-time link. Only where
    /// nothing better works: this server is reached by https at an address instead of a name, and there is no identity
    /// provider.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "YES", env = "GANGLINE_PASSWORD_SIGN_IN")]
    pub password_sign_in: Option<bool>,
    /// Take no password that is in this list of those that were breached elsewhere: SHA-1 in rising order with counts, as
    /// Have I Been Pwned publishes them for download. It is looked up where it lies, and nobody is asked. Only with
    /// --password-sign-in [default: rules alone].
    #[arg(long, value_name = "FILE", env = "GANGLINE_BREACHED_PASSWORDS")]
    pub breached_passwords: Option<PathBuf>,
    /// Where people are asked for two factors: `named`, at https with a name other than localhost; `required`, wherever
    /// this is; or `off`. Where they are, whoever came by a one-time link or a password can add a passkey and nothing
    /// else, and so can whoever the identity provider does not say to have shown two (an `acr` of --oidc-acr, or `mfa`
    /// in `amr`). A passkey makes two [default: named].
    #[arg(long, value_name = "WHERE", env = "GANGLINE_SECOND_FACTOR")]
    pub second_factor: Option<String>,
    /// How long an act that takes a second operator waits after the only operator there is has approved it, in
    /// seconds, 1 to 604800 [default: 1200]. More than the 15 minutes for which a sign-in counts as fresh means that
    /// a stolen session alone does not do it.
    #[arg(long, value_name = "SECONDS", env = "GANGLINE_ALONE_DELAY_SECONDS")]
    pub alone_delay_seconds: Option<u64>,
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
    /// Where acknowledged beats are written down until they are in the books: `disk`, in the data folder, or `database`,
    /// so that no beat hangs on this server's disk [default: database where the books are in one].
    #[arg(long, value_name = "WHERE", env = "GANGLINE_BEAT_JOURNAL")]
    pub beat_journal: Option<String>,
    /// Where the other servers on the same database reach clusters whose tunnels end at this one [default: nowhere]:
    /// an address in the network between them. Both sides prove that they have the network's key.
    #[arg(long, value_name = "ADDRESS", env = "GANGLINE_REPLICA_LISTEN")]
    pub replica_listen: Option<SocketAddr>,
    /// How they reach that, as host:port [default: the address of --replica-listen].
    #[arg(long, value_name = "HOST:PORT", env = "GANGLINE_REPLICA_ADDRESS")]
    pub replica_address: Option<String>,
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
    /// Write down in this new file what detectors are shown, for `gangline guard score`. It names keys, accounts and
    /// blocks of addresses, and only this user may read it.
    #[arg(long, value_name = "FILE", env = "GANGLINE_RECORD_SHOWN")]
    pub record_shown: Option<PathBuf>,
    /// How long refused attempts are kept, in days [default: 90].
    #[arg(long, value_name = "DAYS", env = "GANGLINE_REFUSALS_KEPT_DAYS")]
    pub refusals_kept_days: Option<u32>,
    /// How long their addresses are kept whole, in days; afterwards only the block they are from is (/24 of
    /// IPv4, /48 of IPv6) [default: 14].
    #[arg(long, value_name = "DAYS", env = "GANGLINE_ADDRESSES_KEPT_DAYS")]
    pub addresses_kept_days: Option<u32>,
    /// Tell this address of incidents: https, or http on this machine alone. Each request is signed with the network's
    /// key; docs/OUTLETS.md says how to verify that. An address of a private network must be named with
    /// --outbound-allow.
    #[arg(long, value_name = "URL", env = "GANGLINE_WEBHOOK")]
    pub webhook: Option<String>,
    /// Have this witness cosign the log: the address before /add-checkpoint, and its key as `gangline witness` prints it,
    /// with # between them; again for each further one. One that refuses or is late opens an incident. An address of a
    /// private network must be named with --outbound-allow.
    #[arg(long, value_name = "URL#KEY", env = "GANGLINE_WITNESS", value_delimiter = ',')]
    pub witness: Option<Vec<String>>,
    /// Send mails of incidents through this server: smtps://host:465 for TLS from the start, smtp://host:587 for
    /// STARTTLS, which must be there. A host of a private network must be named with --outbound-allow.
    #[arg(long, value_name = "URL", env = "GANGLINE_SMTP")]
    pub smtp: Option<String>,
    /// Speak to it without TLS, which is only possible on this machine itself.
    #[arg(long, env = "GANGLINE_SMTP_PLAIN", num_args = 0..=1, default_missing_value = "true", value_name = "YES")]
    pub smtp_plain: Option<bool>,
    /// Who this server is there; needs --smtp-password-file.
    #[arg(long, value_name = "NAME", env = "GANGLINE_SMTP_USER")]
    pub smtp_user: Option<String>,
    /// File with the password that belongs to that, which only this user may read (chmod 600).
    #[arg(long, value_name = "FILE", env = "GANGLINE_SMTP_PASSWORD_FILE")]
    pub smtp_password_file: Option<PathBuf>,
    /// Whom mails are from, for example gangline@ops.example; needed with --smtp.
    #[arg(long, value_name = "ADDRESS", env = "GANGLINE_MAIL_FROM")]
    pub mail_from: Option<String>,
    /// Whom they go to, with commas between several; needed with --smtp.
    #[arg(long, value_name = "ADDRESS,…", env = "GANGLINE_MAIL_TO")]
    pub mail_to: Option<String>,
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
    /// How strong a sign-in has to be, as the provider names it (`acr`), best first, with commas between them: one of
    /// these is asked for and has to come back, for example a second factor [default: what the provider does].
    #[arg(long, value_name = "ACR,…", env = "GANGLINE_OIDC_ACR")]
    pub oidc_acr: Option<String>,
}

/// The parts of a list that somebody wrote with commas.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Where people are asked for two factors, as somebody wrote it.
fn second_factor(text: &str) -> anyhow::Result<SecondFactor> {
    match text {
        "named" => Ok(SecondFactor::Named),
        "required" => Ok(SecondFactor::Required),
        "off" => Ok(SecondFactor::Off),
        other => Err(Problem::usage(format!("`{other}` is no place to ask for two factors"))
            .hint("--second-factor is named, required or off")
            .into()),
    }
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
            network_key: self.network_key.or(other.network_key),
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
            trusted_proxy: self.trusted_proxy.or(other.trusted_proxy),
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
            ray_spool_mib: self.ray_spool_mib.or(other.ray_spool_mib),
            key_overlap_seconds: self.key_overlap_seconds.or(other.key_overlap_seconds),
            password_sign_in: self.password_sign_in.or(other.password_sign_in),
            breached_passwords: self.breached_passwords.or(other.breached_passwords),
            second_factor: self.second_factor.or(other.second_factor),
            alone_delay_seconds: self.alone_delay_seconds.or(other.alone_delay_seconds),
            beat_udp_listen: self.beat_udp_listen.or(other.beat_udp_listen),
            beat_udp_public: self.beat_udp_public.or(other.beat_udp_public),
            beat_listen: self.beat_listen.or(other.beat_listen),
            beat_url: self.beat_url.or(other.beat_url),
            beat_journal: self.beat_journal.or(other.beat_journal),
            replica_listen: self.replica_listen.or(other.replica_listen),
            replica_address: self.replica_address.or(other.replica_address),
            banner: self.banner.or(other.banner),
            uptime_days: self.uptime_days.or(other.uptime_days),
            allow_simulated: self.allow_simulated.or(other.allow_simulated),
            freeze_by_rule: self.freeze_by_rule.or(other.freeze_by_rule),
            record_shown: self.record_shown.or(other.record_shown),
            refusals_kept_days: self.refusals_kept_days.or(other.refusals_kept_days),
            addresses_kept_days: self.addresses_kept_days.or(other.addresses_kept_days),
            webhook: self.webhook.or(other.webhook),
            witness: self.witness.or(other.witness),
            smtp: self.smtp.or(other.smtp),
            smtp_plain: self.smtp_plain.or(other.smtp_plain),
            smtp_user: self.smtp_user.or(other.smtp_user),
            smtp_password_file: self.smtp_password_file.or(other.smtp_password_file),
            mail_from: self.mail_from.or(other.mail_from),
            mail_to: self.mail_to.or(other.mail_to),
            oidc_issuer: self.oidc_issuer.or(other.oidc_issuer),
            oidc_client_id: self.oidc_client_id.or(other.oidc_client_id),
            oidc_client_secret_file: self.oidc_client_secret_file.or(other.oidc_client_secret_file),
            oidc_scopes: self.oidc_scopes.or(other.oidc_scopes),
            oidc_role_claim: self.oidc_role_claim.or(other.oidc_role_claim),
            oidc_role_map: self.oidc_role_map.or(other.oidc_role_map),
            oidc_org_claim: self.oidc_org_claim.or(other.oidc_org_claim),
            oidc_orgs: self.oidc_orgs.or(other.oidc_orgs),
            oidc_acr: self.oidc_acr.or(other.oidc_acr),
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
            record: self.record_shown.clone(),
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
        let proxies = Proxies::of(listed(self.trusted_proxy.as_deref().unwrap_or_default()))
            .map_err(|bad| Problem::usage(bad.to_string()).hint("see --trusted-proxy"))?;
        let outlets = self.outlets()?;
        let witnesses = self.witnesses()?;
        let database = address_of(self.database, self.database_file)?;
        if let Some(mib) = self.ray_spool_mib.filter(|mib| !(512..=1 << 20).contains(mib)) {
            return Err(Problem::usage(format!("{mib} MiB of room for bodies cannot be"))
                .hint("choose 512 to 1048576: one account has a quarter of it, and one body may have 128")
                .into());
        }
        let beat_journal = match (self.beat_journal.as_deref(), &database) {
            (Some("disk"), _) | (None, None) => BeatJournal::Disk,
            (Some("database") | None, Some(_)) => BeatJournal::Database,
            (Some("database"), None) => {
                return Err(Problem::usage("beats cannot be written down in a database that there is not")
                    .hint("leave --beat-journal out, or give --database")
                    .into());
            }
            (Some(other), _) => {
                return Err(Problem::usage(format!("`{other}` is no place for beats"))
                    .hint("--beat-journal is disk or database")
                    .into());
            }
        };
        let config = Config {
            data: self.data.unwrap_or(default.data),
            network_key: self.network_key,
            database,
            listen: self.listen.unwrap_or(default.listen),
            public_url: self.public_url,
            period_minutes: self.period_minutes.unwrap_or(default.period_minutes),
            period_budget: self.period_budget_micro_credits.map_or(default.period_budget, MicroCredits),
            snapshot_grace_seconds: self.snapshot_grace_seconds.unwrap_or(default.snapshot_grace_seconds),
            season_days: self.season_days.unwrap_or(default.season_days),
            silent_seconds: self.silent_seconds.unwrap_or(default.silent_seconds),
            drain_seconds: self.drain_seconds.unwrap_or(default.drain_seconds),
            ray_spool_bytes_max: self.ray_spool_mib.map_or(default.ray_spool_bytes_max, |mib| mib << 20),
            key_overlap_seconds: self.key_overlap_seconds.unwrap_or(default.key_overlap_seconds),
            password_sign_in: self.password_sign_in.unwrap_or_default(),
            breached_passwords: self.breached_passwords,
            second_factor: self.second_factor.as_deref().map_or(Ok(default.second_factor), second_factor)?,
            alone_delay_seconds: self.alone_delay_seconds.unwrap_or(default.alone_delay_seconds),
            banner: self.banner,
            beat_udp,
            beat_udp_public: self.beat_udp_public,
            beat_listen: self.beat_listen,
            beat_url: self.beat_url,
            beat_journal,
            replica_listen: self.replica_listen,
            replica_address: self.replica_address,
            beat_clock: default.beat_clock,
            operator_link: false,
            uptime_days: self.uptime_days.unwrap_or(default.uptime_days),
            allow_simulated: self.allow_simulated.unwrap_or(default.allow_simulated),
            software_epoch: default.software_epoch,
            verifying_max: default.verifying_max,
            software_joining: default.software_joining,
            bell_pace: default.bell_pace,
            rerun_seconds: default.rerun_seconds,
            matrix_epochs_of_256: default.matrix_epochs_of_256,
            oidc,
            tls,
            connections: Connections {
                max: self.connections_max.unwrap_or(default.connections.max),
                per_address_max: self
                    .connections_per_address_max
                    .unwrap_or(default.connections.per_address_max),
            },
            proxies,
            outbound,
            notice,
            outlets,
            witnesses,
        };
        if config.breached_passwords.is_some() && !config.password_sign_in {
            return Err(Problem::usage("a list of breached passwords is of no use where there are none")
                .hint("give --breached-passwords with --password-sign-in, or leave it out")
                .into());
        }
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
        if !(1..=604_800).contains(&config.alone_delay_seconds) {
            return Err(Problem::usage(format!(
                "the only operator's acts cannot wait for {} s",
                config.alone_delay_seconds
            ))
            .hint("choose 1 to 604800")
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
    fn what_cannot_be_is_refused_with_a_reason() {
        assert!(toml::from_str::<Settings>("listn = \"127.0.0.1:1\"").is_err(), "an unknown key was taken");
        for bad in [
            "period_minutes = 7",
            "period_minutes = 0",
            "season_days = 0",
            "uptime_days = 99",
            "silent_seconds = 5",
            "key_overlap_seconds = 86401",
            "alone_delay_seconds = 0",
            "second_factor = \"sometimes\"",
            "breached_passwords = \"list\"",
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
}
