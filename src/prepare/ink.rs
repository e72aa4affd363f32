//! What on the paper is ink: the connected parts of what is lighter or darker than it, without what lies at the
//! picture's edges and without specks.

/// Cells that a glyph's longer side has at least. Less is noise, or too little to read.
const SMALLEST: usize = 4;

/// A part with less than this share of the heaviest one's mass is a speck.
const SPECK: i64 = 16;

/// Cells in one row, `start..end`, that are ink.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub row: usize,
    pub start: usize,
    pub end: usize,
    part: usize,
}

/// Cells that are connected, diagonally too.
#[derive(Clone, Copy, Debug)]
struct Part {
    mass: i64,
    top: usize,
    bottom: usize,
    left: usize,
    right: usize,
    /// Cells at the upper, lower, left and right edge.
    at_edges: [usize; 4],
    kept: bool,
}

/// Ink of one polarity.
#[derive(Default)]
pub struct Ink {
    /// In the order of rows, and in a row from the left.
    pub runs: Vec<Run>,
    /// Sum of the differences to the paper.
    pub mass: i64,
    parts: Vec<Part>,
    parents: Vec<usize>,
}

/// Where no line of cells at the edge is ink all along.
#[derive(Clone, Copy)]
struct Inside {
    top: usize,
    bottom: usize,
    left: usize,
    right: usize,
}

impl Ink {
    /// Finds the ink in differences to the paper (height, width): those above `threshold`, times `sign`.
    pub fn find(
        &mut self,
        differences: &[i16],
        [height, width]: [usize; 2],
        sign: i16,
        threshold: i16,
    ) {
        let is_ink = |y: usize, x: usize| sign * differences[y * width + x] > threshold;
        self.runs.clear();
        self.parents.clear();
        self.mass = 0;
        let inside = Inside::new([height, width], is_ink);
        let mut above = 0..0;
        for row in inside.top..inside.bottom {
            let line = &differences[row * width..][inside.left..inside.right];
            let first = self.runs.len();
            // Most rows of most pictures have no ink, which is seen much faster than where it is.
            if line.iter().fold(false, |any, &d| any | (sign * d > threshold)) {
                self.runs_of(row, inside.left, line, |d| sign * d > threshold);
            }
            self.join(above.clone(), first);
            above = first..self.runs.len();
        }
        self.measure(differences, width, sign, inside);
        self.select(inside);
        let parts = &self.parts;
        self.runs.retain(|run| parts[run.part].kept);
        self.mass = parts.iter().filter(|part| part.kept).map(|part| part.mass).sum();
    }

    fn runs_of(&mut self, row: usize, left: usize, line: &[i16], is_ink: impl Fn(i16) -> bool) {
        let mut x = 0;
        while let Some(start) = line[x..].iter().position(|&d| is_ink(d)).map(|n| x + n) {
            let length = line[start..].iter().position(|&d| !is_ink(d));
            x = length.map_or(line.len(), |n| start + n);
            let part = self.parents.len();
            self.parents.push(part);
            self.runs.push(Run { row, start: left + start, end: left + x, part });
        }
    }

    /// Unites the runs from `first` on with those of the row above that they touch.
    fn join(&mut self, above: std::ops::Range<usize>, first: usize) {
        let (mut a, mut b) = (above.start, first);
        while a < above.end && b < self.runs.len() {
            let (upper, lower) = (self.runs[a], self.runs[b]);
            if upper.start <= lower.end && lower.start <= upper.end {
                let (upper, lower) = (self.root(upper.part), self.root(lower.part));
                self.parents[upper.max(lower)] = upper.min(lower);
            }
            if upper.end < lower.end { a += 1 } else { b += 1 }
        }
    }

    fn root(&mut self, mut part: usize) -> usize {
        while self.parents[part] != part {
            self.parents[part] = self.parents[self.parents[part]];
            part = self.parents[part];
        }
        part
    }

    fn measure(&mut self, differences: &[i16], width: usize, sign: i16, inside: Inside) {
        let none = Part {
            mass: 0,
            top: usize::MAX,
            bottom: 0,
            left: usize::MAX,
            right: 0,
            at_edges: [0; 4],
            kept: false,
        };
        self.parts.clear();
        self.parts.resize(self.parents.len(), none);
        for i in 0..self.runs.len() {
            let Run { row, start, end, part } = self.runs[i];
            let root = self.root(part);
            self.runs[i].part = root;
            let line = &differences[row * width..][start..end];
            let part = &mut self.parts[root];
            part.mass += line.iter().map(|&d| i64::from(sign * d)).sum::<i64>();
            part.top = part.top.min(row);
            part.bottom = part.bottom.max(row + 1);
            part.left = part.left.min(start);
            part.right = part.right.max(end);
            let horizontal = [row == inside.top, row + 1 == inside.bottom];
            let vertical = [start == inside.left, end == inside.right];
            for (edge, is_there) in horizontal.into_iter().enumerate() {
                part.at_edges[edge] += if is_there { end - start } else { 0 };
            }
            for (edge, is_there) in vertical.into_iter().enumerate() {
                part.at_edges[2 + edge] += usize::from(is_there);
            }
        }
    }

    /// Decides which parts are kept.
    fn select(&mut self, inside: Inside) {
        let (height, width) = (inside.bottom - inside.top, inside.right - inside.left);
        let lengths = [width, width, height, height];
        // A desk that the paper lies on, a shadow: along most of one edge, or a quarter of all.
        let is_border = |part: &Part| {
            let edges = part.at_edges.iter().zip(lengths);
            let (total, whole): (usize, usize) = (part.at_edges.iter().sum(), lengths.iter().sum());
            edges.into_iter().any(|(&at, length)| 10 * at >= 9 * length) || 4 * total >= whole
        };
        let size = |part: &Part| {
            part.bottom.saturating_sub(part.top).max(part.right.saturating_sub(part.left))
        };
        let is_large = |part: &&mut Part| size(part) >= SMALLEST;
        let mut parts: Vec<&mut Part> = self.parts.iter_mut().filter(is_large).collect();
        // A glyph that was cut out tightly may look like a border, but then there is nothing else.
        if parts.iter().any(|part| !is_border(part)) {
            parts.retain(|part| !is_border(part));
        }
        let touches = |part: &Part| part.at_edges.iter().any(|&at| at > 0);
        let Some(heaviest) = parts.iter().map(|part| part.mass).max() else { return };
        let is_inside =
            parts.iter().find(|part| part.mass == heaviest).is_some_and(|p| !touches(p));
        for part in parts {
            part.kept = part.mass * SPECK >= heaviest && !(is_inside && touches(part));
        }
    }
}

impl Inside {
    /// Peels off lines of which at least 19 of 20 cells are ink, from all edges at once, until none is.
    fn new([height, width]: [usize; 2], is_ink: impl Fn(usize, usize) -> bool) -> Self {
        let mut inside = Inside { top: 0, bottom: height, left: 0, right: width };
        while inside.top < inside.bottom && inside.left < inside.right {
            let Inside { top, bottom, left, right } = inside;
            let row = |y| 20 * (left..right).filter(|&x| is_ink(y, x)).count();
            let column = |x| 20 * (top..bottom).filter(|&y| is_ink(y, x)).count();
            let (across, down) = (19 * (right - left), 19 * (bottom - top));
            let peel = [
                row(top) >= across,
                row(bottom - 1) >= across,
                column(left) >= down,
                column(right - 1) >= down,
            ];
            if peel == [false; 4] {
                return inside;
            }
            let [t, b, l, r] = peel.map(usize::from);
            inside = Inside { top: top + t, bottom: bottom - b, left: left + l, right: right - r };
        }
        Inside { top: 0, bottom: 0, left: 0, right: 0 }
    }
}
