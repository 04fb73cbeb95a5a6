"""Run a transformer: named arrays in, what its task calls the output out."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from attar.adapters.base import Batch
from attar.adapters.torch import inputs as torch_inputs
from attar.adapters.torch.run import Runner, undisturbed
from attar.adapters.transformers.tasks import Task
from attar.errors import AttarError, ModelError

INNER = re.compile("hidden_state|attention|past_key|loss")
"""In names of what a network gives beside its answers."""


class Running(Runner):
    """A runner whose output is the task's; `raw` ones are logits of all tokens."""

    task: Task
    raw = False

    def call(self, batch: Batch) -> Tensor:
        """The output; see ready."""
        with undisturbed():
            arguments = self.arguments(batch)
            made = self._network(arguments)
            if self.raw and self.task.kind != "vector":
                return torch_inputs.first_tensor(made, self.wanted)
            if self.task.kind == "scores":
                self.names = [name for name in torch_inputs.in_order(made, self.wanted) if not INNER.search(name)]
            return self.task.output(made, arguments, self.wanted)

    def tried(self, made: Batch) -> Tensor:
        """The output for inputs that were made up; raises ModelError where the network does not take such."""
        try:
            return self.call(made)
        except (AttarError, MemoryError):
            raise
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            given = ", ".join(f"{name} {list(values.shape)}" for name, values in made.items())
            raise ModelError(
                f"model {type(self._source.network).__name__}: it must answer each example from {given} alone. "
                f"Received a failure ({first}). Wrap it in a torch module that takes what it needs, and pass that."
            ) from error

    def plain(self, batch: Batch) -> Any:
        """All that the network gives."""
        with undisturbed():
            return self._network(self.arguments(batch))

    def _network(self, arguments: dict[str, Any]) -> Any:
        extra: dict[str, Any] = {"use_cache": False} if "use_cache" in self.signature.names else {}
        return self._source.network(**arguments, **extra)
