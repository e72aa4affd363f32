"""d2l's recipe in PyTorch, to compare accuracy and speed with.

The images are in memory as bytes; each step gathers, converts, computes and updates a batch of 256, and reads loss and
hits, as lenet_fit does.
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

parser = argparse.ArgumentParser(description="d2l's recipe for LeNet on Fashion-MNIST, in PyTorch")
parser.add_argument("folder", type=Path, help="of Fashion-MNIST's four .gz files")
parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--threads", type=int, default=2)
arguments = parser.parse_args()

BATCH, LEARNING_RATE = 256, 0.9
torch.set_num_threads(arguments.threads)


def read(name, header):
    data = np.frombuffer(gzip.open(arguments.folder / f"{name}-ubyte.gz").read(), np.uint8, offset=header)
    return torch.from_numpy(data.copy())


def seeds_network():
    layers = [nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2)]
    layers += [nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten()]
    layers += [nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10)]
    for layer in layers:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(layer.weight)
    return nn.Sequential(*layers)


images, labels = read("train-images-idx3", 16).view(-1, 1, 28, 28), read("train-labels-idx1", 8).long()
test_images, test_labels = read("t10k-images-idx3", 16).view(-1, 1, 28, 28) / 255, read("t10k-labels-idx1", 8).long()
loss_function = nn.CrossEntropyLoss()
for seed in range(arguments.seeds):
    torch.manual_seed(seed)
    network = seeds_network()
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE)
    for epoch in range(1, arguments.epochs + 1):
        start, loss_sum, hits = time.monotonic(), 0.0, 0
        for batch in torch.randperm(len(labels)).split(BATCH):
            logits = network(images[batch].float() / 255)
            loss = loss_function(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
            hits += (logits.argmax(1) == labels[batch]).sum().item()
        speed = len(labels) / (time.monotonic() - start)
    with torch.no_grad():
        accuracy = (network(test_images).argmax(1) == test_labels).double().mean().item()
    print(
        f"seed {seed}, epoch {arguments.epochs}: train loss {loss_sum / len(labels):.4f}  train accuracy {hits / len(labels):.4f}"
        f"  test accuracy {accuracy:.4f}  {speed:.0f} images/s",
        flush=True,
    )
