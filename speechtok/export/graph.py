"""A graph of ONNX operations, built one operation at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""Of 2022: runtimes since onnxruntime 1.12 read the files."""

Array = NDArray[np.generic]
Shape = Sequence[int | str]
"""Sizes of a tensor; a name stands for a size that may vary."""


class Graph:
    """Operations and constants. Tensors are their names.

    Args:
        name: of the graph.
    """

    def __init__(self, name: str) -> None:
        self._graph = GraphProto(name=name)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def input(self, name: str, dtype: type[np.generic], shape: Shape) -> str:
        """Add an input of the graph."""
        self._graph.input.append(_value(name, dtype, shape))
        return name

    def output(self, tensor: str, name: str, dtype: type[np.generic], shape: Shape) -> None:
        """Make a tensor an output of the graph."""
        self._graph.node.append(helper.make_node("Identity", [tensor], [name]))
        self._graph.output.append(_value(name, dtype, shape))

    def constant(self, values: Array) -> str:
        """Add a constant, unless there is an equal one."""
        key = str(values.dtype), values.shape, values.tobytes()
        if key not in self._constants:
            name = self._new_name("constant")
            self._graph.initializer.append(numpy_helper.from_array(values, name))
            self._constants[key] = name
        return self._constants[key]

    def scalar(self, value: float) -> str:
        """Add a float32 number."""
        return self.constant(np.asarray(value, dtype=np.float32))

    def integers(self, *values: int) -> str:
        """Add a list of int64."""
        return self.constant(np.asarray(values, dtype=np.int64))

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation. Returns its result."""
        (result,) = self.add_many(operation, inputs, 1, **attributes)
        return result

    def add_many(self, operation: str, inputs: Sequence[str], results: int, **attributes: Any) -> list[str]:
        """Add an operation with several results."""
        names = [self._new_name(operation) for _ in range(results)]
        self._graph.node.append(helper.make_node(operation, list(inputs), names, **attributes))
        return names

    def cast(self, x: str, dtype: type[np.generic]) -> str:
        """Convert a tensor."""
        return self.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def slice(self, x: str, axis: int, start: int, stop: int | None = None) -> str:
        """``x[…, start:stop, …]`` on one axis; negative numbers count from the end."""
        end = np.iinfo(np.int64).max if stop is None else stop
        return self.add("Slice", x, self.integers(start), self.integers(end), self.integers(axis))

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape; 0 keeps a size, and -1 is what is left."""
        return self.add("Reshape", x, self.integers(*shape))

    def size(self, x: str, axis: int) -> str:
        """Size of an axis, int64 ``(1,)``."""
        return self.add("Shape", x, start=axis, end=axis + 1)

    def model(self, metadata: dict[str, str]) -> ModelProto:
        """Finish the graph."""
        model = helper.make_model(
            self._graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="speechtok",
        )
        helper.set_model_props(model, metadata)
        return model

    def _new_name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def _value(name: str, dtype: type[np.generic], shape: Shape) -> ValueInfoProto:
    types = {np.float32: TensorProto.FLOAT, np.int64: TensorProto.INT64}
    return helper.make_tensor_value_info(name, types[dtype], shape)
