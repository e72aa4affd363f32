//! What can go wrong, once for both sides of the boundary: a stable code and a sentence.
//!
//! The codes are the `LENET_ERROR_...` constants of the header, so they are never renumbered; the
//! sentence names the argument, the index and the value. Nothing here prints.

use std::fmt;

/// Every kind of failure. The discriminants are the C constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    NullPointer = 1,
    InvalidArgument = 2,
    LabelOutOfRange = 3,
    NonFinite = 4,
    Diverged = 5,
    BufferTooSmall = 6,
    NotFound = 7,
    Io = 8,
    Format = 9,
    Corrupt = 10,
    Incompatible = 11,
    DeviceUnavailable = 12,
    Unsupported = 13,
    OutOfMemory = 14,
    Cancelled = 15,
    Busy = 16,
    Forked = 17,
    Internal = 18,
}

/// A failure: its code, and a message for the programmer who has to find the cause.
#[derive(Clone, Debug)]
pub struct Error {
    pub code: Code,
    pub message: String,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(Code::InvalidArgument, message)
    }

    /// A failed system call on `path`.
    pub fn io(action: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::OutOfMemory => Code::OutOfMemory,
            _ => Code::Io,
        };
        Error::new(code, format!("cannot {action} {}: {error}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Candle refuses only what this library should have checked before, so its errors are ours; but a
/// GPU's memory may be full, which candle has no code for.
impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let message = format!("candle: {error}");
        let full = ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"];
        let full = full.iter().any(|name| message.contains(name));
        Error::new(if full { Code::OutOfMemory } else { Code::Internal }, message)
    }
}
