"""What is measured against what. A contest's entrants take turns, lenet first."""

from dataclasses import dataclass

FIT_SECONDS_LIMIT = 600  # an epoch takes what it takes, within reason
SIDE = 28
BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
SIDES = [16, 20, 28, 32, 48, 64, 96, 128]


@dataclass(frozen=True)
class Entrant:
    label: str
    worker: str  # lenet, candle, eager, compile, onnx
    threads: int
    command: str  # of worker.py's protocol, {seconds} to be filled in
    # What a call computes, to tell the rate of it.
    training: bool
    batch: int
    side: int


@dataclass(frozen=True)
class Contest:
    """lenet against a rival, or, where `series` says over what, against itself at other sizes."""

    name: str
    title: str
    entrants: list[Entrant]
    series: str = ""


LABELS = {
    "lenet": "lenet",
    "candle": "plain candle",
    "eager": "PyTorch",
    "compile": "torch.compile",
    "onnx": "ONNX Runtime",
}


def entrant(worker, threads, kind, preset="classic", batch=256, side=SIDE, label=None):
    commands = {
        "train": f"train {preset} {batch} {side} {{seconds}}",
        "predict": f"predict {preset} {batch} {side} {{seconds}}",
        "callers": f"callers {preset} {batch} {side} {{seconds}}",
        "latency": f"latency {preset} {side} {{seconds}}",
        "fit": f"fit {preset} {{seconds}}",
    }
    return Entrant(label or LABELS[worker], worker, threads, commands[kind], kind in ("train", "fit"), batch, side)


def duel(name, title, rival, threads, kind, **sizes):
    pair = [entrant(worker, threads, kind, **sizes) for worker in ("lenet", rival)]
    return Contest(f"{name}-{rival}", f"{title}, {plural(threads)}", pair)


def plural(threads):
    return f"{threads} thread" + "s" * (threads > 1)


def all_contests(threads, processors):
    contests = [
        duel("train-256", "train, batch 256", rival, threads, "train") for rival in ("eager", "compile", "candle")
    ]
    contests += [duel("train-256-alone", "train, batch 256", "eager", 1, "train")] if threads > 1 else []
    contests += [duel("fit", "fit 60,000 images, batch 256", "eager", threads, "fit")]
    contests += [
        duel(f"predict-{batch}", f"predict {batch:,} images", rival, threads, "predict", batch=batch)
        for batch in (256, 10000)
        for rival in ("eager", "onnx", "candle")
    ]
    contests += [duel("predict-one", "predict one image", rival, 1, "latency", batch=1) for rival in ("onnx", "eager")]
    contests += [
        duel("modern-train-256", "modern: train, batch 256", "eager", threads, "train", preset="modern"),
        duel("modern-predict-256", "modern: predict 256 images", "eager", threads, "predict", preset="modern"),
    ]
    contests += [
        duel(f"train-{batch}", f"train, batch {batch}", "eager", threads, "train", batch=batch) for batch in (8, 32, 64)
    ]
    if threads > 1:
        contests += [
            Contest(
                f"second-thread-{kind}",
                f"{kind}, batch 256: 2 threads over 1",
                [entrant("lenet", count, kind, label=plural(count)) for count in (2, 1)],
            )
            for kind in ("train", "predict")
        ]
        contests += [
            Contest(
                f"second-caller-{batch}",
                f"predict {batch} images: 2 threads of the host on one model over 1",
                [entrant("lenet", count, "callers", batch=batch, label=plural(count)) for count in (2, 1)],
            )
            for batch in (1, 256)
        ]

    counts = {2**power for power in range(processors.bit_length())} | {processors, 2 * processors}
    contests += [
        Contest(
            f"threads-{kind}",
            f"{kind}, batch 256, by number of threads",
            [entrant("lenet", count, kind, label=str(count)) for count in sorted(counts)],
            series="threads",
        )
        for kind in ("train", "predict")
    ]
    contests += [
        Contest(
            "batch-size",
            f"train by batch size, {plural(threads)}",
            [entrant("lenet", threads, "train", batch=batch, label=str(batch)) for batch in BATCHES],
            series="batch size",
        ),
        Contest(
            "image-size",
            f"train by image size, batch 64, {plural(threads)}",
            [entrant("lenet", threads, "train", batch=64, side=side, label=f"{side} x {side}") for side in SIDES],
            series="image size",
        ),
    ]
    return contests
