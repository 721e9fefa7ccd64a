//! Starting and stopping a server.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::Router;

use gangline_guard::{Actor, Job, act, permit::permit, policy::on, secret::Secret};
use gangline_store::{DatabaseUrl, FolderLock, NewLink, Store, StoreError};
use gangline_types::{AccountId, Label, LinkId};
use gangline_wire::{SigningKey, api::account::Role};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    Config,
    app::{App, Shared},
    config::Tls,
    edge,
    error::ApiError,
    jobs,
    lanes::Lanes,
    listen::Serving,
    metrics::Metrics,
    notice::{FreezeView, Noticer},
    openings,
    outbound::{Outbound, SetupError},
    outlets::{OutletError, Outlets},
    people::{Provider, breached::Breached, factors, passkey::Passkeys, password::Passwords},
    refusals::Recorder,
    router,
    routes::pages::draw_ahead,
    secrets,
    tls::{self, TlsError},
    tunnel::Link,
    witnesses::Witnesses,
};

/// How long the operator's link can be used, in seconds: a day.
const OPERATOR_LINK_SECONDS: u64 = 24 * 3600;

/// How long offers are gathered before the first request is answered.
const FOLLOWED_AT_START: Duration = Duration::from_secs(2);

/// How often the front page is drawn while large files are looked through.
const DRAWN_EVERY: Duration = Duration::from_secs(1);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder or a database in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Machines that do not exist, in a network that has not allowed them.
    #[error("the books hold simulated machines, and this network does not allow them")]
    Simulated,
    /// The port.
    #[error("cannot listen on {listen}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The network's key.
    #[error("the network's key {file} cannot be used")]
    Key {
        /// Its file.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The intake of beats.
    #[error("the intake of beats cannot start")]
    Intake(#[source] std::io::Error),
    /// The configuration.
    #[error("{0}")]
    Config(String),
    /// The certificate.
    #[error("the certificate of this server cannot be used")]
    Tls(#[from] TlsError),
    /// What this server asks others with.
    #[error("this server could not ask others")]
    Outbound(#[from] SetupError),
    /// Who outside is told of incidents.
    #[error("people could not be told of incidents")]
    Outlets(#[from] OutletError),
    /// What has to be in the books from the start.
    #[error("the network could not be set up")]
    Setup(#[from] ApiError),
    /// Beats are not taken any more, by a mistake of ours.
    #[error("the intake of beats has ended by itself")]
    IntakeEnded,
    /// While serving.
    #[error("the server broke off")]
    Serving(#[source] std::io::Error),
}

impl ServeError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(e) => e.hint(),
            Self::Tls(e) => e.hint(),
            Self::Listen { listen, source } => Some(match source.kind() {
                std::io::ErrorKind::AddrInUse => {
                    format!(
                        "another program listens on port {}; stop it, or choose another with --listen",
                        listen.port()
                    )
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need rights; choose another with --listen".into()
                }
                _ => "choose an address of this machine with --listen".into(),
            }),
            Self::Simulated => Some(
                "a load generator wrote them; a network for tests is started with --allow-simulated, and one for \
                 people with other books"
                    .into(),
            ),
            Self::IntakeEnded => Some(
                "the log says why; start the server again: what was acknowledged is in its journal, and machines \
                 send the rest again"
                    .into(),
            ),
            Self::Key { .. } => Some("it must be a file of 32 bytes that only this user can read".into()),
            _ => None,
        }
    }
}

/// A server that listens.
pub struct Running {
    /// Where.
    pub address: SocketAddr,
    /// Where beats are taken by UDP, if they are.
    pub beat_udp: Option<SocketAddr>,
    /// Where they are taken by HTTP of the intake's own, if they are.
    pub beat_http: Option<SocketAddr>,
    /// Origin for links.
    pub origin: String,
    /// A one-time link for the operator, on the first start or when asked for.
    pub operator_link: Option<String>,
    /// What this server is called among those on its database, in hexadecimal; none where it is alone.
    pub replica: Option<String>,
    app: App,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// Where plain HTTP is answered for an authority's challenges.
    http: Option<(TcpListener, Router)>,
    jobs: Vec<tokio::task::JoinHandle<()>>,
    /// Looks for damage in what was not looked at before the start.
    checking: tokio::task::JoinHandle<Result<(), StoreError>>,
    writer: tokio::task::JoinHandle<()>,
    _folder: Option<FolderLock>,
}

/// The network's key in a data folder.
pub(crate) const NETWORK_KEY: &str = "network.key";

/// The network's key in a file that is there.
pub(crate) fn known_key(file: &Path) -> Result<SigningKey, ServeError> {
    let failed = |source| ServeError::Key { file: file.to_owned(), source };
    let bytes = secrets::read(file).map_err(|error| match error {
        secrets::SecretError::Read { source, .. } => failed(source),
        other => failed(std::io::Error::new(std::io::ErrorKind::InvalidData, other)),
    })?;
    let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| {
        failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "it does not hold 32 bytes"))
    })?;
    Ok(SigningKey::from_seed(&Zeroizing::new(seed)))
}

/// The network's key as configured; in a data folder it is made if there is none.
fn network_key(config: &Config) -> Result<SigningKey, ServeError> {
    if let Some(file) = &config.network_key {
        return known_key(file);
    }
    let file = config.data.join(NETWORK_KEY);
    let failed = |source| ServeError::Key { file: file.clone(), source };
    match known_key(&file) {
        Err(ServeError::Key { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let seed = Zeroizing::new(edge::random::<32>());
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut out = options.open(&file).map_err(failed)?;
            out.write_all(seed.as_ref()).and_then(|_| out.sync_all()).map_err(failed)?;
            Ok(SigningKey::from_seed(&seed))
        }
        known => known,
    }
}

/// Opens the books, and the network's key that belongs to them. In a database, every server of a network has the
/// same key: whoever comes with another is told so before anything is written.
///
/// The data folder is one server's in any case: it holds the journal of its beats.
async fn books(config: &Config) -> Result<(Store, SigningKey, Option<FolderLock>), ServeError> {
    let Some(url) = &config.database else {
        let store = Store::open(&config.data).await?;
        return Ok((store, network_key(config)?, None));
    };
    let folder = &config.data;
    std::fs::create_dir_all(folder)
        .map_err(|source| StoreError::Folder { folder: folder.clone(), source })?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700));
    }
    let lock = FolderLock::take(folder)?;
    let is_new = config.network_key.is_none() && !folder.join(NETWORK_KEY).exists();
    let key = network_key(config)?;
    let opened = connect(url, &key).await;
    if is_new && matches!(opened, Err(StoreError::OtherNetwork { .. })) {
        // It was made for nothing, and would only be in the way of the right one.
        let _ = std::fs::remove_file(folder.join(NETWORK_KEY));
    }
    let store = opened?;
    for said in store.said() {
        tracing::warn!("{said}");
    }
    Ok((store, key, Some(lock)))
}

/// Opens the books of the network with this key in a database.
pub(crate) async fn connect(url: &DatabaseUrl, key: &SigningKey) -> Result<Store, StoreError> {
    let secret = blake3::derive_key("gangline 2026 database roles", key.seed().as_ref());
    Store::connect(url, *key.public().as_bytes(), &secret, edge::random()).await
}

/// Authorities that name this server, and the origin for links.
fn names(config: &Config, address: SocketAddr) -> Result<(Vec<String>, String), ServeError> {
    let (scheme, usual) = if config.tls.is_some() { ("https", 443) } else { ("http", 80) };
    // Whoever asks at the usual port leaves it out.
    let at = |host: &str| match address.port() {
        port if port == usual => host.to_owned(),
        port => format!("{host}:{port}"),
    };
    let mut authorities = vec![address.to_string()];
    authorities.push(at(&match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }));
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        authorities.extend([at("localhost"), at("127.0.0.1")]);
    }
    let domains = match &config.tls {
        Some(Tls::Acme(acme)) => acme.domains.as_slice(),
        _ => &[],
    };
    authorities.extend(domains.iter().map(|domain| at(domain)));
    let origin = match &config.public_url {
        None => match domains.first() {
            Some(domain) => format!("{scheme}://{}", at(domain)),
            None => format!("{scheme}://{}", authorities[1]),
        },
        Some(url) => {
            let url = url.trim_end_matches('/');
            let authority = url
                .strip_prefix("https://")
                .or_else(|| url.strip_prefix("http://"))
                .filter(|a| !a.is_empty() && !a.contains(['/', '@', '?', '#', ' ']))
                .ok_or_else(|| {
                    ServeError::Config(format!(
                        "the public URL {url} is not of the form https://host or https://host:port"
                    ))
                })?;
            authorities.push(authority.to_ascii_lowercase());
            url.to_owned()
        }
    };
    authorities.dedup();
    Ok((authorities, origin))
}

async fn operator_link(app: &App) -> Result<Option<String>, ApiError> {
    let known = app.store.has_operator().await?;
    if known.is_some() && !app.config.operator_link {
        return Ok(None);
    }
    let invitation = on::Invitation { account: known, role: Role::Operator, name: Label::lossy("operator") };
    let secret = Secret::from_random(edge::random());
    let now = edge::now();
    let permit = permit::<act::Invite>(&Actor::job(Job::Setup), invitation, now)?;
    let link = NewLink {
        id: LinkId::from_bytes(edge::random()),
        secret: secret.stored(),
        expires_at: now.plus(OPERATOR_LINK_SECONDS),
    };
    app.store.invite(permit, AccountId::from_bytes(edge::random()), link).await?;
    Ok(Some(format!("{}/enter/{}", app.origin, secret.reveal())))
}

/// What has to be there before the first request, made by one server at a time: the operator's link, if one is due.
async fn set_up(app: &App) -> Result<Option<String>, ApiError> {
    let lease = loop {
        match app.store.lease("setup").await? {
            Some(lease) => break lease,
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let work = async {
        jobs::snapshots::ensure_season(app).await?;
        let operator_link = operator_link(app).await?;
        jobs::log::note_policy(app).await?;
        // What is missing for longer than one look comes while requests are answered.
        jobs::projection::project(app).await?;
        Ok(operator_link)
    };
    let done = lease.holding(work).await;
    app.store.give_leases_back().await?;
    done
}

/// The operator's list of passwords that are not taken.
fn breached(config: &Config) -> Result<Option<Breached>, ServeError> {
    let Some(file) = &config.breached_passwords else {
        tracing::warn!(
            "passwords are held against rules alone; --breached-passwords holds them against a list too"
        );
        return Ok(None);
    };
    Breached::open(file).map(Some).map_err(|why| {
        ServeError::Config(format!(
            "{} is no list of breached passwords, SHA-1 in rising order with a colon and a count, one a line: {why}",
            file.display()
        ))
    })
}

/// Opens the books, binds the port, starts the jobs. Requests are answered from [`Running::run`] on.
pub async fn serve(config: Config) -> Result<Running, ServeError> {
    serve_beside(config, &Handle::current()).await
}

/// The same, with jobs that work through much at once in a runtime of their own, where no request waits behind them. It has to
/// live as long as the one that this runs in: connections to a database may be of either.
pub async fn serve_beside(config: Config, background: &Handle) -> Result<Running, ServeError> {
    // A policy that cannot be read would refuse everything; better not to start.
    gangline_guard::policy::ready()
        .map_err(|e| ServeError::Config(format!("the policy of this build cannot be used: {e}")))?;
    let (store, key, folder) = books(&config).await?;
    if !config.allow_simulated && store.has_simulated().await? {
        store.close().await;
        return Err(ServeError::Simulated);
    }
    let listen = config.listen;
    let listener = TcpListener::bind(listen).await.map_err(|source| ServeError::Listen { listen, source })?;
    let address = listener.local_addr().map_err(|source| ServeError::Listen { listen, source })?;
    let (authorities, origin) = names(&config, address)?;
    let provider = match &config.oidc {
        Some(settings) => {
            let made = Provider::new(settings, &config.outbound, &origin, &key.seed()).map_err(|cause| {
                ServeError::Config(format!("the identity provider cannot be used: {cause}"))
            })?;
            Some(Arc::new(made))
        }
        None => None,
    };
    let outlets = Outlets::new(&config, &key)?;
    let witnesses = Witnesses::new(&config)?;
    let passwords = match config.password_sign_in {
        // Never a second way beside a better one.
        true if provider.is_some() || Passkeys::of(&origin).is_some() => {
            return Err(ServeError::Config(format!(
                "passwords are for networks where nothing better works, and at {origin} passkeys or the identity provider do: leave --password-sign-in out"
            )));
        }
        true => Some(Passwords::new(edge::random(), breached(&config)?)),
        false => None,
    };
    let factors =
        factors::asked(config.second_factor, &origin, config.oidc.as_ref()).map_err(ServeError::Config)?;
    let stop = CancellationToken::new();
    let certificate = certificate(&config, &origin, &stop).await?;
    let metrics = Arc::new(Metrics::default());
    let (link, linking, reached_at) = link(&config, &key).await?;
    // Before anything is written under this server's name.
    store.announce(&reached_at, 0).await?;
    let lanes = Lanes::start(&config, &store, &key, address).await?;
    let (recorder, writer) = Recorder::start(store.clone(), metrics.clone());
    let freezes = FreezeView::load(&store).await?;
    let (noticer, watching) = Noticer::start(&config, store.clone(), metrics.clone(), freezes, stop.clone())
        .map_err(|cause| {
            ServeError::Config(format!("what detectors are shown cannot be written down: {cause}"))
        })?;
    let app = Shared::new(
        config,
        (factors, passwords),
        authorities,
        origin.clone(),
        store,
        key,
        metrics,
        recorder,
        noticer,
        outlets,
        witnesses,
        provider,
        lanes,
        (link.clone(), reached_at),
        stop,
    );
    let linked =
        linking.map(|listener| tokio::spawn(link.serve(listener, app.tunnels.clone(), app.stop.clone())));
    let operator_link = set_up(&app).await?;
    // Of a large network the rest is followed while requests are answered: a hire sees some offers later.
    if let Ok(followed) = tokio::time::timeout(FOLLOWED_AT_START, jobs::placement::follow(&app)).await {
        followed?;
    }
    let mut jobs = jobs::start(&app, background);
    jobs.push(watching);
    jobs.extend(linked);
    jobs.extend(app.lanes.intake.openings().map(|came| tokio::spawn(openings::run(app.clone(), came))));
    // Not waited for: a provider that is away keeps nobody's machine out.
    jobs.extend(app.provider.clone().map(|p| tokio::spawn(p.keep_known(app.stop.clone()))));
    jobs.extend(certificate.keeper);
    let (tls, http) = (certificate.tls, certificate.http);
    let checking = tokio::spawn(check_rest(app.clone()));
    let (beat_udp, beat_http) = (app.lanes.intake.udp, app.lanes.intake.http);
    Ok(Running {
        address,
        beat_udp,
        beat_http,
        origin,
        operator_link,
        replica: app.store.replica(),
        app,
        listener,
        tls,
        http,
        jobs,
        checking,
        writer,
        _folder: folder,
    })
}

/// The way between this server and the others, where they come in, and how they reach that.
async fn link(config: &Config, key: &SigningKey) -> Result<(Link, Option<TcpListener>, String), ServeError> {
    let secret = blake3::derive_key("gangline 2026 link between servers", key.seed().as_ref());
    let link = Link::new(&secret).map_err(|e| ServeError::Tls(TlsError::Setup(e)))?;
    let Some(listen) = config.replica_listen else { return Ok((link, None, String::new())) };
    let failed = |source| ServeError::Listen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    let reached_at = match &config.replica_address {
        Some(address) => address.clone(),
        None if at.ip().is_unspecified() => {
            return Err(ServeError::Config(format!(
                "the other servers cannot reach {at}: say with --replica-address where they reach it"
            )));
        }
        None => at.to_string(),
    };
    Ok((link, Some(listener), reached_at))
}

/// What a server shows of itself, and what keeps that new.
#[derive(Default)]
struct Certificate {
    tls: Option<Arc<rustls::ServerConfig>>,
    http: Option<(TcpListener, Router)>,
    keeper: Option<tokio::task::JoinHandle<()>>,
}

async fn certificate(
    config: &Config,
    origin: &str,
    stop: &CancellationToken,
) -> Result<Certificate, ServeError> {
    let Some(source) = &config.tls else { return Ok(Certificate::default()) };
    let identity = Arc::<tls::Identity>::default();
    let tls = Some(tls::server_config(identity.clone())?);
    match source {
        Tls::Files { cert, key } => {
            identity.show(tls::load(cert, key)?);
            let keeper = tokio::spawn(tls::watch(cert.clone(), key.clone(), identity, stop.clone()));
            Ok(Certificate { tls, http: None, keeper: Some(keeper) })
        }
        Tls::Acme(acme) => {
            // The operator has named the authority, so it may be one of its own network.
            let mut exceptions = config.outbound.exceptions.clone();
            if let Some(host) = url::Url::parse(&acme.directory).ok().as_ref().and_then(url::Url::host_str) {
                exceptions = exceptions.and_host(host);
            }
            let outbound = Outbound::new(exceptions, config.outbound.ca_file.as_deref())?;
            let authority = tls::Authority::new(acme.clone(), &config.data, outbound, identity)?;
            let http = match authority.http(origin) {
                Some((listen, router)) => {
                    let listener = TcpListener::bind(listen)
                        .await
                        .map_err(|source| ServeError::Listen { listen, source })?;
                    Some((listener, router))
                }
                None => None,
            };
            Ok(Certificate { tls, http, keeper: Some(tokio::spawn(authority.keep(stop.clone()))) })
        }
    }
}

/// Looks large files through, which makes everything slow that reads them: the front page is drawn before, and kept drawn
/// meanwhile, so that no visitor waits for it.
async fn check_rest(app: App) -> Result<(), StoreError> {
    if !app.store.has_rest().await {
        return Ok(());
    }
    draw_ahead(&app).await;
    let drawing = async {
        loop {
            tokio::time::sleep(DRAWN_EVERY).await;
            draw_ahead(&app).await;
        }
    };
    tokio::select! {
        checked = app.store.check_rest() => checked,
        () = drawing => Ok(()),
    }
}

/// Waits for the end, or until damage is found in the books: nobody goes on writing into those.
async fn until_damaged_or(
    mut checking: tokio::task::JoinHandle<Result<(), StoreError>>,
    stop: impl Future<Output = ()>,
) -> Option<StoreError> {
    tokio::pin!(stop);
    tokio::select! {
        () = &mut stop => {
            checking.abort();
            return None;
        }
        checked = &mut checking => match checked {
            Ok(Err(damage @ StoreError::Corrupt { .. })) => {
                tracing::error!(error = &damage as &dyn std::error::Error, "the server ends");
                return Some(damage);
            }
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the books could not be looked through for damage");
            }
            _ => {}
        }
    }
    stop.await;
    None
}

impl Running {
    /// Answers requests until `stop` resolves, then drains: readiness says no, waiting requests are
    /// answered, running ones may finish within the configured time. A server that cannot take beats any more stops by
    /// itself, so that whoever watches over it starts another.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
        let Self { app, listener, tls, http, jobs, checking, writer, .. } = self;
        let drain = Duration::from_secs(app.config.drain_seconds);
        let closing = CancellationToken::new();
        let serving = Serving {
            router: router::router(app.clone()),
            tls,
            connections: app.config.connections,
            proxies: Arc::new(app.config.proxies.clone()),
            counters: app.metrics.connections.clone(),
            stop: closing.clone(),
        };
        let plain = http.map(|(listener, router)| {
            let serving = Serving { router, tls: None, ..serving.clone() };
            tokio::spawn(serving.serve(listener, Duration::ZERO))
        });
        let served = tokio::spawn(serving.serve(listener, drain));
        let (damage, intake_ended) = tokio::select! {
            damage = until_damaged_or(checking, stop) => (damage, false),
            () = app.lanes.intake.ended() => (None, true),
        };
        tracing::info!("stopping: no new work is taken");
        app.drain();
        app.stop.cancel();
        app.tunnels.close_all();
        closing.cancel();
        let result = match served.await {
            Ok(_) if intake_ended => Err(ServeError::IntakeEnded),
            Ok(true) => Ok(()),
            Ok(false) => {
                tracing::warn!(
                    seconds = drain.as_secs(),
                    "some requests did not finish in time and were cut off"
                );
                Ok(())
            }
            Err(e) => Err(ServeError::Serving(std::io::Error::other(e))),
        };
        if let Some(plain) = plain {
            let _ = plain.await;
        }
        app.stop.cancel();
        for job in jobs {
            let _ = job.await;
        }
        app.outlets.finish().await;
        // What is not folded now is in the journal, and comes back with the next start.
        let waiting = app.lanes.intake.counters().waiting.load(Ordering::Relaxed);
        if damage.is_some() || waiting > jobs::beats::FOLDED_AT_END as u64 {
            tracing::info!(
                gpu_hours = waiting,
                "beats stay in the journal, and are folded after the next start"
            );
        } else if let Err(error) = jobs::beats::fold(&app).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last beats stay in the journal");
        }
        app.lanes.intake.stop().await;
        let store = app.store.clone();
        drop(app);
        // The recorder's queue ends with the last of its senders.
        let _ = tokio::time::timeout(Duration::from_secs(2), writer).await;
        if let Err(error) = store.retire().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "others find out by themselves that this server ended"
            );
        }
        // Another server need not wait for them to run out.
        if let Err(error) = store.give_leases_back().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "leases were left to run out");
        }
        store.close().await;
        tracing::info!("stopped");
        damage.map_or(result, |damage| Err(ServeError::Store(damage)))
    }
}
