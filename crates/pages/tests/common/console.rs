//! Made-up views of the three consoles.

use gangline_types::{
    cluster::ClusterState,
    receipt::{EndedBecause, Receipt},
};

use super::*;

fn key_rows(d: &mut Dice, w: &Words, count: u64) -> Vec<KeyRow> {
    let names = ["shed-03", "shed-04", "laptop", "ci-runner"];
    (0..count)
        .map(|i| KeyRow {
            id: KeyId::from_bytes(d.bytes()),
            kind: w.say(if i % 3 == 2 { "command line" } else { "machine" }),
            name: w.say(names[i as usize % names.len()]),
            fingerprint: w.say(&format!("{:08x} {:08x}", d.below(1 << 32), d.below(1 << 32))),
            account: w.say("North Shed Computing"),
            enrolled_at: UnixSeconds(NOW.0 - 400_000 - i * 86_000),
            last_used_at: UnixSeconds(if i == 3 { 0 } else { NOW.0 - 20 * i }),
            revoked_at: (i == 1).then_some(UnixSeconds(NOW.0 - 7_000)),
            follows: (i % 2 == 0).then(|| KeyId::from_bytes(d.bytes())),
            ends_at: [None, None, Some(UnixSeconds(NOW.0 + 600)), Some(UnixSeconds(NOW.0 - 600))]
                [i as usize % 4],
        })
        .collect()
}

fn cluster_rows(d: &mut Dice, w: &Words) -> Vec<ClusterRow> {
    let states = [
        ClusterState::Running,
        ClusterState::Starting,
        ClusterState::Released,
        ClusterState::Failed,
        ClusterState::Releasing,
        ClusterState::Lost,
    ];
    let rows = states.iter().enumerate().map(|(i, state)| {
        let ended = state.is_over();
        ClusterRow {
            id: ClusterId::from_bytes(d.bytes()),
            state: *state,
            detail: w.say(if *state == ClusterState::Failed {
                "the head did not come up in 150 s"
            } else {
                ""
            }),
            gpu: d.gpu_id(),
            model: w.say(MODELS[i].0),
            account: w.say("Fjord Labs"),
            asked_at: UnixSeconds(NOW.0 - 900 - 5_000 * i as u64),
            until: NOW.plus(7_200),
            ended_at: ended.then_some(UnixSeconds(NOW.0 - 400 * i as u64)),
            gpu_seconds: Seconds(if i == 1 { 0 } else { 780 + d.below(5_000) }),
            price_per_hour: MicroCredits(340_000),
            cost: MicroCredits(if i == 1 { 0 } else { d.below(700_000) }),
        }
    });
    rows.collect()
}

pub fn operator_view(w: &Words) -> OperatorView {
    let mut d = Dice(9);
    let refusal = |i: u64, reason: &str, action: &str, key: &str, resource: &str| RefusalRow {
        at: UnixSeconds(NOW.0 - 12 - i * 47),
        reason: w.say(reason),
        action: w.say(action),
        key: w.say(key),
        resource: w.say(resource),
        address: w.say("198.51.100.7"),
        count: 1 + i * 900,
    };
    let refusals = vec![
        refusal(
            0,
            "not_owner",
            "gpu.label.write",
            "key_1q5k9vt0e8r6a2n4m7c3x0b1dz",
            "gpu_7h3k2m9c0v5w8x1z4a6b2d3e4f",
        ),
        refusal(
            1,
            "replayed",
            "machine.beat",
            "key_1q5k9vt0e8r6a2n4m7c3x0b1dz",
            "mach_2b4d6f8h0j1k3m5n7p9q0r2s4t",
        ),
        refusal(2, "bad_signature", "machine.beat", "nobody", "<script>alert(document.cookie)</script>"),
        refusal(3, "malformed", "gpu.read", "nobody", "' UNION SELECT owner FROM gpus --"),
        refusal(4, "expired_code", "key.approve", "session", "KXTR-7WBN"),
        refusal(5, "unknown_id", "gpu.read", "nobody", "\u{202e}gpu_txet-desrever"),
    ];
    let names = ["North Shed Computing", "Fjord Labs", "Ada", "Bench & Sons"];
    let roles = [Role::Supplier, Role::Renter, Role::Operator, Role::Supplier];
    let accounts = (0..4u64).map(|i| AccountRow {
        id: AccountId::from_bytes(d.bytes()),
        name: w.say(names[i as usize]),
        role: roles[i as usize],
        machines: if roles[i as usize] == Role::Supplier { 3 + i } else { 0 },
        clusters: u64::from(i == 1),
        created_at: UnixSeconds(NOW.0 - 90_000 * (i + 1)),
        last_seen_at: UnixSeconds(if i == 3 { 0 } else { NOW.0 - 300 * i }),
    });
    OperatorView {
        now: NOW,
        approvals: 2,
        fresh_link: Some(FreshLink {
            role: Role::Supplier,
            name: w.say("North Shed Computing"),
            url: w.say("https://gangline.example/enter/9f8e7d6c5b4a39281706f5e4d3c2b1a0"),
            expires_at: NOW.plus(86_400),
        }),
        totals: totals(),
        machines: MachineCounts { registered: 2_410, connected: 2_048 },
        accounts: accounts.collect(),
        refusals,
        incidents: 2,
        freezes: 1,
        refusals_day: 1_284,
        keys: key_rows(&mut d, w, 4),
        clusters: cluster_rows(&mut d, w),
    }
}

pub fn supplier_view(w: &Words) -> SupplierView {
    let mut d = Dice(13);
    let states = [MachineState::Connected, MachineState::Paused, MachineState::Away];
    let machines = states.iter().enumerate().map(|(i, state)| MachineRow {
        id: MachineId::from_bytes(d.bytes()),
        name: w.say(&format!("shed-0{}", i + 3)),
        state: *state,
        worker_version: w.say("0.1.0"),
        facts: w.say("Debian 12, 32 threads, 64 GiB"),
        last_beat_at: UnixSeconds(NOW.0 - 20 - 4_000 * i as u64),
        gpus: (0..(2 - i.min(2))).map(|k| public_gpu(&mut d, w, i * 7 + k)).collect(),
    });
    let machines: Vec<MachineRow> = machines.collect();
    let gpus: Vec<GpuId> = machines.iter().flat_map(|m| &m.gpus).map(|g| g.id).collect();
    let lines = (1_404..1_412u32).rev().flat_map(|period| gpus.iter().map(move |gpu| (period, *gpu)));
    let lines: Vec<_> = lines
        .map(|(period, gpu)| StatementLine {
            period,
            gpu,
            minutes: 60,
            share: MicroCredits(d.below(90_000_000)),
            inclusion: InclusionProof {
                group: String::new(),
                index: 411,
                leaves: 4_191,
                path: (0..13).map(|_| d.hash()).collect(),
            },
        })
        .collect();
    SupplierView {
        now: NOW,
        origin: w.say("https://gangline.example"),
        totals: totals(),
        machines_in_all: 120,
        continued: true,
        next: machines.last().map(|last| last.id),
        machines,
        keys: key_rows(&mut d, w, 3),
        statement: Statement {
            season: 2,
            total: MicroCredits(84_214_000_771),
            held: MicroCredits(1_500_000),
            lines,
            more: true,
        },
    }
}

pub fn renter_view(w: &Words) -> RenterView {
    let mut d = Dice(17);
    let whys = [EndedBecause::Released, EndedBecause::HoursOver, EndedBecause::MachineLost];
    let receipts = whys.iter().enumerate().map(|(i, because)| ReceiptRow {
        receipt: Receipt {
            cluster: ClusterId::from_bytes(d.bytes()),
            gpu: d.gpu_id(),
            started_at: Some(UnixSeconds(NOW.0 - 90_000 * (i as u64 + 1))),
            ended_at: UnixSeconds(NOW.0 - 90_000 * (i as u64 + 1) + 4_211),
            used: Seconds(4_211),
            price_per_hour: MicroCredits(340_000),
            cost: MicroCredits(397_705),
            because: *because,
        },
        hash: d.hash(),
    });
    let receipts = receipts.collect();
    RenterView {
        now: NOW,
        origin: w.say("https://gangline.example"),
        totals: totals(),
        clusters: cluster_rows(&mut d, w),
        receipts,
        keys: key_rows(&mut d, w, 2),
    }
}

pub fn security_view(w: &Words) -> SecurityView {
    let mut d = Dice(11);
    let states = ["open", "acknowledged", "closed"];
    let incidents = states.iter().enumerate().map(|(i, state)| IncidentRow {
        id: IncidentId::from_bytes(d.bytes()),
        what: w.say("foreign touch"),
        subject: w.say("key_1q5k9vt0e8r6a2n4m7c3x0b1dz"),
        severity: "urgent".into(),
        state: (*state).into(),
        opened_at: UnixSeconds(NOW.0 - 900),
        last_at: UnixSeconds(NOW.0 - 12 - i as u64),
        count: 10_000 / (1 + i as u64),
        account: w.say("acct_1q5k9vt0e8r6a2n4m7c3x0b1dz"),
        from: w.say("198.51.100.0/24"),
        action: w.say("label_gpu"),
        resource: w.say("gpu_7h3k2m9c0v5w8x1z4a6b2d3e4f"),
        note: w.say(if i == 0 { "" } else { "a script of a former owner" }),
    });
    let incidents = incidents.collect();
    let freezes = [(None, None), (Some(NOW.plus(86_400)), None), (None, Some(UnixSeconds(NOW.0 - 5)))];
    let freezes = freezes.iter().map(|(until, over)| FreezeRow {
        id: FreezeId::from_bytes(d.bytes()),
        target: w.say("key_1q5k9vt0e8r6a2n4m7c3x0b1dz"),
        since: UnixSeconds(NOW.0 - 700),
        until: *until,
        made_by: w.say("job watcher"),
        reason: w.say("foreign_touch by key_1q5k9vt0e8r6a2n4m7c3x0b1dz"),
        over: *over,
    });
    let freezes = freezes.collect();
    let deliveries = ["dead", "waiting", "sent"].iter().map(|state| DeliveryRow {
        id: DeliveryId::from_bytes(d.bytes()),
        outlet: "webhook".into(),
        subject: w.say("[gangline] opened, urgent: foreign touch by key_1q5k9vt0e8r6a2n4m7c3x0b1dz"),
        made_at: UnixSeconds(NOW.0 - 800),
        state: (*state).into(),
        tries: 10,
        due_at: NOW.plus(40),
        settled_at: (*state != "waiting").then_some(UnixSeconds(NOW.0 - 30)),
        error: w.say("ops.example answered 500"),
    });
    SecurityView {
        now: NOW,
        witnesses: ["cosigns", "refuses"]
            .iter()
            .map(|state| WitnessRow {
                name: w.say("gangline.witness/0a1b2c3d"),
                at: w.say("witness.example"),
                state: (*state).into(),
                size: 77_000,
                cosigned_at: (*state == "cosigns").then_some(UnixSeconds(NOW.0 - 3)),
                error: w.say(if *state == "cosigns" { "" } else { "the log was forked" }),
            })
            .collect(),
        outlets: vec![("webhook".into(), w.say("https://ops.example"))],
        deliveries: deliveries.collect(),
        incidents,
        closed: true,
        freezes,
        stop: Some(StopPreview {
            target: w.say("label_gpu"),
            minutes: 15,
            keys: 3,
            accounts: 1,
            machines: 2,
            requests: 411,
        }),
        refusals: operator_view(w).refusals,
        older: Some(77),
        problem: Some(w.say("That is no id of a key or an account.")),
        who: w.say("key_1"),
        action: w.say("label_gpu"),
        code: w.say("not_found"),
        hours: Some(24),
    }
}

pub fn acts_view(w: &Words) -> ActsView {
    let act = |n: u64| ActRow {
        at: UnixSeconds(NOW.0 - 60 * n),
        actor: w.say("key_1q5k9vt0e8r6a2n4m7c3x0b1dz"),
        account: w.say("acct_1q5k9vt0e8r6a2n4m7c3x0b1dz"),
        action: w.say("label_gpu"),
        resource: w.say("gpu_7h3k2m9c0v5w8x1z4a6b2d3e4f"),
        reason: w.say("a machine names its own GPUs"),
        detail: w.say("is called shed-03"),
    };
    ActsView {
        acts: (0..3).map(act).collect(),
        older: Some(77),
        problem: Some(w.say("That is no id of a key or an account.")),
        who: w.say("key_1"),
        action: w.say("label_gpu"),
        on: w.say("gpu_1"),
        hours: Some(24),
        until: Some(1),
    }
}

pub fn approvals_view(w: &Words) -> ApprovalsView {
    let mut d = Dice(23);
    let mut row = |n: u64, key: bool, state: ApprovalState| ApprovalRow {
        id: ApprovalId::from_bytes(d.bytes()),
        act: w.say("lift a freeze"),
        what: w.say("frz_1q5k9vt0e8r6a2n4m7c3x0b1dz of fleet"),
        account: w.say("Olga"),
        key: key.then(|| (w.say("laptop"), w.say("0123abcd 4567ef01"))),
        asked_at: UnixSeconds(NOW.0 - 100 * n),
        approver: w.say("another operator"),
        state,
    };
    let (by, until) = (w.say("Ben"), NOW.plus(3_000));
    let field = (w.say("name"), w.say("Dora"));
    let form = Some(("/console/invite".to_owned(), vec![field]));
    let at = UnixSeconds(NOW.0 - 50);
    let rows = vec![
        row(1, true, ApprovalState::Waiting { until, may_approve: true }),
        row(2, false, ApprovalState::Waiting { until, may_approve: false }),
        row(3, false, ApprovalState::Approved { by: by.clone(), from: at, until, form }),
        row(4, true, ApprovalState::Approved { by: by.clone(), from: NOW.plus(60), until, form: None }),
        row(5, true, ApprovalState::Declined { by: by.clone(), at }),
        row(6, false, ApprovalState::Done { by, at }),
        row(7, false, ApprovalState::Lapsed),
    ];
    ApprovalsView { now: NOW, rows }
}
