//! LeNet in candle's operations, in f64, whose rounding is no excuse. With a padding that is a choice.

use candle_core::{D, Device, Result, Tensor, Var};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    pub height: usize,
    pub width: usize,
    pub padding: usize,
    pub classes: usize,
    pub activation: &'static str,
    pub pooling: &'static str,
}

pub const TENSORS: [&str; 10] = [
    "conv1.weight",
    "conv1.bias",
    "conv2.weight",
    "conv2.bias",
    "fc1.weight",
    "fc1.bias",
    "fc2.weight",
    "fc2.bias",
    "fc3.weight",
    "fc3.bias",
];

impl Network {
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    pub fn features(&self) -> usize {
        let side = |image: usize| ((image + 2 * self.padding - 4) / 2 - 4) / 2;
        16 * side(self.height) * side(self.width)
    }

    /// In the order of TENSORS.
    pub fn shapes(&self) -> [Vec<usize>; 10] {
        [
            vec![6, 1, 5, 5],
            vec![6],
            vec![16, 6, 5, 5],
            vec![16],
            vec![120, self.features()],
            vec![120],
            vec![84, 120],
            vec![84],
            vec![self.classes, 84],
            vec![self.classes],
        ]
    }

    pub fn parameters(&self) -> usize {
        self.shapes().iter().map(|shape| shape.iter().product::<usize>()).sum()
    }
}

pub struct Expected {
    pub logits: Vec<f64>,
    pub loss: f64,
    /// By tensor.
    pub gradient: Vec<Vec<f64>>,
}

/// Of pixels as the network sees them.
pub fn expected(network: Network, flat: &[f32], pixels: &[f64], labels: &[u8]) -> Result<Expected> {
    let mut rest = flat;
    let mut parameters = Vec::new();
    for shape in network.shapes() {
        let (values, others) = rest.split_at(shape.iter().product());
        rest = others;
        let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
        parameters.push(Var::from_vec(values, shape, &Device::Cpu)?);
    }
    let shape = (labels.len(), 1, network.height, network.width);
    let images = Tensor::from_slice(pixels, shape, &Device::Cpu)?;
    let classes: Vec<u32> = labels.iter().map(|&label| label.into()).collect();
    let classes = Tensor::from_vec(classes, labels.len(), &Device::Cpu)?;

    let logits = logits(network, &parameters, &images)?;
    let loss = candle_nn::loss::cross_entropy(&logits, &classes)?;
    let gradients = loss.backward()?;
    let gradient = |of: &Var| gradients.get(of).unwrap().flatten_all()?.to_vec1();
    Ok(Expected {
        logits: logits.flatten_all()?.to_vec1()?,
        loss: loss.to_scalar()?,
        gradient: parameters.iter().map(gradient).collect::<Result<_>>()?,
    })
}

fn logits(network: Network, parameters: &[Var], images: &Tensor) -> Result<Tensor> {
    let activation = |x: Tensor| match network.activation {
        "sigmoid" => candle_nn::ops::sigmoid(&x),
        "tanh" => x.tanh(),
        _ => x.le(0f64)?.where_cond(&x.zeros_like()?, &x),
    };
    let pool = |x: Tensor| if network.pooling == "max" { max_pool(&x) } else { x.avg_pool2d(2) };
    let convolution = |x: &Tensor, layer: usize, padding: usize| {
        x.conv2d(&parameters[2 * layer], padding, 1, 1, 1)?
            .broadcast_add(&parameters[2 * layer + 1].reshape((1, (), 1, 1))?)
    };
    let linear = |x: &Tensor, layer: usize| {
        x.matmul(&parameters[2 * layer].t()?)?.broadcast_add(&parameters[2 * layer + 1])
    };
    let x = pool(activation(convolution(images, 0, network.padding)?)?)?;
    let x = pool(activation(convolution(&x, 1, 0)?)?)?.flatten_from(1)?;
    let x = activation(linear(&x, 2)?)?;
    let x = activation(linear(&x, 3)?)?;
    linear(&x, 4)
}

/// A tie belongs to the first of the equals in row-major order.
fn max_pool(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let windows = x.reshape((n, c, h / 2, 2, w / 2, 2))?.transpose(3, 4)?.contiguous()?;
    let windows = windows.reshape((n, c, h / 2, w / 2, 4))?;
    let corner = |i: usize| windows.narrow(D::Minus1, i, 1)?.squeeze(D::Minus1)?.contiguous();
    let first_max = |a: Tensor, b: Tensor| a.ge(&b)?.where_cond(&a, &b);
    first_max(first_max(corner(0)?, corner(1)?)?, first_max(corner(2)?, corner(3)?)?)
}
