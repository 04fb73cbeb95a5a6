"""The adapter laws on torch modules of every kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapters import torch_cases
from kits.adapter_laws import LAWS, Case


@pytest.mark.parametrize(("name", "law"), torch_cases.pairs(torch_cases.MODELS, LAWS))
def test_laws_hold(name: str, law: Callable[[Case], None]) -> None:
    law(torch_cases.module_case(name))
