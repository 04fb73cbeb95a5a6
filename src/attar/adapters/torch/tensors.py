"""What a skeleton says about a program's tensors beyond the program, in few words: values and compressible sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch._export.serde import serialize as serde
from torch._export.serde.schema import ScalarType

from attar.adapters.torch.forms import (
    Form,
    Site,
    conv_form,
    conv_transpose_form,
    dense_form,
    dtype_name,
    lookup_form,
    recurrent_form,
)
from attar.adapters.torch.inputs import EXAMPLES
from attar.adapters.torch.state import state_of
from attar.types import Json


def known_tensors(program: Json) -> dict[str, Json]:
    """[shape, dtype, 1 for a parameter] of the saved tensors that a program states, by name."""
    state = [entry for entry in state_of(program["graph_module"]) if entry.kind in ("parameter", "buffer")]
    return {e.name: [*_shape_and_dtype(e.meta), int(e.kind == "parameter")] for e in state}


def known_example(program: Json) -> dict[str, Json]:
    """[shape, dtype] of the user's inputs, EXAMPLES of each; other free sizes as when the program was exported."""
    module = program["graph_module"]
    given = [spec["user_input"]["arg"] for spec in module["signature"]["input_specs"] if "user_input" in spec]
    names = [argument["as_tensor"]["name"] for argument in given if "as_tensor" in argument]
    found = {name: _shape_and_dtype(module["graph"]["tensor_values"][name]) for name in names}
    return {name: [[EXAMPLES, *shape[1:]], dtype] for name, (shape, dtype) in found.items()}


def _shape_and_dtype(meta: Json) -> tuple[list[int], str]:
    """Free sizes as in the example that the program was exported with, 0 where it is not known."""
    sizes = [size if "as_int" in size else size["as_expr"]["hint"] or {} for size in meta["sizes"]]
    dtype = serde.deserialize_scalar_type(ScalarType(meta["dtype"]))
    return [size.get("as_int", 0) for size in sizes], dtype_name(dtype)


def code_tensors(tensors: Mapping[str, Json], known: Mapping[str, Json]) -> tuple[list[Json], dict[str, Json]]:
    """Values in the order of the known ones, None where there is none; and the entries that are not as known.

    An entry is [shape, dtype, 1 for a parameter] with [number] for a constant or [[shape, dtype, base64]].
    """
    values: list[Json] = []
    for name, usual in known.items():
        _, _, _, value = [*tensors.get(name, usual), None][:4]
        values.append(value[2] if isinstance(value, list) else value)
    while values and values[-1] is None:
        values.pop()
    full = full_tensors(values, {}, known)
    return values, {name: entry for name, entry in tensors.items() if full.get(name) != entry}


def full_tensors(values: Sequence[Json], other: Mapping[str, Json], known: Mapping[str, Json]) -> dict[str, Json]:
    """The inverse of code_tensors, but for known tensors that are not there; raises ValueError."""
    if len(values) > len(known):
        raise ValueError(f"{len(values)} values of {len(known)} tensors")
    padded = [*values, *[None] * (len(known) - len(values))]
    full = {}
    for (name, usual), value in zip(known.items(), padded, strict=True):
        stored = [] if value is None else [[*usual[:2], value] if isinstance(value, str) else value]
        full[name] = [*usual, *stored]
    return full | dict(other)


def code_sites(sites: Sequence[Site], known: Mapping[str, Json]) -> list[Json]:
    """[steps from the site before, steps to the bias or 0, form where it is not the usual one] of each, or its JSON.

    Steps are between places in the order of the known tensors.
    """
    names = list(known)
    places = {name: place for place, name in enumerate(names)}
    codes: list[Json] = []
    last = 0
    for site in sites:
        code: Json = site.to_json()
        if site.name in places:
            at = places[site.name]
            bias = 0 if site.bias is None else places.get(site.bias.name, at) - at
            short = [at - last, bias, *_form_code(site.form, site.shape)]
            if _reads_as(site, short, last, names, known):
                code = short
            last = at
        codes.append(code)
    return codes


def _reads_as(site: Site, code: Json, last: int, names: Sequence[str], known: Mapping[str, Json]) -> bool:
    try:
        return _full_site(code, last, names, known) == site
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError):
        return False


def full_sites(codes: Sequence[Json], known: Mapping[str, Json]) -> list[Site]:
    """The inverse of code_sites; raises ValueError, KeyError, TypeError, IndexError, ZeroDivisionError."""
    names = list(known)
    places = {name: place for place, name in enumerate(names)}
    sites: dict[str, Site] = {}
    last = 0
    for code in codes:
        site = Site.from_json(code) if isinstance(code, dict) else _full_site(code, last, names, known)
        if site.name in sites:
            raise ValueError(f"{site.name} twice")
        sites[site.name] = site
        last = places.get(site.name, last)
    return list(sites.values())


def _full_site(code: Json, last: int, names: Sequence[str], known: Mapping[str, Json]) -> Site:
    step, to_bias, *form_code = code
    at, bias_at = last + step, last + step + to_bias
    if not (0 <= at < len(names) and 0 <= bias_at < len(names)):
        raise ValueError(f"no tensors {at} and {bias_at}")
    name = names[at]
    shape, dtype, _ = known[name]
    form = _full_form(form_code, shape)
    described = [form.kind, form.split, form.order, form.row_axes, form.groups]
    bias = [names[bias_at], 0, None] if to_bias else None
    return Site.from_json(
        {"name": name, "shape": shape, "dtype": dtype, "tied_to": None, "form": described, "bias": bias}
    )


def _form_code(form: Form, shape: Sequence[int]) -> list[Json]:
    """[] for a matrix that is dense and a kernel that is one group's, else [groups], [kind] or [kind, groups]."""
    if form.kind == ("dense" if len(shape) == 2 else "conv"):
        return [] if form.groups == 1 else [form.groups]
    return [form.kind] if form.groups == 1 else [form.kind, form.groups]


def _full_form(code: Sequence[Json], shape: Sequence[int]) -> Form:
    """The inverse of _form_code; raises KeyError for an unknown kind."""
    kind, *rest = code if code and isinstance(code[0], str) else ["dense" if len(shape) == 2 else "conv", *code]
    if kind in _PLAIN:
        return _PLAIN[kind](shape)
    return _GROUPED[kind](shape, *(rest or [1]))


_PLAIN: dict[str, Callable[[Sequence[int]], Form]] = {
    "dense": dense_form,
    "embedding": lookup_form,
    "recurrent": recurrent_form,
}
_GROUPED: dict[str, Callable[[Sequence[int], int], Form]] = {"conv": conv_form, "conv_transpose": conv_transpose_form}
