"""Load a running server with clients that go away, and watch its memory.

    multihead serve chat=… --port 8000 & python benchmarks/serve_faults.py http://127.0.0.1:8000 --pid $!

First 1,000 requests at once of which half go away at a random time: every other answer must be that of the request
alone. Then many short requests (50,000 by default), of which one in twenty goes away: the resident memory after the
first tenth and at the end must be equal within 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from pathlib import Path
from urllib.parse import urlsplit

PROMPTS = ["Write a word.", "Count to three.", "Name a color, a town and a river.", "Say yes."]


def body(number: int, tokens: int) -> bytes:
    """Return the JSON of a request whose answer is the same each time."""
    messages = [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}]
    return json.dumps({"messages": messages, "max_tokens": tokens, "temperature": 0}).encode()


async def ask(address: tuple[str, int], number: int, tokens: int, leave: float | None) -> str | None:
    """Return the text of an answer; None if the client has gone after `leave` seconds."""
    reader, writer = await asyncio.open_connection(*address)
    data = body(number, tokens)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + data)
    try:
        found = await asyncio.wait_for(reader.read(), leave)
    except asyncio.TimeoutError:
        writer.transport.abort()
        return None
    writer.close()
    status, _, text = found.partition(b"\r\n\r\n")
    if b" 200 " not in status.split(b"\r\n")[0]:
        raise RuntimeError(found.decode(errors="replace")[:500])
    return str(json.loads(text)["choices"][0]["message"]["content"])


async def crowd(address: tuple[str, int], count: int, tokens: int) -> None:
    """Send all requests at once, half of which go away, and compare the others."""
    expected = [await ask(address, number, tokens, None) for number in range(len(PROMPTS))]
    chance = random.Random(0)
    leave = [chance.uniform(0, 10) if chance.random() < 0.5 else None for _ in range(count)]
    begin = time.perf_counter()
    found = await asyncio.gather(*(ask(address, n, tokens, leave[n]) for n in range(count)), return_exceptions=True)
    failed = [each for each in found if isinstance(each, BaseException)]
    answers = [(n, each) for n, each in enumerate(found) if isinstance(each, str)]
    wrong = [n for n, each in answers if each != expected[n % len(expected)]]
    print(f"{count} at once: {len(answers)} answers in {time.perf_counter() - begin:.1f} s, {len(wrong)} not as alone, "
          f"{len(failed)} failed, {count - len(answers) - len(failed)} clients gone")  # fmt: skip
    for each in failed[:3]:
        print(f"  {each}")


async def stream(address: tuple[str, int], count: int, pid: int, workers: int) -> None:
    """Send short requests without a pause and print the memory of the server."""
    left, chance = iter(range(count)), random.Random(1)
    done, sizes, begin = 0, [], time.perf_counter()

    async def work() -> None:
        nonlocal done
        for number in left:
            await ask(address, number, 2, chance.uniform(0, 0.05) if number % 20 == 0 else None)
            done += 1
            if done % (count // 10) == 0:
                sizes.append(resident(pid))
                print(f"{done} requests, {time.perf_counter() - begin:.0f} s: {sizes[-1] / 2**20:.1f} MiB", flush=True)

    await asyncio.gather(*(work() for _ in range(workers)))
    print(f"memory at the end by memory after the first tenth: {sizes[-1] / sizes[0]:.3f}")


def resident(pid: int) -> int:
    """Return the bytes of a process in memory (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--crowd", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--tokens", type=int, default=8)
    options = parser.parse_args()
    parts = urlsplit(options.url)
    address = str(parts.hostname), parts.port or 80
    if options.crowd:
        asyncio.run(crowd(address, options.crowd, options.tokens))
    if options.requests:
        asyncio.run(stream(address, options.requests, options.pid, 32))


if __name__ == "__main__":
    main()
