//! The weights: flat f32 vectors, the named tensors as views of them, and how they are first drawn.

use crate::architecture::Architecture;
use crate::error;
use crate::unique::Unique;
use crate::values::Values;
use candle_core::{Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What training changes: the parameters and, after them in the same tensor, the optimizer's
/// running averages, each as long as the parameters.
#[derive(Debug)]
pub struct Weights {
    architecture: Architecture,
    /// (1 + averages, parameter count). No clone of it leaves this struct, so whoever holds the
    /// struct alone may write it in place.
    values: Values,
    version: Unique,
}

impl Weights {
    pub fn new(architecture: Architecture, values: Values) -> Self {
        Weights { architecture, values, version: Unique::next() }
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The same, to be written in place.
    pub fn values_mut(&mut self) -> &Values {
        self.version = Unique::next();
        &self.values
    }

    /// Of the values: what was derived from them holds for as long as this is the same.
    pub fn version(&self) -> Unique {
        self.version
    }

    /// The parameters (0) or one of the averages.
    pub fn row(&self, i: usize) -> error::Result<Vec<f32>> {
        self.values.row(i)
    }

    /// A copy of the parameters for candle's own operations.
    pub fn parameters(&self) -> error::Result<Parameters> {
        Ok(Parameters::new(self.architecture, &self.values.tensor()?.get(0)?.copy()?)?)
    }
}

/// The first parameters of a model.
///
/// Weights from U(-a, a) with a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, d2l's
/// `nn.init.xavier_uniform_`), biases from U(-b, b) with b = 1 / sqrt(fan_in) (PyTorch's default for
/// `Conv2d` and `Linear`). Candle's CPU generator cannot be seeded, so the draws are ours.
pub fn xavier(architecture: Architecture, seed: u64) -> Vec<f32> {
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
    flat
}

/// Parameters and their averages for a network that differs in its classes alone: what the last layer has in both
/// stays, and the rest is as it would be at first.
pub fn with_classes(
    rows: &[Vec<f32>],
    there: Architecture,
    here: Architecture,
    seed: u64,
) -> Vec<Vec<f32>> {
    let zeros = vec![0.0; here.parameter_count()];
    let mut resized = vec![zeros; rows.len()];
    resized[0] = xavier(here, seed);
    for (old, new) in rows.iter().zip(&mut resized) {
        for (there, here) in there.parameters().iter().zip(here.parameters()) {
            let both = there.len().min(here.len()); // classes are the first axis
            new[here.offset..][..both].copy_from_slice(&old[there.offset..][..both]);
        }
    }
    resized
}

/// The parameters as candle's autograd takes them: one variable, so that it gives one gradient.
#[derive(Debug)]
pub struct Parameters {
    architecture: Architecture,
    /// Length `architecture.parameter_count()`.
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

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    pub fn flat(&self) -> &Tensor {
        self.flat.as_tensor()
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
        let draw = |seed| xavier(a, seed);
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
