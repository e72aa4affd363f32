//! One tile, as many images as a vector has lanes, through both convolutions and back.
//!
//! Maps are [channel][row][column] of vectors. Everything between a row of pixels and its row of
//! the first pooled map happens while it is in the nearest cache, and so on the way back. The
//! second convolution works on the transformed map of `winograd`, [point][channel][row][tile of
//! columns], where each point is a convolution of its own with a kernel of one column.

use super::activations::activate;
use super::input::Loader;
use super::kernels::{Packed, Taps, convolution_weights};
use super::memory::take;
use super::pooling::{pool, set_window, unpool, window};
use super::winograd::{self, POINTS};
use crate::architecture::{
    Activation, Architecture, CONV1_CHANNELS, CONV1_PADDING, CONV2_CHANNELS, KERNEL, Pooling,
};
use crate::engine::Images;
use pulp::{Simd, bytemuck};

/// Heights and widths of the maps.
#[derive(Clone, Copy)]
pub struct Geometry {
    pub architecture: Architecture,
    padded_width: usize,
    height: usize,
    width: usize,
    /// After the first pooling.
    height1: usize,
    width1: usize,
    /// After the second convolution.
    height2: usize,
    width2: usize,
    /// Tiles of columns in a row of the transformed maps.
    columns: usize,
}

impl Geometry {
    pub fn new(architecture: Architecture) -> Self {
        let (height, width) = (architecture.height(), architecture.width());
        let (height2, width2) = (height / 2 - (KERNEL - 1), width / 2 - (KERNEL - 1));
        Geometry {
            architecture,
            padded_width: width + 2 * CONV1_PADDING,
            height,
            width,
            height1: height / 2,
            width1: width / 2,
            height2,
            width2,
            columns: width2 / winograd::OUTPUTS,
        }
    }

    fn rules(&self) -> (Activation, Pooling) {
        (self.architecture.activation(), self.architecture.pooling())
    }

    /// Of the first convolution.
    fn taps1(&self) -> Taps {
        Taps { channels: 1, channel_stride: 0, rows: 0..KERNEL, row_stride: self.padded_width }
    }

    /// Of the second one, transformed.
    fn taps2(&self) -> Taps {
        Taps {
            channels: CONV1_CHANNELS,
            channel_stride: self.height1 * self.columns,
            rows: 0..KERNEL,
            row_stride: self.columns,
        }
    }

    /// Of its input gradient's rows `y` and `y + 1`: only rows of the kernel that meet the map,
    /// or for one of the two the row of zeros at its border; and the first of the map's rows.
    fn taps2_back(&self, y: usize) -> (Taps, usize) {
        // The kernel upside down: its row k takes row y + k - 4 of the map, -1 being the border.
        let first = (KERNEL - 2).saturating_sub(y);
        let end = KERNEL.min(self.height2 + KERNEL - 1 - y);
        let taps = Taps {
            channels: CONV2_CHANNELS,
            channel_stride: (self.height2 + 2) * self.columns,
            rows: first..end,
            row_stride: self.columns,
        };
        (taps, y + first + 2 - KERNEL)
    }
}

const KERNEL_WEIGHTS: usize = KERNEL * KERNEL;
const WEIGHTS1: usize = CONV1_CHANNELS * KERNEL_WEIGHTS;
const WEIGHTS2: usize = CONV2_CHANNELS * CONV1_CHANNELS * KERNEL_WEIGHTS;
/// A row of the second kernel for each point, output and input channel and row.
const TRANSFORMED2: usize = POINTS * CONV2_CHANNELS * CONV1_CHANNELS * KERNEL;

/// Parameters of the two convolutions: the head of the flat vector.
pub const PARAMETERS: usize = WEIGHTS1 + CONV1_CHANNELS + WEIGHTS2 + CONV2_CHANNELS;

/// Sums that become the gradient of those: the second weights' are of the transformed kernel.
pub const SUMS: usize = WEIGHTS1 + CONV1_CHANNELS + TRANSFORMED2 + CONV2_CHANNELS;

/// The parameters as the kernels read them.
pub struct ConvolutionWeights {
    conv1: Packed,
    bias1: [f32; CONV1_CHANNELS],
    /// Of each point, from channels to outputs and, upside down, from outputs to channels.
    conv2: [Packed; POINTS],
    conv2_back: [Packed; POINTS],
    bias2: [f32; CONV2_CHANNELS],
}

impl ConvolutionWeights {
    pub fn new() -> Self {
        let conv2 = || Packed::new(CONV2_CHANNELS, CONV1_CHANNELS * KERNEL);
        let conv2_back = || Packed::new(CONV1_CHANNELS, CONV2_CHANNELS * KERNEL);
        ConvolutionWeights {
            conv1: Packed::new(CONV1_CHANNELS, KERNEL_WEIGHTS),
            bias1: [0.0; CONV1_CHANNELS],
            conv2: std::array::from_fn(|_| conv2()),
            conv2_back: std::array::from_fn(|_| conv2_back()),
            bias2: [0.0; CONV2_CHANNELS],
        }
    }

    /// Takes the weights from the head of the flat parameters.
    pub fn fill(&mut self, flat: &[f32]) {
        let (weights1, rest) = flat.split_at(WEIGHTS1);
        let (bias1, rest) = rest.split_at(CONV1_CHANNELS);
        let (weights2, rest) = rest.split_at(WEIGHTS2);
        self.bias1.copy_from_slice(bias1);
        self.bias2.copy_from_slice(&rest[..CONV2_CHANNELS]);
        self.conv1.fill(|output, tap| weights1[output * KERNEL_WEIGHTS + tap]);
        // [output][channel][row][point]
        let mut transformed = [[0.0; POINTS]; CONV2_CHANNELS * CONV1_CHANNELS * KERNEL];
        let (rows, _) = weights2.as_chunks::<KERNEL>();
        for (transformed, row) in transformed.iter_mut().zip(rows) {
            *transformed = winograd::weights(row);
        }
        let of_output = CONV1_CHANNELS * KERNEL;
        for (point, conv2) in self.conv2.iter_mut().enumerate() {
            conv2.fill(|output, tap| transformed[output * of_output + tap][point]);
        }
        for (point, conv2_back) in self.conv2_back.iter_mut().enumerate() {
            conv2_back.fill(|channel, tap| {
                let (output, row) = (tap / KERNEL, KERNEL - 1 - tap % KERNEL);
                transformed[output * of_output + channel * KERNEL + row][point]
            });
        }
    }
}

/// The gradient of the convolutions' parameters from the sums over all images.
pub fn gradient_of_sums(sums: &[f32], gradient: &mut [f32]) {
    let head = WEIGHTS1 + CONV1_CHANNELS;
    gradient[..head].copy_from_slice(&sums[..head]);
    let (transformed, bias2) = sums[head..].split_at(TRANSFORMED2);
    let (weights2, rest) = gradient[head..].split_at_mut(WEIGHTS2);
    rest[..CONV2_CHANNELS].copy_from_slice(bias2);
    let rows = TRANSFORMED2 / POINTS;
    for (i, row) in weights2.as_chunks_mut::<KERNEL>().0.iter_mut().enumerate() {
        *row = winograd::weights_gradient(&std::array::from_fn(|p| transformed[p * rows + i]));
    }
}

/// What one tile's forward pass needs and leaves.
pub struct Tile<'a, V> {
    /// (height + 4, width + 4): the padded images.
    input: &'a mut [V],
    /// (6, height, width): activations; for prediction (6, 2, width), two rows at a time.
    maps1: &'a mut [V],
    /// (6 points, 6 channels, height1, columns): the first pooled map, transformed.
    transformed1: &'a mut [V],
    /// (16, height2, width2): activations; for prediction (16, 2, width2).
    maps2: &'a mut [V],
}

/// What tiles share, one after the other.
pub struct Scratch<'a, V> {
    /// (6, width1): a row of the first pooled map, or of its gradient.
    row1: &'a mut [V],
    /// (6 points, 16, 2 rows, columns): the second convolution's products.
    products: &'a mut [V],
    /// (16, height2, width2): gradient before the second activation.
    gradient2: &'a mut [V],
    /// (16, height2 + 2, columns): one point of it transformed, between rows of zeros.
    transformed2: &'a mut [V],
    /// (6 points, 6, height1, columns): gradient of the transformed first pooled map.
    gradient1: &'a mut [V],
    /// (6, 2, width): two rows of the gradient before the first activation.
    rows1: &'a mut [V],
    /// Sums for the gradient of the parameters, their lanes not yet added up.
    sums: &'a mut [V],
}

impl<'a, V: Copy> Tile<'a, V> {
    fn sizes(g: &Geometry, training: bool) -> [usize; 4] {
        let (rows1, rows2) = if training { (g.height, g.height2) } else { (2, 2) };
        [
            (g.height + 2 * CONV1_PADDING) * g.padded_width,
            CONV1_CHANNELS * rows1 * g.width,
            POINTS * CONV1_CHANNELS * g.height1 * g.columns,
            CONV2_CHANNELS * rows2 * g.width2,
        ]
    }

    /// Vectors that a tile takes.
    pub fn vectors(g: &Geometry, training: bool) -> usize {
        Self::sizes(g, training).iter().sum()
    }

    /// Memory that was zero at first and only tiles have written, at the same place.
    #[inline(always)]
    pub fn new(g: &Geometry, training: bool, memory: &mut &'a mut [V]) -> Self {
        let [input, maps1, transformed1, maps2] = Self::sizes(g, training).map(|n| take(memory, n));
        Tile { input, maps1, transformed1, maps2 }
    }

    /// Puts image `i` of a batch, as the network sees it, into a lane.
    #[inline(always)]
    pub fn load(&mut self, g: &Geometry, loader: &Loader, images: &Images, i: usize, lane: usize)
    where
        V: bytemuck::Pod,
    {
        let lanes = size_of::<V>() / size_of::<f32>();
        let input: &mut [f32] = bytemuck::cast_slice_mut(self.input);
        let first = (g.padded_width + 1) * CONV1_PADDING * lanes + lane;
        let row_stride = g.padded_width * lanes;
        loader.spread(images, i, g.width, &mut input[first..], row_stride, lanes);
    }

    /// Features (16, height2 / 2, columns) are written `stride` apart.
    #[inline(always)]
    pub fn forward<S: Simd<f32s = V>>(
        &mut self,
        simd: S,
        g: &Geometry,
        weights: &ConvolutionWeights,
        scratch: &mut Scratch<V>,
        features: &mut [V],
        stride: usize,
    ) {
        let (activation, pooling) = g.rules();
        let taps = g.taps1();
        let training = self.maps1.len() == CONV1_CHANNELS * g.height * g.width;
        let plane = if training { g.height * g.width } else { 2 * g.width };
        let transformed_plane = g.height1 * g.columns;
        for y in 0..g.height1 {
            let rows = if training { 2 * y * g.width } else { 0 };
            for row in 0..2 {
                let x = &self.input[(2 * y + row) * g.padded_width..];
                let out = &mut self.maps1[rows + row * g.width..];
                weights.conv1.correlate::<S, KERNEL>(
                    simd,
                    &taps,
                    &weights.bias1,
                    (x, g.width),
                    (out, plane),
                );
            }
            for channel in 0..CONV1_CHANNELS {
                let at = channel * plane + rows;
                let map = &mut self.maps1[at..at + 2 * g.width];
                let row1 = &mut scratch.row1[channel * g.width1..(channel + 1) * g.width1];
                activate(simd, activation, map);
                for (x, pooled) in row1.iter_mut().enumerate() {
                    *pooled = pool(simd, pooling, window(map, 2 * x, g.width));
                }
                let at = channel * transformed_plane + y * g.columns;
                for column in 0..g.columns {
                    let mut x = [simd.splat_f32s(0.0); winograd::INPUTS];
                    x.copy_from_slice(&row1[2 * column..][..winograd::INPUTS]);
                    for (point, value) in winograd::inputs(simd, x).into_iter().enumerate() {
                        let place = point * CONV1_CHANNELS * transformed_plane + at + column;
                        self.transformed1[place] = value;
                    }
                }
            }
        }

        let taps = g.taps2();
        let plane = if training { g.height2 * g.width2 } else { 2 * g.width2 };
        let pair = 2 * g.columns;
        for y in 0..g.height2 / 2 {
            for (point, weights) in weights.conv2.iter().enumerate() {
                let at = point * CONV1_CHANNELS * transformed_plane + y * pair;
                let products = &mut scratch.products[point * CONV2_CHANNELS * pair..];
                let x = &self.transformed1[at..];
                weights.correlate::<S, 1>(simd, &taps, &[], (x, pair), (products, pair));
            }
            let rows = if training { 2 * y * g.width2 } else { 0 };
            for (channel, &bias) in weights.bias2.iter().enumerate() {
                let bias = simd.splat_f32s(bias);
                let at = channel * plane + rows;
                let map = &mut self.maps2[at..at + 2 * g.width2];
                for i in 0..pair {
                    let mut products = [bias; POINTS];
                    for (point, product) in products.iter_mut().enumerate() {
                        *product = scratch.products[(point * CONV2_CHANNELS + channel) * pair + i];
                    }
                    for (o, output) in winograd::outputs(simd, products).into_iter().enumerate() {
                        map[2 * i + o] = simd.add_f32s(output, bias);
                    }
                }
                activate(simd, activation, map);
                for column in 0..g.columns {
                    let feature = (channel * (g.height2 / 2) + y) * g.columns + column;
                    features[feature * stride] =
                        pool(simd, pooling, window(map, 2 * column, g.width2));
                }
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
        let Scratch { row1, gradient2, transformed2, gradient1, rows1, sums, .. } = scratch;
        let (weights1, rest) = sums.split_at_mut(WEIGHTS1);
        let (bias1, rest) = rest.split_at_mut(CONV1_CHANNELS);
        let (weights2, bias2) = rest.split_at_mut(TRANSFORMED2);
        let rules = g.rules();

        // Second pooling and activation.
        let plane2 = g.height2 * g.width2;
        let mut feature = 0;
        for (channel, bias) in bias2.iter_mut().enumerate() {
            let mut sum = *bias;
            for y in 0..g.height2 / 2 {
                for column in 0..g.columns {
                    let at = channel * plane2 + 2 * (y * g.width2 + column);
                    let window = window(self.maps2, at, g.width2);
                    let gradients = unpool(simd, rules, window, features[feature]);
                    set_window(gradient2, at, g.width2, gradients);
                    for d in gradients {
                        sum = simd.add_f32s(sum, d);
                    }
                    feature += stride;
                }
            }
            *bias = sum;
        }

        // Second convolution, point by point: its weights, two outputs at a time, and its input,
        // two rows at a time.
        let inside = g.height2 * g.columns;
        let bordered = inside + 2 * g.columns;
        let plane1 = g.height1 * g.columns;
        let pairs = gradient2.as_chunks::<{ winograd::OUTPUTS }>().0;
        for point in 0..POINTS {
            for channel in 0..CONV2_CHANNELS {
                let out = &mut transformed2[channel * bordered + g.columns..][..inside];
                for (out, &pair) in out.iter_mut().zip(&pairs[channel * inside..]) {
                    *out = winograd::outputs_gradient(simd, point, pair);
                }
            }
            let map = |channel: usize| (point * CONV1_CHANNELS + channel) * plane1;
            for output in (0..CONV2_CHANNELS).step_by(2) {
                let delta = |o: usize| &transformed2[o * bordered + g.columns..][..inside];
                let deltas = [delta(output), delta(output + 1)];
                for channel in 0..CONV1_CHANNELS {
                    let x = &self.transformed1[map(channel)..map(channel + 1)];
                    let of = |o: usize| {
                        ((point * CONV2_CHANNELS + o) * CONV1_CHANNELS + channel) * KERNEL
                    };
                    let places = [of(output), of(output + 1)];
                    convolution_weights::<S, KERNEL>(simd, deltas, x, g.columns, weights2, places);
                }
            }
            for y in (0..g.height1).step_by(2) {
                let (taps, first) = g.taps2_back(y);
                let x = &transformed2[first * g.columns..];
                let out = &mut gradient1[map(0) + y * g.columns..];
                let weights = &weights.conv2_back[point];
                weights.correlate::<S, 1>(simd, &taps, &[], (x, 2 * g.columns), (out, plane1));
            }
        }

        // Row by row back from the transformed map, through the first pooling and activation, to
        // the weights of the first convolution.
        let plane = g.height * g.width;
        for y in 0..g.height1 {
            row1.fill(simd.splat_f32s(0.0));
            for (channel, bias) in bias1.iter_mut().enumerate() {
                let row1 = &mut row1[channel * g.width1..(channel + 1) * g.width1];
                for column in 0..g.columns {
                    let mut m = [simd.splat_f32s(0.0); POINTS];
                    for (point, m) in m.iter_mut().enumerate() {
                        let map = (point * CONV1_CHANNELS + channel) * plane1;
                        *m = gradient1[map + y * g.columns + column];
                    }
                    let row = row1[2 * column..][..winograd::INPUTS].iter_mut();
                    for (place, value) in row.zip(winograd::inputs_gradient(simd, m)) {
                        *place = simd.add_f32s(*place, value);
                    }
                }
                let rows1 = &mut rows1[channel * 2 * g.width..(channel + 1) * 2 * g.width];
                let mut sum = *bias;
                for (x, &gradient) in row1.iter().enumerate() {
                    let at = channel * plane + 2 * (y * g.width + x);
                    let window = window(self.maps1, at, g.width);
                    let gradients = unpool(simd, rules, window, gradient);
                    set_window(rows1, 2 * x, g.width, gradients);
                    for d in gradients {
                        sum = simd.add_f32s(sum, d);
                    }
                }
                *bias = sum;
            }
            for row in 0..2 {
                for output in (0..CONV1_CHANNELS).step_by(2) {
                    let delta = |o: usize| &rows1[(2 * o + row) * g.width..][..g.width];
                    let deltas = [delta(output), delta(output + 1)];
                    for k in 0..KERNEL {
                        let x = &self.input[(2 * y + row + k) * g.padded_width..];
                        let of = |o: usize| o * KERNEL_WEIGHTS + k * KERNEL;
                        let places = [of(output), of(output + 1)];
                        convolution_weights::<S, KERNEL>(simd, deltas, x, 1, weights1, places);
                    }
                }
            }
        }
    }
}

impl<'a, V> Scratch<'a, V> {
    fn sizes(g: &Geometry, training: bool) -> [usize; 7] {
        let forward = [CONV1_CHANNELS * g.width1, POINTS * CONV2_CHANNELS * 2 * g.columns];
        let backward = [
            CONV2_CHANNELS * g.height2 * g.width2,
            CONV2_CHANNELS * (g.height2 + 2) * g.columns,
            POINTS * CONV1_CHANNELS * g.height1 * g.columns,
            CONV1_CHANNELS * 2 * g.width,
            SUMS,
        ];
        let [a, b, c, d, e] = if training { backward } else { [0; 5] };
        [forward[0], forward[1], a, b, c, d, e]
    }

    pub fn vectors(g: &Geometry, training: bool) -> usize {
        Self::sizes(g, training).iter().sum()
    }

    /// Memory that was zero at first and only a scratch has written, at the same place.
    #[inline(always)]
    pub fn new(g: &Geometry, training: bool, memory: &mut &'a mut [V]) -> Self {
        let [row1, products, gradient2, transformed2, gradient1, rows1, sums] =
            Self::sizes(g, training).map(|n| take(memory, n));
        Scratch { row1, products, gradient2, transformed2, gradient1, rows1, sums }
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
