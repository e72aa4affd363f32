//! The kernels for GPUs, computed by a CPU. tests/cuda_on_cpu has the machine that they run on, in whose orders of
//! threads nothing may change, with sanitizers or a detector of races watching.

// What each pointer must be is said in lenet.h; here it always comes from a live Vec or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

#[path = "support/command.rs"]
mod command;
#[path = "cuda_on_cpu/driver.rs"]
mod driver;
#[path = "cuda_on_cpu/oracle.rs"]
mod oracle;
mod support;
#[path = "cuda_on_cpu/workshop.rs"]
mod workshop;

use command::{fails, outcome, run};
use driver::{Module, Order, Pixels, Rates, Request, Rule, driver};
use lenet::ffi::*;
use oracle::{Network, TENSORS};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use support::Model;
use workshop::{Look, Source, Workshop, in_parallel, made};

// ---- the machine

const ORDERS: [[&str; 2]; 5] =
    [["forward", "0"], ["reverse", "0"], ["in_step", "0"], ["random", "1"], ["random", "2"]];

const RIGHT: [&str; 7] = [
    "block_barriers",
    "shuffle_reduction",
    "warp_barriers",
    "grid_barriers",
    "asynchronous_copies",
    "products",
    "as_an_h200",
];

/// Kernels with a fault, what finds it, in whatever order threads run, and words of what is said.
const WRONG: [(&str, &[Look], &[&str]); 13] = {
    use Look::{Races, Sanitizers};
    [
        ("no_barrier", &[Races], &["race", "write by thread", "read by thread", "self_test.cpp"]),
        ("a_race_that_the_order_hides", &[Races], &["race", "of block 0", "of block 1"]),
        ("relaxed_instead_of_acquire", &[Races], &["race", "read by thread 0 of block 1"]),
        ("plain_read_beside_atomic_writes", &[Races], &["race", "atomic write by thread"]),
        ("copy_that_is_not_waited_for", &[Races], &["asynchronous copy", "not waited for"]),
        ("copy_without_a_barrier", &[Races], &["race", "self_test.cpp"]),
        (
            "barrier_in_a_branch",
            &[Sanitizers, Races],
            &["in the block barrier at", "others of its"],
        ),
        ("barrier_after_a_return", &[Sanitizers, Races], &["has returned", "block barrier at"]),
        ("half_a_warp", &[Sanitizers, Races], &["has returned", "its warp", "self_test.cpp"]),
        (
            "waiting_for_ever",
            &[Sanitizers, Races],
            &["for ever", "thread 0 of block 0 waits for another value", "with 62 others"],
        ),
        ("beyond_shared_memory", &[Sanitizers], &["heap-buffer-overflow", "self_test.cpp"]),
        ("misaligned_copy", &[Sanitizers, Races], &["copies 16 bytes that are not aligned"]),
        ("misaligned_vector", &[Sanitizers], &["misaligned address", "self_test.cpp"]),
    ]
};

#[test]
fn the_machine_computes_what_is_right_and_finds_what_is_wrong() {
    let workshop = Workshop::new("machine");
    for look in [Look::Sanitizers, Look::Races] {
        let program = workshop.program("self_test", &[Source::new("self_test.cpp", true)], look);
        for order in ORDERS {
            for test in RIGHT {
                run(made(&program).arg(test).args(order));
            }
            for (test, finders, words) in WRONG {
                if finders.contains(&look) {
                    let (output, said) = outcome(made(&program).arg(test).args(order));
                    assert!(!output.status.success(), "{test}, {look:?}, {order:?}: found nothing");
                    for word in words {
                        assert!(
                            said.contains(word),
                            "{test}, {look:?}, {order:?}: {word:?}: {said}"
                        );
                    }
                }
            }
        }
        if look == Look::Sanitizers {
            // A copy that is late is seen without a detector, too, and a stack that ends.
            fails(made(&program).args(["copy_that_is_not_waited_for", "forward"]));
            let said = fails(made(&program).args(["too_deep", "forward"]));
            assert!(said.contains("stack-overflow"), "{said}");
        }
    }
}

// ---- the kernels

const ACTIVATIONS: [&str; 3] = ["sigmoid", "tanh", "relu"];
const POOLINGS: [&str; 2] = ["average", "max"];

/// Every combination for images of the classic size and for those of any, some for the other fixed
/// sizes, which differ in nothing but numbers.
const MODULES: [Module; 16] = [
    ("padded_28", "sigmoid", "average"),
    ("padded_28", "sigmoid", "max"),
    ("padded_28", "tanh", "average"),
    ("padded_28", "tanh", "max"),
    ("padded_28", "relu", "average"),
    ("padded_28", "relu", "max"),
    ("plain_28", "sigmoid", "average"),
    ("plain_28", "relu", "max"),
    ("plain_32", "tanh", "max"),
    ("plain_32", "relu", "average"),
    ("any", "sigmoid", "average"),
    ("any", "sigmoid", "max"),
    ("any", "tanh", "average"),
    ("any", "tanh", "max"),
    ("any", "relu", "average"),
    ("any", "relu", "max"),
];

/// Height, width, padding, classes: the smallest, one that is not square, one whose fc1 and fc3 go
/// through their loops more than once.
const SIZES: [[usize; 4]; 3] = [[16, 20, 0, 2], [40, 24, 2, 23], [32, 32, 2, 256]];

fn networks(module: Module) -> Vec<Network> {
    let (shape, activation, pooling) = module;
    let sizes = match shape {
        "padded_28" => vec![[28, 28, 2, 10]],
        "plain_28" => vec![[28, 28, 0, 10]],
        "plain_32" => vec![[32, 32, 0, 10]],
        _ => SIZES.to_vec(),
    };
    let network = |[height, width, padding, classes]: [usize; 4]| Network {
        height,
        width,
        padding,
        classes,
        activation,
        pooling,
    };
    sizes.into_iter().map(network).collect()
}

fn sanitized() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let workshop = Workshop::new("sanitized").with("cuda", |_, text| text);
        driver(&workshop, &MODULES, Look::Sanitizers)
    })
}

/// Weights as a model begins with, images with a border of zeros and noise inside.
fn made_request(module: Module, network: Network, images: usize, seed: u64) -> Request {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Vec::new();
    for shape in network.shapes() {
        let [outputs, inputs] = [shape[0], shape[1..].iter().product::<usize>()];
        let largest = if shape.len() == 1 { 0.1 } else { (6.0 / (inputs + outputs) as f32).sqrt() };
        weights.extend((0..inputs * outputs).map(|_| rng.random_range(-largest..largest)));
    }
    let inside = |i: usize| {
        let (y, x) = (i / network.width % network.height, i % network.width);
        y >= 3 && x >= 3 && y + 3 < network.height && x + 3 < network.width
    };
    let pixels =
        (0..images * network.pixels()).map(|i| if inside(i) { rng.random() } else { 0 }).collect();
    Request {
        module,
        network,
        pixels: Pixels::Bytes(pixels),
        mean: 0.0,
        std: 1.0,
        // Uneven: what even numbers of two classes want nearly cancels, and each f32's rounding is seen.
        labels: (0..images).map(|i| (i % (network.classes + 1)).max(1) as u8 - 1).collect(),
        indices: None,
        batch: images,
        rule: Rule::GradientOnly,
        rates: Vec::new(),
        weights,
        groups: 1,
        order: Order::Forward,
        launches: 1,
    }
}

/// The same images as floats, normalised.
fn as_floats(mut request: Request) -> Request {
    if let Pixels::Bytes(bytes) = &request.pixels {
        request.pixels =
            Pixels::Floats(bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect());
    }
    Request { mean: 0.3, std: 0.4, ..request }
}

/// Pixels as the network sees them.
fn seen(request: &Request) -> Vec<f64> {
    let pixels: Vec<f64> = match &request.pixels {
        Pixels::Bytes(bytes) => bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect(),
        Pixels::Floats(floats) => floats.iter().map(|&pixel| pixel.into()).collect(),
    };
    pixels.iter().map(|pixel| (pixel - f64::from(request.mean)) / f64::from(request.std)).collect()
}

/// Says what is further off than 1e-5 of the largest value.
fn check_close(what: &str, ours: &[f32], oracle: &[f64]) -> Result<(), String> {
    assert_eq!(ours.len(), oracle.len(), "{what}");
    let largest = oracle.iter().fold(0f64, |m, x| m.max(x.abs()));
    let near = |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-5 * largest; // NaN is never near
    match ours.iter().zip(oracle).position(|(&a, &b)| !near(a, b)) {
        None => Ok(()),
        Some(i) => Err(format!("{what}[{i}] is {}, not {} of {largest}", ours[i], oracle[i])),
    }
}

fn check_gradient(network: Network, ours: &[f32], oracle: &[Vec<f64>]) -> Result<(), String> {
    let mut rest = ours;
    for (name, expected) in TENSORS.iter().zip(oracle) {
        let (tensor, others) = rest.split_at(expected.len());
        rest = others;
        check_close(&format!("{network:?}: {name}"), tensor, expected)?;
    }
    assert!(rest.is_empty());
    Ok(())
}

fn largest(row: &[f64]) -> usize {
    (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

/// Loss, correct, gradient and logits of one batch.
fn compare(request: &Request) -> Result<(), String> {
    let Request { network, labels, .. } = request;
    let oracle = oracle::expected(*network, &request.weights, &seen(request), labels).unwrap();
    let (trained, logits) = request.trained_and_logits(sanitized());
    assert_eq!((trained.steps, trained.reason), (1, driver::FINISHED));
    let (loss, correct, images) = trained.results[0];
    let rows = oracle.logits.chunks(network.classes);
    let hits = rows.zip(labels).filter(|(row, label)| largest(row) == usize::from(**label)).count();
    assert_eq!((correct as usize, images as usize), (hits, labels.len()), "{network:?}");
    check_close("loss", &[loss as f32], &[oracle.loss])?;
    check_gradient(*network, &trained.gradient, &oracle.gradient)?;
    check_close("logits", &logits, &oracle.logits)
}

/// Two values of a window that differ by less than rounding may change places between two right
/// engines, and the gradient goes another way. So max-pooled batches have three tries with other
/// images; a mistake fails all of them.
fn assert_right(make: impl Fn(u64) -> Request) {
    let tries = if make(0).network.pooling == "max" { 3 } else { 1 };
    let failures: Vec<String> = (0..tries).map_while(|t| compare(&make(t)).err()).collect();
    assert!(failures.len() < tries as usize, "{failures:?}");
}

#[test]
fn every_module_and_batch_size_is_the_oracles() {
    let sizes = [1, 15, 16, 17, 33];
    let mut cases = Vec::new();
    for (place, module) in MODULES.into_iter().enumerate() {
        for network in networks(module) {
            for (i, n) in sizes.into_iter().enumerate() {
                // All of the classic shape; three of five of the others, in turn.
                if module.0 == "padded_28" || (i + place) % 5 < 3 {
                    cases.push((module, network, n, cases.len()));
                }
            }
        }
    }
    in_parallel(cases.len(), |i| {
        let (module, network, n, number) = cases[i];
        assert_right(|seed| {
            let request = made_request(module, network, n, 100 * seed + n as u64);
            let request = if number % 2 == 0 { request } else { as_floats(request) };
            let order = if number % 4 < 2 { Order::Forward } else { Order::Reverse };
            Request { order, groups: 1 + (number % 3 == 0) as u32, ..request }
        });
    });
}

fn rates(rule: Rule, learning_rate: f64, step: usize) -> Rates {
    if rule != Rule::AdamW {
        return [learning_rate as f32, 0.0, 0.0];
    }
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    [
        (learning_rate / correction(0.9)) as f32,
        (1.0 - learning_rate * 0.01) as f32,
        (1.0 / correction(0.999).sqrt()) as f32,
    ]
}

/// Two steps of a rule over 33 images that come in no order.
fn two_steps(module: Module, network: Network, rule: Rule) -> Request {
    let request = made_request(module, network, 20, 3);
    let zeros = vec![0.0; rule.averages() * network.parameters()];
    Request {
        indices: Some((0..33).map(|i| i * 13 % 20).collect()),
        batch: 17,
        rule,
        rates: vec![rates(rule, 0.05, 1), rates(rule, 0.05, 2)],
        weights: [request.weights, zeros].concat(),
        ..request
    }
}

const SGD: Rule = Rule::Sgd { weight_decay: 0.01 };
const MOMENTUM: Rule = Rule::Momentum { momentum: 0.9, weight_decay: 0.01 };

/// A module and rule of each kind.
fn kinds() -> Vec<Request> {
    let any = networks(("any", "relu", "max"));
    vec![
        two_steps(MODULES[0], networks(MODULES[0])[0], SGD),
        two_steps(MODULES[7], networks(MODULES[7])[0], MOMENTUM),
        two_steps(("any", "relu", "max"), any[0], Rule::AdamW),
        two_steps(("any", "tanh", "average"), any[1], SGD),
    ]
}

#[test]
fn neither_the_order_of_threads_nor_what_ran_before_changes_a_bit() {
    let kinds = kinds();
    in_parallel(kinds.len(), |i| {
        let expected = kinds[i].trained_and_logits(sanitized());
        // By chance, which takes longest, the smallest network.
        let last = if i == 2 { Order::Random(1) } else { Order::InStep };
        for order in [Order::Reverse, last] {
            // The second launch finds the workspace as the first one left it.
            let launches = if order == Order::Reverse { 2 } else { 1 };
            let request = Request { order, launches, ..kinds[i].clone() };
            let again = request.trained_and_logits(sanitized());
            assert!(again == expected, "{:?}, {order:?}", request.module);
        }
    });
}

/// The request for step `step` alone, from these weights.
fn one_step(request: &Request, step: usize, weights: &[f32]) -> Request {
    let indices = request.indices.as_ref().unwrap().chunks(request.batch).nth(step).unwrap();
    Request {
        indices: Some(indices.to_vec()),
        rates: vec![request.rates[step]],
        weights: weights.to_vec(),
        ..request.clone()
    }
}

#[test]
fn steps_in_one_launch_are_steps_in_many_are_gradients_that_are_applied() {
    let kinds = kinds();
    in_parallel(kinds.len(), |i| {
        let together = kinds[i].trained(sanitized());
        assert_eq!((together.steps, together.reason), (2, driver::FINISHED));
        let mut weights = kinds[i].weights.clone();
        for step in 0..2 {
            let one = one_step(&kinds[i], step, &weights);
            let alone = one.trained(sanitized());
            let only = Request { rule: Rule::GradientOnly, ..one.clone() };
            let gradient = only.trained(sanitized());
            assert!(gradient.gradient == alone.gradient, "{:?}", one.module);
            assert!(
                gradient.results == alone.results && alone.results[0] == together.results[step]
            );
            let applied = one.applied(sanitized(), &gradient.gradient, one.rates[0]);
            assert!(applied == (driver::FINISHED, alone.weights.clone()), "{:?}", one.module);
            weights = alone.weights;
        }
        assert!(weights == together.weights, "{:?}", kinds[i].module);
    });
}

/// The CPU's engine, through the C API, from the same weights with the same gradients.
#[test]
fn an_applied_gradient_gives_a_cpus_bits() {
    let classic = support::small(LENET_PRESET_CLASSIC);
    let modern = support::small(LENET_PRESET_MODERN);
    let rate = classic.learning_rate as f32;
    assert_eq!((modern.learning_rate, modern.weight_decay), (0.001, 0.01));
    let momentum = lenet_options { momentum: 0.9, weight_decay: 0.01, ..classic };
    for (options, rule) in
        [(classic, Rule::Sgd { weight_decay: 0.0 }), (momentum, MOMENTUM), (modern, Rule::AdamW)]
    {
        let model = Model::create(&options);
        let flat = model.parameters();
        let network = Network {
            height: 16,
            width: 16,
            padding: 2,
            classes: 3,
            activation: "sigmoid",
            pooling: "average",
        };
        assert_eq!(network.parameters(), flat.len());
        let mut request = made_request(("any", "sigmoid", "average"), network, 1, 1);
        request.rule = rule;
        request.weights = [flat.clone(), vec![0.0; rule.averages() * flat.len()]].concat();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for step in 1..=3 {
            let gradient: Vec<f32> =
                flat.iter().map(|_| rng.random_range(-1f32..1.0).powi(9)).collect();
            let status =
                unsafe { lenet_apply_gradients(model.0, gradient.as_ptr(), gradient.len()) };
            support::ok(status);
            let at = if rule == Rule::AdamW { rates(rule, 0.001, step) } else { [rate, 0.0, 0.0] };
            let (reason, weights) = request.applied(sanitized(), &gradient, at);
            assert_eq!(reason, driver::FINISHED);
            let cpus = model.parameters();
            let differs = cpus.iter().zip(&weights).position(|(a, b)| a.to_bits() != b.to_bits());
            assert_eq!(differs, None, "{rule:?}, step {step}");
            request.weights = weights;
        }
    }
}

/// That it is lenet's network: gradients of the C API.
#[test]
fn the_oracle_is_lenet() {
    for module in MODULES.iter().filter(|module| module.0 == "any") {
        let network = networks(*module)[1];
        let request = as_floats(made_request(*module, network, 5, 1));
        let Pixels::Floats(pixels) = &request.pixels else { unreachable!() };
        let position = |all: &[&str], name| all.iter().position(|other| *other == name).unwrap();
        let options = lenet_options {
            height: network.height as u32,
            width: network.width as u32,
            classes: network.classes as u32,
            padding: network.padding as u32,
            activation: position(&ACTIVATIONS, module.1) as i32,
            pooling: position(&POOLINGS, module.2) as i32,
            input_mean: request.mean.into(),
            input_std: request.std.into(),
            ..support::preset(LENET_PRESET_CLASSIC)
        };
        let model = Model::create(&options);
        let (weights, labels) = (&request.weights, &request.labels);
        let mut gradient = vec![0.0; weights.len()];
        let mut loss = 0.0;
        unsafe {
            support::ok(lenet_set_parameters(model.0, weights.as_ptr(), weights.len()));
            support::ok(lenet_compute_gradients(
                model.0,
                pixels.as_ptr(),
                labels.as_ptr(),
                labels.len(),
                gradient.as_mut_ptr(),
                gradient.len(),
                &mut loss,
            ));
        }
        let oracle = oracle::expected(network, weights, &seen(&request), labels).unwrap();
        check_close("loss", &[loss], &[oracle.loss]).unwrap();
        check_gradient(network, &gradient, &oracle.gradient).unwrap();
    }
}

#[test]
fn a_step_that_is_not_finite_stops_at_the_last_good_one() {
    let any = ("any", "relu", "max");
    for (module, rules) in [(MODULES[0], &[SGD][..]), (any, &[SGD, MOMENTUM, Rule::AdamW])] {
        let network = networks(module)[0];
        for &rule in rules {
            let good = two_steps(module, network, rule);
            let mut weights = good.trained(sanitized()).weights;
            // The third step's loss is not: an image has pixels that the sums cannot hold.
            let mut request = as_floats(good.clone());
            let Pixels::Floats(pixels) = &mut request.pixels else { unreachable!() };
            pixels.extend(vec![f32::NAN; network.pixels()]);
            request.labels.push(0);
            let indices = request.indices.as_mut().unwrap();
            indices.truncate(17);
            indices.push(20);
            let stopped = request.trained(sanitized());
            assert_eq!((stopped.steps, stopped.reason), (1, driver::LOSS_NOT_FINITE), "{rule:?}");
            let first = one_step(&request, 0, &request.weights);
            assert!(stopped.weights == first.trained(sanitized()).weights, "{rule:?}");
            assert!(stopped.results[1].0.is_nan());

            // A step whose loss is finite, but not what comes of it.
            let mut request = good.clone();
            request.rates[1] = [f32::INFINITY; 3];
            let stopped = request.trained(sanitized());
            assert_eq!((stopped.steps, stopped.reason), (1, driver::RESULT_NOT_FINITE), "{rule:?}");
            let first = one_step(&good, 0, &good.weights).trained(sanitized());
            assert!(stopped.weights == first.weights, "{rule:?}");

            // The same of a gradient that is given, and of one alone.
            weights[0] = f32::MAX;
            let applied = Request { weights, ..good.clone() };
            let gradient = vec![f32::MAX; network.parameters()];
            let (reason, _) = applied.applied(sanitized(), &gradient, [f32::MAX; 3]);
            assert_eq!(reason, driver::RESULT_NOT_FINITE, "{rule:?}");
        }
    }
}

/// Three TF32 products are one of f32 as far as an exponent goes, and not beyond.
#[test]
fn huge_and_tiny_numbers_are_right_or_seen() {
    for module in [("any", "relu", "average"), ("any", "relu", "max")] {
        let network = networks(module)[1];
        for scale in [1e-30f32, 1e-15, 1e15, 1e30] {
            // conv2 takes it back: the products there have factors of both sizes.
            assert_right(|seed| {
                let mut request = made_request(module, network, 5, 40 + seed);
                let [conv1, conv2] = [0..156, 156..156 + 2400];
                request.weights[conv1].iter_mut().for_each(|weight| *weight *= scale);
                request.weights[conv2].iter_mut().for_each(|weight| *weight /= scale);
                request
            });
        }
    }
}

// ---- races, and every statement that prevents one

/// Takes a number for each statement by which threads wait, and lets it be taken out when a program runs. Its name is its
/// line and the next one.
fn with_choices(file: &str, text: String, statements: &mut Vec<String>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut chosen = String::new();
    for (i, line) in lines.iter().enumerate() {
        let called = line.trim().split(['(', '<']).next().unwrap();
        let waits = called.contains("barrier")
            || ["wait_async", "commit_async", "wait_for_blocks"].contains(&called);
        if waits && line.ends_with(");") {
            let number = statements.len();
            chosen += &format!("if (cuda_on_cpu::kept({number})) {}\n", line.trim());
            statements.push(format!("{file}: {} {}", line.trim(), lines[i + 1].trim()));
        } else {
            chosen += &format!("{line}\n");
        }
    }
    chosen
}

/// Statements without which nothing is found, and why nothing is.
const SURVIVORS: [&str; 1] = [
    // It is the last task of a step, and the grid waits next.
    "gradients.cuh: block_barrier(); return loss_finite;",
];

#[test]
fn nothing_races_and_each_barrier_that_is_taken_out_is_found() {
    let mut statements = Vec::new();
    let workshop =
        Workshop::new("races").with("cuda", |file, text| with_choices(file, text, &mut statements));
    let modules = [MODULES[0], ("padded_28", "relu", "max"), ("any", "tanh", "max")];
    let program = driver(&workshop, &modules, Look::Races);

    // Two rounds of a group, two groups, more steps than one; loops that only large networks have.
    let classic = two_steps(modules[0], networks(modules[0])[0], SGD);
    let modern =
        Request { groups: 2, ..two_steps(modules[1], networks(modules[1])[0], Rule::AdamW) };
    let large = made_request(modules[2], networks(modules[2])[2], 17, 1);
    let large = Request { order: Order::Reverse, ..large };
    let requests = [classic.training(), classic.logits(), large.training(), modern.training()];
    let requests = requests.concat();

    let count = statements.len().to_string();
    let output = driver::ask(&program, &["-1", &count], &requests);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (answers, reached) = output.stdout.split_at(output.stdout.len() - 4 * statements.len());
    for (statement, reached) in statements.iter().zip(reached.chunks(4)) {
        assert!(reached[0] == 1, "the requests do not come to {statement}");
    }

    let found = |argument: &str| {
        let output = driver::ask(&program, &[argument], &requests);
        !output.status.success() || output.stdout != answers
    };
    assert!(!found("-1"));
    assert!(found("-2"), "atomic operations that order nothing are not found");
    let survivors = Mutex::new(Vec::new());
    in_parallel(statements.len(), |i| {
        if !found(&i.to_string()) {
            survivors.lock().unwrap().push(&*statements[i]);
        }
    });
    let mut survivors = survivors.into_inner().unwrap();
    survivors.sort();
    assert_eq!(survivors, SURVIVORS);
}
