"""Writes the folders beside it with the library `datasets` (5.x): `pip install datasets pillow`, then run this here."""

from pathlib import Path

import numpy as np
from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

HERE = Path(__file__).parent
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)


def images() -> DatasetDict:
    from PIL import Image as Pillow

    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    rows = {"image": [Pillow.fromarray(p) for p in PICTURES], "label": [0, 1, 1, 0, 1, 0]}
    whole = Dataset.from_dict(rows, features=features)
    return DatasetDict({"train": whole.select(range(4)), "test": whole.select([5, 4])})


def arrays() -> Dataset:
    features = Features({"input_ids": List(Value("int32")), "grid": Array2D((2, 3), "float32"), "y": Value("float32")})
    return Dataset.from_dict(
        {
            "input_ids": [[1, 2, 3], [4, 5, 6]],
            "grid": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
            "y": [0.5, 1.5],
        },
        features=features,
    )


if __name__ == "__main__":
    images().save_to_disk(HERE / "images")
    arrays().save_to_disk(HERE / "arrays")
    (HERE / "hub" / "data").mkdir(parents=True, exist_ok=True)
    for part, rows in images().items():
        rows.to_parquet(HERE / "hub" / "data" / f"{part}-00000-of-00001.parquet")
    np.save(HERE / "pictures.npy", PICTURES)
