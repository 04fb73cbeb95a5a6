"""Train one example network on Fashion-MNIST and write its state dict and an ONNX file.

    python examples/train_torch.py lenet300 --data /usr/share/datasets/fashion-mnist

Trains on the first 52,000 training images; the last 8,000 stay unseen, for calibration and selection.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_models import MODELS

TRAINED_ON = 52_000
# epochs, peak learning rate, weight decay (decoupled), batch size
SCHEDULE = {
    "lenet300": (30, 2e-3, 0.05, 128),
    "lenet5": (12, 2e-3, 0.05, 128),
    "resnet20": (10, 4e-3, 0.05, 128),
    "dwcnn": (12, 4e-3, 0.05, 128),
}
HERE = pathlib.Path(__file__).parent


def read_idx(path: pathlib.Path) -> np.ndarray:
    """The array of an idx.gz file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">u4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape.astype(int))


def load(folder: pathlib.Path, part: str) -> tuple[Tensor, Tensor]:
    """Images [n, 1, 28, 28] in 0..1 and labels [n] of the part 'train' or 't10k'."""
    x = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    y = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return torch.from_numpy(x.astype(np.float32) / 255)[:, None], torch.from_numpy(y.astype(np.int64))


def augment(x: Tensor) -> Tensor:
    """Random horizontal flips and shifts by up to two pixels, one shift for the batch."""
    x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
    dy, dx = torch.randint(0, 5, (2,)).tolist()
    return F.pad(x, (2, 2, 2, 2))[:, :, dy : dy + 28, dx : dx + 28]


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of right answers, in percent."""
    model.eval()
    with torch.no_grad():
        right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
    return 100 * right / len(y)


def train(name: str, data: pathlib.Path, epochs: int | None) -> tuple[nn.Module, float]:
    """The trained network in eval mode and its accuracy on the 10,000 test images."""
    torch.manual_seed(0)
    x, y = load(data, "train")
    x, y = x[:TRAINED_ON], y[:TRAINED_ON]
    test = load(data, "t10k")
    planned, rate, decay, batch = SCHEDULE[name]
    epochs = epochs or planned
    model = MODELS[name]()
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * -(-TRAINED_ON // batch), pct_start=0.2)
    for epoch in range(epochs):
        model.train()
        for rows in torch.randperm(TRAINED_ON).split(batch):
            images = x[rows] if name.startswith("lenet") else augment(x[rows])
            loss = F.cross_entropy(model(images), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"{name} epoch {epoch + 1}/{epochs} loss {loss.item():.3f} test {accuracy(model, *test):.2f}", flush=True)
    return model.eval(), accuracy(model, *test)


def without_traces(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model less the exporter's notes on source lines, which name places on the machine that trained it."""
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        kept = [entry for entry in part.metadata_props if not entry.key.startswith("pkg.")]
        del part.metadata_props[:]
        part.metadata_props.extend(kept)
    return proto


def write(model: nn.Module, name: str, test_accuracy: float) -> None:
    """Write NAME.pt (state dict) and NAME.onnx to models/, and the accuracy to models/accuracy.json."""
    folder = HERE / "models"
    folder.mkdir(exist_ok=True)
    torch.save(model.state_dict(), folder / f"{name}.pt")
    example = torch.zeros(2, 1, 28, 28)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        model, (example,), dynamo=True, verbose=False, input_names=["image"], output_names=["logits"],
        dynamic_shapes=({0: batch},),
    )  # fmt: skip
    onnx.save(without_traces(program.model_proto), folder / f"{name}.onnx")
    table = folder / "accuracy.json"
    known = json.loads(table.read_text()) if table.exists() else {}
    known[name] = round(test_accuracy, 2)
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
