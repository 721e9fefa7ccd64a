//! What a witness's answer to a request for a cosignature means for whoever keeps the log (c2sp.org/tlog-witness).
//! Pure: sending the request and keeping what came are others' work.

use gangline_types::UnixSeconds;

use super::note::{Note, SignatureLine, VerifierKey};

/// Lines of an answer that are looked at, at most.
const LINES_MAX: usize = 16;

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It has cosigned.
    Cosigned {
        /// When, by its clock.
        at: UnixSeconds,
        /// The line that goes under the checkpoint, without its newline.
        line: String,
    },
    /// It has cosigned another size before: ask again from there.
    Knows {
        /// Entries.
        size: u64,
    },
    /// It holds another tree against this log, or does not see that this one grew out of the one it knows: whoever
    /// keeps the log has to look at once.
    Refused(String),
    /// It did not decide.
    Undecided(String),
}

/// Reads the answer to a request for `note`, whose tree has `size` entries, from `old_size` on.
pub fn read(
    status: u16,
    body: &str,
    note: &Note,
    size: u64,
    old_size: u64,
    witness: &VerifierKey,
) -> Answered {
    match status {
        200 => {
            for line in body.lines().take(LINES_MAX) {
                let Ok(signature) = line.parse::<SignatureLine>() else { continue };
                let mut alone = Note::unsigned(note.text().to_owned());
                alone.add(signature);
                if let Ok(Some(at)) = alone.verify(witness) {
                    return Answered::Cosigned { at, line: line.to_owned() };
                }
            }
            Answered::Undecided("its answer holds no cosignature by its key".into())
        }
        409 => match body.trim_end_matches('\n').parse::<u64>() {
            Ok(known) if known > size => Answered::Refused(format!(
                "it has cosigned {known} entries of this log, which has {size}: the log was rolled back or forked"
            )),
            Ok(known) if known == old_size => Answered::Refused(format!(
                "it has cosigned another tree of {known} entries under this log's name: the log was forked"
            )),
            Ok(known) => Answered::Knows { size: known },
            Err(_) => Answered::Undecided("it does not say which size it knows".into()),
        },
        422 => Answered::Refused(format!(
            "it does not find that the {size} entries begin with the {old_size} that it has cosigned: the log was forked"
        )),
        403 => Answered::Undecided("it knows another key under this log's name".into()),
        404 => Answered::Undecided("it does not watch this log".into()),
        status => Answered::Undecided(format!("it answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use gangline_types::Hash;
    use gangline_wire::SigningKey;
    use zeroize::Zeroizing;

    use super::*;
    use crate::log::{Checkpoint, note::KeyUse};

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([n; 32]))
    }

    #[test]
    fn an_answer_is_a_cosignature_a_size_a_refusal_or_nothing() {
        let witness = VerifierKey::new("w", KeyUse::Witness, key(2).public()).unwrap();
        let note = Checkpoint { origin: "log".into(), size: 9, root: Hash([7; 32]) }.sign(&key(1));
        let at = UnixSeconds(1_800_000_000);
        let by = |name: &str, n: u8| note.cosignature(name, &key(n), at).unwrap().to_string();
        let good = by("w", 2);
        let line = good.trim_end().to_owned();
        let check = |status, body: &str, expected: Answered| {
            assert_eq!(read(status, body, &note, 9, 4, &witness), expected, "{status} {body}");
        };
        check(200, &good, Answered::Cosigned { at, line: line.clone() });
        check(200, &format!("{}{good}", by("other", 3)), Answered::Cosigned { at, line });
        let none = Answered::Undecided("its answer holds no cosignature by its key".into());
        for body in ["", "\n", "x", &by("w", 3), &by("v", 2)] {
            check(200, body, none.clone());
        }
        check(409, "7\n", Answered::Knows { size: 7 });
        check(409, "0\n", Answered::Knows { size: 0 });
        for (status, body) in [(409, "10\n"), (409, "4\n"), (422, "")] {
            let answer = read(status, body, &note, 9, 4, &witness);
            assert!(matches!(answer, Answered::Refused(_)), "{status} {body} {answer:?}");
        }
        for (status, body) in [(409, "seven"), (403, ""), (404, ""), (500, ""), (302, "")] {
            let answer = read(status, body, &note, 9, 4, &witness);
            assert!(matches!(answer, Answered::Undecided(_)), "{status} {body} {answer:?}");
        }
    }
}
