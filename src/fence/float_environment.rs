//! The floating-point environment: Rust, and with it every result of ours, assumes the default one:
//! rounding to nearest, denormals as they are, no traps. A host may have set another one. So every
//! call computes in the default, as do the threads that are made in it, and gives the host's back.

#![allow(unsafe_code)]

use std::cell::Cell;

/// A CPU's control and status register.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Environment(u64);

#[cfg(target_arch = "x86_64")]
impl Environment {
    /// All exceptions masked.
    const DEFAULT: Environment = Environment(0x1f80);
    /// The rest is exceptions that have been seen.
    const CONTROL: u64 = 0xffc0;

    fn current() -> Self {
        let mut mxcsr = 0u32;
        // SAFETY: stores the register, and nothing else.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack)) };
        Environment(mxcsr.into())
    }

    fn set(self) {
        let mxcsr = self.0 as u32;
        // SAFETY: a value that the register had, or its default.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack)) };
    }
}

#[cfg(target_arch = "aarch64")]
impl Environment {
    const DEFAULT: Environment = Environment(0);
    const CONTROL: u64 = u64::MAX;

    fn current() -> Self {
        let mut fpcr = 0u64;
        // SAFETY: reads the register, and nothing else.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack)) };
        Environment(fpcr)
    }

    fn set(self) {
        // SAFETY: a value that the register had, or its default.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) self.0, options(nomem, nostack)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Environment {
    const DEFAULT: Environment = Environment(0);
    const CONTROL: u64 = 0;

    fn current() -> Self {
        Environment::DEFAULT
    }

    fn set(self) {}
}

thread_local! {
    /// Of the host, while a call of its is inside.
    static OF_HOST: Cell<Environment> = const { Cell::new(Environment::DEFAULT) };
}

/// While it lives, this thread has the default environment.
pub struct Inside {
    before: Environment,
    of_host: Environment,
}

impl Inside {
    pub fn enter() -> Self {
        let before = Environment::current();
        if before.0 & Environment::CONTROL != Environment::DEFAULT.0 {
            Environment::DEFAULT.set();
        }
        Inside { before, of_host: OF_HOST.replace(before) }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        OF_HOST.set(self.of_host);
        // With the exceptions that had been seen, not those of our computing.
        if Environment::current() != self.before {
            self.before.set();
        }
    }
}

/// While it lives, a call back to the host has the host's.
pub struct Outside(());

impl Outside {
    pub fn enter() -> Self {
        OF_HOST.get().set();
        Outside(())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        Environment::DEFAULT.set();
    }
}
