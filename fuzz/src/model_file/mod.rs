//! Model files, damaged in every way: header, header length, offsets, shapes, names, metadata and
//! data apart from each other, or no model file at all.
//!
//! What must hold: a status that `lenet_load_buffer` documents, and on failure an untouched output
//! and a message. What was loaded predicts and trains, and saved, loaded and saved again it is the
//! same bytes.

mod mutation;

use crate::canary::{Buffer, Pointer};
use crate::expect::Expect;
use crate::saved::{saved, with_saved};
use crate::support::{self, Dataset, MadeData, Model};
use arbitrary::{Arbitrary, Result, Unstructured};
use lenet::ffi::*;
use mutation::{Base, Mutation, mutated};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::LazyLock;

/// A file and the options to load it with.
#[derive(Arbitrary, Debug)]
pub struct Input {
    /// Training what was loaded takes most of the time, so it is seldom done.
    train: Seldom,
    options: Options,
    contents: Contents,
}

/// Whether something is done, one time in eight.
#[derive(Debug)]
struct Seldom(bool);

impl<'a> Arbitrary<'a> for Seldom {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        u.ratio(1, 8).map(Seldom)
    }
}

#[derive(Debug)]
enum Contents {
    Mutated { base: usize, pytorch: bool, mutations: Vec<Mutation> },
    Raw(Vec<u8>),
}

impl<'a> Arbitrary<'a> for Contents {
    /// Mostly few mutations: a file with many of them is refused for the first.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mutations = match u8::arbitrary(u)? {
            0..=7 => 0,
            8..=127 => 1,
            128..=191 => 2,
            192..=231 => 3,
            more @ 232..=247 => usize::from(more) - 228,
            _ => return Vec::arbitrary(u).map(Contents::Raw),
        };
        Ok(Contents::Mutated {
            // Those with averages are two and three times as long.
            base: match u8::arbitrary(u)? {
                0..=127 => 0,
                128..=191 => 3,
                192..=223 => 1,
                224..=239 => 2,
                _ => 4,
            },
            pytorch: u.ratio(1, 4)?,
            mutations: (0..mutations).map(|_| Mutation::arbitrary(u)).collect::<Result<_>>()?,
        })
    }
}

#[derive(Arbitrary, Debug)]
enum Options {
    None,
    Given { modern: bool, height: u8, width: u8, momentum: bool, padding: u8 },
}

/// Saved models: no optimizer state, one average, two; without padding, mirrored; in the middle of a fit.
static BASES: LazyLock<[Base; 5]> = LazyLock::new(|| {
    let classic = support::small(LENET_PRESET_CLASSIC);
    let modern = support::small(LENET_PRESET_MODERN);
    let unpadded = lenet_options { padding: 0, mirror: 1, ..classic };
    let momentum = support::small_with_momentum();
    let options = [(classic, 0), (momentum, 0), (modern, 0), (unpadded, 0), (momentum, 5)];
    options.map(|(options, events)| {
        let model = Model::create(&lenet_options { num_threads: 1, ..options });
        let data = MadeData::new(6, 16, 3);
        model.train(&data.images, &data.labels);
        if events > 0 {
            assert_eq!(fit_with_a_course(&model, events), LENET_ERROR_CANCELLED);
        }
        Base::new(model.bytes())
    })
});

/// A fit that keeps all that a file can have of one, cancelled after so many events.
fn fit_with_a_course(model: &Model, mut events: u32) -> lenet_status {
    unsafe extern "C-unwind" fn count_down(_: *const lenet_progress, left: *mut c_void) -> i32 {
        let left = unsafe { &mut *left.cast::<u32>() };
        *left = left.saturating_sub(1);
        i32::from(*left == 0)
    }
    let data = Dataset::new(&MadeData::new(3, 16, 2));
    let options = lenet_fit_options {
        schedule: LENET_SCHEDULE_ONE_CYCLE,
        keep: LENET_KEEP_BEST,
        patience: 2,
        ..support::fit_options(3, 2)
    };
    let left = (&raw mut events).cast();
    unsafe { lenet_fit(model.0, data.0, data.0, &options, Some(count_down), left) }
}

impl Input {
    /// Loads the file and checks what comes of it.
    pub fn run(self) {
        let (bytes, whole) = match self.contents {
            Contents::Mutated { base, pytorch, mutations } => {
                let whole = mutations.is_empty() && !pytorch;
                (mutated(&BASES[base], pytorch, &mutations), whole)
            }
            Contents::Raw(bytes) => (bytes, false),
        };
        let options = self.options.build();
        let Some(model) = load(&bytes, options.as_ref(), whole) else { return };
        if whole {
            assert!(
                with_saved(model.0, |file| file == bytes),
                "a good file is another one when saved again"
            );
        }
        use_it(&model, self.train.0);
    }
}

impl Options {
    fn build(&self) -> Option<lenet_options> {
        let Options::Given { modern, height, width, momentum, padding } = *self else {
            return None;
        };
        let preset = if modern { LENET_PRESET_MODERN } else { LENET_PRESET_CLASSIC };
        let side = |choice: u8| [16, 16, 16, 20, 28, 64, 256][usize::from(choice) % 7];
        let momentum = if momentum { 0.9 } else { 0.0 };
        // As the saved models have it, mostly: what PyTorch saved must fit.
        let (height, width) = (side(height), side(width));
        let padding = if padding < 192 { 2 } else { 0 };
        let shape = support::small(preset);
        Some(lenet_options { height, width, momentum, padding, num_threads: 1, ..shape })
    }
}

/// The model in `bytes`, or nothing if they were refused as the header says.
fn load(bytes: &[u8], options: Option<&lenet_options>, whole: bool) -> Option<Model> {
    // The message must be of this call and not of one before.
    unsafe { lenet_device_count(99, &mut 0) };
    let before = support::last_error();
    let mut buffer = Buffer::input(bytes);
    let start: *const u8 = buffer.pass(Pointer::Good).pointer;
    let options = options.map_or(std::ptr::null(), std::ptr::from_ref);
    let mut model = null_mut();
    let status = unsafe { lenet_load_buffer(start, bytes.len(), options, &mut model) };
    buffer.check_unchanged();
    let not_told = options.is_null() && !whole;
    let expect =
        [LENET_ERROR_FORMAT, LENET_ERROR_CORRUPT, LENET_ERROR_INCOMPATIBLE, LENET_ERROR_NON_FINITE];
    let expect = expect.iter().fold(Expect::default(), |e, &status| e.possible(!whole, status));
    let expect = expect.possible(not_told, LENET_ERROR_INVALID_ARGUMENT);
    if expect.check("lenet_load_buffer", status) {
        return Some(Model(model));
    }
    assert!(model.is_null(), "a refused load has written its output");
    assert_ne!(support::last_error(), before, "a refused load has left no message");
    None
}

/// What every model must be able to do.
fn use_it(model: &Model, train: bool) {
    let options = model.options();
    let (height, width) = (options.height as usize, options.width as usize);
    let images = vec![7u8; 2 * height * width];
    let mut classes = [0; 2];
    let to = classes.as_mut_ptr();
    let diverges = || Expect::default().possible(true, LENET_ERROR_DIVERGED);
    let status = unsafe { lenet_predict_u8(model.0, images.as_ptr(), 2, to, null_mut()) };
    if diverges().check("lenet_predict_u8", status) {
        assert!(classes.iter().all(|&class| u32::from(class) < options.classes));
    }
    same_again(model);
    if train && (height, width) == (16, 16) {
        diverges().check("lenet_fit", fit_with_a_course(model, u32::MAX));
        same_again(model);
        let data = Dataset::new(&MadeData::new(3, 16, 2));
        let fit = support::fit_options(1, 2);
        let none = null_mut();
        let status = unsafe { lenet_fit(model.0, data.0, none, &fit, None, none.cast()) };
        diverges().check("lenet_fit", status);
        same_again(model);
    }
}

/// Saved, loaded and saved again, a model is the same bytes.
fn same_again(model: &Model) {
    let bytes = saved(model.0);
    let again = Model::from_bytes(&bytes);
    assert!(with_saved(again.0, |file| file == bytes), "a saved model is not the same one");
}
