//! A part of a picture seen with few cells: the mean grey of k x k pixels each.

use super::image::Image;
use std::ops::Range;

/// Cells in each direction, at most.
const SIDE: usize = 256;

/// A part of a picture: rows and columns.
#[derive(Clone, Debug)]
pub struct Area {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

impl Area {
    pub fn longer_side(&self) -> usize {
        self.rows.len().max(self.columns.len())
    }
}

#[derive(Default)]
pub struct Cells {
    height: usize,
    width: usize,
    /// Pixels of a cell in each direction; at the far edges there may be fewer.
    pixels: usize,
    gray: Vec<u8>,
    sums: Vec<u16>,
    row: Vec<u8>,
}

impl Cells {
    /// Looks at `area` of a picture whose transparent pixels lie before `background`.
    pub fn look(&mut self, image: &Image, area: &Area, background: u8) {
        self.pixels = area.longer_side().div_ceil(SIDE);
        self.height = area.rows.len().div_ceil(self.pixels);
        self.width = area.columns.len().div_ceil(self.pixels);
        self.gray.clear();
        for top in area.rows.clone().step_by(self.pixels) {
            let rows = top..area.rows.end.min(top + self.pixels);
            // At most SIDE rows of bytes, so that no sum leaves 16 bits.
            self.sums.clear();
            self.sums.resize(area.columns.len(), 0);
            for y in rows.clone() {
                let row = image.gray_row(y, area.columns.clone(), background, &mut self.row);
                self.sums.iter_mut().zip(row).for_each(|(sum, &gray)| *sum += u16::from(gray));
            }
            let (whole, rest) = self.sums.split_at(area.columns.len() / self.pixels * self.pixels);
            let mean = Mean::of(self.pixels * rows.len());
            match self.pixels {
                1 => self.gray.extend(whole.iter().map(|&sum| mean.round(sum.into()))),
                2 => {
                    let (pairs, _) = whole.as_chunks::<2>();
                    let sums = pairs.iter().map(|&[a, b]| u32::from(a) + u32::from(b));
                    self.gray.extend(sums.map(|sum| mean.round(sum)));
                }
                _ => {
                    self.gray.extend(whole.chunks(self.pixels).map(|sums| mean.round(total(sums))))
                }
            }
            if !rest.is_empty() {
                self.gray.push(Mean::of(rest.len() * rows.len()).round(total(rest)));
            }
        }
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// (height, width)
    pub fn gray(&self) -> &[u8] {
        &self.gray
    }
}

fn total(sums: &[u16]) -> u32 {
    sums.iter().map(|&sum| u32::from(sum)).sum()
}

/// The mean of so many bytes by their sum, rounded, halves up: exact, but without a division, which would take
/// more time than all else.
#[derive(Clone, Copy)]
struct Mean {
    count: u64,
    reciprocal: u64,
}

impl Mean {
    const BITS: u32 = 46;

    /// Of at most SIDE * SIDE bytes.
    fn of(count: usize) -> Self {
        let count = count as u64;
        Mean { count, reciprocal: (1 << Self::BITS) / (2 * count) + 1 }
    }

    /// The reciprocal is too large by at most 2^-46, and what it is multiplied with is below 2^26, so that the
    /// product is too large by less than 2^-20; the exact quotient is at least 2^-17 below the next whole number.
    fn round(self, sum: u32) -> u8 {
        (((2 * u64::from(sum) + self.count) * self.reciprocal) >> Self::BITS) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_exact() {
        for count in (1..=300).chain([SIDE * SIDE, SIDE * SIDE - 1, 65521, 4096, 40000]) {
            let mean = Mean::of(count);
            let most = 255 * count;
            for sum in (0..=most).step_by(most / 1000 + 1).chain([most]) {
                // Where the mean goes from one number to the next, too.
                for sum in [
                    sum,
                    (sum / count * count + count / 2),
                    sum / count * count + count.div_ceil(2),
                ] {
                    let sum = sum.min(most);
                    let expected = (2 * sum + count) / (2 * count);
                    assert_eq!(usize::from(mean.round(sum as u32)), expected, "{sum} / {count}");
                }
            }
        }
    }
}
