"""Find the compressible parameters of a model: by the class of the module they are in, or by use in a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attar.adapters.torch.calls import Call
from attar.adapters.torch.forms import (
    Bias,
    Form,
    Site,
    conv_form,
    conv_transpose_form,
    dense_form,
    dtype_name,
    lookup_form,
    memory,
    recurrent_form,
)

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to compress, and what is not, with reasons."""

    sites: tuple[Site, ...]
    skipped: dict[str, str]


def find_sites(model: nn.Module, calls: Sequence[Call], names: dict[tuple[int, ...], str]) -> Found:
    """Sites of every parameter or saved buffer of two or more axes.

    calls are the uses of weights in a graph of the model, with names of parameters for biases; names gives the first
    name of each weight by its memory.
    """
    forms, reasons = _by_module(model)
    by_call: dict[str, list[Call]] = {}
    for call in calls:
        by_call.setdefault(call.weight.name, []).append(call)
    owned: set[str] = set()
    sites: list[Site] = []
    skipped: dict[str, str] = {}
    for name, parameter in weights(model):
        owner = names[memory(parameter)]
        if parameter.ndim < 2:
            continue
        form, bias = forms.get(owner) or _by_call(by_call.get(owner, []))
        reason = _unfit(parameter) or reasons.get(owner) or (None if form else "no use as a matrix was recognised")
        if reason is not None or form is None:
            skipped[name] = str(reason)
            continue
        site = Site(name, form, tuple(parameter.shape), dtype_name(parameter.dtype))
        if name != owner:
            sites.append(replace(site, tied_to=owner))
        else:
            sites.append(replace(site, bias=_claim(bias, form, owned)))
    return Found(tuple(sites), skipped)


def _claim(bias: Bias | None, form: Form, owned: set[str]) -> Bias | None:
    """The bias, if it can be added to every row and no other layer has it."""
    if bias is None or form.kind in ("conv_transpose", "embedding"):
        return None
    place = f"{bias.name}[{bias.start}:{bias.stop}]"
    if place in owned:
        return None
    owned.add(place)
    return bias


def _unfit(parameter: Tensor) -> str | None:
    if parameter.dtype not in FLOATS:
        return f"its dtype is {dtype_name(parameter.dtype)}"
    if parameter.layout != torch.strided or type(parameter) not in (nn.Parameter, Tensor):
        return f"it is stored as {type(parameter).__name__} with layout {parameter.layout}"
    return "it is empty" if not parameter.numel() else None


def _by_call(calls: Sequence[Call]) -> tuple[Form | None, Bias | None]:
    """The form of a parameter's first use, and the bias where it is used once."""
    if not calls:
        return None, None
    first = calls[0]
    products = [call for call in calls if call.op not in ("lookup", "bag")]
    if products:  # tied: the product's second moment says more than counts
        first = products[0]
    bias = first.bias if len(calls) == 1 and isinstance(first.bias, str) else None
    return first.form, None if bias is None else Bias(bias)


def _by_module(model: nn.Module) -> tuple[dict[str, tuple[Form, Bias | None]], dict[str, str]]:
    """Form and bias of parameters by the class of their module, and reasons against others, by name."""
    names = first_names(model)
    forms: dict[str, tuple[Form, Bias | None]] = {}
    reasons: dict[str, str] = {}
    for module in model.modules():
        for base, maker in _MAKERS:
            if isinstance(module, base):
                for parameter, form, bias in maker(module):
                    if memory(parameter) not in names:  # a buffer that no state dict holds
                        continue
                    own = None if bias is None else Bias(names[memory(bias[0])], *bias[1:])
                    forms.setdefault(names[memory(parameter)], (form, own))
                break
        for parameter, reason in _against(module):
            if memory(parameter) in names:
                reasons[names[memory(parameter)]] = reason
    return forms, reasons


def weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and saved buffers by name, tied ones under each name; a transform's fixed kernel is a buffer."""
    yield from model.named_parameters(remove_duplicate=False)
    saved = model.state_dict().keys()
    yield from ((name, buffer) for name, buffer in model.named_buffers(remove_duplicate=False) if name in saved)


def first_names(model: nn.Module) -> dict[tuple[int, ...], str]:
    """The first name of every weight, by its memory."""
    names: dict[tuple[int, ...], str] = {}
    for name, tensor in weights(model):
        names.setdefault(memory(tensor), name)
    return names


Part = tuple[Tensor, Form, Any]


def _bias(module: nn.Module) -> Any:
    bias = getattr(module, "bias", None)
    return (bias,) if isinstance(bias, nn.Parameter) else None


def _linear(module: Any) -> Iterator[Part]:
    yield module.weight, dense_form(module.weight.shape), _bias(module)


def _conv(module: Any) -> Iterator[Part]:
    yield module.weight, conv_form(module.weight.shape, module.groups), _bias(module)


def _conv_transpose(module: Any) -> Iterator[Part]:
    yield module.weight, conv_transpose_form(module.weight.shape, module.groups), None


def _embedding(module: Any) -> Iterator[Part]:
    yield module.weight, lookup_form(module.weight.shape), None


def _recurrent(module: Any) -> Iterator[Part]:
    """Networks and cells: weight_ih*, weight_hh* with their biases."""
    for name, parameter in module.named_parameters(recurse=False):
        if name.startswith(("weight_ih", "weight_hh")):
            bias = getattr(module, name.replace("weight", "bias"), None)
            yield parameter, recurrent_form(parameter.shape), (bias,) if isinstance(bias, nn.Parameter) else None


def _attention(module: Any) -> Iterator[Part]:
    """Packed or separate projections; their biases are packed in either case."""
    width, bias = module.embed_dim, module.in_proj_bias
    if module.in_proj_weight is not None:
        yield module.in_proj_weight, dense_form(module.in_proj_weight.shape), None if bias is None else (bias,)
        return
    for place, weight in enumerate((module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)):
        part = None if bias is None else (bias, place * width, (place + 1) * width)
        yield weight, dense_form(weight.shape), part


def _against(module: nn.Module) -> Iterator[tuple[Tensor, str]]:
    """Parameters that must stay as they are."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
        yield module.weight, "max_norm changes it whenever it is looked up"
    if isinstance(module, nn.Bilinear):
        yield module.weight, "a bilinear form of two inputs has no matrix form here"
    if isinstance(module, nn.RNNBase):
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith("weight_hr"):
                yield parameter, "the state before an LSTM's projection is not shown"
    if isinstance(module, nn.MultiheadAttention):
        for bias in (module.bias_k, module.bias_v):
            if bias is not None:
                yield bias, "a bias"
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        for parameter in module.parameters(recurse=False):
            yield parameter, "a normalisation's scale or shift"


_MAKERS: tuple[tuple[type | tuple[type, ...], Any], ...] = (
    (nn.Linear, _linear),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _conv_transpose),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    ((nn.RNNBase, nn.RNNCellBase), _recurrent),
    (nn.MultiheadAttention, _attention),
)
