"""Measures PyTorch for run.py, by worker.py's protocol: torch_worker.py eager|compile THREADS

What PyTorch can do in several ways, here memory formats and pixel types, is tried first; the fastest is measured.
"""

import functools
import itertools
import sys
from time import perf_counter

import torch
import torch_lenet
from torch import nn
from torch_lenet import CLASSES, fashion_mnist, network
from worker import BATCHES, Unavailable, batches, fastest, serve, single_images

MODE, THREADS = sys.argv[1], int(sys.argv[2])
FIT_BATCH = 256
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
torch.set_num_threads(THREADS)


def compiled(function):
    return torch.compile(function, dynamic=False) if MODE == "compile" else function


def training_step(preset, side, memory_format):
    """A function of images and labels that makes a step, as lenet_train_batch does, and returns loss and logits."""
    model = network(preset, side).to(memory_format=memory_format)
    optimizer = torch_lenet.optimizer(preset, model.parameters())

    @compiled
    def forward(images, labels):
        logits = model(images)
        return nn.functional.cross_entropy(logits, labels), logits.detach()

    def step(images, labels):
        loss, logits = forward(images, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item(), logits

    return step


def prediction_step(preset, side, memory_format, images):
    model = network(preset, side).to(memory_format=memory_format).eval()

    @compiled
    def forward(images):
        logits = model(images)
        return logits.softmax(1), logits.argmax(1)

    def step():
        with torch.inference_mode():
            forward(images)

    return step


def chosen(ways):
    """The name and the step of the fastest way. The first calls compile: here is where that fails."""
    try:
        name = fastest(ways)
    except Exception as error:
        if MODE != "compile":
            raise
        raise Unavailable(f"torch.compile: {type(error).__name__}: {str(error).splitlines()[0]}") from error
    return name, ways[name]


# Cached, as a round later the same is measured again, and compiling takes long.
@functools.cache
def trainer(preset, batch, side):
    batches = [(torch.rand(batch, 1, side, side), torch.randint(CLASSES, (batch,))) for _ in range(BATCHES)]

    def way(memory_format):
        step, endless = training_step(preset, side, memory_format), itertools.cycle(batches)
        return lambda: step(*next(endless))

    return chosen({name: way(memory_format) for name, memory_format in FORMATS.items()})


@functools.cache
def predictor(preset, batch, side):
    images = torch.rand(batch, 1, side, side)
    return chosen({name: prediction_step(preset, side, value, images) for name, value in FORMATS.items()})


@functools.cache
def fitter(preset):
    """The number of images, the fastest way's name, and its function of the indices of a batch."""
    images, labels = fashion_mnist()
    images = images.view(-1, 1, 28, 28)
    floats = images.float() / 255
    pixels = {"bytes": lambda batch: images[batch].float().div_(255), "floats": lambda batch: floats[batch]}

    def way(memory_format, gather):
        step = training_step(preset, 28, memory_format)

        def step_at(batch):
            right = labels[batch]
            _, logits = step(gather(batch), right)
            (logits.argmax(1) == right).sum().item()  # lenet_fit reports loss and accuracy after each step

        return step_at

    ways = {
        f"{format_name}, {pixel_name}": way(memory_format, gather)
        for format_name, memory_format in FORMATS.items()
        for pixel_name, gather in pixels.items()
    }
    trial = torch.randperm(len(labels))[:FIT_BATCH]
    name, _ = chosen({name: functools.partial(step_at, trial) for name, step_at in ways.items()})
    return len(labels), name, ways[name]


def fit(preset, seconds):
    count, way, step_at = fitter(preset)
    images, start = 0, perf_counter()
    for batch in torch.randperm(count).split(FIT_BATCH):
        step_at(batch)
        images += len(batch)
        elapsed = perf_counter() - start
        if elapsed >= seconds:
            break
    return {"way": way, "images": images, "seconds": elapsed}


serve(train=batches(trainer), predict=batches(predictor), latency=single_images(predictor), fit=fit)
