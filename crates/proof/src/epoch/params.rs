//! How much work an epoch proof is, how much of it is opened, and the limits and rules that keep it
//! bounded and sound.
//!
//! Knows nothing of how long a size takes on any device; the arithmetic behind every number is in
//! `docs/PROOF.md`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{MatrixParams, tree};

/// The memory that is filled: `blocks` blocks of 64 bytes, each made with `rounds` double rounds of
/// ChaCha, in `regions` equal regions that lie one after the other.
///
/// A device finds its way in a few GiB at once: an H200 reads 2e10 blocks a second at random in 2 GiB and 5e7 in
/// 32 GiB, since most of that time goes into translating addresses. So all walkers stay in one region for `stay` steps, then
/// all go on to the next, round and round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryParams {
    /// Blocks of 64 bytes: a multiple of 64 from 1,024.
    #[schemars(range(min = 1024), extend("multipleOf" = 64))]
    pub blocks: u32,
    /// Double rounds a block: 4 to 1,024. The security parameter: it makes computing a block dearer than
    /// reading it.
    #[schemars(range(min = 4, max = 1024))]
    pub rounds: u32,
    /// Equal regions of whole workgroups: 1 to 512. With one, walkers go anywhere.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 512))]
    pub regions: u32,
    /// Steps that a walker stays in a region, 1 to 32,768; 0 where there is one region. Every walk goes round all regions
    /// at least eight times.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 32768))]
    pub stay: u32,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A part of a segment of a walk in which nobody leaves the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The segment it belongs to.
    pub segment: u32,
    /// The step of the segment that it begins with.
    pub first: u32,
    /// Its steps, at least one.
    pub steps: u32,
    /// The region that is walked over.
    pub region: u32,
}

impl MemoryParams {
    /// Memory in one region.
    pub const fn whole(blocks: u32, rounds: u32) -> Self {
        Self { blocks, rounds, regions: 1, stay: 0 }
    }

    /// Blocks of each region.
    pub const fn region_blocks(&self) -> u32 {
        self.blocks / self.regions
    }

    /// The region that walkers are in at this step of a walk, counted from 0 over all its segments.
    #[inline(always)]
    fn region(&self, step: u32) -> u32 {
        match self.stay {
            0 => 0,
            stay => step / stay % self.regions,
        }
    }

    /// The first block of that region.
    #[inline(always)]
    pub(crate) fn base(&self, step: u32) -> u32 {
        self.region(step) * self.region_blocks()
    }
}

/// A chain: `units` walkers or lanes side by side, each `segments` times `steps` steps long. The state
/// after every segment is committed; `opened` segments of random units are shown and recomputed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainParams {
    /// Walkers or lanes: a multiple of 64 from 64 to 2^20.
    #[schemars(range(min = 64, max = 1048576), extend("multipleOf" = 64))]
    pub units: u32,
    /// Segments of each unit: 1 to 255.
    #[schemars(range(min = 1, max = 255))]
    pub segments: u32,
    /// Steps of each segment: 1 to 32,768.
    #[schemars(range(min = 1, max = 32768))]
    pub steps: u32,
    /// Segments opened: 1 to 256.
    #[schemars(range(min = 1, max = 256))]
    pub opened: u32,
}

/// An epoch proof: memory, a walk over it before and after everything else, an ALU chain, and in some
/// epochs a matrix chain. Deserializing validates; a value built by hand is checked again by the verifier
/// and by every prover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Unchecked", deny_unknown_fields)]
#[schemars(!try_from)]
pub struct Params {
    /// What is filled.
    pub memory: MemoryParams,
    /// Each of the two walks over it.
    pub walk: ChainParams,
    /// The ALU chain between them.
    pub alu: ChainParams,
    /// The matrix chain between them, where it is asked.
    pub matrix: Option<MatrixParams>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    memory: MemoryParams,
    walk: ChainParams,
    alu: ChainParams,
    matrix: Option<MatrixParams>,
}

impl TryFrom<Unchecked> for Params {
    type Error = ParamsError;
    fn try_from(p: Unchecked) -> Result<Self, ParamsError> {
        Self { memory: p.memory, walk: p.walk, alu: p.alu, matrix: p.matrix }.check()
    }
}

/// Why a size of epoch proof is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// A number is outside its limits.
    #[error("{what} is {got}, outside {least} to {most}{}", if *multiple > 1 { format!(" or no multiple of {multiple}") } else { String::new() })]
    Range {
        /// Which.
        what: &'static str,
        /// What was asked.
        got: u32,
        /// The least allowed.
        least: u32,
        /// The most allowed.
        most: u32,
        /// What it must be a multiple of.
        multiple: u32,
    },
    /// The states of a chain are more than a prover must keep.
    #[error("the states of the {what} take {bytes} bytes, more than {max} a prover keeps until the opening", max = Params::STATES_BYTES_MAX)]
    States {
        /// Which chain.
        what: &'static str,
        /// Bytes asked.
        bytes: u64,
    },
    /// Both walks together read less than four times as many blocks as there are: never filling the
    /// memory would be the cheaper way.
    #[error("both walks read {reads} blocks, fewer than {least}: filling the memory would not pay")]
    Reads {
        /// Reads asked.
        reads: u64,
        /// The least allowed.
        least: u64,
    },
    /// Regions do not fit the memory or the walk.
    #[error("{regions} regions, {stay} steps in each: {what}")]
    Regions {
        /// Regions asked.
        regions: u32,
        /// Steps in each.
        stay: u32,
        /// What does not fit.
        what: &'static str,
    },
    /// The verifier would have to compute more than it may.
    #[error("checking the {what} takes {steps} steps, more than {max}", max = Params::CHECKED_STEPS_MAX)]
    Checked {
        /// Which chain.
        what: &'static str,
        /// Steps asked.
        steps: u64,
    },
    /// The transcript would be larger than it may be.
    #[error("the transcript would take {0} bytes of text, more than {max}", max = Params::TRANSCRIPT_BYTES_MAX)]
    Transcript(u64),
    /// The matrix chain's own limits.
    #[error("the matrix chain is outside its limits")]
    Matrix(#[from] crate::ParamsError),
}

impl ChainParams {
    /// Most walkers or lanes.
    pub const UNITS_MAX: u32 = 1 << 20;
    /// Most segments.
    pub const SEGMENTS_MAX: u32 = 255;
    /// Most steps of a segment: half of where a software device silently stops a loop.
    pub const STEPS_MAX: u32 = 1 << 15;
    /// Most opened segments.
    pub const OPENED_MAX: u32 = 256;

    /// Steps of all units together.
    pub fn total_steps(&self) -> u64 {
        u64::from(self.units) * u64::from(self.segments) * u64::from(self.steps)
    }

    /// Bytes of all committed states, 16 each.
    pub fn states_bytes(&self) -> u64 {
        u64::from(self.units) * u64::from(self.segments) * 16
    }

    /// Exact bytes of the opening before text encoding: for each opened segment all states of its unit and
    /// the path of its leaf.
    pub fn opening_bytes(&self) -> u64 {
        let unit = 16 * u64::from(self.segments) + 32 * tree::depth(self.units) as u64;
        u64::from(self.opened) * unit
    }

    fn check(&self, what: [&'static str; 5]) -> Result<(), ParamsError> {
        let [units, segments, steps, opened, chain] = what;
        range(units, self.units, 64, Self::UNITS_MAX, 64)?;
        range(segments, self.segments, 1, Self::SEGMENTS_MAX, 1)?;
        range(steps, self.steps, 1, Self::STEPS_MAX, 1)?;
        range(opened, self.opened, 1, Self::OPENED_MAX, 1)?;
        let bytes = self.states_bytes();
        if bytes > Params::STATES_BYTES_MAX {
            return Err(ParamsError::States { what: chain, bytes });
        }
        let steps = u64::from(self.opened) * u64::from(self.steps);
        if steps > Params::CHECKED_STEPS_MAX {
            return Err(ParamsError::Checked { what: chain, steps });
        }
        Ok(())
    }
}

fn range(what: &'static str, got: u32, least: u32, most: u32, multiple: u32) -> Result<(), ParamsError> {
    if (least..=most).contains(&got) && got.is_multiple_of(multiple) {
        return Ok(());
    }
    Err(ParamsError::Range { what, got, least, most, multiple })
}

impl Params {
    /// Most bytes of a chain's states.
    pub const STATES_BYTES_MAX: u64 = 512 << 20;
    /// Most steps of a chain that the verifier recomputes.
    pub const CHECKED_STEPS_MAX: u64 = 1 << 21;
    /// Most bytes of a whole transcript as JSON.
    pub const TRANSCRIPT_BYTES_MAX: u64 = 1_200_000;
    /// Reads of both walks for each block, at least. With fewer, computing blocks when they are wanted
    /// costs less than filling the memory with all of them.
    pub const READS_PER_BLOCK_MIN: u64 = 4;
    /// Times that each walk goes round all regions, at least. Who does not hold a region must fill it anew for every visit,
    /// or fetch it from elsewhere.
    pub const TURNS_MIN: u32 = 8;
    /// Blocks of a region for each read of one visit, at least: fetching the region whole is then no cheaper than reading
    /// its blocks one by one over a bus that gives half of what it gives in order.
    pub const BLOCKS_A_READ_MIN: u64 = 2;
    /// Most regions.
    pub const REGIONS_MAX: u32 = 512;
    /// Bytes of text beside the packed vectors: names, numbers, roots, signature. Measured below 6,000 for
    /// the longest chain of matrices.
    const TEXT_BYTES: u64 = 8_000;

    /// An epoch on a software device: 16 MiB of memory, about a second on two idle cores.
    ///
    /// 480 double rounds, for there a block is computed and read by the same cores, and this is what makes
    /// the first three times the second.
    pub const SOFTWARE: Self = Self {
        memory: MemoryParams::whole(1 << 18, 480),
        walk: ChainParams { units: 4096, segments: 2, steps: 128, opened: 32 },
        alu: ChainParams { units: 4096, segments: 8, steps: 8192, opened: 64 },
        matrix: None,
    };

    /// The matrix chain of joining proofs and random epochs, small enough that the whole transcript stays
    /// below 1.2 MB: 8 steps of 12 rows are 96 opened rows, so skipping a tenth passes once in 24,000.
    pub const MATRIX: MatrixParams = MatrixParams { n: 1024, steps: 8, rows: 12 };

    /// The matrix chain in random epochs of GPUs that fill at least [`Self::LARGE_FROM_BYTES`]: five times the work of
    /// [`Self::MATRIX`], 65 opened rows, and with them the whole transcript is still below 1.2 MB.
    pub const MATRIX_LARGE: MatrixParams = MatrixParams { n: 2048, steps: 5, rows: 13 };

    /// From so many filled bytes on, matrices are large: 7 GiB, which no integrated GPU of small means fills.
    pub const LARGE_FROM_BYTES: u64 = 7 << 30;

    /// With the matrix chain that follows from how much is filled.
    pub fn with_matrices(self) -> Self {
        let large = self.memory_bytes() >= Self::LARGE_FROM_BYTES;
        self.with_matrix(if large { Self::MATRIX_LARGE } else { Self::MATRIX })
    }

    /// An epoch of a GPU that claims this much memory: 90 % of it is filled, with 384 double rounds a
    /// block, and both walks together read eight times as many blocks as there are, in regions of at most a GiB that each
    /// walk goes round eight times, a read for every other block at each visit. With these, computing blocks is at least six times
    /// as dear as reading them on every GPU that `tests/costs.rs` lists, and holding only four fifths of the memory is late
    /// on each.
    ///
    /// The walks open 32 segments each: two legs of one kind of work, and `(1-f)^32 (1-g)^32` is at most
    /// `(1 - (f+g)/2)^64`, so skipping a tenth of all walking passes with 0.12 % at most.
    ///
    /// At least 64 MiB are filled, and at most 274 GB: blocks are numbered by 32 bits.
    pub fn of_gpu(memory_bytes: u64) -> Self {
        const SEGMENTS_MAX: u64 = 96;
        const STAY: u64 = 32;
        let blocks = (memory_bytes / 10 * 9 / 64).clamp(1 << 20, (1 << 32) - 64);
        // Segments of a whole number of 256 steps each, so their number divides the regions'.
        let regions = blocks.div_ceil(1 << 24);
        let longer = regions.div_ceil(SEGMENTS_MAX);
        let regions = regions.div_ceil(longer) * longer;
        let region = blocks / regions / 64 * 64;
        let walk = ChainParams {
            units: (region / 2 / STAY / 64).max(1) as u32 * 64,
            segments: (regions / longer) as u32,
            steps: (longer * STAY * u64::from(Self::TURNS_MIN)) as u32,
            opened: 32,
        };
        Self {
            memory: MemoryParams {
                blocks: (region * regions) as u32,
                rounds: 384,
                regions: regions as u32,
                stay: if regions > 1 { STAY as u32 } else { 0 },
            },
            walk,
            alu: ChainParams { units: 1 << 17, segments: 64, steps: 1 << 14, opened: 64 },
            matrix: None,
        }
    }

    /// The same with a matrix chain.
    pub const fn with_matrix(self, matrix: MatrixParams) -> Self {
        Self { matrix: Some(matrix), ..self }
    }

    /// The fewest double rounds that make computing a block `ratio` times as dear as reading one, on a
    /// device of these rates. A double round is 96 additions, xors and turns.
    ///
    /// `ratio` is at least 3; where a device computes and reads at the same time, 6 makes holding only four
    /// fifths of the memory late (see `docs/PROOF.md`).
    pub fn rounds_for(operations_per_second: u64, reads_per_second: u64, ratio: u64) -> u32 {
        let rounds = u128::from(operations_per_second) * u128::from(ratio)
            / (96 * u128::from(reads_per_second.max(1)))
            + 1;
        rounds.clamp(4, 1024) as u32
    }

    /// The value itself if it is within every limit and follows every rule.
    pub fn check(self) -> Result<Self, ParamsError> {
        range("memory blocks", self.memory.blocks, 1024, u32::MAX - 63, 64)?;
        range("double rounds of memory", self.memory.rounds, 4, 1024, 1)?;
        range("regions of memory", self.memory.regions, 1, Self::REGIONS_MAX, 1)?;
        self.walk.check([
            "walkers",
            "segments of a walk",
            "steps of a walk",
            "opened segments of a walk",
            "walk",
        ])?;
        self.alu.check([
            "lanes",
            "segments of the ALU chain",
            "steps of the ALU chain",
            "opened segments of the ALU chain",
            "ALU chain",
        ])?;
        self.check_regions()?;
        let (reads, least) = (self.reads(), u64::from(self.memory.blocks) * Self::READS_PER_BLOCK_MIN);
        if reads < least {
            return Err(ParamsError::Reads { reads, least });
        }
        if let Some(matrix) = self.matrix {
            matrix.check()?;
        }
        let text = self.transcript_bytes();
        if text > Self::TRANSCRIPT_BYTES_MAX {
            return Err(ParamsError::Transcript(text));
        }
        Ok(self)
    }

    fn check_regions(&self) -> Result<(), ParamsError> {
        let MemoryParams { blocks, regions, stay, .. } = self.memory;
        let refused = |what| Err(ParamsError::Regions { regions, stay, what });
        if regions == 1 {
            return if stay == 0 { Ok(()) } else { refused("a single region is never left") };
        }
        if stay == 0 || stay > ChainParams::STEPS_MAX {
            return refused("walkers stay 1 to 32768 steps");
        }
        if !blocks.is_multiple_of(64 * regions) {
            return refused("the memory is no whole number of regions of whole workgroups");
        }
        let (steps, round) = (
            u64::from(self.walk.segments) * u64::from(self.walk.steps),
            u64::from(regions) * u64::from(stay),
        );
        if !steps.is_multiple_of(round) || steps / round < u64::from(Self::TURNS_MIN) {
            return refused("a walk goes round them a whole number of times, at least eight");
        }
        let a_visit = u64::from(self.walk.units) * u64::from(stay);
        if a_visit * Self::BLOCKS_A_READ_MIN > u64::from(self.memory.region_blocks()) {
            return refused("a visit reads more than half as many blocks as a region has");
        }
        Ok(())
    }

    /// The stretches of a walk, in order: where a segment or a stay ends, another begins.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> + use<> {
        let Self { memory, walk, .. } = *self;
        let all = walk.segments * walk.steps;
        let mut at = 0;
        std::iter::from_fn(move || {
            (at < all).then(|| {
                let (segment, first) = (at / walk.steps, at % walk.steps);
                let left = walk.steps - first;
                let steps = match memory.stay {
                    0 => left,
                    stay => left.min(stay - at % stay),
                };
                let region = memory.region(at);
                at += steps;
                Stretch { segment, first, steps, region }
            })
        })
    }

    /// Bytes of memory that are filled.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory.blocks) * 64
    }

    /// Blocks that both walks read.
    pub fn reads(&self) -> u64 {
        2 * self.walk.total_steps()
    }

    /// Multiply-adds of the matrix chain; 0 without one.
    pub fn macs(&self) -> u64 {
        self.matrix.map_or(0, |matrix| matrix.macs())
    }

    /// The most bytes of a transcript as JSON.
    pub fn transcript_bytes(&self) -> u64 {
        let matrix = self.matrix.map_or(0, |matrix| matrix.opening_bytes());
        let packed = 2 * self.walk.opening_bytes() + self.alu.opening_bytes() + matrix;
        packed.saturating_mul(4) / 3 + Self::TEXT_BYTES
    }

    /// Bytes of device memory beside what is filled: states, leaves and the matrices and products.
    pub fn beside_bytes(&self) -> u64 {
        let matrix = self.matrix.map_or(0, |m| {
            let square = u64::from(m.n).pow(2);
            square * 2 + square * 4 * u64::from(m.steps)
        });
        2 * self.walk.states_bytes() + self.alu.states_bytes() + matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_end_with_their_segment_and_with_their_stay() {
        let params = Params {
            memory: MemoryParams { regions: 3, stay: 16, ..MemoryParams::whole(3 * 2048, 8) },
            walk: ChainParams { units: 64, segments: 12, steps: 36, opened: 9 },
            ..Params::SOFTWARE
        };
        let first: Vec<_> =
            params.stretches().map(|s| (s.segment, s.first, s.steps, s.region)).take(6).collect();
        assert_eq!(
            first,
            [(0, 0, 16, 0), (0, 16, 16, 1), (0, 32, 4, 2), (1, 0, 12, 2), (1, 12, 16, 0), (1, 28, 8, 1)]
        );
        assert!(params.check().is_ok());
        assert_eq!(params.stretches().map(|s| s.steps).sum::<u32>(), 12 * 36);
        let whole = Params { memory: MemoryParams::whole(1 << 14, 8), ..params };
        assert!(whole.stretches().all(|s| (s.first, s.steps, s.region) == (0, 36, 0)));
        assert_eq!(whole.stretches().count(), 12);
    }

    #[test]
    fn what_a_gpu_is_asked_goes_round_regions_that_every_driver_binds_at_once() {
        for gb in [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 80, 96, 141, 192, 256, 288, 1000] {
            let params =
                Params::of_gpu(gb * 1_000_000_000).check().unwrap_or_else(|e| panic!("{gb} GB: {e}"));
            let MemoryParams { regions, stay, .. } = params.memory;
            let region = u64::from(params.memory.region_blocks()) * 64;
            assert!(region <= 1 << 30, "{gb} GB: regions of {region} bytes");
            let least = (gb * 900_000_000).min(274_000_000_000);
            assert!(params.memory_bytes() >= least / 1000 * 999, "{gb} GB: {} bytes", params.memory_bytes());
            let reads = params.reads() as f64 / f64::from(params.memory.blocks);
            assert!((7.9..=9.0).contains(&reads), "{gb} GB: {reads} reads a block");
            let steps = params.walk.segments * params.walk.steps;
            assert!(regions == 1 || steps == 8 * regions * stay, "{gb} GB");
            let with = params.with_matrices();
            assert!(with.check().is_ok(), "{gb} GB: {} bytes", with.transcript_bytes());
            // States of all chains, beside what is filled.
            assert!(
                params.beside_bytes() * 10 <= gb * 1_000_000_000 || gb < 4,
                "{gb} GB: {}",
                params.beside_bytes()
            );
        }
    }

    #[test]
    fn parameters_without_regions_read_as_one_region_and_write_none() {
        let text = serde_json::to_string(&Params::SOFTWARE).unwrap();
        assert!(!text.contains("regions") && !text.contains("stay"), "{text}");
        assert_eq!(serde_json::from_str::<Params>(&text).unwrap(), Params::SOFTWARE);
    }
}
