"""Forward passes over calibration texts that stop at every layer, so that one layer is quantized at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..modeling.base_model import BaseModel
from ..nn.forward_context import ForwardContext


class SteppedPass:
    """A forward pass in a thread of its own, of which one step runs at a time.

    It stops before a layer, stops again after it has run the layer once for its inputs alone, then runs it again, with
    the weights that it has by then, up to the next layer. So it needs no knowledge of a model's structure.

    Args:
        run: the whole pass.

    Attributes:
        at: path of the layer that it stopped before; None at its end.
    """

    def __init__(self, run: Callable[[], object]) -> None:
        self.at: str | None = None
        self._run = run
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._all, daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Run up to the next stop. Raises what the pass raises."""
        self._go.release()
        self._stopped.acquire()
        if self._error is not None:
            raise self._error

    def stop(self, path: str | None) -> None:
        """Stop, before the layer of a path; called in the pass's own thread."""
        self.at = path
        self._stopped.release()
        self._go.acquire()
        if self._ended:
            raise SystemExit  # of this thread

    def end(self) -> None:
        """End the pass, wherever it is."""
        self._ended = True
        self._go.release()
        self._thread.join()

    def _all(self) -> None:
        self._go.acquire()
        try:
            if not self._ended:
                _PASS.current = self
                with torch.no_grad():
                    self._run()
        except SystemExit:
            pass
        except BaseException as error:
            self._error = error
        self.at = None
        self._stopped.release()


_PASS = threading.local()


@contextmanager
def stepped_passes(
    runs: Sequence[Callable[[], object]], layers: Mapping[str, nn.Module]
) -> Iterator[Sequence[SteppedPass]]:
    """Yield passes that stop at layers, each at its first call.

    Args:
        runs: the passes. layers: path -> layer.
    """
    passed: set[tuple[int, str]] = set()

    def stopping(path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            own: SteppedPass | None = getattr(_PASS, "current", None)
            if own is not None and (id(own), path) not in passed:
                passed.add((id(own), path))
                own.stop(path)
                # what layers share must be computed with the weights of the second time
                once = [x.for_recompute() if isinstance(x, ForwardContext) else x for x in args]
                forward(*once, **named)
                own.stop(path)
            return forward(*args, **named)

        return run

    for path, layer in layers.items():
        layer.forward = stopping(path, layer.forward)
    passes = [SteppedPass(run) for run in runs]
    try:
        yield passes
    finally:
        for one in passes:
            one.end()
        for layer in layers.values():
            del layer.forward


class InputStatistics:
    """Sums of products of the inputs of linear layers: the Hessian of the squared error of their outputs.

    Args:
        modules: path -> layer.

    Attributes:
        sums: path -> (inputs, inputs), float32, the sum of x xT over tokens. tokens: path -> their number.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.sums: dict[str, Tensor] = {}
        self.tokens: dict[str, int] = dict.fromkeys(modules, 0)
        self._last: tuple[Tensor, Tensor] | None = None  # inputs and their products: queries and keys read the same
        self._hooks = [module.register_forward_pre_hook(self._adding(path)) for path, module in modules.items()]

    def _adding(self, path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def add(_: nn.Module, args: tuple[Any, ...]) -> None:
            if self._last is None or self._last[0] is not args[0]:
                x = args[0].detach().flatten(0, -2).float()  # (tokens, inputs)
                self._last = args[0], x.T @ x
            product = self._last[1]
            self.sums[path] = self.sums[path].add_(product) if path in self.sums else product.clone()
            self.tokens[path] += args[0].shape[:-1].numel()

        return add

    def close(self) -> None:
        """Stop collecting."""
        self._last = None
        for hook in self._hooks:
            hook.remove()


def whole_pass(model: BaseModel, window: Sequence[int]) -> Callable[[], object]:
    """Return a forward pass over a window of tokens, which is source and target of an encoder-decoder."""
    if hasattr(model.backbone, "encoder"):
        ids = torch.tensor([list(window)])
        return lambda: model(input_ids=ids, decoder_input_ids=ids, use_cache=False)
    return lambda: model.run([list(window)], at=())
