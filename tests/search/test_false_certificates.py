"""False certificates of the search stay below the stated rate on simulated models; those of naive ways do not."""

import sys
from pathlib import Path

import pytest
from scipy.stats import binom

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import false_certificates


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_certificates_are_false_as_rarely_as_they_say(runs: int) -> None:
    found = false_certificates.shares(runs)
    claims, false = found["attar"]
    assert claims > 0.9 * runs, "a way that certifies nothing is never wrong"
    # At a true rate of 5 % so many or more false ones in all runs would come up once in a thousand tests.
    assert false <= binom.ppf(0.999, runs, 0.05)
    assert found["observed drop on select"][1] > binom.ppf(0.999, runs, 0.05)


def test_a_simulated_model_falls_by_what_it_says() -> None:
    loop = false_certificates.simulated(3)
    before = loop.before["certify"]
    drops = [before.value - loop.model.score(slope * false_certificates.FIRST, "certify").value for slope in (1, 4, 16)]
    true = [loop.model.drop(slope * false_certificates.FIRST) for slope in (1, 4, 16)]
    assert drops == sorted(drops) and drops == pytest.approx(true, abs=1.0)
