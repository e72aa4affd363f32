//! lenet_driver.cpp from this side: what is asked of the kernels, and what they answer.

use crate::oracle::Network;
use crate::workshop::{Look, Source, Workshop, fed, made};
use std::path::{Path, PathBuf};
use std::process::Output;

/// A module of cuda/lenet.cu: shape, activation, pooling.
pub type Module = (&'static str, &'static str, &'static str);

/// The driver with these modules.
pub fn driver(workshop: &Workshop, modules: &[Module], look: Look) -> PathBuf {
    let mut sources = Vec::new();
    let mut list = String::from("MODULES=");
    for (shape, activation, pooling) in modules {
        let name = format!("{shape}_{activation}_{pooling}");
        sources.push(Source {
            name: "lenet.cu".into(),
            definitions: vec![
                format!("SHAPE={shape}"),
                format!("ACTIVATION={activation}"),
                format!("POOLING={pooling}"),
                format!("lenet_train=train_{name}"),
                format!("lenet_logits=logits_{name}"),
            ],
            watched: true,
        });
        list += &format!("MODULE({shape},{activation},{pooling}) ");
    }
    sources.push(Source::new("apply.cu", true));
    let driver = Source {
        definitions: vec![list],
        ..Source::new("lenet_driver.cpp", look == Look::Sanitizers)
    };
    sources.push(driver);
    workshop.program("lenet_driver", &sources, look)
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    Forward,
    Reverse,
    InStep,
    Random(u32),
}

#[derive(Clone, Debug)]
pub enum Pixels {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

/// Numbers of arguments.h.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    GradientOnly,
    Sgd { weight_decay: f32 },
    Momentum { momentum: f32, weight_decay: f32 },
    AdamW,
}

impl Rule {
    pub fn averages(self) -> usize {
        match self {
            Rule::GradientOnly | Rule::Sgd { .. } => 0,
            Rule::Momentum { .. } => 1,
            Rule::AdamW => 2,
        }
    }

    fn words(self) -> [u32; 4] {
        let (number, momentum, weight_decay) = match self {
            Rule::GradientOnly => (0, 0.0, 0.0),
            Rule::Sgd { weight_decay } => (1, 0.0, weight_decay),
            Rule::Momentum { momentum, weight_decay } => (2, momentum, weight_decay),
            Rule::AdamW => (3, 0.0, 0.0),
        };
        [number, momentum.to_bits(), weight_decay.to_bits(), 0]
    }
}

/// Rate, keep, scale.
pub type Rates = [f32; 3];

/// One or more launches with a dataset.
#[derive(Clone, Debug)]
pub struct Request {
    pub module: Module,
    pub network: Network,
    pub pixels: Pixels,
    pub mean: f32,
    pub std: f32,
    pub labels: Vec<u8>,
    /// Of all steps behind each other.
    pub indices: Option<Vec<u32>>,
    pub batch: usize,
    pub rule: Rule,
    pub rates: Vec<Rates>,
    /// (1 + averages, parameters)
    pub weights: Vec<f32>,
    pub groups: u32,
    pub order: Order,
    pub launches: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    pub steps: u32,
    pub reason: u32,
    /// Loss, correct, images.
    pub results: Vec<(f64, u32, u32)>,
    pub gradient: Vec<f32>,
    /// The newest set, if there was a rule.
    pub weights: Vec<f32>,
}

pub const FINISHED: u32 = 0;
pub const LOSS_NOT_FINITE: u32 = 1;
pub const RESULT_NOT_FINITE: u32 = 2;

impl Request {
    pub fn images(&self) -> usize {
        self.indices.as_ref().map_or(self.labels.len(), Vec::len)
    }

    pub fn steps(&self) -> usize {
        self.images().div_ceil(self.batch)
    }

    fn head(&self, what: u32, parameters: usize) -> Vec<u8> {
        let Network { height, width, padding, classes, .. } = self.network;
        let (order, seed) = match self.order {
            Order::Forward => (0, 0),
            Order::Reverse => (1, 0),
            Order::InStep => (2, 0),
            Order::Random(seed) => (3, seed),
        };
        let floats = matches!(self.pixels, Pixels::Floats(_)).into();
        let size = [height, width, padding, classes].map(|side| side as u32);
        let mut words = vec![what];
        words.extend(size);
        words.extend([floats, self.labels.len() as u32, self.images() as u32]);
        words.extend([self.indices.is_some().into(), self.mean.to_bits(), self.std.to_bits()]);
        words.extend([self.batch as u32, self.steps() as u32]);
        words.extend(self.rule.words());
        words.extend([parameters as u32, self.groups, order, seed, self.launches]);
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        for name in [self.module.0, self.module.1, self.module.2] {
            let mut name = name.as_bytes().to_vec();
            name.resize(16, 0);
            bytes.extend(name);
        }
        bytes
    }

    fn inputs(&self, what: u32) -> Vec<u8> {
        let mut bytes = self.head(what, 0);
        match &self.pixels {
            Pixels::Bytes(pixels) => bytes.extend(pixels),
            Pixels::Floats(pixels) => bytes.extend(floats(pixels)),
        }
        bytes.extend(self.indices.iter().flatten().flat_map(|index| index.to_ne_bytes()));
        bytes
    }

    pub fn training(&self) -> Vec<u8> {
        let mut bytes = self.inputs(0);
        bytes.extend(self.labels.iter().flat_map(|&label| u32::from(label).to_ne_bytes()));
        if self.rule != Rule::GradientOnly {
            assert_eq!(self.rates.len(), self.steps());
            bytes.extend(self.rates.iter().flat_map(|rates| rates_bytes(*rates)));
        }
        let set = (1 + self.rule.averages()) * self.network.parameters();
        bytes.extend(floats(&self.weights[..set]));
        bytes
    }

    pub fn logits(&self) -> Vec<u8> {
        let mut bytes = self.inputs(1);
        bytes.extend(floats(&self.weights[..self.network.parameters()]));
        bytes
    }

    /// A step with a gradient that is given.
    pub fn applying(&self, gradient: &[f32], rates: Rates) -> Vec<u8> {
        let mut bytes = self.head(2, gradient.len());
        bytes.extend(floats(&self.weights));
        bytes.extend(floats(gradient));
        bytes.extend(rates_bytes(rates));
        bytes
    }

    pub fn trained(&self, program: &Path) -> Trained {
        self.parsed(&answer(program, &self.training(), self.module))
    }

    pub fn trained_and_logits(&self, program: &Path) -> (Trained, Vec<f32>) {
        let requests = [self.training(), self.logits()].concat();
        let answers = answer(program, &requests, self.module);
        let logits = 4 * self.images() * self.network.classes;
        let (training, logits) = answers.split_at(answers.len() - logits);
        (self.parsed(training), values(logits))
    }

    fn parsed(&self, answer: &[u8]) -> Trained {
        let mut rest = answer;
        let mut word = || {
            let (word, others) = rest.split_first_chunk().unwrap();
            rest = others;
            u32::from_ne_bytes(*word)
        };
        let (steps, reason) = (word(), word());
        let mut results = Vec::new();
        for _ in 0..self.steps() {
            let loss = u64::from(word()) | u64::from(word()) << 32;
            results.push((f64::from_bits(loss), word(), word()));
        }
        let mut values = values(rest);
        let weights = values.split_off(self.network.parameters());
        Trained { steps, reason, results, gradient: values, weights }
    }

    /// Reason and weights.
    pub fn applied(&self, program: &Path, gradient: &[f32], rates: Rates) -> (u32, Vec<f32>) {
        let mut words = values(&answer(program, &self.applying(gradient, rates), self.module));
        let weights = words.split_off(2);
        (words[1].to_bits(), weights)
    }
}

/// What the driver makes of requests.
pub fn ask(program: &Path, arguments: &[&str], requests: &[u8]) -> Output {
    fed(made(program).args(arguments), requests)
}

/// Of requests that are answered.
fn answer(program: &Path, requests: &[u8], what: Module) -> Vec<u8> {
    let output = ask(program, &[], requests);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{what:?}: {}: {said}", output.status);
    output.stdout
}

fn floats(values: &[f32]) -> impl Iterator<Item = u8> {
    values.iter().flat_map(|value| value.to_ne_bytes())
}

fn rates_bytes([rate, keep, scale]: Rates) -> Vec<u8> {
    floats(&[rate, keep, scale, 0.0]).collect()
}

fn values(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_ne_bytes(word.try_into().unwrap())).collect()
}
