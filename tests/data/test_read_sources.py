"""Every kind of source ends as the same numpy arrays, and says why where it cannot."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from attar.data.read import read
from attar.errors import DataError, FormatError, UsageError
from attar.types import Dataset, TensorSpec

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3, 4)).astype(np.float32)
Y = RNG.integers(0, 5, 50)


def same(found: object, labels: bool = True, rows: int = 50) -> None:
    assert isinstance(found, Dataset)
    assert np.array_equal(next(iter(found.inputs.values())), X[:rows])
    assert np.array_equal(found.labels, Y[:rows]) if labels else found.labels is None


def test_npz(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=X, y=Y)
    same(read(tmp_path / "d.npz"))
    np.savez(tmp_path / "d.npz", images=X)
    same(read(str(tmp_path / "d.npz")), labels=False)
    np.savez(tmp_path / "d.npz", input_ids=X, attention_mask=X > 0, labels=Y)
    found = read(tmp_path / "d.npz")
    assert isinstance(found, Dataset) and set(found.inputs) == {"input_ids", "attention_mask"}
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X[:20], y_test=Y[:20])
    parts = read(tmp_path / "d.npz")
    same(parts["train"])
    same(parts["test"], rows=20)


def test_npz_that_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.array([{"a": 1}], object), y=Y[:1])
    with pytest.raises(FormatError, match="Python objects"):
        read(path)
    np.savez(path, x=X, y=Y)
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match="whole"):
            read(path)
    np.savez(path, x=X, y=Y[:-1])
    with pytest.raises(DataError, match="one length"):
        read(path)
    np.savez(path, x=np.array(["a", "b"]))
    with pytest.raises(DataError, match="Tokenise"):
        read(path)
    np.savez(path, y=Y)
    with pytest.raises(DataError, match="at least one input"):
        read(path)


def test_npz_whose_header_lies_is_refused_before_it_is_read(tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(80))
    with pytest.raises(FormatError, match="bytes for shape"):
        read(tmp_path / "d.npz")


def test_arrays_tuples_and_mappings() -> None:
    same(read(X), labels=False)
    same(read((X, Y)))
    same(read({"x": X, "label": Y}))
    same(read(({"pixels": X}, Y)))
    data = Dataset({"x": X}, Y)
    assert read(data) is data
    assert read({"train": data, "test": data})["test"] is data
    for bad, said in (
        ((X, Y, Y), "3 parts"),
        ((X, Y[:-1]), "one length"),
        ({"x": X, "y": Y, "labels": Y}, "y, labels"),
    ):
        with pytest.raises(DataError, match=said):
            read(bad)


def test_generators_and_their_limit() -> None:
    batches = [(X[i : i + 20], Y[i : i + 20]) for i in range(0, 50, 20)]
    same(read(batches))
    same(read(iter(batches), batch_limit=1), rows=20)
    same(read({"a": x, "labels": y} for x, y in batches))
    for bad, said in (
        ([], "none"),
        ([X[0, 0, 0]], "batch axis"),
        ([X, X[:, :2]], "one shape in all"),
        ([(X, Y), X], "same parts"),
        ([{"x": [[1, 2], [3]]}], "array of numbers"),
    ):
        with pytest.raises(DataError, match=said):
            read(bad)


def test_a_stream_without_end_stops_at_the_limit_of_memory(monkeypatch) -> None:
    monkeypatch.setattr("attar.data.streams.MAX_BYTES", 10 * X.nbytes)

    def endless():
        while True:
            yield X

    with pytest.raises(DataError, match="limit of batches"):
        read(endless())


def test_a_function_of_the_user(tmp_path: Path, monkeypatch) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    (tmp_path / "my_data_module.py").write_text(
        "import numpy as np\n"
        "d = np.load('d.npz')\n"
        "def batches():\n    yield d['x'][:30], d['y'][:30]\n    yield d['x'][30:], d['y'][30:]\n"
        "def path():\n    return 'd.npz'\n"
        "def broken():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    found = read("my_data_module:batches")
    same(found)
    assert isinstance(found, Dataset) and found.origin == "my_data_module:batches"
    same(read("my_data_module:path"))
    for bad in (
        "my_data_module:broken",
        "my_data_module:none",
        "nowhere_at_all:f",
        "nowhere.npz",
        tmp_path / "my_data_module.py",
        3,
    ):
        with pytest.raises(UsageError, match="Received"):
            read(bad)


class Numbered:
    """Examples by number, as PyTorch's data sets."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple:
        return X[row], Y[row]


def test_train_and_test_as_users_have_them() -> None:
    for given in (
        ((X, Y), (X[:20], Y[:20])),
        {"train": (X, Y), "test": (X[:20], Y[:20])},
        {"test": [(X[:20], Y[:20])], "train": iter([(X, Y)])},
        {"x_train": X, "y_train": Y, "x_val": X[:20], "y_val": Y[:20]},
        {"train": (X, Y), "validation": Numbered(20)},
    ):
        parts = read(given)
        assert isinstance(parts, dict) and list(parts) == ["train", "test"]
        same(parts["train"])
        same(parts["test"], rows=20)
    for both in ((Numbered(50), Numbered(20)), [Numbered(50), Numbered(20)]):
        parts = read(both)
        assert isinstance(parts, dict)
        same(parts["train"])
        same(parts["test"], rows=20)
    same(read({"x": X, "y": None}), labels=False)
    for three in (
        {"x_train": X, "x_val": X[:20], "x_test": X[20:]},
        {"train": (X, Y), "validation": (X, Y), "test": (X, Y)},
    ):
        with pytest.raises(DataError, match=r"two parts at most.*calibrate"):
            read(three)
    with pytest.raises(DataError, match="one set"):
        read({"train": {"train": X, "test": X}, "test": X})


def test_what_to_do_is_said() -> None:
    for bad, remedy in (
        ((X, Y.astype(str)), "Number the classes"),
        ((X, Y.astype(str).astype(object)), "Number the classes"),
        ([(X, Y, np.ones(50))], "weights of examples"),
        (zip(X, Y, strict=True), r"\.batch\(64\)"),
        ([X, Y], r"a tuple, \(x, y\)"),
    ):
        with pytest.raises(DataError, match=remedy):
            read(bad)


def test_torch_loaders_and_sets() -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    same(read(DataLoader(tensors, batch_size=16)))
    same(read(DataLoader(tensors, batch_size=16), batch_limit=2), rows=32)
    same(read(tensors))
    same(read(torch.from_numpy(X).requires_grad_()), labels=False)
    half = read(torch.from_numpy(X).bfloat16())
    assert isinstance(half, Dataset) and half.inputs["x"].dtype == np.float32
    words = [{"input_ids": torch.tensor([1, 2, 3]), "labels": 1}, {"input_ids": torch.tensor([4, 5]), "labels": 0}]

    class Ragged(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, row: int) -> dict:
            return words[row]

    with pytest.raises(DataError, match="Pad"):
        read(Ragged())


def test_an_indexed_set_of_batches_is_known_by_the_axes_of_the_model() -> None:
    class Batches:
        def __init__(self, size: int, length: int) -> None:
            self.size, self.length = size, length

        def __len__(self) -> int:
            return self.length

        def __getitem__(self, number: int) -> tuple:
            rows = slice(number * self.size, (number + 1) * self.size)
            return X[rows], Y[rows]

    spec = [TensorSpec("x", "float32", (None, *X.shape[1:]))]
    same(read(Batches(10, 5), specs=spec))
    same(read(Batches(20, 3), specs=spec))  # the last is smaller
    same(read(Numbered(50), specs=spec))
    with pytest.raises(DataError, match="must end"):
        read(Batches(10, sys.maxsize), specs=spec)


def test_data_frames() -> None:
    import pandas

    frame = pandas.DataFrame(X.reshape(50, -1)).assign(label=Y)
    found = read(frame)
    assert isinstance(found, Dataset)
    assert np.allclose(found.inputs["x"], X.reshape(50, -1)) and np.array_equal(found.labels, Y)
    with pytest.raises(DataError, match="'colour'"):
        read(frame.assign(colour="red"))
    with pytest.raises(DataError, match="one column of labels"):
        read(frame.assign(y=1))


def test_hugging_face_like_sets() -> None:
    class Columns:
        column_names = ("input_ids", "label")

        def __len__(self) -> int:
            return 50

        def __getitem__(self, row: int) -> dict:
            return {"input_ids": X[row].tolist(), "label": int(Y[row])}

    found = read(Columns())
    assert isinstance(found, Dataset) and list(found.inputs) == ["input_ids"]
    assert np.allclose(found.inputs["input_ids"], X) and np.array_equal(found.labels, Y)


def test_tf_data() -> None:
    import tensorflow as tf

    same(read(tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)))
    same(read(tf.constant(X)), labels=False)
    with pytest.raises(DataError, match="batch axis"):
        read(tf.data.Dataset.from_tensor_slices((X, Y)))


def test_reading_arrays_imports_no_framework() -> None:
    code = (
        "import sys, numpy as np; from attar.data.read import read; from attar.evaluate.metrics import resolve_metric;"
        "read((np.zeros((3, 2)), np.zeros(3))); resolve_metric('accuracy');"
        "print(sorted({'torch', 'tensorflow', 'keras', 'onnx', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_data_set_without_end_is_refused() -> None:
    class Endless:
        def cardinality(self) -> int:
            return -1

        def __iter__(self):
            while True:
                yield np.zeros((4, 2), np.float32)

    with pytest.raises(DataError, match=r"must end.*\.take\(n\)"):
        read(Endless())


def test_what_a_model_of_several_inputs_calls_y_is_no_label(tmp_path: Path) -> None:
    x, y, target = np.ones((6, 3)), np.zeros((6, 2)), np.arange(6)
    specs = [TensorSpec("x", "float32", ()), TensorSpec("y", "float32", ())]
    np.savez(tmp_path / "both.npz", x=x, y=y, target=target)
    batches = [{"x": x[:3], "y": y[:3], "target": target[:3]}, {"x": x[3:], "y": y[3:], "target": target[3:]}]
    for source in ({"x": x, "y": y, "target": target}, tmp_path / "both.npz", batches, ({"x": x, "y": y}, target)):
        found = read(source, specs=specs)
        assert set(found.inputs) == {"x", "y"} and found.labels.tolist() == target.tolist()
    (tmp_path / "both.csv").write_text("x,y,label\n" + "1,2,0\n" * 3 + "3,4,1\n")
    table = read(tmp_path / "both.csv", specs=specs)
    assert table.inputs["y"].ravel().tolist() == [2, 2, 2, 4] and table.labels.tolist() == [0, 0, 0, 1]
    one = read({"x": x, "y": target}, specs=specs[:1])
    assert set(one.inputs) == {"x"} and one.labels.tolist() == target.tolist()
