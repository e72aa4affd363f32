# make help
#
# `make check` is what CI runs. Everything is built and written under target/.

CARGO ?= cargo
CC ?= cc
PYTHON ?= python3
INSTALL ?= install

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR ?=

# The tests, the samples and `install` look for the library in target/, wherever the user's cargo builds.
export CARGO_TARGET_DIR := $(CURDIR)/target

RELEASE := target/release
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
MAJOR := $(firstword $(subst ., ,$(VERSION)))
HEADERS := include/lenet.h include/lenet.hpp
SOURCES := Cargo.toml Cargo.lock build.rs cbindgen.toml $(shell find src -name '*.rs')
REFERENCE_VENV := target/reference-venv
CUDA := target/cuda
BENCH := target/bench
BENCH_VENV := target/bench-venv

.DEFAULT_GOAL := all
.PHONY: all library help check fuzz coverage races neon torture torture-fuzz cuda check-cuda gpu-kit pack-gpu-kit \
    bench-cuda install install-cuda uninstall reference bench bench-recipe bench-trust bench-kernels bench-long clean

# Where cargo puts what it builds is known to cargo alone (build.target adds a folder): it says so, and where it is
# not the folder that everything here looks into, that one has links. $(1): the profile; $(2): its folder.
define build
@artifacts=$$($(CARGO) build --profile $(1) --locked --message-format json-render-diagnostics) || exit; \
for file in liblenet.so liblenet.a; do \
    built=$$(printf '%s\n' "$$artifacts" | sed -n 's|.*"\([^"]*/'$$file'\)".*|\1|p'); \
    [ "$$built" -ef target/$(2)/$$file ] || { mkdir -p target/$(2) && ln -sf "$$built" target/$(2)/$$file; } || exit; \
done
endef

all:
	$(call build,release,release)

# For the samples. Cargo calls the profile dev and its folder debug.
PROFILE ?= release
library:
	$(call build,$(patsubst debug,dev,$(PROFILE)),$(patsubst dev,debug,$(PROFILE)))

help:
	@echo 'all        build liblenet.so and liblenet.a into $(RELEASE)'
	@echo 'check      everything that guards the project; what CI runs. Its steps, one at a time:'
	@echo '           $(STEPS:%=check-%)'
	@echo 'fuzz       hostile files and calls, FUZZ_SECONDS=$(FUZZ_SECONDS) for each of three targets'
	@echo 'coverage   the lines of the library that its tests run; fails where it is too little'
	@echo 'races      ThreadSanitizer over a model that many threads use, and over a race that it must find'
	@echo 'neon       the engine and its numbers on an emulated ARM'
	@echo 'torture    the tests of promises to the host for hours, then hostile files and calls for days'
	@echo 'cuda       $(CUDA)/liblenet_cuda.so.1, for models on NVIDIA GPUs (downloads the toolkit, 1 GB)'
	@echo 'check-cuda build and test it; the tests that need a GPU run where there is one'
	@echo 'gpu-kit    what tests and measures on a GPU, for a machine that builds nothing: $(KIT)'
	@echo 'bench-cuda the same here, beside the PyTorch and JAX that PYTHON has, into docs/benchmarks/gpu.md'
	@echo 'install    PREFIX=$(PREFIX) LIBDIR=$(LIBDIR) INCLUDEDIR=$(INCLUDEDIR) DESTDIR=$(DESTDIR)'
	@echo 'install-cuda the same settings: liblenet_cuda.so.1 beside it'
	@echo 'uninstall  the same settings: remove what install put there'
	@echo 'reference  compute tests/reference anew with PyTorch (downloads it)'
	@echo 'bench      measure beside PyTorch, ONNX Runtime and candle (downloads them) into docs/benchmarks;'
	@echo "           BENCH_ARGS='--quick --only train', or --help"
	@echo 'bench-recipe how accurate the preset for it is, and in which time, into docs/benchmarks/recipe.md: 15 minutes'
	@echo 'bench-trust how far a calibrated model can be trusted, into docs/benchmarks/trust.md: 3 minutes'
	@echo 'bench-kernels each kernel of the engine by itself, with its share of the FMA peak'
	@echo 'bench-long whether a step takes as long after 20,000 of them, on data that has been learnt'
	@echo 'clean      remove target/, data and virtual environments included'
	@echo
	@echo 'The samples: make -C examples help'

# ---- check: cheap steps first, each only when those before it passed

STEPS := tools data format lint doc build samples test fuzz
.PHONY: $(STEPS:%=check-%)

check:
	@start=$$(date +%s); \
	for step in $(STEPS); do \
	    printf '\n== %s (%d s after the start)\n' $$step $$(($$(date +%s) - start)); \
	    $(MAKE) --no-print-directory check-$$step || { echo "make check-$$step failed" >&2; exit 1; }; \
	done

# command:Debian package
TOOLS := gcc:gcc g++:g++ clang:clang clang++:clang git:git nm:binutils readelf:binutils \
    pkg-config:pkg-config strace:strace valgrind:valgrind abidiff:abigail-tools npm:npm $(PYTHON):python3

check-tools:
	@command -v $(CARGO) >/dev/null || { echo 'cargo is missing: https://rustup.rs' >&2; exit 1; }
	@for part in fmt:rustfmt clippy:clippy; do \
	    $(CARGO) $${part%:*} --version >/dev/null 2>&1 || rustup component add $${part#*:} || \
	        { echo "cargo $${part%:*} is missing, and rustup cannot bring it" >&2; exit 1; }; \
	done
	@missing=; \
	for tool in $(TOOLS); do command -v $${tool%:*} >/dev/null || missing="$$missing $${tool#*:}"; done; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing$$missing"; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    bring="apt-get -qq install --yes --no-install-recommends$$missing"; \
	    $$bring >/dev/null 2>&1 || { apt-get -qq update && $$bring >/dev/null; } || \
	        { echo "apt cannot install$$missing" >&2; exit 1; }; \
	elif [ -n "$$missing" ]; then \
	    echo "Debian packages are missing:$$missing. Only root can install them." >&2; exit 1; \
	fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo '$(PYTHON) is older than 3.11' >&2; exit 1; }

check-data:
	@$(MAKE) --no-print-directory -C examples data digits ../target/python-venv/ready

check-format:
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml

check-lint:
	$(CARGO) clippy --release --all-targets --locked -- -D warnings
	$(CARGO) clippy --release --all-targets --features failpoints,kernel-benches --locked -- -D warnings

check-doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --no-deps --locked

check-build: all

# The other samples, and these again with every warning an error: tests/examples.rs.
check-samples:
	@$(MAKE) --no-print-directory -C examples run-quickstart run-quickstart-cpp run-custom-loop run-teach \
	    run-own-images EPOCHS=2

# All with the engine of this CPU and the shared library, then C programs with the static one, those that need a build
# that panics, and what computes with the two other engines.
check-test:
	$(CARGO) test --release --locked
	LENET_TEST_LINK=static $(CARGO) test --release --locked --test abi --test callbacks --test leaving --test saving
	$(CARGO) test --release --locked --features failpoints --test panics
	LENET_ENGINE=portable $(CARGO) test --release --locked --test reference --test training --test weights --test features \
	    --test fit
	LENET_ENGINE=candle $(CARGO) test --release --locked --test reference --test training --test features --test fit \
	    --test forks

# The tests that could go on for ever, for as long as it takes to believe them.
torture:
	LENET_TEST_SECONDS=1800 LENET_TEST_KILLS=10000 LENET_TEST_FORKS=1000 LENET_TEST_LOOPS=100000 \
	    LENET_TEST_STEPS=2000000 $(CARGO) test --release --locked \
	    --test consistency --test saving --test process --test forks --test unloading --test memory \
	    --test examples -- --nocapture
	@$(MAKE) --no-print-directory torture-fuzz

# Hostile files and calls. Instrumented are the packages that read them: with all of candle, building takes twice as
# long, for code that never sees a hostile byte. Comparisons are not followed in lenet, whose numerical loops would run
# at half the speed (what it compares with, lenet-fuzz does too), nor in serde_json and miniz_oxide, which compare
# single bytes, of which libFuzzer learns nothing. The compiler's -Z flags are for its nightly versions, or
# RUSTC_BOOTSTRAP=1.
FUZZ_SECONDS := 60
FUZZ := target/fuzz
SANCOV := "-Cllvm-args=-sanitizer-coverage
FUZZ_FLAGS := "--cfg=fuzzing", "-Zsanitizer=address", "-Cpasses=sancov-module", $(SANCOV)-level=4", \
    $(SANCOV)-inline-8bit-counters", $(SANCOV)-pc-table"
FUZZ_CONFIG := --config 'profile.release.package.lenet.rustflags = [$(FUZZ_FLAGS)]' \
    $(foreach package,serde_json miniz_oxide,--config 'profile.release.package.$(package).rustflags = [$(FUZZ_FLAGS)]') \
    $(foreach package,lenet-fuzz safetensors flate2 csv-core image png fdeflate zune-jpeg zune-core,--config \
        'profile.release.package.$(package).rustflags = [$(FUZZ_FLAGS), $(SANCOV)-trace-compares"]')
# Of freed memory AddressSanitizer keeps some MiB and not hundreds, so that most is used again while it is in the
# cache: fresh pages took most of the time.
FUZZ_ASAN := quarantine_size_mb=8:thread_local_quarantine_size_kb=256:malloc_context_size=8
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

for_seconds = $(1):-max_total_time=$(2)
fuzz: FUZZ_LIMITS := $(foreach target,model_file idx_file csv_file picture_file calls,$(call for_seconds,$(target),$(FUZZ_SECONDS)))
check-fuzz: FUZZ_LIMITS := $(call for_seconds,model_file,45) $(call for_seconds,idx_file,30) \
    $(call for_seconds,csv_file,20) $(call for_seconds,picture_file,45) $(call for_seconds,calls,100)
torture-fuzz: FUZZ_LIMITS := model_file:-runs=100000000 idx_file:-runs=100000000 csv_file:-runs=100000000 \
    picture_file:-runs=100000000 calls:-runs=10000000

# Each target with the kept inputs, once each, and then with new ones for some time or so many. Without libFuzzer's
# entropic schedule, whose statistics of each input took longer than a refused file.
fuzz check-fuzz torture-fuzz: export ASAN_OPTIONS := $(FUZZ_ASAN)
fuzz check-fuzz torture-fuzz:
	@RUSTC_BOOTSTRAP=1 $(CARGO) build --release --locked --manifest-path fuzz/Cargo.toml --target-dir $(FUZZ) \
	    --target $(HOST) -Zprofile-rustflags $(FUZZ_CONFIG)
	@for run in $(FUZZ_LIMITS); do \
	    target=$${run%:*}; program=$(FUZZ)/$(HOST)/release/$$target; \
	    mkdir -p $(FUZZ)/found $(FUZZ)/corpus/$$target; \
	    $$program tests/corpus/$$target/* || exit 1; \
	    $$program $${run#*:} -timeout=30 -rss_limit_mb=1024 -malloc_limit_mb=256 \
	        -entropic=0 -len_control=0 -max_len=1024 -verbosity=0 -artifact_prefix=$(FUZZ)/found/ -print_final_stats=1 \
	        $(FUZZ)/corpus/$$target tests/corpus/$$target || exit 1; \
	done

target/tools/bin/cargo-llvm-cov:
	rustup component add llvm-tools
	$(CARGO) install --quiet cargo-llvm-cov --version 0.9.1 --locked --root target/tools

# The tests that run in the library's own process; those that drive C programs use another build of it.
COVERING := --lib --test panics --test bad_input --test model_files --test idx_files --test own_data --test training --test resume --test fit \
    --test reference --test robust_training --test float_environment --test process --test consistency

coverage: export PATH := $(CURDIR)/target/tools/bin:$(PATH)
coverage: export CARGO_TARGET_DIR := $(CURDIR)/target/coverage
coverage: target/tools/bin/cargo-llvm-cov
	$(CARGO) llvm-cov clean --workspace
	$(CARGO) llvm-cov --no-report --release --locked --features failpoints $(COVERING)
	for engine in portable candle; do \
	    LENET_ENGINE=$$engine $(CARGO) llvm-cov --no-report --release --locked --features failpoints \
	        --test reference --test training || exit 1; \
	done
	$(CARGO) llvm-cov report --release --lcov --output-path target/coverage/lcov.info
	$(PYTHON) tests/coverage.py target/coverage/lcov.info

# The standard library is built with it too: a lock that ThreadSanitizer does not see is a race to it.
RACES := target/races
RACE_TEST = RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread $(CARGO) test --release --locked --target-dir $(RACES) \
    --target $(HOST) -Zbuild-std --test consistency --

races:
	rustup component add rust-src
	$(RACE_TEST) --nocapture
	! $(RACE_TEST) --ignored two_threads_write_one_buffer >$(RACES)/seeded.log 2>&1
	grep 'ThreadSanitizer: data race' $(RACES)/seeded.log

# NEON without an ARM: a library for Rust, a compiler to link with and an emulator.
NEON_TOOLS := aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc:libc6-dev-arm64-cross \
    qemu-aarch64:qemu-user
NEON := aarch64-unknown-linux-gnu

neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
neon: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := qemu-aarch64 -L /usr/aarch64-linux-gnu
neon:
	@$(MAKE) --no-print-directory check-tools TOOLS='$(NEON_TOOLS)'
	rustup target add $(NEON)
	$(CARGO) test --release --locked --target $(NEON) --lib --test reference

# ---- CUDA: built without a GPU, with NVIDIA's toolkit from PyPI

# GPUs of this compute capability or a later one: 80 is Ampere. From 90 on the code would run on one generation only.
CUDA_COMPUTE_CAP := 80
CUDA_CARGO = CUDA_HOME='$(CURDIR)/$(CUDA)/toolkit' NVCC='$(CURDIR)/cuda/nvcc' CUDA_COMPUTE_CAP=$(CUDA_COMPUTE_CAP) CUDARC_CUDA_VERSION=13000 \
    CUDAFORGE_THREADS=$$(nproc) CARGO_TARGET_DIR='$(CURDIR)/$(CUDA)/build' $(CARGO)

# What cuda/nvcc leaves out is no input that cargo knows of.
cuda:
	cuda/toolkit.sh $(PYTHON) $(CUDA)
	cmp -s cuda/nvcc $(CUDA)/nvcc || $(CUDA_CARGO) clean --quiet --release --package candle-kernels
	cp cuda/nvcc $(CUDA)/nvcc
	$(CUDA_CARGO) build --release --locked --lib --features cuda
	strip -o $(CUDA)/liblenet_cuda.so.1 $(CUDA)/build/release/liblenet.so

check-cuda: cuda
	$(CUDA_CARGO) clippy --release --lib --locked --features cuda -- -D warnings
	LENET_TEST_CUDA_PLUGIN='$(CURDIR)/$(CUDA)/liblenet_cuda.so.1' LENET_TEST_CUDA_LIBRARIES='$(CURDIR)/$(CUDA)/toolkit/lib' \
	    $(CARGO) test --release --locked --test plugin -- --ignored the_cuda_plugin
	if [ -e /dev/nvidiactl ]; then \
	    LD_LIBRARY_PATH='$(CURDIR)/$(CUDA):$(CURDIR)/$(CUDA)/toolkit/lib' \
	        $(CARGO) test --release --locked --test plugin -- --ignored a_gpu; \
	else echo 'no NVIDIA GPU here: nothing was run on one'; fi
	$(CARGO) build --release --locked --example plugin_on_cpu
	$(MAKE) --no-print-directory pack-gpu-kit KIT=target/cpu-kit KIT_PLUGIN=$(RELEASE)/examples/libplugin_on_cpu.so
	$(PYTHON) target/cpu-kit/benches/cuda/run.py --cpu --minutes 3

# All that tests and measures on a GPU, to be carried to a machine that builds nothing: 60 MiB at most.
KIT := target/gpu-kit
KIT_PLUGIN := $(CUDA)/liblenet_cuda.so.1
KIT_TESTS := plugin

gpu-kit: cuda
	@$(MAKE) --no-print-directory pack-gpu-kit

pack-gpu-kit: all
	@test -n "$$LENET_DATA" || examples/fetch_data.sh target/data/fashion-mnist
	rm -rf $(KIT)
	mkdir -p $(KIT)/lib $(KIT)/bin/tests $(KIT)/data $(KIT)/benches
	strip -o $(KIT)/lib/liblenet.so.$(MAJOR) $(RELEASE)/liblenet.so
	strip -o $(KIT)/lib/liblenet_cuda.so.$(MAJOR) $(KIT_PLUGIN)
	$(CC) -std=c11 -O3 -march=x86-64-v3 -Wall -Wextra -Wpedantic -Werror -pthread -Iinclude -Iexamples \
	    benches/compare/lenet_worker.c examples/data_folder.c -o $(KIT)/bin/lenet_worker \
	    -L$(RELEASE) -llenet -lm '-Wl,-rpath,$$ORIGIN/../lib'
	for test in $(KIT_TESTS); do \
	    built=$$($(CARGO) test --release --locked --no-run --message-format=json --test $$test | \
	        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p') && strip -o $(KIT)/bin/tests/$$test "$$built" || exit 1; \
	done
	cp "$${LENET_DATA:-target/data/fashion-mnist}"/train-*-ubyte* $(KIT)/data
	cp -r benches/compare benches/cuda $(KIT)/benches
	@size=$$(du -sm $(KIT) | cut -f1); test "$$size" -le 60 || { echo "$(KIT) has $$size MiB" >&2; exit 1; }

# With the PyTorch and JAX that this Python has.
bench-cuda: gpu-kit
	$(PYTHON) $(KIT)/benches/cuda/run.py --out docs/benchmarks $(BENCH_ARGS)

# ---- install: what is there already is not built again, so it works where root has no cargo

SHARED := $(DESTDIR)$(LIBDIR)/liblenet.so
PLUGIN := $(DESTDIR)$(LIBDIR)/liblenet_cuda.so.$(MAJOR)
PC := $(DESTDIR)$(LIBDIR)/pkgconfig/lenet.pc

$(RELEASE)/liblenet.so: $(SOURCES)
	$(call build,release,release)

install: $(RELEASE)/liblenet.so
	$(INSTALL) -d '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(INCLUDEDIR)'
	$(INSTALL) -m 755 $(RELEASE)/liblenet.so '$(SHARED).$(VERSION)'
	ln -sf liblenet.so.$(VERSION) '$(SHARED).$(MAJOR)'
	ln -sf liblenet.so.$(MAJOR) '$(SHARED)'
	$(INSTALL) -m 644 $(RELEASE)/liblenet.a '$(DESTDIR)$(LIBDIR)'
	$(INSTALL) -m 644 $(HEADERS) '$(DESTDIR)$(INCLUDEDIR)'
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' \
	    -e 's|@LIBDIR@|$(LIBDIR:$(PREFIX)/%=$${prefix}/%)|' \
	    -e 's|@INCLUDEDIR@|$(INCLUDEDIR:$(PREFIX)/%=$${prefix}/%)|' \
	    lenet.pc.in | $(INSTALL) -m 644 /dev/stdin '$(PC)'

install-cuda:
	$(INSTALL) -d '$(DESTDIR)$(LIBDIR)'
	$(INSTALL) -m 755 $(CUDA)/liblenet_cuda.so.1 '$(PLUGIN)'

uninstall:
	rm -f '$(SHARED)' '$(SHARED).$(MAJOR)' '$(SHARED).$(VERSION)' '$(DESTDIR)$(LIBDIR)/liblenet.a' '$(PLUGIN)' '$(PC)'
	rm -f $(HEADERS:include/%='$(DESTDIR)$(INCLUDEDIR)/%')

# ---- the rest

$(REFERENCE_VENV)/ready: tests/reference/requirements.txt
	$(PYTHON) -m venv $(REFERENCE_VENV)
	$(REFERENCE_VENV)/bin/pip install --quiet --requirement $<
	@touch $@

reference: $(REFERENCE_VENV)/ready
	PYTHONDONTWRITEBYTECODE=1 $(REFERENCE_VENV)/bin/python tests/reference/make.py

$(BENCH_VENV)/ready: benches/compare/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --requirement $<
	@touch $@

# As in examples/Makefile: a link with the library's SONAME where the rpath looks, and built anew each time.
bench: all $(BENCH_VENV)/ready
	@test -n "$$LENET_DATA" || examples/fetch_data.sh target/data/fashion-mnist
	@mkdir -p $(BENCH)
	@ln -sfn ../release/liblenet.so $(BENCH)/liblenet.so.1
	$(CC) -std=c11 -O3 -march=native -Wall -Wextra -Wpedantic -Werror -pthread -Iinclude -Iexamples \
	    benches/compare/lenet_worker.c examples/data_folder.c -o $(BENCH)/lenet_worker \
	    -L$(RELEASE) -llenet -lm '-Wl,-rpath,$$ORIGIN'
	PYTHONDONTWRITEBYTECODE=1 $(BENCH_VENV)/bin/python benches/compare/run.py $(BENCH_ARGS)

bench-recipe: all
	@test -n "$$LENET_DATA" || examples/fetch_data.sh target/data/fashion-mnist
	@mkdir -p $(BENCH)
	@ln -sfn ../release/liblenet.so $(BENCH)/liblenet.so.1
	$(CC) -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror -Iinclude -Iexamples benches/recipe/train.c examples/data_folder.c \
	    -o $(BENCH)/recipe -L$(RELEASE) -llenet '-Wl,-rpath,$$ORIGIN'
	LENET_DATA="$${LENET_DATA:-target/data/fashion-mnist}" $(PYTHON) benches/recipe/run.py $(BENCH_ARGS)

bench-trust: all
	@test -n "$$LENET_DATA" || examples/fetch_data.sh target/data/fashion-mnist
	@test -n "$$LENET_DIGITS" || examples/fetch_digits.sh target/data/digits
	@mkdir -p $(BENCH)
	@ln -sfn ../release/liblenet.so $(BENCH)/liblenet.so.1
	$(CC) -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror -Iinclude -Iexamples benches/trust/trust.c examples/data_folder.c \
	    -o $(BENCH)/trust -L$(RELEASE) -llenet '-Wl,-rpath,$$ORIGIN'
	$(BENCH)/trust "$${LENET_DATA:-target/data/fashion-mnist}" "$${LENET_DIGITS:-target/data/digits}" >$(BENCH)/trust.md
	mv $(BENCH)/trust.md docs/benchmarks/trust.md

bench-kernels:
	$(CARGO) bench --locked --features kernel-benches --bench kernels

bench-long:
	$(CARGO) bench --locked --bench long_training

clean:
	rm -rf target
