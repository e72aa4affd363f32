//! One image at a time, for calls with too few of them to fill the lanes: the lanes hold bands of its
//! rows in the first convolution, outputs in the second one, and inputs in the linear layers.

use super::chunk::{NetworkWeights, linear_sizes};
use super::convolution::{ConvolutionWeights, WINDOWS, windows_of};
use super::geometry::Geometry;
use super::input::Batch;
use super::tile::Tile;
use crate::architecture::{Architecture, CONV1_CHANNELS, CONV2_CHANNELS, KERNEL, Outputs};
use crate::engine::fused::kernels::activations::activate;
use crate::engine::fused::kernels::pooling::pool;
use crate::engine::fused::kernels::winograd::{self, POINTS};
use crate::engine::fused::vectors::memory::{Memory, take};
use crate::engine::fused::vectors::registers::{for_group_of, groups};
use crate::error::Result;
use crate::unique::Unique;
use pulp::{Simd, bytemuck};

/// Whether so many images take less time one by one than in the lanes of a vector.
pub fn pays<S: Simd>(images: usize) -> bool {
    4 * images <= 3 * S::F32_LANES
}

/// A network's weights as single images read them, of which none lies across two cache lines: the second
/// convolution's, (8 points, 6 channels, 5 rows, 16 outputs), and of each linear layer every output's in whole
/// vectors.
#[derive(Default)]
pub struct SingleWeights {
    memory: Memory,
    /// What they are of.
    prepared: Option<Unique>,
}

impl SingleWeights {
    fn sizes<S: Simd>(architecture: Architecture) -> [usize; 4] {
        let [fc1, fc2, fc3] = linear_sizes(architecture)
            .map(|(inputs, outputs)| outputs * inputs.next_multiple_of(S::F32_LANES));
        [POINTS * CONV1_CHANNELS * KERNEL * CONV2_CHANNELS, fc1, fc2, fc3]
    }

    /// Writes them, if it has not yet.
    pub fn prepare<S: Simd>(&mut self, batch: &Batch, weights: &NetworkWeights) -> Result<()> {
        if self.prepared == Some(batch.version) {
            return Ok(());
        }
        let [size2, linear_sizes @ ..] = Self::sizes::<S>(batch.architecture);
        self.memory.grow(size2 + linear_sizes.iter().sum::<usize>())?;
        let mut rest = self.memory.get_mut();
        let weights2 = take(&mut rest, size2).as_chunks_mut::<CONV2_CHANNELS>().0;
        let of_output = CONV1_CHANNELS * KERNEL;
        for (i, out) in weights2.iter_mut().enumerate() {
            let (point, tap) = (i / of_output, i % of_output);
            for (output, out) in out.iter_mut().enumerate() {
                *out = weights.convolutions.conv2.rows[output * of_output + tap][point];
            }
        }
        for (size, (weights, bias)) in linear_sizes.into_iter().zip(weights.linear) {
            let rows = take(&mut rest, size).chunks_exact_mut(size / bias.len());
            for (out, row) in rows.zip(weights.chunks_exact(weights.len() / bias.len())) {
                out[..row.len()].copy_from_slice(row); // zero after it, as at first
            }
        }
        self.prepared = Some(batch.version);
        Ok(())
    }

    /// In vectors.
    fn get<S: Simd>(&self, architecture: Architecture) -> [&[S::f32s]; 4] {
        let mut rest = self.memory.get();
        Self::sizes::<S>(architecture).map(|size| {
            let (weights, after) = rest.split_at(size / S::F32_LANES);
            rest = after;
            weights
        })
    }
}

/// Tiles of columns that are computed together: those of two rows, and two vectors of outputs, keep 12 sums
/// in registers.
const COLUMNS: usize = 3;

/// What one image is computed in.
pub struct Single<'a, S: Simd> {
    simd: S,
    geometry: Geometry,
    /// Each lane a band of the image.
    band: Geometry,
    tile: Tile<'a, S::f32s>,
    /// (padded width)
    row0: &'a mut [S::f32s],
    /// (6, width1)
    row1: &'a mut [S::f32s],
    /// (8 points, 6 outputs, 2 rows) and (8 points, columns2, 2 rows, 16 / lanes): the convolutions' products.
    products1: &'a mut [S::f32s],
    products2: &'a mut [S::f32s],
    /// The features and the outputs of the first two linear layers, in whole vectors.
    values: [&'a mut [S::f32s]; 3],
    /// The image, if it is seen through a view.
    seen: &'a mut [f32],
}

impl<'a, S: Simd> Single<'a, S> {
    fn sizes(g: &Geometry) -> [usize; 7] {
        let [features, fc1, fc2] =
            linear_sizes(g.architecture).map(|(inputs, _)| inputs.div_ceil(S::F32_LANES));
        let products1 = 2 * POINTS * CONV1_CHANNELS;
        let products2 = 2 * POINTS * g.columns2 * CONV2_CHANNELS.div_ceil(S::F32_LANES);
        [g.padded_width, CONV1_CHANNELS * g.width1, products1, products2, features, fc1, fc2]
    }

    /// Floats of memory that it takes for a batch's images.
    pub fn floats(g: &Geometry, batch: &Batch) -> usize {
        let tile = Tile::<S::f32s>::vectors(&g.band(S::F32_LANES), false);
        (tile + Self::sizes(g).iter().sum::<usize>()) * S::F32_LANES + batch.source_floats(1)
    }

    /// Memory that was zero at first and that only this has written.
    #[inline(always)]
    pub fn new(simd: S, geometry: Geometry, memory: &'a mut [S::f32s]) -> Self {
        let (band, mut rest) = (geometry.band(S::F32_LANES), memory);
        let tile = Tile::new(&band, false, &mut rest);
        let [row0, row1, products1, products2, features, fc1, fc2] =
            Self::sizes(&geometry).map(|n| take(&mut rest, n));
        let values = [features, fc1, fc2];
        let seen = bytemuck::cast_slice_mut(rest);
        Single { simd, geometry, band, tile, row0, row1, products1, products2, values, seen }
    }

    /// These outputs of image `i`.
    #[inline(always)]
    pub fn outputs(
        &mut self,
        batch: &Batch,
        i: usize,
        weights: &NetworkWeights,
        prepared: &SingleWeights,
        outputs: Outputs,
        out: &mut [f32],
    ) {
        let [weights2, layers @ ..] = prepared.get::<S>(batch.architecture);
        self.forward1(batch, i, weights.convolutions);
        match CONV2_CHANNELS / S::F32_LANES {
            4 => self.forward2::<4>(weights.convolutions, weights2),
            2 => self.forward2::<2>(weights.convolutions, weights2),
            _ => self.forward2::<1>(weights.convolutions, weights2),
        }
        let (simd, [features, fc1, fc2]) = (self.simd, &mut self.values);
        let activation = self.geometry.architecture.activation();
        let [bias1, bias2, bias3] = weights.linear.map(|(_, bias)| bias);
        dot_products(simd, layers[0], bias1, features, bytemuck::cast_slice_mut(fc1));
        activate(simd, activation, fc1);
        dot_products(simd, layers[1], bias2, fc1, bytemuck::cast_slice_mut(fc2));
        activate(simd, activation, fc2);
        match outputs {
            Outputs::Features => out.copy_from_slice(&bytemuck::cast_slice(fc2)[..out.len()]),
            Outputs::Logits => dot_products(simd, layers[2], bias3, fc2, out),
        }
    }

    /// The first convolution, each lane a band of the image's rows.
    #[inline(always)]
    fn forward1(&mut self, batch: &Batch, i: usize, weights: &ConvolutionWeights) {
        let (simd, band) = (self.simd, &self.band);
        let source = batch.source_of_bands(simd, i, band.height, self.seen);
        for y in 0..band.height {
            self.tile.take_row(simd, band, &source, y, self.row0);
        }
        // What lies below a lane's band is the next one's; below the last one there is nothing that counts.
        let rows = self.tile.transformed0.chunks_exact_mut(band.strides()[0].column);
        for row in rows {
            for y in band.height..band.padded_height() {
                row[y] = simd.rotate_left_f32s(row[y - band.height], 1);
            }
        }
        for y in 0..band.height1 {
            self.tile.pool_row1(simd, band, weights, y, self.row1, self.products1);
        }
    }

    /// The second convolution, its outputs in the lanes of `V` vectors.
    #[inline(always)]
    fn forward2<const V: usize>(&mut self, weights: &ConvolutionWeights, weights2: &[S::f32s]) {
        let (simd, g) = (self.simd, &self.geometry);
        let (activation, pooling) = g.rules();
        let transformed: &[f32] = bytemuck::cast_slice(self.tile.transformed1);
        let (weights2, _) = weights2.as_chunks::<V>();
        let bias = bytemuck::cast_slice::<_, S::f32s>(&weights.conv2.bias);
        let features: &mut [f32] = bytemuck::cast_slice_mut(self.values[0]);
        let (per_point, column_stride) =
            (CONV1_CHANNELS * KERNEL, self.band.height1 * S::F32_LANES);
        for y in 0..g.height2 / 2 {
            // Where the rows that the kernel meets are in their bands.
            let rows: [usize; KERNEL + 1] = std::array::from_fn(|k| {
                let at = 2 * y + k;
                at % self.band.height1 * S::F32_LANES + at / self.band.height1
            });
            let products = self.products2.as_chunks_mut::<V>().0.as_chunks_mut::<2>().0;
            for (point, products) in products.chunks_exact_mut(g.columns2).enumerate() {
                let weights2 = &weights2[point * per_point..][..per_point];
                let x = &transformed[point * CONV1_CHANNELS * g.columns2 * column_stride..];
                let products = &mut products[..g.columns2_at(point)];
                for (i, products) in products.chunks_mut(COLUMNS).enumerate() {
                    let x = &x[i * COLUMNS * column_stride..];
                    let x = (x, g.columns2 * column_stride, column_stride);
                    match products.len() {
                        3 => correlate_outputs::<S, V, 3>(simd, weights2, x, &rows, products),
                        2 => correlate_outputs::<S, V, 2>(simd, weights2, x, &rows, products),
                        _ => correlate_outputs::<S, V, 1>(simd, weights2, x, &rows, products),
                    }
                }
            }
            for column in 0..g.columns2 {
                let used = g.windows2(column);
                let narrow = used.len() < WINDOWS;
                for (v, &bias) in bias.iter().enumerate() {
                    let mut rows = [[simd.splat_f32s(0.0); winograd::OUTPUTS]; 2];
                    for (row, outputs) in rows.iter_mut().enumerate() {
                        let mut m = [simd.splat_f32s(0.0); POINTS];
                        for (point, m) in m.iter_mut().enumerate() {
                            *m = products[point * g.columns2 + column][row][v];
                        }
                        *outputs = winograd::biased_outputs(simd, m, bias, narrow);
                    }
                    let mut windows = windows_of(rows);
                    activate(simd, activation, windows[..used.len()].as_flattened_mut());
                    for (x, window) in used.clone().zip(windows) {
                        let pooled = [pool(simd, pooling, window)];
                        let pooled: &[f32] = bytemuck::cast_slice(&pooled);
                        for (lane, &value) in pooled.iter().enumerate() {
                            let output = v * S::F32_LANES + lane;
                            features[(output * (g.height2 / 2) + y) * (g.width2 / 2) + x] = value;
                        }
                    }
                }
            }
        }
    }
}

/// The products of neighbouring tiles of columns in two rows: out[p][row] = the sum over channels and taps
/// of weights(channel, tap) * x[channel * channel_stride + p * column_stride + rows[row + tap]], for the
/// outputs in the lanes.
#[inline(always)]
pub fn correlate_outputs<S: Simd, const V: usize, const P: usize>(
    simd: S,
    weights: &[[S::f32s; V]],
    (x, channel_stride, column_stride): (&[f32], usize, usize),
    rows: &[usize; KERNEL + 1],
    out: &mut [[[S::f32s; V]; 2]],
) {
    let mut columns = [x; P];
    for (p, column) in columns.iter_mut().enumerate() {
        *column = &x[p * column_stride..][..x.len() - (P - 1) * column_stride]; // of one length: one check
    }
    let mut sums = [[[simd.splat_f32s(0.0); V]; 2]; P];
    for (channel, weights) in weights.as_chunks::<KERNEL>().0.iter().enumerate() {
        for (k, at) in rows.iter().enumerate() {
            let mut x = [simd.splat_f32s(0.0); P];
            for (x, column) in x.iter_mut().zip(columns) {
                *x = simd.splat_f32s(column[channel * channel_stride + at]);
            }
            for row in 0..2 {
                if k < row || k - row == KERNEL {
                    continue;
                }
                for (v, &weight) in weights[k - row].iter().enumerate() {
                    for (sum, &x) in sums.iter_mut().zip(&x) {
                        sum[row][v] = simd.mul_add_e_f32s(weight, x, sum[row][v]);
                    }
                }
            }
        }
    }
    out.copy_from_slice(&sums);
}

/// A linear layer of one image: out[o] = bias[o] + the sum over i and the lanes of
/// weights[o * x.len() + i] * x[i]. What x has after the inputs meets zeros, but must be finite.
#[inline(always)]
pub fn dot_products<S: Simd>(
    simd: S,
    weights: &[S::f32s],
    bias: &[f32],
    x: &[S::f32s],
    out: &mut [f32],
) {
    for group in groups(bias.len()) {
        let weights = &weights[group.start * x.len()..group.end * x.len()];
        let (bias, out) = (&bias[group.clone()], &mut out[group]);
        for_group_of!(bias.len(), dot_products_group::<S>(simd, weights, bias, x, out));
    }
}

#[inline(always)]
fn dot_products_group<S: Simd, const A: usize>(
    simd: S,
    weights: &[S::f32s],
    bias: &[f32],
    x: &[S::f32s],
    out: &mut [f32],
) {
    let mut rows = [x; A];
    for (a, row) in rows.iter_mut().enumerate() {
        *row = &weights[a * x.len()..][..x.len()];
    }
    let mut sums = [simd.splat_f32s(0.0); A];
    for i in 0..x.len() {
        for a in 0..A {
            sums[a] = simd.mul_add_e_f32s(rows[a][i], x[i], sums[a]);
        }
    }
    for (a, out) in out.iter_mut().enumerate() {
        *out = bias[a] + simd.reduce_sum_f32s(sums[a]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fused::every_level;
    use pulp::WithSimd;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Asserts that `ours` is the sum of the products of the pairs.
    fn assert_sum(ours: f32, terms: impl Iterator<Item = (f32, f32)>) {
        let naive: f64 = terms.map(|(a, b)| f64::from(a) * f64::from(b)).sum();
        assert!((f64::from(ours) - naive).abs() < 1e-5, "{ours}, not {naive}");
    }

    struct Linear {
        inputs: usize,
        outputs: usize,
    }

    impl WithSimd for Linear {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Linear { inputs, outputs } = self;
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let mut floats =
                |n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
            let inputs = inputs.next_multiple_of(S::F32_LANES);
            let (weights, bias) = (floats(inputs * outputs), floats(outputs));
            let x = floats(inputs);
            let mut out = vec![9.0; outputs];
            let [w, v] = [&weights, &x].map(|floats| bytemuck::cast_slice(floats));
            dot_products(simd, w, &bias, v, &mut out);
            for (o, row) in weights.chunks(inputs).enumerate() {
                let terms = row.iter().copied().zip(x.iter().copied());
                assert_sum(out[o], terms.chain([(1.0, bias[o])]));
            }
        }
    }

    #[test]
    fn a_linear_layer_is_its_naive_twin_on_every_tail() {
        for arch in every_level() {
            for inputs in (1..=40).chain([84, 400]) {
                for outputs in [1, 2, 5, 6, 7, 10, 16, 23] {
                    arch.dispatch(Linear { inputs, outputs });
                }
            }
        }
    }

    struct Correlate<const P: usize>;

    impl<const P: usize> WithSimd for Correlate<P> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            const V: usize = 2;
            let mut rng = ChaCha8Rng::seed_from_u64(6);
            let mut floats =
                |n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
            let (channels, column_stride) = (3, 9);
            let channel_stride = P * column_stride;
            let outputs = V * S::F32_LANES;
            let weights = floats(channels * KERNEL * outputs);
            let x = floats(channels * channel_stride);
            let rows = [3, 8, 0, 5, 1, 2];
            let mut out = [[[simd.splat_f32s(9.0); V]; 2]; P];
            correlate_outputs::<S, V, P>(
                simd,
                bytemuck::cast_slice(&weights).as_chunks().0,
                (&x, channel_stride, column_stride),
                &rows,
                &mut out,
            );
            let out: &[f32] = bytemuck::cast_slice(out.as_flattened().as_flattened());
            for (at, out) in out.chunks(outputs).enumerate() {
                let (p, row) = (at / 2, at % 2);
                for (o, &out) in out.iter().enumerate() {
                    let taps = weights.chunks(outputs).enumerate().map(|(tap, weights)| {
                        let (channel, row) = (tap / KERNEL, rows[row + tap % KERNEL]);
                        (weights[o], x[channel * channel_stride + p * column_stride + row])
                    });
                    assert_sum(out, taps);
                }
            }
        }
    }

    #[test]
    fn outputs_in_lanes_are_their_naive_twin_for_every_number_of_columns() {
        for arch in every_level() {
            arch.dispatch(Correlate::<1>);
            arch.dispatch(Correlate::<2>);
            arch.dispatch(Correlate::<3>);
        }
    }
}
