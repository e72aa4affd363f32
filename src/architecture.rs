//! What is built: image size, classes, activation and pooling, and everything that follows from
//! them. The layer table, the parameters' names, shapes and places are derived here and nowhere
//! stored.
//!
//! The network is LeNet as d2l's chapter "Convolutional Neural Networks (LeNet)" gives it.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// By the names that they have in model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    Sigmoid,
    Tanh,
    Relu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    #[serde(rename = "avg")]
    Average,
    Max,
}

/// Channels and kernel of the two convolutions, widths of the two hidden linear layers: d2l's.
pub const CONV1_CHANNELS: usize = 6;
pub const CONV2_CHANNELS: usize = 16;
pub const KERNEL: usize = 5;
pub const POOL: usize = 2;
pub const FC1_FEATURES: usize = 120;
pub const FC2_FEATURES: usize = 84;

/// Padding of the first convolution unless another one is asked for: d2l's. LeNet-5 has none.
pub const DEFAULT_PADDING: u32 = 2;

/// What the network gives of an image to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// What `fc3` sees: the activations after `fc2`.
    Features,
    /// What `fc3` gives.
    Logits,
}

impl Outputs {
    pub fn name(self) -> &'static str {
        match self {
            Outputs::Features => "features",
            Outputs::Logits => "logits",
        }
    }
}

/// A LeNet that can be built: every value of this type has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    height: usize,
    width: usize,
    classes: usize,
    activation: Activation,
    pooling: Pooling,
    padding: usize,
}

/// One weight or bias: where it lies in the flat parameter vector and what shape it has there.
#[derive(Clone, Copy, Debug)]
pub struct ParameterSpec {
    pub name: &'static str,
    pub offset: usize,
    /// Axes in PyTorch's order, the unused ones 1.
    axes: [usize; 4],
    rank: usize,
    /// Inputs that feed one output, and outputs that one input feeds.
    pub fan_in: usize,
    pub fan_out: usize,
}

impl ParameterSpec {
    pub fn shape(&self) -> &[usize] {
        &self.axes[..self.rank]
    }

    pub fn len(&self) -> usize {
        self.axes.iter().product()
    }

    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }

    pub fn is_weight(&self) -> bool {
        self.rank > 1
    }
}

/// One row of the layer table: the output that `name` makes of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    pub name: &'static std::ffi::CStr,
    pub kind: &'static std::ffi::CStr,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub parameters: usize,
}

impl Architecture {
    /// With `DEFAULT_PADDING`. Refuses sizes at which a layer's output would be empty or a pooling
    /// window cut off: height and width are pooled twice, with a 5x5 convolution that shrinks them
    /// by 4 in between, so they must be multiples of 4. Without padding the first convolution
    /// shrinks them by 4 as well, which leaves the same sizes.
    pub fn new(
        height: u32,
        width: u32,
        classes: u32,
        activation: Activation,
        pooling: Pooling,
    ) -> Result<Self> {
        for (name, size) in [("height", height), ("width", width)] {
            if !(16..=256).contains(&size) || size % 4 != 0 {
                return Err(Error::invalid(format!(
                    "{name} is {size}; it must be a multiple of 4 from 16 to 256"
                )));
            }
        }
        let padding = DEFAULT_PADDING as usize;
        let (height, width) = (height as usize, width as usize);
        Architecture { height, width, classes: 0, activation, pooling, padding }
            .with_classes(classes)
    }

    /// The same with another number of classes.
    pub fn with_classes(self, classes: u32) -> Result<Self> {
        if !(2..=256).contains(&classes) {
            return Err(Error::invalid(format!("classes is {classes}; it must be from 2 to 256")));
        }
        Ok(Architecture { classes: classes as usize, ..self })
    }

    /// The same with other padding of the first convolution.
    pub fn with_padding(self, padding: u32) -> Result<Self> {
        match padding {
            0 | DEFAULT_PADDING => Ok(Architecture { padding: padding as usize, ..self }),
            _ => Err(Error::invalid(format!("padding is {padding}; it must be 0 or 2"))),
        }
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    pub fn activation(&self) -> Activation {
        self.activation
    }

    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Rows and columns of zeros on each side of an image before the first convolution.
    pub fn padding(&self) -> usize {
        self.padding
    }

    /// Pixels of one image.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Height and width of the first convolution's output.
    pub fn conv1_size(&self) -> [usize; 2] {
        [self.height, self.width].map(|size| size + 2 * self.padding - (KERNEL - 1))
    }

    /// Height and width of what is flattened for `fc1`: each half of what the second convolution
    /// leaves of half of the first one's.
    pub fn pooled2_size(&self) -> [usize; 2] {
        self.conv1_size().map(|size| (size / POOL - (KERNEL - 1)) / POOL)
    }

    /// Numbers that an image gets.
    pub fn outputs(&self, outputs: Outputs) -> usize {
        match outputs {
            Outputs::Features => FC2_FEATURES,
            Outputs::Logits => self.classes,
        }
    }

    /// Inputs of `fc1`: (16, height, width) after the second pooling, flattened.
    pub fn features(&self) -> usize {
        CONV2_CHANNELS * self.pooled2_size().iter().product::<usize>()
    }

    /// The ten tensors in the order in which they lie in the flat vector, in files and in C.
    pub fn parameters(&self) -> [ParameterSpec; 10] {
        let kernel = KERNEL * KERNEL;
        let conv = |name, outputs, inputs| ParameterSpec {
            name,
            offset: 0,
            axes: [outputs, inputs, KERNEL, KERNEL],
            rank: 4,
            fan_in: inputs * kernel,
            fan_out: outputs * kernel,
        };
        let linear = |name, outputs, inputs| ParameterSpec {
            name,
            offset: 0,
            axes: [outputs, inputs, 1, 1],
            rank: 2,
            fan_in: inputs,
            fan_out: outputs,
        };
        let bias = |name, of: ParameterSpec| ParameterSpec {
            name,
            axes: [of.axes[0], 1, 1, 1],
            rank: 1,
            ..of
        };
        let conv1 = conv("conv1.weight", CONV1_CHANNELS, 1);
        let conv2 = conv("conv2.weight", CONV2_CHANNELS, CONV1_CHANNELS);
        let fc1 = linear("fc1.weight", FC1_FEATURES, self.features());
        let fc2 = linear("fc2.weight", FC2_FEATURES, FC1_FEATURES);
        let fc3 = linear("fc3.weight", self.classes, FC2_FEATURES);
        let mut parameters = [
            conv1,
            bias("conv1.bias", conv1),
            conv2,
            bias("conv2.bias", conv2),
            fc1,
            bias("fc1.bias", fc1),
            fc2,
            bias("fc2.bias", fc2),
            fc3,
            bias("fc3.bias", fc3),
        ];
        let mut offset = 0;
        for parameter in &mut parameters {
            parameter.offset = offset;
            offset += parameter.len();
        }
        parameters
    }

    /// Length of the flat parameter vector: 61,706 for 28x28 images and 10 classes.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(ParameterSpec::len).sum()
    }

    /// The table that d2l prints with `layer_summary`, in the order of computation.
    pub fn layers(&self) -> [Layer; 12] {
        let activation = match self.activation {
            Activation::Sigmoid => c"Sigmoid",
            Activation::Tanh => c"Tanh",
            Activation::Relu => c"ReLU",
        };
        let pooling = match self.pooling {
            Pooling::Average => c"AvgPool2d",
            Pooling::Max => c"MaxPool2d",
        };
        // A layer's weight and bias stand side by side in the parameter list.
        let parameters = self.parameters();
        let of = |layer: usize| parameters[2 * layer].len() + parameters[2 * layer + 1].len();
        let row = |name, kind, (channels, height, width), parameters| Layer {
            name,
            kind,
            channels,
            height,
            width,
            parameters,
        };
        let [h, w] = self.conv1_size();
        let conv1 = (CONV1_CHANNELS, h, w);
        let pooled1 = (CONV1_CHANNELS, h / POOL, w / POOL);
        let [h, w] = self.pooled2_size();
        let conv2 = (CONV2_CHANNELS, h * POOL, w * POOL);
        let pooled2 = (CONV2_CHANNELS, h, w);
        let (fc1, fc2) = ((FC1_FEATURES, 1, 1), (FC2_FEATURES, 1, 1));
        [
            row(c"conv1", c"Conv2d", conv1, of(0)),
            row(c"activation1", activation, conv1, 0),
            row(c"pooling1", pooling, pooled1, 0),
            row(c"conv2", c"Conv2d", conv2, of(1)),
            row(c"activation2", activation, conv2, 0),
            row(c"pooling2", pooling, pooled2, 0),
            row(c"flatten", c"Flatten", (self.features(), 1, 1), 0),
            row(c"fc1", c"Linear", fc1, of(2)),
            row(c"activation3", activation, fc1, 0),
            row(c"fc2", c"Linear", fc2, of(3)),
            row(c"activation4", activation, fc2, 0),
            row(c"fc3", c"Linear", (self.classes, 1, 1), of(4)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classic() -> Architecture {
        Architecture::new(28, 28, 10, Activation::Sigmoid, Pooling::Average).unwrap()
    }

    #[test]
    fn the_classic_network_is_the_seeds() {
        assert_eq!(classic().parameter_count(), 61_706);
        assert_eq!(classic().features(), 400);
        let shapes: Vec<_> =
            classic().layers().iter().map(|l| (l.channels, l.height, l.width)).collect();
        let d2l = [
            (6, 28, 28),
            (6, 28, 28),
            (6, 14, 14),
            (16, 10, 10),
            (16, 10, 10),
            (16, 5, 5),
            (400, 1, 1),
            (120, 1, 1),
            (120, 1, 1),
            (84, 1, 1),
            (84, 1, 1),
            (10, 1, 1),
        ];
        assert_eq!(shapes, d2l);
    }

    #[test]
    fn parameters_fill_the_flat_vector_without_gaps() {
        let parameters = classic().parameters();
        for pair in parameters.windows(2) {
            assert_eq!(pair[0].range().end, pair[1].offset);
        }
        assert_eq!(parameters[4].shape(), [120, 400]);
        assert_eq!(parameters[9].range().end, 61_706);
    }

    #[test]
    fn sizes_that_cut_a_window_are_refused() {
        for (height, width, classes) in
            [(12, 28, 10), (28, 30, 10), (28, 260, 10), (28, 28, 1), (28, 28, 257)]
        {
            assert!(
                Architecture::new(height, width, classes, Activation::Relu, Pooling::Max).is_err()
            );
        }
        for size in (16..=256).step_by(4) {
            let a = Architecture::new(size, 16, 2, Activation::Relu, Pooling::Max).unwrap();
            for a in [a, a.with_padding(0).unwrap()] {
                let layers = a.layers();
                assert!(layers.iter().all(|l| l.channels * l.height * l.width > 0));
                // The convolutions' outputs, which are pooled.
                assert!([0, 3].iter().all(|&l| layers[l].height % 2 + layers[l].width % 2 == 0));
            }
        }
    }

    #[test]
    fn padding_is_0_or_2() {
        assert_eq!(classic().with_padding(2).unwrap(), classic());
        for padding in [1, 3, 4, u32::MAX] {
            let refused = classic().with_padding(padding).unwrap_err();
            assert_eq!(refused.message, format!("padding is {padding}; it must be 0 or 2"));
        }
    }

    #[test]
    fn without_padding_28x28_is_the_tutorials_and_32x32_is_lenet5s() {
        let unpadded = |size| {
            let a = Architecture::new(size, size, 10, Activation::Relu, Pooling::Max).unwrap();
            a.with_padding(0).unwrap()
        };
        let sizes = |a: Architecture| a.layers().map(|l| (l.channels, l.height));
        assert_eq!(unpadded(28).features(), 256);
        assert_eq!(
            sizes(unpadded(28))[..7],
            [(6, 24), (6, 24), (6, 12), (16, 8), (16, 8), (16, 4), (256, 1)]
        );
        // LeCun et al. 1998: C1 6@28x28, S2 6@14x14, C3 16@10x10, S4 16@5x5.
        assert_eq!(unpadded(32).features(), 400);
        assert_eq!(
            sizes(unpadded(32))[..6],
            [(6, 28), (6, 28), (6, 14), (16, 10), (16, 10), (16, 5)]
        );
    }
}
