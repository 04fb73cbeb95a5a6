"""How a command ends: errors become a line and an exit code, and what asks a run to end is heard."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import typer

from attar.errors import AttarError

CHATTY = ("torchao", "torch.utils._pytree")
"""Loggers that warn of kernels for other processors and of enumerations when transformers imports them."""


class guard:
    """What attar raises becomes one line on stderr and an exit code; a traceback only with -v."""

    def __init__(self, verbose: bool) -> None:
        import logging

        self.verbose = verbose
        if verbose:
            logging.basicConfig(level=logging.INFO, stream=sys.stderr)
        else:
            import warnings

            warnings.simplefilter("ignore")  # numpy's and the frameworks', which mean nothing to a user of models
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            for name in CHATTY:
                logging.getLogger(name).setLevel(logging.ERROR)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.verbose or error is None or isinstance(error, typer.Exit):
            return
        if isinstance(error, AttarError):
            fail(str(error), error.exit_code)
        if isinstance(error, KeyboardInterrupt):
            fail("interrupted: nothing that was there has been changed.", 130)
        if isinstance(error, MemoryError):
            fail(
                "memory: the run must fit it. Received a request for more than there is. Use --jobs 1, or "
                "fewer calibration_examples and select_examples in a --recipe.",
                1,
            )


def fail(text: str, code: int) -> NoReturn:
    """One line on stderr, then the exit code."""
    from attar.show import printable, say

    say(f"attar: {printable(text)}")
    raise typer.Exit(code)


class interrupts:
    """The first Ctrl-C, or a request to end, asks the search to end with the best so far; the second ends the process.

    Requests to end are those of schedulers (SIGTERM) and of a terminal that is closed (SIGHUP, unless under nohup).
    """

    def __init__(self) -> None:
        self.asked = self.stopped = False

    def __enter__(self) -> interrupts:
        signals = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signals.append(signal.SIGHUP)
        self.before = {each: signal.signal(each, self._note) for each in signals}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for each, before in self.before.items():
            signal.signal(each, before)
        if self.stopped and kind is not None:  # a library may have turned the interrupt into an error of its own
            raise KeyboardInterrupt

    def __call__(self) -> bool:
        """Whether the run has been asked to end."""
        return self.asked

    def _note(self, *_: object) -> None:
        from attar.show import say

        if self.asked:
            self.stopped = True
            raise KeyboardInterrupt
        self.asked = True
        say("attar: ending with the best so far; Ctrl-C again to stop at once.")
