"""Run a transformer: named arrays in, what its task calls the output out."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attar.adapters.base import Batch
from attar.adapters.torch import inputs as torch_inputs
from attar.adapters.torch.run import Runner, undisturbed
from attar.adapters.transformers.tasks import Task


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
                return torch_inputs.first_tensor(made)
            return self.task.output(made, arguments)

    def plain(self, batch: Batch) -> Any:
        """All that the network gives."""
        with undisturbed():
            return self._network(self.arguments(batch))

    def _network(self, arguments: dict[str, Any]) -> Any:
        extra: dict[str, Any] = {"use_cache": False} if "use_cache" in self.signature.names else {}
        return self._source.network(**arguments, **extra)
