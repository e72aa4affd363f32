"""What the workers of the rivals share: the protocol, the clock, the choice of a rival's best way.

A worker reads a command a line on stdin and answers each with a line of JSON on stdout:

    train PRESET BATCH SIDE SECONDS     steps on made-up images                      -> images, seconds
    predict PRESET BATCH SIDE SECONDS   classes and probabilities of a batch         -> images, seconds
    latency PRESET SIDE SECONDS         of predicting one image, call by call        -> median_us, p99_us
    fit PRESET SECONDS                  an epoch of Fashion-MNIST, shuffled, batch 256,
                                        or what of it goes into SECONDS              -> images, seconds
    ready                               nothing, once the worker can begin

Making models and data, and a warm-up, come before the clock starts. What a worker cannot do here it answers with
`unavailable` and the reason.
"""

import gc
import json
import sys
from time import perf_counter

WARM_UP_SECONDS = 0.1
BATCHES = 16  # that training goes round, as in lenet_worker.c
TRIALS, TRIAL_SECONDS = 3, 0.15


class Unavailable(Exception):
    """This machine lacks what the measurement needs; the message says what."""


def timed(step, seconds):
    calls, start = 0, perf_counter()
    while True:
        step()
        calls += 1
        elapsed = perf_counter() - start
        if elapsed >= seconds:
            return calls, elapsed


def throughput(step, images, seconds):
    timed(step, WARM_UP_SECONDS)
    calls, elapsed = timed(step, seconds)
    return {"images": calls * images, "seconds": elapsed}


def latency(step, seconds):
    timed(step, WARM_UP_SECONDS)
    calls, end = [], perf_counter() + seconds
    while perf_counter() < end:
        before = perf_counter()
        step()
        calls.append(perf_counter() - before)
    calls.sort()
    return {"median_us": calls[len(calls) // 2] * 1e6, "p99_us": calls[len(calls) * 99 // 100] * 1e6}


def fastest(ways):
    """Of the ways to do one thing, {name: step}, the name of the one that is the fastest here."""
    for step in ways.values():
        timed(step, WARM_UP_SECONDS)
    best = dict.fromkeys(ways, 0.0)
    for _ in range(TRIALS):
        for name, step in ways.items():
            calls, elapsed = timed(step, TRIAL_SECONDS)
            best[name] = max(best[name], calls / elapsed)
    return max(best, key=best.get)


def batches(maker):
    """The command that measures the throughput of what maker(preset, batch, side) gives: (way, step)."""

    def command(preset, batch, side, seconds):
        way, step = maker(preset, batch, side)
        return {"way": way} | throughput(step, batch, seconds)

    return command


def single_images(maker):
    """The same of the latency with batches of one."""

    def command(preset, side, seconds):
        way, step = maker(preset, 1, side)
        return {"way": way} | latency(step, seconds)

    return command


def serve(**commands):
    """Answers stdin's commands until it ends. Arguments are numbers, but for the preset, which comes first."""
    gc.disable()  # a collection would land in some rival's call, and lenet has none
    for line in sys.stdin:
        name, *arguments = line.split()
        answer = {}
        if name != "ready":
            preset, *sizes, seconds = arguments
            try:
                answer = commands[name](preset, *map(int, sizes), float(seconds))
            except Unavailable as reason:
                answer = {"unavailable": str(reason)}
        print(json.dumps(answer), flush=True)
