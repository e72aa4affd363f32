"""Measures PyTorch on a GPU for run.py, by worker.py's protocol: torch_worker.py eager|graph cuda|cpu

    epochs PRESET COUNT BATCH EPOCHS PROGRESS KEPT SECONDS
        whole fits of so many epochs on the first COUNT images of Fashion-MNIST, which are on the device,
        until the seconds are over; one at least. PROGRESS is 1 where loss and accuracy are read after each
        step, else the loss is read after each epoch.                            -> images, seconds

The others begin and end with the host's ordinary memory: train with the loss, predict and latency with classes and
probabilities. `graph` records the whole step as a CUDA graph, for the epoch's last, smaller batch as well. f32
without TF32. On a CPU, for trying this out, nothing is recorded: graph is as eager.
"""

import functools
import itertools
import sys
from time import perf_counter

import torch
import torch_lenet
from torch import nn
from torch_lenet import CLASSES, fashion_mnist, network
from worker import BATCHES, batches, fastest, serve, single_images

MODE, DEVICE = sys.argv[1], sys.argv[2]
GRAPH, CUDA = MODE == "graph", DEVICE == "cuda"
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True


def wait():
    if CUDA:
        torch.cuda.synchronize()


def pinned(tensor):
    return tensor.pin_memory() if CUDA else tensor


def recorded(function):
    """A function without arguments that does on the device what this one does, and returns where its results are."""
    if not (GRAPH and CUDA):
        return function
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # so that cuDNN has chosen, and optimizers have their state
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()

    def replay():
        graph.replay()
        return results

    return replay


class Trainer:
    """A network that learns from bytes."""

    def __init__(self, preset, side):
        self.side = side
        self.model = network(preset, side).to(DEVICE)
        ways = {"fused": True, "capturable": GRAPH} if CUDA else {}
        self.optimizer = torch_lenet.optimizer(preset, self.model.parameters(), **ways)

    def step(self, pixels, labels):
        """Loss and the number of right answers, on the device."""
        logits = self.model(pixels.view(-1, 1, self.side, self.side).float().div_(255))
        loss = nn.functional.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return torch.stack([loss.detach(), (logits.detach().argmax(1) == labels).sum()])


@functools.cache
def dataset(count):
    images, labels = fashion_mnist()
    return images[:count].to(DEVICE), labels[:count].to(DEVICE)


@functools.cache
def fitter(preset, count, batch):
    """A function of a batch's indices, both on the device: a step."""
    images, labels = dataset(count)
    trainer = Trainer(preset, 28)
    if not GRAPH:
        return lambda indices: trainer.step(images[indices], labels[indices])

    @functools.cache
    def step_of(size):
        indices = torch.zeros(size, dtype=torch.int64, device=DEVICE)
        return indices, recorded(lambda: trainer.step(images[indices], labels[indices]))

    def step(indices):
        static, replay = step_of(len(indices))
        static.copy_(indices)
        return replay()

    return step


def epochs(preset, count, batch, number, progress, kept, seconds):
    step = fitter(preset, count, batch)

    def epoch():
        losses = torch.zeros(2, device=DEVICE)
        for indices in torch.randperm(count, device=DEVICE).split(batch):
            seen = step(indices)
            if progress:
                seen.tolist()
            else:
                losses += seen
        losses.tolist()

    epoch()  # what is compiled, chosen and recorded is so now
    images, start = 0, perf_counter()
    while True:
        for _ in range(number):
            epoch()
        images += count * number
        elapsed = perf_counter() - start
        if elapsed >= seconds:
            return {"images": images, "seconds": elapsed}


def sources(batch, side, number):
    return [torch.randint(0, 256, (batch, side * side), dtype=torch.uint8) for _ in range(number)]


@functools.cache
def trainer(preset, batch, side):
    """A step from the host's memory, and which way there is the fastest."""
    made = Trainer(preset, side)
    labels = [torch.randint(CLASSES, (batch,)) for _ in range(BATCHES)]
    endless = itertools.cycle(zip(sources(batch, side, BATCHES), labels))
    there = torch.zeros(batch, side * side, dtype=torch.uint8, device=DEVICE)
    labels_there = torch.zeros(batch, dtype=torch.int64, device=DEVICE)
    staged, labels_staged = pinned(torch.zeros_like(there, device="cpu")), pinned(torch.zeros(batch, dtype=torch.int64))
    compute = recorded(lambda: made.step(there, labels_there))

    def pageable():
        pixels, right = next(endless)
        there.copy_(pixels)
        labels_there.copy_(right)
        compute().tolist()

    def pinned_first():
        pixels, right = next(endless)
        staged.copy_(pixels)
        labels_staged.copy_(right)
        there.copy_(staged, non_blocking=True)
        labels_there.copy_(labels_staged, non_blocking=True)
        compute().tolist()

    ways = {"pageable": pageable, "pinned": pinned_first}
    way = fastest(ways)
    return way, ways[way]


@functools.cache
def predictor(preset, batch, side):
    """Classes and probabilities of bytes, all in the host's memory."""
    model = network(preset, side).to(DEVICE).eval()
    images = sources(batch, side, 1)[0]
    there = torch.zeros(batch, side * side, dtype=torch.uint8, device=DEVICE)
    staged, probabilities = pinned(images.clone()), pinned(torch.zeros(batch, CLASSES))
    classes = pinned(torch.zeros(batch, dtype=torch.int64))

    def network_of_bytes():
        logits = model(there.view(-1, 1, side, side).float().div_(255))
        return logits.softmax(1), logits.argmax(1)

    def all_of_it():
        there.copy_(staged, non_blocking=True)
        for result, here in zip(network_of_bytes(), (probabilities, classes)):
            here.copy_(result, non_blocking=True)

    with torch.inference_mode():
        on_device, with_copies = recorded(network_of_bytes), recorded(all_of_it)

    def pageable():
        with torch.inference_mode():
            there.copy_(images)
            for result in on_device():
                result.cpu()

    def pinned_first():
        with torch.inference_mode():
            staged.copy_(images)
            with_copies()
            wait()

    ways = {"pageable": pageable, "pinned": pinned_first}
    way = fastest(ways)
    return way, ways[way]


serve(train=batches(trainer), predict=batches(predictor), latency=single_images(predictor), epochs=epochs)
