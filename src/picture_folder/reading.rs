//! The pictures of a list, read and prepared by several threads and put together in its order.
//!
//! The threads belong to the call: they are made for it and have ended when it returns. They take blocks of the list, from
//! its beginning on, so what is done grows from there: an error is always that of the first picture that has one, for all
//! before it have been looked at.

use crate::allocation::reserve;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::host::threads;
use crate::picture;
use crate::prepare::{Preparer, Scratch};
use std::collections::BTreeMap;
use std::mem;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Pictures that a thread takes at once.
const BLOCK: usize = 8;

/// Is told how many pictures have been read, and of how many; returns false to cancel.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize) -> bool;

/// The prepared pictures, one behind the other.
pub fn read(
    paths: Vec<PathBuf>,
    preparer: Preparer,
    num_threads: u32,
    mut progress: Option<Progress>,
) -> Result<Vec<u8>> {
    let all = paths.len();
    let mut pixels = Vec::new();
    reserve(&mut pixels, all.saturating_mul(preparer.height * preparer.width))?;
    let made = Mutex::new(Made { pixels, ..Made::default() });
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let [stopped, abandoned] = [const { AtomicBool::new(false) }; 2];
    let list = Arc::new(List { paths, preparer, next, done, stopped, abandoned, made });
    let threads = threads::count(num_threads);
    let mut helpers = Helpers::new(&list, threads.min(all.div_ceil(BLOCK)) - 1);
    let mut reported = 0;
    let mut report = |helpers: &Helpers| {
        let done = list.done.load(Ordering::Relaxed);
        let Some(progress) = &mut progress else { return Ok(()) };
        if mem::replace(&mut reported, done) == done {
            return Ok(());
        }
        let goes_on = progress(done, all);
        helpers.check_process()?;
        if goes_on {
            return Ok(());
        }
        Err(Error::new(Code::Cancelled, format!("cancelled after {done} of {all} pictures")))
    };
    let mut scratch = Scratch::default();
    while list.read_block(&mut scratch, &mut || report(&helpers))? {
        failpoint::point();
    }
    helpers.join();
    let mut made = list.made();
    if let Some((_, error)) = made.error.take() {
        return Err(error);
    }
    let pixels = mem::take(&mut made.pixels);
    drop(made);
    report(&helpers)?;
    Ok(pixels)
}

struct List {
    paths: Vec<PathBuf>,
    preparer: Preparer,
    /// The picture that the next block begins with.
    next: AtomicUsize,
    /// Pictures that have been read.
    done: AtomicUsize,
    /// No further block is to be read.
    stopped: AtomicBool,
    /// Nor what is left of those that are being read.
    abandoned: AtomicBool,
    made: Mutex<Made>,
}

/// What has been made of the list.
#[derive(Default)]
struct Made {
    /// Of the first blocks, with room for all.
    pixels: Vec<u8>,
    /// How many blocks these are.
    blocks: usize,
    /// Those that came earlier than one before them.
    waiting: BTreeMap<usize, Vec<u8>>,
    /// That of the first picture that cannot be read, and which one it is.
    error: Option<(usize, Error)>,
}

impl List {
    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the next block, and calls `each` after each of its pictures; whether there was one. Gives back what `each`
    /// fails with; what reading does is noted.
    fn read_block(
        &self,
        scratch: &mut Scratch,
        each: &mut dyn FnMut() -> Result<()>,
    ) -> Result<bool> {
        if self.stopped.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let start = self.next.fetch_add(BLOCK, Ordering::Relaxed);
        let Some(paths) = self.paths.get(start..) else { return Ok(false) };
        let paths = &paths[..paths.len().min(BLOCK)];
        let size = self.preparer.height * self.preparer.width;
        let mut pixels = Vec::new();
        let room = reserve(&mut pixels, paths.len() * size);
        if let Err(error) = room {
            self.note(start, error);
            return Ok(true);
        }
        pixels.resize(paths.len() * size, 0);
        for (i, path) in paths.iter().enumerate() {
            if self.abandoned.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let out = &mut pixels[i * size..(i + 1) * size];
            if let Err(error) = self.read_picture(path, scratch, out) {
                self.note(start + i, error);
                return Ok(true);
            }
            self.done.fetch_add(1, Ordering::Relaxed);
            each()?;
        }
        self.put(start / BLOCK, pixels);
        Ok(true)
    }

    fn read_picture(&self, path: &Path, scratch: &mut Scratch, out: &mut [u8]) -> Result<()> {
        let picture = picture::read(path)?;
        let prepared =
            picture.image().and_then(|image| self.preparer.prepare(&image, scratch, out));
        prepared.map_err(|e| picture::at(path, e))
    }

    fn note(&self, picture: usize, error: Error) {
        let mut made = self.made();
        if made.error.as_ref().is_none_or(|(first, _)| picture < *first) {
            made.error = Some((picture, error));
        }
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn put(&self, block: usize, pixels: Vec<u8>) {
        let mut made = self.made();
        made.waiting.insert(block, pixels);
        loop {
            let next = made.blocks;
            let Some(pixels) = made.waiting.remove(&next) else { return };
            made.pixels.extend_from_slice(&pixels);
            made.blocks += 1;
        }
    }
}

/// The other threads, and the process that has them.
struct Helpers<'a> {
    process: u32,
    list: &'a List,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl<'a> Helpers<'a> {
    /// At most `count`: where the system refuses a thread, fewer do the same.
    fn new(list: &'a Arc<List>, count: usize) -> Self {
        let threads = threads::start(count, |_| {
            let list = Arc::clone(list);
            move || {
                let mut scratch = Scratch::default();
                while list.read_block(&mut scratch, &mut || Ok(()))? {}
                Ok(())
            }
        });
        Helpers { process: std::process::id(), list, threads }
    }

    /// Refuses to go on in a child that a progress function has made, where they have not come along.
    fn check_process(&self) -> Result<()> {
        if self.threads.is_empty() || self.process == std::process::id() {
            return Ok(());
        }
        Err(Error::new(
            Code::Forked,
            "the process was forked while a folder was read, and the threads that read stayed with the parent",
        ))
    }

    /// Waits until they have read what they have begun with.
    fn join(&mut self) {
        let threads = mem::take(&mut self.threads);
        if self.process != std::process::id() {
            // There is nothing to join in a forked child.
            return threads.into_iter().for_each(mem::forget);
        }
        for thread in threads {
            // A panic in one is the call's: the others have seen to all but the rest of its block.
            if let Err(panic) = thread.join()
                && !std::thread::panicking()
            {
                self.list.stopped.store(true, Ordering::Relaxed);
                resume_unwind(panic);
            }
        }
    }
}

impl Drop for Helpers<'_> {
    /// The call ends early: cancelled, or by what unwinds out of a progress function.
    fn drop(&mut self) {
        self.list.stopped.store(true, Ordering::Relaxed);
        self.list.abandoned.store(true, Ordering::Relaxed);
        self.join();
    }
}
