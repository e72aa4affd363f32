//! Each kernel of the fused engine by itself, on one thread: how long it takes and, where it
//! multiplies and adds, at what share of the peak that was measured just before it.
//!
//! `cargo bench --features kernel-benches --bench kernels`

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput};
use lenet::kernels::{
    Activation, Architecture, Columns, Memory, Packed, PackedTransposed, PanelShape, Panels,
    Partial, Pooling, Strides, activate, column_weights, convolution_weights, correlate_outputs,
    dot_products, linear, linear_inputs, panel_vectors, transform_inputs,
};
use pulp::{Arch, Simd, WithSimd};
use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

const KERNEL: usize = 5;

/// One call's worth of work.
trait Kernel {
    /// Multiply-adds as elements, of a plain convolution also where the kernel makes do with fewer; or
    /// the bytes of what comes in, where those are not the work.
    fn work(&self, lanes: u64) -> Throughput;

    /// Brings weights into the order for these vectors.
    fn prepare<S: Simd>(&mut self, _: S) {}

    fn run<S: Simd>(&mut self, simd: S);
}

struct Run<'a, K>(&'a mut K);

impl<K: Kernel> WithSimd for Run<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.run(simd);
    }
}

struct Prepare<'a, K>(&'a mut K);

impl<K: Kernel> WithSimd for Prepare<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.prepare(simd);
    }
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// So many vectors of numbers between -1 and 1.
fn noise(vectors: usize) -> Memory {
    let mut memory = Memory::zeros(16 * vectors).expect("memory");
    let mut state = 1u32;
    for value in memory.get_mut::<f32>() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    memory
}

/// Multiply-adds on registers alone.
struct Peak(u64);

impl Kernel for Peak {
    fn work(&self, lanes: u64) -> Throughput {
        Throughput::Elements(12 * self.0 * lanes)
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        let (x, y) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
        let mut sums = [y; 12];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, x, y);
            }
        }
        for sum in sums {
            black_box(simd.reduce_sum_f32s(sum));
        }
    }
}

/// Of so many outputs, counted once for each channel, of a kernel with one column.
fn convolution_work(outputs: usize, lanes: u64) -> Throughput {
    Throughput::Elements((outputs * KERNEL) as u64 * lanes)
}

/// A convolution in the transformed domain over a map with so many rows of outputs.
struct Correlate<const OUTPUTS: usize, const CHANNELS: usize> {
    packed: Packed<OUTPUTS, CHANNELS>,
    x: Memory,
    panel: Memory,
    out: Memory,
    rows: usize,
    columns: usize,
}

impl<const OUTPUTS: usize, const CHANNELS: usize> Correlate<OUTPUTS, CHANNELS> {
    fn new(rows: usize, columns: usize) -> Self {
        let (packed, x) = (Packed::zeros(), noise(CHANNELS * columns * (rows + KERNEL)));
        let (panel, out) = (noise(panel_vectors(CHANNELS, 0)), noise(2 * columns * OUTPUTS));
        Correlate { packed, x, panel, out, rows, columns }
    }
}

impl<const OUTPUTS: usize, const CHANNELS: usize> Kernel for Correlate<OUTPUTS, CHANNELS> {
    fn work(&self, lanes: u64) -> Throughput {
        convolution_work(self.rows * self.columns * OUTPUTS * CHANNELS, lanes)
    }

    fn prepare<S: Simd>(&mut self, _: S) {
        self.packed.fill::<S>(|output, channel| [(output + channel) as f32 * 0.01; KERNEL]);
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        let stride = self.rows + KERNEL;
        let x: &[S::f32s] = self.x.get_mut();
        let (panel, out) = (self.panel.get_mut(), self.out.get_mut::<S::f32s>());
        let out = out.as_chunks_mut::<2>().0.as_chunks_mut::<OUTPUTS>().0;
        for row in (0..self.rows).step_by(2) {
            let together = Packed::<OUTPUTS, CHANNELS>::columns::<S>();
            for (i, out) in out[..self.columns].chunks_mut(together).enumerate() {
                let x = &x[i * together * stride + row..];
                let strides = Strides { channel: self.columns * stride, column: stride };
                self.packed.correlate(simd, (x, strides), panel, out);
            }
        }
    }
}

/// The gradient of some columns of all channels at one point.
struct CorrelateTransposed<const OUTPUTS: usize, const CHANNELS: usize> {
    packed: PackedTransposed<OUTPUTS, CHANNELS>,
    deltas: Memory,
    panel: Memory,
    out: Memory,
    rows: usize,
    columns: usize,
}

impl<const OUTPUTS: usize, const CHANNELS: usize> CorrelateTransposed<OUTPUTS, CHANNELS> {
    fn new(rows: usize, columns: usize) -> Self {
        let (packed, deltas) = (PackedTransposed::zeros(), noise(OUTPUTS * columns * rows));
        let panel = noise(panel_vectors(CHANNELS, rows * columns / 2));
        let out = noise(CHANNELS * columns * (rows + KERNEL - 1));
        CorrelateTransposed { packed, deltas, panel, out, rows, columns }
    }
}

impl<const OUTPUTS: usize, const CHANNELS: usize> Kernel
    for CorrelateTransposed<OUTPUTS, CHANNELS>
{
    fn work(&self, lanes: u64) -> Throughput {
        convolution_work(self.rows * self.columns * OUTPUTS * CHANNELS, lanes)
    }

    fn prepare<S: Simd>(&mut self, _: S) {
        self.packed.fill::<S>(|output, channel| [(output + channel) as f32 * 0.01; KERNEL]);
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        let (size, inputs) = ((self.rows, self.columns), self.rows + KERNEL - 1);
        let deltas: &[S::f32s] = self.deltas.get_mut();
        let deltas = (&deltas[..OUTPUTS * self.rows * self.columns], self.rows * self.columns);
        let strides = Strides { channel: self.columns * inputs, column: inputs };
        let out = (self.out.get_mut(), strides);
        self.packed.correlate_transposed(simd, deltas, size, self.panel.get_mut(), out);
    }
}

/// The gradient of a convolution's weights between two outputs and one channel.
struct ColumnWeights {
    deltas: [Memory; 2],
    x: Memory,
    sums: Memory,
    rows: usize,
    columns: usize,
}

impl ColumnWeights {
    fn new(rows: usize, columns: usize) -> Self {
        let deltas = [noise(rows * columns), noise(rows * columns)];
        let x = noise((rows + KERNEL) * columns);
        ColumnWeights { deltas, x, sums: noise(1), rows, columns }
    }
}

impl Kernel for ColumnWeights {
    fn work(&self, lanes: u64) -> Throughput {
        convolution_work(2 * self.rows * self.columns, lanes)
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        let (rows, columns) = (self.rows, self.columns);
        let [first, second] = &mut self.deltas;
        let first = Columns { values: &first.get_mut()[..rows * columns], stride: rows };
        let second = Columns { values: &second.get_mut()[..rows * columns], stride: rows };
        let x = Columns { values: self.x.get_mut(), stride: rows + KERNEL };
        let sums = self.sums.get_mut::<f32>();
        column_weights(simd, [first, second], (rows, columns), x, sums, [0, KERNEL]);
    }
}

/// The gradient of a convolution's weights between all outputs and channels.
struct ConvolutionWeights<const OUTPUTS: usize, const CHANNELS: usize> {
    deltas: Memory,
    x: Memory,
    panel: Memory,
    sums: Memory,
    rows: usize,
    columns: usize,
}

impl<const OUTPUTS: usize, const CHANNELS: usize> ConvolutionWeights<OUTPUTS, CHANNELS> {
    fn new(rows: usize, columns: usize) -> Self {
        let (deltas, x) =
            (noise(OUTPUTS * rows * columns), noise(CHANNELS * (rows + KERNEL) * columns));
        let panel = noise(panel_vectors(CHANNELS, rows * columns / 2));
        let sums = noise((OUTPUTS * CHANNELS * KERNEL).div_ceil(16));
        ConvolutionWeights { deltas, x, panel, sums, rows, columns }
    }
}

impl<const OUTPUTS: usize, const CHANNELS: usize> Kernel for ConvolutionWeights<OUTPUTS, CHANNELS> {
    fn work(&self, lanes: u64) -> Throughput {
        convolution_work(self.rows * self.columns * OUTPUTS * CHANNELS, lanes)
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        let (size, column) = ((self.rows, self.columns), self.rows + KERNEL);
        let plane = self.rows * self.columns;
        let deltas = (&self.deltas.get_mut()[..OUTPUTS * plane], plane);
        let x = (&*self.x.get_mut(), Strides { channel: self.columns * column, column });
        let sums = &mut self.sums.get_mut::<f32>()[..OUTPUTS * CHANNELS * KERNEL];
        let panel = self.panel.get_mut();
        convolution_weights::<S, CHANNELS>(simd, deltas, size, x, panel, sums);
    }
}

/// Tiles of a chunk with vectors of so many lanes: with AVX-512 one.
const fn tiles(lanes: usize) -> usize {
    if lanes == 16 { 1 } else { 2 }
}

/// A linear layer for the images of a chunk, or its inputs' gradient.
struct Linear {
    weights: Memory,
    bias: Memory,
    inputs: Memory,
    outputs: Memory,
    sizes: (usize, usize),
    backward: bool,
}

impl Linear {
    fn new(inputs: usize, outputs: usize, backward: bool) -> Self {
        let (weights, bias) = (noise((inputs * outputs).div_ceil(16)), noise(outputs.div_ceil(16)));
        let (x, out) = (noise(2 * inputs), noise(2 * outputs));
        Linear { weights, bias, inputs: x, outputs: out, sizes: (inputs, outputs), backward }
    }
}

impl Kernel for Linear {
    fn work(&self, lanes: u64) -> Throughput {
        let tiles = tiles(lanes as usize) as u64;
        Throughput::Elements((self.sizes.0 * self.sizes.1) as u64 * tiles * lanes)
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        match tiles(S::F32_LANES) {
            1 => self.run_tiles::<S, 1>(simd),
            _ => self.run_tiles::<S, 2>(simd),
        }
    }
}

impl Linear {
    #[inline(always)]
    fn run_tiles<S: Simd, const T: usize>(&mut self, simd: S) {
        let (inputs, outputs) = self.sizes;
        let weights = &self.weights.get_mut::<f32>()[..inputs * outputs];
        let x = &mut self.inputs.get_mut()[..T * inputs];
        let out = &mut self.outputs.get_mut()[..T * outputs];
        if self.backward {
            linear_inputs::<S, T>(simd, weights, out, x);
        } else {
            linear::<S, T>(simd, weights, &self.bias.get_mut::<f32>()[..outputs], x, out);
        }
    }
}

/// The gradient of the first linear layer's weights over so many images.
struct LinearWeights {
    /// Of each chunk, as many as the vectors ask for.
    partials: Vec<Partial>,
    gradient: Memory,
    bias: Memory,
    images: usize,
}

const INPUTS: usize = 400;
const OUTPUTS: usize = 120;

impl LinearWeights {
    fn new(images: usize) -> Self {
        let (gradient, bias) = (noise(INPUTS * OUTPUTS / 16), noise(8));
        LinearWeights { partials: Vec::new(), gradient, bias, images }
    }
}

impl Kernel for LinearWeights {
    fn work(&self, _: u64) -> Throughput {
        Throughput::Elements((INPUTS * OUTPUTS * self.images) as u64)
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        match tiles(S::F32_LANES) {
            1 => self.run_tiles::<S, 1>(simd),
            _ => self.run_tiles::<S, 2>(simd),
        }
    }
}

impl LinearWeights {
    #[inline(always)]
    fn run_tiles<S: Simd, const T: usize>(&mut self, simd: S) {
        let shape = PanelShape::new::<S, T>(classic());
        while self.partials.len() < self.images / (T * S::F32_LANES) {
            let mut partial = Partial::zeros(&shape).unwrap();
            partial.panel = noise(partial.panel.get::<f32>().len() / 16);
            self.partials.push(partial);
        }
        let panels = Panels { shape, partials: &self.partials, images: self.images };
        let gradient = &mut self.gradient.get_mut()[..INPUTS * OUTPUTS];
        let bias = &mut self.bias.get_mut()[..OUTPUTS];
        panels.gradient::<S, T>(simd, 0, 0..black_box(OUTPUTS), false, gradient, bias);
    }
}

/// A linear layer for one image.
struct DotProducts(Linear);

impl Kernel for DotProducts {
    fn work(&self, _: u64) -> Throughput {
        Throughput::Elements((self.0.sizes.0 * self.0.sizes.1) as u64)
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        let (inputs, outputs) = self.0.sizes;
        let vectors = inputs / S::F32_LANES;
        let weights = &self.0.weights.get_mut()[..vectors * outputs];
        let bias = &self.0.bias.get_mut::<f32>()[..outputs];
        let x = &self.0.inputs.get_mut()[..vectors];
        dot_products(simd, weights, bias, x, &mut self.0.outputs.get_mut::<f32>()[..outputs]);
    }
}

/// The second convolution of one image at one point and two rows: two vectors of outputs, three columns.
struct CorrelateOutputs {
    weights: Memory,
    x: Memory,
}

impl CorrelateOutputs {
    fn new() -> Self {
        CorrelateOutputs { weights: noise(6 * KERNEL * 2), x: noise(6 * 3) }
    }
}

impl Kernel for CorrelateOutputs {
    fn work(&self, lanes: u64) -> Throughput {
        Throughput::Elements((2 * 2 * 3 * 6 * KERNEL) as u64 * lanes)
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        let weights: &[S::f32s] = &self.weights.get_mut()[..6 * KERNEL * 2];
        let (weights, _) = weights.as_chunks::<2>();
        let mut out = [[[simd.splat_f32s(0.0); 2]; 2]; 3];
        let x: &[f32] = self.x.get_mut();
        let rows = [0, 1, 2, 3, 4, 5];
        correlate_outputs::<S, 2, 3>(simd, weights, (x, 48, 16), &rows, &mut out);
        black_box(&mut out);
    }
}

struct Activate(Activation, Memory);

impl Kernel for Activate {
    fn work(&self, lanes: u64) -> Throughput {
        Throughput::Bytes(4 * 1024 * lanes)
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        activate(simd, self.0, &mut self.1.get_mut::<S::f32s>()[..1024]);
    }
}

/// The transform of neighbouring tiles.
struct Transform(Memory);

impl Kernel for Transform {
    fn work(&self, lanes: u64) -> Throughput {
        Throughput::Bytes(4 * 8 * 128 * lanes)
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S) {
        for tile in self.0.get_mut::<S::f32s>().as_chunks().0[..128].iter() {
            black_box(transform_inputs(simd, *tile));
        }
    }
}

fn classic() -> Architecture {
    Architecture::new(28, 28, 10, Activation::Sigmoid, Pooling::Average).expect("an architecture")
}

/// Wall time whose throughput is a share of the peak.
struct Shares {
    wall: WallTime,
    /// Multiply-adds a nanosecond.
    peak: Rc<Cell<f64>>,
}

impl Measurement for Shares {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        self.wall.start()
    }

    fn end(&self, start: Instant) -> Duration {
        self.wall.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        self.wall.add(a, b)
    }

    fn zero(&self) -> Duration {
        self.wall.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        self.wall.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Shares {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        self.wall.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(
        &self,
        typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let Throughput::Elements(multiply_adds) = throughput else {
            return self.wall.formatter().scale_throughputs(typical, throughput, values);
        };
        for value in values {
            *value = 100.0 * *multiply_adds as f64 / *value / self.peak.get();
        }
        "% of the FMA peak"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        self.wall.formatter().scale_for_machines(values)
    }
}

/// Multiply-adds a nanosecond, the best of a few tries.
fn measure_peak(arch: Arch) -> f64 {
    const ROUNDS: u64 = 200_000;
    let multiply_adds = (12 * ROUNDS) as f64 * arch.dispatch(Lanes) as f64;
    let mut peak = Peak(ROUNDS);
    let tries = (0..10).map(|_| {
        let start = Instant::now();
        arch.dispatch(Run(&mut peak));
        multiply_adds / start.elapsed().as_nanos() as f64
    });
    tries.fold(0.0, f64::max)
}

fn main() {
    let (arch, peak) = (Arch::new(), Rc::new(Cell::new(0.0)));
    let measurement = Shares { wall: WallTime, peak: Rc::clone(&peak) };
    let mut criterion = Criterion::default()
        .with_measurement(measurement)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut bench = |name: &str, kernel: &mut dyn FnMut(), work: Throughput| {
        peak.set(measure_peak(arch));
        let mut group = criterion.benchmark_group("kernels");
        group.throughput(work).bench_function(name, |bencher| bencher.iter(&mut *kernel));
        group.finish();
    };
    macro_rules! bench {
        ($($name:literal: $kernel:expr,)*) => {$({
            let mut kernel = $kernel;
            arch.dispatch(Prepare(&mut kernel));
            let work = kernel.work(arch.dispatch(Lanes) as u64);
            bench($name, &mut || arch.dispatch(Run(&mut kernel)), work);
        })*};
    }
    bench! {
        "multiply-adds in registers": Peak(1000),
        "first convolution": Correlate::<6, 1>::new(28, 7),
        "second convolution": Correlate::<16, 6>::new(10, 3),
        "second convolution, input gradient": CorrelateTransposed::<16, 6>::new(10, 3),
        "first convolution, weight gradient": ColumnWeights::new(4, 7),
        "second convolution, weight gradient": ConvolutionWeights::<16, 6>::new(10, 3),
        "linear 400 to 120": Linear::new(INPUTS, OUTPUTS, false),
        "linear 400 to 120, input gradient": Linear::new(INPUTS, OUTPUTS, true),
        "linear 400 to 120, weight gradient of 256 images": LinearWeights::new(256),
        "one image: second convolution": CorrelateOutputs::new(),
        "one image: linear 400 to 120": DotProducts(Linear::new(INPUTS, OUTPUTS, false)),
        "sigmoid": Activate(Activation::Sigmoid, noise(1024)),
        "tanh": Activate(Activation::Tanh, noise(1024)),
        "ReLU": Activate(Activation::Relu, noise(1024)),
        "transform of tiles": Transform(noise(8 * 128)),
    }
    criterion.final_summary();
}
