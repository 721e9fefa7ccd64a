//! The task behind the noticer: shows events to the detectors, writes incidents down, freezes by rule.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use gangline_guard::{
    Actor, Job, Permit, act,
    notice::{Owned, Raised, Seen, Severity, Watch, replay::Shown},
    permit::permit,
    policy::on,
};
use gangline_store::{NewFreeze, NewIncident, NotedIncident, Store};
use gangline_types::{AccountId, FreezeId, IncidentId, MachineId, UnixSeconds};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Event, FreezeView, record::Recording};
use crate::{config::Notice, edge, error::ApiError, metrics::Metrics, panics::caught};

/// Events looked at in one go.
const BATCH: usize = 512;
/// A repeat waits at most so long before it is written down; the first of its kind waits for nothing.
const FOLD_MILLIS: u64 = 250;
/// How often time alone is looked at.
const TICK_MILLIS: u64 = 1_000;
/// How long it is remembered how many GPUs somebody has, in seconds, and for how many.
const OWNED_SECONDS: u64 = 60;
const OWNERS_MAX: usize = 10_000;
/// Machines that beat within this are the fleet, and those that have not within that are missing, in seconds.
const FLEET_SECONDS: u64 = 3_600;
const MISSING_SECONDS: u64 = 180;

type Owner = (Option<MachineId>, AccountId);

/// What the task holds.
pub(super) struct Work {
    config: Notice,
    store: Store,
    metrics: Arc<Metrics>,
    freezes: FreezeView,
    watch: Arc<Mutex<Watch>>,
    owned: HashMap<Owner, (UnixSeconds, Owned)>,
    pending: BTreeMap<(&'static str, String), (Raised, u64)>,
    minute: u64,
    recording: Option<Recording>,
}

fn watcher(now: UnixSeconds) -> Result<Permit<act::Watch>, ApiError> {
    Ok(permit::<act::Watch>(&Actor::job(Job::Watcher), on::Network, now)?)
}

impl Work {
    pub(super) fn new(
        config: Notice,
        store: Store,
        metrics: Arc<Metrics>,
        freezes: FreezeView,
        watch: Arc<Mutex<Watch>>,
        recording: Option<Recording>,
    ) -> Self {
        let (owned, pending) = (HashMap::new(), BTreeMap::new());
        Self { config, store, metrics, freezes, watch, owned, pending, minute: 0, recording }
    }

    /// Works until `stop`, and then through what is left.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MILLIS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut written = Instant::now() - Duration::from_millis(FOLD_MILLIS);
        let mut failing = false;
        loop {
            let fold = written + Duration::from_millis(FOLD_MILLIS);
            let ended = tokio::select! {
                taken = events.recv_many(&mut batch, BATCH) => taken == 0,
                () = tokio::time::sleep_until(fold), if !self.pending.is_empty() => false,
                _ = tick.tick() => {
                    let _ = caught(self.tick()).await;
                    false
                }
                () = stop.cancelled() => true,
            };
            while ended && let Ok(event) = events.try_recv() {
                batch.push(event);
            }
            for event in batch.drain(..) {
                // One event that we have a mistake over is not looked at; those after it are.
                let _ = caught(self.look(event)).await;
            }
            if !self.pending.is_empty() && (ended || Instant::now() >= fold) {
                match caught(self.write())
                    .await
                    .unwrap_or_else(|broke_off| Err(ApiError::BrokeOff(broke_off)))
                {
                    Ok(()) => failing = false,
                    // Kept, and tried again with the next.
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            tracing::error!(
                                error = &error as &dyn std::error::Error,
                                "incidents could not be written down; will be tried again"
                            );
                        }
                    }
                }
                written = Instant::now();
            }
            if ended {
                if let Some(recording) = &mut self.recording {
                    recording.flush();
                }
                return;
            }
        }
    }

    async fn look(&mut self, event: Event) {
        match event {
            Event::Seen(seen) => {
                let owned = self.owned(&seen).await;
                self.record(|| Shown::Seen { seen: seen.clone(), owned });
                let raised = self.with(|watch| watch.saw(&seen, owned));
                self.raise(raised);
            }
            Event::Judged { at, claims, failed } => {
                self.record(|| Shown::Judged { at, claims: claims.clone(), failed });
                let raised = self.with(|watch| watch.judged(at, &claims, failed));
                self.raise(raised);
            }
        }
    }

    fn record(&mut self, shown: impl FnOnce() -> Shown) {
        if let Some(recording) = &mut self.recording
            && !recording.add(&shown())
        {
            self.recording = None;
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Watch) -> T) -> T {
        look(&mut self.watch.lock().unwrap_or_else(|e| e.into_inner()))
    }

    fn raise(&mut self, raised: impl IntoIterator<Item = Raised>) {
        for raised in raised {
            let of = (raised.alarm.what.code(), raised.subject.to_string());
            let pending = self.pending.entry(of).or_insert_with(|| (raised.clone(), 0));
            pending.1 += 1;
            let seen = pending.0.alarm.seen.max(raised.alarm.seen);
            pending.0 = raised;
            pending.0.alarm.seen = seen;
        }
    }

    /// How many GPUs whoever asked has; looked up only where it matters, and not again within a minute.
    async fn owned(&mut self, seen: &Seen) -> Owned {
        let Some(account) = seen.account.filter(|_| seen.asked.iter().any(|asked| asked.gpu.is_some()))
        else {
            return Owned::default();
        };
        let owner = (seen.machine, account);
        if let Some((at, owned)) = self.owned.get(&owner)
            && seen.at.since(*at) < OWNED_SECONDS
        {
            return *owned;
        }
        let counted = match watcher(seen.at) {
            Ok(permit) => self.store.gpus_owned(&permit, seen.machine, account).await.ok(),
            Err(_) => None,
        };
        // Could not ask is not "none": nobody is told of for it.
        let (key, account) = counted.unwrap_or((u64::MAX, u64::MAX));
        if self.owned.len() >= OWNERS_MAX {
            self.owned.retain(|_, (at, _)| seen.at.since(*at) < OWNED_SECONDS);
        }
        let owned = Owned { key, account };
        if self.owned.len() < OWNERS_MAX && counted.is_some() {
            self.owned.insert(owner, (seen.at, owned));
        }
        owned
    }

    /// A second passed.
    async fn tick(&mut self) {
        let now = edge::now();
        if let Err(error) = self.freezes.reload(&self.store).await {
            tracing::warn!(%error, "what is frozen could not be read again; what was known stays");
        }
        if std::mem::replace(&mut self.minute, now.0 / 60) == now.0 / 60 {
            return;
        }
        self.record(|| Shown::Minute { at: now });
        let raised = self.with(|watch| watch.minute(now));
        self.raise(raised);
        // Who has not beaten since the books were brought up to date is not missing yet.
        let until = self.metrics.beats_until.load(Ordering::Relaxed).min(now.0);
        let ago = |seconds| UnixSeconds(until.saturating_sub(seconds));
        let Ok(permit) = watcher(now) else { return };
        match self.store.missing_machines(&permit, ago(FLEET_SECONDS), ago(MISSING_SECONDS)).await {
            Ok((machines, missing)) => {
                self.record(|| Shown::Coverage { at: now, machines, missing });
                let raised = self.with(|watch| watch.coverage(now, machines, missing));
                self.raise(raised);
            }
            Err(error) => tracing::warn!(%error, "machines could not be counted this minute"),
        }
    }

    /// Writes down what was raised, and freezes what the rules say.
    async fn write(&mut self) -> Result<(), ApiError> {
        while let Some((of, (raised, count))) = self.pending.pop_first() {
            if let Err(error) = self.write_one(&raised, count).await {
                self.pending.insert(of, (raised, count));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write_one(&self, raised: &Raised, count: u64) -> Result<(), ApiError> {
        let now = edge::now();
        let permit = watcher(now)?;
        let new = NewIncident { id: IncidentId::from_bytes(edge::random()), raised: raised.clone(), count };
        let noted = self.store.note_incident(&permit, &new).await?;
        self.metrics.alarms.fetch_add(count, Ordering::Relaxed);
        if self.config.freeze_by_rule
            && let Some((target, seconds)) = raised.freeze()
            && self.freezes.current().on(&target, now).is_none()
        {
            let freeze = NewFreeze {
                id: FreezeId::from_bytes(edge::random()),
                target,
                until: Some(now.plus(seconds)),
                reason: format!("{} by {}", raised.alarm.what.code(), raised.subject),
                incident: Some(noted.id),
            };
            let id = self.store.freeze_by_rule(&permit, &freeze).await?;
            self.freezes.reload(&self.store).await?;
            tracing::warn!(freeze = %id, incident = %noted.id, %target, seconds, "frozen by rule");
        }
        if noted.opened {
            self.tell(raised, &noted);
        }
        Ok(())
    }

    /// Tells people of a new incident.
    fn tell(&self, raised: &Raised, noted: &NotedIncident) {
        let (key, account) = (raised.key.map(|k| k.to_string()), raised.account.map(|a| a.to_string()));
        let action = raised.action.map(|action| action.as_str());
        let severity = raised.severity();
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    incident = %noted.id,
                    what = raised.alarm.what.code(),
                    severity = severity.as_str(),
                    subject = %raised.subject,
                    key, account, action,
                    resource = raised.resource,
                    count = noted.count,
                    seen = raised.alarm.seen,
                    usual = raised.alarm.usual,
                    "an incident was opened"
                )
            };
        }
        match severity {
            Severity::Notice => log!(info),
            Severity::Warning => log!(warn),
            Severity::Urgent => log!(error),
        }
    }
}
