//! GLYPH: one glyph found on its paper and made as MNIST's digits are.
//!
//! A picture is looked at with few cells. Paper is what most of it is; ink what is lighter or darker, whichever
//! there is more of. Where the glyph turns out to be small, its surroundings are looked at again, more closely.
//! What was found is stretched to white on black, fitted into 20/28 of the frame with its aspect kept, and
//! placed with its centre of mass in the middle. The sizes are those of yann.lecun.com/exdb/mnist: a box of 20 x
//! 20 in a frame of 28 x 28. MNIST's own digits come out nearly as they are.

use super::cells::{Area, Cells};
use super::image::Image;
use super::ink::{Ink, Run};
use super::paper::Paper;
use super::resize::{Resizer, fitted, place, rounded};
use crate::error::{Code, Error, Result};

/// Grey levels that ink must differ from paper by, however little noise there is, and the noise that it must
/// exceed: one cell in a million of 65,536 does so by chance.
const LEAST_CONTRAST: f64 = 12.0;
const LEAST_SIGNAL: f64 = 5.0;

/// Noise from which on the cells are smoothed by means of 3 x 3 and 5 x 5, and of how many cells in the longer
/// direction each step needs.
const NOISE_3: f64 = 2.4;
const NOISE_5: f64 = 7.2;
const CELLS_A_RADIUS: usize = 40;

/// Looks at a picture, each closer than the one before.
const LOOKS: usize = 3;

/// The box is that of the cells with at least this share of the ink's strength: the faint rim of a blurred
/// stroke is not counted.
const RIM: i32 = 4;

/// A cell's strength of ink is in quarters of a grey level; it goes to 1020 for black on white.
const STRENGTHS: usize = 2048;

#[derive(Default)]
pub struct Glyph {
    cells: Cells,
    paper: Vec<u8>,
    differences: Vec<i16>,
    smooth: Vec<i16>,
    columns: Vec<i16>,
    light: Ink,
    dark: Ink,
    near: Vec<bool>,
    ink: Vec<u8>,
}

/// Where a glyph is, in cells.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// 1: lighter than the paper, -1: darker.
    sign: i16,
    /// The ink's strength, of which a tenth is stronger.
    contrast: i32,
    top: usize,
    bottom: usize,
    left: usize,
    right: usize,
}

impl Glyph {
    /// Writes the glyph in a picture to `out`, of `frame` = [height, width]. A picture without ink is NOT_FOUND.
    pub fn prepare(
        &mut self,
        image: &Image,
        frame: [usize; 2],
        resizer: &mut Resizer,
        out: &mut [u8],
    ) -> Result<()> {
        let found = self.find(image)?;
        let size = self.stretch(&found);
        let inner = frame.map(|side| rounded(5 * side, 7));
        let size_in_frame = fitted(size, inner);
        let top_left = centred(&self.ink, size, size_in_frame, frame);
        let glyph = resizer.resize(&self.ink, size, size_in_frame)?;
        out.fill(0);
        place(glyph, size_in_frame, out, frame, top_left);
        Ok(())
    }

    /// Looks until the glyph is seen closely enough.
    fn find(&mut self, image: &Image) -> Result<Found> {
        let background = image.contrasting_background();
        let mut area = Area { rows: 0..image.height(), columns: 0..image.width() };
        let mut sign = None;
        for look in 1.. {
            self.cells.look(image, &area, background);
            let found = self.look(sign)?;
            let closer = self.around(&found, &area);
            let is_close =
                self.cells.pixels() == 1 || 2 * closer.longer_side() > area.longer_side();
            if is_close || look == LOOKS {
                return Ok(found);
            }
            (area, sign) = (closer, Some(found.sign));
        }
        unreachable!("the last look returns")
    }

    /// The part of `area` that holds the glyph with half its longer side of paper around it.
    fn around(&self, found: &Found, area: &Area) -> Area {
        let k = self.cells.pixels();
        let margin = (found.bottom - found.top).max(found.right - found.left) / 2 + 1;
        let part = |whole: &std::ops::Range<usize>, first: usize, end: usize| {
            let first = whole.start + first.saturating_sub(margin) * k;
            first..whole.end.min(whole.start + (end + margin) * k)
        };
        Area {
            rows: part(&area.rows, found.top, found.bottom),
            columns: part(&area.columns, found.left, found.right),
        }
    }

    /// Finds the glyph in the cells.
    fn look(&mut self, sign: Option<i16>) -> Result<Found> {
        let size = self.cells.size();
        let paper = Paper::estimate(&self.cells);
        self.subtract(&paper);
        let radius = match paper.noise {
            noise if noise <= NOISE_3 => 0,
            noise if noise <= NOISE_5 => 1,
            _ => 2,
        };
        let radius = radius.min(size[0].max(size[1]) / CELLS_A_RADIUS);
        match radius {
            0 => self.smooth.clone_from(&self.differences),
            1 => self.smooth::<3>(),
            _ => self.smooth::<5>(),
        }
        let noise = paper.noise / (2 * radius + 1) as f64;
        let threshold = (LEAST_SIGNAL * noise).max(LEAST_CONTRAST) as i16;
        for (ink, its_sign) in [(&mut self.light, 1), (&mut self.dark, -1)] {
            ink.runs.clear();
            ink.mass = 0;
            if sign.is_none_or(|sign| sign == its_sign) {
                ink.find(&self.smooth, size, its_sign, threshold);
            }
        }
        let sign = if self.light.mass >= self.dark.mass { 1 } else { -1 };
        self.bound(sign)
    }

    /// Differences of the cells to their paper.
    fn subtract(&mut self, paper: &Paper) {
        let [height, width] = self.cells.size();
        self.paper.resize(height * width, 0);
        self.differences.clear();
        let rows = self.paper.chunks_exact_mut(width).zip(self.cells.gray().chunks_exact(width));
        for (y, (paper_row, grays)) in rows.enumerate() {
            paper.row(y, height, paper_row);
            let difference = |(&gray, &paper): (&u8, &u8)| i16::from(gray) - i16::from(paper);
            self.differences.extend(grays.iter().zip(&*paper_row).map(difference));
        }
    }

    /// Means of the differences over squares of `WINDOW` cells each way, the outermost cells going on for ever.
    /// A constant, so that what is divided by is known to the compiler.
    fn smooth<const WINDOW: usize>(&mut self) {
        let [height, width] = self.cells.size();
        let radius = WINDOW / 2;
        self.smooth.clear();
        for y in 0..height {
            self.columns.clear();
            self.columns.resize(width + 2 * radius, 0);
            for dy in 0..WINDOW {
                let row = (y + dy).saturating_sub(radius).min(height - 1);
                let row = &self.differences[row * width..(row + 1) * width];
                let sums = self.columns[radius..radius + width].iter_mut();
                sums.zip(row).for_each(|(sum, &difference)| *sum += difference);
            }
            let (first, last) = (self.columns[radius], self.columns[radius + width - 1]);
            self.columns[..radius].fill(first);
            self.columns[radius + width..].fill(last);
            let means = self.columns.windows(WINDOW).map(|sums| {
                let (sum, area) =
                    (sums.iter().map(|&sum| i32::from(sum)).sum::<i32>(), WINDOW * WINDOW);
                // Shifted above 0, where a division rounds down.
                let shifted = 2 * (sum + 256 * area as i32) + area as i32;
                (shifted as u32 / (2 * area as u32)) as i16 - 256
            });
            self.smooth.extend(means);
        }
    }

    /// The ink's strength and box.
    fn bound(&self, sign: i16) -> Result<Found> {
        let [_, width] = self.cells.size();
        let runs = &if sign > 0 { &self.light } else { &self.dark }.runs;
        let strengths = |run: &Run| {
            let cells = run.row * width + run.start..run.row * width + run.end;
            let papers = &self.paper[cells.clone()];
            self.smooth[cells].iter().zip(papers).map(move |(&d, &paper)| strength(sign, d, paper))
        };
        let mut counts = vec![0u32; STRENGTHS];
        for strength in runs.iter().flat_map(strengths) {
            counts[(strength as usize).min(STRENGTHS - 1)] += 1;
        }
        let rank = (9 * counts.iter().sum::<u32>()).div_ceil(10);
        let mut below = 0;
        let contrast = counts.iter().position(|count| {
            below += count;
            rank > 0 && below >= rank
        });
        let contrast = contrast.ok_or_else(|| {
            let message =
                "no ink was found in the picture: nothing of a glyph's size differs from its paper";
            Error::new(Code::NotFound, message)
        })? as i32;
        let mut found =
            Found { sign, contrast, top: usize::MAX, bottom: 0, left: usize::MAX, right: 0 };
        for run in runs {
            let is_strong = |strength: i32| RIM * strength >= contrast;
            let mut strong = strengths(run);
            if let Some(first) = strong.position(is_strong) {
                let last = strong.rposition(is_strong).map_or(first, |n| first + 1 + n);
                found.top = found.top.min(run.row);
                found.bottom = run.row + 1;
                found.left = found.left.min(run.start + first);
                found.right = found.right.max(run.start + last + 1);
            }
        }
        Ok(found)
    }

    /// Leaves in `ink` the glyph in its box, white on black; gives its size.
    fn stretch(&mut self, found: &Found) -> [usize; 2] {
        let &Found { sign, contrast, top, bottom, left, right } = found;
        let [_, width] = self.cells.size();
        let size = [bottom - top, right - left];
        // The cells next to ink too, which are the rim of a stroke.
        self.near.clear();
        self.near.resize(size[0] * size[1], false);
        for run in &if sign > 0 { &self.light } else { &self.dark }.runs {
            let start = run.start.saturating_sub(1).clamp(left, right) - left;
            let end = (run.end + 1).clamp(left, right) - left;
            let rows = run.row.saturating_sub(1).max(top)..(run.row + 2).min(bottom);
            for row in rows {
                self.near[(row - top) * size[1]..][start..end].fill(true);
            }
        }
        let white =
            |strength: i32| ((510 * strength + contrast) / (2 * contrast)).clamp(0, 255) as u8;
        let table: Vec<u8> = (0..STRENGTHS as i32).map(white).collect();
        self.ink.clear();
        for (y, near) in self.near.chunks_exact(size[1]).enumerate() {
            let first = (top + y) * width + left;
            let differences = &self.differences[first..first + size[1]];
            let papers = &self.paper[first..first + size[1]];
            let cells = differences.iter().zip(papers).zip(near);
            self.ink.extend(cells.map(|((&difference, &paper), &near)| match near {
                false => 0,
                true => {
                    let strength = strength(sign, difference, paper).max(0) as usize;
                    table[strength.min(STRENGTHS - 1)]
                }
            }));
        }
        size
    }
}

/// Quarters of a grey level by which a cell differs from its paper. Dark ink takes a share of the light that
/// paper gives back, so that what lies in the shade is reckoned up to white paper.
fn strength(sign: i16, difference: i16, paper: u8) -> i32 {
    if sign > 0 {
        4 * i32::from(difference)
    } else {
        // Exact: both are whole and small, so that rounding cannot reach the next whole number.
        (-1020.0 * f32::from(difference) / f32::from(paper.max(1))) as i32
    }
}

/// Where the corner of a picture, once it has become `resized` large, must be for its centre of mass to be in
/// the middle of the frame, to whole pixels, as far as it stays inside.
fn centred(picture: &[u8], size: [usize; 2], resized: [usize; 2], frame: [usize; 2]) -> [usize; 2] {
    let (mut mass, mut moments) = (0, [0; 2]);
    for (y, row) in picture.chunks_exact(size[1]).enumerate() {
        let of_row: u64 = row.iter().map(|&value| u64::from(value)).sum();
        mass += of_row;
        moments[0] += of_row * (2 * y as u64 + 1);
        moments[1] += (1..).step_by(2).zip(row).map(|(x, &v)| x * u64::from(v)).sum::<u64>();
    }
    let corner = |axis: usize| {
        let centre = moments[axis] as f64 / (2 * mass) as f64;
        let centre = centre * resized[axis] as f64 / size[axis] as f64;
        let at = (frame[axis] as f64 / 2.0 - centre + 0.5).floor();
        at.clamp(0.0, (frame[axis] - resized[axis]) as f64) as usize
    };
    [corner(0), corner(1)]
}
