//! Buffers for the library, with canaries round them.

use arbitrary::{Arbitrary, Result, Unstructured};
use lenet::ffi::*;
use std::ptr::null_mut;

const CANARY: u8 = 0xa5;
/// Canaries before a buffer and behind it.
const MARGIN: usize = 64;

/// How a pointer is passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pointer {
    /// As it should be.
    Good,
    /// NULL.
    Null,
    /// One byte further.
    Misaligned,
}

impl<'a> Arbitrary<'a> for Pointer {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u8::arbitrary(u)? {
            0..=245 => Pointer::Good,
            246..=252 => Pointer::Null,
            _ => Pointer::Misaligned,
        })
    }
}

/// A pointer as it is passed, and what is wrong with it.
#[derive(Debug)]
pub struct Passed<T> {
    /// The pointer.
    pub pointer: *mut T,
    /// What a call must fail with that needs it; none if all is well.
    pub wrong: Option<lenet_status>,
}

// Not derived: what it points to need not be `Copy`.
impl<T> Clone for Passed<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Passed<T> {}

impl<T> Passed<T> {
    /// `pointer`, which may be NULL already, passed like this.
    pub fn new(pointer: *mut T, how: Pointer) -> Self {
        if pointer.is_null() || how == Pointer::Null {
            return Passed { pointer: null_mut(), wrong: Some(LENET_ERROR_NULL_POINTER) };
        }
        if how == Pointer::Misaligned && align_of::<T>() > 1 {
            let pointer = pointer.wrapping_byte_add(1);
            return Passed { pointer, wrong: Some(LENET_ERROR_INVALID_ARGUMENT) };
        }
        Passed { pointer, wrong: None }
    }

    /// The same where NULL is allowed.
    pub fn or_null(self) -> Self {
        let wrong = self.wrong.filter(|_| !self.pointer.is_null());
        Passed { wrong, ..self }
    }

    /// Whether there is a buffer that the library may write.
    pub fn is_null(self) -> bool {
        self.pointer.is_null()
    }
}

/// Memory that the library is given.
pub struct Buffer {
    memory: Vec<u8>,
    /// What was in it at first; none if that was canaries only.
    before: Option<Vec<u8>>,
    length: usize,
}

impl Buffer {
    /// Values to read. They end where the allocation ends, so that AddressSanitizer sees a read
    /// behind them; the canaries are before them.
    pub fn input<T: Copy>(values: &[T]) -> Buffer {
        let bytes = values.as_ptr().cast::<u8>();
        Buffer::new(unsafe { std::slice::from_raw_parts(bytes, size_of_val(values)) }, 0)
    }

    /// Room for `count` values to be written, with canaries in it and on both sides.
    pub fn output<T>(count: usize) -> Buffer {
        let length = count * size_of::<T>();
        Buffer { memory: vec![CANARY; MARGIN + length + MARGIN], before: None, length }.aligned()
    }

    /// A struct that says its own size, to be read or written: `bytes` with canaries on both sides.
    pub fn of_struct(bytes: &[u8]) -> Buffer {
        Buffer::new(bytes, MARGIN)
    }

    fn new(contents: &[u8], behind: usize) -> Buffer {
        let length = contents.len();
        let mut memory = Vec::with_capacity(MARGIN + length + behind);
        memory.resize(MARGIN, CANARY);
        memory.extend_from_slice(contents);
        memory.resize(MARGIN + length + behind, CANARY);
        Buffer { before: Some(memory.clone()), memory, length }.aligned()
    }

    fn aligned(self) -> Buffer {
        assert!(self.memory.as_ptr().cast::<u64>().is_aligned(), "malloc aligns for every C type");
        self
    }

    /// A pointer to the contents, passed like this.
    pub fn pass<T>(&mut self, how: Pointer) -> Passed<T> {
        Passed::new(self.memory.as_mut_ptr().wrapping_add(MARGIN).cast(), how)
    }

    /// Nothing was written. Panics if something was.
    pub fn check_unchanged(&self) {
        let unchanged = match &self.before {
            Some(before) => self.memory == *before,
            None => is_canaries(&self.memory),
        };
        assert!(unchanged, "the library wrote what it must not");
    }

    /// Nothing was written beside the buffer, and after a failure nothing in it either.
    pub fn check(&self, succeeded: bool) {
        if !succeeded {
            return self.check_unchanged();
        }
        let (before, behind) = (&self.memory[..MARGIN], &self.memory[MARGIN + self.length..]);
        assert!(is_canaries(before) && is_canaries(behind), "written beside a buffer");
    }

    /// The contents, which need not be aligned.
    pub fn values<T: Copy>(&self) -> Vec<T> {
        let count = self.length / size_of::<T>();
        let mut values = Vec::<T>::with_capacity(count);
        let first = self.memory[MARGIN..MARGIN + self.length].as_ptr();
        unsafe {
            values
                .as_mut_ptr()
                .cast::<u8>()
                .copy_from_nonoverlapping(first, count * size_of::<T>());
            values.set_len(count);
        }
        values
    }

    /// The contents from element `first` on are canaries still.
    pub fn check_unwritten_from<T>(&self, first: usize) {
        let rest = MARGIN + first * size_of::<T>()..MARGIN + self.length;
        assert!(is_canaries(&self.memory[rest]), "more was written than needed");
    }
}

/// Compared in blocks, which is one call each.
fn is_canaries(bytes: &[u8]) -> bool {
    bytes.chunks(MARGIN).all(|block| *block == [CANARY; MARGIN][..block.len()])
}
