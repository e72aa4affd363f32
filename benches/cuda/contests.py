"""What is measured on a GPU, the most important first, so that a run that is cut short has it."""

from dataclasses import dataclass, replace

IMAGES = 60_000
LABELS = {
    "lenet": "lenet",
    "lenet floats": "lenet, from floats",
    "eager": "PyTorch",
    "graph": "PyTorch, step as CUDA graph",
    "jax": "JAX",
}


@dataclass(frozen=True)
class Contest:
    """Workers of run.py that take turns at a command, lenet first."""

    title: str
    workers: tuple[str, ...]
    command: str  # {seconds} and, for epochs, {count} and {epochs} to be filled in
    box: float = 40  # seconds after which no further round begins
    rounds: int = 5


def fit(preset, batch, progress=False, workers=("lenet", "graph", "jax", "eager"), **limits):
    workers = tuple(each for each in workers if not (progress and each == "jax"))
    title = f"{preset}: fit, batch {batch:,}, {'with' if progress else 'without'} a progress function"
    command = f"epochs {preset} {{count}} {batch} {{epochs}} {int(progress)} 1 {{seconds}}"
    return Contest(title, workers, command, **limits)


def train(preset, batch, workers=("lenet", "graph", "eager"), **limits):
    title = f"{preset}: a training step from host memory, batch {batch:,}"
    return Contest(title, workers, f"train {preset} {batch} 28 {{seconds}}", **limits)


def predict(preset, batch, **limits):
    title = f"{preset}: predict {batch:,} images, host to host"
    return Contest(title, ("lenet", "graph", "eager"), f"predict {preset} {batch} 28 {{seconds}}", **limits)


def smaller(contests, largest):
    """The same with fewer images a call and one round, to try out what takes long on a CPU."""

    def shrink(command):
        return " ".join(str(min(int(word), largest)) if word.isdigit() else word for word in command.split())

    return [replace(each, command=shrink(each.command), rounds=1) for each in contests]


FIRST = [
    fit("classic", 256, box=60),
    fit("classic", 256, progress=True),
    fit("modern", 256),
    fit("modern", 256, progress=True, workers=("lenet", "graph")),
    Contest(
        "classic: ten epochs of Fashion-MNIST, batch 256; lenet's model is new and brings the images to the GPU",
        ("lenet", "graph", "jax", "eager"),
        "epochs classic {count} 256 {ten} 0 0 0",
        rounds=3,
    ),
    train("classic", 256, workers=("lenet", "graph", "eager", "jax")),
    predict("classic", 10_000),
    Contest("classic: predict one image, host to host", ("lenet", "graph", "eager"), "latency classic 28 {seconds}"),
    predict("classic", 256),
]

THEN = [
    *(fit(preset, batch, box=20, rounds=3) for batch in (4096, 1024, 32) for preset in ("classic", "modern")),
    train("modern", 256, box=15),
    *(train(preset, batch, box=15, rounds=3) for batch in (4096, 1024, 32) for preset in ("classic", "modern")),
    train("classic", 256, workers=("lenet floats", "lenet"), box=15, rounds=3),
    predict("modern", 10_000, box=15, rounds=3),
]


def thread_counts(processors):
    return sorted({2**power for power in range(processors.bit_length())} | {processors})


# lenet on the CPU with each number of threads, in turns.
THREADS = {
    "train, batch 256": "train classic 256 28 {seconds}",
    "train, batch 2,048": "train classic 2048 28 {seconds}",
    "fit, batch 256": "epochs classic {count} 256 1 0 1 {seconds}",
    "predict 10,000 images": "predict classic 10000 28 {seconds}",
}
