"""Makes the PyTorch reference that the Rust tests hold lenet's numbers to: see README.md beside this file."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torch.nn.functional import cross_entropy

HERE = Path(__file__).parent
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
POOLINGS = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}
STEPS = 5

# What the files hold, rounded to f32. PyTorch's f32 is computed only to be compared: its last bits depend on the
# processor, and each one that is off would be taken from what the tests let lenet be off.
PRECISION = torch.float64


def path(name):
    return HERE / f"{name}.safetensors"


@dataclass(frozen=True)
class Case:
    seed: int  # chosen: see README.md, "AdamW near zero"
    activation: str
    pooling: str
    height: int
    width: int
    classes: int
    batch: int
    sgd_learning_rate: float
    momentum_learning_rate: float
    input_mean: float = 0.0
    input_std: float = 1.0


CASES = {
    "classic": Case(1, "sigmoid", "avg", 28, 28, 10, 8, 0.9, 0.1),
    "modern": Case(63, "relu", "max", 28, 28, 10, 8, 0.1, 0.02),
    "tanh": Case(8, "tanh", "avg", 20, 24, 5, 3, 0.1, 0.02, 0.2860, 0.3530),
    "sigmoid_max": Case(9, "sigmoid", "max", 16, 16, 3, 4, 0.2, 0.05),
    "relu_avg": Case(0, "relu", "avg", 16, 32, 17, 2, 0.1, 0.02),
    "tanh_max": Case(12, "tanh", "max", 16, 20, 2, 1, 0.05, 0.01),
}


def lenet(case):
    """The seed's network with its layers named, and its initial weights: Xavier-uniform, biases as PyTorch draws them."""
    activation, pooling = ACTIVATIONS[case.activation], POOLINGS[case.pooling]
    features = 16 * (case.height // 4 - 2) * (case.width // 4 - 2)
    network = nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 6, kernel_size=5, padding=2), activation1=activation(), pooling1=pooling(2),
        conv2=nn.Conv2d(6, 16, kernel_size=5), activation2=activation(), pooling2=pooling(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(features, 120), activation3=activation(),
        fc2=nn.Linear(120, 84), activation4=activation(),
        fc3=nn.Linear(84, case.classes),
    ))
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            nn.init.xavier_uniform_(parameter)
    return network


def network_input(images, case, dtype):
    """(..., height, width) bytes to (..., 1, height, width) numbers."""
    return ((images.to(dtype) / 255 - case.input_mean) / case.input_std).unsqueeze(-3)


def fashion_like(count, height, width):
    """(count, height, width) bytes: on wide black a textured garment, a large part of it plain. Black and plain
    are where max pooling meets equal values."""
    def random_part(image, smallest, largest):
        def span(length):
            size = torch.randint(int(length * smallest), int(length * largest) + 1, ()).item()
            start = torch.randint(length - size + 1, ()).item()
            return slice(start, start + size)
        return image[span(image.shape[0]), span(image.shape[1])]

    images = torch.zeros(count, height, width, dtype=torch.uint8)
    for image in images:
        garment = random_part(image, 0.4, 0.9)
        garment.random_(1, 256)
        random_part(garment, 0.5, 1.0).fill_(torch.randint(1, 256, ()).item())
    return images


def optimizers(case):
    """By the name the files use: PyTorch's optimizer and its settings."""
    return {
        "sgd": (torch.optim.SGD, {"lr": case.sgd_learning_rate}),
        "momentum": (torch.optim.SGD, {"lr": case.momentum_learning_rate, "momentum": 0.9, "weight_decay": 0.01}),
        "adamw": (torch.optim.AdamW, {"lr": 0.001, "weight_decay": 0.01}),
    }


def results(case, parameters, images, labels, dtype):
    """Logits, loss and gradients of batch 0; the parameters after one step of each optimizer on each batch."""
    inputs = network_input(images, case, dtype)  # (STEPS, batch, 1, height, width)

    def fresh_network():
        network = lenet(case)
        network.load_state_dict(parameters)
        return network.to(dtype)

    network = fresh_network()
    logits = network(inputs[0])
    loss = cross_entropy(logits, labels[0])
    loss.backward()
    found = {"logits": logits.detach(), "loss": loss.detach().reshape(1)}
    found |= {f"gradient.{name}": parameter.grad for name, parameter in network.named_parameters()}

    for kind, (optimizer_class, settings) in optimizers(case).items():
        network = fresh_network()
        optimizer = optimizer_class(network.parameters(), **settings)
        for batch_inputs, batch_labels in zip(inputs, labels):
            optimizer.zero_grad()
            cross_entropy(network(batch_inputs), batch_labels).backward()
            optimizer.step()
        found |= {f"{kind}.{name}": parameter.detach() for name, parameter in network.named_parameters()}
    return found


def print_differences(name, f32, f64):
    """How far PyTorch's f32 is from its f64, relative to each tensor's largest value."""
    print(f"{name}: f32 against f64")
    for tensor, exact in f64.items():
        difference = (f32[tensor] - exact).abs().max() / exact.abs().max()
        print(f"  {tensor:22} {difference:.1e}")


def save_case(name, tensors, metadata):
    data = bytearray(safetensors.torch.save(tensors, metadata))
    # safetensors writes the metadata in a new order each time; sorted, a second run gives the same file
    header = slice(8, 8 + int.from_bytes(data[:8], "little"))
    fields = json.loads(data[header])
    fields["__metadata__"] = dict(sorted(fields["__metadata__"].items()))
    data[header] = json.dumps(fields, separators=(",", ":")).encode().ljust(header.stop - header.start)
    path(name).write_bytes(data)


def make_case(name, case):
    torch.manual_seed(case.seed)
    parameters = {key: value.to(torch.float32) for key, value in lenet(case).state_dict().items()}
    count = STEPS * case.batch
    images = fashion_like(count, case.height, case.width).unflatten(0, (STEPS, case.batch))
    # half a batch of one class, then the next; begun at the last, whose label is the one that an off-by-one loses
    labels = ((torch.arange(count) // max(1, case.batch // 2) - 1) % case.classes).unflatten(0, (STEPS, case.batch))
    by_precision = {dtype: results(case, parameters, images, labels, dtype) for dtype in (torch.float32, torch.float64)}
    print_differences(name, by_precision[torch.float32], by_precision[torch.float64])

    tensors = {"images": images, "labels": labels.to(torch.uint8)}
    tensors |= {f"parameters.{key}": value for key, value in parameters.items()}
    tensors |= {key: value.to(torch.float32) for key, value in by_precision[PRECISION].items()}
    metadata = {key: getattr(case, key)
                for key in ("activation", "pooling", "height", "width", "classes", "input_mean", "input_std")}
    for kind, (_, settings) in optimizers(case).items():
        metadata |= {f"{kind}.{'learning_rate' if key == 'lr' else key}": value for key, value in settings.items()}
    metadata["torch"] = torch.__version__.split("+")[0]  # without "+cu130", which changes nothing here
    save_case(name, tensors, {key: str(value) for key, value in metadata.items()})


class Reshape(nn.Module):
    """The first module of older d2l LeNets: without parameters, but it moves the others' numbers up by one."""

    def forward(self, x):
        return x.view(-1, 1, 28, 28)


def save_logits(name, network, images):
    with torch.no_grad():
        logits = network.to(PRECISION)(network_input(images, CASES["classic"], PRECISION))
    safetensors.torch.save_file({"images": images, "logits": logits.to(torch.float32)}, path(name))


def make_pytorch_files():
    """One network, as the PyTorch programs that a user may come from have saved it."""
    torch.manual_seed(0)
    named = lenet(CASES["classic"]).to(torch.float32)
    sequential = nn.Sequential(*named)
    forms = {
        "named": named,
        "sequential": sequential,
        "reshape": nn.Sequential(Reshape(), *named),
        "net": nn.Sequential(OrderedDict(net=sequential)),
    }
    for form, network in forms.items():
        safetensors.torch.save_file(network.state_dict(), path(f"pytorch_{form}"))
    save_logits("pytorch_logits", named, fashion_like(4, 28, 28))


def read_file_saved_by_lenet():
    """The way back: what lenet saved, PyTorch loads, into the named network and into the seed's numbered one."""
    if not path("saved_by_lenet").exists():
        print("saved_by_lenet.safetensors is missing: saved_by_lenet_logits.safetensors is not made")
        return
    state = safetensors.torch.load_file(path("saved_by_lenet"))
    state = {name: tensor for name, tensor in state.items() if not name.startswith("optimizer.")}
    named, sequential = lenet(CASES["classic"]), nn.Sequential(*lenet(CASES["classic"]))
    named.load_state_dict(state, strict=True)
    # by the network's order: load_file's is the file's, which safetensors sorts (bias before weight)
    by_order = dict(zip(sequential.state_dict(), named.state_dict().values(), strict=True))
    sequential.load_state_dict(by_order, strict=True)
    images = safetensors.torch.load_file(path("pytorch_logits"))["images"]
    save_logits("saved_by_lenet_logits", sequential, images)
    print("saved_by_lenet.safetensors loads into PyTorch")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # random weights too: in f32 their last bit depends on the processor
    for name, case in CASES.items():
        make_case(name, case)
    make_pytorch_files()
    read_file_saved_by_lenet()
