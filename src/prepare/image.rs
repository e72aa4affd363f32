//! Pixels as programs have them, and their grey.

use crate::error::{Error, Result};
use std::ops::Range;

/// Bytes of a pixel, in the order in which they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Gray8,
    Rgb8,
    Bgr8,
    Rgba8,
    Bgra8,
}

impl Format {
    pub fn bytes(self) -> usize {
        match self {
            Format::Gray8 => 1,
            Format::Rgb8 | Format::Bgr8 => 3,
            Format::Rgba8 | Format::Bgra8 => 4,
        }
    }
}

/// Rows and columns that a picture may have: more than any camera gives, and few enough that no sum over a
/// picture leaves 64 bits.
const MAX_SIDE: usize = 1 << 16;

/// A picture in the caller's memory.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    format: Format,
    height: usize,
    width: usize,
    /// From one row's first byte to the next one's.
    stride: usize,
    pixels: &'a [u8],
}

impl<'a> Image<'a> {
    /// `stride` is in bytes, 0 for rows that touch; `pixels` has all bytes up to the last row's last pixel.
    pub fn new(
        format: Format,
        height: usize,
        width: usize,
        stride: usize,
        pixels: &'a [u8],
    ) -> Result<Self> {
        let needed = Image::length(format, height, width, stride)?;
        if pixels.len() < needed {
            return Err(Error::invalid(format!(
                "pixels has {} bytes; {needed} are needed",
                pixels.len()
            )));
        }
        let stride = if stride == 0 { width * format.bytes() } else { stride };
        Ok(Image { format, height, width, stride, pixels })
    }

    /// The bytes from a picture's first pixel to its last: padding behind the last row is not among them.
    pub fn length(format: Format, height: usize, width: usize, stride: usize) -> Result<usize> {
        for (name, size) in [("height", height), ("width", width)] {
            if !(1..=MAX_SIDE).contains(&size) {
                let message = format!("{name} is {size}; it must be from 1 to {MAX_SIDE}");
                return Err(Error::invalid(message));
            }
        }
        let row = width * format.bytes();
        if stride != 0 && stride < row {
            return Err(Error::invalid(format!(
                "stride is {stride}; a row of {width} pixels has {row} bytes"
            )));
        }
        let rows_before = stride.max(row).checked_mul(height - 1);
        rows_before.and_then(|bytes| bytes.checked_add(row)).ok_or_else(|| {
            Error::invalid(format!("stride is {stride}, too large for {height} rows"))
        })
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// The grey of `columns` of row `y`, transparent pixels before `background`: the picture's own bytes where
    /// they are grey, else in `buffer`.
    pub fn gray_row<'b>(
        &self,
        y: usize,
        columns: Range<usize>,
        background: u8,
        buffer: &'b mut Vec<u8>,
    ) -> &'b [u8]
    where
        'a: 'b,
    {
        let bytes = self.format.bytes();
        let start = y * self.stride;
        let row = &self.pixels[start + columns.start * bytes..start + columns.end * bytes];
        let (threes, _) = row.as_chunks::<3>();
        let (fours, _) = row.as_chunks::<4>();
        buffer.clear();
        match self.format {
            Format::Gray8 => return row,
            Format::Rgb8 => buffer.extend(threes.iter().map(|&[r, g, b]| luma(r, g, b))),
            Format::Bgr8 => buffer.extend(threes.iter().map(|&[b, g, r]| luma(r, g, b))),
            Format::Rgba8 => {
                let over = |&[r, g, b, a]: &[u8; 4]| over(luma(r, g, b), a, background);
                buffer.extend(fours.iter().map(over));
            }
            Format::Bgra8 => {
                let over = |&[b, g, r, a]: &[u8; 4]| over(luma(r, g, b), a, background);
                buffer.extend(fours.iter().map(over));
            }
        }
        buffer
    }

    /// What a drawing on nothing was meant to be seen before: white if what is opaque is rather dark, else
    /// black. Of no account where nothing is transparent.
    pub fn contrasting_background(&self) -> u8 {
        if self.format.bytes() < 4 {
            return 0;
        }
        let mut buffer = Vec::new();
        // Before black, a pixel's grey is its own times its opacity.
        let (mut gray, mut white) = (0u64, 0u64);
        for y in 0..self.height {
            let row = self.gray_row(y, 0..self.width, 0, &mut buffer);
            gray += row.iter().map(|&gray| u64::from(gray)).sum::<u64>();
            let start = y * self.stride;
            let (pixels, _) = self.pixels[start..start + 4 * self.width].as_chunks::<4>();
            white += pixels.iter().map(|&[.., alpha]| u64::from(alpha)).sum::<u64>();
        }
        if 2 * gray < white { 255 } else { 0 }
    }
}

/// Luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, in 65536ths and rounded: what PIL's mode "L" is.
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 32768) >> 16) as u8
}

/// `value` with opacity `alpha` / 255 before `background`, rounded.
fn over(value: u8, alpha: u8, background: u8) -> u8 {
    let (value, alpha, background) = (u32::from(value), u32::from(alpha), u32::from(background));
    ((value * alpha + background * (255 - alpha) + 127) / 255) as u8
}
