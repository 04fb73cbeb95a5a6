"""`attar data augment` as a user meets it, and its page: a policy without scripts, and in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from augment_cases import EVERY, contents, frame, image_folder, images, sound_folder, text_folder
from playwright.sync_api import Browser

from attar.augment.changes import CHANGES
from attar.augment.plan import plan_of
from attar.augment.write import augment, shown
from attar.report.augment_page import render
from commands import attar

MAKERS = {
    "images": image_folder,
    "audio": sound_folder,
    "text": text_folder,
    "table": lambda place: frame().to_csv(place.with_suffix(".csv"), index=False) or place.with_suffix(".csv"),
    "array": lambda place: np.savez(place.with_suffix(".npz"), x=images(20, 3, side=16)) or place.with_suffix(".npz"),
}


PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_the_documentation_has_every_change_with_its_parameters(kind: str, name: str) -> None:
    change = CHANGES[kind][name]
    told = []
    for field in fields(change.Params):
        known = field.metadata
        rule = f"{known['low']:g} to {known['high']:g}" if "low" in known else ", ".join(known["choices"])
        told.append(f"`{field.name} = {field.default!r}`: {known['help']}, {rule}")
    usual = "yes" if change.usual else ""
    assert f"| {kind} | `{name}` | {usual} | {change.help} | {'; '.join(told)} |" in PAGE


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return attar("data", "augment", *words)


def page(kind: str, place: Path, plan: dict | None = None) -> str:
    """The page of a set."""
    source = MAKERS[kind](place / kind)
    found = augment(source, None, plan_of(plan or {}))
    return render(found.facts(), shown(found))


def test_a_folder_a_recipe_and_a_page(tmp_path: Path) -> None:
    source = image_folder(tmp_path / "in")
    (tmp_path / "augment.toml").write_text("copies = 2\n[flip]\nshare = 1.0\n")
    options = ["-o", tmp_path / "out", "--recipe", tmp_path / "augment.toml", "--preview", tmp_path / "page.html"]
    done = run(source, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "flip  share 1",
        f"18 examples, 12 of them copies; written to {tmp_path / 'out'}; the original is unchanged",
    ]
    assert len(contents(tmp_path / "out")) == 18 and (tmp_path / "page.html").read_text().startswith("<!doctype")
    again = run(source, "-o", tmp_path / "more", *options[2:])
    assert again.returncode == 1 and "page.html" in again.stderr and not (tmp_path / "more").exists()
    facts = json.loads(run(source, "-o", tmp_path / "more", "--copies", 1, "--seed", 4, "--only-copies", "--json",
                           "--recipe", tmp_path / "augment.toml").stdout)  # fmt: skip
    assert (facts["copies"], facts["seed"], facts["written"], facts["augmented"]) == (1, 4, 6, 6)
    assert facts["changes"] == {"flip": {"share": 1.0}} and facts["kind"] == "images"


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    source = image_folder(tmp_path / "in", 2)
    (tmp_path / "bad.toml").write_text("[turn]\n")
    for words, said in [
        ([source], "an output is needed"),
        ([source, "-o", tmp_path / "o", "--recipe", tmp_path / "bad.toml"], "must be one of flip, shift"),
        ([source, "-o", tmp_path / "o", "--copies", "0"], "augment.copies: it must be from 1 to 1000. Received 0"),
        ([source, "-o", tmp_path / "o", "--jobs", "0"], "jobs: it must be one or more"),
        ([tmp_path / "none", "-o", tmp_path / "o"], "must exist"),
    ]:
        done = run(*words)
        assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "o").exists()
    looked = run(source, "--preview", tmp_path / "p.html")
    assert looked.stdout.endswith("nothing was written but the page\n") and (tmp_path / "p.html").exists()


@pytest.mark.parametrize("kind", MAKERS)
def test_the_policy_forbids_all_but_the_style_and_pictures(kind: str, tmp_path: Path) -> None:
    text = page(kind, tmp_path)
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src &#39;none&#39;; style-src &#39;sha256-{digest}&#39;" in text
    assert "<script" not in text and "style=" not in text and not re.search(r"(src|href)=\"(?!data:)", text)


def test_what_the_page_marks(tmp_path: Path) -> None:
    text = page("table", tmp_path, {"jitter": {"share": 1.0}, "drop": {"share": 0.3}})
    assert re.search(r"<ins>\d+\.\d</ins>", text) and re.search(r"<del>[^<]*\w+[^<]*</del>", text)
    assert text.count('<th scope="row">all together</th>') == 12 and "row 0: 0" in text
    sounds = page("audio", tmp_path)
    paths = re.findall(r'<path d="M([^"]+)Z"', sounds)
    assert len(paths) == 4 * 5 and all(path.count("L") == 239 for path in paths)
    assert page("images", tmp_path).count("data:image/png") == 6 * 6
    assert page("array", tmp_path).count("data:image/png") == 12 * 6


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    table = frame().rename(columns={"height": "<script>alert(1)</script>"})
    table["review"] = "<b>bold & brave words here</b> " + table["review"]
    table.to_csv(tmp_path / "t.csv", index=False)
    found = augment(tmp_path / "t.csv", None)
    text = render(found.facts(), shown(found))
    assert "<script" not in text and "&lt;script&gt;" in text and "<b>" not in text


def test_the_page_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    complaints: list[str] = []
    for kind in MAKERS:
        file = tmp_path / f"{kind}.html"
        file.write_text(page(kind, tmp_path), "utf-8")
        for scheme, width in (("light", 1180), ("dark", 400)):
            view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            view.on("console", lambda message: complaints.append(message.text))
            view.on("request", lambda r: None if r.url[:5] in ("data:", "file:") else complaints.append(r.url))
            view.goto(file.as_uri())
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{kind} {width}"
            broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
            assert view.evaluate(broken) == 0
            view.close()
    assert complaints == []
