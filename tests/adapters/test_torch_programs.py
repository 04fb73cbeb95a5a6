"""The adapter laws on exported programs and TorchScript files, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters import torch_cases
from kits.adapter_laws import LAWS, Case, law_rebuild, law_skeleton_holds_no_weights

PROGRAMS = (
    "dense-norm",
    "conv",
    "transposed",
    "embedding",
    "tied",
    "lstm",
    "attention",
    "raw",
    "einsum",
    "shared",
    "filtered",
)
SCRIPTS = {
    "dense": False, "conv": True, "conv-paddings": False, "transposed": True,
    "embedding": True, "tied": True, "gru": True, "raw": True, "filtered": True,
}  # fmt: skip
"""Name to whether it is traced; scripted otherwise."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torch")


@pytest.mark.parametrize(("name", "law"), torch_cases.pairs(PROGRAMS, LAWS))
def test_laws_hold_for_exported_programs(name: str, law: Callable[[Case], None], folder: Path) -> None:
    law(torch_cases.program_case(name, folder))


SCRIPT_LAWS = [law for law in LAWS if law not in (law_rebuild, law_skeleton_holds_no_weights)]


@pytest.mark.parametrize("law", SCRIPT_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", SCRIPTS)
def test_laws_hold_for_scripts(name: str, law: Callable[[Case], None], folder: Path) -> None:
    law(torch_cases.script_case(name, folder, traced=SCRIPTS[name]))
