//! How a batch is computed: which engine a device gets. The rooms above ask an `Engine` for logits, or for
//! loss and gradient, and know neither the device nor the kernels.
//!
//! No file here imports one above it (tests/house.rs):
//!
//! | room | concern |
//! | --- | --- |
//! | `remote` | an engine in another shared library, the plugin: CUDA, which not every host has |
//! | `cuda` | the engine for NVIDIA GPUs, of the plugin alone: many steps a launch |
//! | `fused` | the engine for CPUs: forward and backward in the cache |
//! | `candle` | candle's operations on any of its devices, and what the others are compared with |
//! | `interface` | what every engine can do |

mod candle;
#[cfg(feature = "cuda")]
mod cuda;
mod fused;
mod interface;
mod remote;

pub use self::candle::CandleEngine;
#[cfg(feature = "cuda")]
pub use cuda::open as open_cuda;
#[cfg(feature = "kernel-benches")]
pub use fused::benched;
pub use interface::Engine;

use crate::architecture::Architecture;
use crate::batch::Normalization;
use crate::error::{Code, Error, Result};
use crate::host::Lock;
use candle_core::Device;
use fused::FusedEngine;
use pulp::Arch;
use std::ffi::CStr;

/// A device as the caller asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Cpu,
    Cuda,
    /// CUDA where it can be had, else the CPU.
    Auto,
}

/// How a CPU computes.
#[derive(Clone, Copy)]
enum CpuEngine {
    /// The fused engine with these vectors.
    Fused(Arch),
    /// Candle's own operations.
    Candle,
}

impl CpuEngine {
    /// The best that this CPU can, unless the environment variable LENET_ENGINE, read once, names
    /// another one: for tests and measurements.
    fn chosen() -> Result<Self> {
        static CHOICE: Lock<Option<Result<CpuEngine>>> = Lock::new(None);
        CHOICE.lock().get_or_insert_with(CpuEngine::choose).clone()
    }

    fn choose() -> Result<Self> {
        let Some(choice) = std::env::var_os("LENET_ENGINE") else {
            return Ok(CpuEngine::Fused(Arch::new()));
        };
        let unsupported =
            |why: &str| Error::new(Code::Unsupported, format!("LENET_ENGINE is {choice:?}; {why}"));
        let arch = match choice.to_str() {
            Some("candle") => return Ok(CpuEngine::Candle),
            Some("fused") => Some(Arch::new()),
            Some("portable") => Some(Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            Some("avx512") => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "x86_64")]
            Some("avx2") => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "aarch64")]
            Some("neon") => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            _ => return Err(unsupported(CpuEngine::NAMES)),
        };
        arch.map(CpuEngine::Fused).ok_or_else(|| unsupported("this CPU has no such vectors"))
    }

    #[cfg(target_arch = "x86_64")]
    const NAMES: &str = "it must be fused, avx512, avx2, portable or candle";
    #[cfg(target_arch = "aarch64")]
    const NAMES: &str = "it must be fused, neon, portable or candle";
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    const NAMES: &str = "it must be fused, portable or candle";

    fn open(self, num_threads: u32, normalization: Normalization) -> Box<dyn Engine> {
        match self {
            CpuEngine::Fused(arch) => Box::new(FusedEngine::new(arch, num_threads, normalization)),
            CpuEngine::Candle => Box::new(CandleEngine::new(Device::Cpu, normalization)),
        }
    }
}

/// What a model on the CPU computes with, for `lenet_build_info`.
pub fn description() -> &'static CStr {
    match CpuEngine::chosen() {
        #[cfg(target_arch = "x86_64")]
        Ok(CpuEngine::Fused(Arch::V4(_))) => c"CPU: fused engine, AVX-512; CUDA: as a plugin",
        #[cfg(target_arch = "x86_64")]
        Ok(CpuEngine::Fused(Arch::V3(_))) => c"CPU: fused engine, AVX2 and FMA; CUDA: as a plugin",
        #[cfg(target_arch = "aarch64")]
        Ok(CpuEngine::Fused(Arch::Neon(_))) => c"CPU: fused engine, NEON; CUDA: as a plugin",
        Ok(CpuEngine::Fused(_)) => c"CPU: fused engine, no vectors; CUDA: as a plugin",
        Ok(CpuEngine::Candle) => c"CPU: candle's operations; CUDA: as a plugin",
        Err(_) => c"CPU: LENET_ENGINE names no engine that this CPU has; CUDA: as a plugin",
    }
}

/// Devices of a kind that `open` would accept.
pub fn device_count(choice: DeviceChoice) -> u32 {
    match choice {
        DeviceChoice::Cpu => 1,
        DeviceChoice::Cuda => remote::device_count().unwrap_or(0),
        DeviceChoice::Auto => remote::device_count().unwrap_or(0).max(1),
    }
}

/// The engine for a device, and the device that `Auto` became.
pub fn open(
    choice: DeviceChoice,
    index: i32,
    num_threads: u32,
    architecture: Architecture,
    normalization: Normalization,
) -> Result<(Box<dyn Engine>, DeviceChoice)> {
    let cuda = || {
        let engine = remote::open(index, architecture, normalization)?;
        Ok((engine, DeviceChoice::Cuda))
    };
    let cpu = || Ok((CpuEngine::chosen()?.open(num_threads, normalization), DeviceChoice::Cpu));
    match choice {
        DeviceChoice::Cuda => cuda(),
        DeviceChoice::Auto => cuda().or_else(|_: Error| cpu()),
        DeviceChoice::Cpu if index != 0 => Err(Error::new(
            Code::DeviceUnavailable,
            format!("device_index is {index}; there is one CPU device, index 0"),
        )),
        DeviceChoice::Cpu => cpu(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Activation, Outputs, Pooling};
    use crate::augment::Augmentation;
    use crate::batch::{Images, Order, Pixels, Targets};
    use crate::parameters::{Weights, xavier};
    use crate::unique::Unique;
    use crate::view::View;

    /// What `view` promises, place by place.
    fn seen(view: &View, image: &[f32], [height, width]: [usize; 2]) -> Vec<f32> {
        let pixel = |row: i64, column: i64| {
            let inside = (0..height as i64).contains(&row) && (0..width as i64).contains(&column);
            if inside { image[row as usize * width + column as usize] } else { 0.0 }
        };
        let whole = |y: i64, x: i64| {
            let (row, column) = (y - i64::from(view.down), x - i64::from(view.right));
            pixel(row, if view.mirrored == 1 { width as i64 - 1 - column } else { column })
        };
        let between = |y: i64, x: i64| {
            let (h, w) = (height as f32, width as f32);
            let u = (x as f32 - view.right as f32) - (w - 1.0) / 2.0;
            let v = (y as f32 - view.down as f32) - (h - 1.0) / 2.0;
            let [m0, m1, m2, m3] = view.matrix;
            let s = ((m0 * u + m1 * v) + ((w - 1.0) / 2.0 + 1.0)).clamp(0.0, w + 1.0);
            let t = ((m2 * u + m3 * v) + ((h - 1.0) / 2.0 + 1.0)).clamp(0.0, h + 1.0);
            let (i, j) = (s.floor(), t.floor());
            let p = |row: f32, column: f32| pixel(row as i64 - 1, column as i64 - 1);
            let a = p(j, i) + (p(j, i + 1.0) - p(j, i)) * (s - i);
            let b = p(j + 1.0, i) + (p(j + 1.0, i + 1.0) - p(j + 1.0, i)) * (s - i);
            a + (b - a) * (t - j)
        };
        let places = (0..height as i64).flat_map(|y| (0..width as i64).map(move |x| (y, x)));
        let place = |(y, x)| if view.resampled == 1 { between(y, x) } else { whole(y, x) };
        places.map(place).collect()
    }

    /// Drawn ones, and some that no draw gives.
    fn made_views(n: usize, options: &[Augmentation]) -> Vec<View> {
        let mut views: Vec<View> =
            (0..n).map(|i| options[i % options.len()].draw(5, 3, i as u32)).collect();
        let far = [i32::MIN, -1000, -28, -16, 16, 28, 1000, i32::MAX];
        for (i, view) in views.iter_mut().enumerate().skip(30) {
            (view.down, view.right) = match i % 5 {
                0 => (far[i % far.len()], 0),
                1 => (1, far[i % far.len()]),
                2 => (0, 0),
                _ => (view.down, view.right),
            };
        }
        views
    }

    /// Logits, loss, hits and gradient, as bits.
    fn computed(
        engine: &dyn Engine,
        weights: &Weights,
        images: &Images,
        labels: &[u8],
    ) -> [Vec<u32>; 3] {
        let architecture = weights.architecture();
        let n = labels.len();
        let mut logits = vec![0.0; n * architecture.classes()];
        // In two parts, of which the second does not begin with image 0.
        let (first, second) = logits.split_at_mut(n / 3 * architecture.classes());
        let of = Outputs::Logits;
        engine.outputs(weights, images, 0..n / 3, of, first).unwrap();
        engine.outputs(weights, images, n / 3..n, of, second).unwrap();
        let zeros = vec![0.0; architecture.parameter_count()];
        let gradient = engine.upload(&[&zeros]).unwrap();
        let targets = Targets { labels, weights: None };
        let seen = engine.gradient(weights, images, &targets, &gradient).unwrap();
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        let seen = bits(&[seen.loss as f32, seen.correct as f32]);
        [bits(&logits), seen, bits(&gradient.row(0).unwrap())]
    }

    /// Holds an engine on images seen through views to itself on what should be seen of them.
    fn assert_sees(
        name: &str,
        engine: &dyn Engine,
        architecture: Architecture,
        n: usize,
        options: &[Augmentation],
    ) {
        let (size, hw) = (architecture.pixels(), [architecture.height(), architecture.width()]);
        let parameters = xavier(architecture, 7);
        let weights = Weights::new(architecture, engine.upload(&[&parameters]).unwrap());
        let bytes: Vec<u8> = (0..n * size).map(|i| (i * i % 255 + i / 7 % 2) as u8).collect();
        let floats: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 255.0).collect();
        let labels: Vec<u8> = (0..n).map(|i| (i % architecture.classes()) as u8).collect();
        let views = made_views(n, options);
        let indices: Vec<u32> = (0..n as u32).rev().collect();
        let order = Order { indices: &indices, dataset: Unique::next(), labels: &labels };
        let lying = floats.chunks(size).zip(&views).flat_map(|(image, view)| seen(view, image, hw));
        let lying: Vec<f32> = lying.collect();
        let picked = floats.chunks(size).rev().zip(&views);
        let picked: Vec<f32> = picked.flat_map(|(image, view)| seen(view, image, hw)).collect();
        let views = Some(&*views);
        for (pixels, order, expected) in [
            (Pixels::Byte(&bytes), None, &lying),
            (Pixels::Float(&floats), None, &lying),
            (Pixels::Byte(&bytes), Some(order), &picked),
        ] {
            let images = Images { pixels, size, order, views };
            let expected =
                Images { pixels: Pixels::Float(expected), size, order: None, views: None };
            let [ours, expected] =
                [images, expected].map(|images| computed(engine, &weights, &images, &labels));
            for (what, (ours, expected)) in
                ["logits", "loss", "gradient"].iter().zip(ours.iter().zip(&expected))
            {
                let kind = (matches!(pixels, Pixels::Byte(_)), order.is_some());
                assert!(ours == expected, "{name} {architecture:?} {n} {kind:?}: {what}");
            }
        }
    }

    const SHIFT_AND_FLIP: Augmentation =
        Augmentation { shift: 3, flip: 0.5, rotation: 0.0, scale: 0.0 };
    const ALL: Augmentation = Augmentation { shift: 2, flip: 0.5, rotation: 30.0, scale: 0.3 };

    /// Every engine that this CPU has, with one thread and two.
    fn each_engine(normalization: Normalization, mut each: impl FnMut(&str, &dyn Engine)) {
        for level in fused::every_level() {
            for threads in [1, 2] {
                let engine = FusedEngine::new(level, threads, normalization);
                each(&format!("{level:?} {threads}"), &engine);
            }
        }
        each("candle", &CandleEngine::new(Device::Cpu, normalization));
    }

    #[test]
    fn every_engine_sees_images_through_views() {
        let activations = [Activation::Sigmoid, Activation::Tanh, Activation::Relu];
        let poolings = [Pooling::Average, Pooling::Max];
        let rules = activations.iter().flat_map(|a| poolings.iter().map(move |p| (*a, *p)));
        for (i, (activation, pooling)) in rules.enumerate() {
            let normalization = [(0.3, 0.4), (0.0, 1.0)][i % 2];
            let normalization = Normalization { mean: normalization.0, std: normalization.1 };
            for (height, width) in [(16, 16), (20, 16), (16, 64), (28, 28)] {
                for padding in [0, 2] {
                    let architecture = Architecture::new(height, width, 5, activation, pooling)
                        .and_then(|a| a.with_padding(padding))
                        .unwrap();
                    each_engine(normalization, |name, engine| {
                        for (n, options) in
                            [(3, &[SHIFT_AND_FLIP][..]), (3, &[ALL]), (40, &[SHIFT_AND_FLIP, ALL])]
                        {
                            assert_sees(name, engine, architecture, n, options);
                        }
                    });
                }
            }
        }
    }

    #[test]
    fn more_than_two_slabs_and_large_images_are_seen_through_views() {
        for (height, width, n) in [(28, 28, 300), (64, 36, 40), (16, 256, 20)] {
            let architecture =
                Architecture::new(height, width, 10, Activation::Relu, Pooling::Max).unwrap();
            each_engine(Normalization { mean: 0.3, std: 0.4 }, |name, engine| {
                for options in [SHIFT_AND_FLIP, ALL] {
                    assert_sees(name, engine, architecture, n, &[options]);
                }
            });
        }
    }
}
