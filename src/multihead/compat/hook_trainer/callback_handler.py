"""Callbacks of a `HookTrainer`, with the methods by which libraries call them: `on_log`, `call_event`."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...training.callbacks import CLEARED_FLAGS, EVENTS, Callbacks, Event

FOURTH = {"on_log": "logs", "on_evaluate": "metrics", "on_predict": "metrics"}  # name of an event's fourth argument


class CallbackHandler(Callbacks):
    """Callbacks whose events are methods, and whose shared arguments (`model`, `optimizer`, …) are attributes."""

    def __getattr__(self, name: str) -> Any:
        if name in EVENTS:
            return partial(self.event, name)
        if name != "shared" and name in self.shared:
            return self.shared[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self).get("shared", {}):
            self.share(**{name: value})
        else:
            super().__setattr__(name, value)

    @property
    def callback_list(self) -> str:
        """Names of the callbacks' classes, one a line."""
        return "\n".join(type(callback).__name__ for callback in self.callbacks)

    add_callback, pop_callback, remove_callback = Callbacks.add, Callbacks.pop, Callbacks.remove

    def event(self, event: Event, args: Any, state: Any, control: Any, *fourth: Any, **values: Any) -> Any:
        """Call an event by `call_event`, with the flags of the control that it resets."""
        for name in CLEARED_FLAGS.get(event, ()):
            setattr(control, name, False)
        named = {FOURTH[event]: fourth[0]} if fourth else {}
        return self.call_event(event, args, state, control, **named, **values)

    def call_event(self, event: Event, args: Any, state: Any, control: Any, **values: Any) -> Any:
        """Call an event of every callback; a library may replace this method."""
        return self.call(event, args, state, control, **values)
