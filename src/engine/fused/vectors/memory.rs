//! Memory for vectors, aligned so that none lies across two cache lines, where it would load at half
//! speed, and cut into parts by those who use it.

#![allow(unsafe_code)]

use crate::allocation::reserve;
use crate::error::Result;
use pulp::bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};
use std::mem;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Floats of a cache line, which is also the longest vector.
const LINE: usize = 16;

// SAFETY: an array of floats that fills the line: zeros are a value of it.
unsafe impl Zeroable for Line {}
// SAFETY: the same, and any bytes are a value; no padding.
unsafe impl Pod for Line {}

#[derive(Default)]
pub struct Memory(Vec<Line>);

impl Memory {
    /// At least so many floats, all zero.
    pub fn zeros(floats: usize) -> Result<Self> {
        let mut lines = Vec::new();
        let count = floats.div_ceil(LINE);
        reserve(&mut lines, count)?;
        lines.resize(count, Line([0.0; LINE]));
        Ok(Memory(lines))
    }

    /// Makes it new, and zero, if it has not so many floats.
    pub fn grow(&mut self, floats: usize) -> Result<()> {
        if self.0.len() * LINE < floats {
            *self = Memory::zeros(floats)?;
        }
        Ok(())
    }

    #[inline(always)]
    pub fn get<V: Pod>(&self) -> &[V] {
        cast_slice(&self.0)
    }

    pub fn get_mut<V: Pod>(&mut self) -> &mut [V] {
        cast_slice_mut(&mut self.0)
    }
}

/// Cuts the first `n` elements off `rest`.
#[inline(always)]
pub fn take<'a, T>(rest: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let (first, later) = mem::take(rest).split_at_mut(n);
    *rest = later;
    first
}
