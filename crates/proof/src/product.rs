//! The exact int8 product on the processor: the reference that every GPU kernel must equal bit for
//! bit.
//!
//! Knows nothing of challenges or trees. Plain loops that the compiler turns into vector
//! instructions: `n <= 8192` keeps every sum below 2^14 * 2^13 = 2^27, so i32 is exact.

use crate::par;

/// Columns of B taken together, so that they stay in the cache while rows of A pass.
const COLUMNS: usize = 64;
/// Rows of the product that one thread takes at a time.
const ROWS: usize = 16;

/// `C = A B`, row by row. `a` holds A row by row, `b` holds B column by column, both `n` x `n`.
pub fn multiply(a: &[i8], b: &[i8], n: usize) -> Vec<i32> {
    let widen = |m: &[i8]| m.iter().map(|x| i16::from(*x)).collect::<Vec<i16>>();
    let (a, b) = (widen(a), widen(b));
    let mut c = vec![0; n * n];
    par::bands(&mut c, n * ROWS, |band, rows| {
        for first in (0..n).step_by(COLUMNS) {
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                let left = &a[(band * ROWS + i) * n..][..n];
                let last = (first + COLUMNS).min(n);
                let columns = b[first * n..last * n].chunks_exact(n);
                for (entry, column) in row[first..last].iter_mut().zip(columns) {
                    *entry = dot(left, column);
                }
            }
        }
    });
    c
}

fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition_at_the_extremes() {
        let n = 128;
        for fill in [i8::MIN, i8::MAX] {
            let (a, b) = (vec![i8::MIN; n * n], vec![fill; n * n]);
            let expected = -128 * i32::from(fill) * n as i32;
            assert!(multiply(&a, &b, n).iter().all(|c| *c == expected));
        }
        let a: Vec<i8> = (0..n * n).map(|i| (i * 7 % 251) as i8).collect();
        let b: Vec<i8> = (0..n * n).map(|i| (i * 13 % 241) as i8).collect();
        let c = multiply(&a, &b, n);
        for (i, j) in [(0, 0), (3, 99), (127, 127)] {
            let by_hand: i32 = (0..n).map(|k| i32::from(a[i * n + k]) * i32::from(b[j * n + k])).sum();
            assert_eq!(c[i * n + j], by_hand);
        }
    }
}
