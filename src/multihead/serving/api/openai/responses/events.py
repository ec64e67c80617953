"""Events of a response while it is written, numbered through."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any

from ....errors import ApiError
from ....sse import event
from .answer import Item, ResponseAnswer

TEXT = {"message": "response.output_text", "reasoning": "response.reasoning_text"}
ARGUMENTS = "response.function_call_arguments"


class ResponseEvents:
    """The events of an answer."""

    def __init__(self, answer: ResponseAnswer) -> None:
        self.answer = answer
        self.number = -1
        self.begun = 0  # items that have been told of

    async def all(self) -> AsyncGenerator[bytes, None]:
        """Yield all events. Raises ApiError."""
        answer = self.answer
        try:
            for status in ("created", "in_progress"):
                yield self.event(f"response.{status}", response=answer.body("in_progress"))
            async for delta in answer.chat:
                for item, text, logprobs in answer.add(delta):
                    if len(answer.items) > self.begun:
                        for one in self.turn(item):
                            yield one
                    if text or logprobs:
                        yield self.delta(item, text, logprobs)
            for one in self.close_item():
                yield one
            yield self.event(f"response.{answer.status}", response=answer.body(answer.status))
        finally:
            answer.chat.generation.close()

    def failed(self, error: ApiError) -> bytes:
        """Return the last event of a stream that fails."""
        code = error.code or "server_error"
        return self.event("response.failed", response=self.answer.body("failed", {"code": code, "message": str(error)}))

    def turn(self, item: Item) -> Iterator[bytes]:
        """Yield the events between two items."""
        yield from self.close_item()
        self.begun = len(self.answer.items)
        yield self.event("response.output_item.added", output_index=self.begun - 1, item=item.body(begins=True))
        if item.kind in TEXT:
            empty = {**item.part(), "text": "", **({"logprobs": []} if item.kind == "message" else {})}
            yield self.event("response.content_part.added", **self.place(item), content_index=0, part=empty)

    def delta(self, item: Item, text: str, logprobs: list[dict[str, Any]]) -> bytes:
        if item.kind not in TEXT:
            return self.event(f"{ARGUMENTS}.delta", **self.place(item), delta=text)
        more = {"logprobs": logprobs} if item.kind == "message" else {}
        return self.event(f"{TEXT[item.kind]}.delta", **self.place(item), content_index=0, delta=text, **more)

    def close_item(self) -> Iterator[bytes]:
        """Yield the events that end the item that was told of last."""
        if not self.begun:
            return
        item = self.answer.items[self.begun - 1]
        if item.status == "in_progress":  # another one follows
            item.status = "completed"
        if item.kind in TEXT:
            more = {"logprobs": item.logprobs} if item.kind == "message" else {}
            place = {**self.place(item), "content_index": 0}
            yield self.event(f"{TEXT[item.kind]}.done", **place, text=item.text, **more)
            yield self.event("response.content_part.done", **place, part=item.part())
        else:
            yield self.event(f"{ARGUMENTS}.done", **self.place(item), name=item.name, arguments=item.text)
        yield self.event("response.output_item.done", output_index=self.begun - 1, item=item.body())

    def place(self, item: Item) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": self.begun - 1}

    def event(self, kind: str, **fields: Any) -> bytes:
        self.number += 1
        return event({"type": kind, "sequence_number": self.number, **fields}, kind)
