//! Datasets.

use super::{Labels, bytes};
use crate::canary::{Buffer, Pointer};
use crate::expect::Expect;
use crate::number::Count;
use crate::support;
use crate::world::{Data, Handle, Place, World, idx_pair};
use arbitrary::Arbitrary;
use lenet::ffi::*;
use std::ptr::null_mut;

/// A call.
#[derive(Arbitrary, Debug)]
pub enum Call {
    Open {
        images: (Pointer, Place),
        labels: (Pointer, Place),
        good: bool,
        made: Output,
    },
    FromMemory {
        images: (Pointer, u8),
        labels: (Pointer, Labels),
        n: Count,
        size: u8,
        made: Output,
    },
    Free {
        dataset: Handle,
    },
    Count {
        dataset: Handle,
    },
    Size {
        dataset: Handle,
        height: Pointer,
        width: Pointer,
    },
    Read {
        dataset: Handle,
        first: u8,
        n: Count,
        images: Pointer,
        labels: Pointer,
    },
}

/// The output of a call and where its dataset goes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Output {
    pointer: Pointer,
    to: Handle,
}

const SIZES: [(u32, u32); 8] =
    [(16, 16), (16, 16), (16, 16), (16, 24), (20, 16), (3, 5), (0, 16), (16, 0)];

/// A dataset to begin with.
pub fn begin(world: &mut World) {
    thread_local! {
        static FIRST: support::MadeData = support::MadeData::new(5, 16, 2);
    }
    let (images, labels) = FIRST.with(|data| (data.images.clone(), data.labels.clone()));
    let mut handle = null_mut();
    let (i, l) = (images.as_ptr(), labels.as_ptr());
    support::ok(unsafe { lenet_dataset_from_memory(i, l, 5, 16, 16, &mut handle) });
    let data = Data { handle, images, labels, size: (16, 16) };
    world.put_dataset(Handle::first(), data);
}

impl Call {
    pub fn run(self, world: &mut World) {
        match self {
            Call::Open { images, labels, good, made } => {
                if good {
                    let pair = ((images.0, Place::Images), (labels.0, Place::Labels));
                    open(world, pair.0, pair.1, made);
                } else {
                    open(world, images, labels, made);
                }
            }
            Call::FromMemory { images, labels, n, size, made } => {
                from_memory(world, images, labels, n, SIZES[usize::from(size % 8)], made);
            }
            Call::Free { dataset } => world.free_dataset(dataset),
            Call::Count { dataset } => {
                let passed = world.dataset(dataset);
                let count = unsafe { lenet_dataset_count(passed.pointer) };
                let expected = world.data(dataset).filter(|_| passed.wrong.is_none());
                assert_eq!(count, expected.map_or(0, |data| data.labels.len()));
            }
            Call::Size { dataset, height, width } => size(world, dataset, height, width),
            Call::Read { dataset, first, n, images, labels } => {
                let count = world.data(dataset).map_or(1, |data| data.labels.len());
                // Mostly a range that there is.
                let range = match usize::from(first) {
                    first @ 0..=199 => {
                        let first = first % count;
                        (first, if n.is_right() { Count(n.0.min(count - first)) } else { n })
                    }
                    first => (first % 24, n),
                };
                read(world, dataset, range, images, labels);
            }
        }
    }
}

fn open(world: &mut World, images: (Pointer, Place), labels: (Pointer, Place), made: Output) {
    let paths = [images.1.path(world), labels.1.path(world)];
    let mut texts = paths.map(|path| Buffer::input(path.as_bytes_with_nul()));
    let passed = [texts[0].pass(images.0), texts[1].pass(labels.0)];
    let mut room = Buffer::output::<*mut lenet_dataset>(1);
    let output = room.pass::<*mut lenet_dataset>(made.pointer);
    let mut expect = Expect::default().pointer(passed[0]).pointer(passed[1]).pointer(output);
    for (place, right) in [(images.1, Place::Images), (labels.1, Place::Labels)] {
        let error = place.error();
        // A saved model or the other IDX file, if it is there.
        let absent = match place {
            Place::First => world.files[0].is_none(),
            Place::Second => world.files[1].is_none(),
            _ => false,
        };
        let other = error.is_none() && !absent && place != right;
        expect = expect
            .wrong(error.is_some(), error.unwrap_or(0))
            .wrong(absent, LENET_ERROR_NOT_FOUND)
            .wrong(other, LENET_ERROR_FORMAT);
    }
    let (i, l) = (passed[0].pointer, passed[1].pointer);
    let status = unsafe { lenet_dataset_open(i, l, output.pointer) };
    let succeeded = expect.check("lenet_dataset_open", status);
    texts.iter().for_each(Buffer::check_unchanged);
    room.check(succeeded);
    if succeeded {
        let (images, labels) = idx_pair();
        let data = Data { handle: room.values()[0], images, labels, size: (16, 16) };
        world.put_dataset(made.to, data);
    }
}

fn from_memory(
    world: &mut World,
    images: (Pointer, u8),
    labels: (Pointer, Labels),
    n: Count,
    (height, width): (u32, u32),
    made: Output,
) {
    let real = n.real();
    let pixels: Vec<u8> = bytes(images.1, real * (height * width) as usize).collect();
    let classes = labels.1.make(real);
    let (mut image_place, mut label_place) = (Buffer::input(&pixels), Buffer::input(&classes));
    let mut room = Buffer::output::<*mut lenet_dataset>(1);
    let (i, l) = (image_place.pass::<u8>(images.0), label_place.pass::<u8>(labels.0));
    let output = room.pass::<*mut lenet_dataset>(made.pointer);
    let wrong = !n.is_right() || height == 0 || width == 0;
    let expect = Expect::default()
        .pointer(i)
        .pointer(l)
        .pointer(output)
        .wrong(wrong, LENET_ERROR_INVALID_ARGUMENT);
    let (i, l, o) = (i.pointer, l.pointer, output.pointer);
    let status = unsafe { lenet_dataset_from_memory(i, l, n.0, height, width, o) };
    let succeeded = expect.check("lenet_dataset_from_memory", status);
    image_place.check_unchanged();
    label_place.check_unchanged();
    room.check(succeeded);
    if succeeded {
        let handle = room.values()[0];
        let data = Data { handle, images: pixels, labels: classes, size: (height, width) };
        world.put_dataset(made.to, data);
    }
}

fn size(world: &World, dataset: Handle, height: Pointer, width: Pointer) {
    let passed = world.dataset(dataset);
    let mut rooms = [Buffer::output::<u32>(1), Buffer::output::<u32>(1)];
    let (h, w) = (rooms[0].pass::<u32>(height), rooms[1].pass::<u32>(width));
    let expect = Expect::default().pointer(passed).pointer(h).pointer(w);
    let status = unsafe { lenet_dataset_size(passed.pointer, h.pointer, w.pointer) };
    let succeeded = expect.check("lenet_dataset_size", status);
    rooms.iter().for_each(|room| room.check(succeeded));
    if succeeded {
        let size = (rooms[0].values::<u32>()[0], rooms[1].values::<u32>()[0]);
        assert_eq!(size, world.data(dataset).unwrap().size);
    }
}

fn read(
    world: &World,
    dataset: Handle,
    (first, n): (usize, Count),
    images: Pointer,
    labels: Pointer,
) {
    let passed = world.dataset(dataset);
    let data = world.data(dataset);
    let (count, pixels) =
        data.map_or((0, 1), |data| (data.labels.len(), data.images.len() / data.labels.len()));
    let real = n.real();
    let mut rooms = [Buffer::output::<u8>(real * pixels), Buffer::output::<u8>(real)];
    let (i, l) = (rooms[0].pass::<u8>(images), rooms[1].pass::<u8>(labels));
    let past = !n.is_right() || first + real > count;
    let expect = Expect::default()
        .pointer(passed)
        .pointer(i)
        .pointer(l)
        .wrong(past, LENET_ERROR_INVALID_ARGUMENT);
    let status = unsafe { lenet_dataset_read(passed.pointer, first, n.0, i.pointer, l.pointer) };
    let succeeded = expect.check("lenet_dataset_read", status);
    rooms.iter().for_each(|room| room.check(succeeded));
    if let (true, Some(data)) = (succeeded, data) {
        assert!(rooms[0].values::<u8>() == data.images[first * pixels..(first + real) * pixels]);
        assert!(rooms[1].values::<u8>() == data.labels[first..first + real]);
    }
}
