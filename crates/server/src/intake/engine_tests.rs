//! The loop and its journal: a journal that has ended, and a beat that is on its way to it when its epoch ends. And the loop
//! and those who answer questions for an epoch: a queue that is full.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread::JoinHandle,
};

use gangline_guard::beat::Grant;
use gangline_store::LaneRow;
use gangline_types::{AccountId, GpuId, KeyId, MachineId, Text};
use gangline_wire::{
    SigningKey,
    api::machine::{ChainStart, EpochRequest},
    beat::{
        Beat, Chain, ClaimedAnswer, ClaimedOpened, EPOCH_SECONDS, EpochMaster, Link, Opening, Under,
        WorkerVersion,
    },
};

use super::*;
use crate::intake::committer::{Done, Job};

const SECRET: [u8; 32] = [5; 32];

#[test]
fn a_burst_makes_the_loop_busy_at_once_and_quiet_ends_it() {
    let start = Instant::now();
    let mut rate = Rate { came: 0, since: start, is_busy: false };
    let mut look = |came, millis| {
        rate.came += came;
        rate.is_busy(start + Duration::from_millis(millis))
    };
    let a_look = RATE_SPAN.as_millis() as u64;
    let busy = BUSY_PER_SECOND * a_look / 1000;
    assert!(!look(busy, a_look - 1), "too early to tell");
    assert!(look(0, a_look));
    assert!(look(busy - 1, 2 * a_look - 1), "it stays so until the next look");
    assert!(!look(0, 2 * a_look));
    assert!(!look(busy, 100 * a_look), "after a long wait");
}

/// A loop whose journal is the test.
struct World {
    clock: Clock,
    asks: SyncSender<Ask>,
    work: Receiver<Job>,
    done: SyncSender<Done>,
    thread: JoinHandle<()>,
    /// Questions for an epoch: room for one.
    openings: tokio::sync::mpsc::Receiver<Came>,
    udp: std::net::SocketAddr,
}

impl World {
    fn start() -> Self {
        let (asks, asked) = sync_channel(4);
        let (jobs, work) = sync_channel(4);
        let (tell, done) = sync_channel(4);
        let (openings, openings_came) = tokio::sync::mpsc::channel(1);
        let socket = crate::intake::udp(([127, 0, 0, 1], 0).into()).unwrap();
        let udp = socket.local_addr().unwrap();
        let clock = Clock::default();
        let engine = Engine::new(
            Poll::new().unwrap(),
            Some(socket),
            None,
            SECRET,
            clock.clone(),
            Ledger::default(),
            asked,
            Commits { jobs, done },
            Arc::default(),
            openings,
        );
        let thread = std::thread::spawn(|| engine.unwrap().run());
        Self { clock, asks, work, done: tell, thread, openings: openings_came, udp }
    }

    /// From now on it is this second there.
    fn set_clock(&self, to: u64) {
        self.clock.step_to(to as i64 - Clock::default().now().0 as i64);
    }

    fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> oneshot::Receiver<T> {
        let (tell, told) = oneshot::channel();
        self.asks.send(question(tell)).unwrap();
        told
    }

    /// The next batch that is to be written.
    fn batch(&self) -> Batch {
        loop {
            if let Job::Append(_, batch) = self.work.recv().unwrap() {
                return batch;
            }
        }
    }
}

#[test]
fn a_journal_that_has_ended_ends_the_intake_and_whoever_waits_for_it_is_told() {
    let world = World::start();
    let answer = world.ask(|tell| Ask::Report(Batch::default(), tell));
    world.batch();
    drop((world.work, world.done));
    assert!(!answer.blocking_recv().unwrap(), "what was never written was acknowledged");
    world.thread.join().unwrap();
}

#[test]
fn a_beat_that_is_on_its_way_to_the_disk_when_its_epoch_stops_counting_is_folded() {
    let world = World::start();
    // Noon, wherever the system's clock is: nothing turns by itself.
    let noon = world.clock.now().0 / EPOCH_SECONDS * EPOCH_SECONDS + EPOCH_SECONDS / 2;
    world.set_clock(noon);
    let minute = UnixSeconds(noon).minute();
    // A lane of the epoch before; at the next turn of an epoch its frames stop counting.
    let epoch = Epoch::of(UnixSeconds(noon)).previous();
    let (chain, machine) = (Chain::from_seed([1; 32]), MachineId::from_bytes([9; 16]));
    let master = EpochMaster::of(&SECRET, epoch);
    let alias = master.alias(machine, chain.tip());
    let (account, key) = (AccountId::from_bytes([8; 16]), KeyId::from_bytes([7; 16]));
    let gpu = GpuId::from_bytes([3; 16]);
    let grant = Grant::kept(alias, epoch, machine, account, key);
    let lane = LaneRow { grant, gpus: vec![(gpu, chain.tip())] };
    world.ask(|tell| Ask::Open(vec![lane], tell)).blocking_recv().unwrap();
    let key = master.key(alias);
    let frame = |minute| {
        let link = Link { slot: 0, count: 1, preimage: chain.value(1) };
        let beat = Beat { epoch, alias, minute, worker: WorkerVersion(0), gpus: 1, link };
        world.ask(|tell| Ask::Frames(beat.seal(&key).to_vec(), tell))
    };

    let beat = frame(minute);
    let batch = world.batch();
    // It is being written when the epoch turns. The loop has seen that once it does not answer such frames any more.
    world.set_clock(noon + EPOCH_SECONDS / 2);
    let too_early = Minute(minute.0 + 300);
    while !frame(too_early).blocking_recv().unwrap().is_empty() {}
    world.done.send(Done { batch, result: Ok(1) }).unwrap();
    let answer = beat.blocking_recv().unwrap();
    let answer = ClaimedAnswer::read(&answer).unwrap().verify(&key).unwrap().unwrap();
    assert_eq!(answer.outcome, Outcome::Durable);
    let (taken, until) = world.ask(|tell| Ask::Take(usize::MAX, tell)).blocking_recv().unwrap();
    let fold = taken.fold;
    assert_eq!(
        (until, fold.hours.len(), fold.links.len()),
        (Some(1), 1, 1),
        "it was acknowledged and is nobody's"
    );
    assert_eq!((fold.hours[0].gpu, fold.hours[0].hour), (gpu, minute.hour()));
    drop(world.asks);
    world.thread.join().unwrap();
}

#[test]
fn a_lane_vouches_once_a_second_and_who_finds_the_queue_full_is_told_when_to_come() {
    let mut world = World::start();
    let noon = world.clock.now().0 / EPOCH_SECONDS * EPOCH_SECONDS + EPOCH_SECONDS / 2;
    world.set_clock(noon);
    let epoch = Epoch::of(UnixSeconds(noon));
    let machine = SigningKey::from_seed(&zeroize::Zeroizing::new([6; 32]));
    let chain = ChainStart {
        gpu: GpuId::from_bytes([3; 16]),
        tip: Chain::from_seed([1; 32]).tip(),
        uptime_key: machine.public(),
        signature: Text::new(&"00".repeat(64)).unwrap(),
    };
    let request = EpochRequest { starts: UnixSeconds(noon).minute(), chains: vec![chain] };
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let key = |alias| EpochMaster::of(&SECRET, epoch).key(Alias(alias));
    let ask = |alias, sequence| {
        let opening = Opening::sign(request.clone(), "a:1", sequence, UnixSeconds(noon), &machine).unwrap();
        let key = key(alias);
        let datagram = opening.seal(Under { epoch, alias: Alias(alias), key: &key }, &[sequence as u8; 24]);
        socket.send_to(&datagram, world.udp).unwrap();
    };
    let hear = || {
        let mut bytes = [0; 200];
        let length = socket.recv(&mut bytes).unwrap();
        let claimed = ClaimedOpened::read(&bytes[..length]).unwrap();
        let Alias(alias) = claimed.alias();
        (alias, claimed.unseal(&key(alias)).unwrap().unwrap())
    };
    // The first waits, and its lane vouches for no other; unless the second turns in between.
    let mut first = 1;
    let (busy, came) = loop {
        (0..3).zip([1, 1, 2]).for_each(|(n, alias)| ask(alias, first + n));
        let (alias, answer) = hear();
        let came = world.openings.blocking_recv().unwrap();
        if alias == 2 {
            break (answer, came);
        }
        assert!(first < 180, "a lane vouched for two at once");
        hear();
        first += 3;
        // Both lanes vouch again in another second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    };
    assert_eq!((busy.sequence, busy.outcome), (first + 2, OpeningOutcome::Busy(7)));
    let Came { admitted, from } = came;
    assert_eq!((admitted.alias(), from), (Alias(1), socket.local_addr().unwrap()));
    assert_eq!(admitted.opening().unwrap().claimed.sequence, first);
    // What it is answered arrives.
    let answer = Box::new(admitted.answer(OpeningOutcome::AskByHttp, UnixSeconds(noon), &[9; 24]));
    world.asks.send(Ask::AnswerOpenings(vec![(None, from, answer)])).unwrap();
    let (alias, answer) = hear();
    assert_eq!((alias, answer.sequence, answer.outcome), (1, first, OpeningOutcome::AskByHttp));
    // Nobody is there to answer any more.
    drop(world.openings);
    ask(5, 200);
    let (alias, answer) = hear();
    assert_eq!((alias, answer.sequence, answer.outcome), (5, 200, OpeningOutcome::AskByHttp));
    drop(world.asks);
    world.thread.join().unwrap();
}
