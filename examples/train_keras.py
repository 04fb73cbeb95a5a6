"""Train one example network in Keras on Fashion-MNIST and write a .keras file.

    python examples/train_keras.py lenet300 --data /usr/share/datasets/fashion-mnist

Trains on the first 52,000 training images; the last 8,000 stay unseen, for calibration and selection.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import pathlib
import time

import keras
import numpy as np

from keras_models import MODELS

TRAINED_ON = 52_000
# epochs, peak learning rate, weight decay (decoupled), batch size
SCHEDULE = {"lenet300": (30, 2e-3, 0.05, 128), "dwcnn": (8, 4e-3, 0.05, 128)}
HERE = pathlib.Path(__file__).parent


def read_idx(path: pathlib.Path) -> np.ndarray:
    """The array of an idx.gz file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">u4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape.astype(int))


def load(folder: pathlib.Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 28, 28, 1] in 0..1 and labels [n] of the part 'train' or 't10k'."""
    x = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    y = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return (x.astype(np.float32) / 255)[..., None], y.astype(np.int64)


def augment(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Random horizontal flips and shifts by up to two pixels, one shift for the batch."""
    x = np.where(random.random((len(x), 1, 1, 1)) < 0.5, x[:, :, ::-1], x)
    dy, dx = random.integers(0, 5, 2)
    return np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))[:, dy : dy + 28, dx : dx + 28]


@keras.saving.register_keras_serializable("attar_examples")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Cosine up from rate/25 in the first fifth of the steps, cosine down to nearly zero in the rest."""

    def __init__(self, rate: float, steps: int) -> None:
        self.rate, self.steps = rate, steps

    def __call__(self, step):
        done = keras.ops.cast(step, "float32") / self.steps
        up = 0.04 + 0.96 * (1 - keras.ops.cos(math.pi * keras.ops.minimum(done / 0.2, 1.0))) / 2
        down = (1 + keras.ops.cos(math.pi * keras.ops.clip((done - 0.2) / 0.8, 0.0, 1.0))) / 2
        return self.rate * up * down

    def get_config(self) -> dict[str, float]:
        return {"rate": self.rate, "steps": self.steps}


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Share of right answers, in percent."""
    return 100 * float(np.mean(model.predict(x, batch_size=500, verbose=0).argmax(1) == y))


def train(name: str, data: pathlib.Path, epochs: int | None) -> tuple[keras.Model, float]:
    """The trained network and its accuracy on the 10,000 test images."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x, y = load(data, "train")
    x, y = x[:TRAINED_ON], y[:TRAINED_ON]
    test = load(data, "t10k")
    planned, rate, decay, batch = SCHEDULE[name]
    epochs = epochs or planned
    model = MODELS[name]()
    steps = TRAINED_ON // batch
    model.compile(
        optimizer=keras.optimizers.AdamW(OneCycle(rate, epochs * steps), weight_decay=decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for epoch in range(epochs):
        start = time.monotonic()
        for rows in random.permutation(TRAINED_ON)[: steps * batch].reshape(steps, batch):
            images = x[rows] if name.startswith("lenet") else augment(x[rows], random)
            loss = model.train_on_batch(images, y[rows])
        seconds = time.monotonic() - start
        reached = f"loss {float(loss):.3f} test {accuracy(model, *test):.2f} in {seconds:.0f} s"
        print(f"{name} epoch {epoch + 1}/{epochs} {reached}", flush=True)
    return model, accuracy(model, *test)


def write(model: keras.Model, name: str, test_accuracy: float) -> None:
    """Write NAME.keras without optimizer state to models/, and the accuracy to models/accuracy.json."""
    folder = HERE / "models"
    folder.mkdir(exist_ok=True)
    bare = MODELS[name]()
    bare.set_weights(model.get_weights())
    bare.save(folder / f"{name}.keras")
    table = folder / "accuracy.json"
    known = json.loads(table.read_text()) if table.exists() else {}
    known[f"{name}.keras"] = round(test_accuracy, 2)
    table.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Parse the command line, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    model, test_accuracy = train(options.model, options.data, options.epochs)
    write(model, options.model, test_accuracy)


if __name__ == "__main__":
    main()
