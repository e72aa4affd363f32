//! The samples are what people copy: each compiles without a warning with gcc and with clang, does
//! what its first comment says, and refuses what makes no sense by name.

#[path = "support/command.rs"]
mod command;

use command::{VALGRIND, command, fails, fashion_mnist, release_folder, root, run};
use flate2::read::GzDecoder;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const COMPILERS: [&str; 2] = ["gcc", "clang"];

/// A sample's source files, the one that it is named after first.
fn sources(sample: &str) -> &'static [&'static str] {
    match sample {
        "quickstart" => &["quickstart.c"],
        "quickstart_cpp" => &["quickstart.cpp"],
        "classify" => &["classify.c"],
        "own_images" => &["own_images.c", "progress_bar.c", "settings.c"],
        "custom_loop" => &["custom_loop.c", "data_folder.c", "settings.c"],
        "teach" => &["teach.c", "data_folder.c", "settings.c"],
        "fashion_mnist" => {
            &["fashion_mnist.c", "data_folder.c", "plot_svg.c", "settings.c", "terminal_image.c"]
        }
        _ => panic!("{sample}?"),
    }
}

/// A sample, compiled into a folder of its own.
struct Sample {
    folder: tempfile::TempDir,
}

impl Sample {
    fn compile(name: &str, compiler: &str) -> Sample {
        let folder = tempfile::tempdir().unwrap();
        let library = release_folder().join("liblenet.so");
        std::os::unix::fs::symlink(&library, folder.path().join("liblenet.so.1")).unwrap();
        run(command(compiler)
            .arg(if compiler.ends_with("++") { "-std=c++17" } else { "-std=c99" })
            .args(["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Iinclude"])
            .args(sources(name).iter().map(|file| format!("examples/{file}")))
            .arg("-o")
            .arg(folder.path().join("sample"))
            .arg(library)
            .args(["-lm", "-Wl,-rpath,$ORIGIN"]));
        Sample { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command to run it in its folder.
    fn command(&self) -> Command {
        let mut command = command(self.path("sample").to_str().unwrap());
        command.current_dir(&self.folder);
        command
    }
}

/// An IDX file's header with another number of items, and that many of them.
fn first_items(idx: &[u8], n: u32) -> Vec<u8> {
    let dimensions = usize::from(idx[3]);
    let number = |i: usize| u32::from_be_bytes(idx[4 + 4 * i..8 + 4 * i].try_into().unwrap());
    let item: u32 = (1..dimensions).map(number).product();
    assert!(number(0) > n);
    let header = 4 + 4 * dimensions;
    let mut cut = idx[..header + (n * item) as usize].to_vec();
    cut[4..8].copy_from_slice(&n.to_be_bytes());
    cut
}

/// A folder with the first 1,000 training and 500 test images of Fashion-MNIST: the training files
/// plain, the test files gzipped.
fn small_fashion_mnist() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let from = &fashion_mnist();
        let to = root().join("target/data/small-fashion-mnist");
        fs::create_dir_all(&to).unwrap();
        for (name, n) in [("train-images-idx3", 1000), ("train-labels-idx1", 1000)] {
            fs::write(to.join(format!("{name}-ubyte")), first_items(&unpacked(from, name), n))
                .unwrap();
        }
        for (name, n) in [("t10k-images-idx3", 500), ("t10k-labels-idx1", 500)] {
            let file = File::create(to.join(format!("{name}-ubyte.gz"))).unwrap();
            let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            std::io::Write::write_all(&mut packed, &first_items(&unpacked(from, name), n)).unwrap();
            packed.finish().unwrap();
        }
        to
    })
}

fn unpacked(folder: &Path, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = File::open(folder.join(format!("{name}-ubyte.gz"))).unwrap();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn assert_says(output: &str, expected: &[&str]) {
    for text in expected {
        assert!(output.contains(text), "{text:?} is not in:\n{output}");
    }
}

// ---- C

#[test]
fn quickstart_learns_saves_and_loads() {
    for compiler in COMPILERS {
        let sample = Sample::compile("quickstart", compiler);
        let output = run(&mut sample.command());
        assert_says(&output, &["step 10: loss", "step 30: loss", "100 of 100 right"]);
        assert!(sample.path("quickstart.safetensors").is_file());
    }
}

#[test]
fn quickstart_in_cpp_does_the_same_and_throws() {
    for compiler in ["g++", "clang++"] {
        let sample = Sample::compile("quickstart_cpp", compiler);
        let output = run(&mut sample.command());
        assert_says(&output, &["epoch 10: loss", "100 of 100 right", "model predicts the same"]);
        assert_says(&output, &["LENET_ERROR_LABEL_OUT_OF_RANGE: labels[17] is 12"]);
    }
}

/// It is the README's first page, word for word.
#[test]
fn quickstart_is_the_one_in_the_readme() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let quickstart = read("examples/quickstart.c");
    assert!(read("README.md").contains(&format!("```c\n{quickstart}```")), "they differ");
}

#[test]
fn custom_loop_trains_on_made_images_and_on_files() {
    for compiler in COMPILERS {
        let sample = Sample::compile("custom_loop", compiler);
        let output = run(sample.command().env("EPOCHS", "2"));
        assert_says(&output, &["learning rate", "best so far", "the best model on the test set"]);
        assert_says(&output, &["0.003000", "0.002700", "of 100)"]); // the rate falls
        let output = run(sample.command().arg(small_fashion_mnist()).env("EPOCHS", "1"));
        assert_says(&output, &["of 500)"]);
    }
}

/// The digits that `make -C examples digits` brings.
fn digits() -> PathBuf {
    run(command("make").args(["-C", "examples", "digits"]));
    root().join("target/data/digits")
}

/// By margins, for another CPU's rounding makes another model.
#[test]
fn teach_learns_from_ten_pictures_and_forgets_nothing() {
    for (compiler, seed) in COMPILERS.into_iter().zip(["0", "7"]) {
        let sample = Sample::compile("teach", compiler);
        let output = run(sample.command().arg(digits()).env("SEED", seed));
        let accuracies = |who: &str| {
            let line = output.lines().find(|line| line.starts_with(who)).expect(who);
            let numbers = line[who.len()..].split_whitespace().map(|x| x.parse().unwrap());
            <[f64; 3]>::try_from(numbers.collect::<Vec<_>>()).unwrap()
        };
        let [before, none, _] = accuracies("a reader of 0 to 7");
        let [forgotten, ..] = accuracies("taught 8 and 9 alone");
        let [after, learnt, all] = accuracies("taught 8 and 9 among kept pictures");
        let [.., whole] = accuracies("had it seen all of them from the start");
        assert!(before > 0.96 && none == 0.0, "{output}");
        assert!(forgotten < 0.5, "{output}");
        assert!(after > before - 0.04 && learnt > 0.7 && all > 0.9, "{output}");
        assert!(whole > all && whole > 0.95, "{output}");
        assert_says(&output, &["20 pictures of new digits and 400 kept ones, 600 steps"]);

        let fashion = sample.command().arg(small_fashion_mnist()).output().unwrap();
        assert!(fashion.status.success(), "any ten classes of 28 x 28 will do");
        assert_says(&fails(&mut sample.command()), &["usage:"]);
        let missing = fails(sample.command().arg("missing"));
        assert_says(&missing, &["missing/train-images-idx3-ubyte[.gz]"]);
    }
}

#[test]
fn fashion_mnist_does_the_whole_job() {
    for compiler in COMPILERS {
        let sample = Sample::compile("fashion_mnist", compiler);
        let settings = [("EPOCHS", "1"), ("PRESET", "modern"), ("BATCH", "32")];
        let output = run(sample.command().arg(small_fashion_mnist()).envs(settings));
        // The layer table, with shapes and the number of parameters.
        assert_says(&output, &["conv1", "16 x 10 x 10", "MaxPool2d", "fc3", " 61706\n"]);
        assert_says(&output, &["1000 training and 500 test images", "epoch 1/1"]);
        assert_says(&output, &["test accuracy", "of 500)", "T-shirt/top", "Ankle boot"]);
        let accuracy = output.split("\ntest accuracy ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(accuracy.parse::<f64>().unwrap() > 0.3, "{accuracy} after 32 steps");
        assert_says(&output, &["the probabilities of 500 test images are bit-identical"]);
        assert_says(&output, &["the first test images", "curves in ./training.svg"]);

        let model = fs::read(sample.path("fashion_mnist.safetensors")).unwrap();
        safetensors::SafeTensors::deserialize(&model).unwrap().tensor("conv1.weight").unwrap();
        let svg = fs::read_to_string(sample.path("training.svg")).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 3, "{svg}");
        assert_says(&svg, &["train loss", "train accuracy", "test accuracy"]);
        let well_formed = "import sys, xml.etree.ElementTree as e; e.parse(sys.argv[1])";
        run(command("python3").args(["-c", well_formed]).arg(sample.path("training.svg")));
    }
}

/// The first line that a picture got, without its path, of `classify`.
fn answer<'a>(output: &'a str, picture: &Path) -> &'a str {
    let start = format!("{}: ", picture.display());
    output.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{output}"))
}

#[test]
fn own_images_learns_a_folder_that_classify_then_reads() {
    let out = tempfile::tempdir().unwrap();
    let pictures = out.path().join("pictures");
    run(command("python3")
        .arg("examples/pictures_from_idx.py")
        .args([small_fashion_mnist(), &pictures])
        .args(["--per-class", "60", "--new", "2"]));
    for compiler in COMPILERS {
        let sample = Sample::compile("own_images", compiler);
        let output = run(sample.command().arg(pictures.join("train")).env("EPOCHS", "12"));
        assert!(!output.contains(['\r', '\x1b']), "control characters in a pipe: {output:?}");
        assert_says(&output, &["600 pictures of 10 classes", "  Ankle boot               60\n"]);
        assert_says(&output, &["420 to train with, 90 to validate, 90 to test", "epoch 12/12"]);
        assert_says(&output, &["taken for", "sure", "saved ./own_images.safetensors"]);
        let right = output.split("\ntest: ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(right.parse::<u32>().unwrap() > 50, "{right} of 90 after 12 epochs:\n{output}");

        let classify = Sample::compile("classify", compiler);
        let new: Vec<PathBuf> = fs::read_dir(pictures.join("new"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let model = sample.path("own_images.safetensors");
        let output = run(classify.command().arg(&model).args(&new));
        let of_its_class = new.iter().filter(|picture| {
            let name = picture.file_stem().unwrap().to_str().unwrap().rsplit_once('-').unwrap().0;
            let answer = answer(&output, picture);
            answer.strip_prefix("not sure (").unwrap_or(answer).starts_with(&format!("{name} 0."))
                || answer == format!("{name} 1.000")
        });
        assert_eq!(new.len(), 20);
        assert!(of_its_class.count() > 10, "{output}");

        // One that is no picture does not keep the others from being read.
        let said = fails(classify.command().arg(&model).arg("/no/such.png").arg(&new[0]));
        assert_says(&said, &["/no/such.png", answer(&output, &new[0])]);
    }

    // In a terminal there is a bar, drawn in place.
    let sample = Sample::compile("own_images", "cc");
    let in_terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) != 0)";
    let plain = sample.command();
    let output = run(command("python3")
        .args(["-c", in_terminal])
        .arg(plain.get_program())
        .arg(pictures.join("train"))
        .current_dir(plain.get_current_dir().unwrap())
        .envs([("TERM", "xterm"), ("EPOCHS", "2")])
        .stdin(std::process::Stdio::null()));
    assert_says(&output, &["\r\x1b[K[", " pictures", "=", "loss"]);
}

/// A PGM file of 60x40 pixels with a bar, the long side across or upright.
fn bar(across: bool, (x, y): (usize, usize), [paper, ink]: [u8; 2]) -> Vec<u8> {
    let (width, height) = if across { (20, 5) } else { (5, 20) };
    let mut file = b"P5 60 40 255\n".to_vec();
    file.extend((0..60 * 40).map(|i| {
        let inside = (x..x + width).contains(&(i % 60)) && (y..y + height).contains(&(i / 60));
        if inside { ink } else { paper }
    }));
    file
}

#[test]
fn own_images_reads_signs_wherever_they_are() {
    let sample = Sample::compile("own_images", "cc");
    let classify = Sample::compile("classify", "cc");
    for (name, across) in [("across", true), ("upright", false)] {
        fs::create_dir_all(sample.path("signs").join(name)).unwrap();
        for i in 0..20 {
            let file = sample.path("signs").join(name).join(format!("{i}.pgm"));
            fs::write(file, bar(across, (4 + i, 3 + i / 2), [230, 30])).unwrap();
        }
    }
    let settings = [("PREPARE", "glyph"), ("SIZE", "20"), ("EPOCHS", "10"), ("BATCH", "4")];
    let output = run(sample.command().arg("signs").envs(settings));
    assert_says(&output, &["40 pictures of 2 classes", "test: 6 of 6 right (100.0 %)"]);

    // The file knows how: white on black, and where none was before.
    fs::write(classify.path("new.pgm"), bar(true, (36, 30), [5, 250])).unwrap();
    let model = sample.path("own_images.safetensors");
    let output = run(classify.command().arg(&model).arg("new.pgm"));
    assert!(output.starts_with("new.pgm: across "), "{output}");
    fs::write(classify.path("empty.pgm"), bar(true, (0, 0), [9, 9])).unwrap();
    assert_says(&fails(classify.command().arg(&model).arg("empty.pgm")), &["empty.pgm", "ink"]);
}

#[test]
fn own_images_and_classify_say_what_is_wrong() {
    let sample = Sample::compile("own_images", "cc");
    let own_images = |folder: &str| sample.command().arg(folder).output().unwrap();
    for arguments in [&[][..], &["--help"], &["one", "two"]] {
        assert_says(&fails(sample.command().args(arguments)), &["usage:"]);
    }
    fs::create_dir_all(sample.path("pictures/cat")).unwrap();
    fs::create_dir_all(sample.path("none")).unwrap();
    for (name, value) in [("PREPARE", "Glyph"), ("SIZE", "8"), ("MAX_ERROR", "2"), ("EPOCHS", "0")]
    {
        let said = fails(sample.command().arg("pictures").env(name, value));
        assert_says(&said, &[&format!("{name}={value}: expected")]);
    }
    assert_says(&fails(sample.command().arg("pictures").env("SIZE", "18")), &["multiple of 4"]);
    assert_says(&fails(sample.command().arg("pictures").env("OUT", "/no/such")), &["/no/such"]);

    // One sentence, the library's, with the path.
    let says = |folder: &str, expected: &str| {
        let output = own_images(folder);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((said.lines().count(), output.status.code()), (1, Some(1)), "{said}");
        assert_says(&said, &[expected]);
    };
    says("/no/such", "/no/such");
    says("none", "none");
    says("pictures", "pictures/cat");
    fs::write(sample.path("pictures/cat/notes.txt"), "no picture").unwrap();
    says("pictures", "pictures/cat/notes.txt");
    fs::remove_file(sample.path("pictures/cat/notes.txt")).unwrap();
    for i in 0..9 {
        let file = sample.path("pictures/cat").join(format!("{i}.pgm"));
        fs::write(file, bar(true, (i, i), [0, 255])).unwrap();
    }
    says("pictures", "classes is 1");
    assert!(!sample.path("own_images.safetensors").exists());

    let classify = Sample::compile("classify", "cc");
    assert_says(&fails(&mut classify.command()), &["usage:"]);
    assert_says(&fails(classify.command().args(["/no/such", "a.png"])), &["/no/such"]);
    fs::write(classify.path("model"), "no model").unwrap();
    assert_says(&fails(classify.command().args(["model", "a.png"])), &["model"]);
}

#[test]
fn valgrind_finds_nothing_in_them() {
    // The main job takes many minutes there, which `make torture` has.
    let all = ["custom_loop", "quickstart", "fashion_mnist"];
    let count = if std::env::var_os("LENET_TEST_SECONDS").is_some() { 3 } else { 2 };
    for name in &all[..count] {
        let sample = Sample::compile(name, "cc");
        let plain = sample.command();
        // On one processor, so without workers, who spin: valgrind runs one thread at a time.
        let mut valgrind = command("taskset");
        valgrind.args(["--cpu-list", "0", "valgrind"]).args(VALGRIND).arg(plain.get_program());
        valgrind.current_dir(plain.get_current_dir().unwrap());
        valgrind.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if *name == "fashion_mnist" {
            valgrind.arg(small_fashion_mnist());
        }
        run(valgrind.env("EPOCHS", "1"));
    }
}

#[test]
fn bad_settings_are_refused_by_name() {
    let sample = Sample::compile("fashion_mnist", "cc");
    let data = small_fashion_mnist();
    for (name, value) in [
        ("EPOCHS", "abc"),
        ("EPOCHS", "0"),
        ("EPOCHS", "-1"),
        ("BATCH", "1e2"),
        ("SEED", "18446744073709551616"),
        ("LR", "nan"),
        ("LR", "-0.1"),
        ("PRESET", "Classic"),
        ("DEVICE", "gpu"),
    ] {
        let said = fails(sample.command().arg(data).env(name, value));
        assert_says(&said, &[&format!("{name}={value}: expected")]);
    }
    assert_says(&fails(sample.command().arg(data).env("OUT", "/no/such")), &["/no/such"]);
    assert_says(&fails(sample.command().arg("/no/such")), &["/no/such", "LENET_DATA"]);
    assert_says(&fails(sample.command().env("LENET_DATA", "")), &["LENET_DATA is set but empty"]);
    assert_says(&fails(&mut sample.command()), &["LENET_DATA"]);
    assert_says(&fails(sample.command().arg("--help")), &["usage:"]);
    assert!(!sample.path("fashion_mnist.safetensors").exists());

    // Files that are there, but wrong.
    let wrong = sample.path("wrong");
    fs::create_dir(&wrong).unwrap();
    for name in ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"] {
        fs::write(wrong.join(format!("{name}-ubyte")), "not IDX").unwrap();
    }
    let said = fails(sample.command().arg(&wrong));
    assert_says(&said, &["lenet_dataset_open", "LENET_ERROR_FORMAT", "train-images-idx3-ubyte"]);

    let sample = Sample::compile("custom_loop", "cc");
    assert_says(&fails(sample.command().env("BATCH", "0")), &["BATCH=0: expected"]);
    assert_says(&fails(sample.command().arg("/no/such")), &["/no/such"]);
}

// ---- Python

fn is_png(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.len() > 5000)
}

#[test]
fn python_trains_and_plots() {
    let out = tempfile::tempdir().unwrap();
    let (png, model) = (out.path().join("training.png"), out.path().join("lenet.safetensors"));
    let make = |arguments: &[&str]| {
        run(command("make")
            .args(["-C", "examples"])
            .args(arguments)
            .arg(format!("OUT={}", out.path().display())))
    };

    let output = make(&["python-made", "EPOCHS=2"]);
    assert_says(&output, &["400 training and 100 test images", "epoch 2/2", "test accuracy"]);
    assert!(is_png(&png) && model.is_file(), "{output}");
    fs::remove_file(&png).unwrap();

    let data = format!("LENET_DATA={}", small_fashion_mnist().display());
    let output = make(&["python", "EPOCHS=1", &data]);
    assert_says(&output, &["1000 training and 500 test images", "epoch 1/1", "of 500)", "true"]);
    assert!(is_png(&png), "{output}");
}

// ---- make

#[test]
fn make_runs_the_main_sample() {
    let out = tempfile::tempdir().unwrap();
    let data = format!("LENET_DATA={}", small_fashion_mnist().display());
    let output = run(command("make")
        .args(["-C", "examples", "run", "EPOCHS=1", "PRESET=classic", &data])
        .arg(format!("OUT={}", out.path().display())));
    assert_says(&output, &["AvgPool2d", "classic, learning rate 0.9", "bit-identical"]);
    assert!(out.path().join("fashion_mnist.safetensors").is_file());
    assert!(out.path().join("training.svg").is_file());

    let missing = ["-C", "examples", "run", "LENET_DATA=/no/such"];
    assert_says(&fails(command("make").args(missing)), &["/no/such"]);
}

#[test]
fn make_runs_own_images() {
    let out = tempfile::tempdir().unwrap();
    let make = |arguments: &[&str]| {
        run(command("make")
            .args(["-C", "examples", "run-own-images", "EPOCHS=1"])
            .args(arguments)
            .arg(format!("OUT={}", out.path().display())))
    };
    assert_says(&make(&[]), &["1500 pictures of 10 classes", "pictures/new/Ankle boot-1.png: "]);
    assert!(out.path().join("own_images.safetensors").is_file());
    let pictures = root().join("target/examples/pictures/train");
    let output = make(&[&format!("PICTURES={}", pictures.display())]);
    assert!(output.contains("1500 pictures") && !output.contains("new/"), "{output}");
}
