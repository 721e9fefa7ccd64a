//! What honest senders write, for the targets' first inputs and for what only they can have written; and the hole that
//! each target is given when it has to show that it would find one.
#![allow(dead_code, reason = "each target uses its own part")]

use std::{ops::ControlFlow, sync::LazyLock};

use gangline_guard::log::{
    Checkpoint, Edge, checkpoint::origin_of, leaf_hash, tiles::Tiles, tree::prove_consistency, witness::AddCheckpoint,
};
use gangline_proof::{
    MatrixParams,
    epoch::{self, ChainParams, GpuKey, MemoryParams},
};
use gangline_types::{GpuId, Hash, ProofId, Text, UnixSeconds};
use gangline_wire::{SigningKey, api::proof};
use zeroize::Zeroizing;

static PLANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("GANGLINE_FUZZ_PLANTED").is_some());

/// Whether this run is to have a hole: with `GANGLINE_FUZZ_PLANTED` set, each target forgets one check, and has to
/// come upon what that lets through.
pub fn has_hole() -> bool {
    *PLANTED
}

/// The key of everybody honest here.
pub fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([1; 32]))
}

/// An epoch proof.
pub fn epoch() -> epoch::Transcript {
    use epoch::Prover;
    let gpu = GpuId::from_bytes([2; 16]);
    let key = GpuKey::derive(&[1; 32], gpu);
    let params = epoch::Params {
        memory: MemoryParams::whole(1024, 8),
        walk: ChainParams { units: 128, segments: 3, steps: 8, opened: 2 },
        alu: ChainParams { units: 64, segments: 2, steps: 9, opened: 2 },
        matrix: Some(MatrixParams { n: 64, steps: 2, rows: 2 }),
    };
    let challenge = epoch::Challenge { params, beacon: Hash([3; 32]), binding: key.binding() };
    let mut prover = epoch::CpuProver::new();
    let commitment = prover.commit(&challenge, &mut |_| ControlFlow::Continue(())).expect("it proves");
    let nonce = Hash([4; 32]);
    let opening = prover.open(&nonce).expect("it opens");
    let signature = key.sign(&challenge, &commitment, &nonce, &opening);
    epoch::Transcript::new(gpu, key.public(), challenge, commitment, nonce, opening, signature)
}

/// A proof of joining.
pub fn joining() -> proof::Transcript {
    use gangline_proof::Prover;
    let gpu = GpuId::from_bytes([2; 16]);
    let key = GpuKey::derive(&[1; 32], gpu);
    let params = MatrixParams { n: 64, steps: 2, rows: 2 };
    let challenge = gangline_proof::Challenge { params, beacon: Hash([3; 32]), binding: key.binding() };
    let mut prover = gangline_proof::CpuProver::default();
    let commitment = prover.commit(&challenge, &mut |_| ()).expect("it proves");
    let nonce = Hash([4; 32]);
    let opening = prover.open(&nonce).expect("it opens");
    let signature = key.sign_matrix(&challenge, &commitment, &nonce, &opening);
    proof::Transcript {
        proof: ProofId::from_bytes([5; 16]),
        gpu,
        challenge,
        commitment,
        nonce,
        opening,
        signed: Some(gangline_proof::Signed { key: key.public(), signature }),
        elapsed_millis: 7,
        judged_at: UnixSeconds(1_700_000_000),
        accepted: true,
        finding: Text::lossy("it is right"),
    }
}

/// The log's checkpoint of so many entries, and the tiles below it.
pub fn log(size: u64) -> (Checkpoint, Tiles) {
    let (mut edge, mut tiles) = (Edge::default(), Tiles::default());
    for n in 0..size {
        let mut full = Vec::new();
        edge.push(leaf_hash(&n.to_be_bytes()), &mut |tile| full.push(tile));
        tiles.take_all(full);
    }
    tiles.take_all(edge.partials());
    (Checkpoint { origin: origin_of(&key().public()), size, root: edge.root() }, tiles)
}

/// What a log asks of a witness that has cosigned `old` entries.
pub fn ask(old: u64, size: u64) -> AddCheckpoint {
    let (checkpoint, tiles) = log(size);
    let proof = prove_consistency(&tiles, old, size).expect("the tiles are whole");
    AddCheckpoint { old_size: old, proof, note: checkpoint.sign(&key()) }
}
