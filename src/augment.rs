//! Augmentation: how each image is seen in each epoch of training, drawn at random.
//!
//! A draw depends on the seed, the epoch and the image alone, never on what was drawn before, and what one option
//! draws never on the others. Each number is SplitMix64's (Steele, Lea and Flood, "Fast splittable pseudorandom
//! number generators", OOPSLA 2014) of a state that those three and the draw's own number give, so nothing is kept
//! between draws. Only sums, products and quotients of f64 are computed, the sine and cosine too, so that every
//! machine draws the same bits.

pub use crate::view::View;
use std::f64::consts::PI;

/// What may happen to an image. All zero: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// Moved by a whole number of pixels from -shift to shift down, and to the right, each as likely. Far below
    /// 2^23, for f32 must have them all.
    pub shift: u32,
    /// Probability that it is mirrored, left for right.
    pub flip: f64,
    /// Turned by an angle from -rotation to rotation degrees, at most 180.
    pub rotation: f64,
    /// Made larger by a factor from 1 - scale to 1 + scale. Below 1.
    pub scale: f64,
}

/// Numbers of the draws, which never change.
#[derive(Clone, Copy)]
enum Draw {
    Down = 1,
    Right = 2,
    Mirrored = 3,
    Angle = 4,
    Factor = 5,
}

impl Augmentation {
    /// Whether every view is of the image as it is.
    pub fn is_off(&self) -> bool {
        *self == Augmentation::default()
    }

    /// How image `image` of a dataset is seen in this epoch.
    #[inline]
    pub fn draw(&self, seed: u64, epoch: u64, image: u32) -> View {
        let key =
            split_mix(split_mix(split_mix(seed, 1), epoch.wrapping_add(1)), 1 + u64::from(image));
        let bits = |draw: Draw| split_mix(key, draw as u64);
        // From 0 up to, but not, 1.
        let fraction = |draw: Draw| (bits(draw) >> 11) as f64 / (1u64 << 53) as f64;
        let symmetric = |draw: Draw| 2.0 * fraction(draw) - 1.0;
        let whole = |draw: Draw| {
            // Its probability is off by less than 2^-64.
            let among = 2 * u128::from(self.shift) + 1;
            ((u128::from(bits(draw)) * among) >> 64) as i64 - i64::from(self.shift)
        };
        let mirrored = fraction(Draw::Mirrored) < self.flip;
        let resampled = self.rotation != 0.0 || self.scale != 0.0;
        let (sine, cosine) = sine_and_cosine(self.rotation * symmetric(Draw::Angle));
        let factor = 1.0 + self.scale * symmetric(Draw::Factor);
        let (sine, cosine) = ((sine / factor) as f32, (cosine / factor) as f32);
        let sign = if mirrored { -1.0 } else { 1.0 };
        View {
            down: whole(Draw::Down) as i32,
            right: whole(Draw::Right) as i32,
            mirrored: mirrored.into(),
            resampled: resampled.into(),
            matrix: [sign * cosine, sign * -sine, sine, cosine],
        }
    }
}

/// Number `n`, from 1 on, of SplitMix64 with this state.
#[inline]
fn split_mix(state: u64, n: u64) -> u64 {
    let z = state.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Of an angle in degrees, to 1e-12: the first terms of their series, at most an eighth of a turn from the nearest
/// quarter.
#[inline]
fn sine_and_cosine(degrees: f64) -> (f64, f64) {
    const SINE: [f64; TERMS] = reciprocal_factorials(1);
    const COSINE: [f64; TERMS] = reciprocal_factorials(0);
    let quarters = (degrees / 90.0 + 0.5f64.copysign(degrees)) as i64; // rounded
    let x = (degrees - 90.0 * quarters as f64) * (PI / 180.0);
    let series =
        |terms: [f64; TERMS]| terms.into_iter().rev().fold(0.0, |sum, term| term - x * x * sum);
    let (sine, cosine) = (x * series(SINE), series(COSINE));
    match quarters & 3 {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

const TERMS: usize = 7;

/// 1 / n! for every other n from `first` on.
const fn reciprocal_factorials(first: usize) -> [f64; TERMS] {
    let mut terms = [1.0; TERMS];
    let mut n = 1;
    while n < TERMS {
        let k = (first + 2 * n) as f64;
        terms[n] = terms[n - 1] / (k * (k - 1.0));
        n += 1;
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Augmentation = Augmentation { shift: 2, flip: 0.5, rotation: 10.0, scale: 0.2 };

    /// The first numbers of SplitMix64 from state 1234567, as Rosetta Code's "Pseudo-random numbers/Splitmix64"
    /// has them.
    #[test]
    fn the_generator_is_split_mix_64() {
        let known = [6457827717110365317, 3203168211198807973, 9817491932198370423u64];
        for (n, known) in (1..).zip(known) {
            assert_eq!(split_mix(1234567, n), known);
        }
    }

    #[test]
    fn sine_and_cosine_are_those_of_the_library() {
        for i in -3600..=3600 {
            let degrees = f64::from(i) / 10.0;
            let (sine, cosine) = sine_and_cosine(degrees);
            let (s, c) = degrees.to_radians().sin_cos();
            assert!((sine - s).abs() < 1e-12 && (cosine - c).abs() < 1e-12, "{degrees}");
        }
        assert_eq!(sine_and_cosine(90.0), (1.0, -0.0));
        assert_eq!(sine_and_cosine(-180.0), (-0.0, -1.0));
    }

    /// Bits that no machine may draw otherwise: files go on with them.
    #[test]
    fn draws_stay_what_they_are() {
        let view = ALL.draw(42, 7, 1000);
        assert_eq!((view.down, view.right, view.mirrored, view.resampled), (0, 1, 1, 1));
        assert_eq!(
            view.matrix.map(f32::to_bits),
            [0xbf6d_5d9d, 0x3dfa_ce4c, 0x3dfa_ce4c, 0x3f6d_5d9d]
        );
    }

    #[test]
    fn off_is_the_image_as_it_is() {
        let off = Augmentation::default();
        assert!(off.is_off() && !ALL.is_off());
        for i in 0..100 {
            assert_eq!(off.draw(1, 2, i), View::SAME);
            assert_eq!(Augmentation { flip: 1.0, ..off }.draw(1, 2, i), View::MIRRORED);
        }
    }

    #[test]
    fn an_option_draws_the_same_whatever_others_do() {
        let off = Augmentation::default();
        for i in 0..1000 {
            let all = ALL.draw(3, 4, i);
            let shift = Augmentation { shift: 2, ..off }.draw(3, 4, i);
            assert_eq!((shift.down, shift.right), (all.down, all.right));
            let flip = Augmentation { flip: 0.5, ..off }.draw(3, 4, i);
            assert_eq!(flip.mirrored, all.mirrored);
            let turned = Augmentation { shift: 0, flip: 0.0, ..ALL }.draw(3, 4, i);
            assert_eq!(turned.matrix[2..], all.matrix[2..]);
        }
    }

    /// Of counts that should be equal, and their degrees of freedom: six standard deviations are a mistake.
    fn assert_uniform(what: &str, counts: &[u64]) {
        let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let chi_square: f64 = counts.iter().map(|&n| (n as f64 - mean).powi(2) / mean).sum();
        let freedom = (counts.len() - 1) as f64;
        let off = (chi_square - freedom).abs() / (2.0 * freedom).sqrt();
        assert!(off < 6.0, "{what}: {chi_square} with {freedom} degrees of freedom");
    }

    const N: u32 = 100_000;

    #[test]
    fn shifts_are_as_likely_and_flips_as_said() {
        for (shift, flip) in [(1, 0.5), (2, 0.1), (3, 0.9)] {
            let options = Augmentation { shift, flip, ..Augmentation::default() };
            for (seed, epoch) in [(0, 0), (0, 1), (u64::MAX, 17)] {
                let side = 2 * shift as usize + 1;
                let mut counts = vec![0; side * side];
                let mut mirrored = 0;
                for view in (0..N).map(|i| options.draw(seed, epoch, i)) {
                    let [row, column] = [view.down, view.right].map(|by| by + shift as i32);
                    counts[row as usize * side + column as usize] += 1;
                    mirrored += view.mirrored;
                }
                assert_uniform("shifts", &counts);
                let deviation = (f64::from(N) * flip * (1.0 - flip)).sqrt();
                let off = (f64::from(mirrored) - flip * f64::from(N)).abs();
                assert!(off < 5.0 * deviation, "{mirrored} of {N} with {flip}");
            }
        }
    }

    #[test]
    fn angles_and_factors_are_uniform_in_their_ranges() {
        const CELLS: usize = 10;
        let mut factors = [0; CELLS * CELLS];
        let mut shifts = [0; CELLS * 5];
        for view in (0..N).map(|i| Augmentation { flip: 0.0, ..ALL }.draw(8, 9, i)) {
            let [cosine, _, sine, _] = view.matrix.map(f64::from);
            let (angle, factor) = (sine.atan2(cosine).to_degrees(), 1.0 / sine.hypot(cosine));
            assert!((-10.00001..=10.00001).contains(&angle), "{angle}");
            assert!((0.799999..=1.200001).contains(&factor), "{factor}");
            let cell = |x: f64| ((x * CELLS as f64) as usize).min(CELLS - 1);
            let angle = cell((angle + 10.0) / 20.0);
            // Together with other draws, so that they are seen to be independent.
            factors[angle * CELLS + cell((factor - 0.8) / 0.4)] += 1;
            shifts[angle * 5 + (view.right + 2) as usize] += 1;
        }
        assert_uniform("angles and factors", &factors);
        assert_uniform("angles and shifts", &shifts);
    }

    /// Images, epochs and seeds that are neighbours draw what has nothing to do with each other.
    #[test]
    fn neighbours_are_independent() {
        let options = Augmentation { shift: 4, ..Augmentation::default() };
        type At = fn(u32) -> (u64, u64, u32);
        let sequences: [(&str, At); 4] = [
            ("image", |i| (1, 2, i)),
            ("epoch", |i| (1, i.into(), 2)),
            ("seed", |i| (i.into(), 1, 2)),
            ("large seed", |i| (u64::from(i) << 32, 1, 2)),
        ];
        for (what, at) in sequences {
            let down = |i: u32| {
                let (seed, epoch, image) = at(i);
                let view = options.draw(seed, epoch, image);
                (view.down + 4) as usize
            };
            let mut counts = [0; 81];
            (0..N).for_each(|i| counts[down(i) * 9 + down(i + 1)] += 1);
            assert_uniform(what, &counts);
        }
        // The same place in another epoch, image or seed.
        let mut counts = [[0; 81]; 3];
        for i in 0..N {
            let down = |seed, epoch, image| (options.draw(seed, epoch, image).down + 4) as usize;
            let first = down(1, 0, i);
            counts[0][first * 9 + down(1, 1, i)] += 1;
            counts[1][first * 9 + down(2, 0, i)] += 1;
            counts[2][first * 9 + down(1, u64::from(i), 0)] += 1;
        }
        counts.iter().for_each(|counts| assert_uniform("others", counts));
    }
}
