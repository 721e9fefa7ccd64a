//! Every endpoint there is. Router, OpenAPI document, typed client and coverage tests are made from
//! this table; an endpoint that is not here cannot be served, and one that is here and has no handler
//! does not compile.

use gangline_types::public::{NetworkTotals, PublicChain, PublicGpu, PublicProof, PublicSeason};
use schemars::{Schema, SchemaGenerator};

use crate::{
    Action::*,
    Credential::*,
    api::{
        account::*, appeal::*, cluster::*, enrol::*, epoch::*, machine::*, operate::*, pages::*, proof::*,
        public::*,
    },
    endpoint::{Endpoint, Media, Method, Nothing, Raw, Spec},
};

/// One row of the table with its schemas.
pub struct Described {
    /// The declaration.
    pub spec: Spec,
    /// Schemas of query, request and response.
    pub schemas: fn(&mut SchemaGenerator) -> [Schema; 3],
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

macro_rules! endpoints {
    ($($(#[doc = $doc:literal])+ $name:ident: $method:ident $path:literal, $credential:ident, $action:ident, $media:ident, $query:ty, $request:ty => $response:ty, $limit:expr;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug)]
            pub struct $name;
            impl Endpoint for $name {
                const SPEC: Spec = Spec {
                    name: stringify!($name), method: Method::$method, path: $path, credential: $credential,
                    action: $action, media: Media::$media, body_bytes_max: $limit, summary: concat!($($doc),+),
                };
                type Query = $query;
                type Request = $request;
                type Response = $response;
            }
        )+
        /// The table.
        pub const ALL: &[Described] = &[$(Described {
            spec: <$name as Endpoint>::SPEC,
            schemas: |g| [g.subschema_for::<$query>(), g.subschema_for::<$request>(), g.subschema_for::<$response>()],
        }),+];
        /// Calls `visit` with every endpoint's type: how a router proves that none is left out.
        pub fn for_each(visitor: &mut impl Visitor) { $(visitor.visit::<$name>();)+ }
    };
}

/// Something to do for every endpoint.
pub trait Visitor {
    /// Called once for each row of the table.
    fn visit<E: Endpoint>(&mut self);
}

endpoints! {
    // -- the network itself ------------------------------------------------------------------------
    /// Whether the process is up.
    Healthz: Get "/healthz", Nobody, ReadPublic, Text, Nothing, Nothing => Raw, 0;
    /// Whether the process takes requests: database writable, not draining.
    Readyz: Get "/readyz", Nobody, ReadPublic, Text, Nothing, Nothing => Raw, 0;
    /// Counters in the Prometheus text format.
    Metrics: Get "/metrics", Nobody, ReadPublic, Text, Nothing, Nothing => Raw, 0;
    /// This API as OpenAPI 3.1.
    OpenApi: Get "/openapi.json", Nobody, ReadPublic, Text, Nothing, Nothing => Raw, 0;

    // -- public: what anyone may see and check --------------------------------------------------------
    /// Connected, proven and rentable GPUs, each counted apart.
    PublicNetwork: Get "/api/v1/public/network", Nobody, ReadPublic, Json, Nothing, Nothing => NetworkTotals, 0;
    /// GPUs by id, model or standing, a page at a time.
    PublicGpus: Get "/api/v1/public/gpus", Nobody, ReadPublic, Json, GpusQuery, Nothing => GpuPage, 0;
    /// One GPU.
    PublicGpuById: Get "/api/v1/public/gpus/{gpu}", Nobody, ReadPublic, Json, Nothing, Nothing => PublicGpu, 0;
    /// Uptime hours of one GPU.
    PublicGpuUptime: Get "/api/v1/public/gpus/{gpu}/uptime", Nobody, ReadPublic, Json, UptimeQuery, Nothing => UptimePage, 0;
    /// Hash-chains behind one GPU's uptime, oldest first: more minutes than they show cannot have been credited.
    PublicGpuChains: Get "/api/v1/public/gpus/{gpu}/chains", Nobody, ReadPublic, Json, UptimeQuery, Nothing => Vec<PublicChain>, 0;
    /// Minutes throughout which the network took beats; the others are its own outages and count against nobody.
    PublicAvailability: Get "/api/v1/public/availability", Nobody, ReadPublic, Json, UptimeQuery, Nothing => AvailabilityPage, 0;
    /// Outcomes of one GPU's proofs, newest first.
    PublicGpuProofs: Get "/api/v1/public/gpus/{gpu}/proofs", Nobody, ReadPublic, Json, Nothing, Nothing => Vec<PublicProof>, 0;
    /// One proof's whole transcript, to be verified by anyone.
    PublicTranscript: Get "/api/v1/public/proofs/{proof}", Nobody, ReadPublic, Json, Nothing, Nothing => Transcript, 0;
    /// One GPU's epochs, newest first.
    PublicGpuEpochs: Get "/api/v1/public/gpus/{gpu}/epochs", Nobody, ReadPublic, Json, Nothing, Nothing => Vec<PublicEpoch>, 0;
    /// One epoch's whole transcript, a file that anyone can check offline.
    PublicEpochTranscript: Get "/api/v1/public/epochs/{proof}", Nobody, ReadPublic, Json, Nothing, Nothing => gangline_proof::epoch::Transcript, 0;
    /// Tables of calibration with their operator's signature, newest first.
    PublicCalibrations: Get "/api/v1/public/calibrations", Nobody, ReadPublic, Json, Nothing, Nothing => Vec<PublicCalibration>, 0;
    /// Appeals against standings, newest first, at most 200, with the verdicts on each.
    PublicAppeals: Get "/api/v1/public/appeals", Nobody, ReadPublic, Json, Nothing, Nothing => Vec<PublicAppeal>, 0;
    /// A registered verifier's signed verdict on the re-run of an appeal. The signature says who; no account is needed.
    AppealVerdict: Post "/api/v1/public/appeals/{appeal}", Nobody, ReadPublic, Json, Nothing, SignedVerdict => PublicAppeal, 4 * KIB;
    /// The season now: budget, period, span.
    PublicSeasonNow: Get "/api/v1/public/season", Nobody, ReadPublic, Json, Nothing, Nothing => PublicSeason, 0;
    /// Snapshots of the season, oldest first.
    PublicSnapshots: Get "/api/v1/public/snapshots", Nobody, ReadPublic, Json, SnapshotsQuery, Nothing => SnapshotList, 0;
    /// One snapshot with its entries, a page at a time.
    PublicSnapshotByPeriod: Get "/api/v1/public/snapshots/{period}", Nobody, ReadPublic, Json, EntriesQuery, Nothing => SnapshotWithEntries, 0;
    /// Totals and standings as they change.
    PublicEvents: Get "/events", MaybeSession, ReadPublic, Events, Nothing, Nothing => Raw, 0;

    // -- the log: what changed, for anyone to check (c2sp.org/tlog-tiles) --------------------------------
    /// The log's newest checkpoint: size and root, signed by the network's key.
    LogCheckpoint: Get "/log/checkpoint", Nobody, ReadPublic, Text, Nothing, Nothing => Raw, 0;
    /// The newest of those checkpoints that most witnesses have cosigned.
    LogCosigned: Get "/log/cosigned", Nobody, ReadPublic, Text, Nothing, Nothing => Raw, 0;
    /// The key that verifies the log's checkpoints.
    LogKey: Get "/log/key", Nobody, ReadPublic, Text, Nothing, Nothing => Raw, 0;
    /// Tiles of the log's hashes, and its entries in bundles of 256 under `entries/`.
    LogTile: Get "/log/tile/{*path}", Nobody, ReadPublic, Stream, Nothing, Nothing => Raw, 0;

    // -- pages --------------------------------------------------------------------------------------------
    /// The explorer.
    ExplorerPage: Get "/", MaybeSession, ReadPublic, Html, GpusQuery, Nothing => Raw, 0;
    /// One GPU's page.
    GpuPageHtml: Get "/gpu/{gpu}", MaybeSession, ReadPublic, Html, Nothing, Nothing => Raw, 0;
    /// The season's snapshots.
    SnapshotsPage: Get "/snapshots", MaybeSession, ReadPublic, Html, SnapshotsQuery, Nothing => Raw, 0;
    /// One snapshot.
    SnapshotPage: Get "/snapshots/{period}", MaybeSession, ReadPublic, Html, Nothing, Nothing => Raw, 0;
    /// The API reference.
    ApiPage: Get "/api", MaybeSession, ReadPublic, Html, Nothing, Nothing => Raw, 0;
    /// Choose dark, light or the system's colours.
    ThemeForm: Post "/theme", MaybeSession, ReadPublic, Html, Nothing, ThemeChoice => Raw, KIB;
    /// Asks whether to use a one-time link.
    EnterPage: Get "/enter/{token}", Nobody, UseLink, Html, Nothing, Nothing => Raw, 0;
    /// Uses a one-time link: it ends, a session begins.
    EnterForm: Post "/enter/{token}", Nobody, UseLink, Html, Nothing, Nothing => Raw, KIB;
    /// Asks to sign in; also where the identity provider sends people who have signed out.
    SignInPage: Get "/signin", MaybeSession, ReadPublic, Html, Nothing, Nothing => Raw, 0;
    /// Sends the browser to the identity provider.
    SignInStart: Get "/signin/provider", Nobody, SignIn, Html, SignInQuery, Nothing => Raw, 0;
    /// Where the identity provider sends it back: a session begins.
    SignInCallback: Get "/signin/callback", Nobody, SignIn, Html, SignInAnswer, Nothing => Raw, 0;
    /// The identity provider's message that somebody has signed out there: their sessions end.
    SignInBackchannel: Post "/signin/backchannel", Nobody, EndSessions, Stream, Nothing, Nothing => Raw, 32 * KIB;
    /// Asks a browser for the signature of a passkey.
    PasskeySignInAsk: Post "/signin/passkey/ask", Nobody, UsePasskey, Html, Nothing, PasskeyAskForm => Raw, KIB;
    /// Signs in whoever the passkey is of: a session begins.
    PasskeySignIn: Post "/signin/passkey", Nobody, UsePasskey, Html, Nothing, PasskeyAnswer => Raw, 16 * KIB;
    /// Signs in whoever knows a password, where browsers have no passkeys: a session begins.
    PasswordSignIn: Post "/signin/password", Nobody, UsePassword, Html, Nothing, PasswordAnswer => Raw, 2 * KIB;
    /// The asker's passkeys and sessions.
    AccountPage: Get "/account", AnySession, ReadAccount, Html, Nothing, Nothing => Raw, 0;
    /// Asks a browser for a new passkey.
    PasskeyAsk: Post "/account/passkeys/ask", AnySession, ManageWaysIn, Html, Nothing, PasskeyAskForm => Raw, KIB;
    /// Keeps a new passkey.
    PasskeyAdd: Post "/account/passkeys", AnySession, ManageWaysIn, Html, Nothing, PasskeyAnswer => Raw, 16 * KIB;
    /// Removes a passkey, unless it is the only way in.
    PasskeyRemove: Post "/account/passkeys/{passkey}/remove", Session, ManageWaysIn, Html, Nothing, CsrfOnly => Raw, KIB;
    /// Sets a password, where browsers have no passkeys; the account's other sessions end.
    PasswordSet: Post "/account/password", Session, ManageWaysIn, Html, Nothing, PasswordChoice => Raw, 2 * KIB;
    /// Ends one of the asker's sessions.
    SessionEndForm: Post "/account/sessions/{session}/end", Session, ManageWaysIn, Html, Nothing, CsrfOnly => Raw, KIB;
    /// Ends the session.
    LeaveForm: Post "/leave", AnySession, ReadAccount, Html, Nothing, CsrfOnly => Raw, KIB;
    /// What a code asks for.
    ApprovePage: Get "/approve", Session, DecideEnrolment, Html, ApproveQuery, Nothing => Raw, 0;
    /// Approves or denies it.
    ApproveForm: Post "/approve", Session, DecideEnrolment, Html, Nothing, ApproveDecision => Raw, KIB;
    /// Operator's, supplier's or renter's console.
    ConsolePage: Get "/console", Session, ReadAccount, Html, ConsoleQuery, Nothing => Raw, 0;
    /// The operator's security page: incidents, freezes, and a search of refusals.
    SecurityPage: Get "/console/security", Session, Operate, Html, SecurityQuery, Nothing => Raw, 0;
    /// A search of permitted acts.
    ActsPage: Get "/console/security/acts", Session, Operate, Html, ActsQuery, Nothing => Raw, 0;
    /// Says what becomes of an incident.
    IncidentForm: Post "/console/security/incidents/{incident}", Session, Contain, Html, Nothing, IncidentChoice => Raw, 2 * KIB;
    /// Freezes, or shows what a freeze would stop.
    FreezeForm: Post "/console/security/freezes", Session, Freeze, Html, Nothing, FreezeChoice => Raw, 2 * KIB;
    /// Lifts a freeze.
    ThawForm: Post "/console/security/freezes/{freeze}/lift", Session, Thaw, Html, Nothing, CsrfOnly => Raw, KIB;
    /// Has a message that was given up tried again.
    SendAgainForm: Post "/console/security/deliveries/{delivery}/send", Session, Contain, Html, Nothing, CsrfOnly => Raw, KIB;
    /// Dangerous acts that were asked for: what exactly, by whom, and what was decided.
    ApprovalsPage: Get "/console/approvals", Session, Operate, Html, Nothing, Nothing => Raw, 0;
    /// Approves or declines one.
    ApprovalForm: Post "/console/approvals/{approval}", Session, DecideApproval, Html, Nothing, ApprovalChoice => Raw, KIB;
    /// Makes a one-time link for a new or known account.
    InviteForm: Post "/console/invite", Session, Invite, Html, Nothing, InviteChoice => Raw, KIB;
    /// Ends all sessions of an account.
    AccountSessionsForm: Post "/console/accounts/{account}/sessions/end", Session, EndAccountSessions, Html, Nothing, CsrfOnly => Raw, KIB;
    /// Ends a key.
    RevokeKeyForm: Post "/console/keys/{key}/revoke", Session, RevokeKey, Html, Nothing, CsrfOnly => Raw, KIB;
    /// Names a GPU.
    LabelGpuForm: Post "/console/gpus/{gpu}/label", Session, LabelGpu, Html, Nothing, LabelChoice => Raw, KIB;
    /// Ends a cluster.
    ReleaseClusterForm: Post "/console/clusters/{cluster}/release", Session, ReleaseCluster, Html, Nothing, CsrfOnly => Raw, KIB;

    // -- enrolment (RFC 8628, with a key where that has a token) -------------------------------------------
    /// Asks that this key be bound to an account.
    Enrol: Post "/api/v1/enrolments", NewKey, RequestEnrolment, Json, Nothing, EnrolmentRequest => EnrolmentTicket, 8 * KIB;
    /// Asks how that stands.
    EnrolPoll: Post "/api/v1/enrolments/poll", NewKey, RequestEnrolment, Json, Nothing, EnrolmentPoll => EnrolmentState, 8 * KIB;

    // -- keys: a new one in the place of an old one ----------------------------------------------------------
    /// Puts a new key in the signing key's place; both are valid until the new one was in use for a while.
    KeyRotate: Post "/api/v1/key/rotate", Key, RotateKey, Json, Nothing, RotationRequest => Rotation, 8 * KIB;
    /// Ends the key that the signing key took the place of, at once.
    KeySettle: Post "/api/v1/key/settle", Key, RotateKey, Json, Nothing, Nothing => Settled, KIB;

    // -- machines ---------------------------------------------------------------------------------------------
    /// What hardware this machine has.
    DescribeInventory: Put "/api/v1/machine/inventory", Key, DescribeMachine, Json, Nothing, Inventory => Registered, 128 * KIB;
    /// Proves the machine's key once an epoch: an alias, a beat key and the order of its GPUs come back.
    BeatEpoch: Post "/api/v1/machine/beat-epoch", Key, Beat, Json, Nothing, EpochRequest => EpochGrant, 64 * KIB;
    /// Signs of life as frames of 64 bytes, up to 64 of them; the answers come back as frames of 48 bytes.
    BeatFrames: Post "/api/v1/beat", Frame, Beat, Stream, Nothing, Raw => Raw, 4 * KIB;
    /// Signs of life as one signed report, the form before frames; acknowledged means durable.
    Beats: Post "/api/v1/machine/beats", Key, Beat, Json, Nothing, BeatReport => BeatReceipt, 256 * KIB;
    /// Asks for challenges for all GPUs of this machine at once.
    ProofBegin: Post "/api/v1/machine/proofs", Key, ProveGpu, Json, Nothing, ProofRequest => ProofChallenges, 16 * KIB;
    /// Hands in the roots; the clock stops.
    ProofCommit: Post "/api/v1/machine/proofs/{proof}/commit", Key, ProveGpu, Json, Nothing, CommitRequest => CommitReceipt, 64 * KIB;
    /// Opens what was committed; the verdict comes back.
    ProofOpen: Post "/api/v1/machine/proofs/{proof}/open", Key, ProveGpu, Json, Nothing, OpenRequest => Verdict, 4 * MIB;
    /// Asks for an epoch's challenges for all GPUs of this machine at once; the answer comes with the bell.
    EpochBegin: Post "/api/v1/machine/epochs", Key, ProveGpu, Json, Nothing, BellRequest => EpochChallenges, 16 * KIB;
    /// Hands in an epoch's roots; the clock stops.
    EpochRoots: Post "/api/v1/machine/epochs/{proof}/commit", Key, ProveGpu, Json, Nothing, EpochCommit => EpochReceipt, 64 * KIB;
    /// Opens what was committed in an epoch; the verdict comes back.
    EpochOpened: Post "/api/v1/machine/epochs/{proof}/open", Key, ProveGpu, Json, Nothing, EpochOpen => EpochVerdict, 2 * MIB;
    /// Appeals against the standing of one of this machine's GPUs: it is measured again, and verifiers judge that.
    AppealOpen: Post "/api/v1/machine/appeals/{gpu}", Key, ProveGpu, Json, Nothing, Nothing => PublicAppeal, KIB;
    /// Reports clusters as they are and learns which ones should be; waits a while for news.
    Sync: Post "/api/v1/machine/sync", Key, Supply, Json, Nothing, SyncReport => SyncOrders, 256 * KIB;
    /// Opens the way by which a renter's requests reach a cluster on this machine.
    Tunnel: Get "/api/v1/machine/clusters/{cluster}/tunnel", Key, Supply, Stream, Nothing, Nothing => Raw, 0;
    /// Takes this machine out of the network.
    MachineLeave: Post "/api/v1/machine/leave", Key, RetireMachine, Json, Nothing, Nothing => Nothing, KIB;
    /// Changes what a GPU is called.
    GpuLabel: Put "/api/v1/gpus/{gpu}/label", Key, LabelGpu, Json, Nothing, LabelWrite => Nothing, 4 * KIB;

    // -- renters ------------------------------------------------------------------------------------------------
    /// Who this key belongs to.
    Me: Get "/api/v1/me", Key, ReadAccount, Json, Nothing, Nothing => Whoami, 0;
    /// Shares of the account's GPUs, each with its proof of inclusion.
    AccountStatement: Get "/api/v1/statement", Key, ReadAccount, Json, StatementQuery, Nothing => Statement, 0;
    /// Hires a one-node cluster.
    HireCluster: Post "/api/v1/clusters", Key, Hire, Json, Nothing, HireRequest => ClusterView, 8 * KIB;
    /// The account's clusters, newest first.
    Clusters: Get "/api/v1/clusters", Key, ReadAccount, Json, Nothing, Nothing => Vec<ClusterView>, 0;
    /// One cluster.
    ClusterById: Get "/api/v1/clusters/{cluster}", Key, UseCluster, Json, ClusterQuery, Nothing => ClusterView, 0;
    /// Ends a cluster; its receipt follows when the node is gone.
    ClusterRelease: Delete "/api/v1/clusters/{cluster}", Key, ReleaseCluster, Json, Nothing, Nothing => ClusterView, KIB;
    /// Whatever the cluster's Ray answers: dashboard, jobs, logs, WebSockets.
    RayProxy: Any "/api/v1/clusters/{cluster}/ray/{*path}", Key, UseCluster, Stream, Nothing, Nothing => Raw, 128 * MIB;

    // -- operators ----------------------------------------------------------------------------------------------
    /// Undoes exactly what a key, an account or a session has called GPUs since a time; what others have set
    /// since stays.
    RestoreLabels: Post "/api/v1/operate/restore", Key, Restore, Json, Nothing, RestoreRequest => RestoreReport, 4 * KIB;
    /// What was noticed, those that came last first, at most 200.
    Incidents: Get "/api/v1/operate/incidents", Key, Operate, Json, IncidentsQuery, Nothing => Vec<IncidentView>, 0;
    /// Says what becomes of an incident.
    IncidentById: Post "/api/v1/operate/incidents/{incident}", Key, Contain, Json, Nothing, IncidentChange => Nothing, 4 * KIB;
    /// What is and was frozen, newest first, at most 100.
    FreezeList: Get "/api/v1/operate/freezes", Key, Operate, Json, Nothing, Nothing => Vec<FreezeView>, 0;
    /// Freezes, or says what a freeze would stop. Heartbeats cannot be frozen.
    FreezeMake: Post "/api/v1/operate/freezes", Key, Freeze, Json, Nothing, FreezeRequest => FreezeAnswer, 4 * KIB;
    /// Lifts a freeze.
    FreezeLift: Delete "/api/v1/operate/freezes/{freeze}", Key, Thaw, Json, Nothing, Nothing => Nothing, KIB;
    /// Messages to people outside about incidents: those that were given up, those that wait, the newest that arrived;
    /// at most 100.
    Deliveries: Get "/api/v1/operate/deliveries", Key, Operate, Json, Nothing, Nothing => Vec<DeliveryView>, 0;
    /// Has a message that was given up tried again.
    DeliverySend: Post "/api/v1/operate/deliveries/{delivery}/send", Key, Contain, Json, Nothing, Nothing => Nothing, KIB;
    /// Refused attempts, newest first, a page at a time by number.
    Refusals: Get "/api/v1/operate/refusals", Key, Operate, Json, RecordsQuery, Nothing => Vec<RefusalView>, 0;
    /// Permitted acts, newest first, a page at a time by number.
    Acts: Get "/api/v1/operate/acts", Key, Operate, Json, RecordsQuery, Nothing => Vec<ActView>, 0;
    /// Verifiers that appeals are put before.
    Verifiers: Get "/api/v1/operate/verifiers", Key, Operate, Json, Nothing, Nothing => Vec<Verifier>, 0;
    /// Registers a verifier, or ends one.
    VerifierSet: Post "/api/v1/operate/verifiers", Key, Operate, Json, Nothing, VerifierChange => Vec<Verifier>, KIB;
    /// What medians the network's own epochs would give: a table to look at, sign and hand in.
    CalibrationLearned: Get "/api/v1/operate/calibrations/learned", Key, Operate, Json, Nothing, Nothing => CalibrationTable, 0;
    /// Hands in a signed table of calibration. It is a canary: it fails nobody.
    CalibrationAdd: Post "/api/v1/operate/calibrations", Key, Operate, Json, Nothing, CalibrationSubmit => PublicCalibration, 4 * MIB;
    /// Promotes a table that was seen to be fair, or withdraws one.
    CalibrationSet: Post "/api/v1/operate/calibrations/{version}", Key, MoveCalibration, Json, Nothing, CalibrationMove => PublicCalibration, KIB;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_endpoints_share_method_and_path() {
        let mut seen: Vec<_> = ALL.iter().map(|d| (d.spec.path, d.spec.method)).collect();
        seen.sort_unstable();
        let rows = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), rows);
    }

    #[test]
    fn whoever_writes_must_show_something() {
        for d in ALL {
            let harmless =
                [ReadPublic, UseLink, UsePasskey, UsePassword, SignIn, EndSessions].contains(&d.spec.action);
            assert!(
                harmless || !matches!(d.spec.credential, Nobody | MaybeSession),
                "{} acts for nobody in particular",
                d.spec.name
            );
        }
    }

    #[test]
    fn paths_are_filled_in_order() {
        assert_eq!(ProofCommit::path(&[&"p"]), "/api/v1/machine/proofs/p/commit");
        assert_eq!(RayProxy::path(&[&"c", &"api/jobs/"]), "/api/v1/clusters/c/ray/api/jobs/");
    }
}
