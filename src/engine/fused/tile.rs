//! One tile, as many images as a vector has lanes, through both convolutions and back.
//!
//! Maps are [channel][row][column] of vectors, transformed ones as `convolution` wants them.

use super::convolution::{
    ConvolutionWeights, SUMS, WINDOWS, Windows, layers, products_gradient, transform,
};
use super::input::Source;
use super::kernels::{Columns, Taps, convolution_weights};
use super::memory::take;
use super::pooling::pool;
use super::winograd::{self, POINTS};
use crate::architecture::{
    Activation, Architecture, CONV1_CHANNELS, CONV1_PADDING, CONV2_CHANNELS, KERNEL, Pooling,
};
use pulp::Simd;
use std::ops::Range;

/// Rows of the gradient before the first activation that the weights' gradient takes at a time: the
/// height is a multiple.
const ROWS1: usize = 4;

/// Heights and widths of the maps.
#[derive(Clone, Copy)]
pub struct Geometry {
    pub architecture: Architecture,
    pub padded_width: usize,
    pub height: usize,
    /// After the first pooling.
    pub height1: usize,
    pub width1: usize,
    /// After the second convolution.
    pub height2: usize,
    pub width2: usize,
    /// Tiles of columns in a row of the transformed images, and of the transformed first pooled map: the
    /// last of those may be a narrow one.
    columns1: usize,
    pub columns2: usize,
}

impl Geometry {
    pub fn new(architecture: Architecture) -> Self {
        let (height, width) = (architecture.height(), architecture.width());
        let (height2, width2) = (height / 2 - (KERNEL - 1), width / 2 - (KERNEL - 1));
        Geometry {
            architecture,
            padded_width: width + 2 * CONV1_PADDING,
            height,
            height1: height / 2,
            width1: width / 2,
            height2,
            width2,
            columns1: width / winograd::OUTPUTS,
            columns2: width2.div_ceil(winograd::OUTPUTS),
        }
    }

    /// Of bands of an image's rows: of the `lanes` that take it together each has as many.
    pub fn band(self, lanes: usize) -> Self {
        let height1 = self.height1.div_ceil(lanes);
        Geometry { height: 2 * height1, height1, ..self }
    }

    pub fn padded_height(&self) -> usize {
        self.height + 2 * CONV1_PADDING
    }

    /// Distance of columns of the transformed images: an odd one, as a power of two would put their
    /// heads into the same few sets of the cache.
    fn column_stride(&self) -> usize {
        self.padded_height() + 1
    }

    /// Tiles of columns of the second that have this point.
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

    /// Floats for one point and channel of the transformed images and of the transformed first
    /// pooled map.
    fn planes(&self) -> [usize; 2] {
        [self.column_stride() * self.columns1, self.height1 * self.columns2]
    }

    /// For rows `y` and `y + 1` of the second convolution's input gradient: the rows of the kernel,
    /// upside down, that meet the map, or for one of the two the row of zeros at its border; and the
    /// first of the map's rows, 0 being the border.
    fn rows_back(&self, y: usize) -> (Range<usize>, usize) {
        // The kernel's row k takes row y + k - 4 of the map.
        let first = (KERNEL - 2).saturating_sub(y);
        (first..KERNEL.min(self.height2 + KERNEL - 1 - y), y + first + 2 - KERNEL)
    }
}

/// What one tile's forward pass needs and leaves.
pub struct Tile<'a, V> {
    /// (8 points, columns1, height + 4 and one left over): the padded images, transformed.
    transformed0: &'a mut [V],
    /// (height1, columns1): activations, for training.
    maps1: &'a mut [Windows<V, CONV1_CHANNELS>],
    /// (8 points, 6 channels, columns2, height1): the first pooled map, transformed.
    pub transformed1: &'a mut [V],
    /// (height2 / 2, columns2): activations, for training.
    maps2: &'a mut [Windows<V, CONV2_CHANNELS>],
}

/// What tiles share, one after the other.
pub struct Scratch<'a, V> {
    /// (width + 4): a row of the padded images.
    row0: &'a mut [V],
    /// (6, width1): a row of the first pooled map, or of its gradient.
    row1: &'a mut [V],
    /// (8 points, 16, columns2, height2 + 2): gradient before the second activation, transformed, between
    /// rows of zeros.
    gradient2: &'a mut [V],
    /// (8 points, 6, columns2, height1): gradient of the transformed first pooled map.
    gradient1: &'a mut [V],
    /// (8 points, 6, columns1, 4 rows): four rows of the gradient before the first activation,
    /// transformed.
    rows1: &'a mut [V],
    /// Sums for the gradient of the parameters, their lanes not yet added up.
    sums: &'a mut [V],
}

impl<'a, V: Copy> Tile<'a, V> {
    fn sizes(g: &Geometry, training: bool) -> [usize; 4] {
        let (rows1, rows2) = if training { (g.height1, g.height2 / 2) } else { (0, 0) };
        let [plane0, plane1] = g.planes();
        [
            POINTS * plane0,
            size_of::<Windows<f32, CONV1_CHANNELS>>() / size_of::<f32>() * rows1 * g.columns1,
            POINTS * CONV1_CHANNELS * plane1,
            size_of::<Windows<f32, CONV2_CHANNELS>>() / size_of::<f32>() * rows2 * g.columns2,
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
        self.forward1(simd, g, weights, source, [scratch.row0, scratch.row1]);
        let (activation, pooling) = g.rules();
        let mut products = [[[simd.splat_f32s(0.0); 2]; CONV2_CHANNELS]; POINTS];
        let mut place = [[[simd.splat_f32s(0.0); 4]; CONV2_CHANNELS]; WINDOWS];
        for y in 0..g.height2 / 2 {
            for column in 0..g.columns2 {
                let x = (&*self.transformed1, g.height1);
                let used = g.windows2(column);
                let windows = self.maps2.get_mut(y * g.columns2 + column).unwrap_or(&mut place);
                let windows = &mut windows[..used.len()];
                let at = (y, column, g.columns2);
                weights.conv2.windows(simd, activation, x, at, &mut products, windows);
                for (x, windows) in used.zip(&*windows) {
                    for (channel, &window) in windows.iter().enumerate() {
                        let feature = (channel * (g.height2 / 2) + y) * (g.width2 / 2) + x;
                        features[feature * stride] = pool(simd, pooling, window);
                    }
                }
            }
        }
    }

    /// To the transformed first pooled map, by way of a row of the images (padded width) and one of that
    /// map (6, width1).
    #[inline(always)]
    pub fn forward1<S: Simd<f32s = V>>(
        &mut self,
        simd: S,
        g: &Geometry,
        weights: &ConvolutionWeights,
        source: &Source,
        [row0, row1]: [&mut [V]; 2],
    ) {
        let [plane0, plane1] = g.planes();
        let (activation, pooling) = g.rules();
        let mut rows = 0..g.padded_height();
        let mut products = [[[simd.splat_f32s(0.0); 2]; CONV1_CHANNELS]; POINTS];
        let mut place = [[[simd.splat_f32s(0.0); 4]; CONV1_CHANNELS]; WINDOWS];
        for y in 0..g.height1 {
            let ahead = if y == 0 { KERNEL + 1 } else { 2 };
            for y in rows.by_ref().take(ahead) {
                if source.row(simd, y, row0) {
                    let out = &mut self.transformed0[y..];
                    transform(simd, row0, out, (g.column_stride(), plane0));
                }
            }
            for column in 0..g.columns1 {
                let x = (&*self.transformed0, g.column_stride());
                let windows = self.maps1.get_mut(y * g.columns1 + column).unwrap_or(&mut place);
                let at = (y, column, g.columns1);
                weights.conv1.windows(simd, activation, x, at, &mut products, windows);
                for (x, windows) in (column * WINDOWS..).zip(&*windows) {
                    for (channel, &window) in windows.iter().enumerate() {
                        row1[channel * g.width1 + x] = pool(simd, pooling, window);
                    }
                }
            }
            for (channel, row) in row1.chunks_exact(g.width1).enumerate() {
                let out = &mut self.transformed1[channel * plane1 + y..];
                transform(simd, row, out, (g.height1, CONV1_CHANNELS * plane1));
            }
        }
    }

    /// From the features' gradient, `stride` apart, to the sums for the parameters' gradient.
    #[inline(always)]
    pub fn backward<S: Simd<f32s = V>>(
        &mut self,
        simd: S,
        g: &Geometry,
        weights: &ConvolutionWeights,
        scratch: &mut Scratch<V>,
        features: &[V],
        stride: usize,
    ) {
        let Scratch { row1, gradient2, gradient1, rows1, sums, .. } = scratch;
        let [(weights1, bias1), (weights2, bias2)] = layers(sums, POINTS);
        let rules = g.rules();

        // Second pooling and activation.
        let bordered = g.height2 + 2;
        let plane2 = g.columns2 * bordered;
        for (at, windows) in self.maps2.iter().enumerate() {
            let (y, column) = (at / g.columns2, at % g.columns2);
            for channel in 0..CONV2_CHANNELS {
                let used = g.windows2(column);
                let mut pooled = [simd.splat_f32s(0.0); WINDOWS];
                let pooled = &mut pooled[..used.len()];
                for (x, pooled) in used.zip(&mut *pooled) {
                    let feature = (channel * (g.height2 / 2) + y) * (g.width2 / 2) + x;
                    *pooled = features[feature * stride];
                }
                let windows = [windows[0][channel], windows[1][channel]];
                let out = &mut gradient2[channel * plane2 + column * bordered + 1 + 2 * y..];
                products_gradient(simd, rules, windows, pooled, out, CONV2_CHANNELS * plane2);
            }
        }
        add_outputs(simd, gradient2, plane2, bias2);

        // Second convolution, point by point: its weights, two outputs at a time, and its input,
        // two rows at a time.
        let [plane0, plane1] = g.planes();
        for (point, gradient2) in gradient2.chunks_exact(CONV2_CHANNELS * plane2).enumerate() {
            let (columns, map) = (g.columns2_at(point), |channel: usize| {
                (point * CONV1_CHANNELS + channel) * plane1
            });
            for output in (0..CONV2_CHANNELS).step_by(2) {
                let delta =
                    |o: usize| Columns { values: &gradient2[o * plane2 + 1..], stride: bordered };
                let deltas = [delta(output), delta(output + 1)];
                for channel in 0..CONV1_CHANNELS {
                    let x = &self.transformed1[map(channel)..map(channel + 1)];
                    let x = Columns { values: x, stride: g.height1 };
                    let of = |o: usize| {
                        ((point * CONV2_CHANNELS + o) * CONV1_CHANNELS + channel) * KERNEL
                    };
                    let places = [of(output), of(output + 1)];
                    convolution_weights(simd, deltas, (g.height2, columns), x, weights2, places);
                }
            }
            for column in 0..columns {
                for y in (0..g.height1).step_by(2) {
                    let (rows, first) = g.rows_back(y);
                    let x = &gradient2[column * bordered + first..];
                    let taps = Taps { x, channel_stride: plane2, rows };
                    let mut out = [[simd.splat_f32s(0.0); 2]; CONV1_CHANNELS];
                    weights.conv2_back[point].correlate(simd, &taps, &mut out);
                    for (channel, out) in out.iter().enumerate() {
                        let at = map(channel) + column * g.height1 + y;
                        gradient1[at..at + 2].copy_from_slice(out);
                    }
                }
            }
        }

        // Row by row back from the transformed map, through the first pooling and activation, to
        // the weights of the first convolution.
        let band = ROWS1 * g.columns1;
        for y in 0..g.height1 {
            row1.fill(simd.splat_f32s(0.0));
            for channel in 0..CONV1_CHANNELS {
                let row1 = &mut row1[channel * g.width1..][..g.width1];
                for column in 0..g.columns2 {
                    let mut m = [simd.splat_f32s(0.0); POINTS];
                    for (point, m) in m.iter_mut().enumerate() {
                        let map = (point * CONV1_CHANNELS + channel) * plane1;
                        *m = gradient1[map + column * g.height1 + y];
                    }
                    let row = &mut row1[column * winograd::OUTPUTS..];
                    if g.windows2(column).len() == WINDOWS {
                        add(simd, row, winograd::inputs_gradient(simd, m));
                    } else {
                        add(simd, row, winograd::narrow_inputs_gradient(simd, m));
                    }
                }
                let windows = &self.maps1[y * g.columns1..];
                let tiles = row1.as_chunks::<WINDOWS>().0.iter().zip(windows).enumerate();
                for (column, (pooled, windows)) in tiles {
                    let windows = [windows[0][channel], windows[1][channel]];
                    let place = channel * band + column * ROWS1 + 2 * y % ROWS1;
                    let (out, point_stride) = (&mut rows1[place..], CONV1_CHANNELS * band);
                    products_gradient(simd, rules, windows, pooled, out, point_stride);
                }
            }
            if 2 * y % ROWS1 + 2 < ROWS1 {
                continue;
            }
            add_outputs(simd, rows1, band, bias1);
            for point in 0..POINTS {
                let x = &self.transformed0[point * plane0 + 2 * y + 2 - ROWS1..];
                let x = Columns { values: x, stride: g.column_stride() };
                for output in (0..CONV1_CHANNELS).step_by(2) {
                    let map = |o: usize| point * CONV1_CHANNELS + o;
                    let delta = |o: usize| Columns {
                        values: &rows1[map(o) * band..][..band],
                        stride: ROWS1,
                    };
                    let deltas = [delta(output), delta(output + 1)];
                    let places = [map(output) * KERNEL, map(output + 1) * KERNEL];
                    convolution_weights(simd, deltas, (ROWS1, g.columns1), x, weights1, places);
                }
            }
        }
    }
}

/// Memory of `Windows`.
fn in_windows<V, const OUTPUTS: usize>(memory: &mut [V]) -> &mut [Windows<V, OUTPUTS>] {
    memory.as_chunks_mut().0.as_chunks_mut().0.as_chunks_mut().0
}

/// Adds `values` to the first elements of `row`.
#[inline(always)]
fn add<S: Simd, const N: usize>(simd: S, row: &mut [S::f32s], values: [S::f32s; N]) {
    for (place, value) in row[..N].iter_mut().zip(values) {
        *place = simd.add_f32s(*place, value);
    }
}

/// Adds to each output's bias the sum of its gradients, which the point 1 gives: the powers of 1 are all 1.
/// `transformed` has of each point and output `plane` vectors.
#[inline(always)]
fn add_outputs<S: Simd>(simd: S, transformed: &[S::f32s], plane: usize, bias: &mut [S::f32s]) {
    let maps = transformed.chunks_exact(plane).skip(winograd::ONE * bias.len());
    for (bias, map) in bias.iter_mut().zip(maps) {
        for &value in map {
            *bias = simd.add_f32s(*bias, value);
        }
    }
}

impl<'a, V> Scratch<'a, V> {
    fn sizes(g: &Geometry, training: bool) -> [usize; 6] {
        let backward = [
            POINTS * CONV2_CHANNELS * (g.height2 + 2) * g.columns2,
            POINTS * CONV1_CHANNELS * g.height1 * g.columns2,
            POINTS * CONV1_CHANNELS * ROWS1 * g.columns1,
            SUMS,
        ];
        let [a, b, c, d] = if training { backward } else { [0; 4] };
        [g.padded_width, CONV1_CHANNELS * g.width1, a, b, c, d]
    }

    pub fn vectors(g: &Geometry, training: bool) -> usize {
        Self::sizes(g, training).iter().sum()
    }

    /// Memory that was zero at first and only a scratch has written, at the same place.
    #[inline(always)]
    pub fn new(g: &Geometry, training: bool, memory: &mut &'a mut [V]) -> Self {
        let [row0, row1, gradient2, gradient1, rows1, sums] =
            Self::sizes(g, training).map(|n| take(memory, n));
        Scratch { row0, row1, gradient2, gradient1, rows1, sums }
    }

    /// Writes the sums over the lanes and begins new ones.
    #[inline(always)]
    pub fn drain_sums<S: Simd<f32s = V>>(&mut self, simd: S, out: &mut [f32])
    where
        V: Copy,
    {
        for (sum, out) in self.sums.iter_mut().zip(out) {
            *out = simd.reduce_sum_f32s(*sum);
            *sum = simd.splat_f32s(0.0);
        }
    }
}
