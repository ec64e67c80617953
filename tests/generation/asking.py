"""Requests to an engine's thread, and their events."""

from __future__ import annotations

import queue

from multihead import GenerationConfig
from multihead.generation.engine_thread import Ended, EngineRequest, NewToken, PromptRead


def config(new=6, **options):
    return GenerationConfig(**{"max_new_tokens": new, "eos_token_id": [], **options})


class Asked:
    """A request that is submitted, with its events so far."""

    def __init__(self, engine, prompt, settings=None, **options):
        self.engine, self.box, self.events = engine, queue.SimpleQueue(), []
        self.request = EngineRequest(prompt, settings or config(), self.box.put, **options)
        engine.submit(self.request)

    def wait(self, kind=Ended):
        """Wait for an event of a kind, and return it."""
        while True:
            events = self.box.get(timeout=60)
            self.events += events
            found = [event for event in events if isinstance(event, kind)]
            if found:
                return found[-1]

    def cancel(self):
        self.engine.cancel(self.request)

    @property
    def results(self):
        """The continuations. Raises the request's error."""
        ended = self.wait()
        if ended.error is not None:
            raise ended.error
        assert self.box.empty()
        return ended.results

    def tokens(self, index=0):
        return [event for event in self.events if isinstance(event, NewToken) and event.index == index]

    @property
    def prompt(self):
        (event,) = [event for event in self.events if isinstance(event, PromptRead)]
        return event
