//! Arithmetic modulo the prime p = 2^61 - 1, as far as checking a product of matrices needs it.
//!
//! Knows nothing of transcripts. Sums of integers are kept exact and reduced once.

/// The prime, 2^61 - 1.
pub const P: u64 = (1 << 61) - 1;

/// `x` modulo p, from 0 to p - 1.
pub fn reduce(x: i128) -> u64 {
    x.rem_euclid(i128::from(P)) as u64
}

/// The element that eight random bytes stand for: the low 61 bits, and 0 for p itself.
pub fn from_random(word: u64) -> u64 {
    match word & P {
        P => 0,
        x => x,
    }
}

/// A vector of elements split into 31 low and 30 high bits, so that products with int8 sum exactly
/// in i64: 2^7 * 2^31 * 2^13 entries = 2^51.
pub struct Limbs {
    low: Vec<i64>,
    high: Vec<i64>,
}

impl Limbs {
    /// Splits elements below p.
    pub fn new(elements: &[u64]) -> Self {
        Self {
            low: elements.iter().map(|x| (x & 0x7fff_ffff) as i64).collect(),
            high: elements.iter().map(|x| (x >> 31) as i64).collect(),
        }
    }

    /// The inner product of an int8 row with this vector.
    pub fn dot(&self, row: &[i8]) -> u64 {
        let (mut low, mut high) = (0i64, 0i64);
        for ((v, l), h) in row.iter().zip(&self.low).zip(&self.high) {
            low += i64::from(*v) * l;
            high += i64::from(*v) * h;
        }
        join(low, high)
    }
}

/// A sum of int8 columns, each times an element: B r, column by column.
pub struct ColumnSum {
    low: Vec<i64>,
    high: Vec<i64>,
}

impl ColumnSum {
    /// The empty sum of columns of `n` entries; at most 2^13 columns may be added.
    pub fn new(n: usize) -> Self {
        Self { low: vec![0; n], high: vec![0; n] }
    }

    /// Adds `column * factor`.
    pub fn add(&mut self, column: &[i8], factor: u64) {
        let (l, h) = ((factor & 0x7fff_ffff) as i64, (factor >> 31) as i64);
        for ((v, low), high) in column.iter().zip(&mut self.low).zip(&mut self.high) {
            *low += i64::from(*v) * l;
            *high += i64::from(*v) * h;
        }
    }

    /// The sum, reduced.
    pub fn finish(self) -> Vec<u64> {
        self.low.iter().zip(&self.high).map(|(l, h)| join(*l, *h)).collect()
    }
}

/// The inner product of a row of a product with a vector of elements. At most 2^13 entries:
/// 2^31 * 2^61 * 2^13 is far below i128.
pub fn dot_i32(row: &[i32], r: &[u64]) -> u64 {
    reduce(row.iter().zip(r).map(|(c, r)| i128::from(*c) * i128::from(*r)).sum())
}

fn join(low: i64, high: i64) -> u64 {
    reduce(i128::from(low) + (i128::from(high) << 31))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reduction_at_the_edges() {
        let p = i128::from(P);
        for (x, expected) in [(0, 0), (p, 0), (-p, 0), (-1, P - 1), (p + 1, 1), (p * p - 1, P - 1)] {
            assert_eq!(reduce(x), expected, "{x}");
        }
        assert_eq!((from_random(u64::MAX), from_random(P - 1), from_random(1 << 61)), (0, P - 1, 0));
    }

    proptest! {
        #[test]
        fn split_sums_agree_with_whole_ones(v in prop::collection::vec((any::<i8>(), 0..P), 1..200)) {
            let (row, r): (Vec<i8>, Vec<u64>) = v.into_iter().unzip();
            let wide: Vec<i32> = row.iter().map(|x| i32::from(*x)).collect();
            let expected = dot_i32(&wide, &r);
            prop_assert_eq!(Limbs::new(&r).dot(&row), expected);
            let mut sum = ColumnSum::new(1);
            for (v, r) in row.iter().zip(&r) {
                sum.add(&[*v], *r);
            }
            prop_assert_eq!(sum.finish(), vec![expected]);
        }
    }
}
