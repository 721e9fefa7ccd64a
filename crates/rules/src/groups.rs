//! A snapshot's entries as they are hashed and kept: records of one length, 64 to a group.
//!
//! A group is a leaf of the snapshot's tree and about a page of a disk; who shows one entry shows its group.

use gangline_types::{GpuId, MicroCredits, ProofId, Standing, public::PublicEntry};

/// Entries in a group; the last one may have fewer.
pub const GROUP: usize = 64;
/// Bytes of a record: id 16, standing 1, rate 8, whether there is a proof 1, its id or zeros 16, minutes 4,
/// weight 8, share 8; integers in little-endian order.
pub const RECORD_BYTES: usize = 62;

/// One group as it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// Id of its first entry.
    pub first: GpuId,
    /// Its records, one after another.
    pub records: &'a [u8],
}

const STANDINGS: [Standing; 5] =
    [Standing::Unproven, Standing::Proven, Standing::Suspect, Standing::Quarantined, Standing::Retired];

pub(crate) fn standing_code(standing: Standing) -> u8 {
    match standing {
        Standing::Unproven => 0,
        Standing::Proven => 1,
        Standing::Suspect => 2,
        Standing::Quarantined => 3,
        Standing::Retired => 4,
    }
}

pub(crate) fn standing_of(code: u8) -> Option<Standing> {
    STANDINGS.get(usize::from(code)).copied()
}

/// One entry, every field at a fixed place.
#[inline(always)]
pub(crate) fn record(entry: &PublicEntry) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..16].copy_from_slice(entry.gpu.as_bytes());
    bytes[16] = standing_code(entry.standing);
    bytes[17..25].copy_from_slice(&entry.matrix_mmacs.to_le_bytes());
    if let Some(proof) = entry.proof {
        bytes[25] = 1;
        bytes[26..42].copy_from_slice(proof.as_bytes());
    }
    bytes[42..46].copy_from_slice(&entry.minutes.to_le_bytes());
    bytes[46..54].copy_from_slice(&entry.weight.to_le_bytes());
    bytes[54..].copy_from_slice(&entry.share.0.to_le_bytes());
    bytes
}

/// Entries one after another.
pub fn pack(entries: &[PublicEntry]) -> Vec<u8> {
    entries.iter().flat_map(record).collect()
}

fn unrecord(bytes: &[u8]) -> Option<PublicEntry> {
    let id = |at: usize| <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok();
    let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let entry = PublicEntry {
        gpu: GpuId::from_bytes(id(0)?),
        standing: standing_of(*bytes.get(16)?)?,
        matrix_mmacs: long(17)?,
        proof: if *bytes.get(25)? == 1 { Some(ProofId::from_bytes(id(26)?)) } else { None },
        minutes: u32::from_le_bytes(bytes.get(42..46)?.try_into().ok()?),
        weight: long(46)?,
        share: MicroCredits(long(54)?),
    };
    (record(&entry) == bytes).then_some(entry)
}

/// The entries of records; `None` where they are not exactly what [`pack`] makes.
pub fn unpack(records: &[u8]) -> Option<Vec<PublicEntry>> {
    records.chunks(RECORD_BYTES).map(unrecord).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_and_nothing_else_is_taken() {
        let entry = |n: u8| PublicEntry {
            gpu: GpuId::from_bytes([n; 16]),
            standing: STANDINGS[usize::from(n) % 5],
            matrix_mmacs: u64::from(n) << 40,
            proof: n.is_multiple_of(2).then(|| ProofId::from_bytes([n; 16])),
            minutes: u32::from(n),
            weight: u64::MAX - u64::from(n),
            share: MicroCredits(u64::from(n) * 7),
        };
        let entries: Vec<_> = (0..GROUP as u8).map(entry).collect();
        let packed = pack(&entries);
        assert_eq!(packed.len(), GROUP * RECORD_BYTES);
        assert_eq!(unpack(&packed), Some(entries));
        assert_eq!(unpack(&packed[1..]), None, "cut off");
        let changed = |at: usize, to: u8| {
            let mut bytes = packed.clone();
            bytes[at] = to;
            bytes
        };
        assert_eq!(unpack(&changed(16, 9)), None, "no standing");
        assert_eq!(unpack(&changed(25, 2)), None, "neither with a proof nor without");
        assert_eq!(unpack(&changed(RECORD_BYTES + 30, 1)), None, "an id of no proof");
    }
}
