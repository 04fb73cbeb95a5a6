"""Labels that are probably wrong: the least confident of a linear model that did not see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.data.extras import extra
from attar.types import Array

FOLDS = 5
LEAST_EXAMPLES = 50
"""Fewest examples of a set whose labels are looked at."""
LEAST_OF_CLASS = FOLDS
"""Fewest examples of a class that take part: each fold has to hold one."""
MOST_CLASSES = 200
COMPONENTS = 384
"""Principal components that the linear model sees of wider features."""
STRENGTH = 0.003
"""Inverse of the L2 penalty of the logistic regression where features are many."""
STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse penalties of which the likeliest is taken where they are few, and trying is cheap."""
LIKELY = 0.07
"""Least posterior that a label is wrong for it to be listed.

It is far below one half because the model learnt from the wrong labels too, and so half expects them: the posterior is
too low. Chosen by measurement on examples/fashion-mnist with labels exchanged at rates of 0, 1, 3 and 10 %.
"""
LEAST_GAIN = 0.3
"""Least share of what guessing the commonest class gets wrong that the model must get right to be believed."""
ROUNDS = 50
"""Rounds of expectation and maximisation for the rate of wrong labels; they settle in about ten."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WrongLabels:
    """Positions of labels that are probably wrong, most suspicious first; all arrays are [count].

    `probability` that each is wrong, and `suggested`, the class that the model takes it for. `looked_at` is how many
    examples took part: classes with fewer than 5 do not.
    """

    positions: NDArray[np.int64]
    probability: Floats
    suggested: NDArray[np.int64]
    looked_at: int


def wrong_labels(features: Array, labels: Array, seed: int = 0) -> WrongLabels | str:
    """Labels [n] of classes (integers from 0) that do not go with their features [n, d]; or the reason why none tell.

    Labels are ranked by self-confidence, the probability that a model of the other folds gives the label, as in
    confident learning (Northcutt, Jiang and Chuang, JAIR 2021), and cut where uniform noise is no longer a likely
    explanation (see `chance_of_wrong`). Confident learning's own cut counts what the model confuses; where classes
    overlap it takes what lies between two of them for noise.
    """
    counts = np.bincount(labels)
    taking_part = counts[labels] >= LEAST_OF_CLASS
    rows = np.flatnonzero(taking_part)
    names, inner = np.unique(labels[rows], return_inverse=True)
    if len(rows) < LEAST_EXAMPLES or len(names) < 2:
        return f"{len(rows)} examples in {len(names)} classes are too few to tell"
    if len(names) > MOST_CLASSES:
        return f"{len(names)} classes are more than the {MOST_CLASSES} that can be told apart"
    probabilities = out_of_sample(features[rows], inner, seed)
    right, guessed = float((probabilities.argmax(1) == inner).mean()), float(np.bincount(inner).max() / len(inner))
    if right - guessed < LEAST_GAIN * (1 - guessed):
        return f"a model that gets {right:.0%} of them right, where guessing gets {guessed:.0%}, cannot tell"
    chance = chance_of_wrong(probabilities, inner)
    found = np.flatnonzero((chance >= LIKELY) & (probabilities.argmax(1) != inner))
    found = found[np.argsort(-chance[found], kind="stable")]
    return WrongLabels(rows[found], chance[found], names[probabilities[found].argmax(1)], len(rows))


def out_of_sample(features: Array, labels: NDArray[np.int64], seed: int = 0) -> Floats:
    """Class probabilities [n, classes], each from a logistic regression that did not see the example.

    Features are standardised and brought to 384 principal components; folds are stratified; one temperature, fitted
    to all folds, mends what the strong penalty takes from the model's confidence (Guo et al., ICML 2017).
    """
    extra("sklearn", "label noise")
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x = np.array(features, np.float32)  # a copy, changed in place: features of many images are large
    x -= x.mean(0)
    x /= np.sqrt(np.einsum("nd,nd->d", x, x) / len(x)) + 1e-6
    if x.shape[1] > COMPONENTS:
        count = min(COMPONENTS, *x.shape)
        few = PCA(count, copy=False, svd_solver="randomized", iterated_power=2, random_state=seed)
        x = few.fit_transform(x)
        x = x / max(float(x.std(0).mean()), 1e-12)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    tried = []
    for strength in STRENGTHS if x.shape[1] < COMPONENTS else (STRENGTH,):
        model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
        given = np.asarray(cross_val_predict(model, x, labels, cv=folds, method="predict_proba"), np.float64)
        tried.append(np.log(np.maximum(given, 1e-26)))
    rows = np.arange(len(labels))
    return _tempered(max(tried, key=lambda logs: float(logs[rows, labels].mean())), labels)


def _tempered(logs: Floats, labels: NDArray[np.int64]) -> Floats:
    """Probabilities at the temperature under which the given labels are most likely."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(labels))

    def loss(power: float) -> float:
        return -float(log_softmax(np.exp(power) * logs, axis=1)[rows, labels].mean())

    power = minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x
    return np.exp(log_softmax(np.exp(power) * logs, axis=1))


def chance_of_wrong(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """The posterior probability [n] that each label is wrong, if a label is redrawn with an unknown rate.

    Model: with the rate r a label is one of the other K - 1 classes, whatever the example, else it is drawn from
    p(class | example). r is found by expectation and maximisation, and the given labels are what is explained.
    """
    given = probabilities[np.arange(len(labels)), labels]
    others = (1 - given) / (probabilities.shape[1] - 1)
    rate = 0.05
    for _ in range(ROUNDS):
        wrong = rate * others / np.maximum(rate * others + (1 - rate) * given, 1e-300)
        rate = float(np.clip(wrong.mean(), 1e-6, 0.5))
    return wrong
