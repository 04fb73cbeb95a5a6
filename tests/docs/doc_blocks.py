"""Runs the blocks of a documentation page in order, and compares what they print with what the page shows.

    python tests/docs/doc_blocks.py docs/quickstart.md            # exits 1 with the first block that does not hold
    python tests/docs/doc_blocks.py --quick docs/recipe.md        # the same in one process, with less work in a run
    python tests/docs/doc_blocks.py --write docs/quickstart.md    # runs it and puts what was printed into the page

In the working folder a page finds `examples`. Blocks of a page share one namespace and the folder. What follows a
`python` block as a `text` block is what it prints; in a `console` block, `$ attar ...` runs and `$ echo $?` says the
exit code of the command before it, which is 0 where nobody asks. Numbers may differ: the shape of a line counts. A
line `...` stands for any lines. Other commands (pip, make, ...) are for the reader and do not run.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

FENCE = re.compile(r"^```(\w*)\s*$")
READERS_OWN = ("pip", "make", "git", "cd", "python")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its lines, and the number of the first of them, counted from 1."""

    language: str
    lines: tuple[str, ...]
    first: int


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = text.splitlines()
    start: int | None = None
    language = ""
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and start is None:
            start, language = number + 1, fence[1]
        elif fence and start is not None:
            found.append(Block(language, tuple(lines[start:number]), start + 1))
            start = None
    assert start is None, f"the block that begins in line {start} does not end"
    return found


def shape(line: str) -> str:
    """A line without its numbers, the width of its columns and the ends of sizes."""
    line = re.sub(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?", "#", line)
    return re.sub(r"\s+", " ", re.sub(r"\u2500+", "\u2500", line)).strip()


def alike(shown: list[str], printed: list[str]) -> bool:
    """Whether lines have the same shapes; a line `...` stands for any number of lines, none included."""
    wanted = [line.strip() if line.strip() == "..." else shape(line) for line in shown]
    have = [shape(line) for line in printed]
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in wanted)
    return re.fullmatch(pattern, "".join(line + "\n" for line in have)) is not None


def run_page(path: Path) -> Iterator[tuple[int, list[str], list[str]]]:
    """Run a page; for every output shown, the number of its first line, what the page shows and what was printed."""
    module = ModuleType(path.stem)
    sys.modules[path.stem], namespace = module, vars(module)  # a registry line or a dataclass finds it by name
    page = blocks(path.read_text(encoding="utf-8"))
    for block, after in zip(page, [*page, None][1:], strict=True):
        if block.language == "python":
            source = "\n" * (block.first - 1) + "\n".join(block.lines)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(source, str(path), "exec"), namespace)
            near = after is not None and after.first - (block.first + len(block.lines)) <= 3
            if after is not None and after.language == "text" and near:
                yield after.first, list(after.lines), out.getvalue().splitlines()
        elif block.language == "console":
            yield from _run_console(block, path)


def _run_console(block: Block, path: Path) -> Iterator[tuple[int, list[str], list[str]]]:
    """The commands of a console block."""
    starts = [i for i, line in enumerate(block.lines) if line.startswith("$ ")]
    ends = [*starts[1:], len(block.lines)]
    code: int | None = None
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        place = f"{path}:{block.first + start}"
        text, shown = block.lines[start][2:], list(block.lines[start + 1 : end])
        while text.endswith("\\"):
            text = text[:-1] + shown.pop(0).strip()
        if text == "echo $?":
            assert [str(code)] == shown, f"{place}: the exit code was {code}, the page says {shown}"
            continue
        words = shlex.split(text, comments=True)
        if words[0] != "attar":
            assert words[0] in READERS_OWN, f"{place}: nothing here runs {words[0]!r}"
            continue
        done = _attar(words[1:])
        code = done.returncode
        asked = index + 1 < len(starts) and block.lines[starts[index + 1]] == "$ echo $?"
        assert code == 0 or asked, f"{place}: the exit code was {code}\n{done.stderr}"
        printed = done.stdout if done.stdout else "\n".join(done.stderr.splitlines()[-1:])
        yield block.first + end - len(shown), shown, printed.splitlines()


def _attar(words: list[str]) -> subprocess.CompletedProcess[str]:
    """A command, in a process of its own or, as most of its time goes into a start, in this one."""
    if "--quick" in sys.argv:
        from commands import attar

        return attar(*words)
    command = [sys.executable, "-m", "attar.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _check(path: Path) -> None:
    """Raise AssertionError at the first output of another shape."""
    for line, shown, printed in run_page(path):
        same = alike(shown, printed)
        assert same, f"{path}:{line}: the page shows\n" + "\n".join(shown) + "\nand it printed\n" + "\n".join(printed)


def _write(path: Path) -> None:
    """Put what was printed in the place of what the page shows; outputs with `...` stay as they are."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for line, shown, printed in reversed(list(run_page(path))):
        if "..." not in shown:
            lines[line - 1 : line - 1 + len(shown)] = [text.rstrip() for text in printed]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    if "--quick" in sys.argv:
        from attar.search import sensitivity
        from commands import ROUGH

        sensitivity.MOST = ROUGH
    for name in sys.argv[1:]:
        if not name.startswith("--"):
            (_write if "--write" in sys.argv else _check)(Path(name).resolve())
