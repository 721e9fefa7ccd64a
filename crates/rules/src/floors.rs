//! Floors: the least matrix rate that a real GPU of a claimed model or class must show.
//!
//! A floor separates "a processor says that it is a big GPU" from "a big GPU". It never says which GPU it
//! is: a device at least as capable as the claim passes, and a label stays a label. Knows claims and
//! rates; no verdicts and no history.
//!
//! # The arithmetic
//! `floors.tsv` holds int32 rates measured by clpeak. Its figure counts a multiply-add as two, so a device
//! of `G` giops runs `G / 2` thousand million int32 multiply-adds a second. Where the driver has no packed
//! int8 product, a portable shader spends at most about 4 such instructions on one int8 multiply-add
//! (unpack two operands, multiply, add): `G / 8`. A further factor of 8 is given away for memory, small
//! matrices, power limits and the owner's own use of the GPU: `G / 64`, in million multiply-adds a second
//! `G x 1000 / 64`. Laptop parts get half of that.
//!
//! | model | giops | floor, million a second |
//! |---|---|---|
//! | A100 | 19,361 | 302,515 |
//! | RTX 2080 | 11,085 | 173,203 |
//! | T4 | 5,863 | 91,609 |
//! | any other RTX (divisor 128) | 5,347 | 41,773 |
//! | GTX 1060 | 1,410 | 22,031 |
//! | Apple M1 | 476 | 7,437 |
//! | *Mesa's lavapipe on two cores of an AMD EPYC, measured with these proofs* | | *13,600* |
//! | *the same on twelve cores, if it grew with them* | | *82,000* |
//!
//! (A processor is better at int8 than clpeak's int32 rows say, so its rate was measured.) So a small
//! machine's software device is told from everything above 15,000 by rate alone, a dozen cores' from what
//! lies above 82,000. Below that, a software device is *as capable as* the model it names, and only its
//! driver's word tells. Measured rates, never labels, are what is paid. None of the floors has met a real
//! GPU yet; they are low so that they need not be right.
//!
//! # A proof's time is not a GPU's time
//! Hashing the product, reading it back, and the network cost the same on every GPU. So a proof carries a
//! floor when it took no longer than `work / floor +` [`OVERHEAD_MILLIS`]. The smaller the work, the less
//! that says: of 4.3 thousand million multiply-adds (n = 1024, four steps), lavapipe needs 0.32 s and the
//! fastest GPU on a slow line as much. [`work_to_separate`] is what a proof must hold so that it says
//! something, and a proof with less than [`telling_macs`] carries no floor at all.
//!
//! | work | asked of an RTX 4090 | of any RTX | of a discrete GPU |
//! |---|---|---|---|
//! | n = 1024 x 4 | 6,961 | 6,118 | 5,125 |
//! | n = 2048 x 2 | 25,603 | 16,992 | 11,055 |
//! | n = 4096 x 1 | 77,736 | 30,610 | 15,557 |

use gangline_types::{AdapterKind, GpuClaim, Text};

use crate::standing::Shown;

/// Milliseconds of a proof that are nobody's GPU: a round trip of up to 300, 64 MiB of product hashed at
/// 500 MB/s (134) and read back at 1 GB/s (67), and about 100 of waiting.
pub const OVERHEAD_MILLIS: u64 = 600;

/// Floor of a discrete GPU of no model in the table, in million multiply-adds a second: half of `G / 8` of
/// the weakest discrete card of the last ten years that was measured (GeForce MX130: 293 / 8 = 36,600).
/// Older and weaker families are in the table by name, with floors of their own.
pub const DISCRETE_FLOOR_MMACS: u64 = 18_000;

/// Floor of an integrated or virtual GPU of no model in the table, in million multiply-adds a second: that
/// of the weakest one measured (AMD A6-1450 "Kalindi": 20 x 1000 / 64 = 312). It is there so that the claim
/// means something; a software device on two cores can carry it.
pub const INTEGRATED_FLOOR_MMACS: u64 = 300;

/// What a proof must at least tell from a GPU of a higher floor, in million multiply-adds a second:
/// lavapipe on two cores, which showed 13,600 at best (n = 2048, one step) and 5,400 at n = 4096. For floors below
/// twice this, half the floor.
pub const SOFTWARE_MMACS: u64 = 15_000;

const TABLE: &str = include_str!("floors.tsv");

/// Names under which devices without any GPU are known.
const SOFTWARE_NAMES: [&str; 6] =
    ["llvmpipe", "lavapipe", "swiftshader", "softpipe", "swrast", "microsoft basic render driver"];

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Words of a model's name, in order.
    pub words: Vec<String>,
    /// What was measured.
    pub measured: String,
    /// Its int32 rate, a multiply-add counted as two, in thousand millions a second.
    pub giops: u64,
    /// What the rate in millions is divided by.
    pub divisor: u64,
    /// The result it was read from.
    pub file: String,
}

impl Reference {
    /// Million multiply-adds a second.
    pub fn floor_mmacs(&self) -> u64 {
        self.giops.saturating_mul(1000) / self.divisor.max(1)
    }
    fn names(&self, model: &[String]) -> bool {
        let mut rest = model.iter();
        self.words.iter().all(|word| match word.strip_suffix('*') {
            Some(start) => rest.any(|found| found.starts_with(start)),
            None => rest.any(|found| found == word),
        })
    }
}

/// Why a table cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the table of floors: {problem}")]
pub struct TableError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The lines of a table: five fields separated by tabs; lines that begin with `#` are comments.
pub fn parse(table: &str) -> Result<Vec<Reference>, TableError> {
    let mut rows = Vec::new();
    for (at, text) in table.lines().enumerate().filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
    {
        let wrong = |problem| TableError { line: at + 1, problem };
        let fields: Vec<&str> = text.split('\t').collect();
        let [names, measured, giops, divisor, file] = fields[..] else {
            return Err(wrong("expected five fields separated by tabs"));
        };
        let words: Vec<String> = names.split(' ').map(str::to_owned).collect();
        if words.iter().any(String::is_empty) {
            return Err(wrong("expected words separated by one space in the first field"));
        }
        let giops = giops.parse().map_err(|_| wrong("expected a whole number of giops"))?;
        let divisor = divisor.parse().map_err(|_| wrong("expected a whole number as divisor"))?;
        if giops == 0 || divisor == 0 {
            return Err(wrong("expected a rate and a divisor above 0"));
        }
        rows.push(Reference { words, measured: measured.to_owned(), giops, divisor, file: file.to_owned() });
    }
    Ok(rows)
}

/// The shipped table.
pub fn table() -> Vec<Reference> {
    parse(TABLE).expect("the shipped table is read by a test")
}

/// What a claim must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Million multiply-adds a second; 0 asks for nothing.
    pub rate_mmacs: u64,
    /// Where the floor comes from, for people.
    pub source: Text<128>,
}

fn words_of(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// The floor of a claim: its model's where the table has it, whatever kind it says it is (a software
/// device that calls itself an RTX must show an RTX's rate), else its kind's.
pub fn floor(claim: &GpuClaim) -> Floor {
    let model = words_of(claim.model.as_str());
    let has = |words: &[&str]| model.iter().any(|word| words.contains(&word.as_str()));
    // A slice of a card shows a slice of its rate, and the name does not say how large.
    let slice = has(&["mig", "grid", "vgpu"]);
    let row = table().into_iter().filter(|row| !slice && row.names(&model)).max_by_key(|row| row.words.len());
    if let Some(row) = row {
        let laptop = has(&["laptop", "mobile"]) || model.windows(2).any(|pair| pair == ["max", "q"]);
        let rate_mmacs = row.floor_mmacs() / if laptop { 2 } else { 1 };
        let part = row.divisor * if laptop { 2 } else { 1 };
        let source = format!("1/{part} of the {} giops measured on {}", row.giops, row.measured);
        return Floor { rate_mmacs, source: Text::lossy(&source) };
    }
    let (rate_mmacs, source) = match claim.kind {
        AdapterKind::Discrete if slice => (INTEGRATED_FLOOR_MMACS, "any slice of a GPU"),
        AdapterKind::Discrete => (DISCRETE_FLOOR_MMACS, "any discrete GPU"),
        AdapterKind::Integrated => (INTEGRATED_FLOOR_MMACS, "any integrated GPU"),
        AdapterKind::Virtual => (INTEGRATED_FLOOR_MMACS, "any virtual GPU"),
        AdapterKind::Software => (0, "a software device is asked for no rate"),
        AdapterKind::Unknown => (0, "a device of unknown kind is asked for no rate"),
    };
    Floor { rate_mmacs, source: Text::lossy(source) }
}

/// What makes a claim impossible before any proof: it says GPU and names a program. `None` if nothing does.
pub fn impossible(claim: &GpuClaim) -> Option<Text<240>> {
    if matches!(claim.kind, AdapterKind::Software | AdapterKind::Unknown) {
        return None;
    }
    let model = claim.model.as_str().to_ascii_lowercase();
    let driver = claim.driver.as_str().to_ascii_lowercase();
    let known = SOFTWARE_NAMES.into_iter().find(|name| model.contains(name) || driver.contains(name))?;
    let kind = claim.kind.words();
    let said =
        format!("claims to be a {kind}, but \"{known}\" in its model or driver names a software device");
    Some(Text::lossy(&said))
}

/// The least rate that a proof of this much work can ask for, overhead allowed: million multiply-adds a
/// second over the whole proof. It nears `floor_mmacs` as the work grows.
pub fn asked_mmacs(floor_mmacs: u64, macs: u64) -> u64 {
    let millis_max = millis_max(floor_mmacs, macs);
    if floor_mmacs == 0 { 0 } else { (macs as u128 / 1000 / millis_max.max(1)).min(u64::MAX as u128) as u64 }
}

fn millis_max(floor_mmacs: u64, macs: u64) -> u128 {
    if floor_mmacs == 0 {
        return u128::MAX;
    }
    // A million a second is a thousand a millisecond.
    macs as u128 / (floor_mmacs as u128 * 1000) + OVERHEAD_MILLIS as u128
}

/// The least work of a proof that can pass for this floor; with less, even a software device would. For
/// every claim it is at most 18.1 thousand million multiply-adds, so n = 4096 in one step is enough.
pub fn telling_macs(floor_mmacs: u64) -> u64 {
    work_to_separate(floor_mmacs, SOFTWARE_MMACS.min(floor_mmacs / 2)).unwrap_or(0)
}

/// Whether what was shown carries the floor.
pub fn carries(floor: &Floor, shown: &Shown) -> bool {
    shown.elapsed_millis as u128 <= millis_max(floor.rate_mmacs, shown.macs)
}

/// The multiply-adds that a proof must hold so that a device of `software_mmacs` fails `floor_mmacs`, each
/// in million multiply-adds a second: `work / software > work / floor + overhead`. `None` where the
/// software device is as fast as the floor, so that no amount of work tells them apart.
///
/// A discrete GPU (18,000) from one of 13,600: 33 thousand million, so n = 4096 in one step. An RTX 4090
/// (241,875) from one of 82,000 on a dozen cores: 75 thousand million, so n = 4096 in two.
pub fn work_to_separate(floor_mmacs: u64, software_mmacs: u64) -> Option<u64> {
    let apart = floor_mmacs.checked_sub(software_mmacs).filter(|apart| *apart > 0)? as u128;
    // One millisecond more than the overhead covers the rounding of times to milliseconds.
    let overhead_macs = (OVERHEAD_MILLIS as u128 + 1) * 1000;
    let work = (overhead_macs * floor_mmacs as u128).checked_mul(software_mmacs as u128)?.div_ceil(apart);
    u64::try_from(work).ok()
}

#[cfg(test)]
mod tests {
    use gangline_types::{Backend, Hash};
    use proptest::prelude::*;

    use super::*;

    fn claim(kind: AdapterKind, model: &str, driver: &str) -> GpuClaim {
        GpuClaim {
            slot: Hash::default(),
            model: Text::new(model).unwrap(),
            kind,
            backend: Backend::Vulkan,
            driver: Text::new(driver).unwrap(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 0,
        }
    }

    #[test]
    fn the_shipped_table_is_sound() {
        let rows = parse(TABLE).unwrap();
        assert!(rows.len() > 50);
        for (at, row) in rows.iter().enumerate() {
            assert!(row.divisor >= 64, "{row:?} would fail honest GPUs");
            assert!(row.words.iter().all(|word| *word == word.to_ascii_lowercase()), "{row:?}");
            assert!(rows[..at].iter().all(|other| other.words != row.words), "{row:?} is there twice");
        }
    }

    #[test]
    fn a_malformed_table_is_refused_with_its_line() {
        let check = |table: &str, line, problem| assert_eq!(parse(table), Err(TableError { line, problem }));
        check("# ok\nrtx\tx\t1\t64", 2, "expected five fields separated by tabs");
        check("rtx\tx\tmany\t64\tf", 1, "expected a whole number of giops");
        check("rtx\tx\t1\t0\tf", 1, "expected a rate and a divisor above 0");
        check("rtx  3090\tx\t1\t64\tf", 1, "expected words separated by one space in the first field");
    }

    #[test]
    fn models_find_their_floors() {
        let check =
            |model, kind, rate| assert_eq!(floor(&claim(kind, model, "")).rate_mmacs, rate, "{model}");
        use AdapterKind::*;
        check("NVIDIA A100-SXM4-40GB", Discrete, 302_515);
        check("NVIDIA H100 80GB HBM3", Discrete, 302_515);
        check("NVIDIA A100-SXM4-40GB MIG 1g.5gb", Discrete, INTEGRATED_FLOOR_MMACS);
        check("NVIDIA GeForce RTX 2080", Discrete, 173_203);
        check("NVIDIA GeForce RTX 2080 Ti", Discrete, 241_875);
        check("NVIDIA GeForce RTX 4090", Discrete, 241_875);
        check("NVIDIA GeForce RTX 4090 Laptop GPU", Discrete, 120_937);
        check("GeForce RTX 2080 with Max-Q Design", Discrete, 86_601);
        check("NVIDIA GeForce RTX 3050", Discrete, 41_773);
        check("NVIDIA RTX A2000", Discrete, 41_773);
        check("AMD Radeon RX 7900 XTX (RADV NAVI31)", Discrete, 16_015);
        check("Apple M3 Max", Integrated, 7_437);
        check("Intel(R) UHD Graphics 620 (KBL GT2)", Integrated, 2_265);
        check("GeForce GT 630", Discrete, 1_609);
        check("NVIDIA GeForce 940MX", Discrete, 1_144);
        check("Quadro RTX 4000", Discrete, 41_773);
        check("AMD Radeon RX 550", Discrete, 4_003);
        check("AMD Radeon R7 240", Discrete, 652);
        check("Fancy Card 9000", Discrete, DISCRETE_FLOOR_MMACS);
        check("Fancy Card 9000", Virtual, INTEGRATED_FLOOR_MMACS);
        check("llvmpipe (LLVM 15.0.6, 256 bits)", Software, 0);
        // A label is held to, whatever the kind beside it.
        check("NVIDIA GeForce RTX 4090", Software, 241_875);
    }

    #[test]
    fn a_program_cannot_claim_to_be_a_gpu() {
        let check = |kind, model, driver, refused| {
            assert_eq!(impossible(&claim(kind, model, driver)).is_some(), refused, "{model} {driver}");
        };
        use AdapterKind::*;
        check(Discrete, "llvmpipe (LLVM 15.0.6, 256 bits)", "Mesa", true);
        check(Integrated, "SwiftShader Device (Subzero)", "", true);
        check(Discrete, "Microsoft Basic Render Driver", "", true);
        check(Discrete, "NVIDIA GeForce RTX 4090", "llvmpipe Mesa 22.3.6 (LLVM 15.0.6)", true);
        check(Software, "llvmpipe (LLVM 15.0.6, 256 bits)", "llvmpipe", false);
        check(Discrete, "NVIDIA GeForce RTX 4090", "NVIDIA 550.54", false);
    }

    #[test]
    fn the_work_in_the_text_is_the_work_computed() {
        let check = |floor, software, work| {
            assert_eq!(work_to_separate(floor, software).map(|macs| macs / 1_000_000_000), work);
        };
        check(18_000, 13_600, Some(33));
        check(241_875, 82_000, Some(74));
        check(41_773, 41_773, None);
        let side = 4096u64.pow(3);
        assert!(side > 34_000_000_000 && 2 * side > 75_000_000_000);
        let most = (1..400_000).map(telling_macs).max();
        assert_eq!(most.map(|macs| macs / 100_000_000), Some(180));
        let asked = |macs| [241_875, 41_773, DISCRETE_FLOOR_MMACS].map(|floor| asked_mmacs(floor, macs));
        assert_eq!(asked(4 * 1024u64.pow(3)), [6_961, 6_118, 5_125]);
        assert_eq!(asked(2 * 2048u64.pow(3)), [25_603, 16_992, 11_055]);
        assert_eq!(asked(side), [77_736, 30_610, 15_557]);
    }

    proptest! {
        #[test]
        fn enough_work_separates_and_spares_the_gpu(floor_mmacs in 2..1_000_000u64, part in 1..1000u64) {
            let software = floor_mmacs * part / 1000;
            if let Some(work) = work_to_separate(floor_mmacs, software).filter(|work| *work > 0) {
                let floor = Floor { rate_mmacs: floor_mmacs, source: Text::default() };
                let shown = |rate: u64, overhead: u64| Shown {
                    macs: work, memory_bytes: 0, elapsed_millis: work / (rate * 1000) + overhead,
                };
                prop_assert!(carries(&floor, &shown(floor_mmacs, OVERHEAD_MILLIS)));
                prop_assert!(!carries(&floor, &shown(software, 0)));
            }
        }

        #[test]
        fn no_input_overflows(floor_mmacs: u64, macs: u64, elapsed_millis: u64) {
            let floor = Floor { rate_mmacs: floor_mmacs, source: Text::default() };
            carries(&floor, &Shown { macs, memory_bytes: 0, elapsed_millis });
            asked_mmacs(floor_mmacs, macs);
            work_to_separate(floor_mmacs, macs);
        }
    }
}
