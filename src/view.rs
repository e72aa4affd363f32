//! How an image is seen: mirrored, turned, scaled, shifted. A view is finished when an engine gets it, which only
//! applies it while it loads the image, so that every engine sees the same bits.
//!
//! All of it is about the image's centre: first the image is mirrored, left for right, then turned and scaled, last
//! moved by whole pixels. What comes in from outside is black, 0 before normalization. A view that neither turns nor
//! scales takes pixels as they are. Any other one interpolates linearly between four pixels, by this formula in f32,
//! in which nothing is fused: for row y and column x of what is seen of height x width pixels,
//!
//! ```text
//! u = (x - right) - (width - 1) / 2           v = (y - down) - (height - 1) / 2
//! s = (m0 u + m1 v) + ((width - 1) / 2 + 1)   t = (m2 u + m3 v) + ((height - 1) / 2 + 1)
//! ```
//!
//! are the place's column and row in the image with one black pixel around it, s at least 0 and at most width + 1,
//! t likewise. With column i and row j, s and t rounded down, and p the pixels as floats in [0, 1]:
//!
//! ```text
//! a = p(j, i) + (p(j, i + 1) - p(j, i)) (s - i)   b = p(j + 1, i) + (p(j + 1, i + 1) - p(j + 1, i)) (s - i)
//! seen = a + (b - a) (t - j)
//! ```

/// How one image is seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Whole pixels that it is moved by, down and to the right.
    pub down: i32,
    pub right: i32,
    /// 1: mirrored, left for right; 0: not.
    pub mirrored: u32,
    /// 1: `matrix` says where pixels come from; 0: it only mirrors or does nothing.
    pub resampled: u32,
    /// m0 to m3 of the formula: from a place's column and row, both counted from the centre, to those in the image.
    pub matrix: [f32; 4],
}

/// Rows, and columns, that an image has more with its border: one before it, and two after it, so that a place
/// beyond the last pixel has four pixels around it, too.
const BORDER: usize = 3;

/// Pixels that are computed together. No image is narrower.
const BLOCK: usize = 16;

impl View {
    /// The image as it is.
    #[cfg(test)]
    pub const SAME: View =
        View { down: 0, right: 0, mirrored: 0, resampled: 0, matrix: [1.0, 0.0, 0.0, 1.0] };

    /// Its mirror image.
    pub const MIRRORED: View =
        View { down: 0, right: 0, mirrored: 1, resampled: 0, matrix: [-1.0, 0.0, 0.0, 1.0] };

    pub fn is_resampled(&self) -> bool {
        self.resampled != 0
    }

    /// Writes what is seen of an image whose pixels stay as they are; `P::default()` is black.
    #[inline(always)]
    pub fn move_pixels<P: Copy + Default>(&self, image: &[P], width: usize, out: &mut [P]) {
        let (top, first, rows) = overlap(image.len() / width, self.down);
        let (left, from, columns) = overlap(width, self.right);
        let black = P::default();
        out[..top * width].fill(black);
        out[(top + rows) * width..].fill(black);
        let images = image[first * width..].chunks_exact(width);
        for (out, row) in out[top * width..].chunks_exact_mut(width).zip(images).take(rows) {
            out[..left].fill(black);
            out[left + columns..].fill(black);
            let out = &mut out[left..][..columns];
            if self.mirrored == 0 {
                out.copy_from_slice(&row[from..][..columns]);
            } else {
                let row = row[..width - from].iter().rev();
                out.iter_mut().zip(row).for_each(|(out, &pixel)| *out = pixel);
            }
        }
    }

    /// Floats of an image with its border.
    pub fn bordered_size([height, width]: [usize; 2]) -> usize {
        (height + BORDER) * (width + BORDER)
    }

    /// Writes what is seen of an image of this size between its pixels. `bordered` is room for it with its border;
    /// `value` gives a pixel as a float.
    #[inline(always)]
    pub fn resample<P: Copy>(
        &self,
        image: &[P],
        [height, width]: [usize; 2],
        value: impl Fn(P) -> f32,
        bordered: &mut [f32],
        out: &mut [f32],
    ) {
        let stride = width + BORDER;
        let bordered = &mut bordered[..Self::bordered_size([height, width])];
        bordered.fill(0.0);
        let rows = bordered[stride..].chunks_exact_mut(stride).zip(image.chunks_exact(width));
        for (out, row) in rows {
            let out = &mut out[1..][..width];
            out.iter_mut().zip(row).for_each(|(out, &pixel)| *out = value(pixel));
        }
        for (y, out) in out.chunks_exact_mut(width).enumerate() {
            for first in (0..width).step_by(BLOCK) {
                // The last ones of a row once more, rather than fewer than a block.
                let first = first.min(width - BLOCK);
                let out =
                    out[first..].first_chunk_mut().expect("a block is no wider than an image");
                self.resample_block(bordered, [height, width], (y, first), out);
            }
        }
    }

    /// What is seen at places that are neighbours in a row. The loops are such that the compiler makes vectors of
    /// all but the one that loads pixels.
    #[inline(always)]
    fn resample_block(
        &self,
        bordered: &[f32],
        [height, width]: [usize; 2],
        (y, first): (usize, usize),
        out: &mut [f32; BLOCK],
    ) {
        let stride = width + BORDER;
        let [m0, m1, m2, m3] = self.matrix;
        let [middle_y, middle_x] = [height, width].map(|size| (size - 1) as f32 / 2.0);
        let [last_y, last_x] = [height, width].map(|size| (size + 1) as f32);
        let v = (y as f32 - self.down as f32) - middle_y;
        let (mut at, mut shares) = ([0; BLOCK], [[0.0; BLOCK]; 2]);
        for k in 0..BLOCK {
            let x = (first + k) as i32 as f32; // of i32, which there are vectors of
            let u = (x - self.right as f32) - middle_x;
            let s = clamped((m0 * u + m1 * v) + (middle_x + 1.0), last_x);
            let t = clamped((m2 * u + m3 * v) + (middle_y + 1.0), last_y);
            let (i, j) = (s.floor(), t.floor());
            at[k] = whole_number(j * stride as f32 + i);
            (shares[0][k], shares[1][k]) = (s - i, t - j);
        }
        let (mut upper, mut lower) = ([[0.0; 2]; BLOCK], [[0.0; 2]; BLOCK]);
        for (k, &at) in at.iter().enumerate() {
            let pixels = &bordered[at as usize..][..stride + 2];
            upper[k] = [pixels[0], pixels[1]];
            lower[k] = [pixels[stride], pixels[stride + 1]];
        }
        for (k, out) in out.iter_mut().enumerate() {
            let between = |[p, q]: [f32; 2]| p + (q - p) * shares[0][k];
            let (a, b) = (between(upper[k]), between(lower[k]));
            *out = a + (b - a) * shares[1][k];
        }
    }
}

/// Of places in a line of `size` that is moved by `by`: the first one that shows something, what that is, and how
/// many do.
fn overlap(size: usize, by: i32) -> (usize, usize, usize) {
    let hidden = (by.unsigned_abs() as usize).min(size);
    let (to, from) = if by > 0 { (hidden, 0) } else { (0, hidden) };
    (to, from, size - hidden)
}

/// From 0 to `most`; compiled to two instructions, for there is no NaN.
#[inline(always)]
fn clamped(x: f32, most: f32) -> f32 {
    let x = if x > 0.0 { x } else { 0.0 };
    if x < most { x } else { most }
}

/// A whole number below 2^23 as an integer, without a conversion, which Rust has no vectors for: the sum with 2^23
/// has it in its last bits.
#[inline(always)]
fn whole_number(x: f32) -> u32 {
    const UNIT: f32 = (1 << 23) as f32;
    (x + UNIT).to_bits() - UNIT.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where, row and column, and how brightly a single white pixel among 16 x 16 is seen.
    fn seen(view: View, at: (usize, usize)) -> Vec<(usize, usize, f32)> {
        let mut image = vec![0.0f32; 256];
        image[at.0 * 16 + at.1] = 1.0;
        let mut out = vec![9.0; 256];
        if view.is_resampled() {
            let mut bordered = vec![7.0; View::bordered_size([16, 16])];
            view.resample(&image, [16, 16], |pixel| pixel, &mut bordered, &mut out);
        } else {
            view.move_pixels(&image, 16, &mut out);
        }
        let places = out.into_iter().enumerate().filter(|(_, value)| *value > 1e-5);
        places.map(|(i, value)| (i / 16, i % 16, value)).collect()
    }

    #[test]
    fn pixels_are_mirrored_first_and_moved_last() {
        let moved = View { down: 3, right: -2, ..View::SAME };
        assert_eq!(seen(moved, (5, 4)), [(8, 2, 1.0)]);
        assert_eq!(seen(moved, (13, 4)), []);
        assert_eq!(seen(moved, (5, 1)), []);
        assert_eq!(seen(View { down: i32::MIN, ..moved }, (5, 4)), []);
        assert_eq!(seen(View { right: i32::MAX, ..moved }, (5, 4)), []);
        assert_eq!(seen(View::MIRRORED, (5, 4)), [(5, 11, 1.0)]);
        let both = View { down: 3, right: -2, ..View::MIRRORED };
        assert_eq!(seen(both, (5, 4)), [(8, 9, 1.0)]);
        // The same where pixels are computed.
        for view in [moved, View::MIRRORED, both] {
            assert_eq!(seen(View { resampled: 1, ..view }, (5, 4)), seen(view, (5, 4)));
        }
    }

    /// A quarter turn to the left brings what is at the right to the top.
    #[test]
    fn pixels_are_turned_and_scaled_about_the_centre() {
        let turned = View { resampled: 1, matrix: [0.0, -1.0, 1.0, 0.0], ..View::SAME };
        assert_eq!(seen(turned, (5, 14)), [(1, 5, 1.0)]);
        assert_eq!(seen(View { down: 2, right: 1, ..turned }, (5, 14)), [(3, 6, 1.0)]);
        let mirrored = View { mirrored: 1, matrix: [0.0, 1.0, 1.0, 0.0], ..turned };
        assert_eq!(seen(mirrored, (5, 1)), [(1, 5, 1.0)]);
        // Twice as large: the pixel half a pixel from the centre is seen one pixel from it, at four places.
        let large = View { resampled: 1, matrix: [0.5, 0.0, 0.0, 0.5], ..View::SAME };
        let brightest = |view, at| {
            let places = seen(view, at);
            assert_eq!(places.iter().map(|(.., value)| value).sum::<f32>(), 4.0);
            places.into_iter().max_by(|a, b| a.2.total_cmp(&b.2)).unwrap().2
        };
        assert_eq!(brightest(large, (8, 8)), 0.5625); // 3/4 of the way to it in both directions
        assert_eq!(brightest(large, (5, 6)), 0.5625);
        assert_eq!(seen(large, (2, 8)), []);
    }

    #[test]
    fn between_a_pixel_and_the_outside_lies_what_is_between_it_and_black() {
        let view = View { resampled: 1, matrix: [1.25, 0.0, 0.0, 1.0], ..View::SAME };
        // Columns 1 and 2 are what was 8.125 and 6.875 left of the centre: on either side of column 0, by 5/8.
        assert_eq!(seen(view, (3, 0)), [(3, 1, 0.375), (3, 2, 0.375)]);
    }
}
