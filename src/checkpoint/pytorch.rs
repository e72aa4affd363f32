//! The state_dict of such a network that somebody else's program saved.
//!
//! It is ten tensors, the weight and the bias of five layers, under whatever names the program's
//! modules had, behind whatever the wrappers put before them (`module.`, `_orig_mod.`, `model.`, ...).
//! Names tell the layers where they are ours. Otherwise shapes do, for LeNet's five weights differ in
//! shape, and the order of the names tells nothing: `classifier` comes before `features`.
//!
//! Nothing is guessed that a file does not tell. Activation, pooling, padding and the images' size are
//! the caller's, and what the shapes say must agree with them.

use super::tensors::{
    check_names, do_not_belong, found, incompatible, read_floats, shortened, view,
};
use crate::architecture::{
    Architecture, CONV1_CHANNELS, CONV2_CHANNELS, DEFAULT_PADDING, FC1_FEATURES, FC2_FEATURES,
    KERNEL,
};
use crate::error::{Error, Result};
use crate::model::{Beginning, Model, Options};
use safetensors::tensor::SafeTensors;
use std::collections::{BTreeMap, BTreeSet};

const LAYERS: [&str; 5] = ["conv1", "conv2", "fc1", "fc2", "fc3"];
const TENSORS: [&str; 2] = ["weight", "bias"];

pub fn load(
    tensors: &SafeTensors,
    names: &BTreeSet<String>,
    options: &Options,
    given: bool,
) -> Result<Model> {
    let layers = match named_layers(names)? {
        Some(layers) => layers,
        None => layers_by_shape(tensors, names)?,
    };
    if !given {
        return Err(Error::invalid(
            "options is NULL; PyTorch's file does not tell activation, pooling, padding and image size, so they must be given",
        ));
    }
    let architecture = options.architecture;
    check_sizes(tensors, &layers, architecture)?;
    let mut parameters = Vec::with_capacity(architecture.parameter_count());
    for (i, spec) in architecture.parameters().iter().enumerate() {
        let layer = &layers[i / 2];
        let name = format!("{layer}.{}", TENSORS[i % 2]);
        let [height, width] = architecture.pooled2_size();
        let as_convolution = [FC1_FEATURES, CONV2_CHANNELS, height, width];
        let shape = if view(tensors, &name)?.shape() == as_convolution {
            &as_convolution
        } else {
            spec.shape()
        };
        parameters.extend(read_floats(tensors, &name, shape)?);
    }
    Model::begin(options.clone(), Beginning { parameters, ..Beginning::default() })
}

/// The layers' names if they are ours but for a prefix. A file that has half of our tensors is meant
/// to have all.
fn named_layers(names: &BTreeSet<String>) -> Result<Option<[String; 5]>> {
    let prefix = common_prefix(names);
    let layers = LAYERS.map(|layer| format!("{prefix}{layer}"));
    let expected: BTreeSet<String> =
        layers.iter().flat_map(|layer| TENSORS.map(|tensor| format!("{layer}.{tensor}"))).collect();
    if 2 * expected.intersection(names).count() < expected.len() {
        return Ok(None);
    }
    check_names(names, &expected)?;
    Ok(Some(layers))
}

/// The modules that all tensors are in, "" or with a dot at the end.
fn common_prefix(names: &BTreeSet<String>) -> &str {
    let (Some(first), Some(last)) = (names.first(), names.last()) else { return "" };
    // What the first and the last of sorted names share, all do.
    let same = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
    let end =
        first.as_bytes()[..same].iter().rposition(|&byte| byte == b'.').map_or(0, |at| at + 1);
    &first[..end]
}

/// The names of the five layers, whose weights' shapes tell which is which.
fn layers_by_shape(tensors: &SafeTensors, names: &BTreeSet<String>) -> Result<[String; 5]> {
    let mut modules: BTreeMap<&str, usize> = BTreeMap::new();
    let mut surplus = Vec::new();
    for name in names {
        match name.rsplit_once('.') {
            Some((module, tensor)) if TENSORS.contains(&tensor) => {
                *modules.entry(module).or_default() += 1;
            }
            _ => surplus.push(name),
        }
    }
    if !surplus.is_empty() {
        let mut error = do_not_belong(&surplus);
        error.message += &format!("; {}", found(names));
        return Err(error);
    }
    if modules.is_empty() {
        return Err(incompatible(found(names)));
    }
    let mut weights = Vec::new();
    for (module, count) in &modules {
        if *count < TENSORS.len() {
            let missing = TENSORS.map(|tensor| format!("{module}.{tensor}"));
            let missing = missing.into_iter().find(|name| !names.contains(name));
            let missing = shortened(&missing.unwrap_or_default());
            return Err(incompatible(format!("tensor {missing} is missing; {}", found(names))));
        }
        let shape = view(tensors, &format!("{module}.weight"))?.shape().to_vec();
        weights.push((*module, shape));
    }
    let of_layer = |i: usize| {
        let mut modules = weights.iter().filter(|(_, shape)| layer_of(shape) == Some(i));
        match (modules.next(), modules.next()) {
            (Some((module, _)), None) => Some(*module),
            _ => None,
        }
    };
    let [Some(conv1), Some(conv2), Some(fc1), Some(fc2), Some(fc3)] = [0, 1, 2, 3, 4].map(of_layer)
    else {
        return Err(other_layers(&weights));
    };
    let layers = [conv1, conv2, fc1, fc2, fc3];
    if weights.len() != layers.len() {
        return Err(other_layers(&weights));
    }
    check_order(&layers)?;
    Ok(layers.map(str::to_string))
}

/// Which of the five layers has a weight of this shape. LeNet-5's C5, a convolution whose outputs are
/// single values, is `fc1` with its inputs in the same order.
fn layer_of(weight: &[usize]) -> Option<usize> {
    match *weight {
        [CONV1_CHANNELS, 1, KERNEL, KERNEL] => Some(0),
        [CONV2_CHANNELS, CONV1_CHANNELS, KERNEL, KERNEL] => Some(1),
        [FC1_FEATURES, inputs] if inputs > 0 && inputs % CONV2_CHANNELS == 0 => Some(2),
        [FC1_FEATURES, CONV2_CHANNELS, _, _] => Some(2),
        [FC2_FEATURES, FC1_FEATURES] => Some(3),
        [_, FC2_FEATURES] => Some(4),
        _ => None,
    }
}

fn other_layers(weights: &[(&str, Vec<usize>)]) -> Error {
    let mut message = String::from("the layers are not LeNet's: ");
    const MOST: usize = 8;
    let list: Vec<String> = weights
        .iter()
        .take(MOST)
        .map(|(module, shape)| format!("{}.weight {shape:?}", shortened(module)))
        .collect();
    message += &list.join(", ");
    if weights.len() > MOST {
        message += &format!(" and {} more", weights.len() - MOST);
    }
    message += &format!(
        "; LeNet's weights are [{CONV1_CHANNELS}, 1, {KERNEL}, {KERNEL}], \
         [{CONV2_CHANNELS}, {CONV1_CHANNELS}, {KERNEL}, {KERNEL}], [{FC1_FEATURES}, inputs], \
         [{FC2_FEATURES}, {FC1_FEATURES}] and [classes, {FC2_FEATURES}]"
    );
    incompatible(message)
}

/// Modules of one nn.Sequential compute in the order of their numbers, which must be that of the
/// layers.
fn check_order(layers: &[&str; 5]) -> Result<()> {
    let number = |layer: &str| {
        let (parent, number) = layer.rsplit_once('.').unwrap_or(("", layer));
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        Some((parent.to_string(), number.parse::<u64>().ok().filter(|_| is_number)?))
    };
    for pair in layers.windows(2) {
        if let (Some((parent, first)), Some((same, second))) = (number(pair[0]), number(pair[1]))
            && parent == same
            && first >= second
        {
            let [first, second] = [pair[0], pair[1]].map(shortened);
            return Err(incompatible(format!(
                "module {second} cannot follow module {first}, as their shapes have it"
            )));
        }
    }
    Ok(())
}

/// Inputs of `fc1` and outputs of `fc3` must be what the options say. Other faults of the shapes are
/// found when the tensors are read.
fn check_sizes(
    tensors: &SafeTensors,
    layers: &[String; 5],
    architecture: Architecture,
) -> Result<()> {
    let shape = |layer: &String| -> Result<Vec<usize>> {
        Ok(view(tensors, &format!("{layer}.weight"))?.shape().to_vec())
    };
    let inputs = match shape(&layers[2])?[..] {
        [FC1_FEATURES, inputs] => Some(inputs),
        [FC1_FEATURES, CONV2_CHANNELS, height, width] => {
            CONV2_CHANNELS.checked_mul(height).and_then(|n| n.checked_mul(width))
        }
        _ => None,
    };
    if let Some(inputs) = inputs.filter(|&inputs| inputs != architecture.features()) {
        let (height, width) = (architecture.height(), architecture.width());
        let (padding, features) = (architecture.padding(), architecture.features());
        return Err(incompatible(format!(
            "{}.weight has {inputs} inputs; {height} x {width} with padding {padding} gives {features}; {}",
            shortened(&layers[2]),
            likely_cause(inputs, architecture)
        )));
    }
    match shape(&layers[4])?[..] {
        [outputs, FC2_FEATURES] if outputs != architecture.classes() => {
            let (fc3, classes) = (shortened(&layers[4]), architecture.classes());
            Err(incompatible(if (2..=256).contains(&outputs) {
                format!(
                    "{fc3}.weight has {outputs} outputs; classes is {classes}: set it to {outputs}"
                )
            } else {
                format!("{fc3}.weight has {outputs} outputs; lenet has 2 to 256 classes")
            }))
        }
        _ => Ok(()),
    }
}

/// What gives so many inputs of `fc1`, if not this.
fn likely_cause(inputs: usize, architecture: Architecture) -> String {
    let with = |height: usize, width: usize, padding: u32| {
        let (activation, pooling) = (architecture.activation(), architecture.pooling());
        Architecture::new(height as u32, width as u32, 2, activation, pooling)
            .and_then(|other| other.with_padding(padding))
            .is_ok_and(|other| other.features() == inputs)
    };
    let paddings = [DEFAULT_PADDING, 0];
    let (height, width) = (architecture.height(), architecture.width());
    if let Some(padding) = paddings.into_iter().find(|&padding| with(height, width, padding)) {
        return format!("padding {padding} gives {inputs}: set padding to {padding}");
    }
    let sides = || (16..=256).step_by(4);
    let squares: Vec<String> = paddings
        .into_iter()
        .filter_map(|padding| {
            let side = sides().find(|&side| with(side, side, padding))?;
            Some(format!("{side} x {side} with padding {padding}"))
        })
        .collect();
    let set = "set height, width and padding to those of its training";
    if !squares.is_empty() {
        return format!("{} gives {inputs}: {set}", squares.join(" or "));
    }
    let fits = |height| sides().any(|width| paddings.iter().any(|&p| with(height, width, p)));
    if sides().any(fits) { set.to_string() } else { format!("no image size gives {inputs}") }
}
