//! CSV files of images: well written in every way that is read, and damaged.
//!
//! What must hold: a file without damage reads back as what was written; with some it ends with a documented
//! status, and what opens has images of the size that was asked for.

use crate::expect::Expect;
use crate::idx_file::gzip;
use crate::support::{self, Dataset};
use crate::unnamed::Unnamed;
use arbitrary::Arbitrary;
use lenet::ffi::*;
use std::cell::RefCell;
use std::ptr::null_mut;

/// Rows, how they are written, and what is wrong then.
#[derive(Arbitrary, Debug)]
pub struct Input {
    height: u8,
    width: u8,
    rows: Vec<Row>,
    style: Style,
    damage: Vec<Damage>,
}

#[derive(Arbitrary, Debug)]
struct Row {
    label: u8,
    seed: u8,
}

#[derive(Arbitrary, Debug)]
struct Style {
    separator: u8,
    heading: bool,
    mark: bool,
    quotes: bool,
    spaces: bool,
    point: bool,
    crlf: bool,
    empty_lines: bool,
    gzip: bool,
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Byte { at: u16, byte: u8 },
    Insert { at: u16, text: Vec<u8> },
    Remove { at: u16 },
    Truncate(u16),
}

thread_local! {
    static FILE: RefCell<Unnamed> = RefCell::new(Unnamed::new());
}

impl Input {
    /// Opens the file and checks what comes of it.
    pub fn run(self) {
        let (height, width) = (u32::from(self.height % 5) + 1, u32::from(self.width % 5) + 1);
        let size = (height * width) as usize;
        let rows = &self.rows[..self.rows.len().min(20)];
        let labels: Vec<u8> = rows.iter().map(|row| row.label).collect();
        let pixels: Vec<u8> = rows
            .iter()
            .flat_map(|row| (0..size).map(|i| (i as u8).wrapping_mul(row.seed | 1)))
            .collect();
        let mut text = self.style.write(&labels, &pixels, size);
        let damage = &self.damage[..self.damage.len().min(4)];
        damage.iter().for_each(|damage| damage.apply(&mut text));
        let file = if self.style.gzip { gzip(&text, 6) } else { text };
        // Few values may be what those of 0 to 1 look like.
        let scaled = self.style.point && pixels.iter().all(|&pixel| pixel <= 1);
        let whole = damage.is_empty();
        let dataset = FILE.with_borrow_mut(|place| {
            place.write(&file);
            open(place, height, width, whole && (labels.is_empty() || scaled), whole)
        });
        let Some(dataset) = dataset else { return };
        assert_eq!(dataset.size(), (height, width));
        let read = dataset.read(0, dataset.count());
        assert!(!whole || read == (pixels, labels));
    }
}

impl Style {
    fn write(&self, labels: &[u8], pixels: &[u8], size: usize) -> Vec<u8> {
        let separator = [",", ";", "\t"][usize::from(self.separator % 3)];
        let space = if self.spaces { " " } else { "" };
        let separator = format!("{space}{separator}{space}");
        let end = if self.crlf { "\r\n" } else { "\n" };
        let empty = if self.empty_lines { end } else { "" };
        let quoted = |text: String| if self.quotes { format!("\"{text}\"") } else { text };
        let mut text = if self.mark { String::from("\u{feff}") } else { String::new() };
        if self.heading {
            let names = (0..=size).map(|i| quoted(format!("column{i}")));
            text += &(names.collect::<Vec<_>>().join(&separator) + end + empty);
        }
        for (label, row) in labels.iter().zip(pixels.chunks(size)) {
            let point = if self.point { ".0" } else { "" };
            let numbers = [label].into_iter().chain(row).map(|n| quoted(format!("{n}{point}")));
            text += &(numbers.collect::<Vec<_>>().join(&separator) + end + empty);
        }
        text.into_bytes()
    }
}

impl Damage {
    fn apply(&self, text: &mut Vec<u8>) {
        let place = |at: &u16| usize::from(*at) % text.len().max(1);
        match self {
            Damage::Byte { at, byte } => {
                let at = place(at);
                text.get_mut(at).into_iter().for_each(|place| *place = *byte);
            }
            Damage::Insert { at, text: more } => {
                let at = place(at).min(text.len());
                text.splice(at..at, more.iter().copied().take(300));
            }
            Damage::Remove { at } => {
                let at = place(at);
                if at < text.len() {
                    text.remove(at);
                }
            }
            Damage::Truncate(keep) => text.truncate(usize::from(*keep)),
        }
    }
}

/// Opens the file, which must or must not be refused, or may be.
fn open(file: &Unnamed, height: u32, width: u32, bad: bool, whole: bool) -> Option<Dataset> {
    let path = support::c_path(file.path());
    let mut dataset = null_mut();
    let status = unsafe { lenet_dataset_open_csv(path.as_ptr(), height, width, &mut dataset) };
    let mut expect = Expect::default().wrong(bad, LENET_ERROR_FORMAT);
    for error in [LENET_ERROR_FORMAT, LENET_ERROR_LABEL_OUT_OF_RANGE] {
        expect = expect.possible(!whole, error);
    }
    if expect.check("lenet_dataset_open_csv", status) {
        return Some(Dataset(dataset));
    }
    assert!(dataset.is_null(), "a refused open has written its output");
    None
}
