//! What pictures become: the same as by a plain reference (tests/prepare), to one grey level; whatever their format,
//! stride, size and place; and the same from any number of threads.

// What each pointer must be is said in lenet.h; here it always comes from a live slice or handle.
#![allow(clippy::undocumented_unsafe_blocks)]

mod support;

use lenet::ffi::*;
use safetensors::SafeTensors;
use support::{Model, name, ok, preset, refused};

/// A picture of the test's own.
#[derive(Clone)]
struct Picture {
    format: i32,
    height: usize,
    width: usize,
    stride: usize,
    pixels: Vec<u8>,
}

impl Picture {
    fn gray(height: usize, width: usize, value: impl Fn(usize, usize) -> u8) -> Picture {
        let pixels = (0..height * width).map(|i| value(i / width, i % width)).collect();
        Picture { format: LENET_FORMAT_GRAY8, height, width, stride: 0, pixels }
    }

    fn image(&self) -> lenet_image {
        lenet_image {
            struct_size: size_of::<lenet_image>() as u32,
            format: self.format,
            height: self.height as u32,
            width: self.width as u32,
            stride: self.stride,
            pixels: self.pixels.as_ptr(),
        }
    }

    /// The same pixels with others' bytes between the rows, ending with the last row's last pixel.
    fn strided(&self, padding: usize) -> Picture {
        let row = self.pixels.len() / self.height;
        let mut pixels: Vec<u8> = self
            .pixels
            .chunks(row)
            .flat_map(|pixels| pixels.iter().copied().chain((0..padding).map(|i| i as u8)))
            .collect();
        pixels.truncate(pixels.len() - padding);
        Picture { stride: row + padding, pixels, ..self.clone() }
    }

    /// A gray picture in another format, opaque.
    fn as_format(&self, format: i32) -> Picture {
        let channels = [1, 3, 3, 4, 4][format as usize];
        let colour = |&gray: &u8| [gray, gray, gray, 255].into_iter().take(channels);
        let pixels = self.pixels.iter().flat_map(colour).collect();
        Picture { format, pixels, ..self.clone() }
    }
}

fn model(preparation: i32, height: u32, width: u32) -> Model {
    let modern = preset(LENET_PRESET_MODERN);
    Model::create(&lenet_options { preparation, height, width, num_threads: 1, ..modern })
}

fn try_prepare(model: &Model, picture: &Picture) -> Result<Vec<u8>, lenet_status> {
    let options = model.options();
    let mut out = vec![0xa5; (options.height * options.width) as usize];
    let image = picture.image();
    match unsafe { lenet_prepare_image(model.0, &image, out.as_mut_ptr(), out.len()) } {
        LENET_OK => Ok(out),
        status => {
            assert!(out.iter().all(|&byte| byte == 0xa5), "a refused picture was written");
            Err(status)
        }
    }
}

#[track_caller]
fn prepare(model: &Model, picture: &Picture) -> Vec<u8> {
    try_prepare(model, picture)
        .unwrap_or_else(|status| panic!("{}: {}", name(status), support::last_error()))
}

/// By preparation and size, what a picture becomes.
type Expected = Vec<(i32, [u32; 2], Vec<u8>)>;

fn reference() -> Vec<(String, Picture, Expected)> {
    let bytes = include_bytes!("prepare/cases.safetensors");
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let mut names: Vec<&str> = tensors.names();
    names.sort_unstable();
    let pictures = names.iter().filter_map(|name| name.strip_suffix("/picture"));
    let case = |name: &str| {
        let tensor = tensors.tensor(&format!("{name}/picture")).unwrap();
        let (shape, pixels) = (tensor.shape(), tensor.data().to_vec());
        let format = match shape.get(2) {
            None => LENET_FORMAT_GRAY8,
            Some(3) => LENET_FORMAT_RGB8,
            _ => LENET_FORMAT_RGBA8,
        };
        let picture = Picture { format, height: shape[0], width: shape[1], stride: 0, pixels };
        let expected = [("resize", LENET_PREPARE_RESIZE), ("glyph", LENET_PREPARE_GLYPH)];
        let expected = expected.iter().flat_map(|&(word, preparation)| {
            [[28, 28], [32, 48]].map(|[height, width]| {
                let key = format!("{name}/{word} {height}x{width}");
                let tensor = tensors.tensor(&key).unwrap_or_else(|e| panic!("{key}: {e}"));
                (preparation, [height, width], tensor.data().to_vec())
            })
        });
        (name.to_string(), picture, expected.collect())
    };
    pictures.map(case).collect()
}

#[test]
fn pictures_become_what_the_reference_makes_of_them() {
    let cases = reference();
    assert!(cases.len() >= 20, "{} cases", cases.len());
    for (name, picture, expected) in &cases {
        for (preparation, [height, width], expected) in expected {
            let model = model(*preparation, *height, *width);
            if *preparation == LENET_PREPARE_GLYPH {
                let bright = expected.iter().filter(|&&byte| byte > 100).count();
                assert!(bright > 20, "{name}: the reference sees nothing");
            }
            for picture in [picture, &picture.strided(5)] {
                let found = prepare(&model, picture);
                let worst = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst <= Some(1), "{name}, {preparation}, {height} x {width}: {worst:?}");
            }
        }
    }
}

/// Red, green and blue weigh as in BT.601, in every order of bytes, and transparent pixels lie before what is said.
#[test]
fn every_format_has_the_gray_of_its_colour() {
    let resize = model(LENET_PREPARE_RESIZE, 16, 16);
    let gray = |format: i32, pixel: &[u8]| {
        let pixels = pixel.repeat(16 * 16);
        let picture = Picture { format, height: 16, width: 16, stride: 0, pixels };
        let prepared = prepare(&resize, &picture);
        assert!(prepared.iter().all(|&byte| byte == prepared[0]), "{format}: {prepared:?}");
        prepared[0]
    };
    // Of the weights as decimals: 0.299 * 255 and so on.
    for (rgb, expected) in [
        ([255, 0, 0], 76),
        ([0, 255, 0], 150),
        ([0, 0, 255], 29),
        ([255, 255, 255], 255),
        ([10, 100, 200], 84),
        ([7, 7, 7], 7),
    ] {
        let [r, g, b] = rgb;
        assert_eq!(gray(LENET_FORMAT_RGB8, &rgb), expected, "{rgb:?}");
        assert_eq!(gray(LENET_FORMAT_BGR8, &[b, g, r]), expected, "{rgb:?}");
        assert_eq!(gray(LENET_FORMAT_RGBA8, &[r, g, b, 255]), expected, "{rgb:?}");
        assert_eq!(gray(LENET_FORMAT_BGRA8, &[b, g, r, 255]), expected, "{rgb:?}");
        let half = (u32::from(gray(LENET_FORMAT_RGB8, &rgb)) * 128 + 127) / 255;
        assert_eq!(u32::from(gray(LENET_FORMAT_BGRA8, &[b, g, r, 128])), half, "{rgb:?}");
        assert_eq!(gray(LENET_FORMAT_RGBA8, &[r, g, b, 0]), 0, "{rgb:?}");
    }
}

#[test]
fn a_glyph_is_the_same_in_every_format_and_colour_order() {
    let glyph = model(LENET_PREPARE_GLYPH, 28, 28);
    for (name, picture, _) in reference() {
        if picture.format == LENET_FORMAT_GRAY8 {
            let expected = prepare(&glyph, &picture);
            for format in LENET_FORMAT_GRAY8..=LENET_FORMAT_BGRA8 {
                let found = prepare(&glyph, &picture.as_format(format).strided(3));
                assert!(found == expected, "{name}, format {format}");
            }
        }
    }
}

/// A cross of light ink; where it is, how large and on what makes no difference.
#[test]
fn place_size_and_polarity_make_little_difference_to_a_glyph() {
    let glyph = model(LENET_PREPARE_GLYPH, 28, 28);
    let cross = |side: usize, at: [usize; 2], arm: usize, ink: u8, paper: u8| {
        Picture::gray(side, side, |y, x| {
            let (y, x) = (y.wrapping_sub(at[0]), x.wrapping_sub(at[1]));
            let inside = y < 5 * arm && x < 5 * arm;
            let on = (2 * arm..3 * arm).contains(&y) || (2 * arm..3 * arm).contains(&x);
            if inside && on { ink } else { paper }
        })
    };
    let expected = prepare(&glyph, &cross(28, [4, 4], 4, 255, 0));
    assert_eq!(expected.iter().filter(|&&byte| byte == 255).count(), 9 * 16);
    for (side, at, arm) in [(28, [8, 0], 4), (60, [1, 39], 4), (100, [20, 3], 8), (300, [9, 9], 4)]
    {
        for (ink, paper) in [(255, 0), (0, 255), (90, 140), (200, 60)] {
            let found = prepare(&glyph, &cross(side, at, arm, ink, paper));
            let differences = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
            // Halved, the edges of the arms are grey: an eighth of either side in each direction.
            let most = if arm == 4 { 0 } else { 64 };
            let worst = differences.max();
            assert!(worst <= Some(most), "{side}, {at:?}, {arm}, {ink} on {paper}: {worst:?}");
        }
    }
}

#[test]
fn a_picture_without_ink_is_said_to_be_one() {
    let glyph = model(LENET_PREPARE_GLYPH, 28, 28);
    let noisy = |y: usize, x: usize| 180 + (((y * 7919 + x * 104_729) % 1009) % 7) as u8;
    let speck = |y, x| if (y, x) == (9, 9) { 0 } else { 200 };
    for (what, picture) in [
        ("black", Picture::gray(28, 28, |_, _| 0)),
        ("white", Picture::gray(300, 200, |_, _| 255)),
        ("one pixel", Picture::gray(1, 1, |_, _| 77)),
        ("a row", Picture::gray(1, 5000, |_, _| 77)),
        ("a column", Picture::gray(5000, 1, |_, _| 77)),
        ("noise", Picture::gray(100, 100, noisy)),
        ("a speck", Picture::gray(50, 50, speck)),
        ("a slope", Picture::gray(90, 90, |y, x| (60 + y + x / 2) as u8)),
    ] {
        let status = try_prepare(&glyph, &picture).err().unwrap_or(LENET_OK);
        refused(what, status, LENET_ERROR_NOT_FOUND, &["no ink was found in the picture"]);
        // Where nothing has to be found, every picture is one.
        let options = glyph.options();
        let resize = model(LENET_PREPARE_RESIZE, options.height, options.width);
        prepare(&resize, &picture);
        let image = picture.image();
        let mut class = 9;
        let status =
            unsafe { lenet_predict_image(glyph.0, &image, &mut class, std::ptr::null_mut()) };
        assert_eq!((name(status), class), ("LENET_ERROR_NOT_FOUND", 9), "{what}");
    }
}

/// Odd sizes, and pictures that are as far from paper as may be: prepared or refused, never more.
#[test]
fn no_picture_is_too_odd() {
    let sizes =
        [[1, 1], [1, 2], [2, 1], [1, 65536], [65536, 1], [2, 3], [255, 257], [700, 3], [513, 512]];
    let kinds: [fn(usize, usize) -> u8; 6] = [
        |y, x| (255 * ((y + x) % 2)) as u8,
        |y, x| (y * 31 + x * 17) as u8,
        |y, _| if y == 0 { 255 } else { 0 },
        |_, x| if x % 2 == 0 { 255 } else { 0 },
        |y, x| if y * x % 7 == 3 { 200 } else { 90 },
        |y, x| (((y as u64 * 65_537 + x as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 56) as u8,
    ];
    for preparation in [LENET_PREPARE_RESIZE, LENET_PREPARE_GLYPH] {
        for (height, width) in [(28, 28), (256, 16)] {
            let model = model(preparation, height, width);
            for [height, width] in sizes {
                for (i, kind) in kinds.iter().enumerate() {
                    let picture = Picture::gray(height, width, kind);
                    if let Err(status) = try_prepare(&model, &picture) {
                        let what = format!("{height} x {width}, kind {i}");
                        assert_eq!(preparation, LENET_PREPARE_GLYPH, "{what}");
                        assert_eq!(name(status), "LENET_ERROR_NOT_FOUND", "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_resize_leaves_free_has_the_borders_median() {
    let resize = model(LENET_PREPARE_RESIZE, 28, 28);
    // Two wide: fourteen rows of picture, seven above and below.
    let picture = Picture::gray(40, 80, |y, x| if y < 4 || x < 4 { 30 } else { 201 });
    let prepared = prepare(&resize, &picture);
    // 80 + 39 of the outermost pixels are 30, 79 + 42 are not.
    let outermost = |y: usize, x: usize| y == 0 || y == 39 || x == 0 || x == 79;
    let at = (0..40 * 80).map(|i| (i / 80, i % 80)).filter(|&(y, x)| outermost(y, x));
    let mut border: Vec<u8> = at.map(|(y, x)| picture.pixels[y * 80 + x]).collect();
    border.sort_unstable();
    let median = border[(border.len() - 1) / 2];
    let free = prepared[..7 * 28].iter().chain(&prepared[21 * 28..]);
    assert!(free.copied().all(|byte| byte == median), "{median}");
    assert_eq!(prepared[14 * 28 + 20], 201);
}

#[test]
fn predict_image_is_prepare_and_predict() {
    let model = model(LENET_PREPARE_GLYPH, 28, 28);
    let cases = reference();
    let expected: Vec<(u8, Vec<f32>)> = cases
        .iter()
        .map(|(_, picture, _)| {
            let (pixels, mut class, mut row) = (prepare(&model, picture), 0, vec![0.0; 10]);
            let out = row.as_mut_ptr();
            ok(unsafe { lenet_predict_u8(model.0, pixels.as_ptr(), 1, &mut class, out) });
            (class, row)
        })
        .collect();
    // All threads at once, each beginning elsewhere.
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (model, cases, expected) = (&model, &cases, &expected);
            scope.spawn(move || {
                for i in (0..2 * cases.len()).map(|i| (i + 3 * thread) % cases.len()) {
                    let image = cases[i].1.image();
                    let (mut class, mut row) = (0, vec![0.0; 10]);
                    let out = row.as_mut_ptr();
                    ok(unsafe { lenet_predict_image(model.0, &image, &mut class, out) });
                    assert_eq!((class, row), expected[i], "{}", cases[i].0);
                }
            });
        }
    });
}
