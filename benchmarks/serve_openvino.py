"""OpenVINO GenAI's continuous batching behind FastAPI: a peer of `serve.py`.

python serve_openvino.py MODEL.gguf PORT
"""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import openvino_genai as genai
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

CACHE = 2  # GB
scheduler = genai.SchedulerConfig()
scheduler.cache_size, scheduler.max_num_seqs, scheduler.dynamic_split_fuse = CACHE, 64, True
pipe = genai.ContinuousBatchingPipeline(sys.argv[1], scheduler, "CPU", {}, {})
tokenizer = pipe.get_tokenizer()
app, numbers, changed = FastAPI(), count(), threading.Condition()
waiting: list[tuple[Any, asyncio.Queue[list[int] | None], asyncio.AbstractEventLoop]] = []


class Chat(BaseModel):
    model: str
    messages: list[dict[str, str]]
    max_tokens: int = 64
    ignore_eos: bool = False


def step_for_ever() -> None:
    """Run the steps of all requests, and hand out the tokens of each."""
    running: list[Any] = []
    while True:
        with changed:
            while not waiting and not running:
                changed.wait()
            running += waiting
            waiting.clear()
        pipe.step()
        left = []
        for handle, tokens, loop in running:
            found = [token for _ in iter(handle.can_read, False) for each in handle.read().values()
                     for token in each.generated_ids]  # fmt: skip
            ended = handle.get_status() != genai.GenerationStatus.RUNNING and not handle.can_read()
            for item in ([found] if found else []) + ([None] if ended else []):
                loop.call_soon_threadsafe(tokens.put_nowait, item)
            if not ended:
                left.append((handle, tokens, loop))
        running = left


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/v1/chat/completions")
async def chat(body: Chat) -> StreamingResponse:
    prompt = tokenizer.apply_chat_template(body.messages, add_generation_prompt=True)
    config = genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = body.max_tokens, body.ignore_eos, False
    config.apply_chat_template = False
    handle = pipe.add_request(next(numbers), prompt, config)
    tokens: asyncio.Queue[list[int] | None] = asyncio.Queue()
    with changed:
        waiting.append((handle, tokens, asyncio.get_running_loop()))
        changed.notify()
    return StreamingResponse(events(body, tokens), media_type="text/event-stream")


async def events(body: Chat, tokens: asyncio.Queue[list[int] | None]) -> AsyncIterator[str]:
    """Yield a chunk for each step, then the usage."""
    number = 0
    while (found := await tokens.get()) is not None:
        number += len(found)
        delta = {"role": "assistant", "content": tokenizer.decode(found)}
        yield line({"model": body.model, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield line({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    yield line({"choices": [], "usage": {"completion_tokens": number}})
    yield "data: [DONE]\n\n"


def line(data: dict[str, Any]) -> str:
    return f"data: {json.dumps({'object': 'chat.completion.chunk', **data})}\n\n"


if __name__ == "__main__":
    threading.Thread(target=step_for_ever, daemon=True).start()
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
