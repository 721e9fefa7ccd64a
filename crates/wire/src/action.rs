//! What can be done: few actions on many resources. Policy (in the guard) is written over these, and
//! every endpoint and background job names exactly one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! actions {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        /// One thing that can be done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Action { $($(#[doc = $doc])+ $name),+ }
        impl Action {
            /// Every action, in the order of the matrix.
            pub const ALL: &'static [Action] = &[$(Action::$name),+];
            /// Its word in policy, audit entries and the matrix.
            pub const fn as_str(self) -> &'static str { match self { $(Action::$name => $word),+ } }
        }
    };
}

actions! {
    /// Read what the public projection holds.
    ReadPublic = "read_public";
    /// Ask that a new key be bound to an account.
    RequestEnrolment = "request_enrolment";
    /// Approve or deny such a request.
    DecideEnrolment = "decide_enrolment";
    /// Turn a one-time link into a session.
    UseLink = "use_link";
    /// Turn an identity provider's word for somebody into a session.
    SignIn = "sign_in";
    /// Turn a passkey's signature into a session.
    UsePasskey = "use_passkey";
    /// Turn a password into a session, where browsers have no passkeys.
    UsePassword = "use_password";
    /// Add and remove the ways into one's own account, and end its sessions.
    ManageWaysIn = "manage_ways_in";
    /// End somebody's sessions at the identity provider's word.
    EndSessions = "end_sessions";
    /// End all sessions of an account, as its operator.
    EndAccountSessions = "end_account_sessions";
    /// Make a one-time link for somebody.
    Invite = "invite";
    /// Say what hardware a machine has.
    DescribeMachine = "describe_machine";
    /// Change what a GPU is called.
    LabelGpu = "label_gpu";
    /// Give signs of life of a machine's GPUs.
    Beat = "beat";
    /// Take part in a proof.
    ProveGpu = "prove_gpu";
    /// Run clusters for renters: offers, reports, tunnels.
    Supply = "supply";
    /// Take a machine out of the network.
    RetireMachine = "retire_machine";
    /// Hire a cluster.
    Hire = "hire";
    /// See and use a cluster: its state, its Ray, its receipt.
    UseCluster = "use_cluster";
    /// End a cluster.
    ReleaseCluster = "release_cluster";
    /// See an account's own things: keys, machines, statement.
    ReadAccount = "read_account";
    /// End a key.
    RevokeKey = "revoke_key";
    /// Put a new key in the place of the one that signs.
    RotateKey = "rotate_key";
    /// See the whole network as its operator.
    Operate = "operate";
    /// Say what becomes of incidents.
    Contain = "contain";
    /// Stop writes of a kind or by somebody.
    Freeze = "freeze";
    /// Let writes that were stopped go on.
    Thaw = "thaw";
    /// Undo what somebody has called GPUs.
    Restore = "restore";
    /// Promote or withdraw a table of calibration.
    MoveCalibration = "move_calibration";
    /// Ask that a dangerous act be approved.
    AskApproval = "ask_approval";
    /// Approve a dangerous act that somebody asked for.
    DecideApproval = "decide_approval";
    /// Decline such an act.
    DeclineApproval = "decline_approval";
    /// Open incidents for what was noticed, freeze by rule, tell people.
    Watch = "watch";
    /// Judge proofs and set what follows from them.
    Judge = "judge";
    /// Take a snapshot.
    TakeSnapshot = "take_snapshot";
    /// Bring what is to what is wanted: expire, sweep, notice silence.
    Reconcile = "reconcile";
    /// Copy what is public into the public projection.
    Project = "project";
    /// Fill the books with simulated machines, for a test of load.
    Simulate = "simulate";
    /// Move the whole books into another database.
    MoveBooks = "move_books";
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
