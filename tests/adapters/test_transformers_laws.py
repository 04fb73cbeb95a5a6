"""The laws of adapters on tiny Hugging Face folders of every kind."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.transformers_models import MODELS, case
from kits.adapter_laws import LAWS


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_law(name: str, law: Any) -> None:
    law(case(name))
