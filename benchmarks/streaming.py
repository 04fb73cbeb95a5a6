"""A model compressed block by block: memory, time, and the same bytes after being killed.

    python benchmarks/streaming.py [--shape 1.1b|160m|20m] [--blocks N] [--once] [--json FILE] [--folder PLACE]

A Llama-shaped checkpoint of random bfloat16 weights is written shard by shard, and compressed as a user would:

    attar compress ./checkpoint --data windows.npz --metric perplexity --max-relative-drop 20% --bits 4

once without a break, and once killed twice by SIGKILL, after a third and two thirds of its layers were written, and
started again. Memory is the most that a process had resident (VmHWM, as the system reports it at its end), the
largest of the three processes for the broken run. Weights are random, so that the perplexity says nothing but that
the file is read back whole. --once leaves the second run out; --blocks takes fewer blocks of the same width, which are
another time and the same working set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

WINDOW, WINDOWS, GRADIENTS = 256, 32, 4
"""Tokens in a window, windows in the data (which is split in three), windows for gradients."""
WORDS = 32000


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama."""

    hidden: int
    inner: int
    layers: int
    heads: int
    pairs: int


SHAPES = {
    "1.1b": Shape(2048, 5632, 22, 32, 4),
    "160m": Shape(768, 2048, 16, 12, 4),
    "20m": Shape(128, 352, 8, 4, 2),
}


def tensors(shape: Shape, block: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a block's tensors by name; -1 is what is outside the blocks."""
    d, head = shape.hidden, shape.hidden // shape.heads
    if block < 0:
        return {"model.embed_tokens.weight": (WORDS, d), "model.norm.weight": (d,), "lm_head.weight": (WORDS, d)}
    at = f"model.layers.{block}."
    return {
        f"{at}self_attn.q_proj.weight": (d, d), f"{at}self_attn.k_proj.weight": (shape.pairs * head, d),
        f"{at}self_attn.v_proj.weight": (shape.pairs * head, d), f"{at}self_attn.o_proj.weight": (d, d),
        f"{at}mlp.gate_proj.weight": (shape.inner, d), f"{at}mlp.up_proj.weight": (shape.inner, d),
        f"{at}mlp.down_proj.weight": (d, shape.inner), f"{at}input_layernorm.weight": (d,),
        f"{at}post_attention_layernorm.weight": (d,),
    }  # fmt: skip


def make(place: Path, shape: Shape) -> int:
    """Write a checkpoint, a shard for each block; its number of weights."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    place.mkdir(parents=True)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.pairs, max_position_embeddings=2048,
        tie_word_embeddings=False, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(place)
    generator, index, count = torch.Generator().manual_seed(0), {}, 0
    for number in range(-1, shape.layers):
        made = {}
        for name, size in tensors(shape, number).items():
            drawn = torch.randn(size, generator=generator) * 0.02
            made[name] = ((1 + drawn) if len(size) == 1 else drawn).to(torch.bfloat16)
            count += drawn.numel()
        file = f"model-{number + 2:05d}-of-{shape.layers + 1:05d}.safetensors"
        save_file(made, place / file, {"format": "pt"})
        index |= dict.fromkeys(made, file)
    (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    ids = np.random.default_rng(0).integers(0, WORDS, (WINDOWS, WINDOW))
    np.savez(place.parent / "windows.npz", input_ids=ids)
    (place.parent / "stream.toml").write_text(f"[settings.stream]\nwindows = {GRADIENTS}\n")
    return count


def command(folder: Path, out: str) -> list[str]:
    """What a user types."""
    return [
        sys.executable, "-m", "attar", "compress", str(folder / "checkpoint"), "--data", str(folder / "windows.npz"),
        "--metric", "perplexity", "--max-relative-drop", "20%", "--bits", "4", "--recipe", str(folder / "stream.toml"),
        "-o", str(folder / out),
    ]  # fmt: skip


def run(folder: Path, out: str, kill_at: int | None = None) -> dict[str, Any]:
    """One process, killed when so many layers are kept; seconds, peak MiB, exit code (negative: the signal)."""
    started = time.monotonic()
    process = subprocess.Popen(command(folder, out))
    work = folder / out / ".attar-work"
    while kill_at is not None and process.poll() is None:
        if work.is_dir() and len(list(work.glob("section-*"))) >= kill_at:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.05)
    _, status, used = os.wait4(process.pid, 0)
    return {
        "seconds": time.monotonic() - started, "peak": used.ru_maxrss / 1024, "code": os.waitstatus_to_exitcode(status),
        "cpu": used.ru_utime + used.ru_stime,
    }  # fmt: skip


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measured(folder: Path, shape: Shape, *, once: bool) -> list[dict[str, Any]]:
    """The rows of the table."""
    layers = 7 * shape.layers + 2
    whole = run(folder, "whole")
    file = folder / "whole" / "checkpoint.attar"
    rows = [{"run": "unbroken", **whole, "bytes": file.stat().st_size, "sha256": digest(file)}]
    if not once:
        parts = [run(folder, "broken", kill_at=layers * k // 3) for k in (1, 2)] + [run(folder, "broken")]
        file = folder / "broken" / "checkpoint.attar"
        rows.append({
            "run": "killed twice", "seconds": sum(p["seconds"] for p in parts), "peak": max(p["peak"] for p in parts),
            "cpu": sum(p["cpu"] for p in parts), "code": [p["code"] for p in parts], "bytes": file.stat().st_size,
            "sha256": digest(file),
        })  # fmt: skip
    return rows


def main() -> None:
    """Make, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1.1b")
    parser.add_argument("--blocks", type=int, help="fewer blocks than the shape has")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder, removed afterwards)")
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    shape = replace(shape, layers=given.blocks or shape.layers)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="attar-streaming-"))
    try:
        weights = make(folder / "checkpoint", shape)
        rows = measured(folder, shape, once=given.once)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{shape.layers} blocks, {weights / 1e6:,.0f} million weights, {WINDOWS} windows of {WINDOW} tokens")
    print(f"{'run':<14}{'minutes':>9}{'CPU min':>9}{'peak MiB':>10}{'bytes':>15}{'bits/weight':>13}  sha256")
    for row in rows:
        print(
            f"{row['run']:<14}{row['seconds'] / 60:>9.1f}{row['cpu'] / 60:>9.1f}{row['peak']:>10,.0f}"
            f"{row['bytes']:>15,}{8 * row['bytes'] / weights:>13.3f}  {row['sha256'][:16]}"
        )
    if given.json:
        given.json.write_text(
            json.dumps({"shape": given.shape, "blocks": shape.layers, "weights": weights, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
