"""Trials of parameters that have no gradient of bytes: which to try next, by Optuna's ask and tell.

Tree-structured Parzen estimators (Bergstra et al. 2011), one trial after the other and seeded, so that a number of
trials gives the same ones wherever they are measured, and also where most of them are known from an earlier run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attar.errors import UsageError
from attar.parameters import Range

BLIND = 8
"""Trials that are drawn before the estimators say anything, that of the defaults among them."""
Place = tuple[str, str]
"""Table and name of a parameter in a recipe's settings; ("", name) of a field."""
Values = Mapping[Place, Any]


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial: what was tried, and what it cost."""

    values: Values
    cost: float


def needs_optuna() -> Any:
    """Optuna, quiet; raises UsageError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "tune: trials are chosen by Optuna. It is not installed. Run: pip install 'attar[tune]', or leave --tune "
            "out."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def tried(space: Mapping[Place, Range], cost: Callable[[Values], float], seed: int) -> Iterator[Tried]:
    """Trials without end, the first of them the defaults; values that were had before are not measured again."""
    optuna = needs_optuna()
    names = {place: ".".join(filter(None, place)) for place in space}
    distributions = {names[place]: _distribution(optuna, space[place]) for place in space}
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=BLIND))
    study.enqueue_trial({names[place]: space[place].default for place in space})
    known: dict[tuple[Any, ...], float] = {}
    while True:
        trial = study.ask(distributions)
        values = {place: space[place].tidy(trial.params[names[place]]) for place in space}
        key = tuple(values.values())
        if key not in known:
            known[key] = cost(values)
        study.tell(trial, known[key])
        yield Tried(values, known[key])


def _distribution(optuna: Any, one: Range) -> Any:
    """A range as Optuna takes it."""
    kinds = optuna.distributions
    if one.choices:
        return kinds.CategoricalDistribution(one.choices)
    kind = kinds.IntDistribution if isinstance(one.default, int) else kinds.FloatDistribution
    return kind(one.low, one.high, log=one.ratios)
