//! Made-up views of a network that never was, for tests and for the gallery. The numbers come from a
//! small generator with a fixed seed, so that they are the same each time.

mod console;

pub use console::*;
use gangline_pages::*;
use gangline_types::{public::*, *};

/// The time all samples are drawn for: 2026-03-01 12:34:56 UTC.
pub const NOW: UnixSeconds = UnixSeconds(1_772_368_496);

/// SplitMix64 (Steele, Lea, Flood 2014), enough for samples.
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
    fn bytes(&mut self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.roll().to_be_bytes());
        out[8..].copy_from_slice(&self.roll().to_be_bytes());
        out
    }
    fn hash(&mut self) -> Hash {
        let mut out = [0; 32];
        out[..16].copy_from_slice(&self.bytes());
        out[16..].copy_from_slice(&self.bytes());
        Hash(out)
    }
    fn gpu_id(&mut self) -> GpuId {
        GpuId::from_bytes(self.bytes())
    }
}

/// What text fields hold: plain words, or something hostile in each.
#[derive(Clone)]
pub struct Words(pub Option<String>);

impl Words {
    /// `plain`, or the hostile text.
    pub fn say(&self, plain: &str) -> String {
        self.0.clone().unwrap_or_else(|| plain.to_owned())
    }
    fn text<const MAX: usize>(&self, plain: &str) -> Text<MAX> {
        Text::lossy(&self.say(plain))
    }
}

/// Models, kinds, millions of multiply-adds a second, memory in GiB.
const MODELS: [(&str, AdapterKind, u64, u64); 8] = [
    ("NVIDIA GeForce RTX 4090", AdapterKind::Discrete, 142_000_000, 24),
    ("NVIDIA GeForce RTX 3090", AdapterKind::Discrete, 68_400_000, 24),
    ("NVIDIA H100 80GB HBM3", AdapterKind::Discrete, 391_000_000, 80),
    ("AMD Radeon RX 7900 XTX", AdapterKind::Discrete, 81_300_000, 24),
    ("Apple M2 Ultra", AdapterKind::Integrated, 21_600_000, 0),
    ("NVIDIA A100-SXM4-80GB", AdapterKind::Virtual, 156_000_000, 80),
    ("Tesla T4", AdapterKind::Discrete, 16_100_000, 16),
    ("llvmpipe (LLVM 15.0.6, 256 bits)", AdapterKind::Software, 2_870, 0),
];

pub fn public_gpu(d: &mut Dice, w: &Words, at: usize) -> PublicGpu {
    let (model, kind, rate, gib) = MODELS[at % MODELS.len()];
    let standing = match d.below(12) {
        0 => Standing::Suspect,
        1 | 2 => Standing::Unproven,
        3 if at > 20 => Standing::Quarantined,
        _ => Standing::Proven,
    };
    let proven = standing == Standing::Proven;
    let connected = d.below(9) > 0;
    let hired = connected && proven && d.below(4) == 0;
    let reason = match standing {
        Standing::Proven => "3 of the last 3 proofs carry the claim",
        Standing::Suspect => {
            "2 of the last 3 proofs were slower than the claim allows; run the proof again, guided"
        }
        Standing::Quarantined => "one transcript was answered under two keys",
        _ => "no proof has been accepted yet",
    };
    PublicGpu {
        id: d.gpu_id(),
        label: w.text(if at % 5 == 1 { "Garage rig, left slot" } else { "" }),
        model: w.text(model),
        kind,
        backend: if kind == AdapterKind::Integrated { Backend::Metal } else { Backend::Vulkan },
        memory_bytes: gib << 30,
        standing,
        standing_reason: w.text(reason),
        profile: if proven {
            Profile { matrix_mmacs: rate * (95 + d.below(10)) / 100, memory_bytes: gib.max(1) << 29 }
        } else {
            Profile::default()
        },
        connected,
        rentable: connected && proven && !hired && d.below(3) > 0,
        hired,
        simulated: false,
        registered_at: UnixSeconds(NOW.0 - 86_400 * (3 + d.below(110))),
        last_beat_at: UnixSeconds(NOW.0 - if connected { d.below(90) } else { 4_000 + d.below(80_000) }),
        last_proof_at: if standing == Standing::Unproven {
            UnixSeconds(0)
        } else {
            UnixSeconds(NOW.0 - d.below(7_000))
        },
        uptime_minutes_day: if connected { 1_440 - d.below(60) as u32 } else { d.below(900) as u32 },
        season_share: if proven { MicroCredits(d.below(90_000_000_000)) } else { MicroCredits(0) },
        season_held: MicroCredits(0),
        claimed_model: Text::default(),
    }
}

pub fn public_snapshot(d: &mut Dice, period: u32) -> PublicSnapshot {
    let starts = Minute(NOW.minute().0 / 60 * 60 - (1_412 - period) * 60);
    PublicSnapshot {
        season: 2,
        period,
        starts,
        ends: Minute(starts.0 + 60),
        taken_at: Minute(starts.0 + 65).start().plus(3),
        budget: MicroCredits(250_000_000_000),
        shared: MicroCredits(250_000_000_000),
        gpus: 4_100 + d.below(300) as u32,
        previous_root: if period == 0 { Hash::default() } else { d.hash() },
        root: d.hash(),
    }
}

pub fn season() -> PublicSeason {
    PublicSeason {
        number: 2,
        starts: Minute(NOW.minute().0 - 1_412 * 60),
        ends: Minute(NOW.minute().0 + 748 * 60),
        period_minutes: 60,
        period_budget: MicroCredits(250_000_000_000),
    }
}

pub fn totals() -> NetworkTotals {
    NetworkTotals {
        connected: 5_872,
        proven: 5_214,
        rentable: 3_391,
        hired: 1_604,
        registered: 7_130,
        software_devices: 12,
        simulated: 0,
        as_of: NOW,
    }
}

pub fn explorer_view(w: &Words, rows: usize) -> ExplorerView {
    let mut d = Dice(7);
    let models = MODELS.iter().zip([2_310u64, 1_418, 861, 502, 361, 244, 164, 12]).map(|(m, connected)| {
        let proven = connected * (86 + d.below(12)) / 100;
        ModelRow {
            model: w.text(m.0),
            kind: m.1,
            connected,
            proven,
            rentable: proven * (45 + d.below(40)) / 100,
        }
    });
    let models = models.collect();
    let points = (0..288u64).filter(|i| !(190..197).contains(i)).map(|i| {
        let wave = 5_300 + (i * (287 - i)) / 40 - d.below(70);
        Point { at: UnixSeconds(NOW.0 - (287 - i) * 300), value: if i == 287 { 5_872 } else { wave } }
    });
    let connected_day = Series { points: points.collect(), step: Seconds(300) };
    ExplorerView {
        now: NOW,
        totals: totals(),
        models,
        connected_day,
        gpus: (0..rows).map(|i| public_gpu(&mut d, w, i)).collect(),
        filter: GpuFilter { query: w.0.clone().unwrap_or_default(), standing: None, continued: false },
        next: Some(w.say("cursor-1")),
        season: Some(season()),
        snapshots: (1_408..1_412).rev().map(|p| public_snapshot(&mut d, p)).collect(),
        cosigned: Some(Cosigned {
            entries: 77_000,
            witnesses: 2,
            asked: 3,
            at: Some(UnixSeconds(NOW.0 - 3)),
        }),
    }
}

pub fn empty_explorer() -> ExplorerView {
    ExplorerView {
        now: NOW,
        totals: NetworkTotals { as_of: NOW, ..NetworkTotals::default() },
        models: Vec::new(),
        connected_day: Series::default(),
        gpus: Vec::new(),
        filter: GpuFilter::default(),
        next: None,
        season: None,
        snapshots: Vec::new(),
        cosigned: None,
    }
}

pub fn gpu_view(w: &Words, software: bool) -> GpuView {
    let mut d = Dice(if software { 3 } else { 11 });
    let mut gpu = public_gpu(&mut d, w, if software { 7 } else { 0 });
    gpu.standing = Standing::Proven;
    gpu.standing_reason = w.text("3 of the last 3 proofs carry the claim");
    gpu.registered_at = UnixSeconds(NOW.0 - 86_400 * if software { 0 } else { 74 } - 11_000);
    gpu.connected = true;
    gpu.label = w.text("Garage rig, left slot");
    gpu.profile =
        Profile { matrix_mmacs: if software { 2_870 } else { 141_600_000 }, memory_bytes: 805_306_368 };
    let last = u32::try_from(NOW.0 / 3_600).expect("hours fit until the year 491936");
    let mut down = 0;
    let uptime = (0..90 * 24).map(|back| {
        if down == 0 && d.below(170) == 0 {
            down = 1 + d.below(8);
        }
        let bits = match d.below(26) {
            _ if down > 0 => {
                down -= 1;
                0
            }
            0 => (1 << 12) - 1,
            1 => (1 << 27) - 1,
            2..=4 => (1 << 40) - 1,
            _ => UptimeHour::FULL.0,
        };
        PublicUptime {
            hour: Hour(last - back),
            bits: UptimeHour(bits),
            late: UptimeHour(if back == 30 { 7 & bits } else { 0 }),
            unchained: UptimeHour(0),
        }
    });
    let uptime = uptime.collect();
    let proofs = (0..7u64).map(|i| {
        let accepted = i != 3;
        let proof = PublicProof {
            id: ProofId::from_bytes(d.bytes()),
            gpu: gpu.id,
            judged_at: UnixSeconds(NOW.0 - 1_200 - i * 3_500),
            accepted,
            finding: w.text(if accepted {
                "bits are right; the claim is carried"
            } else {
                "late by 3.1 s against what the claim allows"
            }),
            asked: w.text("4096 x 8"),
            elapsed_millis: 4_300 + d.below(400),
            profile: if accepted { gpu.profile } else { Profile::default() },
        };
        ProofRow { transcript_href: format!("/api/v1/public/proofs/{}", proof.id), proof }
    });
    let proofs = proofs.collect();
    let shares = (1_400..1_412u32)
        .rev()
        .map(|period| ShareRow { snapshot: public_snapshot(&mut d, period), entry: entry(&mut d, gpu.id) });
    let shares = shares.collect();
    let outages = vec![(Hour(last - 40), UptimeHour(0b1111))];
    let epochs = [(true, Some(1_650)), (false, Some(1_650)), (true, None)].map(|(passed, deadline_millis)| {
        let finding = if passed {
            "passed in 1043 ms: 16 MiB held, 128 MB/s read at random, 257 million ALU steps a second, each at least"
        } else {
            "late: filling and reading its memory and the ALU chain took 2300 ms; 1650 ms were allowed"
        };
        EpochRow {
            passed,
            finding: w.text(finding),
            judged_at: UnixSeconds(NOW.0 - 4_000),
            deadline_millis,
            transcript_href: passed.then(|| "/api/v1/public/epochs/prf_1".to_owned()),
        }
    });
    let appeals = vec![AppealRow {
        state: "open",
        opened_at: NOW,
        transcript_href: Some("/api/v1/public/epochs/prf_x".to_owned()),
        quorum: 2,
        verifiers: vec![
            (Text::lossy("One <b>"), Some(true)),
            (Text::lossy("Two"), Some(false)),
            (Text::lossy("Three"), None),
        ],
    }];
    GpuView { now: NOW, gpu, uptime, outages, proofs, epochs: epochs.into(), appeals, shares }
}

fn entry(d: &mut Dice, gpu: GpuId) -> PublicEntry {
    let minutes = 60 - (d.below(20) as u32).saturating_sub(15);
    PublicEntry {
        gpu,
        standing: Standing::Proven,
        matrix_mmacs: 141_600_000 - d.below(90_000_000),
        proof: Some(ProofId::from_bytes(d.bytes())),
        minutes,
        weight: 141_600_000 * minutes as u64,
        share: MicroCredits(d.below(90_000_000)),
    }
}

pub fn snapshots_view(w: &Words) -> SnapshotsView {
    let mut d = Dice(5);
    SnapshotsView {
        now: NOW,
        season: Some(season()),
        snapshots: (1_380..1_412).rev().map(|p| public_snapshot(&mut d, p)).collect(),
        older_from: Some(1_348),
        origin: w.say("https://gangline.example"),
    }
}

pub fn snapshot_view(w: &Words) -> SnapshotView {
    let mut d = Dice(6);
    SnapshotView {
        now: NOW,
        snapshot: public_snapshot(&mut d, 1_411),
        entries: (0..40)
            .map(|_| {
                let id = d.gpu_id();
                entry(&mut d, id)
            })
            .collect(),
        has_later: false,
        data_href: w.say("/api/v1/public/snapshots/1411"),
        origin: w.say("https://gangline.example"),
    }
}

pub fn enter_view(w: &Words) -> EnterView {
    EnterView {
        now: NOW,
        token: w.say("q1w2e3r4t5"),
        role: Role::Supplier,
        name: w.say("North Shed Computing"),
        expires_at: NOW.plus(3_300),
    }
}

pub fn key_request(w: &Words) -> KeyRequest {
    let fact = |name: &str, value: &str| (w.say(name), w.say(value));
    KeyRequest {
        now: NOW,
        enrolment: EnrolmentId::from_bytes([9; 16]),
        code: w.say("KXTR-7WBN"),
        asking: Asking::Machine,
        fingerprint: w.say("SHA256:3f9a 01c2 77de 4b10 9c55 aa0e 6d21 f0b8"),
        facts: vec![
            fact("Host name", "shed-03"),
            fact("System", "Debian GNU/Linux 12, Linux 6.1"),
            fact("Processor", "AMD Ryzen 9 7950X, 32 threads"),
            fact("Memory", "64 GiB"),
            fact("GPUs", "2 x NVIDIA GeForce RTX 4090"),
        ],
        address: Some(w.say("203.0.113.44")),
        asked_at: UnixSeconds(NOW.0 - 48),
        expires_at: NOW.plus(552),
        account: w.say("North Shed Computing"),
    }
}

pub fn api_view(w: &Words) -> ApiView {
    let t = |plain: &str| w.say(plain);
    let answer = |name: &str| serde_json::json!({"description": t("It was found"), "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}}});
    let document = serde_json::json!({
        "openapi": "3.1.0",
        "info": {"title": t("Gangline API"), "version": t("0.1.0"), "description": t("Everything a page shows, as JSON.\n\nRequests of machines and command lines are signed (RFC 9421).")},
        "paths": {
            "/api/v1/network": {"get": {"tags": [t("public")], "summary": t("The network's totals"), "responses": {"200": answer("NetworkTotals")}}},
            "/api/v1/gpus": {"get": {"tags": [t("public")], "summary": t("GPUs, page by page"), "parameters": [
                {"name": t("q"), "in": "query", "schema": {"type": "string", "maxLength": 128}, "description": t("id from its beginning, or part of a model")},
                {"name": "after", "in": "query", "schema": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "description": t("cursor of the page before")}],
                "responses": {"200": {"description": t("One page"), "content": {"application/json": {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/PublicGpu"}}}}}, "400": answer("Missing")}}},
            "/api/v1/gpus/{gpu}/label": {"put": {"tags": [t("supplier")], "summary": t("Name a GPU"), "description": t("Only its own machine or owner may."), "security": [{"signature": []}],
                "parameters": [{"name": "gpu", "in": "path", "required": true, "schema": {"$ref": "#/components/schemas/GpuId"}, "description": t("its id")}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Label"}}}},
                "responses": {"204": {"description": t("It is named so")}, "403": {"description": t("Not yours")}}}}
        },
        "components": {"schemas": {
            "GpuId": {"type": "string", "pattern": "^gpu_[0-7][0-9a-hjkmnp-tv-z]{25}$", "description": t("Id of one GPU.")},
            "Label": {"type": "object", "required": ["label"], "properties": {"label": {"type": "string", "maxLength": 64, "description": t("what it is called")}}},
            "NetworkTotals": {"type": "object", "description": t("Connected is not proven is not rentable."), "required": ["connected"], "properties": {"connected": {"type": "integer", "format": "uint64", "description": t("beat lately")}, "proven": {"type": "integer", "format": "uint64"}}},
            "PublicGpu": {"type": "object", "properties": {"id": {"$ref": "#/components/schemas/GpuId"}, "standing": {"enum": ["unproven", "proven", t("suspect")]}}}
        }}
    });
    ApiView { document, document_href: t("/openapi.json") }
}

pub fn error_view(w: &Words, status: u16) -> ErrorView {
    let (code, message, hint) = match status {
        403 => (
            "not_allowed",
            "Your account may not do that.",
            "Ask the operator, or sign in with another account.",
        ),
        404 => (
            "not_found",
            "There is no page at this address.",
            "Search for the GPU by its id or model, at the top.",
        ),
        429 => ("too_many_requests", "You asked more often than this network answers.", "Wait a little."),
        500 => (
            "internal",
            "The server could not finish that.",
            "Nothing was changed. Tell the operator the reference below.",
        ),
        _ => (
            "unavailable",
            "The server is starting or being drained.",
            "Beats are still taken; pages come back by themselves.",
        ),
    };
    ErrorView {
        status,
        code: w.say(code),
        message: w.say(message),
        hint: Some(w.say(hint)),
        retry_after_seconds: matches!(status, 429 | 503).then_some(30),
        reference: (status == 500).then(|| w.say("inc_0f1e2d3c4b5a69788796a5b4c3")),
    }
}

/// The surroundings of one page.
pub fn chrome(w: &Words, theme: Theme, path: &str, role: Option<Role>) -> Chrome {
    Chrome {
        theme,
        path: path.to_owned(),
        role,
        csrf: role.map(|_| w.say("c5rf-t0ken")),
        provider: Some(w.say("sso.example")),
        passkeys_at: Some(w.say("https://gangline.example")),
        banner: Some(w.say(
            "This network runs on one machine, its GPUs are software devices and a period is one minute.",
        )),
        passwords: true,
        done: role.map(|_| Done::Noted),
    }
}

/// Every page with its file name.
pub fn gallery(w: &Words, theme: Theme) -> Vec<(&'static str, String)> {
    let at = |path: &str, role| chrome(w, theme, path, role);
    let mut plain = at("/", None);
    plain.banner = None;
    let some = |view: ApproveView| approve(&at("/approve", Some(Role::Supplier)), &view);
    let mut pages = vec![
        ("explorer", explorer(&plain, &explorer_view(w, 50))),
        ("explorer-empty", explorer(&at("/?q=none", None), &empty_explorer())),
        ("gpu", gpu(&at("/gpu/gpu_1", None), &gpu_view(w, false))),
        ("gpu-software", gpu(&at("/gpu/gpu_2", None), &gpu_view(w, true))),
        ("snapshots", snapshots(&at("/snapshots", None), &snapshots_view(w))),
        ("snapshot", snapshot(&at("/snapshots/1411", None), &snapshot_view(w))),
        ("enter", enter(&at("/enter/x", None), &enter_view(w))),
        ("approve", some(ApproveView::Type { problem: None, code: String::new() })),
        (
            "approve-wrong",
            some(ApproveView::Type {
                problem: Some(w.say("No request waits for that code; codes last ten minutes.")),
                code: w.say("KXTR-7WBM"),
            }),
        ),
        ("approve-decide", some(ApproveView::Decide(key_request(w)))),
        ("approve-approved", some(ApproveView::Approved(Asking::Machine))),
        ("approve-denied", some(ApproveView::Denied(Asking::CommandLine))),
        ("approvals", approvals(&at("/console/approvals", Some(Role::Operator)), &approvals_view(w))),
        ("security", security(&at("/console/security", Some(Role::Operator)), &security_view(w))),
        ("acts", acts(&at("/console/security/acts", Some(Role::Operator)), &acts_view(w))),
        ("operator", operator(&at("/console", Some(Role::Operator)), &operator_view(w))),
        ("supplier", supplier(&at("/console", Some(Role::Supplier)), &supplier_view(w))),
        ("renter", renter(&at("/console", Some(Role::Renter)), &renter_view(w))),
        ("account", account(&at("/account", Some(Role::Operator)), &account_view(w))),
        ("sign-out", sign_out(&at("/signin", None))),
        (
            "sign-in",
            sign_in(
                &at("/console", None),
                &SignInView { reason: w.0.clone(), again: true, has_account: true },
            ),
        ),
        ("api", api(&at("/api", None), &api_view(w))),
    ];
    for (name, status) in
        [("error-403", 403), ("error-404", 404), ("error-429", 429), ("error-500", 500), ("error-503", 503)]
    {
        pages.push((name, error(&at("/nowhere", None), &error_view(w, status))));
    }
    pages
}

fn account_view(w: &Words) -> AccountView {
    let passkey = |n: u8, used_at| PasskeyRow {
        id: PasskeyId::from_bytes([n; 16]),
        name: w.say("laptop"),
        created_at: UnixSeconds(NOW.0 - 90_000),
        used_at,
    };
    let session = |n: u8, how: &str| SessionRow {
        id: SessionId::from_bytes([n; 16]),
        how: w.say(how),
        created_at: UnixSeconds(NOW.0 - 9_000),
        seen_at: UnixSeconds(NOW.0 - 60),
        is_this: n == 3,
    };
    AccountView {
        now: NOW,
        name: w.say("North Shed Computing"),
        password: Some(Some(w.say("ada.l"))),
        passkeys_at: Some(w.say("https://gangline.example")),
        passkeys: vec![passkey(1, None), passkey(2, Some(NOW))],
        lacks_a_factor: true,
        sessions: vec![session(3, "passkey"), session(4, "link")],
    }
}
