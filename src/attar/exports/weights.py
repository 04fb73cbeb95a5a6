"""A model with dense layers and tables on their way into integers: each in 4 and in 8 bits, and files of both."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import onnx

from attar.adapters.onnx.adapter import OnnxAdapter
from attar.errors import ModelError
from attar.exports.codes import Packed, packed
from attar.exports.products import BLOCKS, dense_nodes, modern, with_products
from attar.exports.qdq import prepared
from attar.exports.tables import coded, table_nodes, with_tables
from attar.types import Array, Dataset, Layer, Stats, Weight


class Weights:
    """Dense layers and tables of a model, in integers when they are first asked for.

    `foldable` says whether 4 bits may go with the kernel DYNAMIC (products.py).
    """

    def __init__(self, model: onnx.ModelProto, calibrate: Dataset) -> None:
        model = prepared(model)
        newer = modern(copy.deepcopy(model))
        self.foldable = newer is not None
        self.model = model if newer is None else newer
        self._inner = OnnxAdapter.open(self.model)
        self.nodes = {self.model.graph.node[i].name: name for i, name in dense_nodes(self.model).items()}
        own = {layer.name: layer for layer in self._inner.layers() if layer.tied_to is None}
        wanted = [name for name in own if name in self.nodes.values()]
        self._stats: Mapping[str, Stats] = self._inner.moments(calibrate.batches(256), wanted)
        self._layers: dict[str, Layer] = {name: own[name] for name in wanted if name in self._stats}
        self.nodes = {node: name for node, name in self.nodes.items() if name in self._layers}
        if not self.nodes:
            raise ModelError(
                "model: the examples must reach a dense layer. Received none that does. Check the data, or export "
                "onnx-int8 instead."
            )
        self._plain: dict[str, Weight] = {name: self._inner.read(name) for name in self._layers}
        tables = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._tables: dict[str, Array] = {
            name: onnx.numpy_helper.to_array(tables[name]) for name in sorted(set(table_nodes(self.model).values()))
        }
        self._made: dict[tuple[str, int, int], tuple[Packed, Weight]] = {}
        self._coded: dict[tuple[str, int], tuple[Array, Array]] = {}

    @property
    def layers(self) -> Sequence[str]:
        """Names of dense weights."""
        return list(self._layers)

    @property
    def tables(self) -> Sequence[str]:
        """Names of tables."""
        return list(self._tables)

    def size(self, name: str) -> int:
        """Values of a weight or a table."""
        return self._tables[name].size if name in self._tables else self._layers[name].size

    def build(self, bits: Mapping[str, int], block: int, kernels: Mapping[str, str]) -> bytes:
        """The file with the weights and tables in `bits` in integers, of blocks where they have 4 bits.

        kernels: by weight, BLOCKS where it is not named. All others stay in float.
        """
        forms: dict[str, Packed] = {}
        for name in self._layers:
            weight = self._plain[name]
            if name in bits:
                forms[name], weight = self._packed(name, bits[name], block)
            self._inner.write(name, weight)
        out: onnx.ModelProto = self._inner.model()
        with_products(out, forms, {node: kernels.get(name, BLOCKS) for node, name in self.nodes.items()})
        with_tables(out, {name: self._table(name, bits[name]) for name in self._tables if name in bits})
        data: bytes = out.SerializeToString()
        return data

    def _packed(self, name: str, bits: int, block: int) -> tuple[Packed, Weight]:
        key = name, bits, block if bits == 4 else 0
        if key not in self._made:
            self._made[key] = packed(self._layers[name], self._plain[name], self._stats[name], bits, block)
        return self._made[key]

    def _table(self, name: str, bits: int) -> tuple[Array, Array]:
        if (name, bits) not in self._coded:
            self._coded[name, bits] = coded(self._tables[name], bits)
        return self._coded[name, bits]
