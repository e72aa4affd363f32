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
    memory: Box<[u8]>,
    before: Box<[u8]>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Values to read. They end where the allocation ends, so that AddressSanitizer sees a read
    /// behind them; the canaries are before them.
    pub fn input<T: Copy>(values: &[T]) -> Buffer {
        let mut buffer = Buffer::new(size_of_val(values), 0);
        let bytes = values.as_ptr().cast::<u8>();
        let place = &mut buffer.memory[MARGIN..];
        unsafe { place.as_mut_ptr().copy_from_nonoverlapping(bytes, place.len()) };
        buffer.before = buffer.memory.clone();
        buffer
    }

    /// Room for `count` values to be written, with canaries in it and on both sides.
    pub fn output<T>(count: usize) -> Buffer {
        Buffer::new(count * size_of::<T>(), MARGIN)
    }

    /// A struct that says its own size, to be read or written: `bytes` with canaries on both sides.
    pub fn of_struct(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::new(bytes.len(), MARGIN);
        buffer.memory[MARGIN..MARGIN + bytes.len()].copy_from_slice(bytes);
        buffer.before = buffer.memory.clone();
        buffer
    }

    fn new(length: usize, behind: usize) -> Buffer {
        let memory = vec![CANARY; MARGIN + length + behind].into_boxed_slice();
        assert!(memory.as_ptr().cast::<u64>().is_aligned(), "malloc aligns for every type of C");
        Buffer { before: memory.clone(), memory, start: MARGIN, length }
    }

    /// A pointer to the contents, passed like this.
    pub fn pass<T>(&mut self, how: Pointer) -> Passed<T> {
        Passed::new(self.memory.as_mut_ptr().wrapping_add(self.start).cast(), how)
    }

    /// Nothing was written. Panics if something was.
    pub fn check_unchanged(&self) {
        assert!(self.memory == self.before, "the library wrote what it must not");
    }

    /// Nothing was written beside the buffer, and after a failure nothing in it either.
    pub fn check(&self, succeeded: bool) {
        if !succeeded {
            return self.check_unchanged();
        }
        let end = self.start + self.length;
        let (before, behind) = (&self.memory[..self.start], &self.memory[end..]);
        assert!(before.iter().chain(behind).all(|&b| b == CANARY), "written beside a buffer");
    }

    /// The contents.
    pub fn values<T: Copy>(&self) -> Vec<T> {
        let first = self.memory[self.start..].as_ptr().cast::<T>();
        (0..self.length / size_of::<T>()).map(|i| unsafe { first.add(i).read() }).collect()
    }

    /// The contents from element `first` on are canaries still.
    pub fn check_unwritten_from<T>(&self, first: usize) {
        let rest = self.start + first * size_of::<T>()..self.start + self.length;
        assert!(self.memory[rest].iter().all(|&b| b == CANARY), "more was written than needed");
    }
}
