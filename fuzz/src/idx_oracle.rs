//! What a pair of IDX files holds, by a parser of our own: simple, and sure that its input is small.

use flate2::bufread::GzDecoder;
use std::io::Read;

/// What images and labels say, both of them good.
pub struct Pair {
    pub n: usize,
    pub height: usize,
    pub width: usize,
    pub images: Vec<u8>,
    pub labels: Vec<u8>,
}

/// The dataset in two files, if there is one.
pub fn pair(images: &[u8], labels: &[u8]) -> Option<Pair> {
    let (sizes, images) = numbers(images)?;
    let [n, height, width] = match sizes.1[..] {
        [n, height, width] => [n, height, width],
        [n, 1, height, width] => [n, height, width],
        [n, height, width, 1] => [n, height, width],
        _ => return None,
    };
    let (sizes, labels) = numbers(labels)?;
    let column = match (sizes.0, &sizes.1[..]) {
        (_, [_]) | (_, [_, 1]) => 1,
        (0x0c, [_, 8]) => 8,
        _ => return None,
    };
    let labels: Vec<i64> = labels.into_iter().step_by(column).collect();
    let (images, labels) = (bytes(images)?, bytes(labels)?);
    (labels.len() == n).then_some(Pair { n, height, width, images, labels })
}

/// All of the numbers, if all are bytes.
fn bytes(numbers: Vec<i64>) -> Option<Vec<u8>> {
    numbers.into_iter().map(|x| u8::try_from(x).ok()).collect()
}

type Header = (u8, Vec<usize>);

/// Type and sizes, none of them 0, and all of the numbers, if there are as many as the sizes say.
fn numbers(file: &[u8]) -> Option<(Header, Vec<i64>)> {
    let unpacked = if file.starts_with(&[0x1f, 0x8b]) { gunzip(file)? } else { file.to_vec() };
    let (header, length) = header(&unpacked)?;
    let (code, sizes) = &header;
    let data = &unpacked[4 + 4 * sizes.len()..];
    if length == 0 || data.len() != length {
        return None;
    }
    let signed = *code != 8;
    let numbers = data.chunks(size(*code)?).map(|bytes| {
        let number = bytes.iter().fold(0, |number, &byte| number << 8 | i64::from(byte));
        let range = 1 << (8 * bytes.len());
        if signed && number >= range / 2 { number - range } else { number }
    });
    let numbers = numbers.collect();
    Some((header, numbers))
}

/// Bytes of a number, for the types that are read.
fn size(code: u8) -> Option<usize> {
    match code {
        8 | 9 => Some(1),
        0x0b => Some(2),
        0x0c => Some(4),
        _ => None,
    }
}

/// The header of a file that may be cut off behind it, and the bytes that should follow.
fn header(file: &[u8]) -> Option<(Header, usize)> {
    let (magic, rest) = file.split_at_checked(4)?;
    if magic[..2] != [0, 0] || !(1..=4).contains(&magic[3]) {
        return None;
    }
    let sizes = rest.get(..4 * usize::from(magic[3]))?;
    let sizes: Vec<usize> = sizes
        .chunks(4)
        .map(|bytes| bytes.iter().fold(0, |size, &byte| size << 8 | usize::from(byte)))
        .collect();
    let length = sizes.iter().try_fold(size(magic[2])?, |length, &d| length.checked_mul(d))?;
    Some(((magic[2], sizes), length))
}

/// One gzip member behind the other, then zeros or nothing. What is longer than it says is not
/// unpacked to its end: it is no IDX file, whatever comes.
fn gunzip(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut unpacked = Vec::new();
    while bytes.first().is_some_and(|&byte| byte != 0) {
        let mut member = GzDecoder::new(bytes);
        while (&mut member).take(1 << 16).read_to_end(&mut unpacked).ok()? > 0 {
            if let Some(((_, sizes), length)) = header(&unpacked) {
                let most = length.checked_add(4 + 4 * sizes.len())?;
                (unpacked.len() <= most).then_some(())?;
            } else if unpacked.len() > 4 + 4 * 4 {
                return None;
            }
        }
        bytes = member.into_inner();
    }
    bytes.iter().all(|&byte| byte == 0).then_some(unpacked)
}
