"""Measures ONNX Runtime's CPU provider for run.py, by worker.py's protocol: onnx_worker.py THREADS

Arrays that go in and come out anew with each call, or memory that is bound once: the faster is measured.
"""

import functools
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

from worker import batches, fastest, serve, single_images

THREADS = int(sys.argv[1])
CLASSES = 10


def graph(preset, side):
    """The network as ONNX, with random weights; its outputs are the two of lenet_predict."""
    activation, pooling = {"classic": ("Sigmoid", "AveragePool"), "modern": ("Relu", "MaxPool")}[preset]
    random = np.random.default_rng(0)
    nodes, weights = [], []

    def add(operator, source, *shapes, output=None, **attributes):
        output = output or f"value{len(nodes)}"
        names = [f"{output}.{i}" for i in range(len(shapes))]
        for name, shape in zip(names, shapes):
            weights.append(numpy_helper.from_array(random.normal(0, 0.1, shape).astype(np.float32), name))
        nodes.append(helper.make_node(operator, [source, *names], [output], **attributes))
        return output

    value = add("Conv", "images", (6, 1, 5, 5), (6,), pads=[2, 2, 2, 2])
    value = add(pooling, add(activation, value), kernel_shape=[2, 2], strides=[2, 2])
    value = add("Conv", value, (16, 6, 5, 5), (16,))
    value = add(pooling, add(activation, value), kernel_shape=[2, 2], strides=[2, 2])
    value = add("Flatten", value)
    value = add(activation, add("Gemm", value, (120, 16 * ((side // 2 - 4) // 2) ** 2), (120,), transB=1))
    value = add(activation, add("Gemm", value, (84, 120), (84,), transB=1))
    value = add("Gemm", value, (CLASSES, 84), (CLASSES,), transB=1)
    add("Softmax", value, output="probabilities", axis=1)
    add("ArgMax", value, output="classes", axis=1, keepdims=0)

    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, side, side])]
    outputs = [
        helper.make_tensor_value_info("classes", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES]),
    ]
    # Versions of some age, which every ONNX Runtime that goes with the onnx package reads.
    model = helper.make_model(
        helper.make_graph(nodes, "lenet", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    checker.check_model(model)
    return model.SerializeToString()


@functools.cache
def predictor(preset, batch, side):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    session = onnxruntime.InferenceSession(graph(preset, side), options, providers=["CPUExecutionProvider"])

    images = np.random.default_rng(1).random((batch, 1, side, side), np.float32)
    bound = session.io_binding()
    bound.bind_cpu_input("images", images)
    for name, shape, kind in [("classes", [batch], np.int64), ("probabilities", [batch, CLASSES], np.float32)]:
        bound.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind))

    ways = {
        "arrays": lambda: session.run(None, {"images": images}),
        "bound memory": lambda: session.run_with_iobinding(bound),
    }
    way = fastest(ways)
    return way, ways[way]


serve(predict=batches(predictor), latency=single_images(predictor))
