//! Signs of life: one a minute for each GPU, kept on disk until the server has acknowledged it.
//!
//! A beat leaves the buffer only when the server said that it is credited or refused for good. What a
//! failed request did is unknown, so it is sent again: a beat repeated is the same bit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use gangline_types::{GpuId, KeyId, Minute};
use gangline_wire::{
    api::machine::{BEATS_MAX, BeatReport, MinuteBeat},
    beat::{FRAMES_MAX, Outcome, WorkerVersion},
    endpoints::{BeatEpoch, Beats},
};
use serde::{Deserialize, Serialize};

use super::{
    backoff::{Backoff, random},
    carrier::{Asked, Carrier},
    data::{BEATS, DataDir, DataError},
    inventory::version,
    lane::{self, Frame, Lane},
    shared::{Shared, now},
};
use crate::client::{self, ClientError};

/// Minutes kept at most: a day, which is as many as one report carries.
const KEPT_MINUTES_MAX: usize = BEATS_MAX;
/// One report's body is at most 256 KiB; as JSON a minute takes 33 bytes and each GPU of it 33 more.
const BATCH_BYTES_MAX: usize = 250 * 1024;
const MINUTE_BYTES: usize = 36;
const GPU_BYTES: usize = 34;
/// A machine's beats come this much after the minute's start, always at the same place for one key, so
/// that a fleet's beats are spread and none falls into the next minute.
const SPREAD_MILLIS: u64 = 40_000;
/// And a little at random.
const JITTER_MILLIS: u64 = 2_000;

/// Frames sent at once: a datagram each, or one request.
const FRAMES_AT_ONCE: usize = 16;
/// How long a server that knows no frames is not asked for a lane again.
const REPORTS_FOR: Duration = Duration::from_secs(600);

/// Beats that were not acknowledged, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Buffer {
    minutes: BTreeMap<u32, BTreeSet<GpuId>>,
}

impl Buffer {
    pub(crate) fn load(data: &DataDir) -> Result<Self, DataError> {
        let mut buffer: Self = data.read_json(BEATS)?.unwrap_or_default();
        buffer.bound();
        Ok(buffer)
    }

    pub(crate) fn store(&self, data: &DataDir) -> Result<(), DataError> {
        data.write_json(BEATS, self, true)
    }

    /// These GPUs were alive in this minute.
    pub(crate) fn add(&mut self, minute: Minute, gpus: impl IntoIterator<Item = GpuId>) {
        let mut gpus = gpus.into_iter().peekable();
        if gpus.peek().is_some() {
            self.minutes.entry(minute.0).or_default().extend(gpus);
        }
        self.bound();
    }

    /// The oldest go when there are more than a day's.
    fn bound(&mut self) {
        while self.minutes.len() > KEPT_MINUTES_MAX {
            self.minutes.pop_first();
        }
    }

    /// Minutes kept.
    pub(crate) fn len(&self) -> usize {
        self.minutes.len()
    }

    /// The oldest beats, as many as one report takes.
    pub(crate) fn batch(&self) -> Vec<MinuteBeat> {
        let beat = |(minute, gpus): (&u32, &BTreeSet<GpuId>)| MinuteBeat {
            minute: Minute(*minute),
            gpus: gpus.iter().copied().collect(),
        };
        let mut bytes = 0;
        let fits = |(_, gpus): &(&u32, &BTreeSet<GpuId>)| {
            bytes += MINUTE_BYTES + GPU_BYTES * gpus.len();
            bytes <= BATCH_BYTES_MAX
        };
        self.minutes.iter().take(BEATS_MAX).take_while(fits).map(beat).collect()
    }

    /// The server answered for this batch: nothing of it is sent again.
    pub(crate) fn acknowledged(&mut self, batch: &[MinuteBeat]) {
        for beat in batch {
            if let Some(gpus) = self.minutes.get_mut(&beat.minute.0) {
                gpus.retain(|gpu| !beat.gpus.contains(gpu));
                if gpus.is_empty() {
                    self.minutes.remove(&beat.minute.0);
                }
            }
        }
    }
}

/// Where in the minute this key beats, in milliseconds.
pub(crate) fn place_in_minute(key: KeyId, random: u64) -> u64 {
    let [a, b, c, d, ..] = *key.as_bytes();
    u32::from_be_bytes([a, b, c, d]) as u64 % SPREAD_MILLIS + random % JITTER_MILLIS
}

/// Why sending ended before nothing was left.
enum Broke {
    /// The server was not reached, or refused.
    Failed(ClientError),
    /// It said to come back after a while.
    Wait(Duration),
}

impl From<ClientError> for Broke {
    fn from(error: ClientError) -> Self {
        Self::Failed(error)
    }
}

/// What beating keeps besides the buffer.
struct Way {
    lane: Option<Lane>,
    /// The lane before, which vouches for a question for the next.
    before: Option<Lane>,
    carrier: Carrier,
    /// The server knows no frames: reports until then.
    reports_until: Option<tokio::time::Instant>,
}

impl Way {
    fn load(data: &DataDir) -> Self {
        let lane = Lane::load(data).unwrap_or_else(|e| {
            // Another is had by asking.
            tracing::warn!(error = super::preflight::chain(&e), "the lane of beats could not be read");
            None
        });
        Self { lane, before: None, carrier: Carrier::default(), reports_until: None }
    }

    /// The lane is of no use any more, but to vouch for the next.
    fn leave(&mut self) {
        self.before = self.lane.take().or(self.before.take());
    }
}

/// Sends what is buffered, a batch at a time; returns when nothing is left.
///
/// # Errors
/// At the first failure; what was acknowledged before it is gone from the buffer.
async fn send(shared: &Shared, buffer: &mut Buffer, way: &mut Way) -> Result<(), Broke> {
    let mut openings = 0;
    while buffer.len() > 0 {
        if way.reports_until.is_some_and(|until| tokio::time::Instant::now() < until) {
            return Ok(send_reports(shared, buffer).await?);
        }
        let present: BTreeSet<GpuId> = shared.gpus().into_iter().map(|(gpu, _)| gpu).collect();
        let fits = |lane: &&mut Lane| !lane.is_over(now(), place_in_epoch(shared)) && lane.has(&present);
        let lane = match way.lane.as_mut().filter(fits) {
            Some(lane) => lane,
            None if openings < 2 => {
                openings += 1;
                // The lane that ends says all it has to say, or is left for the next try: nothing shows its chains later. Minutes
                // are sent under the next one too.
                if let Some(lane) = way.lane.as_mut().filter(|lane| lane.counts(now())) {
                    let last = frames(buffer, lane, true);
                    keep(shared, lane);
                    if !last.is_empty() {
                        way.carrier.carry(&shared.client, lane, &last).await?;
                    }
                }
                way.leave();
                match open(shared, buffer, &present, way).await? {
                    Some(lane) => way.lane.insert(lane),
                    None => {
                        way.reports_until = Some(tokio::time::Instant::now() + REPORTS_FOR);
                        continue;
                    }
                }
            }
            None => {
                return Err(shared.client.unexpected("no lane for beats, twice".to_owned()).into());
            }
        };
        let sent = frames(buffer, lane, false);
        if sent.is_empty() {
            // GPUs that are not in this machine any more: the server says so, and they are forgotten.
            return Ok(send_reports(shared, buffer).await?);
        }
        keep(shared, lane);
        let carried = way.carrier.carry(&shared.client, lane, &sent).await?;
        shared.reached();
        let mut again = carried.unknown;
        let mut wait = None;
        let before = buffer.len();
        for answer in &carried.answers {
            let gpus = lane.gpus(answer.gpus);
            let beat = MinuteBeat { minute: answer.minute, gpus: gpus.iter().copied().collect() };
            match answer.outcome {
                Outcome::Durable => {
                    sent.iter().filter(|f| answer.answers(&f.beat)).for_each(|f| lane.shown(f.beat.link));
                    buffer.acknowledged(&[beat]);
                    shared.update(|s| {
                        s.beats_credited += gpus.len() as u64;
                        s.beat_acknowledged = s.beat_acknowledged.max(Some(answer.minute));
                        s.beat_acknowledged_at = Some(now());
                    });
                }
                Outcome::TooLate => {
                    tracing::warn!(
                        minute = answer.minute.0,
                        "a beat was refused: its minute ended over six hours ago"
                    );
                    buffer.acknowledged(&[beat]);
                }
                Outcome::TooEarly => {
                    let ahead = now().since(answer.server_time);
                    let why = format!(
                        "this machine's clock is {ahead} s ahead of the server's; beats wait until that is right (hint: set the clock)"
                    );
                    tracing::error!(why, "the server refuses this machine's clock");
                    shared.update(|s| s.clock_problem = Some(why));
                    wait = Some(Duration::from_secs(30));
                }
                Outcome::OpenAgain => again = true,
                Outcome::Busy => {
                    wait = Some(Duration::from_secs(u64::from(answer.wait_seconds.clamp(1, 600))))
                }
            }
        }
        lane.keep(|minute| buffer.minutes.contains_key(&minute));
        keep(shared, lane);
        if again {
            way.leave();
        }
        if let Err(e) = buffer.store(&shared.data) {
            // They will be sent again after a restart, which changes nothing.
            tracing::error!(
                error = super::preflight::chain(&e),
                "could not note which beats were acknowledged"
            );
        }
        shared.update(|s| s.beats_buffered = buffer.len() as u32);
        match wait {
            Some(wait) => return Err(Broke::Wait(wait)),
            // No answer to any of them.
            None if !again && before == buffer.len() && carried.answers.is_empty() => {
                return Err(shared.client.unexpected("no answer to beats".to_owned()).into());
            }
            None => {}
        }
    }
    Ok(())
}

/// This machine's own place in an epoch.
fn place_in_epoch(shared: &Shared) -> u64 {
    let key = shared.client.key().map_or(KeyId::from_bytes([0; 16]), |k| k.public().id());
    let [a, b, c, d, ..] = *key.as_bytes();
    u64::from(u32::from_be_bytes([a, b, c, d]))
}

fn keep(shared: &Shared, lane: &Lane) {
    if let Err(e) = lane.store(&shared.data) {
        tracing::error!(error = super::preflight::chain(&e), "the lane of beats could not be kept on disk");
    }
}

/// Frames for the oldest minutes, as many as one request takes.
fn frames(buffer: &Buffer, lane: &mut Lane, closing: bool) -> Vec<Frame> {
    let worker = WorkerVersion::of(version().as_str());
    let mut frames = Vec::new();
    for (minute, gpus) in &buffer.minutes {
        let known = lane.known(gpus);
        if known.is_empty() {
            continue;
        }
        let Some(frame) = lane.frame(Minute(*minute), &known, worker) else { break };
        frames.push(frame);
        if frames.len() == FRAMES_AT_ONCE {
            break;
        }
    }
    // At an hour's end, and before another lane, every GPU's chain is shown up to its last beat.
    if let Some(last) = frames.last().map(|f| f.beat.minute)
        && (closing || last.of_hour() == 59)
    {
        frames.extend(lane.closing(last, worker, FRAMES_MAX - frames.len()));
    }
    frames
}

/// Proves the key for another lane; none where the server knows no frames.
async fn open(
    shared: &Shared,
    buffer: &Buffer,
    present: &BTreeSet<GpuId>,
    way: &mut Way,
) -> Result<Option<Lane>, Broke> {
    let Some(key) = shared.client.key() else { return Ok(None) };
    let gpus: Vec<GpuId> = present.iter().copied().take(64).collect();
    let oldest = buffer.minutes.keys().next().map_or(now().minute(), |minute| Minute(*minute));
    let (request, opening) = lane::ask(&key, &gpus, oldest, now(), || {
        let mut seed = [0; 32];
        // Without randomness there is no chain; the process ends as it would for a key.
        getrandom::fill(&mut seed).expect("the system gives randomness");
        seed
    });
    if let Some(before) = way.before.as_ref().filter(|before| before.vouches(now())) {
        match way.carrier.open(&shared.client, before, &request).await {
            Asked::Granted(grant) => return Ok(opening.granted(*grant)),
            Asked::Wait(wait) => return Err(Broke::Wait(wait)),
            Asked::Unheard => {}
        }
    }
    match shared.client.call::<BeatEpoch>(&[], &Default::default(), &request).await {
        Ok(grant) => Ok(opening.granted(grant)),
        // A server of the version before.
        Err(ClientError::Refused { status: 404 | 405, .. }) => Ok(None),
        Err(ClientError::Refused { status: 422, body }) => {
            tracing::warn!(%body, "no lane for frames; beats are reported in the older form");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Sends what is buffered as signed reports, the form before frames.
///
/// # Errors
/// At the first failure; what was acknowledged before it is gone from the buffer.
async fn send_reports(shared: &Shared, buffer: &mut Buffer) -> Result<(), ClientError> {
    while buffer.len() > 0 {
        let batch = buffer.batch();
        let report = BeatReport { beats: batch.clone(), worker_version: version() };
        let receipt = shared.client.call::<Beats>(&[], &Default::default(), &report).await?;
        shared.reached();
        buffer.acknowledged(&batch);
        if let Err(e) = buffer.store(&shared.data) {
            // They will be sent again after a restart, which changes nothing.
            tracing::error!(
                error = super::preflight::chain(&e),
                "could not note which beats were acknowledged"
            );
        }
        for refused in &receipt.refused {
            tracing::warn!(minute = refused.minute.0, reason = refused.reason, "a beat was refused");
        }
        let refused: BTreeSet<u32> = receipt.refused.iter().map(|r| r.minute.0).collect();
        let newest = batch.iter().map(|b| b.minute).filter(|m| !refused.contains(&m.0)).max();
        shared.update(|s| {
            s.beats_buffered = buffer.len() as u32;
            s.beats_credited += u64::from(receipt.credited);
            if newest.is_some() {
                s.beat_acknowledged = s.beat_acknowledged.max(newest);
                s.beat_acknowledged_at = Some(now());
            }
        });
    }
    Ok(())
}

/// Beats until the worker stops, then sends once more what is left.
pub(crate) async fn run(shared: Arc<Shared>, mut buffer: Buffer) {
    let key = shared.client.key().map_or(KeyId::from_bytes([0; 16]), |k| k.public().id());
    let mut backoff = Backoff::default();
    let mut way = Way::load(&shared.data);
    let mut next_beat = tokio::time::Instant::now();
    let mut next_try = next_beat;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            () = tokio::time::sleep_until(next_beat) => {
                let minute = now().minute();
                buffer.add(minute, shared.gpus().into_iter().map(|(gpu, _)| gpu));
                if let Err(e) = buffer.store(&shared.data) {
                    tracing::error!(error = super::preflight::chain(&e), "could not keep a beat on disk; it is kept in memory");
                }
                shared.update(|s| s.beats_buffered = buffer.len() as u32);
                let until = (u64::from(minute.0) + 1) * 60_000 + place_in_minute(key, random());
                next_beat = tokio::time::Instant::now() + Duration::from_millis(until.saturating_sub(client::now().0));
            }
            () = tokio::time::sleep_until(next_try), if buffer.len() > 0 => {
                match send(&shared, &mut buffer, &mut way).await {
                    Ok(()) => backoff.worked(),
                    Err(Broke::Wait(wait)) => next_try = tokio::time::Instant::now() + wait,
                    Err(Broke::Failed(error)) => {
                        shared.failed("beat", &error);
                        next_try = tokio::time::Instant::now() + backoff.failed();
                    }
                }
            }
        }
    }
    flush(&shared, &mut buffer, &mut way).await;
}

/// Sends what is left once, within a few seconds.
async fn flush(shared: &Shared, buffer: &mut Buffer, way: &mut Way) {
    if buffer.len() == 0
        || matches!(shared.ended(), Some(super::shared::End::KeyEnded(_) | super::shared::End::Left))
    {
        return;
    }
    match tokio::time::timeout(Duration::from_secs(5), send(shared, buffer, way)).await {
        Ok(Ok(())) => {}
        Ok(Err(Broke::Wait(_))) => {
            tracing::warn!(minutes = buffer.len(), "the server is busy; beats are kept for the next start")
        }
        Ok(Err(Broke::Failed(error))) => tracing::warn!(
            error = super::preflight::chain(&error),
            minutes = buffer.len(),
            "beats are kept for the next start"
        ),
        Err(_) => tracing::warn!(
            minutes = buffer.len(),
            "the server took too long; beats are kept for the next start"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(n: u8) -> GpuId {
        GpuId::from_bytes([n; 16])
    }
    fn data() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::resolve(Some(dir.path())).unwrap();
        (dir, data)
    }

    #[test]
    fn a_beat_goes_only_when_it_was_acknowledged() {
        let mut buffer = Buffer::default();
        buffer.add(Minute(7), [gpu(1)]);
        buffer.add(Minute(8), [gpu(1)]);
        let batch = buffer.batch();
        assert_eq!(batch.iter().map(|b| b.minute.0).collect::<Vec<_>>(), [7, 8], "the oldest come first");
        // While the report was on its way another GPU came to life in the same minute.
        buffer.add(Minute(8), [gpu(1), gpu(2)]);
        buffer.acknowledged(&batch);
        assert_eq!(buffer.batch(), [MinuteBeat { minute: Minute(8), gpus: vec![gpu(2)] }]);
        buffer.acknowledged(&batch);
        assert_eq!(buffer.len(), 1, "an answer that comes twice took another beat with it");
        buffer.add(Minute(9), []);
        assert_eq!(buffer.len(), 1, "a minute without a GPU was kept");
    }

    #[test]
    fn beats_outlive_a_restart() {
        let (_dir, data) = data();
        let mut buffer = Buffer::load(&data).unwrap();
        assert_eq!(buffer.len(), 0);
        buffer.add(Minute(7), [gpu(1), gpu(2)]);
        buffer.store(&data).unwrap();
        assert_eq!(Buffer::load(&data).unwrap(), buffer);
    }

    #[test]
    fn a_day_is_kept_and_the_oldest_go() {
        let (_dir, data) = data();
        let mut buffer = Buffer::default();
        for minute in 0..KEPT_MINUTES_MAX as u32 + 10 {
            buffer.add(Minute(minute), [gpu(1)]);
        }
        assert_eq!(buffer.len(), KEPT_MINUTES_MAX);
        assert_eq!(buffer.batch().first().map(|b| b.minute), Some(Minute(10)));
        assert!(buffer.batch().len() <= BEATS_MAX);
        for minute in 0..KEPT_MINUTES_MAX as u32 {
            buffer.add(Minute(u32::MAX - minute), (0..64).map(gpu));
        }
        let few = buffer.batch().len();
        assert!((2..BEATS_MAX).contains(&few), "{few} minutes of 64 GPUs");
        let report = BeatReport { beats: buffer.batch(), worker_version: version() };
        assert!(serde_json::to_vec(&report).unwrap().len() < 256 * 1024);
        buffer.minutes.insert(1_000_000, [gpu(1)].into());
        buffer.store(&data).unwrap();
        assert_eq!(Buffer::load(&data).unwrap().len(), KEPT_MINUTES_MAX);
    }

    #[test]
    fn a_beat_never_slips_into_the_next_minute() {
        for n in 0..=255 {
            let place = place_in_minute(KeyId::from_bytes([n; 16]), u64::MAX - u64::from(n));
            assert!(place < 60_000, "{place} ms");
        }
        assert_eq!(place_in_minute(KeyId::from_bytes([0; 16]), 0), 0);
    }
}
