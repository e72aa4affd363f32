"""LeNet and its data in PyTorch, for the workers that measure it."""

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

CLASSES = 10


def network(preset, side):
    activation, pooling = {"classic": (nn.Sigmoid, nn.AvgPool2d), "modern": (nn.ReLU, nn.MaxPool2d)}[preset]
    features = 16 * ((side // 2 - 4) // 2) ** 2
    layers = [nn.Conv2d(1, 6, 5, padding=2), activation(), pooling(2)]
    layers += [nn.Conv2d(6, 16, 5), activation(), pooling(2), nn.Flatten()]
    layers += [nn.Linear(features, 120), activation(), nn.Linear(120, 84), activation(), nn.Linear(84, CLASSES)]
    return nn.Sequential(*layers)


def optimizer(preset, parameters, **ways):
    if preset == "classic":
        return torch.optim.SGD(parameters, lr=0.9, fused=ways.get("fused"))
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, **ways)


def fashion_mnist():
    """The 60,000 images, (N, 784) of uint8, and their labels, (N) of int64."""

    def read(name, header):
        path = Path(os.environ["LENET_DATA"], f"{name}-ubyte")
        packed = path.with_name(path.name + ".gz")
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).copy())

    return read("train-images-idx3", 16).view(-1, 784), read("train-labels-idx1", 8).long()
