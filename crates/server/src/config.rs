//! What an operator can choose, as plain values; where they come from is the binary's business.

use std::{net::SocketAddr, path::PathBuf};

use gangline_guard::{forwarded::Proxies, log::VerifierKey, notice::tell::Retry, outbound::Exceptions};
use gangline_store::DatabaseUrl;
use gangline_types::MicroCredits;
use gangline_wire::api::account::Role;

use crate::intake::Clock;

/// Configuration of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of databases and the network's key.
    pub data: PathBuf,
    /// File with the network's key, which is there already; none: `network.key` in the data folder, made if it is not
    /// there.
    pub network_key: Option<PathBuf>,
    /// The database of PostgreSQL that holds the books; none: files of SQLite in the data folder.
    pub database: Option<DatabaseUrl>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How people and machines reach this server, for links and for signatures; none: the listen address.
    pub public_url: Option<String>,
    /// Minutes in a snapshot period of the first season, 1 to 60.
    pub period_minutes: u32,
    /// What one period shares out.
    pub period_budget: MicroCredits,
    /// How long after a period's end its snapshot waits for late beats, in seconds.
    pub snapshot_grace_seconds: u64,
    /// Days of the first season.
    pub season_days: u32,
    /// A machine that runs a cluster and says nothing for so long is lost, in seconds.
    pub silent_seconds: u64,
    /// How long requests may finish once the server is asked to stop, in seconds.
    pub drain_seconds: u64,
    /// How long a key is still taken after its successor was first used, in seconds.
    pub key_overlap_seconds: u64,
    /// How many bytes of bodies on their way to clusters are kept at most, in files of the data folder.
    pub ray_spool_bytes_max: u64,
    /// A sentence at the top of every page, for demonstrations.
    pub banner: Option<String>,
    /// Make a new sign-in link for the operator even if one was used before.
    pub operator_link: bool,
    /// How long uptime is kept, in days.
    pub uptime_days: u32,
    /// Start on books that hold simulated machines, and show them.
    pub allow_simulated: bool,
    /// Where to take beats by UDP; none: not.
    pub beat_udp: BeatUdp,
    /// How machines reach that, as `host:port`; none: the server's own host and the port it listens on.
    pub beat_udp_public: Option<String>,
    /// Where the intake takes beats by plain HTTP of its own; none: on the main port only.
    pub beat_listen: Option<SocketAddr>,
    /// How machines reach that, as a URL; none: they use the main port.
    pub beat_url: Option<String>,
    /// Where acknowledged beats are written down until they are in the books.
    pub beat_journal: BeatJournal,
    /// Where the other servers on the same database reach clusters whose tunnels end here; none: they do not.
    pub replica_listen: Option<SocketAddr>,
    /// How they reach that, as `host:port`; none: the address listened on.
    pub replica_address: Option<String>,
    /// The intake's clock; a test may step it.
    pub beat_clock: Clock,
    /// How much an epoch asks of a device that is no GPU.
    pub software_epoch: gangline_proof::epoch::Params,
    /// How many proofs wait to be verified at most.
    pub verifying_max: usize,
    /// How much a joining proof asks of a claim that no rate is asked for.
    pub software_joining: gangline_proof::MatrixParams,
    /// How fast the hours of bells pass; a test may hurry them.
    pub bell_pace: Pace,
    /// A suspect GPU is asked again so long after it was last, in seconds.
    pub rerun_seconds: u64,
    /// Of 256 epochs of a GPU, so many have a matrix chain.
    pub matrix_epochs_of_256: u16,
    /// The identity provider through which people sign in; none: one-time links alone.
    pub oidc: Option<Oidc>,
    /// Where this server's certificate comes from; none: it speaks plain HTTP.
    pub tls: Option<Tls>,
    /// How many connections are held.
    pub connections: Connections,
    /// Proxies before this server whose word on where a request comes from is taken.
    pub proxies: Proxies,
    /// Whom this server may ask by itself.
    pub outbound: Outbound,
    /// Where people are asked for two factors.
    pub second_factor: SecondFactor,
    /// Whether people may sign in with a password; only where passkeys and a provider cannot work.
    pub password_sign_in: bool,
    /// A list of passwords that were breached elsewhere, none of which is taken: SHA-1 in rising order with counts, as Have
    /// I Been Pwned publishes them.
    pub breached_passwords: Option<PathBuf>,
    /// How long an act that takes a second operator waits after the only one has approved it, in seconds.
    pub alone_delay_seconds: u64,
    /// Noticing, and how long what was written down is kept.
    pub notice: Notice,
    /// Who outside is told of incidents.
    pub outlets: Outlets,
    /// Who is asked to cosign the log.
    pub witnesses: Witnesses,
}

/// Where people are asked for two factors: a passkey, or a provider that signs that there were two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondFactor {
    /// Where strangers can come and everybody can have a passkey: at https with a name other than `localhost`.
    #[default]
    Named,
    /// Wherever this is; a server where nobody could show two does not start.
    Required,
    /// Nowhere.
    Off,
}

/// How fast the hours of bells pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As they do.
    Hourly,
    /// Faster, for tests: nobody can check such bells by the log.
    Quick {
        /// When the first of these hours began.
        since: gangline_types::UnixMillis,
        /// How long each is, in milliseconds, at most 3,600,000.
        hour_millis: u64,
    },
}

/// Where a server's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// From two PEM files, which are read again when they change.
    Files {
        /// The certificate and those that lead to a known authority, in that order.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// From an ACME authority (RFC 8555).
    Acme(Acme),
}

/// An ACME authority, and what it is to vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// Address of its directory.
    pub directory: String,
    /// Names of this server, the first one for links.
    pub domains: Vec<String>,
    /// Where the authority can reach the operator, for example `mailto:ops@gangline.example`.
    pub contacts: Vec<String>,
    /// Where plain HTTP is answered for http-01 and sent on to https otherwise; none: tls-alpn-01 on the one
    /// port there is.
    pub http_listen: Option<SocketAddr>,
}

/// How many connections are held at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// In all.
    pub max: u32,
    /// From one IPv4 address or one IPv6 network of 64 bits; not counted from this machine itself, where a
    /// proxy may stand.
    pub per_address_max: u32,
}

impl Default for Connections {
    fn default() -> Self {
        Self { max: 20_000, per_address_max: 1_000 }
    }
}

/// Whom this server may ask by itself, beside the public internet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Networks that the operator has named.
    pub exceptions: Exceptions,
    /// Certificate authorities to believe beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
}

/// Where beats are taken by UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeatUdp {
    /// At the address and port number of the main listener, if that port is free for UDP.
    Beside,
    /// There.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// Where acknowledged beats are written down until they are in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeatJournal {
    /// In the data folder.
    Disk,
    /// In the database that holds the books.
    Database,
}

/// What is done about what is noticed, and how long records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether alarms freeze by rule.
    pub freeze_by_rule: bool,
    /// A new file to write down in what detectors are shown; none: it is not written down.
    pub record: Option<PathBuf>,
    /// How long refusals are kept, in days.
    pub refusals_kept_days: u32,
    /// How long addresses of refusals are kept whole, in days; afterwards only their block is.
    pub addresses_kept_days: u32,
}

impl Default for Notice {
    fn default() -> Self {
        Self { freeze_by_rule: true, record: None, refusals_kept_days: 90, addresses_kept_days: 14 }
    }
}

/// Who outside is told of incidents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlets {
    /// Where signed requests go: https, or http on this machine alone.
    pub webhook: Option<url::Url>,
    /// Where mails go.
    pub mail: Option<Mail>,
    /// How often a message is tried.
    pub retry: Retry,
}

/// Who is asked to cosign the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnesses {
    /// All of them.
    pub all: Vec<WitnessAt>,
    /// One that has not cosigned for so long is late, in seconds.
    pub late_seconds: u64,
}

impl Default for Witnesses {
    fn default() -> Self {
        Self { all: Vec::new(), late_seconds: 300 }
    }
}

/// A witness of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessAt {
    /// Where it takes requests: what stands before `/add-checkpoint`.
    pub url: url::Url,
    /// The key of its cosignatures.
    pub key: VerifierKey,
}

/// Mails, and the server that takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub security: MailSecurity,
    /// Who this server is there; none: it is not asked.
    pub user: Option<String>,
    /// File with the password that belongs to that, which only this user may read.
    pub password_file: Option<PathBuf>,
    /// Whom they are from: an address, also with a name.
    pub from: String,
    /// Whom they go to.
    pub to: Vec<String>,
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// Plain until STARTTLS, which must be there (RFC 3207).
    StartTls,
    /// Plain throughout: only to this machine itself.
    Plain,
}

/// An OpenID Connect provider, and what its claims mean here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// Its issuer, exactly as its tokens have it: https, or http on this machine alone.
    pub issuer: String,
    /// This server's name there.
    pub client_id: String,
    /// File with this server's secret there, which only this user may read; none for a public client.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for; `openid` always is.
    pub scopes: Vec<String>,
    /// The claim that holds roles, by name or by a path such as `/realm_access/roles`.
    pub role_claim: String,
    /// What its values mean; the first entry that holds decides, and `*` always holds.
    pub role_map: Vec<(String, Role)>,
    /// The claim that holds an organisation, or several.
    pub org_claim: Option<String>,
    /// Organisations that may come in; only with `org_claim`.
    pub orgs: Vec<String>,
    /// How strong a sign-in has to be, as the provider names it in `acr`: one of these is asked for and has to come.
    /// Empty: whatever the provider does.
    pub acr: Vec<String>,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            client_id: String::new(),
            client_secret_file: None,
            scopes: ["openid", "profile", "email"].map(str::to_owned).to_vec(),
            role_claim: "roles".into(),
            role_map: Role::ALL.map(|role| (role.to_string(), role)).to_vec(),
            org_claim: None,
            orgs: vec![],
            acr: vec![],
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("gangline-data"),
            network_key: None,
            database: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            public_url: None,
            period_minutes: 60,
            period_budget: MicroCredits(1_000_000_000),
            snapshot_grace_seconds: 600,
            season_days: 90,
            silent_seconds: 90,
            drain_seconds: 10,
            ray_spool_bytes_max: 2 << 30,
            key_overlap_seconds: 900,
            second_factor: SecondFactor::default(),
            password_sign_in: false,
            breached_passwords: None,
            alone_delay_seconds: 1200,
            banner: None,
            operator_link: false,
            uptime_days: 400,
            allow_simulated: false,
            beat_udp: BeatUdp::Beside,
            beat_udp_public: None,
            beat_listen: None,
            beat_url: None,
            beat_journal: BeatJournal::Disk,
            replica_listen: None,
            replica_address: None,
            beat_clock: Clock::default(),
            software_epoch: gangline_proof::epoch::Params::SOFTWARE,
            verifying_max: 512,
            software_joining: gangline_proof::MatrixParams::JOINING,
            bell_pace: Pace::Hourly,
            rerun_seconds: 1_200,
            matrix_epochs_of_256: gangline_rules::bells::MATRIX_OF_256,
            oidc: None,
            tls: None,
            connections: Connections::default(),
            proxies: Proxies::default(),
            outbound: Outbound::default(),
            notice: Notice::default(),
            outlets: Outlets::default(),
            witnesses: Witnesses::default(),
        }
    }
}
