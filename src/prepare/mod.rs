//! Any picture to the network's input: grey from colour, then resized into the frame or, for glyphs, found,
//! cut out and centred as MNIST's digits were. Training data and what a program shows later go through the
//! same code.
//!
//! A picture is never read beyond its own pixels, and none is too odd to be prepared or refused: one row, one
//! pixel, one colour. Nothing here knows how a picture came to be in memory.
//!
//! | room | concern |
//! | --- | --- |
//! | `glyph` | GLYPH: found, stretched, centred |
//! | `ink` | what on the paper is ink |
//! | `paper` | the paper's grey everywhere, and its noise |
//! | `cells` | a part of a picture seen with few cells |
//! | `resize` | smaller and larger pictures, antialiased; RESIZE |
//! | `image` | pixels as programs have them, and their grey |

mod cells;
mod glyph;
mod image;
mod ink;
mod paper;
mod resize;

pub use image::{Format, Image};

use crate::error::Result;
use crate::failpoint;
use crate::free_list::FreeList;
use glyph::Glyph;
use resize::Resizer;
use serde::{Deserialize, Serialize};

/// What is done to a picture, by the names in model files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preparation {
    /// Fitted into the frame with its aspect kept.
    #[default]
    Resize,
    /// One glyph found on its paper, white on black, sized and centred as MNIST's digits.
    Glyph,
}

/// Prepares pictures for networks of one input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preparer {
    pub preparation: Preparation,
    pub height: usize,
    pub width: usize,
}

/// Buffers that one call after the other uses; each thread has its own.
#[derive(Default)]
pub struct Scratch {
    resizer: Resizer,
    gray: Vec<u8>,
    glyph: Glyph,
}

/// The buffers of all calls that prepare pictures for one model.
#[derive(Default)]
pub struct Pictures(FreeList<(Scratch, Vec<u8>)>);

impl Pictures {
    /// Gives `then` the bytes that the network sees of a picture.
    pub fn prepare(
        &self,
        preparer: Preparer,
        image: &Image,
        then: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut scratch, mut pixels) = self.0.take().unwrap_or_default();
        pixels.resize(preparer.height * preparer.width, 0);
        let result = preparer.prepare(image, &mut scratch, &mut pixels);
        failpoint::point();
        let result = result.and_then(|()| then(&pixels));
        self.0.give_back((scratch, pixels));
        result
    }
}

impl Preparer {
    /// Writes the `height * width` bytes of the network's input, row-major. On failure `out` is as before.
    pub fn prepare(&self, image: &Image, scratch: &mut Scratch, out: &mut [u8]) -> Result<()> {
        let Scratch { resizer, gray, glyph } = scratch;
        let frame = [self.height, self.width];
        match self.preparation {
            Preparation::Resize => resize::fit(image, frame, resizer, gray, out),
            Preparation::Glyph => glyph.prepare(image, frame, resizer, out),
        }
    }
}
