//! What the frames, keys and chains hold to. Knows nothing but this module.

use gangline_types::{GpuId, MachineId, Minute, UnixSeconds};
use proptest::prelude::*;

use super::{chain::LINKS_MAX, *};

const SECRET: [u8; 32] = [7; 32];

fn key(n: u64) -> BeatKey {
    EpochMaster::of(&SECRET, Epoch(20_000)).key(Alias(n))
}

fn beat() -> Beat {
    Beat {
        epoch: Epoch(20_000),
        alias: Alias(0x0102_0304_0506_0708),
        minute: Minute(28_800_123),
        worker: WorkerVersion::of("1.2.345-rc.1"),
        gpus: 0b101,
        link: Link { slot: 2, count: 17, preimage: Preimage([9; 16]) },
    }
}

#[test]
fn the_bytes_are_those_of_the_document() {
    let frame = beat().seal(&key(1));
    let hex: String = frame[..48].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "4702204e1100020008070605040302017b74b7015901020105000000000000000909090909090909090909090909090909"
            [..96]
            .to_owned()
    );
    let answer = Answer::to(&beat(), Outcome::Busy, 30, UnixSeconds(1_728_007_384)).seal(&key(1));
    let hex: String = answer[..32].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "4782204e1e00040008070605040302017b74b701d84cff660500000000000000");
    const { assert!(ANSWER_BYTES <= BEAT_BYTES) };
}

#[test]
fn what_was_sealed_is_read_and_nothing_else() {
    let (beat, key) = (beat(), key(1));
    let frame = beat.seal(&key);
    let claimed = ClaimedBeat::read(&frame).unwrap();
    assert_eq!((claimed.epoch(), claimed.alias()), (beat.epoch, beat.alias));
    assert_eq!(claimed.verify(&key), Ok(Ok(beat)));
    assert_eq!(claimed.verify(&super::tests::key(2)), Err(WrongMac));
    let answer = Answer::to(&beat, Outcome::Durable, 0, UnixSeconds(5));
    let sealed = answer.seal(&key);
    assert_eq!(ClaimedAnswer::read(&sealed).unwrap().verify(&key), Ok(Ok(answer)));
    assert!(answer.answers(&beat));
    assert!(!answer.answers(&Beat { gpus: 1, ..beat }), "an answer for other GPUs was taken");
    // A question is no answer, an answer no question.
    assert_eq!(ClaimedBeat::read(&sealed).err(), Some(Malformed::Length(ANSWER_BYTES)));
    assert_eq!(ClaimedAnswer::read(&frame[..ANSWER_BYTES]).err(), Some(Malformed::Version));
    let none = Beat { gpus: 0, ..beat }.seal(&key);
    assert_eq!(ClaimedBeat::read(&none).unwrap().verify(&key), Ok(Err(Malformed::Field)));
}

#[test]
fn keys_and_aliases_differ_by_epoch_machine_and_chain() {
    let (a, b) = (MachineId::from_bytes([1; 16]), MachineId::from_bytes([2; 16]));
    let (today, yesterday) = (EpochMaster::of(&SECRET, Epoch(2)), EpochMaster::of(&SECRET, Epoch(1)));
    let (one, two) = (Preimage([1; 16]), Preimage([2; 16]));
    let all = [today.alias(a, one), today.alias(b, one), today.alias(a, two), yesterday.alias(a, one)];
    for (n, alias) in all.iter().enumerate() {
        assert!(!all[..n].contains(alias));
        assert_ne!(today.key(*alias), yesterday.key(*alias));
    }
    assert_eq!(today.alias(a, one), EpochMaster::of(&SECRET, Epoch(2)).alias(a, one));
    assert_eq!(format!("{:?} {:?}", today, today.key(all[0])), "EpochMaster([redacted]) BeatKey([redacted])");
}

#[test]
fn an_epoch_and_its_neighbours_count() {
    let now = Epoch::of(UnixSeconds(20_000 * EPOCH_SECONDS + 5));
    assert_eq!(now, Epoch(20_000));
    assert!(now.counts_in(now) && now.previous().counts_in(now) && Epoch(20_001).counts_in(now));
    assert!(!Epoch(19_998).counts_in(now) && !Epoch(20_002).counts_in(now));
    assert_eq!(Epoch::of(UnixSeconds(u64::MAX)), Epoch(u16::MAX));
}

#[test]
fn a_chain_leads_back_to_its_tip_and_not_on() {
    let chain = Chain::from_seed([3; 32]);
    assert_eq!(chain.value(5).back(5), chain.tip());
    assert_eq!(chain.value(LINKS_MAX).back(LINKS_MAX), chain.tip());
    assert_ne!(chain.value(6), chain.value(5).before());
    assert_ne!(chain.tip(), Chain::from_seed([4; 32]).tip());
    let text = serde_json::to_string(&chain.tip()).unwrap();
    assert_eq!(serde_json::from_str::<Preimage>(&text).unwrap(), chain.tip());
    let (one, two) = (GpuId::from_bytes([1; 16]), GpuId::from_bytes([2; 16]));
    assert_ne!(chain::uptime_seed(&[1; 32], one), chain::uptime_seed(&[1; 32], two));
    assert_ne!(
        chain::signed_bytes(one, Minute(1), chain.tip()),
        chain::signed_bytes(one, Minute(2), chain.tip())
    );
}

#[test]
fn a_version_is_four_bytes() {
    for (text, code, shown) in
        [("0.1.0", 0x0001_0000, "0.1.0"), ("1.2.345-rc.1", 0x0102_0159, "1.2.345"), ("x", 0, "0.0.0")]
    {
        assert_eq!(WorkerVersion::of(text), WorkerVersion(code));
        assert_eq!(WorkerVersion(code).to_string(), shown);
    }
}

proptest! {
    /// Whatever is changed in a frame, its MAC does not fit any more; and nothing panics.
    #[test]
    fn a_changed_frame_is_refused(at in 0..BEAT_BYTES, flip in 1u8..) {
        let mut frame = beat().seal(&key(1));
        frame[at] ^= flip;
        if let Ok(claimed) = ClaimedBeat::read(&frame) {
            prop_assert_eq!(claimed.verify(&key(1)), Err(WrongMac));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(claimed) = ClaimedBeat::read(&bytes) {
            let _ = claimed.verify(&key(1));
        }
        if let Ok(claimed) = ClaimedAnswer::read(&bytes) {
            let _ = claimed.verify(&key(1));
        }
    }

    #[test]
    fn every_beat_survives_the_journey(
        epoch: u16, alias: u64, minute: u32, worker: u32, gpus in 1u64.., slot in 0u8..64,
        count in 1..=LINKS_MAX, preimage: [u8; 16],
    ) {
        let link = Link { slot, count, preimage: Preimage(preimage) };
        let beat = Beat {
            epoch: Epoch(epoch), alias: Alias(alias), minute: Minute(minute),
            worker: WorkerVersion(worker), gpus, link,
        };
        prop_assert_eq!(ClaimedBeat::read(&beat.seal(&key(1))).unwrap().verify(&key(1)), Ok(Ok(beat)));
    }
}
