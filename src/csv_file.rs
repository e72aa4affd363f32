//! CSV files of images, plain or gzipped, as Kaggle gives MNIST and its kin: a row an image, its label and then its
//! pixels from 0 to 255, row by row.
//!
//! A file is read line by line, and of a line no more than such a row can have, so memory grows with the rows that are
//! good. Everything else is refused by line, column and value: a dataset that was read wrongly trains too.

use crate::durable_file;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::file_kind;
use crate::gzip::{self, is_bad_data};
use csv_core::{ReadFieldResult, Reader, ReaderBuilder};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// What the rows say, at least one of them.
#[derive(Debug, Default)]
pub struct Rows {
    pub pixels: Vec<u8>,
    pub labels: Vec<u8>,
}

/// Rows of a label and `size` pixels.
pub fn read(path: &Path, size: usize) -> Result<Rows> {
    let mut file = BufReader::with_capacity(BUFFER, durable_file::open(path)?);
    let start = file.fill_buf().map_err(|e| Error::io("read", path, &e))?;
    if start.starts_with(gzip::MARK) {
        parse(BufReader::with_capacity(BUFFER, gzip::Members::new(file)), path, size)
    } else {
        parse(file, path, size)
    }
}

const BUFFER: usize = 1 << 16;
/// Bytes that a field may have. A number has 25 at most, as NumPy writes floats; a heading's name may be longer.
const MAX_FIELD: usize = 256;
/// What spreadsheets and programs write between fields.
const SEPARATORS: [u8; 3] = *b",;\t";
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
/// Names of a label's column, in small letters.
const LABEL_NAMES: [&[u8]; 5] = [b"label", b"labels", b"class", b"target", b"y"];

fn parse(mut reader: impl BufRead, path: &Path, size: usize) -> Result<Rows> {
    let mut place = Place { path, line: 0, size };
    let (mut rows, mut scale) = (Rows::default(), Scale::default());
    let (mut line, mut fields) = (Vec::new(), None);
    while place.next_line(&mut reader, &mut line)? {
        let line = match place.line {
            1 => line.strip_prefix(UTF8_MARK).unwrap_or(&line),
            _ => &line,
        };
        if line.trim_ascii().is_empty() {
            continue;
        }
        if fields.is_none() {
            place.check_kind(line)?;
            let fields = fields.insert(Fields::new(line));
            if place.is_heading(fields, line)? {
                continue;
            }
        }
        if let Some(fields) = &mut fields {
            place.row(fields, line, &mut rows, &mut scale)?;
        }
        failpoint::point();
    }
    if rows.labels.is_empty() {
        return Err(place.error(Code::Format, "has no row with an image"));
    }
    if scale.has_point && scale.largest <= 1 {
        let why = "has pixels with a decimal point and none above 1, where 255 is white; multiply them by 255";
        return Err(place.error(Code::Format, why));
    }
    Ok(rows)
}

/// What tells bytes from numbers that were divided by 255.
#[derive(Clone, Copy, Default)]
struct Scale {
    has_point: bool,
    largest: u8,
}

/// Where the reader is, for messages, and what a row must have there.
struct Place<'a> {
    path: &'a Path,
    /// From 1.
    line: u64,
    /// Pixels of an image.
    size: usize,
}

impl Place<'_> {
    /// The next line, without what ends it; false behind the last one.
    fn next_line(&mut self, reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
        line.clear();
        self.line += 1;
        let limit = (self.size as u64 + 1).saturating_mul(MAX_FIELD as u64);
        match reader.take(limit).read_until(b'\n', line) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(e) if is_bad_data(&e) => return Err(self.error(Code::Corrupt, e)),
            // Not covered: a disk that fails after the file's first bytes.
            Err(e) => return Err(Error::io("read", self.path, &e)),
        }
        if !line.ends_with(b"\n") && line.len() as u64 == limit {
            let why = format!("line {} is longer than {limit} bytes", self.line);
            return Err(self.error(Code::Format, why));
        }
        while line.last().is_some_and(|end| b"\r\n".contains(end)) {
            line.pop();
        }
        Ok(true)
    }

    /// Refuses, by what it is, a file that is no text, or text of another kind.
    fn check_kind(&self, line: &[u8]) -> Result<()> {
        let start = &line[..line.len().min(file_kind::LENGTH)];
        let is_text = start.iter().all(|&b| b >= b' ' && b != 0x7f || b.is_ascii_whitespace());
        let seems = match file_kind::of(start) {
            None | Some("a CSV file" | "text") if is_text => return Ok(()),
            seems => seems.unwrap_or("no text"),
        };
        Err(self.error(Code::Format, format!("not a CSV file: {seems}")))
    }

    /// Whether the first line names the columns. One that names others than are read is refused.
    fn is_heading(&self, fields: &mut Fields, line: &[u8]) -> Result<bool> {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        let (mut names, mut counts_up) = (true, true);
        let count = fields.each(line, &mut |column, field| {
            let (Field::Whole(field) | Field::TooLong(field)) = field;
            // A row may have a faulty value; a heading begins with two names.
            names &= column > 2 || matches!(Number::read(field), Number::None);
            counts_up &= field == (column - 1).to_string().as_bytes();
            last = field.to_ascii_lowercase();
            if column == 1 {
                first = last.clone();
            }
            Ok(())
        })?;
        // pandas calls columns that have no names 0, 1, 2 and so on, which is no image where it passes 255.
        let is_heading = names || (counts_up && count > 256);
        if !is_heading {
            return Ok(false);
        }
        let is_label = |name: &[u8]| LABEL_NAMES.contains(&name);
        if count > 1 && is_label(&last) && !is_label(&first) {
            let last = shown(&last);
            let why = format!("the heading has {last} last; the label must be the first column");
            return Err(self.error(Code::Format, why));
        }
        if count == self.size + 1 { Ok(true) } else { Err(self.columns(count)) }
    }

    fn row(
        &self,
        fields: &mut Fields,
        line: &[u8],
        rows: &mut Rows,
        scale: &mut Scale,
    ) -> Result<()> {
        let length = rows.pixels.len().saturating_add(self.size);
        let refused = |_| self.error(Code::OutOfMemory, format!("cannot allocate {length} bytes"));
        // Room for more than one row: else each would move all before it.
        rows.pixels.try_reserve(self.size).map_err(refused)?;
        rows.labels.try_reserve(1).map_err(refused)?;
        let count = fields.each(line, &mut |column, field| {
            let field = match field {
                Field::Whole(field) => field,
                Field::TooLong(start) => {
                    let why = format!("begins with {} and is too long", shown(start));
                    return Err(self.column(column, Code::Format, why));
                }
            };
            match Number::read(field) {
                Number::Byte { value, .. } if column == 1 => rows.labels.push(value),
                Number::Byte { value, has_point } if column <= self.size + 1 => {
                    scale.has_point |= has_point;
                    scale.largest = scale.largest.max(value);
                    rows.pixels.push(value);
                }
                Number::Byte { .. } => {}
                number => return Err(self.refused(column, field, number)),
            }
            Ok(())
        })?;
        if count == self.size + 1 { Ok(()) } else { Err(self.columns(count)) }
    }

    /// Why what stands in a column is no label or no pixel.
    fn refused(&self, column: usize, field: &[u8], number: Number) -> Error {
        let field = if field.is_empty() { "empty".into() } else { shown(field) };
        let (code, must) = match (column, number) {
            (1, Number::Other(_)) => {
                (Code::LabelOutOfRange, "a label is a whole number from 0 to 255")
            }
            (1, _) => (Code::Format, "a label is a whole number from 0 to 255"),
            (_, Number::Other(x)) if 0.0 < x && x < 1.0 => (
                Code::Format,
                "a pixel is a whole number from 0 to 255; multiply pixels from 0 to 1 by 255",
            ),
            _ => (Code::Format, "a pixel is a whole number from 0 to 255"),
        };
        self.column(column, code, format!("is {field}; {must}"))
    }

    fn column(&self, column: usize, code: Code, why: String) -> Error {
        self.error(code, format!("line {}, column {column} {why}", self.line))
    }

    fn columns(&self, count: usize) -> Error {
        let (line, size) = (self.line, self.size);
        let why = format!(
            "line {line} has {count} columns, not {}: a label and {size} pixels",
            size.saturating_add(1)
        );
        self.error(Code::Format, why)
    }

    fn error(&self, code: Code, why: impl std::fmt::Display) -> Error {
        Error::new(code, format!("{}: {why}", self.path.display()))
    }
}

/// A field's beginning, as a message shows it.
fn shown(field: &[u8]) -> String {
    const MOST: usize = 40;
    let text = String::from_utf8_lossy(&field[..field.len().min(MOST)]);
    let more = if field.len() > MOST { "..." } else { "" };
    format!("{text}{more}")
}

/// A field without spaces round it, nor quotes that have stayed because they come after a space.
fn bare(field: &[u8]) -> &[u8] {
    match field.trim_ascii() {
        [b'"', quoted @ .., b'"'] => quoted.trim_ascii(),
        field => field,
    }
}

/// What stands in a field.
#[derive(Clone, Copy)]
enum Number {
    Byte {
        value: u8,
        has_point: bool,
    },
    /// A number, but no byte.
    Other(f64),
    None,
}

impl Number {
    fn read(field: &[u8]) -> Number {
        if let b"" | [_, _, _, _, ..] = field {
            return Number::of_text(field);
        }
        let digits = field.iter().try_fold(0u32, |value, byte| {
            byte.is_ascii_digit().then(|| 10 * value + u32::from(byte - b'0'))
        });
        match digits.map(u8::try_from) {
            Some(Ok(value)) => Number::Byte { value, has_point: false },
            _ => Number::of_text(field),
        }
    }

    /// Also what pandas and NumPy make of bytes that were floats for a while: 12.0 and 1.2e+01.
    fn of_text(field: &[u8]) -> Number {
        let text = std::str::from_utf8(field).unwrap_or_default();
        match text.parse::<f64>() {
            Ok(x) if (0.0..=255.0).contains(&x) && x.fract() == 0.0 => {
                Number::Byte { value: x as u8, has_point: field.contains(&b'.') }
            }
            Ok(x) => Number::Other(x),
            Err(_) => Number::None,
        }
    }
}

/// Takes lines apart.
struct Fields {
    reader: Reader,
    buffer: [u8; MAX_FIELD],
}

enum Field<'a> {
    /// Without spaces and quotes round it.
    Whole(&'a [u8]),
    /// Its first bytes.
    TooLong(&'a [u8]),
}

impl Fields {
    /// For lines like this, whose fields are divided by whichever it has most of.
    fn new(line: &[u8]) -> Self {
        let count = |separator: u8| line.iter().filter(|&&byte| byte == separator).count();
        let separator = SEPARATORS.into_iter().rev().max_by_key(|&separator| count(separator));
        let reader = ReaderBuilder::new().delimiter(separator.unwrap_or(b',')).build();
        Fields { reader, buffer: [0; MAX_FIELD] }
    }

    /// Gives `each` the columns, from 1, and what stands there; their number.
    fn each(
        &mut self,
        line: &[u8],
        each: &mut dyn FnMut(usize, Field) -> Result<()>,
    ) -> Result<usize> {
        self.reader.reset();
        let (mut rest, mut column, mut length) = (line, 1, 0);
        let mut too_long = false;
        loop {
            // A line that has been given whole is ended by one more call, with nothing.
            let (result, read, written) = self.reader.read_field(rest, &mut self.buffer[length..]);
            rest = &rest[read..];
            length += written;
            match result {
                ReadFieldResult::InputEmpty => {}
                ReadFieldResult::OutputFull => {
                    if !too_long {
                        each(column, Field::TooLong(&self.buffer))?;
                    }
                    (too_long, length) = (true, 0);
                }
                ReadFieldResult::Field { record_end } => {
                    if !too_long {
                        each(column, Field::Whole(bare(&self.buffer[..length])))?;
                    }
                    if record_end {
                        return Ok(column);
                    }
                    (too_long, length) = (false, 0);
                    column += 1;
                }
                // Not covered: a line that is not empty has a field.
                ReadFieldResult::End => return Ok(column - 1),
            }
        }
    }
}
