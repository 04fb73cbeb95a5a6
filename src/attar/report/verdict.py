"""The verdict and the certificate as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attar.report.ledger import mapping, number
from attar.report.words import Metric, percent, plain, ratio, whole
from attar.types import Json

BOUNDS = {
    "score": "Tango’s score interval for paired proportions",
    "exact": "an exact binomial bound",
    "betting": "a betting bound (Waudby-Smith and Ramdas 2024)",
    "bootstrap": "a paired bootstrap",
}
"""What `Certificate.bound` is called in a sentence."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """status is "certified", "estimated", "not-certified", "not-certifiable" or "unfinished"; all is plain text."""

    status: str
    badge: str
    sentence: str
    detail: str = ""


def verdict(result: Mapping[str, Json], metric: Metric, candidates: int, guarantee: Json = "bound") -> Verdict:
    """The headline; a run without a result is unfinished."""
    certificate = mapping(result.get("certificate"))
    if not result:
        return _unfinished(candidates)
    smaller, said = _smaller(result), str(certificate.get("verdict") or "")
    if said == "certified":
        return _certified(smaller, certificate, metric)
    if said == "not certified: no data":
        return _blind(smaller, result)
    if said not in ("not certified", "not certifiable"):
        return Verdict("unfinished", "No certificate", f"{smaller}. What that costs was not certified.")
    drop, allowed = number(certificate.get("drop")), number(certificate.get("max_drop"))
    beyond = drop is not None and allowed is not None and drop > allowed
    if guarantee == "estimate" and not beyond:
        return _estimated(smaller, certificate, metric)
    if said == "not certifiable":
        sentence = f"{smaller}, but not certifiable with {whole(certificate.get('n'))} samples."
        return Verdict("not-certifiable", "Not certifiable", sentence, _too_few(certificate, metric))
    limit, confidence = metric.limit(allowed), percent(certificate.get("confidence"), 0)
    if beyond:
        measured = metric.counted(metric.beside(drop, allowed))
        sentence = f"{smaller}, but the {metric.loss} of {measured} is more than the {limit} allowed."
        return Verdict("not-certified", "Not certified", sentence, "The file is written all the same.")
    upper = metric.counted(metric.beside(certificate.get("upper"), allowed))
    sentence = f"{smaller}, but not certified: the {metric.loss} may be as much as {upper}."
    detail = f"The allowed {limit} were to be shown with {confidence} confidence."
    return Verdict("not-certified", "Not certified", sentence, " ".join([detail, *_needed(certificate)]))


def _certified(smaller: str, certificate: Mapping[str, Json], metric: Metric) -> Verdict:
    """The headline of a bound within the limit."""
    bound = f"the {metric.loss} is below {metric.limit(certificate.get('max_drop'))}"
    if number(certificate.get("max_drop")) == 0:
        bound = f"the {metric.name} is no worse"
    confidence = percent(certificate.get("confidence"), 0)
    return Verdict("certified", "Certified", f"{smaller}, and {bound} with {confidence} confidence.")


def _blind(smaller: str, result: Mapping[str, Json]) -> Verdict:
    """The headline of weights that were compressed without a network and without data."""
    detail = "There were no data: what this does to the model was not measured, and nothing is certified. "
    detail += f"The weights differ from the original ones by {percent(result.get('after'))} in all, those of one "
    detail += f"matrix by {percent(result.get('worst'))} at most, and take {plain(result.get('bits'))} bits each."
    return Verdict("not-certified", "Not certified: no data", f"{smaller}.", detail)


def _estimated(smaller: str, certificate: Mapping[str, Json], metric: Metric) -> Verdict:
    """The headline where an estimate within the limit was all that was asked for."""
    drop, limit = metric.drop(certificate.get("drop")), metric.limit(certificate.get("max_drop"))
    upper, confidence = metric.drop(certificate.get("upper")), percent(certificate.get("confidence"), 0)
    sentence = f"{smaller}, at a measured {metric.loss} of {drop} ({limit} allowed)."
    detail = (
        f"An estimate was asked for and not a bound: the true one may be up to {upper}, with {confidence} confidence."
    )
    return Verdict("estimated", "Estimated, not certified", sentence, detail)


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


def _too_few(certificate: Mapping[str, Json], metric: Metric) -> str:
    """Why these examples can show nothing, and how many could."""
    lost, gained = number(certificate.get("lost")), number(certificate.get("gained"))
    shown = f"could be shown to stay within {metric.limit(certificate.get('max_drop'))}"
    shown += f" with {percent(certificate.get('confidence'), 0)} confidence"
    if lost is None or gained is None:
        why = f"With so few not even a model that measures the same {shown}."
    elif lost + gained == 0:
        why = f"With so few not even an unchanged model {shown}."
    else:
        why = f"With so few not even a model that gains as many answers as it loses {shown}."
    return " ".join([why, *_needed(certificate)])


def _needed(certificate: Mapping[str, Json]) -> list[str]:
    """How many samples would do, where that was worked out."""
    needed = number(certificate.get("needed"))
    if needed is None:
        return []
    return [f"If more data behave alike, {whole(needed)} samples in the certify split would do."]


def explained(result: Mapping[str, Json], metric: Metric) -> list[str]:
    """The certificate in sentences: what was compared, what follows, what the word means; none without one."""
    certificate = mapping(result.get("certificate"))
    drop = number(certificate.get("drop"))
    if drop is None:
        return []
    file, count = str(result.get("file") or "the file that was written"), whole(certificate.get("n"))
    compared = f"The model was read back from {file} and compared with the original on {count} examples that the "
    compared += f"search never saw{_changed(certificate, metric)}"
    article = "an" if metric.loss.lower().startswith(("a", "e", "i", "o", "u", "f1", "r²")) else "a"
    better = "a gain of" if drop < 0 else f"{article} {metric.loss} of"
    return [
        f"{compared}, {better} {metric.drop(abs(drop))}.",
        _bounded(certificate, metric),
        *_meant(certificate, metric),
    ]


def _changed(certificate: Mapping[str, Json], metric: Metric) -> str:
    """How many answers changed sides, or for agreement, which has no sides, how many changed."""
    lost, gained = number(certificate.get("lost")), number(certificate.get("gained"))
    if lost is None or gained is None:
        return ""
    if metric.name == "agreement":
        return f": {whole(lost)} got another answer"
    return f": {whole(lost)} that were right became wrong and {whole(gained)} that were wrong became right"


def _bounded(certificate: Mapping[str, Json], metric: Metric) -> str:
    """What the bound says about examples that nobody has seen."""
    bound = str(certificate.get("bound") or "")
    upper, limit = number(certificate.get("upper")), number(certificate.get("max_drop"))
    by = f" (by {BOUNDS.get(bound, bound)})" if bound else ""
    confidence = percent(certificate.get("confidence"), 0)
    said = f"On data of the same kind the true {metric.loss} is at most {metric.counted(metric.beside(upper, limit))}, "
    said += f"with {confidence} confidence{by}"
    if upper is None or limit is None:
        return f"{said}."
    place = "within" if upper <= limit else "more than"
    return f"{said}; that is {place} the {metric.limit(limit)} allowed."


def _meant(certificate: Mapping[str, Json], metric: Metric) -> list[str]:
    """What "certified" promises, in terms of runs."""
    confidence = number(certificate.get("confidence"))
    if certificate.get("verdict") != "certified" or confidence is None:
        return []
    rare = f"at most {percent(1 - confidence, 0 if confidence < 0.995 else 1)} of runs"
    if certificate.get("bound") == "bootstrap":
        rare = rare.replace("at most", "about") + ", since a bootstrap is approximate"
    limit = metric.limit(certificate.get("max_drop"))
    return [f"“Certified” means: a file whose true {metric.loss} is {limit} or more would pass in {rare}."]
