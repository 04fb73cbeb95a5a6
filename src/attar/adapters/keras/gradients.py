"""Gradients of Keras models with respect to canonical matrices, biases and other trained variables, on each backend.

TensorFlow and JAX compile the model once for each shape of its inputs; the variables are read anew at every call, so
that what was written in between counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from attar.adapters.base import Gradients
from attar.adapters.keras.layers import Site
from attar.adapters.keras.run import forward, to_float
from attar.errors import ModelError
from attar.types import Array, Weight

Backward = Callable[[Array], list[Any]]
"""The gradient of a scalar with respect to the output -> those of the variables, None where it does not depend."""
Run = Callable[[Any], tuple[Any, Backward]]
"""Inputs -> the first output as a float32 tensor, and the way back."""


class Pullback:
    """One model's gradients, with what is compiled for them; made anew where layers' constants change (`restore`)."""

    def __init__(self, model: Any, sites: Sequence[Site], rest: Mapping[str, Any]) -> None:
        """rest: the variables of the remainder by name, of which those that training moves are watched."""
        self._sites = sites
        self._others = _trained(model, sites, rest)
        self.trained = frozenset(self._others)
        owned = [site.variable for site in sites] + [site.bias.variable for site in sites if site.bias is not None]
        self._variables = list({id(v): v for v in [*owned, *self._others.values()]}.values())
        self._run = _BACKENDS[keras.backend.backend()](model, self._variables)

    def __call__(self, inputs: Any, cotangent: Callable[[Array], Array]) -> Gradients:
        """See adapters/base.py; inputs as the model takes them. On JAX what does not matter has a gradient of zero."""
        output, backward = _checked(lambda: self._run(keras.tree.map_structure(ops.convert_to_tensor, inputs)))
        seed = np.asarray(cotangent(to_float(output)), np.float32)
        found = _checked(lambda: backward(seed))
        by_id = {id(v): g for v, g in zip(self._variables, found, strict=True) if g is not None}
        return Gradients(
            {site.name: _weight(site, by_id) for site in self._sites if id(site.variable) in by_id},
            {name: _numpy(by_id[id(v)]) for name, v in self._others.items() if id(v) in by_id},
        )


def _trained(model: Any, sites: Sequence[Site], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Floats of the remainder that some layer trains, frozen or not.

    Without the scale of a folded batch norm and the bias before it: the layer's own rows and bias say as much.
    """
    layers = list(model._flatten_layers())
    trained = {id(v) for layer in layers for v in layer._trainable_variables}
    norms = {id(n.beta): n for n in layers if isinstance(n, keras.layers.BatchNormalization)}
    for site in sites:
        norm = None if site.bias is None else norms.get(id(site.bias.variable))
        if norm is not None:
            trained -= {id(norm.gamma), id(site.layer.bias)}
    floats = {name: v for name, v in rest.items() if "float" in keras.backend.standardize_dtype(v.dtype)}
    return {name: v for name, v in floats.items() if id(v) in trained}


def _weight(site: Site, found: Mapping[int, Any]) -> Weight:
    """One site's gradients as `read` gives its values."""
    matrix = np.ascontiguousarray(site.form.matrix(_numpy(found[id(site.variable)])))
    if site.bias is None:
        return Weight(matrix)
    variable = site.bias.variable
    whole = found.get(id(variable))
    return Weight(matrix, site.bias.of(np.zeros(tuple(variable.shape), np.float32) if whole is None else _numpy(whole)))


def _numpy(gradient: Any) -> Array:
    """float32."""
    return to_float(gradient).astype(np.float32, copy=False)


def _checked(step: Callable[[], Any]) -> Any:
    """The step's result; raises ModelError where the backend has no gradient for an operation."""
    try:
        return step()
    except Exception as error:
        if not isinstance(error, _failures()):
            raise
        raise ModelError(
            "model: every operation between the weights and the output must have a gradient. "
            f"Received {(str(error).strip().splitlines() or [type(error).__name__])[0][:300]} "
            "Compress without recovery (--no-train)."
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    """What backends raise for an operation without a gradient; each also has errors of its own."""
    if keras.backend.backend() != "tensorflow":
        return (RuntimeError,)
    import tensorflow as tf

    return (RuntimeError, LookupError, tf.errors.OpError)


def _by_tensorflow(model: Any, variables: Sequence[Any]) -> Run:
    """A graph for each shape; operations whose gradient plain kernels lack (grouped convolutions) are left to XLA."""
    import tensorflow as tf

    plain, compiled = (
        tf.function(lambda inputs: ops.cast(forward(model, inputs), "float32"), jit_compile=jit) for jit in (None, True)
    )
    values = [v.value for v in variables]
    lacking: set[str] = set()

    def recorded(function: Any, inputs: Any) -> tuple[Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            return function(inputs), tape

    def gradients(output: Any, tape: Any, seed: Array) -> list[Any]:
        found = tape.gradient(output, values, tf.convert_to_tensor(seed))
        return [None if g is None else tf.convert_to_tensor(g) for g in found]

    def run(inputs: Any) -> tuple[Any, Backward]:
        output, tape = recorded(compiled if lacking else plain, inputs)

        def backward(seed: Array) -> list[Any]:
            try:
                return gradients(output, tape, seed)
            except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
                if lacking:
                    raise
                lacking.add("a gradient")
                return gradients(*recorded(compiled, inputs), seed)

        return output, backward

    return run


def _by_jax(model: Any, variables: Sequence[Any]) -> Run:
    """Every variable is an argument of the compiled functions: JAX bakes in what it reads from outside."""
    import jax

    watched = {id(v) for v in variables}
    fixed = [v for v in model.variables if id(v) not in watched]

    @jax.jit
    def run(values: list[Any], constants: list[Any], inputs: Any) -> tuple[Any, Any]:
        def output(values: list[Any]) -> Any:
            mapping = [*zip(variables, values, strict=True), *zip(fixed, constants, strict=True)]
            with keras.StatelessScope(state_mapping=mapping):
                return ops.cast(forward(model, inputs), "float32")

        return jax.vjp(output, values)

    @jax.jit
    def back(pull: Any, seed: Array) -> list[Any]:
        return pull(seed)[0]

    def step(inputs: Any) -> tuple[Any, Backward]:
        output, pull = run([v.value for v in variables], [v.value for v in fixed], inputs)
        return output, lambda seed: back(pull, seed)

    return step


def _by_torch(model: Any, variables: Sequence[Any]) -> Run:
    """Eagerly."""
    import torch

    from attar.adapters.torch.gradients import watched

    def run(inputs: Any) -> tuple[Any, Backward]:
        values = [v.value for v in variables]
        with watched(values):
            output = ops.cast(forward(model, inputs), "float32")

        def backward(seed: Array) -> list[Any]:
            with watched(values):  # frozen ones too
                return list(torch.autograd.grad(output, values, torch.tensor(seed).to(output), allow_unused=True))

        return output, backward

    return run


_BACKENDS: Mapping[str, Callable[[Any, Sequence[Any]], Run]] = {
    "tensorflow": _by_tensorflow,
    "jax": _by_jax,
    "torch": _by_torch,
}
