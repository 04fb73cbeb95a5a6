"""TFLite files that are damaged or lie, what is written, and the way through the verbs."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import attar
from adapters import tflite_models as models
from adapters.test_tflite import sparse
from attar import cli
from attar.adapters.tflite.adapter import TfliteAdapter
from attar.adapters.tflite.reader import parsed
from attar.errors import AttarError, FormatError, ModelError

FILES = [make() for make in (models.conv, models.half, models.lstm, models.gather)] + [sparse()[0]]


def use(data: bytes) -> None:
    """Everything that runs nothing of the model."""
    adapter = TfliteAdapter.open(data)
    adapter.skeleton(), adapter.remainder(), adapter.model(), adapter.skipped()
    for layer in adapter.layers():
        if layer.tied_to is None:
            adapter.read(layer.name)


@pytest.mark.parametrize("data", FILES, ids=range(len(FILES)))
def test_truncated_files_are_refused(data):
    for end in [*range(64), *range(64, len(data), 37)]:
        with pytest.raises(AttarError):
            use(data[:end])


@settings(max_examples=200, deadline=None)
@given(
    which=st.integers(0, len(FILES) - 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4)
)
def test_flipped_bytes_are_refused_or_harmless(which, flips):
    data = bytearray(FILES[which])
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    try:
        use(bytes(data))
    except AttarError as error:
        assert "Received" in str(error)


@settings(max_examples=200, deadline=None)
@given(which=st.integers(0, len(FILES) - 1), place=st.floats(0, 1), value=st.sampled_from([0, 1, 2**31 - 1, 2**32 - 1]))
def test_wild_offsets_and_lengths_are_refused_or_harmless(which, place, value):
    data = bytearray(FILES[which])
    at = int(place * (len(data) // 4 - 1)) * 4
    data[at : at + 4] = struct.pack("<I", value)
    try:
        use(bytes(data))
    except AttarError as error:
        assert "Received" in str(error)


def test_a_file_that_names_one_table_without_end_is_refused_at_once():
    """A vector of a million offsets to the same graph, whose operators are the same: more entries than bytes."""
    g = models.Graph([4])
    y = models.dense(g, g.input, "w", 4, 4)
    plain = g.model(y)
    graph = schema.ModelT.InitFromPackedBuf(plain).subgraphs[0]
    assert len(graph.operators) == 1
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    operators = []
    made = schema.OperatorT(inputs=[0], outputs=[0]).Pack(builder)
    schema.SubGraphStartOperatorsVector(builder, 3000)
    for _ in range(3000):
        builder.PrependUOffsetTRelative(made)
    operators = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddOperators(builder, operators)
    one = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 3000)
    for _ in range(3000):
        builder.PrependUOffsetTRelative(one)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    with pytest.raises(FormatError, match="more entries than its bytes can hold"):
        parsed(bytes(builder.Output()), "bomb")


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "an empty file"), (b"PK\x03\x04" + bytes(60), "a zip archive"), (bytes(60), "no TFL3"),
     (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer")],
)  # fmt: skip
def test_other_files_are_named(tmp_path, data, said):
    place = tmp_path / "m.tflite"
    place.write_bytes(data)
    with pytest.raises(FormatError, match=said):
        TfliteAdapter.open(place)


def edited(make, change) -> bytes:
    """A model after a change of its objects."""
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(make())
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def first(model):
    return model.subgraphs[0].operators[0]


LIES = {
    "an input that there is not": lambda m: setattr(first(m), "inputs", [0, 99, 2]),
    "an output below zero": lambda m: setattr(first(m), "outputs", [-1]),
    "an operator code that there is not": lambda m: setattr(first(m), "opcodeIndex", 7),
    "values in no buffer": lambda m: setattr(m.subgraphs[0].tensors[1], "buffer", 99),
    "a shape that the values do not have": lambda m: setattr(m.subgraphs[0].tensors[1], "shape", [5, 3, 2, 4]),
    "a size below zero": lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [1, -8, 9, 3]),
    "a size beyond all memory": lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [1, 2**30, 2**30, 3]),
    "a step of zero": lambda m: setattr(first(m).builtinOptions, "strideW", 0),
    "values behind the end": lambda m: setattr(m.buffers[1], "offset", 10**6),
    "two numbers of axes": lambda m: setattr(m.subgraphs[0].tensors[0], "shapeSignature", [-1]),
    "no graph": lambda m: setattr(m, "subgraphs", []),
    "another version": lambda m: setattr(m, "version", 4),
}


@pytest.mark.parametrize("lie", LIES)
def test_numbers_that_lie_are_refused(lie):
    with pytest.raises(FormatError, match="Received"):
        TfliteAdapter.open(edited(models.conv, LIES[lie]))


def test_what_kills_the_runtime_is_an_error_and_no_crash():
    """A kernel larger than its input: whatever LiteRT does with it, it does it in a process of its own."""
    data = edited(models.conv_dilated, lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [1, 2, 2, 2]))
    adapter = TfliteAdapter.open(data)
    with pytest.raises(AttarError):
        adapter.run({"x": np.zeros((1, 2, 2, 2), np.float32)})
    custom = edited(models.conv, lambda m: setattr(m.operatorCodes[0], "builtinCode", 120))
    with pytest.raises(ModelError, match="LiteRT must be able"):
        TfliteAdapter.open(custom).run({"x": np.zeros((1, 8, 9, 3), np.float32)})


def test_values_may_lie_behind_the_flatbuffer(tmp_path):
    """As files beyond 2 GB have them."""
    plain = models.fully_connected()
    weight = models.random(9, 7).tobytes()

    def apart(m):
        m.buffers[1].data = None
        m.buffers[1].offset, m.buffers[1].size = len(placed), len(weight)

    placed = b""
    for _ in range(3):  # the place is known when the file is packed
        placed = edited(models.fully_connected, apart)
    adapter = TfliteAdapter.open(placed + weight)
    np.testing.assert_array_equal(adapter.read("w").matrix, models.random(9, 7))
    x = models.random(2, 7)
    np.testing.assert_array_equal(adapter.run({"x": x}), TfliteAdapter.open(plain).run({"x": x}))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A network that tells which of two halves of its input is larger, and data."""
    folder = tmp_path_factory.mktemp("small")
    g = models.Graph([24])
    y = models.dense(g, models.dense(g, g.input, "w", 32, 24, models.RELU), "v", 2, 32)
    (folder / "net.tflite").write_bytes(g.model(y))
    x = np.random.default_rng(0).normal(size=(1200, 24)).astype(np.float32)
    y = TfliteAdapter.open(g.model(y)).run({"x": x}).argmax(1)
    np.savez(folder / "data.npz", x=x, y=y)
    return folder


def test_compress_and_expand(small, tmp_path):
    out = tmp_path / "out"
    run = CliRunner().invoke(
        cli.app, ["compress", str(small / "net.tflite"), "--data", str(small / "data.npz"), "--metric", "accuracy",
                  "--max-drop", "5", "-o", str(out), "--seed", "0"],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    size = (out / "net.attar").stat().st_size
    assert size < 0.5 * (small / "net.tflite").stat().st_size
    loaded = attar.load(out / "net.attar")
    assert isinstance(loaded, bytes)
    script = (
        "import sys, numpy as np\nfrom ai_edge_litert.interpreter import Interpreter\n"
        "m = Interpreter(model_path=sys.argv[1]); m.resize_tensor_input(0, [50, 24]); m.allocate_tensors()\n"
        "m.set_tensor(0, np.load(sys.argv[2])['x'][:50]); m.invoke()\n"
        "print(m.get_tensor(m.get_output_details()[0]['index']).argmax(1).tolist())\nassert 'attar' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(out / "net.tflite"), str(small / "data.npz")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    x = np.load(small / "data.npz")["x"][:50]
    assert told.strip() == str(TfliteAdapter.open(loaded).run({"x": x}).argmax(1).tolist())
    again = CliRunner().invoke(
        cli.app, ["eval", str(out / "net.attar"), "--data", str(small / "data.npz"), "--metric", "accuracy"]
    )
    assert again.exit_code == 0, again.output
    shown = CliRunner().invoke(cli.app, ["inspect", str(small / "net.tflite")])
    assert shown.exit_code == 0 and "dense" in shown.output
