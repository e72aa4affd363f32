//! `make install` as a distributor uses it: everything where pkg-config says it is, for shared and
//! for static linking, and `make uninstall` takes away what install brought and no more.

#[path = "support/command.rs"]
mod command;

use command::{command, outcome, release_folder, root, run};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// cargo replaces target/release/liblenet.a while it answers the last test here.
static TURN: Mutex<()> = Mutex::new(());

/// An installation for a system that lies in a folder of its own, as packages are made.
struct Installation {
    destination: tempfile::TempDir,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const MAJOR: &str = env!("CARGO_PKG_VERSION_MAJOR");
const PLACES: [&str; 3] =
    ["PREFIX=/opt/x", "LIBDIR=/opt/x/lib64", "INCLUDEDIR=/opt/x/include/lenet-1"];

impl Installation {
    fn new() -> Installation {
        let _turn = TURN.lock();
        release_folder();
        let installation = Installation { destination: tempfile::tempdir().unwrap() };
        let said = installation.make("install");
        assert!(!said.contains("Compiling"), "install builds what is built:\n{said}");
        installation
    }

    fn make(&self, target: &str) -> String {
        let destination = format!("DESTDIR={}", self.destination.path().display());
        let (output, said) = outcome(command("make").arg(target).arg(destination).args(PLACES));
        assert!(output.status.success(), "{said}");
        said
    }

    fn path(&self, path: &str) -> PathBuf {
        self.destination.path().join(path)
    }

    fn pkg_config(&self, arguments: &[&str]) -> Vec<String> {
        let flags = run(command("pkg-config")
            .env("PKG_CONFIG_SYSROOT_DIR", self.destination.path())
            .env("PKG_CONFIG_LIBDIR", self.path("opt/x/lib64/pkgconfig"))
            .args(arguments)
            .arg("lenet"));
        flags.split_whitespace().map(str::to_string).collect()
    }

    fn flags(&self, statically: bool) -> Vec<String> {
        let how = if statically { &["--static"][..] } else { &[] };
        self.pkg_config(&[how, &["--cflags", "--libs"]].concat())
    }

    /// Compiles the README's program with these flags; the program, and a folder to run it in.
    fn quickstart(&self, flags: &[String]) -> (PathBuf, PathBuf) {
        let program = self.path("quickstart");
        run(command("cc")
            .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "examples/quickstart.c", "-o"])
            .arg(&program)
            .args(flags));
        (program, self.destination.path().to_path_buf())
    }
}

fn learns(program: &mut Command) {
    let output = run(program);
    assert!(output.ends_with("100 of 100 right\n"), "{output}");
}

fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else {
                let path = entry.path();
                found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_string());
            }
        }
    }
    found
}

#[test]
fn every_file_is_in_its_place_and_goes_again() {
    let installation = Installation::new();
    let folder = installation.destination.path();
    let mut expected = BTreeSet::from([
        format!("opt/x/lib64/liblenet.so.{VERSION}"),
        format!("opt/x/lib64/liblenet.so.{MAJOR}"),
        "opt/x/lib64/liblenet.so".into(),
        "opt/x/lib64/liblenet.a".into(),
        "opt/x/lib64/pkgconfig/lenet.pc".into(),
        "opt/x/include/lenet-1/lenet.h".into(),
    ]);
    if root().join("include/lenet.hpp").exists() {
        expected.insert("opt/x/include/lenet-1/lenet.hpp".into());
    }
    assert_eq!(files(folder), expected);

    let link = |name: &str| fs::read_link(installation.path(name)).unwrap();
    let (major, full) = (format!("liblenet.so.{MAJOR}"), format!("liblenet.so.{VERSION}"));
    assert_eq!(link("opt/x/lib64/liblenet.so"), Path::new(&major));
    assert_eq!(link(&format!("opt/x/lib64/{major}")), Path::new(&full));

    // Over an older installation, too.
    let turn = TURN.lock();
    installation.make("install");
    drop(turn);
    assert_eq!(files(folder), expected);

    fs::write(installation.path("opt/x/lib64/liblenet.so.0"), "somebody else's").unwrap();
    installation.make("uninstall");
    assert_eq!(files(folder), BTreeSet::from(["opt/x/lib64/liblenet.so.0".into()]));
    installation.make("uninstall"); // nothing there: nothing to do
}

#[test]
fn pkg_config_leads_to_the_shared_library() {
    let installation = Installation::new();
    assert_eq!(installation.pkg_config(&["--modversion"]), [VERSION]);
    let pc = fs::read_to_string(installation.path("opt/x/lib64/pkgconfig/lenet.pc")).unwrap();
    // Below the prefix by reference to it, so that pkg-config --define-prefix can move it.
    for line in ["prefix=/opt/x\n", "libdir=${prefix}/lib64\n", "Libs: -L${libdir} -llenet\n"] {
        assert!(pc.contains(line), "{line} is not in\n{pc}");
    }
    assert!(!pc.contains('@'), "{pc}");
}

#[test]
fn a_program_links_with_the_shared_library() {
    let installation = Installation::new();
    let (program, folder) = installation.quickstart(&installation.flags(false));
    let needed = run(command("readelf").args(["-d", "-W"]).arg(&program));
    assert!(needed.contains(&format!("[liblenet.so.{MAJOR}]")), "{needed}");
    learns(
        command(program.to_str().unwrap())
            .current_dir(folder)
            .env("LD_LIBRARY_PATH", installation.path("opt/x/lib64")),
    );
}

#[test]
fn a_program_links_with_the_static_library() {
    let installation = Installation::new();
    // -llenet takes the shared library where both are.
    let mut flags = installation.flags(true);
    for flag in flags.iter_mut().filter(|flag| *flag == "-llenet") {
        *flag = "-l:liblenet.a".into();
    }
    let (program, folder) = installation.quickstart(&flags);
    let needed = run(command("readelf").args(["-d", "-W"]).arg(&program));
    assert!(!needed.contains("liblenet"), "{needed}");
    learns(command(program.to_str().unwrap()).current_dir(folder));
}

/// Two of them bring the standard library twice.
#[test]
fn another_static_library_in_rust_may_be_beside_it() {
    let installation = Installation::new();
    let folder = installation.destination.path();
    fs::write(
        folder.join("other.rs"),
        r#"
        #[unsafe(no_mangle)]
        pub extern "C" fn other(n: u32) -> u32 {
            let list: Vec<u32> = (0..n).collect();
            std::thread::spawn(move || list.iter().sum()).join().unwrap_or(0)
        }
        "#,
    )
    .unwrap();
    let other = folder.join("libother.a");
    run(command("rustc")
        .args(["--edition=2024", "--crate-type=staticlib", "-O", "-o"])
        .arg(&other)
        .arg(folder.join("other.rs")));
    fs::write(
        folder.join("both.c"),
        r#"
        #include <lenet.h>
        uint32_t other(uint32_t n);
        int main(void)
        {
            lenet_model *model;
            if (other(5) != 10 || lenet_create(NULL, &model) != LENET_OK)
                return 1;
            lenet_free(model);
            return other(5) == 10 && lenet_create(NULL, NULL) == LENET_ERROR_NULL_POINTER ? 0 : 1;
        }
        "#,
    )
    .unwrap();
    let mut flags = installation.flags(true);
    for flag in flags.iter_mut().filter(|flag| *flag == "-llenet") {
        *flag = "-l:liblenet.a".into();
    }
    let program = folder.join("both");
    let mut compile = command("cc");
    compile.args(["-std=c99", "-Wall", "-Wextra", "-Werror"]).arg(folder.join("both.c"));
    run(compile.arg("-o").arg(&program).arg(&other).args(flags));
    run(&mut command(program.to_str().unwrap()));
}

/// Another version of Rust or candle may need others.
#[test]
fn the_private_libraries_are_those_that_rustc_names() {
    let _turn = TURN.lock();
    let build = ["rustc", "--release", "--locked", "--lib", "--crate-type", "staticlib"];
    let ask = ["--", "--print", "native-static-libs"];
    let (output, said) = outcome(command("cargo").args(build).args(ask));
    assert!(output.status.success(), "{said}");
    let named = said.lines().find_map(|line| line.split_once("native-static-libs: ")).unwrap().1;
    let pc = fs::read_to_string(root().join("lenet.pc.in")).unwrap();
    let ours = pc.lines().find_map(|line| line.strip_prefix("Libs.private: ")).unwrap();
    assert_eq!(ours, named.trim());
}

/// What docs/security.md says that a system must have. Later versions than the documented one would shut out systems on which the
/// library runs today.
#[test]
fn the_library_needs_no_later_glibc_than_documented() {
    let _turn = TURN.lock();
    let library = release_folder().join("liblenet.so");
    let library = library.to_str().unwrap();
    let security = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let documented = security.split_once("the library needs glibc ").unwrap().1;
    let version = |text: &str| -> Vec<u32> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        text[..end].split('.').map(|part| part.parse().unwrap()).collect()
    };
    let symbols = run(command("readelf").args(["-W", "--dyn-syms", library]));
    let needed = symbols.split("@GLIBC_").skip(1).map(version).max().unwrap();
    assert!(needed >= vec![2, 2], "readelf says otherwise than expected: {needed:?}");
    assert!(needed <= version(documented), "it needs glibc {needed:?}");

    let dynamic = run(command("readelf").args(["-W", "-d", library]));
    let libraries = dynamic.lines().filter_map(|line| line.split_once("Shared library: ["));
    let foreign: Vec<&str> = libraries
        .map(|(_, name)| name.trim_end_matches(']'))
        .filter(|name| !GLIBC.iter().any(|known| name.starts_with(known)))
        .collect();
    assert_eq!(foreign, ["libgcc_s.so.1"]);
}

/// Its parts, some of them of their own until 2.34.
const GLIBC: [&str; 6] =
    ["libc.so.", "libm.so.", "libdl.so.", "libpthread.so.", "librt.so.", "ld-linux"];
