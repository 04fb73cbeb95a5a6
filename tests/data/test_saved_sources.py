"""Tables, saved data sets and folders of recordings as a model's examples."""

import json
import shutil
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from attar.data.read import read
from attar.errors import DataError, FormatError, UsageError
from attar.types import Dataset, TensorSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "datasets"
RNG = np.random.default_rng(0)


def write_wav(path: Path, samples: NDArray[np.int64], rate: int = 8000) -> None:
    """Samples [n, channels] of 16 bits as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def one(source: Path, *specs: TensorSpec) -> Dataset:
    found = read(source, specs=specs)
    assert isinstance(found, Dataset)
    return found


def frame(rows: int = 20) -> pd.DataFrame:
    table = pd.DataFrame(RNG.normal(size=(rows, 3)).round(3), columns=["width", "height", "age"])
    table["label"] = RNG.choice(["cat", "ant", "dog"], rows)
    return table


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_table(tmp_path: Path, ending: str) -> None:
    table, path = frame(), tmp_path / f"t.{ending}"
    if ending == "csv":
        table.to_csv(path, index=False)
    elif ending == "parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
    found = one(path)
    assert found.inputs["x"].dtype == np.float32 and found.class_names == ("ant", "cat", "dog")
    assert np.allclose(found.inputs["x"], table[["width", "height", "age"]], atol=1e-6)
    assert found.labels is not None
    assert [found.class_names[label] for label in found.labels] == table["label"].tolist()


def test_columns_as_the_inputs_of_a_model_of_several(tmp_path: Path) -> None:
    table = frame().assign(age=range(20))
    table.to_csv(tmp_path / "t.csv", index=False)
    specs = [TensorSpec("age", "int64", (None, 1)), TensorSpec("width", "float32", (None, 1))]
    found = one(tmp_path / "t.csv", *specs)
    assert set(found.inputs) == {"age", "width"} and found.inputs["age"].dtype == np.int64
    assert found.inputs["age"].ravel().tolist() == list(range(20))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(name="x"), "numbers. Received column 'name'"),
        (lambda t: t.assign(age=[None, *range(19)]), "1 empty ones, the first in column 'age'"),
        (lambda t: t.assign(label=[None, *["a"] * 19]), "Received 1 without one"),
        (lambda t: t.assign(y=1), "one column of labels"),
        (lambda t: t[["label"]], "besides the labels"),
    ],
)
def test_a_table_that_a_model_cannot_take(tmp_path: Path, change: object, words: str) -> None:
    change(frame()).to_parquet(tmp_path / "t.parquet")  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["images", "hub"])
def test_images_that_hugging_face_saved(name: str) -> None:
    parts = read(GOLDEN / name)
    pictures = np.load(GOLDEN / "pictures.npy")
    assert isinstance(parts, dict) and set(parts) == {"train", "test"}
    assert np.array_equal(parts["train"].inputs["x"], pictures[:4])
    assert np.array_equal(parts["test"].inputs["x"], pictures[[5, 4]])
    assert parts["test"].labels is not None and parts["test"].labels.tolist() == [0, 1]
    assert parts["train"].class_names == ("cat", "dog")
    resized = read(GOLDEN / name, specs=[TensorSpec("x", "float32", (None, 3, 8, 9))])
    assert isinstance(resized, dict) and resized["train"].inputs["x"].shape == (4, 8, 9, 3)


def test_arrays_that_hugging_face_saved() -> None:
    found = one(GOLDEN / "arrays")
    assert found.inputs["input_ids"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.array_equal(found.inputs["grid"], np.arange(12, dtype=np.float32).reshape(2, 2, 3))
    assert found.labels is not None and found.labels.tolist() == [0.5, 1.5]


def saved(tmp_path: Path, table: pd.DataFrame) -> Path:
    """A folder as save_to_disk writes it."""
    import pyarrow as arrow
    from pyarrow import ipc

    rows = arrow.Table.from_pandas(table, preserve_index=False)
    with arrow.OSFile(str(tmp_path / "d.arrow"), "wb") as file, ipc.new_stream(file, rows.schema) as writer:
        writer.write_table(rows)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "d.arrow"}]}))
    return tmp_path


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": ["a", "b"]}, "numbers or images. Received"),
        ({"x": [[1, 2], [3]]}, "all lists must be of one length"),
        ({"x": [1.0, None]}, "Received 1 without one"),
        ({"x": [[1.0, None], [2.0, 3.0]]}, "with gaps"),
        ({"x": [1, 2], "y": [1, 2], "label": [1, 2]}, "one column of labels"),
        ({"x": []}, "must have rows"),
    ],
)
def test_a_saved_set_that_a_model_cannot_take(tmp_path: Path, columns: dict[str, list[object]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(saved(tmp_path, pd.DataFrame(columns)))


def test_a_saved_set_that_is_broken(tmp_path: Path) -> None:
    folder = saved(tmp_path, pd.DataFrame({"x": RNG.normal(size=400)}))
    whole = (folder / "d.arrow").read_bytes()
    for cut in (0, 10, 200, len(whole) // 2):
        (folder / "d.arrow").write_bytes(whole[:cut])
        with pytest.raises(FormatError, match="whole"):
            read(folder)
    rng = np.random.default_rng(1)
    for _ in range(100):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        (folder / "d.arrow").write_bytes(flipped)
        try:
            read(folder)
        except (DataError, FormatError):
            continue
    for listed in ("../d.arrow", "/etc/passwd", "a/b", "..", "no.arrow"):
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": listed}]}))
        with pytest.raises(FormatError, match=r"in the folder|must be there"):
            read(folder)
    for text in ("", "[]", "{}", '{"_data_files": []}', '{"_data_files": [{"filename": 3}]}', "[" * 5000):
        (folder / "state.json").write_text(text)
        with pytest.raises(FormatError):
            read(folder)


def test_parts_of_other_names_are_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "images", tmp_path / "d")
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "../arrays"]}')
    with pytest.raises(FormatError, match="in the folder"):
        read(tmp_path / "d")
    (tmp_path / "d" / "test").rename(tmp_path / "d" / "other")
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "other"]}')
    with pytest.raises(DataError, match="train and test"):
        read(tmp_path / "d")


def test_what_tensorflow_saved(tmp_path: Path) -> None:
    import tensorflow as tf

    x, y = RNG.normal(size=(20, 4)).astype(np.float32), np.arange(20)
    tf.data.Dataset.from_tensor_slices((x, y)).batch(8).save(str(tmp_path / "d"))
    found = one(tmp_path / "d")
    assert np.array_equal(found.inputs["x"], x) and found.labels is not None and found.labels.tolist() == y.tolist()
    tf.data.Dataset.from_tensor_slices(np.arange(3)).save(str(tmp_path / "single"))
    with pytest.raises(DataError, match="batch"):
        read(tmp_path / "single")
    shard = next((tmp_path / "d").rglob("*.snapshot"))
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(FormatError, match="whole data set"):
        read(tmp_path / "d")
    spec = tmp_path / "d" / "dataset_spec.pb"
    spec.write_bytes(spec.read_bytes()[:5])
    with pytest.raises(FormatError, match="whole data set"):
        read(tmp_path / "d")


def test_recordings_by_class(tmp_path: Path) -> None:
    for name, rows in (("yes", 2), ("no", 1)):
        for row in range(rows):
            write_wav(tmp_path / name / f"{row}.wav", RNG.integers(-9000, 9000, (400, 2)))
    found = one(tmp_path)
    assert found.class_names == ("no", "yes") and found.inputs["x"].shape == (3, 400)
    assert found.labels is not None and found.labels.tolist() == [0, 1, 1]
    assert 0.1 < np.abs(found.inputs["x"]).max() <= 1
    cut = one(tmp_path, TensorSpec("x", "float32", (None, 150, 1)))
    assert cut.inputs["x"].shape == (6, 150) and cut.labels is not None and cut.labels.tolist() == [0, 0, 1, 1, 1, 1]
    longer = one(tmp_path, TensorSpec("x", "float32", (None, 500)))
    assert longer.inputs["x"].shape == (3, 500) and not longer.inputs["x"][:, 400:].any()


def test_recordings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", RNG.integers(-9000, 9000, (400, 1)))
    write_wav(tmp_path / "b.wav", RNG.integers(-9000, 9000, (300, 1)))
    with pytest.raises(DataError, match="400 and 300 samples"):
        read(tmp_path)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(FormatError, match="PCM"):
        read(tmp_path)
    write_wav(tmp_path / "c" / "0.wav", RNG.integers(-9000, 9000, (400, 1)))
    with pytest.raises(DataError, match="Received both"):
        read(tmp_path)


def test_a_path_that_is_none_of_these(tmp_path: Path) -> None:
    (tmp_path / "d.xyz").write_bytes(b"1")
    with pytest.raises(UsageError, match="a table"):
        read(tmp_path / "d.xyz")
