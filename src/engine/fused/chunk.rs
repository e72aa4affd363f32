//! A chunk of images, forward and backward through the whole network while it is in the cache.
//!
//! A chunk is two tiles, a tile is as many images as a vector has lanes. Maps are
//! [channel][row][column] of vectors, one tile each; the linear layers have both tiles side by side,
//! [feature][tile], so that the same kernel serves them.

use super::activations::{activate, slope};
use super::kernels::{POSITIONS, Packed, Taps, convolution_weights};
use crate::architecture::{
    Activation, Architecture, CONV1_CHANNELS, CONV1_PADDING, CONV2_CHANNELS, FC1_FEATURES,
    FC2_FEATURES, KERNEL, Pooling,
};
use pulp::{Simd, bytemuck};

const TILES: usize = POSITIONS;

/// Parameters of the two convolutions: the head of the flat vector.
pub const CONVOLUTION_PARAMETERS: usize = CONV1_CHANNELS * (KERNEL * KERNEL + 1)
    + CONV2_CHANNELS * (CONV1_CHANNELS * KERNEL * KERNEL + 1);

pub fn images_per_chunk<S: Simd>() -> usize {
    TILES * S::F32_LANES
}

/// Heights and widths of the maps.
#[derive(Clone, Copy)]
pub struct Geometry {
    pub architecture: Architecture,
    /// Image, with and without its padding.
    padded_width: usize,
    height: usize,
    width: usize,
    /// After the first pooling.
    height1: usize,
    width1: usize,
    /// After the second convolution, and its gradient's map with a border for the kernel.
    height2: usize,
    width2: usize,
    border_width2: usize,
}

const BORDER: usize = KERNEL - 1;

impl Geometry {
    pub fn new(architecture: Architecture) -> Self {
        let (height, width) = (architecture.height(), architecture.width());
        let (height2, width2) = (height / 2 - BORDER, width / 2 - BORDER);
        Geometry {
            architecture,
            padded_width: width + 2 * CONV1_PADDING,
            height,
            width,
            height1: height / 2,
            width1: width / 2,
            height2,
            width2,
            border_width2: width2 + 2 * BORDER,
        }
    }

    /// Of a kernel over a map of that width, with `channels` planes of `plane` vectors.
    fn taps(channels: usize, plane: usize, width: usize) -> Taps {
        Taps { channels, channel_stride: plane, rows: KERNEL, row_stride: width, columns: KERNEL }
    }
}

/// Of a linear layer with so many inputs.
fn linear_taps(inputs: usize) -> Taps {
    Taps { channels: 1, channel_stride: 0, rows: inputs, row_stride: TILES, columns: 1 }
}

/// The parameters as the forward kernels read them.
pub struct ForwardWeights {
    conv1: Packed,
    conv2: Packed,
    linear: [Packed; 3],
}

/// And as the backward ones do: of each layer but the first, outputs and inputs exchanged.
pub struct BackwardWeights {
    conv2: Packed,
    linear: [Packed; 3],
}

impl ForwardWeights {
    pub fn new(architecture: Architecture, flat: &[f32]) -> Self {
        let specs = architecture.parameters();
        let layer = |i: usize| {
            let (weight, bias) = (specs[2 * i], specs[2 * i + 1]);
            let (outputs, taps) = (bias.len(), weight.len() / bias.len());
            let weights = &flat[weight.range()];
            Packed::new(outputs, taps, &flat[bias.range()], |o, tap| weights[o * taps + tap])
        };
        ForwardWeights { conv1: layer(0), conv2: layer(1), linear: [layer(2), layer(3), layer(4)] }
    }
}

impl BackwardWeights {
    pub fn new(architecture: Architecture, flat: &[f32]) -> Self {
        let specs = architecture.parameters();
        let conv2 = &flat[specs[2].range()];
        // The kernel upside down and from right to left.
        let flipped = |input: usize, tap: usize| {
            let (output, place) = (tap / (KERNEL * KERNEL), tap % (KERNEL * KERNEL));
            conv2[(output * CONV1_CHANNELS + input) * KERNEL * KERNEL + KERNEL * KERNEL - 1 - place]
        };
        let linear = |i: usize| {
            let (weights, outputs) = (&flat[specs[i].range()], specs[i].shape()[0]);
            let inputs = specs[i].shape()[1];
            Packed::new(inputs, outputs, &[], |input, o| weights[o * inputs + input])
        };
        BackwardWeights {
            conv2: Packed::new(CONV1_CHANNELS, CONV2_CHANNELS * KERNEL * KERNEL, &[], flipped),
            linear: [linear(4), linear(6), linear(8)],
        }
    }
}

/// What one tile's convolutions leave for their backward pass.
struct Tile<V> {
    /// (height + 4, width + 4): the padded images.
    input: Vec<V>,
    /// (6, height, width): activations, later the gradient before them.
    maps1: Vec<V>,
    /// (6, height / 2, width / 2)
    pooled1: Vec<V>,
    /// (16, height2, width2): activations.
    maps2: Vec<V>,
}

/// Activations and gradients of a linear layer's outputs, (features, 2).
struct Linear<V> {
    values: Vec<V>,
    gradient: Vec<V>,
}

pub struct Chunk<S: Simd> {
    simd: S,
    geometry: Geometry,
    tiles: [Tile<S::f32s>; TILES],
    /// The flattened maps, the two hidden layers, the logits.
    linear: [Linear<S::f32s>; 4],
    /// (16, height2 + 8, width2 + 8): gradient before the second activation, in a border of zeros.
    gradient2: Vec<S::f32s>,
    /// (6, width / 2): gradient of a row after the first pooling.
    gradient_row: Vec<S::f32s>,
    /// Gradients of the convolutions' parameters, the lanes not yet summed.
    convolution_sums: Vec<S::f32s>,
}

impl<S: Simd> Chunk<S> {
    #[inline(always)]
    pub fn new(simd: S, geometry: Geometry) -> Self {
        let g = geometry;
        let zeros = |n: usize| vec![simd.splat_f32s(0.0); n];
        let tile = || Tile {
            input: zeros((g.height + 2 * CONV1_PADDING) * g.padded_width),
            maps1: zeros(CONV1_CHANNELS * g.height * g.width),
            pooled1: zeros(CONV1_CHANNELS * g.height1 * g.width1),
            maps2: zeros(CONV2_CHANNELS * g.height2 * g.width2),
        };
        let linear = |n: usize| Linear { values: zeros(TILES * n), gradient: zeros(TILES * n) };
        Chunk {
            simd,
            geometry,
            tiles: [tile(), tile()],
            linear: [
                linear(g.architecture.features()),
                linear(FC1_FEATURES),
                linear(FC2_FEATURES),
                linear(g.architecture.classes()),
            ],
            gradient2: zeros(CONV2_CHANNELS * (g.height2 + 2 * BORDER) * g.border_width2),
            gradient_row: zeros(CONV1_CHANNELS * g.width1),
            convolution_sums: zeros(CONVOLUTION_PARAMETERS),
        }
    }

    /// Puts the pixels of image `i` of the chunk, as the network sees them, into its lane.
    #[inline(always)]
    pub fn load(&mut self, i: usize, pixels: &[f32]) {
        let (g, lanes) = (self.geometry, S::F32_LANES);
        let input: &mut [f32] = bytemuck::cast_slice_mut(&mut self.tiles[i / lanes].input);
        for (y, row) in pixels.chunks_exact(g.width).enumerate() {
            let start = (y + CONV1_PADDING) * g.padded_width + CONV1_PADDING;
            let places = input[start * lanes + i % lanes..].iter_mut().step_by(lanes);
            places.zip(row).for_each(|(place, &pixel)| *place = pixel);
        }
    }

    /// The values of a linear layer (0: the flattened maps, 3: the logits) for image `i`.
    #[inline(always)]
    pub fn values(&self, layer: usize, i: usize, out: &mut [f32]) {
        copy_lane::<S>(&self.linear[layer].values, i, out);
    }

    /// The gradients of the same.
    #[inline(always)]
    pub fn gradients(&self, layer: usize, i: usize, out: &mut [f32]) {
        copy_lane::<S>(&self.linear[layer].gradient, i, out);
    }

    /// Sets the gradient of image `i`'s logits.
    #[inline(always)]
    pub fn set_logits_gradient(&mut self, i: usize, gradient: &[f32]) {
        let values: &mut [f32] = bytemuck::cast_slice_mut(&mut self.linear[3].gradient);
        let places = values[i..].iter_mut().step_by(images_per_chunk::<S>());
        places.zip(gradient).for_each(|(place, &g)| *place = g);
    }

    #[inline(always)]
    pub fn forward(&mut self, weights: &ForwardWeights) {
        let (simd, activation) = (self.simd, self.geometry.architecture.activation());
        let [features, ..] = &mut self.linear;
        for (t, tile) in self.tiles.iter_mut().enumerate() {
            tile.forward(simd, self.geometry, weights, &mut features.values[t..]);
        }
        for (i, weights) in weights.linear.iter().enumerate() {
            let (before, after) = self.linear.split_at_mut(i + 1);
            let (x, out) = (&before[i].values, &mut after[0].values);
            weights.correlate(simd, linear_taps(x.len() / TILES), x, TILES, out, TILES);
            if i < 2 {
                activate(simd, activation, out);
            }
        }
    }

    /// From the logits' gradients to those of all parameters of the convolutions, which are added up,
    /// and of all linear layers' outputs, which the caller makes weight gradients of.
    #[inline(always)]
    pub fn backward(&mut self, weights: &BackwardWeights) {
        let (simd, activation) = (self.simd, self.geometry.architecture.activation());
        for (i, weights) in weights.linear.iter().enumerate().rev() {
            let (before, after) = self.linear.split_at_mut(i + 1);
            let (x, out) = (&after[0].gradient, &mut before[i].gradient);
            weights.correlate(simd, linear_taps(x.len() / TILES), x, TILES, out, TILES);
            if i > 0 {
                for (gradient, &value) in out.iter_mut().zip(&before[i].values) {
                    *gradient = simd.mul_f32s(*gradient, slope(simd, activation, value));
                }
            }
        }
        for t in 0..TILES {
            self.convolutions_backward(weights, t);
        }
    }

    #[inline(always)]
    fn convolutions_backward(&mut self, weights: &BackwardWeights, t: usize) {
        let (simd, g) = (self.simd, self.geometry);
        let rules = (g.architecture.activation(), g.architecture.pooling());
        let tile = &mut self.tiles[t];
        let kernel = KERNEL * KERNEL;
        let (sums1, sums2) = self.convolution_sums.split_at_mut(CONV1_CHANNELS * (kernel + 1));
        let (weights1, bias1) = sums1.split_at_mut(CONV1_CHANNELS * kernel);
        let (weights2, bias2) = sums2.split_at_mut(CONV2_CHANNELS * CONV1_CHANNELS * kernel);

        // Second pooling and activation: into the bordered map.
        let (plane2, bordered2) =
            (g.height2 * g.width2, (g.height2 + 2 * BORDER) * g.border_width2);
        let features = &self.linear[0].gradient;
        let mut feature = t;
        for (channel, bias) in bias2.iter_mut().enumerate() {
            for y in (0..g.height2).step_by(2) {
                for x in (0..g.width2).step_by(2) {
                    let at = channel * plane2 + y * g.width2 + x;
                    let window = window(&tile.maps2, at, g.width2);
                    let gradients = unpool(simd, rules, window, features[feature]);
                    let to = channel * bordered2 + (y + BORDER) * g.border_width2 + x + BORDER;
                    set_window(&mut self.gradient2, to, g.border_width2, gradients);
                    for d in gradients {
                        *bias = simd.add_f32s(*bias, d);
                    }
                    feature += TILES;
                }
            }
        }

        // Second convolution: its weights, two output channels at a time.
        let inside = BORDER * g.border_width2 + BORDER;
        let plane1 = g.height1 * g.width1;
        for output in (0..CONV2_CHANNELS).step_by(2) {
            let delta = |o: usize| &self.gradient2[o * bordered2 + inside..];
            let deltas = [delta(output), delta(output + 1)];
            for input in 0..CONV1_CHANNELS {
                for row in 0..KERNEL {
                    let x = &tile.pooled1[input * plane1 + row * g.width1..];
                    let at = |o: usize| (o * CONV1_CHANNELS + input) * kernel + row * KERNEL;
                    convolution_weights::<S, KERNEL>(
                        simd,
                        (deltas, g.border_width2),
                        (x, g.width1),
                        (g.height2, g.width2),
                        weights2,
                        [at(output), at(output + 1)],
                    );
                }
            }
        }

        // Its input, row by row, and at once through the first pooling and activation, whose
        // gradient takes the place of its values.
        let taps = Geometry::taps(CONV2_CHANNELS, bordered2, g.border_width2);
        let plane = g.height * g.width;
        for y in 0..g.height1 {
            let x = &self.gradient2[y * g.border_width2..];
            weights.conv2.correlate(simd, taps, x, g.width1, &mut self.gradient_row, g.width1);
            for (channel, bias) in bias1.iter_mut().enumerate() {
                for x in 0..g.width1 {
                    let at = channel * plane + 2 * y * g.width + 2 * x;
                    let window = window(&tile.maps1, at, g.width);
                    let gradient = self.gradient_row[channel * g.width1 + x];
                    let gradients = unpool(simd, rules, window, gradient);
                    set_window(&mut tile.maps1, at, g.width, gradients);
                    for d in gradients {
                        *bias = simd.add_f32s(*bias, d);
                    }
                }
            }
        }

        // First convolution: its weights.
        for output in (0..CONV1_CHANNELS).step_by(2) {
            let delta = |o: usize| &tile.maps1[o * plane..];
            let deltas = [delta(output), delta(output + 1)];
            for row in 0..KERNEL {
                let x = &tile.input[row * g.padded_width..];
                let at = |o: usize| o * kernel + row * KERNEL;
                convolution_weights::<S, KERNEL>(
                    simd,
                    (deltas, g.width),
                    (x, g.padded_width),
                    (g.height, g.width),
                    weights1,
                    [at(output), at(output + 1)],
                );
            }
        }
    }

    /// Writes the convolutions' gradients, summed over the lanes, and begins new sums.
    #[inline(always)]
    pub fn drain_convolution_sums(&mut self, gradient: &mut [f32]) {
        for (sum, gradient) in self.convolution_sums.iter_mut().zip(gradient) {
            *gradient = self.simd.reduce_sum_f32s(*sum);
            *sum = self.simd.splat_f32s(0.0);
        }
    }
}

impl<V: Copy> Tile<V> {
    #[inline(always)]
    fn forward<S: Simd<f32s = V>>(
        &mut self,
        simd: S,
        g: Geometry,
        weights: &ForwardWeights,
        features: &mut [V],
    ) {
        let (activation, pooling) = (g.architecture.activation(), g.architecture.pooling());
        let taps = Geometry::taps(1, 0, g.padded_width);
        let size = (g.height, g.width);
        convolve(simd, activation, &weights.conv1, taps, &self.input, &mut self.maps1, size);
        let places = self.pooled1.iter_mut().zip(windows(CONV1_CHANNELS * g.height, g.width));
        for (place, at) in places {
            *place = pool(simd, pooling, window(&self.maps1, at, g.width));
        }

        let taps = Geometry::taps(CONV1_CHANNELS, g.height1 * g.width1, g.width1);
        let size = (g.height2, g.width2);
        convolve(simd, activation, &weights.conv2, taps, &self.pooled1, &mut self.maps2, size);
        let places = features.iter_mut().step_by(TILES);
        for (place, at) in places.zip(windows(CONV2_CHANNELS * g.height2, g.width2)) {
            *place = pool(simd, pooling, window(&self.maps2, at, g.width2));
        }
    }
}

/// A convolution and the activation of the rows just written, into maps of height x width.
#[inline(always)]
fn convolve<S: Simd>(
    simd: S,
    activation: Activation,
    weights: &Packed,
    taps: Taps,
    x: &[S::f32s],
    maps: &mut [S::f32s],
    (height, width): (usize, usize),
) {
    let plane = height * width;
    for y in 0..height {
        let out = &mut maps[y * width..];
        weights.correlate(simd, taps, &x[y * taps.row_stride..], width, out, plane);
        for row in out.chunks_mut(plane) {
            activate(simd, activation, &mut row[..width]);
        }
    }
}

/// The first place of each 2x2 window of a map; heights are even, so planes may follow each other.
fn windows(height: usize, width: usize) -> impl Iterator<Item = usize> {
    (0..height).step_by(2).flat_map(move |y| (0..width).step_by(2).map(move |x| y * width + x))
}

/// A 2x2 window in row-major order.
type Window<V> = [V; 4];

#[inline(always)]
fn window<V: Copy>(map: &[V], at: usize, width: usize) -> Window<V> {
    [map[at], map[at + 1], map[at + width], map[at + width + 1]]
}

#[inline(always)]
fn set_window<V: Copy>(map: &mut [V], at: usize, width: usize, values: Window<V>) {
    map[at..at + 2].copy_from_slice(&values[..2]);
    map[at + width..at + width + 2].copy_from_slice(&values[2..]);
}

#[inline(always)]
fn pool<S: Simd>(simd: S, pooling: Pooling, [a, b, c, d]: Window<S::f32s>) -> S::f32s {
    match pooling {
        Pooling::Average => {
            let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
            simd.mul_f32s(sum, simd.splat_f32s(0.25))
        }
        Pooling::Max => first_max(simd, first_max(simd, a, b), first_max(simd, c, d)),
    }
}

/// `a` unless `b` is larger; NaN if one of them is.
#[inline(always)]
fn first_max<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    let unordered = simd.add_f32s(a, b);
    let b_or_nan = simd.select_f32s(simd.less_than_f32s(a, b), b, unordered);
    simd.select_f32s(simd.greater_than_or_equal_f32s(a, b), a, b_or_nan)
}

/// The gradient before activation and pooling of each place of a window: what of the pooled value's
/// gradient reaches it, times the activation's slope there.
#[inline(always)]
fn unpool<S: Simd>(
    simd: S,
    (activation, pooling): (Activation, Pooling),
    window: Window<S::f32s>,
    gradient: S::f32s,
) -> Window<S::f32s> {
    let zero = simd.splat_f32s(0.0);
    let mut shares = [simd.mul_f32s(gradient, simd.splat_f32s(0.25)); 4];
    if pooling == Pooling::Max {
        let max = pool(simd, pooling, window);
        // The first maximum takes all; nothing is left for later ones.
        let mut left = gradient;
        for k in 0..4 {
            let is_max = simd.greater_than_or_equal_f32s(window[k], max);
            shares[k] = simd.select_f32s(is_max, left, zero);
            left = simd.select_f32s(is_max, zero, left);
        }
    }
    for k in 0..4 {
        shares[k] = simd.mul_f32s(shares[k], slope(simd, activation, window[k]));
    }
    shares
}

/// Image `i` of (features, 2) vectors: of each feature's floats, one for each image of the chunk, the
/// i-th.
#[inline(always)]
fn copy_lane<S: Simd>(values: &[S::f32s], i: usize, out: &mut [f32]) {
    let values: &[f32] = bytemuck::cast_slice(values);
    let values = values[i..].iter().step_by(images_per_chunk::<S>());
    out.iter_mut().zip(values).for_each(|(o, &v)| *o = v);
}
