"""Levels in streams of their own: the kernel writes and reads what its twin does, and refuses what is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import kernel, level_code, order, static, streams, twin
from attar.coding.layout import Malformed
from attar.coding.rans import static_code
from attar.coding.streams import Reader, sized
from attar.errors import FormatError


def walk(seed, count, spread, stay):
    """Levels 0 .. 28 some of which follow the one before."""
    rng = np.random.default_rng(seed)
    levels = np.clip(np.rint(rng.normal(9, spread, count)), 0, 28).astype(np.uint8)
    for i in np.flatnonzero(rng.random(count - 1) < stay):
        levels[i + 1] = levels[i]
    return levels


def both_ways(levels):
    """Levels written and read by the twin, and the bytes of model and streams."""
    coder, text = streams.SideEncoder(), b""
    for block in level_code.blocks(levels):
        text += level_code.encode(level_code.describe(coder, level_code.fit(block)), block)
    side = coder.finish()
    decoder, reader, found = streams.SideDecoder(side), Reader(text), np.full(levels.size, 77, np.uint8)
    for block in level_code.blocks(found):
        level_code.decode(level_code.describe(decoder), reader, block)
    decoder.finish()
    reader.finish()
    return found, len(side) + len(text)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 1500), st.sampled_from([0, 0.4, 2, 9]), st.sampled_from([0, 0.5, 0.98]))
def test_levels_come_back(seed, count, spread, stay):
    levels = walk(seed, count, spread, stay)
    assert (both_ways(levels)[0] == levels).all()


@pytest.mark.parametrize("count", [255, 256, 1023, 1024, 1025, 4096, 4097, 9001])
def test_blocks_and_streams_of_every_size(count):
    levels = walk(1, count, 2, 0.5)
    assert (both_ways(levels)[0] == levels).all()


@pytest.mark.parametrize("counts", [[1] * 29, [10**6] + [1] * 28, [1] * 28 + [10**6], [5, 5], [0, 7, 0, 7, 0], [9]])
def test_every_level_that_occurs_has_a_share(counts):
    levels = np.repeat(np.arange(len(counts), dtype=np.uint8), np.minimum(counts, 3000))
    model = level_code.fit(levels)
    for context in model.contexts if model.first < model.last else []:
        assert sum(model.shares(context)) == 256
    assert (both_ways(levels)[0] == levels).all()


def test_they_take_about_their_conditional_entropy():
    levels = walk(0, 20_000, 1, 0.7)
    pairs = np.zeros((29, 29))
    np.add.at(pairs, (levels[:-1], levels[1:]), 1)
    of = pairs.sum(1, keepdims=True)
    bits = -(pairs[pairs > 0] * np.log2((pairs / np.maximum(of, 1))[pairs > 0])).sum()
    assert both_ways(levels)[1] < bits / 8 * 1.08 + 200
    assert both_ways(np.full(30_000, 5, np.uint8))[1] < 30


def spread_out(seed, shape=(300, 420)):
    """Codes whose rows and columns have scales of their own."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(0, 1, (shape[0], 1)) + rng.normal(0, 0.7, (1, shape[1])))
    return np.clip(np.rint(rng.laplace(0, 2, shape) * scale), -4, 4).astype(np.int8)


def written(codes, module):
    """Sides, side information and chunks by one of the kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "kernel", lambda: module)
        code = static_code(codes)[1]
        return code.sides, code.side, code.join(b"")


@pytest.mark.parametrize("shape", [(300, 420), (4100, 40), (30, 1030), (2, 300)])
def test_the_kernel_writes_the_twins_bytes(shape):
    codes = spread_out(3, shape)
    assert written(codes, native) == written(codes, twin)


def streamed(codes):
    """Sides and side information with streams, whether the kernel takes them or not, and the chunks."""
    sides, side, chunks = written(codes, native)
    if not sides & 4:
        plan = static.read_plan(memoryview(side), codes.shape, bool(sides & 1), bool(sides & 2), False)
        specs = native_specs(codes)
        side = static.write_plan(replace(plan, specs=specs, streams=True))
    return (bool(sides & 1), bool(sides & 2), True), side, chunks


def native_specs(codes):
    """The tables' specs as the twin chooses them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "kernel", lambda: twin)
        return static_code(codes)[1]._plan.specs


def test_there_is_an_even_number_of_chunks():
    codes = spread_out(4, (1500, 900))
    sides, side, chunks = written(codes, native)
    assert sides & 4 and codes.size // order.CHUNK == 2
    reader = Reader(chunks)
    sizes = [len(reader.sized()) for _ in range(3)] + [len(reader.rest())]
    assert max(sizes) < 2 * min(sizes)
    for module in (native, twin):
        assert outcome(module, codes.shape, [bool(sides & bit) for bit in (1, 2, 4)], side, chunks) == codes.tobytes()


def outcome(module, shape, sides, side, chunks):
    """The matrix, or that it is refused."""
    out = np.zeros(shape, np.int8)
    try:
        plan = module.StaticPlan(memoryview(side), *shape, *sides)
        plan.decode(memoryview(chunks), out.view(np.uint8), np.zeros(0, np.int64), 1)
    except (FormatError, ValueError):
        return b"refused"
    return out.tobytes()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(2, 300))
def test_the_kernel_reads_what_the_twin_writes(seed, rows, cols):
    codes = spread_out(seed, (rows, cols))
    sides, side, chunks = streamed(codes)
    for module in (native, twin):
        assert outcome(module, codes.shape, sides, side, chunks) == codes.tobytes()


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3), st.floats(0, 1))
def test_altered_streams_are_refused_alike(changes, cut):
    codes = spread_out(5, (40, 270))
    sides, side, chunks = streamed(codes)
    wrong = bytearray(side)
    for place, value in changes:
        wrong[int(place * (len(wrong) - 1))] = value
    if cut < 0.3:
        del wrong[int(cut * len(wrong)) :]
    found = [outcome(module, codes.shape, sides, bytes(wrong), chunks) for module in (native, twin)]
    assert found[0] == found[1]


@pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])
@pytest.mark.parametrize("rungs", [[14, 14, 14, 14], [15, 12, 0, 1], [15, 13, 0, 0]])
def test_a_table_must_leave_the_most_frequent_a_share(module, rungs):
    coder = streams.SideEncoder()
    coder.integer(streams.LOW, -1, 2**63)
    coder.natural(streams.WIDTH, 2, 254)
    coder.bits(1, 0)
    model = level_code.Model(1, 4, 1, 0, {0: rungs})
    level_code.describe(coder, model)
    side = sized(coder.finish())
    if sum(sorted(level_code.RUNGS[rung] for rung in rungs)[:-1]) >= 256:
        with pytest.raises(Malformed):
            model.shares(0)
        with pytest.raises(ValueError, match="share of a table"):
            module.StaticPlan(memoryview(side), 4, 4, True, False, True)
    else:
        with pytest.raises((ValueError, FormatError), match="lengths"):
            module.StaticPlan(memoryview(side), 4, 4, True, False, True)


@pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])
@pytest.mark.parametrize("more", [b"\0", b"\1\5", b"\4abcd"])
def test_nothing_may_stand_behind_the_streams(module, more):
    codes = spread_out(6)
    sides, side, chunks = streamed(codes)
    assert outcome(module, codes.shape, sides, side, chunks) == codes.tobytes()
    assert outcome(module, codes.shape, sides, side + more, chunks) == b"refused"
    assert outcome(module, codes.shape, sides, side[:-1], chunks) == b"refused"
