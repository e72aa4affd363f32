//! One tile, as many images as a vector has lanes, through both convolutions; back in `backward`.
//!
//! Maps are [channel][row][column] of vectors, transformed ones as `convolution` wants them.

use super::convolution::{ConvolutionWeights, WINDOWS, Windows, transform};
use super::geometry::Geometry;
use super::input::Source;
use crate::architecture::{CONV1_CHANNELS, CONV2_CHANNELS, KERNEL};
use crate::engine::fused::kernels::correlation::Packed;
use crate::engine::fused::kernels::pooling::pool;
use crate::engine::fused::kernels::winograd::POINTS;
use crate::engine::fused::kernels::winograd_gemm;
use crate::engine::fused::vectors::memory::take;
use pulp::Simd;

/// Rows of the gradient before the first activation that the weights' gradient takes at a time: the
/// height is a multiple.
pub const ROWS1: usize = 4;

type Packed2 = Packed<CONV2_CHANNELS, CONV1_CHANNELS>;

/// What one tile's forward pass needs and leaves.
pub struct Tile<'a, V> {
    /// (8 points, columns1, height + 4 and one left over): the padded images, transformed.
    pub transformed0: &'a mut [V],
    /// (height1, columns1): activations, for training; otherwise one place for all of them.
    pub maps1: &'a mut [Windows<V, CONV1_CHANNELS>],
    /// (8 points, 6 channels, columns2, height1): the first pooled map, transformed.
    pub transformed1: &'a mut [V],
    /// (height2 / 2, columns2): the same.
    pub maps2: &'a mut [Windows<V, CONV2_CHANNELS>],
}

/// What tiles share, one after the other.
pub struct Scratch<'a, V> {
    /// (width + 4): a row of the padded images.
    pub row0: &'a mut [V],
    /// (6, width1): a row of the first pooled map, or of its gradient.
    pub row1: &'a mut [V],
    /// (8 points, columns that are computed together, 16 outputs, 2 rows): a convolution's products.
    pub products: &'a mut [V],
    /// The panel of the second convolution's kernels.
    pub panel: &'a mut [V],
    /// (8 points, 16, columns2, height2): gradient before the second activation, transformed.
    pub gradient2: &'a mut [V],
    /// (8 points, 6, columns1, 4 rows): four rows of the gradient before the first activation,
    /// transformed.
    pub rows1: &'a mut [V],
}

impl<'a, V: Copy> Tile<'a, V> {
    fn sizes(g: &Geometry, training: bool) -> [usize; 4] {
        let maps = [g.height1 * g.columns1, g.height2 / 2 * g.columns2];
        let [windows1, windows2] = if training { maps } else { [1; 2] };
        let [strides0, strides1] = g.strides();
        [
            POINTS * strides0.channel,
            size_of::<Windows<f32, CONV1_CHANNELS>>() / size_of::<f32>() * windows1,
            POINTS * CONV1_CHANNELS * strides1.channel,
            size_of::<Windows<f32, CONV2_CHANNELS>>() / size_of::<f32>() * windows2,
        ]
    }

    /// Vectors that a tile takes.
    pub fn vectors(g: &Geometry, training: bool) -> usize {
        Self::sizes(g, training).iter().sum()
    }

    /// Memory that was zero at first and only tiles have written, at the same place.
    #[inline(always)]
    pub fn new(g: &Geometry, training: bool, memory: &mut &'a mut [V]) -> Self {
        let [transformed0, maps1, transformed1, maps2] =
            Self::sizes(g, training).map(|n| take(memory, n));
        let (maps1, maps2) = (in_windows(maps1), in_windows(maps2));
        Tile { transformed0, maps1, transformed1, maps2 }
    }

    /// Features (16, height2 / 2, width2 / 2) are written `stride` apart.
    #[inline(always)]
    pub fn forward<S: Simd<f32s = V>>(
        &mut self,
        simd: S,
        g: &Geometry,
        weights: &ConvolutionWeights,
        source: &Source,
        scratch: &mut Scratch<V>,
        (features, stride): (&mut [V], usize),
    ) {
        let mut rows = 0..g.padded_height();
        for y in 0..g.height1 {
            let ahead = if y == 0 { KERNEL + 1 } else { 2 };
            for y in rows.by_ref().take(ahead) {
                self.take_row(simd, g, source, y, scratch.row0);
            }
            self.pool_row1(simd, g, weights, y, scratch.row1, scratch.products);
        }
        let (activation, pooling) = g.rules();
        let Scratch { products, panel, .. } = scratch;
        let [_, strides1] = g.strides();
        let together = Packed2::columns::<S>();
        for (y, first) in (0..g.height2 / 2)
            .flat_map(|y| (0..g.columns2).step_by(together).map(move |first| (y, first)))
        {
            let columns = first..g.columns2.min(first + together);
            let narrow = g.windows2(columns.end - 1).len() < WINDOWS;
            let x = (&*self.transformed1, strides1);
            let at = (y, columns.clone(), narrow);
            weights.conv2.products(simd, x, at, panel, products);
            for column in columns.clone() {
                let (used, conv2) = (g.windows2(column), &weights.conv2);
                let windows = place(self.maps2, y * g.columns2 + column);
                let at = (column - first, columns.len());
                let windows = if used.len() < WINDOWS {
                    conv2.windows::<S, 1>(simd, activation, products, at, windows)
                } else {
                    conv2.windows::<S, WINDOWS>(simd, activation, products, at, windows)
                };
                for (x, windows) in used.zip(windows) {
                    for (channel, &window) in windows.iter().enumerate() {
                        let feature = (channel * (g.height2 / 2) + y) * (g.width2 / 2) + x;
                        features[feature * stride] = pool(simd, pooling, window);
                    }
                }
            }
        }
    }

    /// Row `y` of the padded images, transformed, by way of `row0` (padded width).
    #[inline(always)]
    pub fn take_row<S: Simd<f32s = V>>(
        &mut self,
        simd: S,
        g: &Geometry,
        source: &Source,
        y: usize,
        row0: &mut [V],
    ) {
        if source.row(simd, y, row0) {
            let out = &mut self.transformed0[y..];
            let [strides, _] = g.strides();
            transform(simd, row0, out, (strides.column, strides.channel));
        }
    }

    /// Row `y` of the first pooled map, transformed, by way of `row1` (6, width1) and the products (8 points,
    /// 6 outputs, 2 rows).
    #[inline(always)]
    pub fn pool_row1<S: Simd<f32s = V>>(
        &mut self,
        simd: S,
        g: &Geometry,
        weights: &ConvolutionWeights,
        y: usize,
        row1: &mut [V],
        products: &mut [V],
    ) {
        let ((activation, pooling), [strides0, strides1]) = (g.rules(), g.strides());
        for column in 0..g.columns1 {
            let x = (&*self.transformed0, strides0);
            let (at, conv1) = ((y, column..column + 1, false), &weights.conv1);
            conv1.products(simd, x, at, &mut [], products);
            let windows = place(self.maps1, y * g.columns1 + column);
            let windows = conv1.windows::<S, WINDOWS>(simd, activation, products, (0, 1), windows);
            for (x, windows) in (column * WINDOWS..).zip(windows) {
                for (channel, &window) in windows.iter().enumerate() {
                    row1[channel * g.width1 + x] = pool(simd, pooling, window);
                }
            }
        }
        for (channel, row) in row1.chunks_exact(g.width1).enumerate() {
            let out = &mut self.transformed1[channel * strides1.channel + y..];
            transform(simd, row, out, (strides1.column, CONV1_CHANNELS * strides1.channel));
        }
    }
}

/// The place of these windows, or the only one that there is.
fn place<T>(maps: &mut [T], at: usize) -> &mut T {
    let last = maps.len() - 1;
    &mut maps[at.min(last)]
}

/// Memory of `Windows`.
fn in_windows<V, const OUTPUTS: usize>(memory: &mut [V]) -> &mut [Windows<V, OUTPUTS>] {
    memory.as_chunks_mut().0.as_chunks_mut().0.as_chunks_mut().0
}

impl<'a, V> Scratch<'a, V> {
    fn sizes<S: Simd>(g: &Geometry, training: bool) -> [usize; 6] {
        let together = Packed2::columns::<S>();
        let products = 2 * POINTS * together * CONV2_CHANNELS;
        let backward =
            [POINTS * CONV2_CHANNELS * g.plane2(), POINTS * CONV1_CHANNELS * ROWS1 * g.columns1];
        let [a, b] = if training { backward } else { [0; 2] };
        let places = if training { g.plane2() / 2 } else { 0 };
        let panel = if together > 1 { winograd_gemm::vectors(CONV1_CHANNELS, places) } else { 0 };
        [g.padded_width, CONV1_CHANNELS * g.width1, products, panel, a, b]
    }

    pub fn vectors<S: Simd>(g: &Geometry, training: bool) -> usize {
        Self::sizes::<S>(g, training).iter().sum()
    }

    /// Memory that was zero at first and only a scratch has written, at the same place.
    #[inline(always)]
    pub fn new<S: Simd<f32s = V>>(g: &Geometry, training: bool, memory: &mut &'a mut [V]) -> Self {
        let [row0, row1, products, panel, gradient2, rows1] =
            Self::sizes::<S>(g, training).map(|n| take(memory, n));
        Scratch { row0, row1, products, panel, gradient2, rows1 }
    }
}
