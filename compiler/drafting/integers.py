"""The small numbers that a model computes with beside its layers: shapes, axes, limits.

Exporters write ``x.view(x.size(0), -1)`` as nodes that compute a shape. ``onnx.reference`` runs
those whose inputs are known; how many images there are is not, and goes through as a mark.
"""

from math import prod
from typing import TYPE_CHECKING

from vggspec.base.fields import short
from vggspec.compiler.importing.onnx_files import attribute, integer
from vggspec.compiler.importing.stored import BadFileError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

Integers = tuple[int | None, ...]
"""A shape or a part of it; None is the number of images, or unknown."""

_OPEN = -(1 << 40)
"""Stands for a number that is not known."""

_MOST_NUMBERS = 64
_MOST_NODES = 1000  # that are run: each takes a millisecond

#: What moves numbers and may see the mark, and what calculates and may not.
_MOVES = frozenset(
    {"Concat", "Gather", "Slice", "Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape"}
    | {"Transpose"}
)
_CALCULATES = frozenset({"Add", "Sub", "Mul", "Div", "ReduceProd", "ConstantOfShape"})


class Constants:
    """The constants of a model, and what it computes of them and of shapes."""

    def __init__(self, model: "ModelProto", opset: int) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._computed: dict[str, NDArray[np.int64]] = {}
        self._opset = opset
        self._run = 0

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def number(self, name: str) -> float | None:
        """A constant that is one number; None for another value."""
        found = self._small(name)
        return float(found.reshape(-1)[0]) if found is not None and found.size == 1 else None

    def integers(self, name: str) -> Integers | None:
        """Whole numbers, where they are known."""
        found = self._array(name)
        if found is None:
            return None
        return tuple(None if number == _OPEN else int(number) for number in found.reshape(-1))

    def add_constant(self, node: "NodeProto") -> None:
        """The value of a node ``Constant``."""
        import numpy as np

        name, value = node.output[0], attribute(node, "value")
        if value is not None and value.HasField("t"):
            self._tensors[name] = value.t
            return
        for kind in ("value_int", "value_ints"):
            found = attribute(node, kind)
            if found is not None:
                numbers = found.i if kind == "value_int" else found.ints[:_MOST_NUMBERS]
                self._computed[name] = np.array(numbers, np.int64)

    def add_shape(self, node: "NodeProto", sides: Integers) -> None:
        """The value of a node ``Shape``."""
        import numpy as np

        end = attribute(node, "end")
        part = sides[integer(node, "start") : None if end is None else end.i]
        numbers = [_OPEN if side is None else side for side in part]
        self._computed[node.output[0]] = np.array(numbers, np.int64)

    def compute(self, node: "NodeProto") -> bool:
        """The value of a node that reads whole numbers alone; False for other nodes."""
        given = {name: self._array(name) for name in node.input if name}
        arrays = {name: array for name, array in given.items() if array is not None}
        is_read = bool(given) and len(arrays) == len(given)
        if not is_read or node.op_type not in _MOVES | _CALCULATES:
            return False
        is_open = any((array == _OPEN).any() for array in arrays.values())
        if is_open and node.op_type in _CALCULATES:
            return True  # which nothing can read
        if node.op_type == "ConstantOfShape":
            sides = next(iter(arrays.values())).reshape(-1)
            if any(side < 0 for side in sides) or prod(map(int, sides)) > _MOST_NUMBERS:
                return True
        self._run += 1
        if self._run <= _MOST_NODES:
            self._keep(node, arrays)
        return True

    def _keep(self, node: "NodeProto", arrays: "dict[str, NDArray[np.int64]]") -> None:
        import numpy as np
        from onnx import TensorProto, helper
        from onnx.reference import ReferenceEvaluator

        kind = TensorProto.INT64
        inputs = [helper.make_tensor_value_info(name, kind, None) for name in arrays]
        outputs = [helper.make_tensor_value_info(node.output[0], kind, None)]
        graph = helper.make_graph([node], "shape", inputs, outputs)
        imports = [helper.make_opsetid("", self._opset)]
        try:
            evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=imports))
            (found,) = evaluator.run(None, dict(arrays))
        except Exception:  # noqa: BLE001 (whatever it raises, the value is not known)
            return
        if isinstance(found, np.ndarray) and found.dtype.kind in "iu":
            if found.size <= _MOST_NUMBERS:
                self._computed[node.output[0]] = found.astype(np.int64)
        elif isinstance(found, np.integer):
            self._computed[node.output[0]] = np.array(found, np.int64)

    def _array(self, name: str) -> "NDArray[np.int64] | None":
        if name in self._computed:
            return self._computed[name]
        found = self._small(name)
        if found is None or found.dtype.kind not in "iu":
            return None
        return found.astype("int64")

    def _small(self, name: str) -> "NDArray[np.generic] | None":
        """The numbers of a small constant in the file."""
        tensor = self._tensors.get(name)
        return None if tensor is None else _read(tensor)


def _read(tensor: "TensorProto") -> "NDArray[np.generic] | None":
    from onnx import numpy_helper

    sides = tuple(tensor.dims)
    is_beside = tensor.data_location == tensor.EXTERNAL
    if is_beside or any(side < 0 for side in sides) or prod(sides) > _MOST_NUMBERS:
        return None
    try:
        found: NDArray[np.generic] = numpy_helper.to_array(tensor)
    except (TypeError, ValueError) as error:
        raise BadFileError(
            f"`{short(tensor.name)}` has another size than its shape says"
        ) from error
    return found
