"""The verdict and the certificate as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attar.report.ledger import mapping, number
from attar.report.words import Metric, percent, ratio, whole
from attar.types import Json

BOUNDS = {
    "score": "Tango’s score interval for paired proportions",
    "exact": "an exact test on the examples that changed",
    "betting": "a betting bound (Waudby-Smith and Ramdas 2024)",
    "bootstrap": "a paired bootstrap",
}
"""What `Certificate.bound` is called in a sentence."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """status is "certified", "not-certified", "not-certifiable" or "unfinished"; sentence and detail are plain text."""

    status: str
    badge: str
    sentence: str
    detail: str = ""


def verdict(result: Mapping[str, Json], metric: Metric, candidates: int) -> Verdict:
    """The headline; a run without a result is unfinished."""
    certificate = mapping(result.get("certificate"))
    if not result:
        return _unfinished(candidates)
    smaller, said = _smaller(result), str(certificate.get("verdict") or "")
    limit, confidence = metric.limit(certificate.get("max_drop")), percent(certificate.get("confidence"), 0)
    if said == "certified":
        bound = f"the {metric.loss} is below {limit}"
        if number(certificate.get("max_drop")) == 0:
            bound = f"the {metric.name} is no worse"
        return Verdict("certified", "Certified", f"{smaller}, and {bound} with {confidence} confidence.")
    if said == "not certifiable":
        samples = whole(certificate.get("n"))
        detail = f"Even an unchanged model could not be shown to stay within {limit} with {confidence} confidence."
        sentence = f"{smaller}, but not certifiable with {samples} samples."
        return Verdict("not-certifiable", "Not certifiable", sentence, " ".join([detail, *_needed(certificate)]))
    if said == "not certified":
        upper = metric.drop(certificate.get("upper"))
        sentence = f"{smaller}, but not certified: the {metric.loss} may be as much as {upper}."
        detail = f"Allowed were {limit}, to be shown with {confidence} confidence."
        return Verdict("not-certified", "Not certified", sentence, " ".join([detail, *_needed(certificate)]))
    return Verdict("unfinished", "No certificate", f"{smaller}. What that costs was not certified.")


def _unfinished(candidates: int) -> Verdict:
    """The headline of a run that was interrupted."""
    tried = {0: "before anything was tried", 1: "after one candidate"}.get(candidates, f"after {candidates} candidates")
    detail = "What was measured until then is below."
    return Verdict("unfinished", "Unfinished", f"The run ended {tried}.", detail)


def _smaller(result: Mapping[str, Json]) -> str:
    """31.9x smaller."""
    before, after = number(result.get("bytes_before")), number(result.get("bytes_after"))
    times = number(result.get("ratio")) or (before / after if before and after else None)
    if times is None:
        return "Compressed"
    return f"{ratio(times)} smaller" if times >= 1.005 else "No smaller than before"


def _needed(certificate: Mapping[str, Json]) -> list[str]:
    """How many samples would do, where that was worked out."""
    needed = number(certificate.get("needed"))
    return [] if needed is None else [f"About {whole(needed)} samples in the certify split would do."]


def explained(result: Mapping[str, Json], metric: Metric) -> list[str]:
    """The certificate in two sentences: what was compared, and what follows; none without a certificate."""
    certificate = mapping(result.get("certificate"))
    drop = number(certificate.get("drop"))
    if drop is None:
        return []
    file, count = str(result.get("file") or "the file that was written"), whole(certificate.get("n"))
    compared = f"The model was read back from {file} and compared with the original on {count} examples that the "
    compared += "search never saw"
    lost, gained = number(certificate.get("lost")), number(certificate.get("gained"))
    if lost is not None and gained is not None:
        compared += f": {whole(lost)} that were right became wrong and {whole(gained)} that were wrong became right"
    better = "a gain of" if drop < 0 else f"a {metric.loss} of"
    return [f"{compared}, {better} {metric.drop(abs(drop))}.", _bounded(certificate, metric)]


def _bounded(certificate: Mapping[str, Json], metric: Metric) -> str:
    """What the bound says about examples that nobody has seen."""
    bound = str(certificate.get("bound") or "")
    upper, limit = number(certificate.get("upper")), number(certificate.get("max_drop"))
    by = f" (by {BOUNDS.get(bound, bound)})" if bound else ""
    confidence = percent(certificate.get("confidence"), 0)
    said = f"On data of the same kind the true {metric.loss} is at most {metric.drop(upper)}, "
    said += f"with {confidence} confidence{by}"
    if upper is None or limit is None:
        return f"{said}."
    place = "within" if upper <= limit else "more than"
    return f"{said}; that is {place} the {metric.limit(limit)} allowed."
