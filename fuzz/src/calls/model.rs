//! Making, copying, describing, saving and loading models.

use super::model_argument;
use crate::canary::{Buffer, Passed, Pointer};
use crate::expect::Expect;
use crate::number::{Length, pick};
use crate::options::{OptionsArgument, StructSize};
use crate::support::{self, preset};
use crate::world::{Handle, Place, Shadow, World};
use arbitrary::{Arbitrary, Result, Unstructured};
use lenet::ffi::*;
use std::ptr::null_mut;

/// A call.
#[derive(Arbitrary, Debug)]
pub enum Call {
    Create { options: OptionsArgument, model: Pointer, to: Handle },
    Clone { model: Handle, copy: Pointer, to: Handle },
    CloneWithClasses { model: Handle, classes: Classes, copy: Pointer, to: Handle },
    Free { model: Handle },
    GetOptions { model: Handle, options: Pointer, size: StructSize },
    GetLayer { model: Handle, index: u8, layer: Pointer, size: StructSize },
    Save { model: Handle, path: Pointer, place: Place },
    Load { path: Pointer, place: Place, options: OptionsArgument, model: Pointer, to: Handle },
    SaveBuffer { model: Handle, buffer: Pointer, capacity: Length, needed: Pointer },
    LoadBuffer { from: Handle, part: Part, options: OptionsArgument, load: LoadPointers },
}

/// A number of classes.
#[derive(Clone, Copy, Debug)]
pub struct Classes(u32);

impl<'a> Arbitrary<'a> for Classes {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        pick(u, &[3, 4, 2, 10], &[0, 1, 256, 257, u32::MAX]).map(Classes)
    }
}

/// What of a saved file is loaded.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Part {
    Whole,
    Half(u16),
    Length(Length),
}

/// The pointers of a load, and where its model goes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct LoadPointers {
    buffer: Pointer,
    model: Pointer,
    to: Handle,
}

thread_local! {
    /// What the first model of each sequence is a copy of, and its shadow. No sequence changes it: to draw
    /// the parameters anew would take as long as many calls.
    static FIRST: (support::Model, Shadow) = {
        let options = lenet_options { num_threads: 1, ..support::small(LENET_PRESET_CLASSIC) };
        let model = support::Model::create(&options);
        let shadow = Shadow::of(options, model.0);
        (model, shadow)
    };
}

/// A small model to begin with.
pub fn begin(world: &mut World) {
    FIRST.with(|(model, shadow)| {
        let mut copy = null_mut();
        support::ok(unsafe { lenet_clone(model.0, &mut copy) });
        world.put_model(Handle::first(), copy, shadow.clone());
    });
}

impl Call {
    pub fn run(self, world: &mut World) {
        match self {
            Call::Create { options, model, to } => create(world, &options, model, to),
            Call::Clone { model, copy, to } => clone(world, model, copy, to),
            Call::CloneWithClasses { model, classes: Classes(classes), copy, to } => {
                clone_with_classes(world, model, classes, copy, to);
            }
            Call::Free { model } => world.free_model(model),
            Call::GetOptions { model, options, size } => get_options(world, model, options, size),
            Call::GetLayer { model, index, layer, size } => {
                let index = match index {
                    0..=239 => usize::from(index % 13),
                    _ => usize::MAX - usize::from(index),
                };
                get_layer(world, model, index, layer, size);
            }
            Call::Save { model, path, place } => save(world, model, path, place),
            Call::Load { path, place, options, model, to } => {
                load(world, path, place, &options, model, to);
            }
            Call::SaveBuffer { model, buffer, capacity, needed } => {
                save_buffer(world, model, buffer, capacity, needed);
            }
            Call::LoadBuffer { from, part, options, load } => {
                load_buffer(world, from, part, &options, load);
            }
        }
    }
}

/// Room for a handle, and what is in it after a success.
struct Made(Buffer);

impl Made {
    fn new() -> Made {
        Made(Buffer::output::<*mut lenet_model>(1))
    }

    fn pass(&mut self, how: Pointer) -> Passed<*mut lenet_model> {
        self.0.pass(how)
    }

    fn handle(&self, succeeded: bool) -> Option<*mut lenet_model> {
        self.0.check(succeeded);
        succeeded.then(|| self.0.values()[0])
    }
}

fn create(world: &mut World, options: &OptionsArgument, model: Pointer, to: Handle) {
    let (mut place, mut made) = (options.place(), Made::new());
    let (passed, output) = (options.pass(&mut place), made.pass(model));
    let expect = options.expect(Expect::default().pointer(output), false);
    let status = unsafe { lenet_create(passed.pointer, output.pointer) };
    let succeeded = expect.check("lenet_create", status);
    place.check_unchanged();
    if let Some(handle) = made.handle(succeeded) {
        world.put_model(to, handle, Shadow::of(options.read(), handle));
    }
}

fn clone(world: &mut World, model: Handle, copy: Pointer, to: Handle) {
    let (passed, _, expect) = model_argument(world, model);
    let mut made = Made::new();
    let output = made.pass(copy);
    let status = unsafe { lenet_clone(passed.pointer, output.pointer) };
    let succeeded = expect.pointer(output).check("lenet_clone", status);
    if let Some(handle) = made.handle(succeeded) {
        let shadow = world.shadow(model).unwrap().clone();
        world.settle(model, false);
        world.put_model(to, handle, shadow);
    }
}

fn clone_with_classes(world: &mut World, model: Handle, classes: u32, copy: Pointer, to: Handle) {
    let (passed, _, expect) = model_argument(world, model);
    let mut made = Made::new();
    let output = made.pass(copy);
    let status = unsafe { lenet_clone_with_classes(passed.pointer, classes, output.pointer) };
    let succeeded = expect
        .pointer(output)
        .wrong(!(2..=256).contains(&classes), LENET_ERROR_INVALID_ARGUMENT)
        .check("lenet_clone_with_classes", status);
    if let Some(handle) = made.handle(succeeded) {
        let old = world.shadow(model).unwrap().clone();
        world.settle(model, false);
        let new = Shadow::of(lenet_options { classes, ..old.options }, handle);
        assert_eq!((new.step, new.consumed), (old.step, (0, 0)));
        world.put_model(to, handle, Shadow { tame: old.tame, ..new });
    }
}

fn get_options(world: &mut World, model: Handle, options: Pointer, size: StructSize) {
    let (passed, _, expect) = model_argument(world, model);
    let mut buffer = size.place(&preset(LENET_PRESET_MODERN));
    let output = buffer.pass(options);
    let expect = size.expect::<lenet_options>(expect.structure(output));
    if options == Pointer::Misaligned {
        return;
    }
    let status = unsafe { lenet_get_options(passed.pointer, output.pointer) };
    let succeeded = expect.check("lenet_get_options", status);
    buffer.check(succeeded);
    if succeeded {
        let expected = size.place(&world.shadow(model).unwrap().options);
        assert!(buffer.values::<u8>() == expected.values::<u8>());
    }
}

fn get_layer(world: &mut World, model: Handle, index: usize, layer: Pointer, size: StructSize) {
    let (passed, _, expect) = model_argument(world, model);
    let null = std::ptr::null();
    let empty = lenet_layer {
        struct_size: 0,
        channels: 0,
        height: 0,
        width: 0,
        parameters: 0,
        name: null,
        kind: null,
    };
    let mut buffer = size.place(&empty);
    let output = buffer.pass(layer);
    let expect = size
        .expect::<lenet_layer>(expect.structure(output))
        .wrong(index >= 12, LENET_ERROR_NOT_FOUND);
    if layer == Pointer::Misaligned {
        return;
    }
    let status = unsafe { lenet_get_layer(passed.pointer, index, output.pointer) };
    let succeeded = expect.check("lenet_get_layer", status);
    buffer.check(succeeded);
}

fn save(world: &mut World, model: Handle, path: Pointer, place: Place) {
    let c_path = place.path(world);
    let (passed, _, expect) = model_argument(world, model);
    let mut text = Buffer::input(c_path.as_bytes_with_nul());
    let path = text.pass(path);
    let place_error = place.error();
    let expect = expect.pointer(path).wrong(place_error.is_some(), place_error.unwrap_or(0));
    if matches!(place, Place::Images | Place::Labels) {
        return; // They stay what they are.
    }
    let status = unsafe { lenet_save(passed.pointer, path.pointer) };
    text.check_unchanged();
    if expect.check("lenet_save", status) {
        let shadow = world.shadow(model).unwrap().clone();
        let written = std::fs::read(c_path.to_str().unwrap()).unwrap();
        assert!(written == *shadow.file, "a file is not what lenet_save_buffer gives");
        world.files[usize::from(place == Place::Second)] = Some(shadow);
    }
}

/// The shadow of a model that was loaded with these options.
fn loaded(of: &Shadow, options: &OptionsArgument) -> Shadow {
    let num_threads = options.read().num_threads;
    Shadow { options: lenet_options { num_threads, ..of.options }, ..of.clone() }
}

fn load(
    world: &mut World,
    path: Pointer,
    place: Place,
    options: &OptionsArgument,
    model: Pointer,
    to: Handle,
) {
    let c_path = place.path(world);
    let mut text = Buffer::input(c_path.as_bytes_with_nul());
    let path = text.pass(path);
    let (mut options_place, mut made) = (options.place(), Made::new());
    let (passed, output) = (options.pass(&mut options_place), made.pass(model));
    let place_error = place.error();
    let file = match place {
        Place::First => world.files[0].clone(),
        Place::Second => world.files[1].clone(),
        _ => None,
    };
    let is_idx = matches!(place, Place::Images | Place::Labels);
    let absent = file.is_none() && !is_idx && place_error.is_none();
    let expect = options
        .expect(Expect::default().pointer(output).pointer(path), true)
        .wrong(place_error.is_some(), place_error.unwrap_or(0))
        .wrong(absent, LENET_ERROR_NOT_FOUND)
        .wrong(is_idx, LENET_ERROR_FORMAT);
    let status = unsafe { lenet_load(path.pointer, passed.pointer, output.pointer) };
    let succeeded = expect.check("lenet_load", status);
    text.check_unchanged();
    options_place.check_unchanged();
    if let Some(handle) = made.handle(succeeded) {
        world.put_model(to, handle, loaded(&file.unwrap(), options));
    }
}

fn save_buffer(
    world: &mut World,
    model: Handle,
    buffer: Pointer,
    capacity: Length,
    needed: Pointer,
) {
    let (passed, _, expect) = model_argument(world, model);
    let size = world.shadow(model).map_or(64, |shadow| shadow.file.len());
    let (length, real) = (capacity.of(size), capacity.real(size));
    let (mut place, mut needed_place) = (Buffer::output::<u8>(real), Buffer::output::<usize>(1));
    let (bytes, needed) = (place.pass::<u8>(buffer), needed_place.pass::<usize>(needed));
    let asks = bytes.is_null() && length == 0;
    let expect = expect
        .pointer(needed)
        .wrong(bytes.is_null() && !asks, LENET_ERROR_NULL_POINTER)
        .wrong(
            capacity.is_huge() && capacity.of(0) > isize::MAX as usize,
            LENET_ERROR_INVALID_ARGUMENT,
        )
        .wrong(length < size && !asks, LENET_ERROR_BUFFER_TOO_SMALL);
    let status =
        unsafe { lenet_save_buffer(passed.pointer, bytes.pointer, length, needed.pointer) };
    let succeeded = expect.check("lenet_save_buffer", status);
    let sized = succeeded || status == LENET_ERROR_BUFFER_TOO_SMALL;
    needed_place.check(sized);
    place.check(succeeded && !asks);
    if sized {
        assert_eq!(needed_place.values::<usize>(), [size]);
    }
    if succeeded && !asks {
        assert!(place.values::<u8>()[..size] == world.shadow(model).unwrap().file[..]);
        place.check_unwritten_from::<u8>(size);
    }
}

fn load_buffer(
    world: &mut World,
    from: Handle,
    part: Part,
    options: &OptionsArgument,
    load: LoadPointers,
) {
    let shadow = world.shadow(from).cloned();
    let file = shadow.as_ref().map_or(&[][..], |shadow| &shadow.file[..]);
    let length = match part {
        Part::Whole => Length::Exact,
        Part::Half(by) => Length::Less((by % 256) as u8),
        Part::Length(length) => length,
    };
    let (said, real) = (length.of(file.len()), length.real(file.len()));
    let mut bytes = file.to_vec();
    bytes.resize(real, 0);
    if let Part::Half(by) = part {
        bytes.truncate(usize::from(by));
    }
    let said = if length.is_huge() { said } else { bytes.len() };
    let (mut place, mut options_place) = (Buffer::input(&bytes), options.place());
    let mut made = Made::new();
    let buffer = place.pass::<u8>(load.buffer);
    let (passed, output) = (options.pass(&mut options_place), made.pass(load.model));
    let broken = bytes != file || file.is_empty();
    let expect = options
        .expect(Expect::default().pointer(output).pointer(buffer), true)
        .wrong(said > isize::MAX as usize, LENET_ERROR_INVALID_ARGUMENT)
        .wrong(broken, LENET_ERROR_CORRUPT)
        .wrong(broken, LENET_ERROR_FORMAT);
    if said == isize::MAX as usize || (1 << 62..=(1 << 62) + 1).contains(&said) {
        return; // A length that a slice of bytes could have.
    }
    let (start, model) = (buffer.pointer, output.pointer);
    let status = unsafe { lenet_load_buffer(start, said, passed.pointer, model) };
    let succeeded = expect.check("lenet_load_buffer", status);
    place.check_unchanged();
    options_place.check_unchanged();
    if let Some(handle) = made.handle(succeeded) {
        world.put_model(load.to, handle, loaded(&shadow.unwrap(), options));
    }
}
