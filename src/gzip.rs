//! Gzip data, as it lies in files: several members, and what may follow them.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, ErrorKind, Read};

/// What it begins with.
pub const MARK: &[u8] = &[0x1f, 0x8b];

/// The contents of gzip members, one behind the other; behind the last one there may be zeros, which
/// fill the block of a tape or a disk. Like gunzip, but what else is there is an error.
pub struct Members<R> {
    member: Member<R>,
}

enum Member<R> {
    Inside { decoder: GzDecoder<R>, first: bool },
    Behind,
}

impl<R: BufRead> Members<R> {
    pub fn new(reader: R) -> Self {
        Members { member: Member::Inside { decoder: GzDecoder::new(reader), first: true } }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let Member::Inside { decoder, first } = &mut self.member else { return Ok(0) };
            match decoder.read(out) {
                // A member's header follows, or something that begins like one.
                Err(e) if !*first && decoder.header().is_none() && is_bad_data(&e) => {
                    return Err(surplus());
                }
                Ok(0) if !out.is_empty() => {}
                other => return other,
            }
            let Member::Inside { decoder, .. } =
                std::mem::replace(&mut self.member, Member::Behind)
            else {
                return Ok(0);
            };
            let mut rest = decoder.into_inner();
            match first_byte(&mut rest)? {
                None => {}
                Some(byte) if byte == MARK[0] => {
                    let decoder = GzDecoder::new(rest);
                    self.member = Member::Inside { decoder, first: false };
                }
                Some(_) => skip_zeros(rest)?,
            }
        }
    }
}

fn first_byte(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        match reader.fill_buf() {
            Ok(bytes) => return Ok(bytes.first().copied()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn skip_zeros(reader: impl BufRead) -> io::Result<()> {
    for byte in reader.bytes() {
        if byte? != 0 {
            return Err(surplus());
        }
    }
    Ok(())
}

fn surplus() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "has other bytes than zeros behind its gzip data")
}

/// Whether what was read is at fault, and not reading it.
pub fn is_bad_data(error: &io::Error) -> bool {
    use ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}
