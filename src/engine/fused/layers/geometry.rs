//! Heights and widths of everything that a tile is computed in.

use super::convolution::WINDOWS;
use crate::architecture::{Activation, Architecture, KERNEL, Pooling};
use crate::engine::fused::kernels::winograd;
use crate::engine::fused::vectors::maps::Strides;
use std::ops::Range;

#[derive(Clone, Copy)]
pub struct Geometry {
    pub architecture: Architecture,
    /// Of an image with its padding, if it has any.
    pub padded_width: usize,
    /// After the first convolution.
    pub height: usize,
    /// After the first pooling.
    pub height1: usize,
    pub width1: usize,
    /// After the second convolution.
    pub height2: usize,
    pub width2: usize,
    /// Tiles of columns in a row of the transformed images, and of the transformed first pooled map: the
    /// last of those may be a narrow one.
    pub columns1: usize,
    pub columns2: usize,
}

impl Geometry {
    pub fn new(architecture: Architecture) -> Self {
        let [height, width] = architecture.conv1_size();
        let (height2, width2) = (height / 2 - (KERNEL - 1), width / 2 - (KERNEL - 1));
        Geometry {
            architecture,
            padded_width: width + (KERNEL - 1),
            height,
            height1: height / 2,
            width1: width / 2,
            height2,
            width2,
            columns1: width / winograd::OUTPUTS,
            columns2: width2.div_ceil(winograd::OUTPUTS),
        }
    }

    /// Of the band of rows that one lane takes, where `lanes` lanes share a padded image.
    pub fn band(self, lanes: usize) -> Self {
        let height1 = self.padded_height().div_ceil(2 * lanes);
        Geometry { height: 2 * height1, height1, ..self }
    }

    pub fn padded_height(&self) -> usize {
        self.height + (KERNEL - 1)
    }

    /// Tiles of columns of the first pooled map that have this point: a narrow one lacks the last points.
    pub fn columns2_at(&self, point: usize) -> usize {
        if point < winograd::NARROW_POINTS {
            self.columns2
        } else {
            self.width2 / winograd::OUTPUTS
        }
    }

    /// Windows of tile `column` of the second convolution.
    pub fn windows2(&self, column: usize) -> Range<usize> {
        column * WINDOWS..(self.width2 / 2).min((column + 1) * WINDOWS)
    }

    pub fn rules(&self) -> (Activation, Pooling) {
        (self.architecture.activation(), self.architecture.pooling())
    }

    /// Of the transformed images and of the transformed first pooled map. The images' columns are an odd number
    /// of vectors apart: a power of two would put their heads into the same few sets of the cache.
    pub fn strides(&self) -> [Strides; 2] {
        let [column0, column1] = [self.padded_height() + 1, self.height1];
        [
            Strides { channel: column0 * self.columns1, column: column0 },
            Strides { channel: column1 * self.columns2, column: column1 },
        ]
    }

    /// Vectors for one point and output of the gradient of the second convolution's products.
    pub fn plane2(&self) -> usize {
        self.columns2 * self.height2
    }
}
