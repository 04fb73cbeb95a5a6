"""The laws of adapters/base.py as checks that any adapter's tests run on any model: `check_adapter(case)`.

A case says how to make the model, what to feed it, and how the framework itself runs it; the laws are in `LAWS`, one
function each, so that a test can be parametrised over (case, law). They raise AssertionError with the layer's name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from attar.adapters import parts
from attar.adapters.base import Adapter
from attar.errors import ModelError
from attar.methods.keep import narrowed
from attar.types import KINDS, Capture, Scaled, Weight
from kits.adapter_case import Batch, Case, close, examples, fingerprint, nearly, outputs, owners, same
from kits.gradient_laws import law_pullback

__all__ = ["LAWS", "Batch", "Case", "check_adapter", "close", "law_pullback", "outputs", "owners", "same"]


def law_layers(case: Case) -> None:
    """Layers are well formed, and read gives copies of the right shape."""
    adapter = case.open()
    assert isinstance(adapter, Adapter)
    layers = adapter.layers()
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names), "layer names must be unique"
    assert layers, "the model must have a layer"
    own = {layer.name for layer in owners(adapter)}
    for layer in layers:
        assert layer.kind in KINDS, layer
        assert layer.rows % layer.groups == 0, layer
        assert layer.size == int(np.prod(layer.shape)), layer
        if layer.tied_to is not None:
            assert layer.tied_to in own, layer
            continue
        weight = adapter.read(layer.name)
        assert weight.matrix.shape == (layer.rows, layer.cols), layer
        assert weight.matrix.dtype == np.float32, layer
        assert (weight.bias is not None) == layer.has_bias, layer
        if weight.bias is not None:
            assert (weight.bias.shape, weight.bias.dtype) == ((layer.rows,), np.float32), layer
        before = weight.matrix.copy()
        weight.matrix[...] += 1
        np.testing.assert_array_equal(adapter.read(layer.name).matrix, before, err_msg=f"{layer.name}: read must copy")
    assert all(isinstance(reason, str) and reason for reason in adapter.skipped().values())
    assert not set(adapter.skipped()) & set(names)
    assert adapter.inputs()
    assert adapter.outputs()


def law_open_keeps_outputs(case: Case) -> None:
    """The folded private copy computes what the caller's model computes."""
    model = case.model()
    expected = [np.asarray(case.run_original(model, batch), np.float32) for batch in case.batches]
    close(outputs(case.adapter.open(model), case), expected, case.tolerance, "opened model")


def law_write_read(case: Case) -> None:
    """write(read) changes no bit; what is written is read; writing back restores every bit of the outputs."""
    adapter = case.open()
    before, rest = outputs(adapter, case), {k: np.array(v) for k, v in adapter.remainder().items()}
    kept = {layer.name: adapter.read(layer.name) for layer in owners(adapter)}
    for name, weight in kept.items():
        adapter.write(name, weight)
    same(outputs(adapter, case), before, "write(read)")
    rng = np.random.default_rng(0)
    for layer in owners(adapter):
        weight = kept[layer.name]
        # Values that float16 and bfloat16 hold as well.
        moved = Weight(
            rng.integers(-64, 64, weight.matrix.shape).astype(np.float32) / 64,
            None if weight.bias is None else rng.integers(-64, 64, layer.rows).astype(np.float32) / 64,
        )
        given = moved.matrix.copy()
        adapter.write(layer.name, moved)
        np.testing.assert_array_equal(moved.matrix, given, err_msg=f"{layer.name}: write must not modify")
        read = adapter.read(layer.name)
        np.testing.assert_array_equal(read.matrix, given, err_msg=layer.name)
        if moved.bias is not None:
            np.testing.assert_array_equal(read.bias, moved.bias, err_msg=layer.name)
    if owners(adapter):
        moved_outputs = outputs(adapter, case)
        assert any(not np.array_equal(a, b) for a, b in zip(moved_outputs, before, strict=True)), "write had no effect"
    for name, weight in kept.items():
        adapter.write(name, weight)
    (same if case.exact else nearly)(outputs(adapter, case), before, "writing back")
    for name, value in adapter.remainder().items():
        np.testing.assert_array_equal(value, rest[name], err_msg=f"{name}: write must leave the remainder alone")


def columns_of(adapter: Adapter, captures: Iterator[Capture]) -> dict[str, list[Capture]]:
    """The captures by layer, each checked: y = W x within rounding, in every group."""
    layers = {layer.name: layer for layer in owners(adapter)}
    found: dict[str, list[Capture]] = {}
    for capture in captures:
        layer = layers[capture.name]
        found.setdefault(capture.name, []).append(capture)
        matrix = adapter.read(layer.name).matrix.astype(np.float64)
        if capture.ids is not None:
            assert capture.x is None, layer.name
            product, bound = matrix[:, capture.ids], np.abs(matrix).max()
        else:
            assert capture.x is not None, layer.name
            assert capture.x.shape[:2] == (layer.groups, layer.cols), layer.name
            stacked, x = matrix.reshape(layer.groups, -1, layer.cols), capture.x.astype(np.float64)
            product = (stacked @ x).reshape(layer.rows, -1)
            bound = (np.abs(stacked) @ np.abs(x)).max(initial=1e-30)
        if capture.y is not None:
            assert capture.y.shape == product.shape, layer.name
            eps = 2e-3 if "16" in layer.dtype else 1e-5
            np.testing.assert_allclose(capture.y, product, rtol=0, atol=eps * bound, err_msg=f"{layer.name}: y = W x")
    return found


def law_capture(case: Case) -> None:
    """y = W x for every capture, `only` is heeded, and the model is as before, also after an error."""
    adapter = case.open()
    before = outputs(adapter, case)
    found = columns_of(adapter, adapter.capture(case.batches))
    for name in list(found)[:1]:
        assert {c.name for c in adapter.capture(case.batches[:1], [name])} == {name}

    def failing() -> Iterator[Batch]:
        yield case.batches[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(adapter.capture(failing()))
    with pytest.raises(ZeroDivisionError):
        adapter.moments(failing())
    same(outputs(adapter, case), before, "outputs after capture")


def law_moments(case: Case) -> None:
    """Statistics agree with the captures (within sampling error where patches are sampled), and repeat exactly."""
    adapter = case.open()
    found = columns_of(adapter, adapter.capture(case.batches))
    stats = adapter.moments(case.batches)
    assert set(stats) == set(found)
    again = adapter.moments(case.batches, list(found))
    total = sum(examples(batch) for batch in case.batches)
    for name, captures in found.items():
        got = stats[name]
        np.testing.assert_array_equal(got.hessian, again[name].hessian, err_msg=f"{name}: moments must repeat")
        assert got.samples == total, name
        layer = next(layer for layer in adapter.layers() if layer.name == name)
        if captures[0].ids is not None:
            ids = np.concatenate([c.ids for c in captures if c.ids is not None])
            expected = np.bincount(ids, minlength=layer.cols)[None] / len(ids)
            np.testing.assert_allclose(got.hessian, expected, rtol=1e-12, err_msg=name)
            continue
        x = np.concatenate([c.x for c in captures if c.x is not None], axis=2).astype(np.float64)
        mean = x.mean(2)
        centred = x - mean[:, :, None]
        hessian = centred @ centred.transpose(0, 2, 1) / x.shape[2]
        assert got.hessian.shape == hessian.shape, name
        assert got.count <= x.shape[2], name
        sampled = 0.0 if got.count == x.shape[2] else 0.5
        scale = np.trace(hessian, axis1=1, axis2=2).mean() / layer.cols + np.square(mean).mean()
        np.testing.assert_allclose(got.hessian, hessian, rtol=1e-5, atol=(1e-4 + sampled) * scale, err_msg=name)
        np.testing.assert_allclose(
            got.mean, mean, rtol=1e-5, atol=(1e-4 + sampled) * np.sqrt(scale) + 1e-12, err_msg=name
        )
        if got.pooled is not None:  # a moment, also where a weight is used on inputs that are unlike
            assert np.linalg.eigvalsh(got.pooled).min() > -1e-4 * scale, name


def law_perturb(case: Case) -> None:
    """A perturbation acts like a change of the bias, on its own example only; a zero one changes nothing."""
    adapter = case.open()
    batch = case.batches[0]
    n = examples(batch)
    plain = adapter.run(batch).copy()
    rng = np.random.default_rng(1)
    layers = owners(adapter)
    for layer in layers[:: max(len(layers) // (case.perturbed or len(layers)), 1)]:
        if not adapter.can_perturb(layer.name):
            with pytest.raises(KeyError):
                adapter.run(batch, {layer.name: np.zeros((n, layer.rows), np.float32)})
            continue
        zero = np.zeros((n, layer.rows), np.float32)
        close([adapter.run(batch, {layer.name: zero})], [plain], case.tolerance, f"{layer.name}: perturbed by zero")
        delta = rng.normal(size=layer.rows).astype(np.float32)
        moved = adapter.run(batch, {layer.name: np.tile(delta, (n, 1))}).copy()
        if layer.has_bias:
            weight = adapter.read(layer.name)
            assert weight.bias is not None
            adapter.write(layer.name, Weight(weight.matrix, weight.bias + delta))
            close([moved], [adapter.run(batch)], 10 * case.tolerance, f"{layer.name}: perturbation = bias")
            adapter.write(layer.name, weight)
        alone = zero.copy()
        alone[0] = delta
        single = adapter.run(batch, {layer.name: alone})
        close([single[:1]], [moved[:1]], 10 * case.tolerance, f"{layer.name}: the perturbed example")
        close([single[1:]], [plain[1:]], 10 * case.tolerance, f"{layer.name}: the other examples")
    (same if case.exact else nearly)([adapter.run(batch)], [plain], "outputs after perturbing")


def law_parts(case: Case) -> None:
    """Examples that are run one by one, as large ones are, answer like those that are run together."""
    adapter, batch = case.open(), case.batches[0]
    plain = adapter.run(batch).copy()
    movable = [layer for layer in owners(adapter) if adapter.can_perturb(layer.name)][:1]
    rng = np.random.default_rng(2)
    deltas = {layer.name: rng.normal(size=(len(plain), layer.rows)).astype(np.float32) for layer in movable}
    moved = adapter.run(batch, deltas).copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "MOST_VALUES", 1)
        found, shifted = adapter.run(batch), adapter.run(batch, deltas)
    assert found.shape == plain.shape and shifted.shape == moved.shape
    if not case.random:
        close([found], [plain], 10 * case.tolerance, "run one by one")
        close([shifted], [moved], 10 * case.tolerance, "perturbed one by one")


def law_held(case: Case) -> None:
    """Pictures that are held in another form until they are run answer like the arrays that they become."""
    adapter, batch = case.open(), case.batches[0]
    held = {name: Scaled(v, np.copy) if v.dtype == np.float32 and v.ndim == 4 else v for name, v in batch.items()}  # type: ignore[arg-type]
    plain, seen = adapter.run(batch).copy(), adapter.moments([batch])
    found = adapter.moments([held])  # type: ignore[list-item]
    assert set(found) == set(seen)
    if not case.random:
        close([adapter.run(held)], [plain], 10 * case.tolerance, "held")  # type: ignore[arg-type]
        for name, stats in found.items():
            assert (stats.count, stats.samples) == (seen[name].count, seen[name].samples), name


def law_caller_untouched(case: Case) -> None:
    """The caller's model keeps every bit, whatever is done with the adapter."""
    model = case.model()
    before = fingerprint(model)
    adapter = case.adapter.open(model)
    for layer in owners(adapter):
        weight = adapter.read(layer.name)
        bias = None if weight.bias is None else weight.bias + 1
        adapter.write(layer.name, Weight(weight.matrix * 0.5, bias))
    outputs(adapter, case)
    list(adapter.capture(case.batches[:1]))
    adapter.restore({name: np.zeros_like(value) for name, value in adapter.remainder().items()})
    assert fingerprint(model) == before


def law_rebuild(case: Case) -> None:
    """The skeleton, all weights and the remainder make the same model again."""
    adapter = case.open()
    skeleton, remainder = adapter.skeleton(), {k: np.array(v) for k, v in adapter.remainder().items()}
    assert isinstance(skeleton, bytes)
    twin = case.adapter.rebuild(skeleton, remainder)
    assert list(twin.layers()) == list(adapter.layers())
    for layer in owners(adapter):
        twin.write(layer.name, adapter.read(layer.name))
    if case.exact:
        same(outputs(twin, case), outputs(adapter, case), "rebuilt model")
    else:
        close(outputs(twin, case), outputs(adapter, case), case.tolerance, "rebuilt model")
    assert set(twin.remainder()) == set(remainder)
    for name, value in twin.remainder().items():
        np.testing.assert_array_equal(value, remainder[name], err_msg=name)


def law_skeleton_holds_no_weights(case: Case) -> None:
    """The skeleton does not depend on any weight's value, so none is stored twice."""
    adapter = case.open()
    before = adapter.skeleton()
    for layer in owners(adapter):
        weight = adapter.read(layer.name)
        bias = None if weight.bias is None else weight.bias + 0.25
        adapter.write(layer.name, Weight(weight.matrix + 0.25, bias))
    adapter.restore({k: np.zeros_like(v) for k, v in adapter.remainder().items()})
    assert adapter.skeleton() == before


def law_restore(case: Case) -> None:
    """A remainder can be put back, also as the archive narrows it; other names are refused and change nothing."""
    adapter = case.open()
    before, remainder = outputs(adapter, case), {k: np.array(v) for k, v in adapter.remainder().items()}
    with pytest.raises(ModelError):
        adapter.restore({**remainder, "no such tensor": np.zeros(1, np.float32)})
    if remainder:
        with pytest.raises(ModelError):
            adapter.restore(dict(list(remainder.items())[1:]))
    adapter.restore({name: np.zeros_like(value) for name, value in remainder.items()})
    for name, value in adapter.remainder().items():
        assert not np.any(value), name
    adapter.restore({name: narrowed(value) for name, value in remainder.items()})
    assert {n: v.dtype for n, v in adapter.remainder().items()} == {n: v.dtype for n, v in remainder.items()}
    adapter.restore(remainder)
    same(outputs(adapter, case), before, "restored model")


def law_save(case: Case) -> None:
    """A saved file gives the same outputs by the framework's own loader, and opens again."""
    adapter = case.open()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{adapter.suffixes[0]}"
        adapter.save(path)
        expected = outputs(adapter, case)
        saved = [np.asarray(case.run_saved(path, batch), np.float32) for batch in case.batches]
        close(saved, expected, case.tolerance, "saved file")
        assert case.adapter.accepts(path)
        close(outputs(case.adapter.open(path), case), expected, case.tolerance, "saved file, opened again")


def law_accepts(case: Case) -> None:
    """What is not this framework's is declined without an error."""
    assert case.adapter.accepts(case.model())
    for other in (object(), None, 3, "text", Path("no-such-file.xyz"), np.zeros(3)):
        assert not case.adapter.accepts(other), other


LAWS: tuple[Callable[[Case], None], ...] = (
    law_layers,
    law_open_keeps_outputs,
    law_write_read,
    law_capture,
    law_moments,
    law_perturb,
    law_parts,
    law_held,
    law_pullback,
    law_caller_untouched,
    law_rebuild,
    law_skeleton_holds_no_weights,
    law_restore,
    law_save,
    law_accepts,
)


def check_adapter(case: Case) -> None:
    """Every law on one model."""
    for law in LAWS:
        law(case)
