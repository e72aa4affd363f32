//! The weights: one flat f32 vector, the named tensors as views of it, and how they are first drawn.
//!
//! A `Parameters` never changes. A training step makes the next one, so a reader that holds one
//! sees the weights of a single whole step whatever training does meanwhile.

use crate::architecture::Architecture;
use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Debug)]
pub struct Parameters {
    architecture: Architecture,
    /// Length `architecture.parameter_count()`; a variable, so that autograd gives one flat gradient.
    flat: Var,
}

/// Weight and bias of a convolution or linear layer.
pub struct LayerParameters {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Parameters {
    /// `flat` has the length that the architecture asks for and belongs to no autograd graph.
    pub fn new(architecture: Architecture, flat: &Tensor) -> Result<Self> {
        debug_assert_eq!(flat.dims(), [architecture.parameter_count()]);
        Ok(Parameters { architecture, flat: Var::from_tensor(flat)? })
    }

    pub fn from_slice(architecture: Architecture, flat: &[f32], device: &Device) -> Result<Self> {
        Parameters::new(architecture, &Tensor::from_slice(flat, flat.len(), device)?)
    }

    /// Weights from U(-a, a) with a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, d2l's
    /// `nn.init.xavier_uniform_`), biases from U(-b, b) with b = 1 / sqrt(fan_in) (PyTorch's
    /// default for `Conv2d` and `Linear`). Candle's CPU generator cannot be seeded, so the draws
    /// are ours.
    pub fn xavier(architecture: Architecture, seed: u64, device: &Device) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut flat = Vec::with_capacity(architecture.parameter_count());
        for spec in architecture.parameters() {
            let bound = if spec.is_weight() {
                (6.0 / (spec.fan_in + spec.fan_out) as f64).sqrt()
            } else {
                1.0 / (spec.fan_in as f64).sqrt()
            };
            let bound = bound as f32;
            flat.extend((0..spec.len()).map(|_| rng.random_range(-bound..bound)));
        }
        Parameters::from_slice(architecture, &flat, device)
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    pub fn flat(&self) -> &Tensor {
        self.flat.as_tensor()
    }

    pub fn to_vec(&self) -> Result<Vec<f32>> {
        self.flat.to_vec1()
    }

    /// conv1, conv2, fc1, fc2, fc3, as views.
    pub fn layers(&self) -> Result<[LayerParameters; 5]> {
        let specs = self.architecture.parameters();
        let view = |i: usize| {
            let spec = specs[i];
            self.flat.narrow(0, spec.offset, spec.len())?.reshape(spec.shape())
        };
        let layer = |i: usize| -> Result<LayerParameters> {
            Ok(LayerParameters { weight: view(2 * i)?, bias: view(2 * i + 1)? })
        };
        Ok([layer(0)?, layer(1)?, layer(2)?, layer(3)?, layer(4)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Activation, Pooling};

    #[test]
    fn xavier_draws_fill_their_bounds_and_repeat() {
        let a = Architecture::new(28, 28, 10, Activation::Sigmoid, Pooling::Average).unwrap();
        let draw = |seed| Parameters::xavier(a, seed, &Device::Cpu).unwrap().to_vec().unwrap();
        let flat = draw(7);
        assert_eq!(flat, draw(7));
        assert_ne!(flat, draw(8));
        let fc1 = &flat[a.parameters()[4].range()];
        let bound = (6.0f32 / 520.0).sqrt();
        let largest = fc1.iter().fold(0f32, |m, w| m.max(w.abs()));
        assert!(largest <= bound && largest > 0.999 * bound, "{largest} of {bound}");
        let mean = fc1.iter().sum::<f32>() / fc1.len() as f32;
        assert!(mean.abs() < 0.01 * bound.sqrt(), "{mean}");
    }
}
