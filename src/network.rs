//! LeNet in candle's operations: the definition of what this library computes.
//!
//! It runs on every candle device with candle's autograd, and it is the oracle that the tests hold
//! faster engines to. Nothing here knows about batches of bytes, threads or optimizers.
//!
//! Two operations are spelled out because candle 0.11's own do not give PyTorch's gradients:
//! its ReLU has slope 1 at 0, and its max pooling scales the gradient by the share of maxima in the
//! window, 1/4 for a single one.

use crate::architecture::{Activation, Outputs, POOL, Pooling};
use crate::parameters::{LayerParameters, Parameters};
use candle_core::{D, Result, Tensor};
use candle_nn::ops::{log_softmax, sigmoid};

/// The logits (N, classes) of normalised images (N, 1, height, width).
pub fn logits(parameters: &Parameters, images: &Tensor) -> Result<Tensor> {
    outputs(parameters, images, Outputs::Logits)
}

/// The features (N, 84) or the logits of images.
pub fn outputs(parameters: &Parameters, images: &Tensor, outputs: Outputs) -> Result<Tensor> {
    let architecture = parameters.architecture();
    let activation = |x: &Tensor| match architecture.activation() {
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Relu => relu(x),
    };
    let pool = |x: &Tensor| match architecture.pooling() {
        Pooling::Average => x.avg_pool2d(POOL),
        Pooling::Max => max_pool(x),
    };
    // Shapes for 28x28 images with padding.
    let [conv1, conv2, fc1, fc2, fc3] = parameters.layers()?;
    let x = activation(&convolution(images, &conv1, architecture.padding())?)?; // (N, 6, 28, 28)
    let x = pool(&x)?; // (N, 6, 14, 14)
    let x = activation(&convolution(&x, &conv2, 0)?)?; // (N, 16, 10, 10)
    let x = pool(&x)?; // (N, 16, 5, 5)
    let x = x.flatten_from(1)?; // (N, 400)
    let x = activation(&linear(&x, &fc1)?)?; // (N, 120)
    let x = activation(&linear(&x, &fc2)?)?; // (N, 84)
    match outputs {
        Outputs::Features => Ok(x),
        Outputs::Logits => linear(&x, &fc3), // (N, classes)
    }
}

/// Softmax cross-entropy of logits (N, classes) and labels (N) of u32, each image's times its share (N) if there are
/// shares, mean over the batch.
pub fn loss(logits: &Tensor, labels: &Tensor, shares: Option<&Tensor>) -> Result<Tensor> {
    let Some(shares) = shares else {
        return candle_nn::loss::cross_entropy(logits, labels);
    };
    let of_labels = log_softmax(logits, 1)?.gather(&labels.unsqueeze(1)?, 1)?; // (N, 1)
    let sum = of_labels.mul(&shares.unsqueeze(1)?)?.sum_all()?;
    sum.affine(-1.0 / labels.dim(0)? as f64, 0.0)
}

fn convolution(x: &Tensor, layer: &LayerParameters, padding: usize) -> Result<Tensor> {
    let (stride, dilation, groups) = (1, 1, 1);
    let x = x.conv2d(&layer.weight, padding, stride, dilation, groups)?;
    x.broadcast_add(&layer.bias.reshape((1, (), 1, 1))?)
}

fn linear(x: &Tensor, layer: &LayerParameters) -> Result<Tensor> {
    x.matmul(&layer.weight.t()?)?.broadcast_add(&layer.bias)
}

/// max(x, 0), with slope 0 at 0; NaN stays NaN, so that an overflow is seen in the logits.
fn relu(x: &Tensor) -> Result<Tensor> {
    x.le(0f32)?.where_cond(&x.zeros_like()?, x)
}

/// 2x2 max pooling, stride 2. A tie belongs to the first of the equals in row-major order.
fn max_pool(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let windows = x.reshape((n, c, h / POOL, POOL, w / POOL, POOL))?;
    let corner = |row: usize, column: usize| {
        windows
            .narrow(3, row, 1)?
            .narrow(5, column, 1)?
            .squeeze(D::Minus1)?
            .squeeze(3)?
            .contiguous()
    };
    // NaN where there is no order, so that a step that diverged is seen.
    let first_max = |a: Tensor, b: Tensor| {
        let b_or_nan = a.lt(&b)?.where_cond(&b, &(&a + &b)?)?;
        a.ge(&b)?.where_cond(&a, &b_or_nan)
    };
    let top = first_max(corner(0, 0)?, corner(0, 1)?)?;
    let bottom = first_max(corner(1, 0)?, corner(1, 1)?)?;
    first_max(top, bottom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// The gradient of the sum of `f`, elementwise.
    fn slope(
        x: &[f32],
        shape: (usize, usize, usize, usize),
        f: fn(&Tensor) -> Result<Tensor>,
    ) -> Vec<f32> {
        let x = Var::from_slice(x, shape, &Device::Cpu).unwrap();
        let gradients = f(&x).unwrap().sum_all().unwrap().backward().unwrap();
        gradients.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn relu_has_pytorchs_slope_at_zero() {
        assert_eq!(slope(&[-1.0, 0.0, -0.0, 2.0], (1, 1, 2, 2), relu), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn the_first_maximum_in_row_major_order_gets_the_gradient() {
        // Two windows side by side, then two below.
        let x = [
            3.0, 3.0, 1.0, 2.0, //
            3.0, 0.0, 2.0, 2.0, //
            -1.0, -1.0, 0.0, 0.0, //
            5.0, -1.0, 0.0, 7.0,
        ];
        let expected = [
            1.0, 0.0, 0.0, 1.0, //
            0.0, 0.0, 0.0, 0.0, //
            0.0, 0.0, 0.0, 0.0, //
            1.0, 0.0, 0.0, 1.0,
        ];
        assert_eq!(slope(&x, (1, 1, 4, 4), max_pool), expected);
        let out = max_pool(&Tensor::from_slice(&x, (1, 1, 4, 4), &Device::Cpu).unwrap()).unwrap();
        assert_eq!(out.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [3.0, 2.0, 5.0, 7.0]);
    }
}
