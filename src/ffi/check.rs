//! Raw pointers in, references out: the one place where C is believed, and how far.
//!
//! What can be checked is: NULL, alignment, sizes that overflow, struct sizes. What cannot, whether
//! a pointer really leads to as many elements as the caller says, is the contract of `lenet.h`.

use super::types::{LENET_PRESET_ACCURATE, LENET_PRESET_CLASSIC, LENET_PRESET_MODERN};
use crate::error::{Code, Error, Result};
use std::ffi::{CStr, c_char};
use std::mem::size_of;
use std::path::Path;

fn null(name: &str) -> Error {
    Error::new(Code::NullPointer, format!("{name} is NULL"))
}

fn check_pointer<T>(name: &str, pointer: *const T) -> Result<()> {
    if pointer.is_null() {
        return Err(null(name));
    }
    if !pointer.is_aligned() {
        let message = format!("{name} is not aligned to {} bytes", align_of::<T>());
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// A handle that the library made.
///
/// # Safety
/// `pointer` is NULL or leads to a live `T` that nobody changes or frees during `'a`.
pub unsafe fn handle<'a, T>(name: &str, pointer: *const T) -> Result<&'a T> {
    check_pointer(name, pointer)?;
    // SAFETY: not NULL and aligned (above), alive and shared (caller).
    Ok(unsafe { &*pointer })
}

/// A handle or a struct that may be missing.
///
/// # Safety
/// As `handle`.
pub unsafe fn optional_handle<'a, T>(name: &str, pointer: *const T) -> Result<Option<&'a T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise is the same.
    unsafe { handle(name, pointer) }.map(Some)
}

/// A buffer to read.
///
/// # Safety
/// `pointer` is NULL or leads to `length` elements that nobody writes during `'a`.
pub unsafe fn input<'a, T: Copy>(name: &str, pointer: *const T, length: usize) -> Result<&'a [T]> {
    check_pointer(name, pointer)?;
    check_bytes::<T>(name, length)?;
    // SAFETY: not NULL, aligned and no larger than a slice may be (above); readable (caller).
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

fn check_bytes<T>(name: &str, length: usize) -> Result<()> {
    match length.checked_mul(size_of::<T>()) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(Error::invalid(format!("{name} cannot have {length} elements"))),
    }
}

/// A buffer to write when nothing can fail any more.
pub struct Output<T> {
    pointer: *mut T,
    length: usize,
}

impl<T: Copy> Output<T> {
    /// Writes the first `values.len()` elements, at most as many as there is room for.
    pub fn write(&self, values: &[T]) {
        self.write_at(0, values);
    }

    /// The same from element `start` on.
    pub fn write_at(&self, start: usize, values: &[T]) {
        let start = start.min(self.length);
        let n = values.len().min(self.length - start);
        // SAFETY: `pointer` has room for `length` elements (`output`'s caller), `start + n` at most,
        // and `values` is the library's own memory, so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.pointer.add(start), n) };
    }
}

/// # Safety
/// `pointer` is NULL or leads to room for `length` elements until the output has been written.
pub unsafe fn output<T: Copy>(name: &str, pointer: *mut T, length: usize) -> Result<Output<T>> {
    check_pointer(name, pointer)?;
    check_bytes::<T>(name, length)?;
    Ok(Output { pointer, length })
}

/// # Safety
/// As `output`.
pub unsafe fn optional_output<T: Copy>(
    name: &str,
    pointer: *mut T,
    length: usize,
) -> Result<Option<Output<T>>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise is the same.
    unsafe { output(name, pointer, length) }.map(Some)
}

/// The caller's `length` must have room for `needed` elements.
pub fn check_capacity(name: &str, length: usize, needed: usize) -> Result<()> {
    if length >= needed {
        return Ok(());
    }
    let message = format!("{name} has room for {length}; {needed} are needed");
    Err(Error::new(Code::BufferTooSmall, message))
}

/// The caller's `length` must be exactly `expected` elements.
pub fn check_length(name: &str, length: usize, expected: usize) -> Result<()> {
    if length == expected {
        return Ok(());
    }
    Err(Error::invalid(format!("length of {name} is {length}; this model has {expected}")))
}

/// A UTF-8 path.
///
/// # Safety
/// `pointer` is NULL or leads to a string that ends in NUL and that nobody writes during `'a`.
pub unsafe fn path<'a>(name: &str, pointer: *const c_char) -> Result<&'a Path> {
    // SAFETY: the caller's promise is the same.
    let path = unsafe { text(name, pointer) }?;
    if path.is_empty() {
        return Err(Error::invalid(format!("{name} is empty")));
    }
    Ok(Path::new(path))
}

/// Gives the caller a text and the NUL behind it, and how many bytes these are; also when there are too many of them,
/// or when `pointer` is NULL and `capacity` 0 to ask for just that.
///
/// # Safety
/// `pointer` is NULL or leads to room for `capacity` bytes, `needed` is NULL or leads to a size.
pub unsafe fn write_text(
    name: &str,
    pointer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
    text: &str,
) -> Result<()> {
    // SAFETY: as above.
    let needed = unsafe { optional_output("needed", needed, 1) }?;
    let target = match &needed {
        Some(_) if pointer.is_null() && capacity == 0 => None,
        // SAFETY: as above.
        _ => Some(unsafe { output(name, pointer.cast::<u8>(), capacity) }?),
    };
    let length = text.len() + 1;
    if let Some(needed) = needed {
        needed.write(&[length]);
    }
    if let Some(target) = target {
        check_capacity(name, capacity, length)?;
        target.write(text.as_bytes());
        target.write_at(text.len(), &[0]);
    }
    Ok(())
}

/// UTF-8 of the caller's.
///
/// # Safety
/// As `path`.
pub unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Result<&'a str> {
    check_pointer(name, pointer)?;
    // SAFETY: not NULL (above); ends in NUL (caller).
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    std::str::from_utf8(bytes)
        .map_err(|e| Error::invalid(format!("{name} is not UTF-8 at byte {}", e.valid_up_to())))
}

/// A constant of the header: its number, its name, and what it stands for on this side.
pub type Constant<T> = (i32, &'static str, T);

/// What a number from C, signed or not, stands for.
pub fn constant<T: Copy>(name: &str, value: impl Into<i64>, known: &[Constant<T>]) -> Result<T> {
    let value = value.into();
    if let Some((_, _, meaning)) = known.iter().find(|(number, ..)| i64::from(*number) == value) {
        return Ok(*meaning);
    }
    let names: Vec<String> =
        known.iter().map(|(number, name, _)| format!("{name} ({number})")).collect();
    Err(Error::invalid(format!("{name} is {value}; it must be {}", names.join(" or "))))
}

/// The number of what stands in the table.
pub fn number<T: PartialEq>(meaning: T, known: &[Constant<T>]) -> i32 {
    known.iter().find(|(_, _, m)| *m == meaning).map_or(-1, |(number, _, _)| *number)
}

/// The values of a LENET_PRESET_ constant.
pub fn preset<T: Copy>(preset: i32, classic: T, modern: T, accurate: T) -> Result<T> {
    constant(
        "preset",
        preset,
        &[
            (LENET_PRESET_CLASSIC, "LENET_PRESET_CLASSIC", classic),
            (LENET_PRESET_MODERN, "LENET_PRESET_MODERN", modern),
            (LENET_PRESET_ACCURATE, "LENET_PRESET_ACCURATE", accurate),
        ],
    )
}

/// A struct of the API that says its own size, so that it can grow at the end.
///
/// # Safety
/// `repr(C)` without padding, first field `struct_size: u32`, and any bytes are a valid value.
pub unsafe trait VersionedStruct: Copy {
    const NAME: &'static str;
    /// Where each field begins: a caller's older struct ends at one of them.
    const OFFSETS: &'static [usize];
}

/// A larger size than this is a struct that was not initialised.
const MAX_STRUCT: usize = 4096;

/// Checks a size that the caller states for a `T`.
pub fn check_struct_size<T: VersionedStruct>(size: usize) -> Result<()> {
    let known = size >= size_of::<T>() || T::OFFSETS[1..].contains(&size);
    if known && size <= MAX_STRUCT {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "struct_size of {} is {size}; this library's is {}",
        T::NAME,
        size_of::<T>()
    )))
}

/// The size that `*pointer` states, checked, as are the bytes past what this library knows: a
/// newer caller may use them only with a newer library.
///
/// # Safety
/// `pointer` is NULL or leads to as many readable bytes as its first four say, and at least four.
unsafe fn struct_size<T: VersionedStruct>(name: &str, pointer: *const T) -> Result<usize> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: four readable bytes (caller), read without asking for alignment.
    let size = unsafe { pointer.cast::<u32>().read_unaligned() } as usize;
    check_struct_size::<T>(size)?;
    for at in size_of::<T>()..size {
        // SAFETY: `at` is below the struct's own size (caller), bytes have no alignment.
        let byte = unsafe { pointer.cast::<u8>().add(at).read() };
        if byte != 0 {
            return Err(Error::invalid(format!(
                "{name} sets byte {at}, in a field that this library does not know"
            )));
        }
    }
    Ok(size)
}

/// A struct to read: what the caller's older struct lacks comes from `defaults`.
///
/// # Safety
/// `pointer` is NULL or leads to as many readable bytes as its first four say, and at least four.
pub unsafe fn input_struct<T: VersionedStruct>(
    name: &str,
    pointer: *const T,
    defaults: T,
) -> Result<T> {
    // SAFETY: the caller's promise is the same.
    let size = unsafe { struct_size(name, pointer) }?;
    let mut value = defaults;
    let known = size.min(size_of::<T>());
    // SAFETY: `known` is within both structs, and any bytes are a valid `T` (trait).
    unsafe {
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut value).cast::<u8>(), known);
    }
    Ok(value)
}

/// A struct to write when nothing can fail any more.
pub struct OutputStruct<T> {
    pointer: *mut T,
    size: usize,
}

impl<T: VersionedStruct> OutputStruct<T> {
    /// Writes the fields that the caller's struct has; its `struct_size` stays.
    pub fn write(&self, value: &T) {
        let known = self.size.min(size_of::<T>());
        let first = size_of::<u32>();
        // SAFETY: `first..known` is within both structs: at least four bytes and at most `size` of
        // the caller's are writable (`output_struct`'s caller).
        unsafe {
            std::ptr::copy_nonoverlapping(
                std::ptr::from_ref(value).cast::<u8>().add(first),
                self.pointer.cast::<u8>().add(first),
                known - first,
            );
        }
    }
}

/// # Safety
/// `pointer` is NULL or leads to as many writable bytes as its first four say, and at least four,
/// until the output has been written.
pub unsafe fn output_struct<T: VersionedStruct>(
    name: &str,
    pointer: *mut T,
) -> Result<OutputStruct<T>> {
    // SAFETY: the caller's promise is the same.
    let size = unsafe { struct_size(name, pointer.cast_const()) }?;
    Ok(OutputStruct { pointer, size })
}

/// The same, or None for NULL.
///
/// # Safety
/// As for `output_struct`.
pub unsafe fn optional_output_struct<T: VersionedStruct>(
    name: &str,
    pointer: *mut T,
) -> Result<Option<OutputStruct<T>>> {
    // SAFETY: the caller's promise is the same.
    (!pointer.is_null()).then(|| unsafe { output_struct(name, pointer) }).transpose()
}

/// Fills in a struct of `size` bytes whose contents say nothing yet: what this library knows, its
/// size, and zeros.
///
/// # Safety
/// `pointer` is NULL or leads to `size` writable bytes; `check_struct_size` has passed.
pub unsafe fn init_struct<T: VersionedStruct>(
    name: &str,
    pointer: *mut T,
    size: usize,
    value: &T,
) -> Result<()> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: `size` is at least that of `struct_size` (checked) and writable (caller).
    unsafe {
        pointer.cast::<u8>().write_bytes(0, size);
        pointer.cast::<u32>().write_unaligned(size as u32);
    }
    OutputStruct { pointer, size }.write(value);
    Ok(())
}
