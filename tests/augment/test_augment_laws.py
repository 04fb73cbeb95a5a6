"""Laws that hold for every registered change: shape, dtype and range stay, seeds decide, no strength is idle."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from augment_cases import EVERY, PLANES, WORDS, columns, images, keyed, sounds
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.augment import audio, tables, text
from attar.augment import images as changes_of_images
from attar.augment.changes import CHANGES, Keyed, change_planes, change_rows, change_text, chosen
from attar.errors import UsageError

DTYPES = {"images": ("uint8", "float32", "float64"), "audio": ("int16", "float32")}
SPANS = {"uint8": (0.0, 255.0), "int16": (-32768.0, 32767.0)}
ORDER = np.array([4, 0, 6, 2])
TEXT = " ".join(WORDS * 4) + ".\nIt's no joke:\t not  42!"


def batch(kind: str, dtype: str, n: int = 6, channels: int = 2):
    """Examples [n, channels, ...] and their span."""
    x = images(n, channels, dtype) if kind == "images" else sounds(n, channels, dtype)
    return x, SPANS.get(dtype, (0.0, 1.0) if kind == "images" else (-1.0, 1.0))


def done(kind: str, name: str, x, span, params, *, seed: int = 0, copy: int = 1, start: int = 0):
    """One change alone."""
    return change_planes(x, kind, {name: params}, lambda each: keyed(each, len(x), seed, copy, start), span)


def strongest(kind: str, name: str):
    """Parameters at the upper bound of every strength."""
    cls = CHANGES[kind][name].Params
    return cls(**{f.name: f.metadata["high"] for f in fields(cls) if "high" in f.metadata and f.name != "snr"})


@pytest.mark.parametrize(("kind", "name"), PLANES)
def test_shape_dtype_and_range_stay_and_the_input_too(kind: str, name: str) -> None:
    for dtype in DTYPES[kind]:
        x, span = batch(kind, dtype)
        before = x.copy()
        for params in (CHANGES[kind][name].Params(), strongest(kind, name)):
            changed = done(kind, name, x, span, params)
            assert (changed.shape, changed.dtype) == (x.shape, x.dtype)
            assert changed.min() >= span[0] and changed.max() <= span[1]
            assert not np.array_equal(changed, x), f"{name} does nothing to {dtype}"
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(("kind", "name"), PLANES)
def test_no_strength_is_identity_to_the_bit(kind: str, name: str) -> None:
    change = CHANGES[kind][name]
    for dtype in DTYPES[kind]:
        x, span = batch(kind, dtype)
        np.testing.assert_array_equal(done(kind, name, x, span, change.Params(**change.idle)), x)


@pytest.mark.parametrize(("kind", "name"), PLANES)
def test_neither_blocks_nor_order_change_an_example(kind: str, name: str) -> None:
    for dtype in DTYPES[kind]:
        x, span = batch(kind, dtype, n=7, channels=3)
        params = CHANGES[kind][name].Params()
        whole = done(kind, name, x, span, params)
        for size in (1, 2, 5):
            parts = [done(kind, name, x[at : at + size], span, params, start=at) for at in range(0, 7, size)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)
        some = change_planes(x[ORDER], kind, {name: params}, lambda each: Keyed(0, each, ORDER, 1), span)
        np.testing.assert_array_equal(some, whole[ORDER])
        for other in ({"seed": 1}, {"copy": 2}):
            assert not np.array_equal(done(kind, name, x, span, params, **other), whole)


@pytest.mark.parametrize("name", CHANGES["text"])
@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abcXYZ 'é\n\t.9ßΩ", max_size=60), st.integers(0, 99), st.floats(0, 0.9))
def test_texts(name: str, value: str, seed: int, share: float) -> None:
    change = CHANGES["text"][name]

    def draws(each: str) -> Keyed:
        return Keyed(seed, each, np.array([3]), 1)

    assert change_text(value, {name: change.Params(**change.idle)}, draws) == value
    changed = change_text(value, {name: change.Params(share)}, draws)
    assert changed == change_text(value, {name: change.Params(share)}, draws)
    assert bool(changed.split()) == bool(value.split())
    if name != "drop":
        assert len(changed.split()) == len(value.split())
        gaps = [text.WORD.split(each) for each in (value, changed)]
        assert gaps[0] == gaps[1], "spaces stay"
    if name == "swap":
        assert sorted(changed.split()) == sorted(value.split())
    if name == "case":
        assert changed.casefold() == value.casefold()


@pytest.mark.parametrize("name", CHANGES["text"])
def test_what_turns_a_text_round_is_kept(name: str) -> None:
    params = CHANGES["text"][name].Params(0.9)
    for seed in range(20):
        changed = change_text(TEXT, {name: params}, lambda each, seed=seed: Keyed(seed, each, np.array([0]), 1))
        assert changed != TEXT
        words = changed.lower().split()
        assert (words.count("never"), words.count("not"), words.count("no")) == (4, 1, 1) and "42!" in words


def test_a_slip_is_one_key() -> None:
    for slip in text.SLIPS:
        assert slip("Cleaned", 2, 0.9) in ("Clraned", "Claned", "Cleeaned", "Celaned")
    assert text.NEAR["q"] == "w" and text.NEAR["g"] == "fh"


@pytest.mark.parametrize("name", CHANGES["tables"])
def test_tables(name: str) -> None:
    whole, rows = columns(), np.arange(40)
    change = CHANGES["tables"][name]

    def done(params, rows=rows, seed=0, copy=1):
        return change_rows(whole, rows, {name: params}, lambda each: Keyed(seed, each, rows, copy))

    before = whole.values.copy()
    np.testing.assert_array_equal(done(change.Params(**change.idle)), before)
    changed = done(change.Params())
    assert not np.array_equal(changed, before, equal_nan=True)
    np.testing.assert_array_equal(whole.values, before)
    np.testing.assert_array_equal(changed[:, 3], before[:, 3], "three whole numbers are categories")
    assert np.nanmin(changed[:, 1]) >= np.nanmin(before[:, 1]) and np.nanmax(changed[:, 1]) <= np.nanmax(before[:, 1])
    np.testing.assert_array_equal(np.round(changed[:, 0], 1), changed[:, 0])
    np.testing.assert_array_equal(changed[:, 2] % 1, 0)
    parts = [done(change.Params(), rows[at : at + 7]) for at in range(0, 40, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), changed)
    assert not np.array_equal(done(change.Params(), seed=1), changed, equal_nan=True)
    assert not np.array_equal(done(change.Params(), copy=2), changed, equal_nan=True)
    if name == "missing":
        assert np.isnan(changed).sum(0)[0] == 0 and np.isnan(changed[:, 1]).sum() > np.isnan(before[:, 1]).sum()
        same = ~np.isnan(changed)
        np.testing.assert_array_equal(changed[same], before[same])
    else:
        np.testing.assert_array_equal(np.isnan(changed), np.isnan(before))


def test_interpolation_stays_between_a_row_and_its_neighbours_of_the_class() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 2
    values = rng.normal(size=(60, 2)) + 100 * labels[:, None]
    facts = tables.Facts(values, labels)
    rows = np.arange(60)
    near = facts.neighbours(rows, 3)
    distance = np.linalg.norm(values[:, None] - values[None], axis=2) + 1e9 * (labels[:, None] != labels)
    np.fill_diagonal(distance, np.inf)
    assert [set(row) for row in near.tolist()] == [set(row) for row in np.argsort(distance, 1)[:, :3].tolist()]
    made = tables.interpolate(values, tables.Interpolate(3), Keyed(0, "i", rows, 1), facts, rows)
    between = [any(np.allclose(np.cross(values[n] - values[r], made[r] - values[r]), 0) for n in near[r]) for r in rows]
    assert all(between) and np.array_equal(made[:, 0] > 50, labels == 1)
    twins = tables.Facts(np.zeros((8, 2)), np.zeros(8))
    assert not (twins.neighbours(np.arange(8), 3) == np.arange(8)[:, None]).any(), "equal rows, but never itself"
    assert tables.Facts(values[:1], labels[:1]).neighbours(np.array([0]), 2).tolist() == [[0, 0]]


def test_what_images_do() -> None:
    x, span = batch("images", "uint8", n=200)
    flipped = done("images", "flip", x, span, changes_of_images.Flip())
    share = np.mean([np.array_equal(a, b[..., ::-1]) for a, b in zip(flipped, x, strict=True)])
    assert 0.35 < share < 0.65
    white = np.full((50, 1, 20, 20), 255, np.uint8)
    for name in ("shift", "rotate", "zoom"):
        Params = CHANGES["images"][name].Params
        strength = {"shift": {"reach": 0.2}, "rotate": {"degrees": 30}, "zoom": {"share": 0.4}}[name]
        assert (done("images", name, white, span, Params(**strength)) == 255).all(), "the edge comes in"
        assert (done("images", name, white, span, Params(**strength, fill="black")) == 0).any()
    erased = done("images", "erase", x, span, changes_of_images.Erase(0.5))
    assert ((erased != x).reshape(200, -1).sum(1) <= 2 * 36).all()
    noisy = done("images", "noise", np.full((20, 1, 16, 16), 0.5), (0.0, 1.0), changes_of_images.Noise(0.05))
    assert abs((noisy - 0.5).std() - 0.05) < 0.003
    mean = x.mean((1, 2, 3))
    bright = done("images", "brightness", x, span, changes_of_images.Brightness(0.3)).mean((1, 2, 3)) / mean
    assert 0.69 < bright.min() < 0.75 and 1.25 < bright.max() < 1.31
    contrast = done("images", "contrast", x.astype(np.float64), (-1e9, 1e9), changes_of_images.Contrast(0.5))
    np.testing.assert_allclose(contrast.mean((1, 2, 3)), mean)


def test_a_quarter_turn_is_exact_at_ninety_degrees() -> None:
    """The direction and the middle of a rotation, beyond the bounds that a recipe allows."""
    x = images(1, 1, "float64", side=9)
    turned = changes_of_images.rotate(x, changes_of_images.Rotate(90), lambda *s: np.ones((1, *s)), (0, 1))
    np.testing.assert_allclose(turned[0, 0], np.rot90(x[0, 0]), atol=1e-12)


def test_what_sounds_do() -> None:
    x, span = batch("audio", "float32", n=40, channels=1)
    noisy = done("audio", "noise", x, (-9.0, 9.0), audio.Noise(10))
    ratio = 10 * np.log10((x**2).mean((1, 2)) / ((noisy - x) ** 2).mean((1, 2)))
    assert 9 < ratio.min() < 13 and 27 < ratio.max() < 31
    silent = np.zeros((2, 1, 50), np.float32)
    np.testing.assert_array_equal(done("audio", "noise", silent, span, audio.Noise(0)), silent)
    both = np.repeat(x, 2, 1)
    assert all(np.array_equal(c[:, 0], c[:, 1]) for c in (done("audio", n, both, span, CHANGES["audio"][n].Params())
               for n in ("gain", "shift", "speed")))  # fmt: skip
    fast = audio.speed(x[:1], audio.Speed(0.5), lambda *s: np.full((1, *s), 0.999), span)[0, 0]
    assert np.argmax(np.abs(np.fft.rfft(fast[:500] * np.hanning(500)))) * 800 / 500 == pytest.approx(30, abs=2)
    assert (fast[540:] == 0).all() and np.abs(fast[:500]).max() > 0.1
    moved = audio.shift(x[:1], audio.Shift(0.1), lambda *s: np.full((1, *s), 0.999), span)
    assert (moved[..., :80] == 0).all()
    np.testing.assert_array_equal(moved[..., 80:], x[:1, :, :-80])


def test_draws_are_even_and_each_example_has_its_own() -> None:
    found = Keyed(0, "noise", np.arange(2000), 1)(50)
    counts = np.histogram(found, 20, (0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 45 and found.max() < 1 and found.min() >= 0
    assert np.abs(np.corrcoef(found[:40])[np.triu_indices(40, 1)]).max() < 0.65
    assert np.abs(np.corrcoef(found.T)[np.triu_indices(50, 1)]).max() < 0.1
    stream = Keyed(0, "noise", np.array([7]), 1)
    np.testing.assert_array_equal(np.concatenate([stream(20), stream(30)], 1)[0], found[7])
    np.testing.assert_array_equal(Keyed(0, "noise", np.array([7]), 1)(5, 10).ravel(), found[7])


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_parameter_is_declared_with_help_and_bounds_that_hold(kind: str, name: str) -> None:
    change = CHANGES[kind][name]
    assert change.help.endswith(".")
    assert chosen((kind,), {name: dict(change.idle)}, "")[name] == change.Params(**change.idle)
    for field in fields(change.Params):
        assert field.metadata["help"]
        if "low" not in field.metadata:
            assert field.default in field.metadata["choices"]
            continue
        assert field.metadata["low"] <= field.default <= field.metadata["high"]
        for value in (field.metadata["low"] - 1, field.metadata["high"] + 1, "much", True):
            with pytest.raises(UsageError, match=rf"^{name}\.{field.name}: it must be .*Received"):
                chosen((kind,), {name: {field.name: value}}, "")


def test_unknown_changes_are_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match=r"a change of images must be one of flip, shift.*Received 'turn'"):
        chosen(("images",), {"turn": {}}, "")
    with pytest.raises(UsageError, match=r"shift: a parameter must be one of reach, fill. Received 'by'"):
        chosen(("images",), {"shift": {"by": 1}}, "")
    with pytest.raises(UsageError, match=r"a.shift: a change must be a table of parameters. Received 3"):
        chosen(("images",), {"shift": 3}, "a")  # type: ignore[dict-item]
    usual = {kind: list(chosen((kind,), {}, "")) for kind in CHANGES}
    assert usual == {
        "images": ["shift", "brightness", "contrast", "noise"], "audio": ["shift", "gain", "noise"],
        "text": ["drop", "swap", "typos"], "tables": ["jitter"],
    }  # fmt: skip
