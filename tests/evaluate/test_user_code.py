"""package.module:function: found beside the user, errors told apart, sys.path left as it was."""

import doctest
import sys
from pathlib import Path

import pytest

from attar.errors import UsageError
from attar.evaluate import budget, certificate
from attar.user_code import is_spec, user_function


def test_the_working_folder_is_searched_and_left_off_the_path(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "user_code_sample.py").write_text("def f():\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert user_function("user_code_sample:f", "metric")() == 7
    assert sys.path == before


def test_a_missing_module_inside_the_users_own_is_not_hidden(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "user_code_broken.py").write_text("import no_such_thing_at_all\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_thing_at_all"):
        user_function("user_code_broken:f", "metric")
    with pytest.raises(UsageError, match="no module 'user_code_absent'"):
        user_function("user_code_absent.inner:f", "metric")


@pytest.mark.parametrize("text", ["a", "a:", ":b", "a.b:c.d", "a/b:c", "C:\\data", "a:b:c", "os:system('x')"])
def test_what_is_no_spec(text: str) -> None:
    assert not is_spec(text)
    with pytest.raises(UsageError, match="must read"):
        user_function(text, "metric")


@pytest.mark.parametrize("module", [budget, certificate])
def test_examples_in_docstrings_run(module) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
