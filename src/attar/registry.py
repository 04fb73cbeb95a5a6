"""Names to places: the one list of what attar can do. A new method, adapter, coder or metric is one line here."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from attar.errors import UsageError

REGISTRY: dict[str, dict[str, str]] = {
    "adapter": {
        "onnx": "attar.adapters.onnx.adapter:OnnxAdapter",
        "tensors": "attar.adapters.tensors.adapter:TensorsAdapter",
        "torch": "attar.adapters.torch.adapter:TorchAdapter",
        "keras": "attar.adapters.keras.adapter:KerasAdapter",
        "tflite": "attar.adapters.tflite.adapter:TfliteAdapter",
        "transformers": "attar.adapters.transformers.adapter:TransformersAdapter",
    },
    "factory": {"torch": "attar.adapters.torch.adapter:FactorySpec"},
    "shapes": {"transformers": "attar.adapters.transformers.shapes:shapes_of"},
    "tensors": {"pt": "attar.adapters.torch.files:as_tensor"},
    "source": {"tensorflow": "attar.adapters.keras.sources:saved"},
    "streamed": {
        "transformers": "attar.adapters.transformers.stream:StreamedModel",
        "folder": "attar.adapters.transformers.expand:write_folder",
    },
    "method": {
        "uniform": "attar.methods.uniform:Uniform",
        "keep": "attar.methods.keep:Keep",
        "pruned": "attar.methods.pruned:Pruned",
        "fixed": "attar.methods.fixed:Fixed",
        "codebook": "attar.methods.codebook:Codebook",
        "vector": "attar.methods.vector:Vector",
        "lowrank": "attar.methods.lowrank:Lowrank",
        "residual": "attar.methods.residual:Residual",
        "rotated": "attar.methods.rotated:Rotated",
        "hashed": "attar.methods.hashed:Hashed",
    },
    "choice": {
        "random": "attar.selection.drawn:Random",
        "balanced": "attar.selection.drawn:Balanced",
        "k-center": "attar.selection.k_center:KCenter",
        "herding": "attar.selection.herding:Herding",
        "leverage": "attar.selection.leverage:Leverage",
        "moments": "attar.selection.moments:Moments",
        "undecided": "attar.selection.undecided:Undecided",
    },
    "coder": {
        "raw": "attar.coding.raw:Raw",
        "planes": "attar.coding.planes:Planes",
        "rans": "attar.coding.rans:Rans",
        "dense": "attar.coding.dense:Dense",
    },
    "export": {
        "onnx-int8": "attar.exports.onnx.int8:OnnxInt8",
        "onnx-int4": "attar.exports.onnx.int4:OnnxInt4",
        "onnx-fp16": "attar.exports.onnx.fp16:OnnxFp16",
        "pt2-int8": "attar.exports.torch.int8:TorchInt8",
        "gguf": "attar.exports.gguf.export:Gguf",
        "gguf-q3_k": "attar.exports.gguf.export:GgufQ3K",
        "gguf-q4_0": "attar.exports.gguf.export:GgufQ40",
        "gguf-q4_k": "attar.exports.gguf.export:GgufQ4K",
        "gguf-q5_k": "attar.exports.gguf.export:GgufQ5K",
        "gguf-q6_k": "attar.exports.gguf.export:GgufQ6K",
        "gguf-q8_0": "attar.exports.gguf.export:GgufQ80",
        "compressed-tensors": "attar.exports.compressed.export:CompressedTensors",
        "compressed-tensors-w8a16": "attar.exports.compressed.export:CompressedTensors8",
        "tflite-int8": "attar.exports.tflite.int8:TfliteInt8",
        "tflite-int8-weights": "attar.exports.tflite.int8_weights:TfliteInt8Weights",
        "tflite-fp16": "attar.exports.tflite.fp16:TfliteFp16",
    },
    "runtime": {
        "onnx": "attar.exports.onnx.model:runtime_of",
        "pt2": "attar.exports.torch.runtime:runtime_of",
        "tflite": "attar.exports.tflite.model:runtime_of",
        "gguf": "attar.exports.gguf.reading:runtime_of",
    },
    "goal": {"latency": "attar.latency.goal:LatencyGoal"},
    "watcher": {
        "mlflow": "attar.watchers.mlflow:MlflowRun",
        "tensorboard": "attar.watchers.tensorboard:TensorboardRun",
        "wandb": "attar.watchers.wandb:WandbRun",
    },
    "latent": {"trainer": "attar.adapters.torch.latent:Trainer", "sight": "attar.adapters.torch.sight:sight"},
    "metric": {
        "accuracy": "attar.evaluate.metrics:Accuracy",
        "top5": "attar.evaluate.metrics:Top5",
        "f1": "attar.evaluate.metrics:F1",
        "auroc": "attar.evaluate.metrics:Auroc",
        "mse": "attar.evaluate.metrics:Mse",
        "mae": "attar.evaluate.metrics:Mae",
        "r2": "attar.evaluate.metrics:R2",
        "perplexity": "attar.evaluate.metrics:Perplexity",
        "cosine": "attar.evaluate.metrics:Cosine",
        "mrr": "attar.evaluate.retrieval:Mrr",
        "wer": "attar.evaluate.words:Wer",
        "kl": "attar.evaluate.metrics:KlToOriginal",
        "agreement": "attar.evaluate.metrics:Agreement",
    },
}


def get(kind: str, name: str) -> Any:
    """The registered object; raises UsageError that lists the known names."""
    known = REGISTRY[kind]
    if name not in known:
        raise UsageError(
            f"{kind}: the name must be a registered one. Received {name!r}. Use one of {', '.join(known)}."
        )
    module, attribute = known[name].split(":")
    return getattr(import_module(module), attribute)


def names(kind: str) -> Iterator[str]:
    """The registered names of one kind, in order."""
    return iter(REGISTRY[kind])
