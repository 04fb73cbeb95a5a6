"""Recordings through a small Whisper: features and tokens, greedy transcripts, and a whole run by word error rate."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import attar
from adapters.transformers_models import folder
from attar.adapters.transformers.adapter import TransformersAdapter
from attar.adapters.transformers.speech import NONE, resampled
from attar.data.speech import read_recordings
from attar.errors import DataError, ModelError
from data.test_speech import recorded

RATE = 800


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of random weights that hears one second at 800 samples a second."""
    place = tmp_path_factory.mktemp("whisper") / "model"
    shutil.copytree(folder("whisper"), place)
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=8, sampling_rate=RATE, hop_length=40, chunk_length=1, n_fft=100
    )
    extractor.save_pretrained(place)
    return place


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(24):
        recorded(tmp_path / f"{number:02}.wav", rng.normal(0, 0.1, 400 + 10 * number).clip(-1, 1), RATE)
        (tmp_path / f"{number:02}.txt").write_text(" ".join(f"w{n}" for n in rng.integers(3, 40, 4)))
    return tmp_path


def test_examples_are_features_and_tokens(model: Path, recordings: Path) -> None:
    adapter = TransformersAdapter.open(model)
    assert adapter.hears and not TransformersAdapter.open(folder("t5")).hears
    found = read_recordings(recordings)
    assert found is not None and found.texts is not None
    data = adapter.read_recordings(found, 32)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(model)
    expected = extractor(found.samples[5], sampling_rate=RATE, return_tensors="np")["input_features"][0]
    np.testing.assert_allclose(data.inputs["input_features"][5], expected, atol=1e-5)
    ids = [1, *(int(word[1:]) for word in found.texts[5].split()), 2]
    mask = data.inputs["decoder_attention_mask"]
    assert data.inputs["decoder_input_ids"][5][mask[5] != 0].tolist() == ids and mask.shape == (24, 32)


def test_transcripts_are_the_likeliest_tokens(model: Path, recordings: Path) -> None:
    adapter = TransformersAdapter.open(model)
    data = adapter.read_recordings(read_recordings(recordings), 32)
    written, said = adapter.transcripts(data.inputs)
    network = adapter.model()
    for row in (0, 7):
        features = torch.tensor(data.inputs["input_features"][row : row + 1])
        ids = [1]
        while len(ids) < 31:
            with torch.no_grad():
                scores = network(input_features=features, decoder_input_ids=torch.tensor([ids])).logits[0, -1]
            scores[[0, 1]] = -torch.inf  # tokens that are no words
            ids.append(int(scores.argmax()))
            if ids[-1] == 2:
                break
        words = adapter._speech(32).words(ids)
        assert written[row][written[row] != NONE].tolist() == words
    assert (said != NONE).sum() == 4 * 24 and len({*said.reshape(-1).tolist()}) > 20


def test_without_texts_the_model_tells_what_was_said(model: Path, recordings: Path) -> None:
    for path in recordings.glob("*.txt"):
        path.unlink()
    assert attar.evaluate(model, recordings, "wer").value == 0
    adapter = TransformersAdapter.open(model)
    data = adapter.read_recordings(read_recordings(recordings), 20)
    written, said = adapter.transcripts(data.inputs)
    assert np.array_equal(written, said) and said.shape[1] <= 18


def test_a_run_by_word_error_rate(model: Path, recordings: Path) -> None:
    whole = attar.evaluate(model, recordings, "wer")
    assert whole.value > 50 and whole.n == 24, "random weights write other words"
    result = attar.compress(model, recordings, metric="wer", max_drop=400, guarantee="estimate", evaluations=2)
    assert result.certificate.metric == "wer" and 0 < result.certificate.n < 24
    assert result.before.outputs.shape[1:] == (31, 13)
    assert result.within and result.bytes_after < result.bytes_before


def test_what_it_cannot_hear_is_told(model: Path, recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
        attar.evaluate(folder("whisper"), recordings, "wer")
    long = tmp_path / "long"
    long.mkdir()
    recorded(long / "a.wav", np.zeros(3 * RATE), RATE)
    with pytest.raises(DataError, match="seconds at most"):
        attar.evaluate(model, long, "wer")
    with pytest.raises(DataError, match="must write down speech"):
        attar.evaluate(folder("llama"), {"input_ids": np.full((24, 5), 7)}, "wer")


def test_other_rates_are_resampled() -> None:
    times = np.arange(8000) / 8000
    wave = np.sin(2 * np.pi * 50 * times).astype(np.float32)
    found = resampled(wave, 8000, 1600)
    assert len(found) == 1600
    np.testing.assert_allclose(found[200:-200], np.sin(2 * np.pi * 50 * np.arange(1600) / 1600)[200:-200], atol=0.02)
    assert resampled(wave, 8000, 8000) is wave
