"""Tests and measures lenet on a machine with a GPU, with what `make gpu-kit` packed; nothing is built here.

The entrants of a contest take turns, and ratios are computed round by round. The most important comes first, and after
each part what is known so far is written: gpu.json and gpu.md. PyTorch and JAX are measured where this Python has them.
"""

import argparse
import contextlib
import glob
import importlib.metadata
import json
import os
import platform
import select
import shlex
import shutil
import signal
import site
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
KIT = HERE.parents[1]
LOGS = KIT / "logs"  # what the tests and the workers said
COMPARE = HERE.parent / "compare"
sys.path.append(str(COMPARE))

import contests
import page

PROCESSORS = len(os.sched_getaffinity(0))
PEERS = ("eager", "graph", "jax")
ANSWER_SECONDS = 60  # at most for an answer: compiling takes most of it
NO_TIME = "no time was left"


def arguments():
    parser = argparse.ArgumentParser(description="tests and measures lenet on a GPU")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything; %(default)s at first")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a measurement; %(default)s at first")
    parser.add_argument("--out", type=Path, default=KIT / "results", help="%(default)s at first")
    parser.add_argument("--only", metavar="WORDS", help="no tests, and contests whose title has these words")
    parser.add_argument("--cpu", action="store_true", help="try it out without a GPU: small, and all on the CPU")
    return parser.parse_args()


CHOSEN = arguments()
DEVICE = "cpu" if CHOSEN.cpu else "cuda"
COUNT = 96 if CHOSEN.cpu else contests.IMAGES
SECONDS = 0.01 if CHOSEN.cpu else CHOSEN.seconds
END = time.monotonic() + CHOSEN.minutes * 60


def left():
    return END - time.monotonic()


def libraries():
    """The folders of CUDA's libraries, as the plugin needs them: of this Python's packages, or installed."""
    folders = [f"{folder}/nvidia/*/lib" for folder in site.getsitepackages()]
    folders += [f"{os.environ.get('CUDA_HOME', '/usr/local/cuda')}/lib64", "/usr/local/cuda*/lib64"]
    folders += ["/usr/local/cuda*/targets/x86_64-linux/lib"]
    found = []
    for name in ("libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10"):
        there = [path for folder in folders for path in glob.glob(f"{folder}/{name}")]
        if there:
            found.append(str(Path(there[0]).parent))
        elif not CHOSEN.cpu:
            print(f"{name} is in none of {', '.join(folders)}: left to the loader", flush=True)
    return list(dict.fromkeys(found))


GIVEN = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
LENET = {"LD_LIBRARY_PATH": ":".join([str(KIT / "lib"), *libraries(), *GIVEN])}


class Silent(Exception):
    """A worker that ended or that took too long; the message says which."""


class Worker:
    """A process that measures; compare/worker.py describes what it reads and answers."""

    def __init__(self, kind):
        lenet = [KIT / "bin" / "lenet_worker"]
        name, _, threads = kind.partition(" ")
        programs = {
            "lenet": [*lenet, "1", "cuda", threads or "bytes"],
            "cpu": [*lenet, threads, "cpu", "bytes"],
            "eager": [sys.executable, HERE / "torch_worker.py", "eager", DEVICE],
            "graph": [sys.executable, HERE / "torch_worker.py", "graph", DEVICE],
            "jax": [sys.executable, HERE / "jax_worker.py", DEVICE],
        }
        environment = os.environ | {"LENET_DATA": str(KIT / "data"), "PYTHONPATH": str(COMPARE)}
        environment |= LENET if name in ("lenet", "cpu") else {}
        self.errors = open(LOGS / f"{kind.replace(' ', '-')}.log", "a+")
        self.process = subprocess.Popen(
            programs[name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment,
        )

    def ask(self, command):
        seconds = min(ANSWER_SECONDS, max(left(), 0))
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise Silent(f"no answer in {seconds:.0f} s" if seconds == ANSWER_SECONDS else NO_TIME)
        answer = self.process.stdout.readline()
        if not answer:
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or ["it ended"]
            errors = [line for line in said if "Error" in line] or said
            raise Silent(errors[-1])
        return json.loads(answer)

    def end(self):
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class Workers:
    """Kept from contest to contest, as what they need to begin takes long; those whose package is missing stay so."""

    def __init__(self):
        self.running, self.failed = {}, {}

    def ask(self, kind, command):
        if kind in self.failed:
            return {"unavailable": self.failed[kind]}
        try:
            if kind not in self.running:
                self.running[kind] = Worker(kind)
            return self.running[kind].ask(command)
        except Silent as reason:
            self.running.pop(kind).end()
            if "ModuleNotFoundError" in str(reason):
                self.failed[kind] = str(reason)
            return {"unavailable": str(reason)}

    def end(self):
        for worker in self.running.values():
            worker.end()


def command_for(workers, kind, template):
    """The template filled in. A fit repeats as many epochs in a call as go into the time, ten at most."""
    ten = 1 if CHOSEN.cpu else 10
    if "{epochs}" in template:
        answer = workers.ask(kind, template.format(seconds=0, count=COUNT, epochs=1))
        if "unavailable" in answer:
            return None, answer
        number = int(SECONDS * answer["images"] / answer["seconds"] / COUNT)
        return template.format(seconds=SECONDS, count=COUNT, epochs=max(1, min(ten, number))), None
    return template.format(seconds=SECONDS, count=COUNT, ten=ten), None


def hold(contest, workers):
    """The contest with its rounds: by worker, an answer each; or for a worker, why there is none."""
    start, commands, rounds, unavailable = time.monotonic(), {}, [], {}
    for kind in contest.workers:
        command, answer = command_for(workers, kind, contest.command)
        if answer is None:
            answer = workers.ask(kind, command) if "{epochs}" not in contest.command else {}  # warms up
        if "unavailable" in answer:
            unavailable[kind] = answer["unavailable"]
        else:
            commands[kind] = command
    while commands and len(rounds) < contest.rounds and left() > 5:
        if rounds and time.monotonic() - start > contest.box:
            break
        answers = {kind: workers.ask(kind, command) for kind, command in commands.items()}
        for kind, answer in answers.items():
            if "unavailable" in answer:
                unavailable[kind] = answer["unavailable"]
                del commands[kind]
        rounds.append({kind: answers[kind] for kind in commands})
    rounds = [{kind: answers[kind] for kind in commands} for answers in rounds]
    return {
        "title": contest.title,
        "labels": {kind: contests.LABELS.get(kind, kind) for kind in contest.workers},
        "rounds": [answers for answers in rounds if answers],
        "unavailable": unavailable,
    }


def run_test(title, command, limit):
    """The outcome of a program, and the end of what it said when it did not succeed."""
    start, limit = time.monotonic(), min(limit, max(left(), 1))
    # A group of its own, as what a shell has started would outlive it and hold the pipe.
    process = subprocess.Popen(
        command,
        env=os.environ | LENET,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit)
        outcome = "passed" if process.returncode == 0 else f"failed ({process.returncode})"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        outcome = f"not finished in {limit:.0f} s"
    with open(LOGS / "tests.log", "a") as log:
        log.write(f"== {title}: {outcome}\n{said}\n")
    print(f"{title}: {outcome}", flush=True)
    if outcome.startswith("failed"):
        print("\n".join(said.splitlines()[-15:]), flush=True)
    return {"title": title, "outcome": outcome, "seconds": time.monotonic() - start}


def gpu_tests():
    """The tests of a GPU that are in the kit's test programs."""
    for program in sorted((KIT / "bin" / "tests").iterdir()):
        listed = subprocess.run([program, "--list", "--ignored"], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            name, _, kind = line.rpartition(": ")
            if kind == "test" and name.rpartition("::")[2].startswith("a_gpu"):
                yield f"{program.name}: {name}", [program, "--exact", name, "--ignored", "--nocapture"]


def sanitizer(tool, limit):
    """compute-sanitizer over a short test; for prediction and steps of all of the network."""
    found = shutil.which("compute-sanitizer") or next(iter(glob.glob("/usr/local/cuda*/bin/compute-sanitizer")), None)
    title = f"compute-sanitizer {tool}"
    if found is None:
        return {"title": title, "outcome": "there is none here", "seconds": 0}
    worker = [KIT / "bin" / "lenet_worker", "1", DEVICE, "bytes"]
    commands = ["train classic 32 28 0", "train modern 300 28 0", "predict classic 33 28 0"]
    commands += ["epochs modern 600 256 1 1 0 0"]
    script = f"export LENET_DATA='{KIT}/data'; printf '%s\\n' {shlex.join(commands)} | "
    script += f"'{found}' --tool {tool} --error-exitcode 9 "
    return run_test(title, ["sh", "-c", script + shlex.join(map(str, worker))], limit)


def first_models():
    """What a model costs that is the first in its process; of five processes."""
    rounds = []
    for _ in range(5):
        start = time.monotonic()
        worker = Worker("lenet")
        try:
            answer = worker.ask("first classic")
            rounds.append(answer | {"process_s": time.monotonic() - start})
        except Silent as reason:
            return {"unavailable": str(reason)}
        finally:
            worker.end()
    return {"rounds": rounds}


def threads(workers):
    """lenet on the CPU by number of threads."""
    counts = contests.thread_counts(PROCESSORS)
    kinds = tuple(f"cpu {count}" for count in counts)
    for title, template in contests.THREADS.items():
        yield hold(contests.Contest(title, kinds, template, box=15, rounds=3), workers)


def first_line(*command):
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "none"


def machine(workers):
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    cpu = {key.strip(): value.strip() for key, _, value in lines}
    info = workers.ask("cpu 1", "info")
    versions = []
    for package in ("torch", "jax"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    query = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader")
    return {
        "GPU, driver, memory, highest clock": first_line(*query),
        "CPU": f"{cpu.get('model name', platform.machine())}, {PROCESSORS} processors for this process",
        "kernel": f"{platform.system()} {platform.release()}",
        "lenet": f"{info.get('version')}: {info.get('build')}",
        "peers": ", ".join(versions) or "none is here",
    }


def main():
    CHOSEN.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir()
    workers = Workers()
    results = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "device": DEVICE,
        "seconds": SECONDS,
        "machine": machine(workers),
        "tests": [],
        "contests": [],
        "first": {},
        "threads": [],
    }

    def write():
        results["took_s"] = round(CHOSEN.minutes * 60 - left())
        (CHOSEN.out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
        (CHOSEN.out / "gpu.md").write_text(page.markdown(results))

    def hold_all(several):
        for contest in contests.smaller(several, 64) if CHOSEN.cpu else several:
            if CHOSEN.only and CHOSEN.only not in contest.title:
                continue
            if left() < 10:
                print(f"{contest.title}: no time is left", flush=True)
                continue
            results["contests"].append(hold(contest, workers))
            print(f"[{CHOSEN.minutes * 60 - left():3.0f} s] {page.in_a_line(results['contests'][-1])}", flush=True)
            write()

    def test(*outcomes):
        results["tests"].extend(outcomes)
        write()

    everything = not CHOSEN.only
    if everything:
        for title, command in gpu_tests():
            test(run_test(title, command, 90))
    hold_all(contests.FIRST)
    if everything:
        results["first"] = first_models()
        print(f"first model: {results['first']}", flush=True)
        test(sanitizer("memcheck", 60))
    hold_all(contests.THEN)
    if everything:
        for measured in threads(workers):
            if left() > 10:
                results["threads"].append(measured)
                print(f"[{CHOSEN.minutes * 60 - left():3.0f} s] threads: {page.in_a_line(measured)}", flush=True)
                write()
        for tool in ("racecheck", "synccheck"):
            if left() > 20:
                test(sanitizer(tool, 45))
    workers.end()
    write()
    print(f"written to {CHOSEN.out} after {results['took_s']} s", flush=True)
    failed = [each["title"] for each in results["tests"] if each["outcome"].startswith("failed")]
    for contest in results["contests"] + results["threads"]:
        reasons = (contest["unavailable"].get(kind, NO_TIME) for kind in contest["labels"] if kind not in PEERS)
        failed += [f"{contest['title']}: {reason}" for reason in reasons if reason != NO_TIME]
    if failed:
        sys.exit("failed: " + "; ".join(failed))


main()
