"""The laws on real third-party models: nested If, weights in Constant nodes, shared weights, free sizes."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from assets import asset
from attar.adapters.onnx.adapter import OnnxAdapter
from kits import adapter_laws as laws

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)
# Dark blocks on white, which the detector takes for text: on noise its output is 0 but for rounding.
GLYPHS = RNG.integers(0, 2, (2, 1, 12, 32)).repeat(2, 2).repeat(2, 3)
WHITE = np.pad(2 - 4 * GLYPHS, ((0, 0), (0, 0), (20, 20), (16, 16)), constant_values=2)
PICTURES = {"x": WHITE.repeat(3, 1).astype(np.float32)}
LINES = {"x": RNG.normal(size=(2, 3, 48, 96)).astype(np.float32)}
SPEECH = {
    "input": (RNG.normal(size=(1, 576)) * 0.1).astype(np.float32),
    "state": np.zeros((2, 1, 128), np.float32),
    "sr": np.array(16000),
}
# Path, batch, layers (owners) and weights in them.
REAL = {
    "ocr_rec": ("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", LINES, 47, 2669672),
    "ocr_det": ("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", PICTURES, 64, 1164320),
    "ocr_cls": ("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", LINES, 54, 124072),
    "pitch": (
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        {"x": (RNG.normal(size=(1, 43844, 1)) * 0.1).astype(np.float32)},
        9,
        35313,
    ),
    "vad": ("silero_vad/data/silero_vad.onnx", SPEECH, 16, 542464),
    "vad_half": ("silero_vad/data/silero_vad_half.onnx", {k: v for k, v in SPEECH.items() if k != "sr"}, 8, 308224),
}
LAWS = [law for law in laws.LAWS if law is not laws.law_accepts]


def run(path, batch):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    feed = batch if len(names) > 1 else {names[0]: next(iter(batch.values()))}
    return session.run(None, {n: v.astype(np.int64) if n == "sr" else v for n, v in feed.items()})[0]


def case(name: str) -> laws.Case:
    path, batch, _, _ = REAL[name]
    file = asset(path)
    # Attention and a softmax over 6625 characters magnify rounding after a large perturbation.
    tolerance = 1e-3 if name == "ocr_rec" else 1e-4
    # Small steps in float64 confirm the others' gradients; in float32 those drown, and larger ones meet kinks.
    smooth = name in ("ocr_cls", "vad_half")
    return laws.Case(OnnxAdapter, lambda: file, [batch], run, run, tolerance=tolerance, perturbed=6, smooth=smooth)


@pytest.mark.parametrize("name", REAL)
def test_all_weights_are_found(name):
    adapter = case(name).open()
    _, _, layers, weights = REAL[name]
    own = [layer for layer in adapter.layers() if layer.tied_to is None]
    assert (len(own), sum(layer.size for layer in own)) == (layers, weights)
    stored = sum(value.nbytes for value in adapter.remainder().values())
    assert stored < 0.05 * sum(4 * layer.size for layer in own) + 26000


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", REAL)
def test_law(name, law):
    law(case(name))
