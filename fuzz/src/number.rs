//! Numbers that a fuzzer should not have to find byte by byte.

use arbitrary::{Arbitrary, Result, Unstructured};

/// One of the usual values, or now and then one of the odd ones.
pub fn pick<T: Copy>(u: &mut Unstructured, usual: &[T], odd: &[T]) -> Result<T> {
    let choice = u8::arbitrary(u)?;
    if choice < 252 { Ok(usual[usize::from(choice) % usual.len()]) } else { u.choose(odd).copied() }
}

/// A number to put in another one's place.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Number {
    /// The old one and a little more or less.
    Near(i8),
    /// A small one.
    Small(u8),
    /// A power of two, and a little more or less.
    Power(u8, i8),
    /// Any.
    Any(u64),
}

impl Number {
    /// What takes the place of `old`.
    pub fn instead_of(self, old: u64) -> u64 {
        match self {
            Number::Near(by) => old.wrapping_add_signed(i64::from(by)),
            Number::Small(value) => u64::from(value),
            Number::Power(bit, by) => (1u64 << (bit % 64)).wrapping_add_signed(i64::from(by)),
            Number::Any(value) => value,
        }
    }
}

/// A length in place of the one that a call needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// The one that is needed.
    Exact,
    /// Too short by so much.
    Less(u8),
    /// Longer by so much.
    More(u8),
    /// 0.
    Zero,
    /// More than a buffer can have, which the library must notice.
    Huge(usize),
}

/// Numbers of elements that no memory has, not of bytes either once an image has some.
const HUGE: [usize; 6] =
    [usize::MAX, isize::MAX as usize, 1 << 63, 1 << 62, (1 << 62) + 1, usize::MAX - 3];

impl<'a> Arbitrary<'a> for Length {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u8::arbitrary(u)? {
            0..=215 => Length::Exact,
            216..=231 => Length::Less(u8::arbitrary(u)?),
            232..=243 => Length::More(u8::arbitrary(u)?),
            244..=249 => Length::Zero,
            _ => Length::Huge(*u.choose(&HUGE)?),
        })
    }
}

impl Length {
    /// The length in place of `needed`.
    pub fn of(self, needed: usize) -> usize {
        match self {
            Length::Exact => needed,
            Length::Less(by) => needed.saturating_sub(usize::from(by)),
            Length::More(by) => needed + usize::from(by),
            Length::Zero => 0,
            Length::Huge(length) => length,
        }
    }

    /// Elements that a buffer really has when it is said to have as many as `of`.
    pub fn real(self, needed: usize) -> usize {
        if self.is_huge() { needed } else { self.of(needed) }
    }

    /// Whether no buffer can be so long.
    pub fn is_huge(self) -> bool {
        matches!(self, Length::Huge(_))
    }
}

/// A number of images.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub usize);

impl<'a> Arbitrary<'a> for Count {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Count(match u8::arbitrary(u)? {
            // Mostly few, which are quick.
            few @ 0..=199 => 1 + usize::from(few) % 4,
            many @ 200..=239 => 1 + usize::from(many) % 20,
            240..=247 => 0,
            _ => *u.choose(&HUGE)?,
        }))
    }
}

impl Count {
    /// Whether a call can be made with so many.
    pub fn is_right(self) -> bool {
        (1..=20).contains(&self.0)
    }

    /// Images that there really are.
    pub fn real(self) -> usize {
        if self.is_right() { self.0 } else { 1 }
    }
}
