"""Measures JAX on a GPU for run.py, by worker.py's protocol and as torch_worker.py says: jax_worker.py cuda|cpu

An epoch is one lax.scan over its whole batches, with the data on the device, and a step for the last, smaller batch.
"""

import functools
import itertools
import os
import sys
from time import perf_counter

os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # others are on the GPU
os.environ["JAX_PLATFORMS"] = sys.argv[1]

import gzip
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from worker import BATCHES, Unavailable, batches, serve, single_images

CLASSES = 10
jax.config.update("jax_default_matmul_precision", "highest")  # f32 without TF32


def initial(key, side):
    features = 16 * ((side // 2 - 4) // 2) ** 2
    shapes = [(6, 1, 5, 5), (16, 6, 5, 5), (120, features), (84, 120), (CLASSES, 84)]
    layers = []
    for shape, part in zip(shapes, jax.random.split(key, len(shapes))):
        bound = (6 / (np.prod(shape[1:]) + shape[0] * np.prod(shape[2:]))) ** 0.5
        layers.append((jax.random.uniform(part, shape, minval=-bound, maxval=bound), jnp.zeros(shape[0])))
    return layers


def network(preset, layers, pixels, side):
    """Logits of (N, side * side) of uint8."""
    activation, pool = (jax.nn.sigmoid, jnp.mean) if preset == "classic" else (jax.nn.relu, jnp.max)
    x = pixels.reshape(-1, 1, side, side).astype(jnp.float32) / 255
    for (weight, bias), padding in zip(layers[:2], (2, 0)):
        padding = [(padding, padding)] * 2
        x = jax.lax.conv_general_dilated(x, weight, (1, 1), padding, dimension_numbers=("NCHW", "OIHW", "NCHW"))
        x = activation(x + bias[:, None, None])
        n, channels, height, width = x.shape
        x = pool(x.reshape(n, channels, height // 2, 2, width // 2, 2), (3, 5))
    x = x.reshape(len(x), -1)
    for weight, bias in layers[2:4]:
        x = activation(x @ weight.T + bias)
    weight, bias = layers[4]
    return x @ weight.T + bias


def start(preset, side):
    layers = initial(jax.random.key(0), side)
    zeros = jax.tree.map(jnp.zeros_like, layers)
    return (layers, zeros, zeros, 0.0) if preset == "modern" else (layers,)


def step(preset, side, state, pixels, labels):
    """One of SGD, or of AdamW for modern."""

    def loss(layers):
        logits = network(preset, layers, pixels, side)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None].astype(jnp.int32), 1)
        return -picked.mean(), (logits.argmax(1) == labels).sum()

    (value, correct), gradient = jax.value_and_grad(loss, has_aux=True)(state[0])
    if preset == "classic":
        return (jax.tree.map(lambda w, g: w - 0.9 * g, state[0], gradient),), (value, correct)
    layers, mean, square, number = state
    number = number + 1.0
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
    square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradient)

    def update(w, m, v):
        root = jnp.sqrt(v / (1 - 0.999**number)) + 1e-8
        return w * (1 - 1e-3 * 0.01) - 1e-3 * (m / (1 - 0.9**number)) / root

    return (jax.tree.map(update, layers, mean, square), mean, square, number), (value, correct)


@functools.cache
def dataset(count):
    def read(name, header):
        path = Path(os.environ["LENET_DATA"], f"{name}-ubyte")
        packed = path.with_name(path.name + ".gz")
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
        return np.frombuffer(content, np.uint8, offset=header)

    images, labels = read("train-images-idx3", 16).reshape(-1, 784), read("train-labels-idx1", 8)
    return jax.device_put(images[:count]), jax.device_put(labels[:count])


@functools.cache
def epoch_of(preset, count, batch):
    whole = count // batch * batch

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state, key, images, labels):
        order = jax.random.permutation(key, count)

        def one(state, indices):
            return step(preset, 28, state, images[indices], labels[indices])

        state, (losses, _) = jax.lax.scan(one, state, order[:whole].reshape(-1, batch))
        total = losses.sum() * batch
        if whole < count:
            state, (loss, _) = one(state, order[whole:])
            total += loss * (count - whole)
        return state, total / count

    return epoch


def epochs(preset, count, batch, number, progress, kept, seconds):
    if progress:
        raise Unavailable("a scan reports nothing between its steps")
    images, labels = dataset(count)
    epoch, state, key = epoch_of(preset, count, batch), start(preset, 28), jax.random.key(1)
    state = jax.tree.map(jnp.array, state)  # copies, as they are given away
    state, loss = epoch(state, key, images, labels)
    float(loss)
    done, begin = 0, perf_counter()
    while True:
        for _ in range(number):
            key, _ = jax.random.split(key)
            state, loss = epoch(state, key, images, labels)
            float(loss)
        done += count * number
        elapsed = perf_counter() - begin
        if elapsed >= seconds:
            return {"way": "an epoch as a scan", "images": done, "seconds": elapsed}


@functools.cache
def trainer(preset, batch, side):
    drawn = np.random.default_rng(0)
    pixels = drawn.integers(0, 256, (BATCHES, batch, side * side), np.uint8)
    endless = itertools.cycle(zip(pixels, drawn.integers(0, CLASSES, (BATCHES, batch), np.uint8)))
    compute = jax.jit(functools.partial(step, preset, side), donate_argnums=0)
    state = jax.tree.map(jnp.array, start(preset, side))

    def train():
        nonlocal state
        state, (loss, _) = compute(state, *next(endless))
        float(loss)

    return "jit", train


@functools.cache
def predictor(preset, batch, side):
    images = np.random.default_rng(0).integers(0, 256, (batch, side * side), np.uint8)
    layers = start(preset, side)[0]

    @jax.jit
    def compute(layers, pixels):
        logits = network(preset, layers, pixels, side)
        return jax.nn.softmax(logits), logits.argmax(1)

    return "jit", lambda: jax.device_get(compute(layers, images))


serve(train=batches(trainer), predict=batches(predictor), latency=single_images(predictor), epochs=epochs)
