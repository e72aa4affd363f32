"""Makes the PyTorch reference that the Rust tests hold lenet's numbers to: see README.md beside this file."""

import copy
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
    padding: int = 2


CASES = {
    "classic": Case(1, "sigmoid", "avg", 28, 28, 10, 8, 0.9, 0.1),
    "modern": Case(63, "relu", "max", 28, 28, 10, 8, 0.1, 0.02),
    "tanh": Case(8, "tanh", "avg", 20, 24, 5, 3, 0.1, 0.02, 0.2860, 0.3530),
    "sigmoid_max": Case(9, "sigmoid", "max", 16, 16, 3, 4, 0.2, 0.05),
    "relu_avg": Case(0, "relu", "avg", 16, 32, 17, 2, 0.1, 0.02),
    "tanh_max": Case(12, "tanh", "max", 16, 20, 2, 1, 0.05, 0.01),
    "unpadded": Case(23, "relu", "max", 16, 20, 6, 4, 0.1, 0.02, padding=0),
}


def lenet(case):
    """The seed's network with its layers named, and its initial weights: Xavier-uniform, biases as PyTorch draws them."""
    activation, pooling = ACTIVATIONS[case.activation], POOLINGS[case.pooling]
    rows, columns = ((size - 4 + 2 * case.padding) // 4 - 2 for size in (case.height, case.width))
    features = 16 * rows * columns
    network = nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 6, kernel_size=5, padding=case.padding), activation1=activation(), pooling1=pooling(2),
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
    if case.padding != 2:
        metadata["padding"] = case.padding
    for kind, (_, settings) in optimizers(case).items():
        metadata |= {f"{kind}.{'learning_rate' if key == 'lr' else key}": value for key, value in settings.items()}
    metadata["torch"] = torch.__version__.split("+")[0]  # without "+cu130", which changes nothing here
    save_case(name, tensors, {key: str(value) for key, value in metadata.items()})


class Reshape(nn.Module):
    """The first module of older d2l LeNets: without parameters, but it moves the others' numbers up by one."""

    def forward(self, x):
        return x.view(-1, 1, 28, 28)


def logits_of(network, images):
    with torch.no_grad():
        logits = network.to(PRECISION)(network_input(images, CASES["classic"], PRECISION))
    return logits.to(torch.float32)


def save_logits(name, network, images):
    logits = logits_of(network, images)
    safetensors.torch.save_file({"images": images, "logits": logits}, path(name))


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


class Lightning(nn.Module):
    """As a LightningModule or an own training class holds its network."""

    def __init__(self, network):
        super().__init__()
        self.model = network


class FeaturesAndClassifier(nn.Module):
    """torchvision's habit: the convolutions in one nn.Sequential, the rest in another."""

    def __init__(self, layers):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*layers[:6]), nn.Sequential(*layers[6:])

    def forward(self, x):
        return self.classifier(self.features(x))


class LeNet5(nn.Module):
    """LeCun's own names and sizes, (32, 32) images, with C5 as the convolution that it is in the paper."""

    def __init__(self):
        super().__init__()
        self.c1, self.c3, self.c5 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)
        self.f6, self.output = nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        pool = nn.functional.avg_pool2d
        x = pool(torch.tanh(self.c1(x)), 2)
        x = pool(torch.tanh(self.c3(x)), 2)
        x = torch.tanh(self.c5(x)).flatten(1)
        return self.output(torch.tanh(self.f6(x)))


class Tutorial(nn.Module):
    """The commonest LeNet for MNIST: no padding, so that fc1 has 256 inputs."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = x.flatten(1)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


def make_foreign_files():
    """Weights as others write them: wrapped, nested, in other precisions; without padding, so that they are small.
    foreign_logits has of each its images and logits."""
    torch.manual_seed(1)
    small = Case(0, "relu", "max", 16, 16, 10, 0, 0, 0, padding=0)
    network = lenet(small).to(torch.float32)
    forms = {
        "dataparallel": nn.DataParallel(network),
        "compiled": torch.compile(network),
        "lightning": Lightning(network),
        "nested": FeaturesAndClassifier(list(network)),
    }
    files = {form: (wrapped.state_dict(), network) for form, wrapped in forms.items()}
    for name in ("half", "bfloat16", "double"):
        other = copy.deepcopy(lenet(small) if name == "double" else network).to(getattr(torch, name))
        files[name] = (other.state_dict(), other)
    for name, own in {"tutorial": Tutorial(), "lenet5": LeNet5()}.items():
        own = own.to(torch.float32)
        files[name] = (own.state_dict(), own)

    images = {size: fashion_like(2, size, size) for size in (16, 28, 32)}
    logits = {}
    for name, (state, own) in files.items():
        safetensors.torch.save_file(state, path(f"foreign_{name}"))
        size = {"tutorial": 28, "lenet5": 32}.get(name, 16)
        logits |= {f"{name}.images": images[size].clone(), f"{name}.logits": logits_of(copy.deepcopy(own), images[size])}
    safetensors.torch.save_file(logits, path("foreign_logits"))


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
    make_foreign_files()
    read_file_saved_by_lenet()
