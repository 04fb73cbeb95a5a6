"""Kinds of Hugging Face models with ways of their own: sounds, pictures, detectors, tables that no folder holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hf = pytest.importorskip("transformers")

from attar.adapters.transformers.adapter import TransformersAdapter  # noqa: E402
from attar.errors import ModelError, UsageError  # noqa: E402
from attar.types import Weight  # noqa: E402

WIDTHS: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24}
TEXT = {**WIDTHS, "vocab_size": 50}
RNG = np.random.default_rng(0)
IDS = RNG.integers(3, 50, (3, 7))
IMAGES = RNG.normal(size=(3, 3, 32, 32)).astype(np.float32)


def marian() -> Any:
    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder")
             for name, size in (("layers", 1), ("attention_heads", 4), ("ffn_dim", 24))}  # fmt: skip
    special = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "max_position_embeddings": 32}
    return hf.MarianMTModel(hf.MarianConfig(vocab_size=50, decoder_vocab_size=50, d_model=16, **sizes, **special))


def wav2vec2() -> Any:
    special = {"num_labels": 5, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    return hf.Wav2Vec2ForSequenceClassification(
        hf.Wav2Vec2Config(**TEXT, conv_dim=(8,) * 7, classifier_proj_size=8, **special)
    )


def spectra() -> Any:
    return hf.ASTForAudioClassification(
        hf.ASTConfig(**WIDTHS, patch_size=8, max_length=32, num_mel_bins=16, frequency_stride=8, time_stride=8)
    )


def segformer() -> Any:
    blocks: dict[str, Any] = {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16]}
    heads: dict[str, Any] = {"num_attention_heads": [1, 2], "patch_sizes": [7, 3], "strides": [4, 2]}
    config = hf.SegformerConfig(**blocks, **heads, mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=5)
    return hf.SegformerForSemanticSegmentation(config)


def detr() -> Any:
    eyes = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", out_features=["stage1"])
    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder")
             for name, size in (("layers", 1), ("attention_heads", 4), ("ffn_dim", 24))}  # fmt: skip
    whose = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "backbone_config": eyes}
    return hf.DetrForObjectDetection(hf.DetrConfig(**whose, **sizes, d_model=16, num_queries=4, num_labels=3))


def bloom() -> Any:
    return hf.BloomForCausalLM(hf.BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=4))


def mamba2() -> Any:
    """Its configuration has an infinite number."""
    sizes = {"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 8}
    return hf.Mamba2ForCausalLM(hf.Mamba2Config(vocab_size=50, hidden_size=16, num_hidden_layers=1, **sizes))


BATCHES = {
    marian: {"input_ids": IDS, "decoder_input_ids": IDS},
    wav2vec2: {"input_values": RNG.normal(size=(3, 800)).astype(np.float32)},
    spectra: {"input_values": RNG.normal(size=(3, 32, 16)).astype(np.float32)},
    segformer: {"pixel_values": IMAGES},
    detr: {"pixel_values": IMAGES},
    bloom: {"input_ids": IDS},
    mamba2: {"input_ids": IDS},
}


def opened(made: Any, place: Path) -> Any:
    torch.manual_seed(0)
    made().eval().save_pretrained(str(place))
    return TransformersAdapter.open(place)


def halved(adapter: Any) -> None:
    """Weights with few digits, as a candidate's are."""
    for layer in adapter.layers():
        if layer.tied_to is None:
            weight = adapter.read(layer.name)
            adapter.write(layer.name, Weight(weight.matrix.astype(np.float16).astype(np.float32), weight.bias))


@pytest.mark.parametrize("made", BATCHES, ids=lambda made: made.__name__)
def test_the_folder_and_the_archive_answer_alike(made: Any, tmp_path: Path) -> None:
    adapter, batch = opened(made, tmp_path / "came"), BATCHES[made]
    halved(adapter)
    answers = adapter.run(batch)
    again = TransformersAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        if layer.tied_to is None:
            again.write(layer.name, adapter.read(layer.name))
    np.testing.assert_array_equal(again.run(batch), answers)
    adapter.save(tmp_path / "plain")
    np.testing.assert_array_equal(TransformersAdapter.open(tmp_path / "plain").run(batch), answers)
    assert set(again.model().state_dict()) == set(made().state_dict())


def test_classes_of_places_are_the_second_axis(tmp_path: Path) -> None:
    adapter = opened(segformer, tmp_path)
    scores = adapter.run({"pixel_values": IMAGES}).astype(np.float64)
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rows = adapter.fisher([{"pixel_values": IMAGES}])["decode_head.classifier.weight"]
    np.testing.assert_allclose(rows, (p * (1 - p)).mean((0, 2, 3)), rtol=1e-3)


def test_what_compares_examples_with_each_other_is_refused(tmp_path: Path) -> None:
    parts = {"text_config": TEXT, "vision_config": {**WIDTHS, "image_size": 32, "patch_size": 8}}
    with pytest.raises(ModelError, match=r"CLIPModel: it must answer each example from input_ids \[2, 6\] alone"):
        opened(lambda: hf.CLIPModel(hf.CLIPConfig(**parts, projection_dim=8)), tmp_path)


def test_other_scores_may_lead(tmp_path: Path) -> None:
    adapter, batch = opened(detr, tmp_path / "detr"), BATCHES[detr]
    assert adapter.run(batch).shape == (3, 4, 4)
    assert [spec.name for spec in adapter.outputs()] == ["logits", "pred_boxes"]
    adapter.lead("pred_boxes")
    boxes = adapter.run(batch)
    assert boxes.shape == (3, 4, 4) and boxes.min() > 0 and boxes.max() < 1
    assert [spec.name for spec in adapter.outputs()] == ["pred_boxes", "logits"]
    assert adapter.fisher([batch])["bbox_predictor.layers.2.weight"].any()
    with pytest.raises(UsageError, match="the task decides"):
        opened(bloom, tmp_path / "bloom").lead("logits")
