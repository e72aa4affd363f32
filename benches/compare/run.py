"""Compares lenet with its peers: `make bench`, with arguments as BENCH_ARGS='--quick --only train'.

The entrants of a contest take turns, each with what the CPU can do at best measured just before, so that what the
machine does besides hits all of them alike. Ratios are computed round by round. Writes README.md, results.json and
charts.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

import charts
import contests
import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILT = ROOT / "target" / "bench"
PEAK_SHARE = 0.2  # of a measurement's seconds
# Else glibc hands PyTorch's large tensors back to the kernel and gets them anew, page by page, in every step: on a
# 2-core Zen 3 with nothing else to do it trained 14,500 images a second with this, 10,000 without. lenet does without.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
AVAILABLE = len(os.sched_getaffinity(0))


def arguments():
    parser = argparse.ArgumentParser(description="compares lenet with its peers")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 0.2 s, to try it out")
    parser.add_argument("--rounds", type=int, help="of each contest, 7 at first")
    parser.add_argument("--seconds", type=float, help="of a measurement, 1 at first")
    parser.add_argument("--threads", type=int, default=min(2, AVAILABLE), help="%(default)s at first")
    parser.add_argument("--only", action="append", metavar="CONTEST", help="those whose name begins so; repeatable")
    parser.add_argument("--out", type=Path, help="docs/benchmarks, or target/bench/results with --quick or --only")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 7)
    chosen.seconds = chosen.seconds or (0.2 if chosen.quick else 1.0)
    part = chosen.quick or chosen.only
    chosen.out = chosen.out or (BUILT / "results" if part else ROOT / "docs" / "benchmarks")
    chosen.contests = contests.all_contests(chosen.threads, AVAILABLE)
    names = [contest.name for contest in chosen.contests]
    for start in chosen.only or []:
        if not any(name.startswith(start) for name in names):
            parser.error(f"no contest begins with {start}; there are {', '.join(names)}")
    if chosen.only:
        chosen.contests = [each for each in chosen.contests if each.name.startswith(tuple(chosen.only))]
    return chosen


class Worker:
    """A process that measures one entrant; worker.py describes what it reads and answers."""

    def __init__(self, kind, threads):
        programs = {
            "lenet": [BUILT / "lenet_worker"],
            "candle": [BUILT / "lenet_worker"],
            "eager": [sys.executable, HERE / "torch_worker.py", "eager"],
            "compile": [sys.executable, HERE / "torch_worker.py", "compile"],
            "onnx": [sys.executable, HERE / "onnx_worker.py"],
        }
        environment = {"LENET_DATA": str(ROOT / "target" / "data" / "fashion-mnist")} | os.environ
        environment |= {"LENET_ENGINE": "candle"} if kind == "candle" else {}
        environment |= {"RAYON_NUM_THREADS": str(threads)}
        environment |= KEEP_MEMORY if kind in ("eager", "compile") else {}
        self.name = f"the worker of {kind}"
        self.process = subprocess.Popen(
            [*programs[kind], str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()  # closes its stdin, where it sees the end

    def ask(self, command):
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.name} ended at the command: {command}")
        return json.loads(answer)


def measure(contest, rounds, seconds):
    """The rounds of a contest, an answer for each entrant; or why it cannot be held here."""
    fit_seconds = contests.FIT_SECONDS_LIMIT if seconds >= 1 else seconds
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(each.worker, each.threads)) for each in contest.entrants]
        peaks = {each.threads: stack.enter_context(Worker("lenet", each.threads)) for each in contest.entrants}
        for worker in workers:
            worker.ask("ready")  # before anything is measured: to load PyTorch takes both CPUs for seconds
        results = []
        for _ in range(rounds):
            answers = []
            for each, worker in zip(contest.entrants, workers):
                limit = fit_seconds if each.command.startswith("fit") else seconds
                peak = peaks[each.threads].ask(f"peak {seconds * PEAK_SHARE}")["gflops"]
                answer = worker.ask(each.command.format(seconds=limit))
                if "unavailable" in answer:
                    return {"unavailable": answer["unavailable"]}
                answers.append(answer | {"peak_gflops": peak})
            results.append(answers)
    return {"rounds": results}


def first_line(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]


def machine():
    """What the numbers depend on."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    cpu = {key.strip(): value.strip() for key, _, value in lines}
    flags = cpu.get("flags", cpu.get("Features", "")).split()
    vectors = [flag for flag in ("asimd", "avx2", "fma", "avx512f") if flag in flags]
    with Worker("lenet", 1) as worker:
        info = worker.ask("info")
    packages = ("torch", "onnxruntime", "onnx", "numpy")
    return {
        "CPU": f"{cpu.get('model name', platform.machine())}, family {cpu.get('cpu family', '?')}, "
        f"model {cpu.get('model', '?')}",
        "processors": f"{AVAILABLE} for this process",
        "vectors": ", ".join(vectors) or "none that is known here",
        "kernel": f"{platform.system()} {platform.release()}",
        "lenet": f"{info['version']}: {info['build']}",
        "compilers": f"{first_line('rustc', '--version')}; {first_line(os.environ.get('CC', 'cc'), '--version')}",
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages),
    }


def main():
    chosen = arguments()
    given = shlex.join(sys.argv[1:])
    results = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": "make bench" + (f" BENCH_ARGS={shlex.quote(given)}" if given else ""),
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "machine": machine(),
        "contests": [],
    }
    for contest in chosen.contests:
        print(f"{contest.name}: ", end="", flush=True)
        measured = measure(contest, chosen.rounds, chosen.seconds)
        results["contests"].append(dataclasses.asdict(contest) | measured)
        print(report.in_a_line(results["contests"][-1]), flush=True)

    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    drawn = charts.draw(results["contests"], chosen.out)
    (chosen.out / "README.md").write_text(report.markdown(results, drawn))
    print(f"written to {chosen.out}")


main()
