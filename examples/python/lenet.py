"""liblenet through ctypes and NumPy: thin, every function of the C API, no build step.

include/lenet.h is the manual; here is what Python adds. Errors are LeNetError. Arrays are checked and
never copied behind your back: images are C-contiguous uint8 (0..255) or float32 (0..1) of shape
(n, height, width) or (n, 1, height, width), labels are contiguous uint8 of shape (n,). What a callback
raises comes out of fit(). The library is LENET_LIBRARY, or else the one that `cargo build --release` made.
"""

import ctypes
import os
import sys
import weakref
from ctypes import CFUNCTYPE, POINTER, byref
from ctypes import c_char_p, c_double, c_float, c_int32, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import NamedTuple

import numpy as np

OK, NOT_FOUND, CANCELLED = 0, "LENET_ERROR_NOT_FOUND", "LENET_ERROR_CANCELLED"
PRESETS = {"classic": 0, "modern": 1}
DEVICES = {"cpu": 0, "cuda": 1, "auto": 2}
ACTIVATIONS = {"sigmoid": 0, "tanh": 1, "relu": 2}
POOLINGS = {"avg": 0, "max": 1}
OPTIMIZERS = {"sgd": 0, "adamw": 1}
STEP, EPOCH_END = 0, 1


class LeNetError(Exception):
    """A call that failed. `status` is the constant's name, such as "LENET_ERROR_IO"."""

    def __init__(self, status, message):
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message

    def __reduce__(self):  # so that it survives pickling, as between processes
        return type(self), (self.status, self.message)


# The structs of lenet.h, field by field. None of them has padding.


class Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("device", c_int32),
        ("device_index", c_int32),
        ("num_threads", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("classes", c_uint32),
        ("activation", c_int32),
        ("pooling", c_int32),
        ("optimizer", c_int32),
        ("seed", c_uint64),
        ("learning_rate", c_double),
        ("momentum", c_double),
        ("weight_decay", c_double),
        ("input_mean", c_double),
        ("input_std", c_double),
        ("preparation", c_int32),
        ("mirror", c_uint32),
        ("padding", c_uint32),
        ("reserved", c_uint32),
    ]


class FitOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("epochs", c_uint32),
        ("batch_size", c_uint32),
        ("schedule", c_uint32),
        ("shift", c_uint32),
        ("keep", c_uint32),
        ("patience", c_uint32),
        ("reserved", c_uint32),
        ("flip", c_double),
        ("rotation", c_double),
        ("scale", c_double),
        ("max_seconds", c_double),
        ("target_accuracy", c_double),
        ("class_balance", c_double),
    ]


class CMetrics(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("count", c_uint64),
        ("correct", c_uint64),
        ("loss", c_double),
        ("accuracy", c_double),
    ]


class CProgress(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("epoch", c_uint32),
        ("epochs", c_uint32),
        ("event", c_uint32),
        ("step", c_uint64),
        ("steps", c_uint64),
        ("loss", c_double),
        ("accuracy", c_double),
        ("validation_loss", c_double),
        ("validation_accuracy", c_double),
        ("images_per_second", c_double),
    ]


class CLayer(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("channels", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("parameters", c_uint64),
        ("name", c_char_p),
        ("kind", c_char_p),
    ]


_SIZES = {Options: 104, FitOptions: 80, CMetrics: 40, CProgress: 72, CLayer: 24 + 2 * ctypes.sizeof(c_void_p)}
for _struct, _size in _SIZES.items():
    assert ctypes.sizeof(_struct) == _size, _struct


# What callers see of them: plain values, which stay valid after the call.


class Metrics(NamedTuple):
    count: int
    correct: int
    loss: float
    accuracy: float
    confusion: np.ndarray  # (classes, classes) uint64, row = truth


class Progress(NamedTuple):
    epoch: int  # 1 to epochs
    epochs: int
    event: int  # STEP or EPOCH_END
    step: int  # 1 to steps
    steps: int
    loss: float  # mean over the images of this epoch so far, as is accuracy
    accuracy: float
    validation_loss: float  # NaN but at EPOCH_END with a validation set
    validation_accuracy: float
    images_per_second: float


class Layer(NamedTuple):
    name: str
    kind: str
    shape: tuple  # (channels, height, width) of the output
    parameters: int


PROGRESS_FN = CFUNCTYPE(c_int32, POINTER(CProgress), c_void_p)
MODEL = DATASET = c_void_p
F32, U8, U64 = POINTER(c_float), POINTER(c_uint8), POINTER(c_uint64)

# name: (result, arguments), in the header's order
SIGNATURES = {
    "lenet_version": (c_char_p, []),
    "lenet_version_number": (c_uint32, []),
    "lenet_build_info": (c_char_p, []),
    "lenet_status_name": (c_char_p, [c_int32]),
    "lenet_last_error": (c_char_p, []),
    "lenet_device_count": (c_int32, [c_int32, POINTER(c_uint32)]),
    "lenet_options_init": (c_int32, [POINTER(Options), c_size_t, c_int32]),
    "lenet_create": (c_int32, [POINTER(Options), POINTER(MODEL)]),
    "lenet_clone": (c_int32, [MODEL, POINTER(MODEL)]),
    "lenet_free": (None, [MODEL]),
    "lenet_get_options": (c_int32, [MODEL, POINTER(Options)]),
    "lenet_get_layer": (c_int32, [MODEL, c_size_t, POINTER(CLayer)]),
    "lenet_save": (c_int32, [MODEL, c_char_p]),
    "lenet_load": (c_int32, [c_char_p, POINTER(Options), POINTER(MODEL)]),
    "lenet_save_buffer": (c_int32, [MODEL, U8, c_size_t, POINTER(c_size_t)]),
    "lenet_load_buffer": (c_int32, [U8, c_size_t, POINTER(Options), POINTER(MODEL)]),
    "lenet_dataset_open": (c_int32, [c_char_p, c_char_p, POINTER(DATASET)]),
    "lenet_dataset_from_memory": (c_int32, [U8, U8, c_size_t, c_uint32, c_uint32, POINTER(DATASET)]),
    "lenet_dataset_free": (None, [DATASET]),
    "lenet_dataset_count": (c_size_t, [DATASET]),
    "lenet_dataset_size": (c_int32, [DATASET, POINTER(c_uint32), POINTER(c_uint32)]),
    "lenet_dataset_read": (c_int32, [DATASET, c_size_t, c_size_t, U8, U8]),
    "lenet_train_batch": (c_int32, [MODEL, F32, U8, c_size_t, F32]),
    "lenet_train_batch_u8": (c_int32, [MODEL, U8, U8, c_size_t, F32]),
    "lenet_fit": (c_int32, [MODEL, DATASET, DATASET, POINTER(FitOptions), PROGRESS_FN, c_void_p]),
    "lenet_fit_options_init": (c_int32, [POINTER(FitOptions), c_size_t, c_int32]),
    "lenet_set_learning_rate": (c_int32, [MODEL, c_double]),
    "lenet_predict": (c_int32, [MODEL, F32, c_size_t, U8, F32]),
    "lenet_predict_u8": (c_int32, [MODEL, U8, c_size_t, U8, F32]),
    "lenet_logits": (c_int32, [MODEL, F32, c_size_t, F32]),
    "lenet_evaluate": (c_int32, [MODEL, DATASET, POINTER(CMetrics), U64, c_size_t]),
    "lenet_parameter_count": (c_size_t, [MODEL]),
    "lenet_get_parameters": (c_int32, [MODEL, F32, c_size_t]),
    "lenet_set_parameters": (c_int32, [MODEL, F32, c_size_t]),
    "lenet_compute_gradients": (c_int32, [MODEL, F32, U8, c_size_t, F32, c_size_t, F32]),
    "lenet_apply_gradients": (c_int32, [MODEL, F32, c_size_t]),
}


def _open_library():
    name = {"win32": "lenet.dll", "darwin": "liblenet.dylib"}.get(sys.platform, "liblenet.so")
    path = os.environ.get("LENET_LIBRARY") or str(Path(__file__).resolve().parents[2] / "target" / "release" / name)
    try:
        library = ctypes.CDLL(path)
        for function, (result, arguments) in SIGNATURES.items():
            getattr(library, function).restype = result
            getattr(library, function).argtypes = arguments
    except (OSError, AttributeError) as error:  # no such file, or a library without one of the functions
        raise ImportError(f"{error}; run `cargo build --release`, or set LENET_LIBRARY to the library") from error
    return library


_lib = _open_library()


def _check(status):
    if status != OK:
        raise LeNetError(_lib.lenet_status_name(status).decode(), _lib.lenet_last_error().decode())


def version():
    return _lib.lenet_version().decode()


def version_number():
    return _lib.lenet_version_number()


def build_info():
    return _lib.lenet_build_info().decode()


def device_count(device="cpu"):
    count = c_uint32()
    _check(_lib.lenet_device_count(_constant("device", DEVICES, device), byref(count)))
    return count.value


def _constant(what, names, value):
    if value in names:
        return names[value]
    raise ValueError(f"{what} is {value!r}; expected one of {', '.join(names)}")


def _array(what, array, dtypes, shapes):
    """The checks that C cannot make: a pointer doesn't know its type, shape or strides."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} is a {type(array).__name__}; expected a NumPy array")
    if array.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise TypeError(f"{what} has dtype {array.dtype}; expected {expected}")
    if array.shape not in shapes:
        raise ValueError(f"{what} has shape {array.shape}; expected {' or '.join(map(str, shapes))}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{what} is not C-contiguous and aligned; array.copy() is")
    return array


def _pointer(array, kind):
    return array.ctypes.data_as(kind)


def _path(path):
    return os.fspath(path).encode() if isinstance(os.fspath(path), str) else os.fspath(path)


def _options(preset, fields):
    """The preset, with the fields that were given changed."""
    options = Options()
    _check(_lib.lenet_options_init(byref(options), ctypes.sizeof(options), _constant("preset", PRESETS, preset)))
    names = {"device": DEVICES, "activation": ACTIVATIONS, "pooling": POOLINGS, "optimizer": OPTIMIZERS}
    known = [name for name, _ in Options._fields_ if name != "struct_size"]
    for field, value in fields.items():
        if field not in known:
            raise TypeError(f"no option {field!r}; there are {', '.join(known)}")
        if field in names:
            value = _constant(field, names[field], value)
        elif (kind := dict(Options._fields_)[field]) is not c_double:
            # ctypes would wrap what does not fit: height -1 would be four billion
            bits, signed = 8 * ctypes.sizeof(kind), kind is c_int32
            low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
            if not low <= value <= high:
                raise ValueError(f"{field} is {value}; expected {low} to {high}")
        setattr(options, field, value)
    return options


class _Handle:
    """Owns one C handle. After close(), calls fail with LENET_ERROR_NULL_POINTER."""

    def __init__(self, handle, free):
        self._handle = handle
        self._finalizer = weakref.finalize(self, free, handle)

    def close(self):
        self._finalizer()
        self._handle = c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Dataset(_Handle):
    """Images and labels, immutable: from arrays, or from IDX files with Dataset.open."""

    def __init__(self, images, labels):
        handle = c_void_p()
        if getattr(images, "ndim", 0) == 4:
            images = images[:, 0] if images.shape[1] == 1 else images
        if getattr(images, "ndim", 0) != 3:
            raise ValueError("images: expected an array of shape (n, height, width) or (n, 1, height, width)")
        n, height, width = images.shape
        _array("images", images, [np.uint8], [images.shape])
        _array("labels", labels, [np.uint8], [(n,)])
        pixels, truth = _pointer(images, U8), _pointer(labels, U8)
        _check(_lib.lenet_dataset_from_memory(pixels, truth, n, height, width, byref(handle)))
        super().__init__(handle, _lib.lenet_dataset_free)

    @classmethod
    def open(cls, images_path, labels_path):
        handle, dataset = c_void_p(), cls.__new__(cls)
        _check(_lib.lenet_dataset_open(_path(images_path), _path(labels_path), byref(handle)))
        _Handle.__init__(dataset, handle, _lib.lenet_dataset_free)
        return dataset

    def __len__(self):
        return _lib.lenet_dataset_count(self._handle)

    @property
    def size(self):
        """(height, width)"""
        height, width = c_uint32(), c_uint32()
        _check(_lib.lenet_dataset_size(self._handle, byref(height), byref(width)))
        return height.value, width.value

    def read(self, first=0, n=None):
        """Copies of n images (n, height, width) and their labels (n,), both uint8."""
        n = len(self) - first if n is None else n
        if first < 0 or n < 0:
            raise ValueError(f"first is {first} and n is {n}; neither may be negative")
        height, width = self.size
        if first + n > len(self):  # before so many bytes are asked for
            raise IndexError(f"images {first} to {first + n} of {len(self)}")
        images, labels = np.empty((n, height, width), np.uint8), np.empty(n, np.uint8)
        _check(_lib.lenet_dataset_read(self._handle, first, n, _pointer(images, U8), _pointer(labels, U8)))
        return images, labels


class LeNet(_Handle):
    """LeNet(preset, learning_rate=0.1, seed=7, activation="relu", ...): lenet_options' fields as keywords."""

    def __init__(self, preset="classic", **options):
        handle = c_void_p()
        _check(_lib.lenet_create(byref(_options(preset, options)), byref(handle)))
        self._own(handle)

    def _own(self, handle):
        super().__init__(handle, _lib.lenet_free)
        # They never change: no call per batch to know an array's right shape.
        options = self.options
        self.height, self.width, self.classes = options.height, options.width, options.classes

    @classmethod
    def _from_handle(cls, handle):
        model = cls.__new__(cls)
        model._own(handle)
        return model

    @classmethod
    def load(cls, path, preset="classic", **options):
        """options: device and num_threads. A plain PyTorch file needs more, for it does not tell them: height, width,
        padding, classes, activation, pooling, input_mean and input_std, as far as they are not the preset's. If they
        all are, name one: without any option such a file is refused."""
        handle = c_void_p()
        given = byref(_options(preset, options)) if options or preset != "classic" else None
        _check(_lib.lenet_load(_path(path), given, byref(handle)))
        return cls._from_handle(handle)

    @classmethod
    def from_bytes(cls, data, preset="classic", **options):
        """The inverse of to_bytes; options as for load."""
        handle, buffer = c_void_p(), np.frombuffer(data, np.uint8)
        given = byref(_options(preset, options)) if options or preset != "classic" else None
        _check(_lib.lenet_load_buffer(_pointer(buffer, U8), len(buffer), given, byref(handle)))
        return cls._from_handle(handle)

    def save(self, path):
        _check(_lib.lenet_save(self._handle, _path(path)))

    def to_bytes(self):
        needed = c_size_t()
        _check(_lib.lenet_save_buffer(self._handle, None, 0, byref(needed)))
        buffer = np.empty(needed.value, np.uint8)
        _check(_lib.lenet_save_buffer(self._handle, _pointer(buffer, U8), len(buffer), byref(needed)))
        return buffer[: needed.value].tobytes()

    def clone(self):
        handle = c_void_p()
        _check(_lib.lenet_clone(self._handle, byref(handle)))
        return self._from_handle(handle)

    @property
    def options(self):
        options = Options(struct_size=ctypes.sizeof(Options))
        _check(_lib.lenet_get_options(self._handle, byref(options)))
        return options

    @property
    def layers(self):
        rows = []
        while True:
            row = CLayer(struct_size=ctypes.sizeof(CLayer))
            try:
                _check(_lib.lenet_get_layer(self._handle, len(rows), byref(row)))
            except LeNetError as error:
                if error.status == NOT_FOUND and rows:
                    return rows
                raise
            shape = (row.channels, row.height, row.width)
            rows.append(Layer(row.name.decode(), row.kind.decode(), shape, row.parameters))

    def set_learning_rate(self, learning_rate):
        _check(_lib.lenet_set_learning_rate(self._handle, learning_rate))

    def _images(self, images, dtypes=(np.uint8, np.float32)):
        n = len(images) if isinstance(images, np.ndarray) and images.ndim else 0
        return _array("images", images, dtypes, [(n, self.height, self.width), (n, 1, self.height, self.width)]), n

    def train_batch(self, images, labels):
        """One step; the mean loss of the batch before it."""
        images, n = self._images(images)
        labels, loss = _array("labels", labels, [np.uint8], [(n,)]), c_float()
        if images.dtype == np.uint8:
            _check(_lib.lenet_train_batch_u8(self._handle, _pointer(images, U8), _pointer(labels, U8), n, byref(loss)))
        else:
            _check(_lib.lenet_train_batch(self._handle, _pointer(images, F32), _pointer(labels, U8), n, byref(loss)))
        return loss.value

    def fit(self, train, validation=None, epochs=10, batch_size=256, progress=None):
        """progress(Progress) is called after each step and each epoch. True cancels: fit returns False and
        the steps until then are kept. So they are when it raises: the exception comes out of fit."""
        for name, value in (("epochs", epochs), ("batch_size", batch_size)):
            if not 0 <= value < 1 << 32:  # ctypes would wrap it
                raise ValueError(f"{name} is {value}; expected 0 to {(1 << 32) - 1}")
        options, raised = FitOptions(), []
        _check(_lib.lenet_fit_options_init(byref(options), ctypes.sizeof(options), PRESETS["classic"]))
        options.epochs, options.batch_size = epochs, batch_size

        def callback(c_progress, _):
            # ctypes would print an exception and go on; Ctrl-C arrives here too
            try:
                values = (getattr(c_progress.contents, name) for name in Progress._fields)
                return int(bool(progress(Progress(*values))))
            except BaseException as exception:
                raised.append(exception)
                return 1

        # Without progress Ctrl-C still works: Python looks for it whenever a callback runs.
        progress = progress or (lambda _: False)
        c_callback = PROGRESS_FN(callback)  # referenced until lenet_fit has returned
        validation = validation._handle if validation is not None else None
        status = _lib.lenet_fit(self._handle, train._handle, validation, byref(options), c_callback, None)
        if raised:
            raise raised[0]
        if _lib.lenet_status_name(status).decode() == CANCELLED:
            return False
        _check(status)
        return True

    def predict(self, images):
        """classes (n,) uint8 and probabilities (n, classes) float32"""
        images, n = self._images(images)
        classes, probabilities = np.empty(n, np.uint8), np.empty((n, self.classes), np.float32)
        out = (_pointer(classes, U8), _pointer(probabilities, F32))
        if images.dtype == np.uint8:
            _check(_lib.lenet_predict_u8(self._handle, _pointer(images, U8), n, *out))
        else:
            _check(_lib.lenet_predict(self._handle, _pointer(images, F32), n, *out))
        return classes, probabilities

    def logits(self, images):
        """(n, classes) float32, of float32 images"""
        images, n = self._images(images, [np.float32])
        logits = np.empty((n, self.classes), np.float32)
        _check(_lib.lenet_logits(self._handle, _pointer(images, F32), n, _pointer(logits, F32)))
        return logits

    def evaluate(self, dataset):
        metrics = CMetrics(struct_size=ctypes.sizeof(CMetrics))
        confusion = np.zeros((self.classes, self.classes), np.uint64)
        out = (byref(metrics), _pointer(confusion, U64), confusion.size)
        _check(_lib.lenet_evaluate(self._handle, dataset._handle, *out))
        return Metrics(metrics.count, metrics.correct, metrics.loss, metrics.accuracy, confusion)

    @property
    def parameter_count(self):
        return _lib.lenet_parameter_count(self._handle)

    @property
    def parameters(self):
        """A copy, flat, in the order conv1.weight, conv1.bias, ... fc3.bias; assigning sets them."""
        parameters = np.empty(self.parameter_count, np.float32)
        _check(_lib.lenet_get_parameters(self._handle, _pointer(parameters, F32), parameters.size))
        return parameters

    @parameters.setter
    def parameters(self, parameters):
        _array("parameters", parameters, [np.float32], [(self.parameter_count,)])
        _check(_lib.lenet_set_parameters(self._handle, _pointer(parameters, F32), parameters.size))

    def compute_gradients(self, images, labels):
        """gradients, flat like parameters, and the mean loss; of float32 images"""
        images, n = self._images(images, [np.float32])
        _array("labels", labels, [np.uint8], [(n,)])
        gradients, loss = np.empty(self.parameter_count, np.float32), c_float()
        out = (_pointer(gradients, F32), gradients.size, byref(loss))
        _check(_lib.lenet_compute_gradients(self._handle, _pointer(images, F32), _pointer(labels, U8), n, *out))
        return gradients, loss.value

    def apply_gradients(self, gradients):
        _array("gradients", gradients, [np.float32], [(self.parameter_count,)])
        _check(_lib.lenet_apply_gradients(self._handle, _pointer(gradients, F32), gradients.size))
