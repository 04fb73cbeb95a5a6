"""Bytes at one KL and at one drop, with other methods beside the base method and without.

    python benchmarks/methods_curves.py [--models lenet300 lenet5 resnet20 dwcnn] [--methods uniform lowrank keep]

Files along the slope are made both ways from the same statistics and run on the 14,000 examples of the select and the
certify split; how they are compared: benchmarks/tuning_curves.py. Single certified files have more luck than that.
"""

from __future__ import annotations

import argparse

from attar import pipeline
from attar.beginning import job_of
from attar.recipe import METHODS
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from search_cases import DATA, MODELS
from tuning_curves import Curve, compare

PLAIN = ("uniform", "keep")


def main() -> None:
    """The lines of every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["lenet300", "lenet5", "resnet20", "dwcnn"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    options = parser.parse_args()
    for name in options.models:
        job = job_of(MODELS / f"{name}.onnx", DATA, None, {"max_drop": 0.5, "methods": options.methods})
        loop = pipeline.loop_of(job, Ledger(), Silent())
        compare(name, Curve.of(loop, methods=PLAIN), Curve.of(loop))


if __name__ == "__main__":
    main()
