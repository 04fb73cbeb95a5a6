"""Hugging Face folders: what is found in them, what is refused, texts as windows, and what gradients and priors say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.transformers_models import WORDS, batches, by_transformers, folder, loaded
from attar import api
from attar.adapters.base import Grouped, Reading
from attar.adapters.transformers import priors
from attar.adapters.transformers.adapter import TransformersAdapter
from attar.adapters.transformers.batches import by_length, unpadded
from attar.adapters.transformers.tasks import classes_of, coarse, deal
from attar.errors import AttarError, FormatError, ModelError
from attar.types import Stats, Texts, Weight


def opened(name: str) -> Any:
    return TransformersAdapter.open(folder(name))


def copied(name: str, place: Path) -> Path:
    return Path(shutil.copytree(folder(name), place / name))


def changed(place: Path, **fields: Any) -> None:
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, **fields}))


# What is found


def test_tied_embeddings_have_one_owner_which_is_a_product() -> None:
    layers = {layer.name: layer for layer in opened("llama").layers()}
    table, head = layers["model.embed_tokens.weight"], layers["lm_head.weight"]
    assert (table.kind, table.rows, table.cols, head.tied_to) == ("dense", WORDS, 16, table.name)
    assert layers["model.layers.0.self_attn.k_proj.weight"].rows == 8, "two of four heads share keys"
    assert opened("untied").layers()[0].kind == "embedding"


def test_convolutions_of_gpt2_are_matrices_of_their_outputs() -> None:
    layer = next(x for x in opened("gpt2").layers() if x.name == "transformer.h.0.attn.c_attn.weight")
    assert (layer.kind, layer.rows, layer.cols, layer.shape, layer.has_bias) == ("dense", 48, 16, (16, 48), True)


def test_every_expert_is_a_layer() -> None:
    adapter = opened("mixtral")
    names = [layer.name for layer in adapter.layers() if ".experts." in layer.name]
    assert len(names) == 2 * 2 * 4 and not adapter.skipped()
    assert not any(adapter.can_perturb(name) for name in names)


@pytest.mark.parametrize("name", ["mixtral", "llama", "whisper"])
def test_the_state_is_that_of_transformers(name: str) -> None:
    state, adapter = loaded(folder(name)).state_dict(), opened(name)
    for key, value in adapter.state().items():
        np.testing.assert_array_equal(value, state[key].numpy(), err_msg=key)
    assert adapter.config["model_type"] == name


def test_halves_are_kept_as_halves(tmp_path: Path) -> None:
    adapter = opened("half")
    assert {layer.dtype for layer in adapter.layers()} == {"bfloat16"}
    assert {v.dtype.name for v in adapter.remainder().values()} == {"bfloat16"}
    adapter.save(tmp_path / "out")
    sizes = [(place / "model.safetensors").stat().st_size for place in (folder("half"), tmp_path / "out")]
    assert abs(sizes[0] - sizes[1]) < 100
    assert next(loaded(tmp_path / "out").parameters()).dtype == torch.bfloat16


def test_small_files_come_back_byte_for_byte(tmp_path: Path) -> None:
    place = copied("bert", tmp_path)
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (place / "code.py").write_text("raise SystemExit")
    adapter = TransformersAdapter.open(place)
    assert adapter.task.pooling == "cls"
    rebuilt = TransformersAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    rebuilt.save(tmp_path / "out")
    for name in ("config.json", "tokenizer.json", "1_Pooling/config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (place / name).read_bytes()
    assert not (tmp_path / "out" / "code.py").exists()


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    loaded(folder("bert")).save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    batch = batches("bert")[0]
    expected = opened("bert").run(batch)
    np.testing.assert_array_equal(TransformersAdapter.open(tmp_path).run(batch), expected)
    next(iter(tmp_path.glob("*.safetensors"))).unlink()
    with pytest.raises(FormatError, match="every shard"):
        TransformersAdapter.open(tmp_path)


# What is refused


def test_folders_that_cannot_be_opened_safely_are_refused(tmp_path: Path) -> None:
    place = copied("bert", tmp_path)
    changed(place, architectures=["NoSuchModel"], auto_map={"AutoModel": "code.Evil"})
    (place / "code.py").write_text("raise SystemExit('run')")
    with pytest.raises(ModelError, match="never run"):
        TransformersAdapter.open(place)
    changed(place, architectures=["BertModel"], quantization_config={"quant_method": "gptq"})
    with pytest.raises(ModelError, match="quantised already"):
        TransformersAdapter.open(place)


def test_pickles_are_refused(tmp_path: Path) -> None:
    place = copied("bert", tmp_path)
    (place / "model.safetensors").rename(place / "pytorch_model.bin")
    with pytest.raises(ModelError, match="must be safetensors"):
        TransformersAdapter.open(place)


def test_missing_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    place = copied("bert", tmp_path)
    data = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match="damaged"):
        TransformersAdapter.open(place)
    (place / "model.safetensors").write_bytes(data)
    changed(place, num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"encoder\.layer\.2.*at random"):
        TransformersAdapter.open(place)


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"model_type": 3}', '"x"'])
def test_other_folders_are_declined_or_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    if TransformersAdapter.accepts(tmp_path):
        with pytest.raises(ModelError):
            TransformersAdapter.open(tmp_path)


def test_skeletons_that_were_changed_are_refused() -> None:
    adapter = opened("bert")
    content = json.loads(adapter.skeleton())
    wrong: list[Any] = [{**content, "version": 99}, {**content, "dtype": "int8"}, {**content, "task": ["next"]}, [], 3]
    for name in ("../evil.json", "/etc/evil.json", "a/../b.json", "code.py", "x/y/z.json"):
        wrong.append({**content, "files": {**content["files"], name: "{}"}})
    huge = {**adapter.config, "hidden_size": 1 << 20, "vocab_size": 1 << 24, "num_attention_heads": 1}
    wrong.append({**content, "files": {"config.json": json.dumps(huge)}})
    for each in wrong:
        with pytest.raises(FormatError):
            TransformersAdapter.rebuild(json.dumps(each).encode(), adapter.remainder())


def test_channels_are_not_removed() -> None:
    assert not isinstance(opened("bert"), Grouped)
    with pytest.raises(AttarError, match="remove"):
        words = [f"w{i} w{j}" for i in range(3, 20) for j in range(3, 20)]
        api.compress(folder("bert"), words, metric="cosine", max_drop=1, remove=0.5)


# Texts


def test_a_language_model_reads_all_words_once() -> None:
    words = [f"w{3 + i % 40}" for i in range(100)]
    data = opened("llama").read_texts(Texts([" ".join(words[:55]), " ".join(words[55:])], False, "x"), 8)
    ids = data.inputs["input_ids"]
    expected = [int(word[1:]) for word in words[:55]] + [2] + [int(word[1:]) for word in words[55:]]
    assert ids.shape == (12, 8) and ids.ravel().tolist() == expected[:96]
    labelled = opened("llama").labelled(data)
    assert labelled.labels is not None and labelled.labels.shape == (12, 7) and not labelled.labels.any()


def test_lines_are_padded_and_long_texts_are_cut() -> None:
    adapter = opened("bert")
    lines = adapter.read_texts(Texts(["w5", " ".join(["w6"] * 50)], True, "x", ["no", "yes"]), 10)
    assert lines.inputs["attention_mask"].sum(1).tolist() == [2, 10] and lines.labels.tolist() == [0, 1]
    assert lines.inputs["input_ids"][0, :3].tolist() == [1, 5, 0]
    long = adapter.read_texts(Texts([" ".join(["w6"] * 20)], False, "x"), 10)
    assert long.inputs["attention_mask"].sum(1).tolist() == [10, 10, 3], "each window begins as a text does"


def test_padding_changes_nothing() -> None:
    adapter = opened("bert")
    batch = batches("bert")[0]
    wide = {name: np.pad(values, ((0, 0), (0, 9))) for name, values in batch.items()}
    np.testing.assert_array_equal(adapter.run(batch), adapter.run(wide))
    one, other = adapter.moments([batch]), adapter.moments([wide])
    for name in one:
        np.testing.assert_array_equal(one[name].hessian, other[name].hessian, err_msg=name)


def test_parts_of_a_batch_hold_every_example_once() -> None:
    mask = (np.arange(6) < np.array([[3], [6], [1], [3]])).astype(np.int64)
    batch = {"input_ids": np.arange(24).reshape(4, 6), "attention_mask": mask}
    for way in (unpadded, by_length):
        parts = list(way(batch, 7))
        assert sorted(row for rows, _ in parts for row in rows) == [0, 1, 2, 3]
        for rows, part in parts:
            assert part["input_ids"].size <= 7 and (way is by_length or part["attention_mask"].all())
            np.testing.assert_array_equal(part["input_ids"], batch["input_ids"][rows, : part["input_ids"].shape[1]])


# Outputs


def test_coarse_outputs_keep_the_likelihood_and_never_more_than_the_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 3, 5000, generator=generator) * 3 for _ in range(2))
    ids = torch.randint(0, 5000, (2, 3), generator=generator)
    a, b = coarse(first, ids), coarse(second, ids)
    assert a.shape == (2, 3, 256)
    np.testing.assert_allclose(a.exp().sum(-1), 1, rtol=1e-5)
    whole = torch.log_softmax(first, -1)
    np.testing.assert_allclose(a[..., 0], whole.gather(-1, ids[..., None])[..., 0], rtol=1e-5)
    kl = (a.exp() * (a - b)).sum(-1)
    exact = (whole.exp() * (whole - torch.log_softmax(second, -1))).sum(-1)
    assert (kl <= exact).all() and (kl > 0.1 * exact).all()


def test_the_best_score_is_the_model_s_answer() -> None:
    logits = torch.randn(4, 7, 300, generator=torch.Generator().manual_seed(1))
    ids = logits.argmax(-1)
    ids[0] += 1
    found = coarse(logits, ids % 300, best=True).argmax(-1)
    assert (found[1:] == 0).all() and (found[0] != 0).all()


def test_classes_hold_every_token_once() -> None:
    for vocabulary in (5, 50, 1020, 49152):
        order, classes = deal(vocabulary)
        assert classes == classes_of(vocabulary)
        assert sorted(i for i in order.tolist() if i < vocabulary) == list(range(vocabulary))


def test_the_adapter_reads_texts() -> None:
    assert isinstance(opened("bert"), Reading)


def test_accuracy_is_that_of_transformers() -> None:
    adapter, batch = opened("gpt2"), batches("gpt2")[0]
    adapter.observe("accuracy")
    hits = adapter.run(batch).argmax(-1) == 0
    with torch.no_grad():
        logits = loaded(folder("gpt2"))(**{k: torch.tensor(v) for k, v in batch.items()}).logits[:, :-1]
    np.testing.assert_array_equal(hits, logits.argmax(-1).numpy() == batch["input_ids"][:, 1:])
    adapter.observe("perplexity")
    np.testing.assert_allclose(adapter.run(batch), by_transformers(folder("gpt2"), batch), atol=2e-5)


# Gradients and priors


@pytest.mark.parametrize(("name", "head"), [("untied", "lm_head"), ("vit", "classifier"), ("mixtral", "lm_head")])
def test_sensitivities_of_a_head_predict_what_a_random_error_does(name: str, head: str) -> None:
    """1/2 s e H e is the KL of a small random error of the last layer; a coarse distribution shows a part of it."""
    from attar.search.divergence import divergence

    adapter, (few, _) = opened(name), batches(name)
    rows, stats = adapter.fisher([few] * 60)[f"{head}.weight"], adapter.moments([few])[f"{head}.weight"]
    second = stats.hessian[0] + np.outer(stats.mean, stats.mean)
    before, weight, rng, ratios = adapter.run(few), adapter.read(f"{head}.weight"), np.random.default_rng(0), []
    for _ in range(8):
        error = rng.normal(size=weight.matrix.shape).astype(np.float32) * 1e-2
        adapter.write(f"{head}.weight", Weight(weight.matrix + error, weight.bias))
        predicted = 0.5 * float(rows @ np.einsum("rc,cd,rd->r", error, second, error))
        ratios.append(float(divergence(before, adapter.run(few), "logits").mean()) / predicted)
    assert (0.3 if head == "lm_head" else 0.7) < float(np.mean(ratios)) < 1.4, ratios


@pytest.mark.parametrize("name", ["untied", "llama", "bert"])
def test_rows_are_coupled_by_their_gradients(name: str) -> None:
    """An error in two rows that gradients take for one costs more than in two that they take for opposites."""
    adapter, (few, _) = opened(name), batches(name)
    assert not any(stats.coupling is not None for stats in adapter.weighed(adapter.moments([few])).values())
    adapter.fisher([few] * 8)
    found = adapter.weighed(adapter.moments([few]))
    assert sum(stats.coupling is not None for stats in found.values()) > 5
    for layer in adapter.layers():
        coupling = found[layer.name].coupling if layer.name in found else None
        if coupling is not None:
            assert coupling.shape == (layer.rows, layer.rows) and coupling.dtype == np.float32
            np.testing.assert_array_equal(np.diagonal(coupling), 1)
            np.testing.assert_allclose(coupling, coupling.T, atol=1e-6)
            assert np.linalg.eigvalsh(coupling.astype(np.float64)).min() > 0.01


@pytest.mark.parametrize(("name", "head"), [("untied", {"lm_head.weight"}), ("vit", set()), ("bert", set())])
def test_heads_are_those_of_language_models(name: str, head: set[str]) -> None:
    assert opened(name).heads == head


def test_a_head_s_rows_are_known_exactly_and_none_is_worth_nothing() -> None:
    adapter, (few, _) = opened("untied"), batches("untied")
    once, often = adapter.fisher([few], 1)["lm_head.weight"], adapter.fisher([few], 2)["lm_head.weight"]
    np.testing.assert_array_equal(once, often)  # no label is drawn
    rows = np.array([0.4, 0.0, 0.3, 0.0])
    found = priors.head(rows)
    assert found.sum() == pytest.approx(rows.sum()) and found[1] > found[3] > 0.01
    assert adapter.weighed(adapter.moments([few]))["lm_head.weight"].sensitivity is not None


def test_every_layer_that_matters_has_a_sensitivity() -> None:
    for name, spare in (("bert", "pooler.dense.weight"), ("whisper", "model.decoder.embed_positions.weight")):
        adapter = opened(name)
        rows = adapter.fisher(batches(name))
        # BERT's pooler is not in its vectors; Whisper takes its positions as a slice, which is seen as no lookup.
        assert {x.name for x in adapter.layers() if x.tied_to is None} - set(rows) == {spare}
        assert all(np.isfinite(v).all() and v.max() > 0 for k, v in rows.items() if "k_proj" not in k)


def stats_of(frequency: list[float], count: int) -> Stats:
    return Stats(np.array([frequency]), np.zeros((1, len(frequency))), count, count)


def test_words_that_did_not_occur_are_not_worth_nothing() -> None:
    found = priors.words(stats_of([0.5, 0.0, 0.5, 0.0], 1000)).hessian[0]
    assert found.sum() == pytest.approx(1) and found.min() > 0.01 and found[0] > found[1] > found[3]


def test_a_word_counts_by_its_gradient_and_a_rare_one_by_its_kin() -> None:
    frequency = stats_of([0.25] * 4, 100)
    ids, weights = np.array([0] * 64 + [1] * 64 + [2]), np.array([1.0] * 64 + [3.0] * 64 + [8.0])
    found = priors.weighed(frequency, ids, weights).hessian[0]
    assert found[1] / found[0] == pytest.approx(3, rel=0.35)
    assert found[3] == pytest.approx(found[2]), "one that was never seen as one that was seen once"
    assert found[2] > found[1]


def test_inputs_that_were_quiet_may_wake() -> None:
    hessian = np.diag([4.0, 0.0])[None].copy()
    priors.wake(hessian, 0.3)
    found = hessian[0]
    assert 0 < found[1, 1] < found[0, 0] and found[0, 1] == 0
    same = np.diag([4.0, 4.0])[None].copy()
    priors.wake(same, 0.3)
    assert np.allclose(same[0, 0, 0], same[0, 1, 1])
    table = np.array([[0.9, 0.1]])
    priors.wake(table, 0.3)
    assert table.tolist() == [[0.9, 0.1]], "frequencies of words stay"


def test_experts_that_few_tokens_visit_are_rounded_by_what_their_kin_saw() -> None:
    eye = np.eye(4)[None]
    seen = {"a": Stats(eye, np.zeros((1, 4)), 1000, 50), "b": Stats(9 * eye, np.ones((1, 4)), 1, 50)}
    found = priors.experts(seen, ["a", "b", "c"])
    np.testing.assert_allclose(found["a"].hessian, eye, atol=0.05)
    assert np.trace(found["b"].hessian[0]) < 0.5 * np.trace(seen["b"].hessian[0])
    np.testing.assert_allclose(found["c"].hessian, eye, atol=0.05)
    assert priors.experts({}, ["a"]) == {}


def test_the_adapter_settles_its_tables_and_experts() -> None:
    adapter = opened("mixtral")
    raw = adapter.moments(batches("mixtral")[:1])
    settled = adapter.settled(raw)
    assert settled["model.embed_tokens.weight"].hessian.min() > 0 == raw["model.embed_tokens.weight"].hessian.min()
    assert {layer.name for layer in adapter.layers() if ".experts." in layer.name} <= set(settled)
