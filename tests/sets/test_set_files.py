"""Data sets on the disk: every value, name and label comes back, whatever the files are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from attar import cli
from attar.archive import base, header, read_archive
from attar.archive import blobs as blobs_of
from attar.archive.blobs import code_skeleton
from attar.archive.manifest import in_parts
from attar.archive.parts import PART
from attar.archive.write import part_of
from attar.data.idx import read_idx
from attar.errors import FormatError, OutputError, UsageError
from attar.packing.unpack import unpack as unpack_checkpoint
from attar.sets import mixed, solid, tiles
from attar.sets.contents import contents
from attar.sets.pack import pack
from attar.sets.records import from_json
from attar.sets.unpack import unpack
from sets.image_cases import blobs

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def folder(tmp_path):
    """Images by class in grey, colour and with alpha, a large one, and what is no plain picture."""
    place = tmp_path / "images"
    for label, channels in (("cat", 1), ("dog", 3), ("owl", 4)):
        (place / label).mkdir(parents=True)
        for k, pixels in enumerate(blobs(5, 12, 9, channels, seed=channels)):
            Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(place / label / f"{k} é.png")
    Image.fromarray(blobs(1, 150, 170, 3)[0]).save(place / "dog" / "large.bmp")
    Image.fromarray(blobs(1, 30, 30, 3)[0]).save(place / "dog" / "lossy.jpg")
    Image.fromarray(blobs(1, 30, 30, 1)[0, ..., 0]).convert("P").save(place / "owl" / "palette.png")
    note = PngImagePlugin.PngInfo()
    note.add_text("made", "here")
    Image.fromarray(blobs(1, 30, 30, 1)[0, ..., 0]).save(place / "owl" / "said.png", pnginfo=note)
    (place / "owl" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (place / "labels.csv").write_text("name,label\n" * 50)
    (place / "empty").write_bytes(b"")
    return place


def same(before, after):
    """Names; pixels and modes of pictures; bytes of others."""
    names = [sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file()) for top in (before, after)]
    assert names[0] == names[1]
    for name in names[0]:
        a, b = before / name, after / name
        if a.read_bytes() != b.read_bytes():
            one, other = Image.open(a), Image.open(b)
            assert one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other)), name


def test_a_folder_comes_back(folder, tmp_path):
    result = pack(folder)
    assert (
        result.path == tmp_path / "images.attar" and result.images == 16 and result.kinds == {"bytes": 6, "image": 16}
    )
    same(folder, unpack(result.path, tmp_path / "back"))


def test_large_images_are_cut_and_stacks_bounded(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "STACK", 1 << 13)
    result = pack(folder, tmp_path / "small.attar")
    stacks = [name for name in read_archive(result.path).parts if name.startswith("stack") and "part" not in name]
    assert len(stacks) > 8
    same(folder, unpack(result.path, tmp_path / "back"))


def test_idx_and_npz_come_back(tmp_path):
    place, rng = tmp_path / "arrays", np.random.default_rng(0)
    place.mkdir()
    for name, code, kind in (("x-idx1-ubyte.gz", 8, "u1"), ("f.idx2", 13, ">f4"), ("i.idx1", 11, ">i2")):
        array = rng.integers(0, 99, (40, 6) if "2" in name else 40).astype(kind)
        head = bytes((0, 0, code, array.ndim)) + np.array(array.shape, ">u4").tobytes()
        data = head + array.tobytes()
        (place / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    arrays = {
        "x": blobs(50, 8, 8, 1)[..., 0], "rgb": blobs(20, 8, 8, 3), "y": np.arange(50) % 10, "f": rng.random((9, 2)),
        "empty": np.zeros((0, 8, 8), np.uint8), "flag": np.array([True, False]),
    }  # fmt: skip
    np.savez_compressed(place / "set.npz", **arrays)
    np.savez(place / "words.npz", words=np.array(["a", "b"]))
    result = pack(place, tmp_path / "a.attar")
    assert result.kinds == {"bytes": 1, "idx": 3, "npz": 1} and result.images == 70
    back = unpack(result.path, tmp_path / "back")
    for name in ("x-idx1-ubyte.gz", "f.idx2", "i.idx1"):
        one, other = read_idx(place / name), read_idx(back / name)
        assert one.dtype == other.dtype and np.array_equal(one, other)
    with np.load(back / "set.npz") as found:
        assert found.files == list(arrays)
        assert all(found[k].dtype == a.dtype and np.array_equal(found[k], a) for k, a in arrays.items())
    assert (back / "words.npz").read_bytes() == (place / "words.npz").read_bytes()


def test_the_same_files_make_the_same_archive(folder, tmp_path, monkeypatch):
    first = pack(folder, tmp_path / "1.attar").path.read_bytes()
    monkeypatch.setenv("ATTAR_THREADS", "3")
    assert pack(folder, tmp_path / "2.attar").path.read_bytes() == first


def test_existing_files_and_strangers_are_left_alone(folder, tmp_path):
    goal = pack(folder).path
    with pytest.raises(OutputError):
        pack(folder)
    with pytest.raises(OutputError, match="existing"):
        unpack(goal, folder)
    with pytest.raises(UsageError, match="attar data unpack"):
        unpack_checkpoint(goal, tmp_path / "out")
    with pytest.raises(UsageError, match="must be a file or a folder"):
        pack(tmp_path / "nowhere")
    stranger = Path(__file__).parents[1] / "golden" / "v1-model.attar"
    with pytest.raises(UsageError, match="must be a data set"):
        unpack(stranger, tmp_path / "out")
    assert not list(tmp_path.glob(".*")) and part_of(goal, "x").parent == tmp_path


def test_the_command_line(folder, tmp_path):
    run = CliRunner().invoke
    done = run(cli.app, ["data", "pack", str(folder), "-o", str(tmp_path / "x.attar"), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["images"] == 16
    done = run(cli.app, ["data", "unpack", str(tmp_path / "x.attar"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0
    same(folder, tmp_path / "out")
    done = run(cli.app, ["verify", str(tmp_path / "x.attar")])
    assert done.exit_code == 0 and "whole" in done.stdout
    assert run(cli.app, ["data", "pack", str(tmp_path / "nowhere")]).exit_code == 2
    done = run(cli.app, ["inspect", str(tmp_path / "x.attar"), "--json"])
    assert {row["name"] for row in json.loads(done.stdout)} == set(read_archive(tmp_path / "x.attar").parts)
    assert run(cli.app, ["expand", str(tmp_path / "x.attar"), "-o", str(tmp_path / "model")]).exit_code == 2


def refused(data):
    with pytest.raises(FormatError, match="Received"):
        list(contents(read_archive(data)))


@pytest.mark.parametrize("name", ["v1-set", "v2-set"])
def test_every_cut_and_many_flips_are_refused(name):
    data = (GOLDEN / f"{name}.attar").read_bytes()
    for stop in range(0, len(data), 7):
        refused(data[:stop])
    for place in range(0, len(data), 3):
        wrong = bytearray(data)
        wrong[place] ^= 1 << (place % 8)
        refused(bytes(wrong))
    refused(data + b"\0")


@pytest.mark.parametrize("name", ["v1-set", "v2-set", "v1-lossy", "v3-exact"])
def test_golden_files_are_read_for_ever(name):
    with np.load(GOLDEN / f"{name}.npz") as expected:
        found = {f"{record.name}|{name}": array for record, arrays in contents(read_archive(GOLDEN / f"{name}.attar"))
                 for name, array in arrays.items()}  # fmt: skip
        assert sorted(found) == sorted(expected.files)
        assert all(np.array_equal(found[key], expected[key]) for key in expected.files)


@pytest.fixture
def mail(tmp_path):
    """E-mails and notes by class, a table, a sound, and an archive that nothing makes smaller."""
    place, rng = tmp_path / "mail", np.random.default_rng(0)
    for label in ("ham", "spam"):
        (place / label).mkdir(parents=True)
        for k in range(40):
            text = f"From: a{k}@example.org\r\nSubject: {label} {k}\r\n\r\n" + "all of you " * int(rng.integers(0, 9))
            (place / label / f"{k}.txt").write_bytes(text.encode())
    (place / "noise.bin").write_bytes(rng.bytes(5000))
    (place / "table.csv").write_text("a,b\n" + "".join(f"{k},{k % 3}\n" for k in range(500)))
    (place / "broken.csv").write_text("a,b\n1\n")
    (place / "broken.wav").write_bytes(b"RIFF")
    return place


def test_small_files_share_a_stream(mail, tmp_path, monkeypatch):
    result = pack(mail)
    assert result.kinds == {"bytes": 83, "table": 1}
    parts = [name for name in read_archive(result.path).parts if name.startswith("stream")]
    assert len(parts) == 4
    same(mail, unpack(result.path, tmp_path / "back"))
    apart = sum(len(code_skeleton(file.read_bytes())[2]) for file in mail.rglob("*.txt"))
    assert result.bytes_after - 5000 < apart / 2
    monkeypatch.setattr(solid, "BLOCK", 1000)
    monkeypatch.setattr("attar.sets.contents.KEPT", 2000)
    result = pack(mail, tmp_path / "small.attar")
    assert len([name for name in read_archive(result.path).parts if name.startswith("stream")]) > 9
    same(mail, unpack(result.path, tmp_path / "again"))


def test_blocks_of_streams_that_take_turns_are_decoded_once(tmp_path, monkeypatch):
    monkeypatch.setattr(solid, "BLOCK", 1000)
    monkeypatch.setattr("attar.sets.contents.KEPT", 12_000)
    monkeypatch.setenv("ATTAR_THREADS", "4")
    (tmp_path / "set").mkdir()
    for k in range(40):
        for suffix in "abcdef":
            (tmp_path / "set" / f"{k:02}.{suffix}").write_bytes(f"{suffix} {k}, ".encode() * 30)
    archive = read_archive(pack(tmp_path / "set").path)
    decoded, inner = [], mixed.bytes_of
    monkeypatch.setattr(mixed, "bytes_of", lambda *one: decoded.append(1) or inner(*one))
    files = {record.name: arrays[""].tobytes() for record, arrays in contents(archive)}
    assert files["07.c"] == b"c 7, " * 30 and len(files) == 240
    assert len(decoded) == sum(name.startswith("stream") for name in archive.parts) > 30


def test_the_number_of_threads_changes_no_byte_of_a_stream(mail, tmp_path, monkeypatch):
    monkeypatch.setattr(solid, "BLOCK", 700)
    monkeypatch.setenv("ATTAR_THREADS", "1")
    first = pack(mail, tmp_path / "1.attar").path.read_bytes()
    monkeypatch.setenv("ATTAR_THREADS", "3")
    assert pack(mail, tmp_path / "2.attar").path.read_bytes() == first
    same(mail, unpack(tmp_path / "2.attar", tmp_path / "back"))


GOOD = ["a.png", "image", "L", [["", "uint8", [1, 5, 5, 1]]]]


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([["../a.png", *GOOD[1:]]], "relative path"),
        ([["/a.png", *GOOD[1:]]], "relative path"),
        ([GOOD, GOOD], "names of their own"),
        ([["a", *GOOD[1:]], ["a/b", *GOOD[1:]]], "names of their own"),
        ([["a.png", "pickle", *GOOD[2:]]], "kind must be"),
        ([["a.png", "image", "CMYK", GOOD[3]]], "known mode"),
        ([["a.png", "image", "L", [["", "uint8", [1, 5, 5, 3]]]]], "known mode"),
        ([["a.png", "image", "L", [["", "uint8", [0, 5, 5, 1]]]]], "known mode"),
        ([["a.png", "image", "L", []]], "one array"),
        ([["a.png", "image", "L", [["", "object", [1, 5, 5, 1]]]]], "dtype must be"),
        ([["a.png", "image", "L", [["", "uint8", [1, 5, -5, 1]]]]], "axes of 0 or more"),
        ([["a.png", "image", "L", [["", "uint8", [1, 1 << 30, 1 << 9, 1]]]]], "may hold"),
        ([["a.npz", "npz", "", [["x", "uint8", [1 << 20, 4, 4]]]]], "images"),
        ([["a.npz", "npz", "", [["x", "int8", [2]], ["x", "int8", [2]]]]], "differ"),
        ([["a", "bytes", "", [["", "uint8", [2, 2]]]]], "one axis"),
        ([["a", "audio", "", [["", "int8", [2]]]]], "one axis"),
        ([["a.csv", "table", "", [["", "uint8", [2]]]]], "tell its blocks"),
        ([["a.csv", "table", "-1", [["", "uint8", [2]]]]], "tell its blocks"),
        ([["a.csv", "table", "99999999", [["", "uint8", [2]]]]], "tell its blocks"),
        ([["a", "bytes", "solid", [["x", "uint8", [2]]]]], "without a name"),
        ([["a.png", "image", "L", [["x", "uint8", [1, 5, 5, 1]]]]], "without a name"),
        ([["a.npz", "npz", "", [["\ud800", "int8", [2]]]]], "names of text"),
        ([["a.npz", "npz", "", [["x\0", "int8", [2]]]]], "names of text"),
        ([["a.npz", "npz", "", [["x" * 65532, "int8", [2]]]]], "names of text"),
        ([["a"]], "fields"),
        ({"a": 1}, "list"),
    ],
)
def test_an_index_that_lies_is_refused(rows, rule):
    with pytest.raises(FormatError, match=rule):
        from_json(json.dumps(rows).encode(), base.decoded_limit(1000))


def test_an_index_that_is_no_json_is_refused():
    for text in (b"", b"[", b"\xff", b"[" * 100000):
        with pytest.raises(FormatError):
            from_json(text, 1000)


def test_parts_without_an_index_are_no_data_set(tmp_path):
    section, data = blobs_of.code_arrays("alone", PART, {"bytes": np.arange(9, dtype=np.uint8)})
    path = tmp_path / "a.attar"
    path.write_bytes(header.header_bytes(in_parts({"name": "x"}, (section,))) + data)
    read_archive(path).verify()
    with pytest.raises(FormatError, match="a data set has an index"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
