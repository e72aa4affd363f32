//! The handles that a sequence of calls works on, and a shadow of each: what the library must know
//! about it.

use crate::canary::{Passed, Pointer};
use crate::options::Versioned;
use crate::saved::{saved, with_saved};
use crate::support;
use arbitrary::Arbitrary;
use lenet::ffi::*;
use serde_json::Value;
use std::ffi::CString;
use std::fs;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::rc::Rc;
use tempfile::TempDir;

/// A live model and its shadow.
pub struct Model {
    /// The handle.
    pub handle: *mut lenet_model,
    /// What it is.
    pub shadow: Shadow,
}

/// What is known about a model.
#[derive(Clone)]
pub struct Shadow {
    /// As `lenet_get_options` must give them.
    pub options: lenet_options,
    /// Optimizer steps so far.
    pub step: u64,
    /// Images of an interrupted epoch, and of how many.
    pub consumed: (u64, u64),
    /// Whether nothing in it is so large that a computation may leave the range of float.
    pub tame: bool,
    /// The file that it would be saved as.
    pub file: Rc<Vec<u8>>,
}

impl Shadow {
    /// Pixels of an image.
    pub fn pixels(&self) -> usize {
        (self.options.height * self.options.width) as usize
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.options.classes as usize
    }

    /// Number of parameters, layer by layer.
    pub fn parameters(&self) -> usize {
        let side = |pixels: u32| (pixels + 2 * self.options.padding - 4) as usize / 4 - 2;
        let features = 16 * side(self.options.height) * side(self.options.width);
        let linear = |inputs: usize, outputs: usize| (inputs + 1) * outputs;
        linear(25, 6)
            + linear(6 * 25, 16)
            + linear(features, 120)
            + linear(120, 84)
            + linear(84, self.classes())
    }

    /// The shadow of a model with these options and nothing trained.
    pub fn of(mut options: lenet_options, handle: *mut lenet_model) -> Shadow {
        options.struct_size = size_of::<lenet_options>() as u32;
        (options.device, options.device_index) = (LENET_DEVICE_CPU, 0);
        let relu = options.activation == LENET_ACTIVATION_RELU;
        let tame = options.learning_rate <= if relu { 0.01 } else { 1.0 }
            && options.weight_decay <= 0.1
            && options.input_mean.abs() <= 1.0
            && options.input_std >= 0.5
            && options.input_std <= 1e6;
        let file = Rc::new(saved(handle));
        let mut shadow = Shadow { options, step: 0, consumed: (0, 0), tame, file };
        shadow.read_progress();
        shadow
    }

    /// Step and epoch out of the file.
    fn read_progress(&mut self) {
        let length = u64::from_le_bytes(self.file[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&self.file[8..8 + length]).unwrap();
        let metadata = header["__metadata__"]["lenet"].as_str().unwrap();
        let metadata: Value = serde_json::from_str(metadata).unwrap();
        let number = |key: &str| metadata[key].as_u64().unwrap();
        self.step = number("step");
        self.consumed = (number("epoch_consumed"), number("epoch_count"));
        let rate = metadata["learning_rate"].as_f64().unwrap();
        assert_eq!(rate.to_bits(), self.options.learning_rate.to_bits(), "the learning rate");
    }
}

/// A live dataset and what is in it.
pub struct Data {
    /// The handle.
    pub handle: *mut lenet_dataset,
    /// Its pixels.
    pub images: Vec<u8>,
    /// Its labels.
    pub labels: Vec<u8>,
    /// Rows and columns of an image.
    pub size: (u32, u32),
}

/// Which handle is passed, and how.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Handle {
    slot: u8,
    pointer: Pointer,
}

impl Handle {
    /// The first one, passed as it should be.
    pub fn first() -> Handle {
        Handle { slot: 0, pointer: Pointer::Good }
    }
}

/// All handles.
#[derive(Default)]
pub struct World {
    models: [Option<Model>; 4],
    datasets: [Option<Data>; 2],
    in_folder: bool,
    /// What lies at `Place::First` and `Place::Second`.
    pub files: [Option<Shadow>; 2],
}

impl World {
    /// The slot of a model that is used: mostly one that has a model.
    fn used(&self, which: Handle) -> usize {
        slot(which, self.models.each_ref().map(Option::is_some))
    }

    /// The same of a dataset.
    fn used_data(&self, which: Handle) -> usize {
        slot(which, self.datasets.each_ref().map(Option::is_some))
    }

    /// The pointer that a handle argument is; NULL if there is no such model.
    pub fn model(&self, which: Handle) -> Passed<lenet_model> {
        let model = self.models[self.used(which)].as_ref();
        Passed::new(model.map_or(null_mut(), |model| model.handle), which.pointer)
    }

    /// The shadow, for the sizes of buffers also where the handle is not passed.
    pub fn shadow(&self, which: Handle) -> Option<&Shadow> {
        self.models[self.used(which)].as_ref().map(|model| &model.shadow)
    }

    /// The same, to be changed.
    pub fn shadow_mut(&mut self, which: Handle) -> Option<&mut Shadow> {
        let slot = self.used(which);
        self.models[slot].as_mut().map(|model| &mut model.shadow)
    }

    /// Puts a new model into a slot and frees the one that was there.
    pub fn put_model(&mut self, to: Handle, handle: *mut lenet_model, shadow: Shadow) {
        let slot = usize::from(to.slot) % 4;
        self.free_slot(slot);
        self.models[slot] = Some(Model { handle, shadow });
        self.settle_slot(slot, false);
    }

    /// Frees a model, or NULL.
    pub fn free_model(&mut self, which: Handle) {
        self.free_slot(self.used(which));
    }

    fn free_slot(&mut self, slot: usize) {
        let model = self.models[slot].take();
        unsafe { lenet_free(model.map_or(null_mut(), |model| model.handle)) };
    }

    /// After a call on a model: it is as before, or has changed and the shadow learns how.
    pub fn settle(&mut self, which: Handle, changed: bool) {
        self.settle_slot(self.used(which), changed);
    }

    fn settle_slot(&mut self, slot: usize, changed: bool) {
        let Some(model) = &mut self.models[slot] else { return };
        if changed {
            model.shadow.file = Rc::new(saved(model.handle));
            model.shadow.read_progress();
        } else {
            let same = with_saved(model.handle, |file| *file == **model.shadow.file);
            assert!(same, "a call has changed the model that must not");
        }
        let options = support::Model(model.handle);
        let options = std::mem::ManuallyDrop::new(options).options();
        assert!(options.same(&model.shadow.options), "{options:?}");
    }

    /// The pointer that a dataset argument is; NULL if there is no such dataset.
    pub fn dataset(&self, which: Handle) -> Passed<lenet_dataset> {
        let data = self.datasets[self.used_data(which)].as_ref();
        Passed::new(data.map_or(null_mut(), |data| data.handle), which.pointer)
    }

    /// What must be in it.
    pub fn data(&self, which: Handle) -> Option<&Data> {
        self.datasets[self.used_data(which)].as_ref()
    }

    /// Puts a new dataset into a slot and frees the one that was there.
    pub fn put_dataset(&mut self, to: Handle, data: Data) {
        let slot = usize::from(to.slot) % 2;
        self.free_data_slot(slot);
        self.datasets[slot] = Some(data);
    }

    /// Frees a dataset, or NULL.
    pub fn free_dataset(&mut self, which: Handle) {
        self.free_data_slot(self.used_data(which));
    }

    fn free_data_slot(&mut self, slot: usize) {
        let data = self.datasets[slot].take();
        unsafe { lenet_dataset_free(data.map_or(null_mut(), |data| data.handle)) };
    }

    /// A folder with a pair of IDX files, for a call that may write there.
    pub fn folder(&mut self) -> PathBuf {
        self.in_folder = true;
        FOLDER.with(|folder| folder.path().into())
    }
}

thread_local! {
    /// One for all sequences, each of which leaves it as it was; made when a sequence first needs it.
    static FOLDER: TempDir = {
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = memory.unwrap();
        let (images, labels) = idx_pair();
        let header = [0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 16, 0, 0, 0, 16];
        fs::write(folder.path().join("images"), [&header, &images[..]].concat()).unwrap();
        let header = [0, 0, 8, 1, 0, 0, 0, 4];
        fs::write(folder.path().join("labels"), [&header, &labels[..]].concat()).unwrap();
        folder
    };
}

/// Removes what a sequence has saved. Nothing else may be left of it.
fn clear_folder() {
    FOLDER.with(|folder| {
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().unwrap().to_str().unwrap() {
                "images" | "labels" => {}
                "first" | "second" => fs::remove_file(path).unwrap(),
                _ => panic!("{} was left", path.display()),
            }
        }
    });
}

/// What is in the pair of IDX files.
pub fn idx_pair() -> (Vec<u8>, Vec<u8>) {
    ((0..4 * 256).map(|i| (i * 7) as u8).collect(), vec![1, 0, 1, 1])
}

impl Drop for World {
    fn drop(&mut self) {
        (0..4).for_each(|slot| self.free_slot(slot));
        (0..2).for_each(|slot| self.free_data_slot(slot));
        if self.in_folder {
            clear_folder();
        }
    }
}

/// One of the slots: mostly one that is in use.
fn slot<const N: usize>(which: Handle, used: [bool; N]) -> usize {
    let choice = usize::from(which.slot);
    let count = used.iter().filter(|&&used| used).count();
    if choice >= 240 || count == 0 {
        return choice % N;
    }
    (0..N).filter(|&slot| used[slot]).nth(choice % count).unwrap_or(0)
}

/// Where a path leads.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// A file that models are saved to.
    First,
    /// Another one.
    Second,
    /// An IDX file of images.
    Images,
    /// An IDX file of labels.
    Labels,
    /// A folder that is not there.
    Missing,
    /// A folder.
    Folder,
    /// Nowhere: "".
    Empty,
    /// Nowhere: not UTF-8.
    NotUtf8,
}

impl Place {
    /// The path as C has it.
    pub fn path(self, world: &mut World) -> CString {
        let path = match self {
            Place::First => world.folder().join("first"),
            Place::Second => world.folder().join("second"),
            Place::Images => world.folder().join("images"),
            Place::Labels => world.folder().join("labels"),
            Place::Missing => world.folder().join("missing/file"),
            Place::Folder => world.folder(),
            Place::Empty => return CString::default(),
            Place::NotUtf8 => return CString::new(*b"/tmp/\xff").unwrap(),
        };
        support::c_path(&path)
    }

    /// What a path that leads to no file makes of any call.
    pub fn error(self) -> Option<lenet_status> {
        match self {
            Place::Missing => Some(LENET_ERROR_NOT_FOUND),
            Place::Folder => Some(LENET_ERROR_IO),
            Place::Empty | Place::NotUtf8 => Some(LENET_ERROR_INVALID_ARGUMENT),
            _ => None,
        }
    }
}
