//! Named tensors as floats, and what a refusal says of them.

use crate::batch::check_finite;
use crate::error::{Code, Error, Result};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeSet;

/// Names that a message has at most, and characters of each.
const MOST_NAMES: usize = 12;
const MOST_CHARACTERS: usize = 64;

/// Refuses a file that has other tensors than these.
pub fn check_names(names: &BTreeSet<String>, expected: &BTreeSet<String>) -> Result<()> {
    if let Some(missing) = expected.difference(names).next() {
        return Err(incompatible(format!("tensor {missing} is missing; {}", found(names))));
    }
    let surplus: Vec<&String> = names.difference(expected).collect();
    if surplus.is_empty() { Ok(()) } else { Err(do_not_belong(&surplus)) }
}

pub fn do_not_belong(surplus: &[&String]) -> Error {
    let list = list(surplus.iter().map(|name| name.as_str()), surplus.len());
    incompatible(match surplus {
        [_] => format!("tensor {list} does not belong into this model"),
        _ => format!("tensors {list} do not belong into this model"),
    })
}

/// "the file has 2 tensors: a, b"
pub fn found(names: &BTreeSet<String>) -> String {
    match names.len() {
        0 => "the file has no tensors".to_string(),
        n => {
            let list = list(names.iter().map(String::as_str), n);
            format!("the file has {n} tensor{}: {list}", if n == 1 { "" } else { "s" })
        }
    }
}

/// The first of `count` names.
fn list<'a>(names: impl Iterator<Item = &'a str>, count: usize) -> String {
    let mut list = names.take(MOST_NAMES).map(shortened).collect::<Vec<_>>().join(", ");
    if count > MOST_NAMES {
        list += &format!(" and {} more", count - MOST_NAMES);
    }
    list
}

pub fn shortened(name: &str) -> String {
    match name.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_string(),
    }
}

pub fn incompatible(message: String) -> Error {
    Error::new(Code::Incompatible, message)
}

/// A tensor of this name, type and shape.
pub fn read_f32(tensors: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = view(tensors, name)?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        return Err(another(name, &tensor, shape));
    }
    floats(name, &tensor, shape)
}

/// A tensor of this name and shape, of any type of floats.
pub fn read_floats(tensors: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = view(tensors, name)?;
    if tensor.shape() == shape {
        return floats(name, &tensor, shape);
    }
    let mut error = another(name, &tensor, shape);
    let sorted = |shape: &[usize]| {
        let mut sorted = shape.to_vec();
        sorted.sort();
        sorted
    };
    if sorted(tensor.shape()) == sorted(shape) {
        error.message += "; its axes are in another order than PyTorch's: permute them";
    }
    Err(error)
}

pub fn view<'a>(tensors: &SafeTensors<'a>, name: &str) -> Result<TensorView<'a>> {
    tensors
        .tensor(name)
        .map_err(|e| Error::new(Code::Corrupt, format!("tensor {}: {e}", shortened(name))))
}

fn another(name: &str, tensor: &TensorView, shape: &[usize]) -> Error {
    let (dtype, found) = (tensor.dtype(), tensor.shape());
    let name = shortened(name);
    incompatible(format!("tensor {name} is {dtype:?} {found:?}; this model needs F32 {shape:?}"))
}

/// The values, all of which must be finite numbers that a float can hold.
fn floats(name: &str, tensor: &TensorView, shape: &[usize]) -> Result<Vec<f32>> {
    let data = tensor.data();
    let pairs = || data.as_chunks().0.iter();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect(),
        Dtype::F16 => pairs().map(|&x| f16::from_le_bytes(x).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|&x| bf16::from_le_bytes(x).to_f32()).collect(),
        Dtype::F64 => {
            let wide = || data.as_chunks().0.iter().map(|&x| f64::from_le_bytes(x));
            let overflows = |x: f64| x.is_finite() && !(x as f32).is_finite();
            if let Some((i, x)) = wide().enumerate().find(|&(_, x)| overflows(x)) {
                let message = format!("{}[{i}] is {x:e}, too large for a float", shortened(name));
                return Err(Error::new(Code::NonFinite, message));
            }
            wide().map(|x| x as f32).collect()
        }
        _ => return Err(another(name, tensor, shape)),
    };
    check_finite(&shortened(name), &values)?;
    Ok(values)
}
