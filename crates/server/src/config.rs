//! What an operator can choose, as plain values; where they come from is the binary's business.

use std::{net::SocketAddr, path::PathBuf};

use gangline_guard::outbound::Exceptions;
use gangline_store::DatabaseUrl;
use gangline_types::MicroCredits;
use gangline_wire::api::account::Role;

use crate::intake::Clock;

/// Configuration of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of databases and the network's key.
    pub data: PathBuf,
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
    /// The intake's clock; a test may step it.
    pub beat_clock: Clock,
    /// How much an epoch asks of a device that is no GPU.
    pub software_epoch: gangline_proof::epoch::Params,
    /// The identity provider through which people sign in; none: one-time links alone.
    pub oidc: Option<Oidc>,
    /// Where this server's certificate comes from; none: it speaks plain HTTP.
    pub tls: Option<Tls>,
    /// How many connections are held.
    pub connections: Connections,
    /// Whom this server may ask by itself.
    pub outbound: Outbound,
    /// Noticing, telling of it, and how long what was written down is kept.
    pub notice: Notice,
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

/// What is done about what is noticed, and how long records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether alarms freeze by rule.
    pub freeze_by_rule: bool,
    /// How long refusals are kept, in days.
    pub refusals_kept_days: u32,
    /// How long addresses of refusals are kept whole, in days; afterwards only their block is.
    pub addresses_kept_days: u32,
}

impl Default for Notice {
    fn default() -> Self {
        Self { freeze_by_rule: true, refusals_kept_days: 90, addresses_kept_days: 14 }
    }
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
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("gangline-data"),
            database: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            public_url: None,
            period_minutes: 60,
            period_budget: MicroCredits(1_000_000_000),
            snapshot_grace_seconds: 600,
            season_days: 90,
            silent_seconds: 90,
            drain_seconds: 10,
            key_overlap_seconds: 900,
            banner: None,
            operator_link: false,
            uptime_days: 400,
            allow_simulated: false,
            beat_udp: BeatUdp::Beside,
            beat_udp_public: None,
            beat_listen: None,
            beat_url: None,
            beat_clock: Clock::default(),
            software_epoch: gangline_proof::epoch::Params::SOFTWARE,
            oidc: None,
            tls: None,
            connections: Connections::default(),
            outbound: Outbound::default(),
            notice: Notice::default(),
        }
    }
}
