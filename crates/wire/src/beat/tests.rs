//! What the frames, keys and chains hold to. Knows nothing but this module.

use gangline_types::{GpuId, MachineId, Minute, Text, UnixSeconds};
use proptest::prelude::*;

use super::{chain::LINKS_MAX, *};
use crate::{
    SigningKey,
    api::machine::{ChainStart, EpochRequest, UdpAddress},
    sig,
};
use zeroize::Zeroizing;

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

fn asked(chains: u8) -> EpochRequest {
    let uptime = SigningKey::from_seed(&Zeroizing::new([4; 32]));
    let signature = Text::new(&"5a".repeat(64)).unwrap();
    let chain = |n| ChainStart {
        gpu: GpuId::from_bytes([n; 16]),
        tip: Preimage([n; 16]),
        uptime_key: uptime.public(),
        signature: signature.clone(),
    };
    EpochRequest { starts: Minute(28_800_123), chains: (0..chains).map(chain).collect() }
}

fn opening(chains: u8) -> Option<Opening> {
    let key = SigningKey::from_seed(&Zeroizing::new([6; 32]));
    Opening::sign(asked(chains), "Example.org:8080", 7, UnixSeconds(1_728_007_384), &key)
}

fn under(key: &BeatKey) -> Under<'_> {
    Under { epoch: Epoch(20_000), alias: Alias(0x0102_0304_0506_0708), key }
}

#[test]
fn an_opening_is_laid_out_as_the_document_says() {
    let opening = opening(2).unwrap();
    let sealed = opening.seal(under(&key(1)), &[0xab; NONCE_BYTES]);
    assert_eq!(sealed.len(), 40 + 100 + 16 + 4 + 2 * 128 + 16);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(hex(&sealed[..40]), format!("4742204e000000000807060504030201{}", "ab".repeat(24)));
    let inside = opening.to_bytes();
    assert_eq!(hex(&inside[16..32]), "0700000000000000d84cff6600000000");
    assert_eq!(hex(&inside[96..100]), "10000000");
    assert_eq!(&inside[100..116], b"example.org:8080");
    assert_eq!(hex(&inside[116..152]), format!("7b74b701{}{}", "00".repeat(16), "00".repeat(16)));
    assert_eq!(hex(&inside[184..248]), "5a".repeat(64));
    assert_eq!(sealed.len() - inside.len(), 56);
    let outcome = OpeningOutcome::Opened { epoch: Epoch(20_001), alias: Alias(9), key: key(2), addresses: 3 };
    let opened = Opened { sequence: 7, outcome, server_time: UnixSeconds(1_728_007_384) };
    let sealed = opened.seal(under(&key(1)), &[0xab; NONCE_BYTES]);
    assert_eq!(hex(&sealed[..40]), format!("47c2204e000000000807060504030201{}", "ab".repeat(24)));
    assert_eq!(OPENED_BYTES, 116);
}

#[test]
fn an_opening_is_read_as_it_was_sealed_and_not_otherwise() {
    let key = key(1);
    for chains in [1, 7] {
        let opening = opening(chains).unwrap();
        let sealed = opening.seal(under(&key), &[1; NONCE_BYTES]);
        assert!(sealed.len() <= OPENING_BYTES_MAX);
        let claimed = ClaimedOpening::read(&sealed).unwrap();
        assert_eq!((claimed.epoch(), claimed.alias()), (Epoch(20_000), Alias(0x0102_0304_0506_0708)));
        let unsealed = claimed.unseal(&key).unwrap();
        assert_eq!(unsealed.sequence(), 7);
        let read = unsealed.opening().unwrap();
        assert_eq!(read, opening);
        assert_eq!(sig::digest(&read.body()), sig::digest(&opening.body()));
        // Who listens finds neither the key nor the GPUs in it.
        let id = opening.claimed.key;
        assert!(!sealed.windows(16).any(|w| w == id.as_bytes() || w == [0; 16]));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let read = ClaimedOpening::read(&changed).ok().and_then(|claimed| claimed.unseal(&key).ok());
            assert!(read.is_none(), "byte {at} is not covered");
        }
        assert!(claimed.unseal(&super::tests::key(2)).is_err());
    }
    assert_eq!(opening(0), None);
    assert_eq!(opening(8), None, "more chains than there is room for");
    let long = "a".repeat(101);
    let signing = SigningKey::from_seed(&Zeroizing::new([6; 32]));
    assert_eq!(Opening::sign(asked(1), &long, 7, UnixSeconds(0), &signing), None);
    assert_eq!(ClaimedOpening::read(&[0x47; 100]).err(), Some(Malformed::Length(100)));
    // A signature for a datagram is none for a request.
    let opening = opening(1).unwrap();
    let check = |method| {
        opening.claimed.verify(
            &signing.public(),
            method,
            "example.org:8080",
            "/api/v1/machine/beat-epoch",
            "",
        )
    };
    assert_eq!(check(OPENING_METHOD), Ok(()));
    assert!(check("POST").is_err());
}

#[test]
fn an_answer_to_an_opening_is_its_asker_s_alone() {
    let key = key(1);
    let all = [
        OpeningOutcome::Opened {
            epoch: Epoch(20_001),
            alias: Alias(9),
            key: super::tests::key(2),
            addresses: 3,
        },
        OpeningOutcome::AskByHttp,
        OpeningOutcome::Busy(600),
    ];
    for outcome in all {
        let opened = Opened { sequence: 7, outcome, server_time: UnixSeconds(5) };
        let sealed = opened.seal(under(&key), &[1; NONCE_BYTES]);
        let claimed = ClaimedOpened::read(&sealed).unwrap();
        assert_eq!(claimed.unseal(&key), Ok(Ok(opened)));
        assert_eq!(claimed.unseal(&super::tests::key(2)), Err(WrongMac));
        let shown = super::tests::key(2);
        assert!(!sealed.windows(32).any(|w| w == shown.as_bytes()), "the new key is shown to who listens");
        assert!(ClaimedOpening::read(&sealed).is_err(), "an answer was taken for a question");
    }
}

proptest! {
    #[test]
    fn what_is_inside_a_seal_has_one_spelling(at in 0usize..260, to in any::<u8>()) {
        let mut inside = opening(1).unwrap().to_bytes();
        let at = at % inside.len();
        inside[at] = to;
        if let Ok(read) = Opening::read(&inside) {
            prop_assert_eq!(read.to_bytes(), inside);
        }
    }
}

#[test]
fn a_lane_vouches_for_thirty_days() {
    let now = Epoch(20_000);
    let check = |epoch, vouches| assert_eq!(Epoch(epoch).vouches_in(now), vouches, "{epoch}");
    check(20_001, true);
    check(20_000, true);
    check(19_970, true);
    check(19_969, false);
    check(20_002, false);
}

#[test]
fn other_addresses_have_another_check() {
    let udp =
        |host: &str, port| UdpAddress { host: Text::new(host).ok().filter(|h| !h.as_str().is_empty()), port };
    let all = [
        addresses_check(None, None),
        addresses_check(Some(&udp("", 1)), None),
        addresses_check(Some(&udp("", 2)), None),
        addresses_check(Some(&udp("a", 1)), None),
        addresses_check(Some(&udp("a", 1)), Some("http://a")),
        addresses_check(None, Some("http://a")),
    ];
    for (n, one) in all.iter().enumerate() {
        assert!(!all[..n].contains(one), "{n}");
    }
    assert_eq!(all[3], addresses_check(Some(&udp("a", 1)), None));
}
