"""Clients of the field, as they are installed, against a running server.

    multihead serve --port 8000
    python benchmarks/serve_clients.py http://127.0.0.1:8000 --chat smollm2 --embed minilm

Tools need a model whose chat template lists them: SmolLM2 with `chat_template` of its settings, or another model.
Each check is one thing that users do with a client. One whose package is not installed is skipped. The packages:
openai anthropic cohere ollama huggingface_hub langchain-openai llama-index-llms-openai-like
llama-index-embeddings-openai-like instructor pydantic-ai-slim[openai] openai-agents. `--node FOLDER` runs
`serve_clients.mjs` on the packages in FOLDER/node_modules: openai @anthropic-ai/sdk ai @ai-sdk/openai-compatible zod.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

HERE = Path(__file__).parent
QUESTION = "What is the capital of France? Answer in one word."
TEXTS = ["A dog runs in the park.", "A puppy plays outside.", "Stock prices fell on Monday."]


class City(BaseModel):
    """A city and its country."""

    name: Literal["Paris", "Rome"]
    country: str = Field(max_length=20)
    capital: bool


@dataclass(frozen=True)
class Server:
    """The server and the models that are asked. `url` is without /v1."""

    url: str
    chat: str
    embed: str

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"


Check = Callable[[Server], object]
CHECKS: list[tuple[str, str, Check]] = []  # package, what, check


def check(package: str, what: str) -> Callable[[Check], Check]:
    """Register a check; it raises where the client does not get what it needs."""

    def register(function: Check) -> Check:
        CHECKS.append((package, what, function))
        return function

    return register


def similar(vectors: Sequence[Sequence[float]]) -> None:
    """Check that the vectors of TEXTS have their meaning: the dog is nearer to the puppy than to the stocks."""

    def cosine(a: Sequence[float], b: Sequence[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    dog, puppy, stocks = vectors
    assert cosine(dog, puppy) > cosine(dog, stocks) + 0.2


def weather(city: Literal["Paris", "Rome"]) -> str:
    """Get the weather of a city."""
    return f"It is sunny in {city}."


# openai


def openai_client(server: Server) -> Any:
    import openai

    return openai.OpenAI(base_url=server.v1, api_key="none")


@check("openai", "chat, equal to its stream")
def openai_chat(server: Server) -> None:
    asked: dict[str, Any] = {
        "model": server.chat, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 16,
    }  # fmt: skip
    whole = openai_client(server).chat.completions.create(**asked)
    chunks = list(openai_client(server).chat.completions.create(**asked, stream=True))
    parts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert whole.choices[0].message.content == "".join(parts) != ""
    assert {chunk.system_fingerprint for chunk in chunks} == {whole.system_fingerprint}


@check("openai", "parse: a pydantic model")
def openai_parse(server: Server) -> None:
    found = openai_client(server).chat.completions.parse(
        model=server.chat, messages=[{"role": "user", "content": "Describe Paris."}], response_format=City,
        max_tokens=80, seed=1,
    )  # fmt: skip
    assert found.choices[0].message.parsed.name in ("Paris", "Rome")


@check("openai", "json_object")
def openai_json(server: Server) -> None:
    found = openai_client(server).chat.completions.create(
        model=server.chat, messages=[{"role": "user", "content": "Describe Paris as JSON."}], max_tokens=40,
        response_format={"type": "json_object"},
    )  # fmt: skip
    assert found.choices[0].message.content.lstrip().startswith("{")


@check("openai", "responses, equal to its stream")
def openai_responses(server: Server) -> None:
    asked: dict[str, Any] = {"model": server.chat, "input": QUESTION, "max_output_tokens": 16, "temperature": 0}
    whole = openai_client(server).responses.create(**asked)
    with openai_client(server).responses.stream(**asked) as stream:
        parts = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert whole.output_text == "".join(parts) != ""


@check("openai", "embeddings")
def openai_embeddings(server: Server) -> None:
    similar([row.embedding for row in openai_client(server).embeddings.create(model=server.embed, input=TEXTS).data])


# anthropic, cohere, ollama, huggingface_hub


@check("anthropic", "messages, equal to their stream")
def anthropic_messages(server: Server) -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=server.url, api_key="none")
    asked: dict[str, Any] = {
        "model": server.chat, "max_tokens": 16, "messages": [{"role": "user", "content": QUESTION}],
        "extra_body": {"temperature": 0},
    }  # fmt: skip
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text != ""


@check("cohere", "embed and rerank")
def cohere_vectors(server: Server) -> None:
    import cohere

    client = cohere.ClientV2(base_url=server.url, api_key="none")
    found = client.embed(
        model=server.embed, texts=TEXTS, input_type="search_document", embedding_types=["float"]
    )  # fmt: skip
    similar(found.embeddings.float_)
    assert client.rerank(model=server.embed, query="a small dog", documents=TEXTS).results[-1].index == 2


@check("ollama", "chat, generate, embed")
def ollama_all(server: Server) -> None:
    import ollama

    client, few = ollama.Client(host=server.url), {"num_predict": 8}
    messages = [{"role": "user", "content": QUESTION}]
    assert client.chat(model=server.chat, messages=messages, options=few).message.content
    parts = list(client.generate(model=server.chat, prompt=QUESTION, options=few, stream=True))
    assert parts[-1].done
    assert any(part.response for part in parts)
    similar(client.embed(model=server.embed, input=TEXTS).embeddings)


@check("huggingface_hub", "chat_completion, feature_extraction")
def hub_client(server: Server) -> None:
    from huggingface_hub import InferenceClient

    chat = InferenceClient(base_url=server.url).chat_completion(
        [{"role": "user", "content": QUESTION}], model=server.chat, max_tokens=8
    )
    assert chat.choices[0].message.content
    vectors = InferenceClient(f"{server.url}/models/{server.embed}")
    similar([vectors.feature_extraction(text).reshape(-1).tolist() for text in TEXTS])


# langchain-openai


def langchain_chat(server: Server, **options: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        base_url=server.v1, api_key="none", model=server.chat, **{"max_tokens": 80, "temperature": 0, **options}
    )


@check("langchain-openai", "invoke, equal to its stream")
def langchain_invoke(server: Server) -> None:
    chat = langchain_chat(server, max_tokens=16)
    whole = chat.invoke(QUESTION)
    parts = list(chat.stream(QUESTION))
    assert whole.content == "".join(str(part.content) for part in parts) != ""
    assert whole.usage_metadata["total_tokens"] > 0
    assert chat.batch([QUESTION, QUESTION])[1].content == whole.content


@check("langchain-openai", "bind_tools, a demanded call and its result")
def langchain_tools(server: Server) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    asked = HumanMessage("How is the weather in Paris?")
    called = langchain_chat(server).bind_tools([tool(weather)], tool_choice="weather").invoke([asked])
    call = called.tool_calls[0]
    assert call["name"] == "weather"
    assert call["args"]["city"] in ("Paris", "Rome")
    result = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
    assert langchain_chat(server, max_tokens=16).invoke([asked, called, result]).content
    streamed = None
    for part in langchain_chat(server).bind_tools([tool(weather)], tool_choice="any").stream([asked]):
        streamed = part if streamed is None else streamed + part
    assert streamed.tool_calls[0]["name"] == "weather"


@check("langchain-openai", "with_structured_output: json_schema, function_calling")
def langchain_forms(server: Server) -> None:
    for method in ("json_schema", "function_calling"):
        found = langchain_chat(server).with_structured_output(City, method=method).invoke("Describe Paris.")
        assert isinstance(found, City), method


@check("langchain-openai", "embeddings")
def langchain_embeddings(server: Server) -> None:
    from langchain_openai import OpenAIEmbeddings

    similar(
        OpenAIEmbeddings(
            base_url=server.v1, api_key="none", model=server.embed, check_embedding_ctx_length=False
        ).embed_documents(TEXTS)
    )


# llama-index


@check("llama-index-llms-openai-like", "complete, chat, stream_chat")
def llama_index_chat(server: Server) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike

    model = OpenAILike(
        model=server.chat, api_base=server.v1, api_key="none", is_chat_model=True, max_tokens=16, temperature=0
    )
    whole = model.chat([ChatMessage(role="user", content=QUESTION)])
    parts = list(model.stream_chat([ChatMessage(role="user", content=QUESTION)]))
    assert whole.message.content == parts[-1].message.content != ""
    plain = OpenAILike(model=server.chat, api_base=server.v1, api_key="none", is_chat_model=False, max_tokens=8)
    assert plain.complete("Once upon a time").text


@check("llama-index-embeddings-openai-like", "embeddings")
def llama_index_embeddings(server: Server) -> None:
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    model = OpenAILikeEmbedding(model_name=server.embed, api_base=server.v1, api_key="none")
    similar(model.get_text_embedding_batch(TEXTS))


# instructor, pydantic-ai, openai-agents


@check("instructor", "TOOLS, JSON_SCHEMA, and partial objects")
def instructor_modes(server: Server) -> None:
    import instructor

    asked: dict[str, Any] = {
        "model": server.chat, "messages": [{"role": "user", "content": "Describe Paris."}], "response_model": City,
        "max_retries": 0, "max_tokens": 200, "temperature": 0,
    }  # fmt: skip
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client = instructor.from_openai(openai_client(server), mode=mode)
        assert client.chat.completions.create(**asked).name in ("Paris", "Rome"), mode
    client = instructor.from_openai(openai_client(server), mode=instructor.Mode.JSON_SCHEMA)
    asked.pop("response_model")
    asked.pop("max_retries")
    *_, last = client.chat.completions.create_partial(response_model=City, **asked)
    assert last.name in ("Paris", "Rome")


def pydantic_model(server: Server) -> Any:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return OpenAIChatModel(server.chat, provider=OpenAIProvider(base_url=server.v1, api_key="none"))


@check("pydantic-ai-slim", "run, stream, output by a tool and by a JSON schema")
def pydantic_ai_agent(server: Server) -> None:
    from pydantic_ai import Agent, NativeOutput

    few: Any = {"max_tokens": 80, "temperature": 0}
    assert Agent(pydantic_model(server), model_settings=few).run_sync(QUESTION).output
    for output in (City, NativeOutput(City)):
        agent = Agent(pydantic_model(server), output_type=output, model_settings=few)
        assert agent.run_sync("Describe Paris.").output.name in ("Paris", "Rome")

    async def stream() -> str:
        async with Agent(pydantic_model(server), model_settings=few).run_stream(QUESTION) as run:
            return "".join([part async for part in run.stream_text(delta=True)])

    assert asyncio.run(stream())


def agents_run(server: Server, model: Any, **options: Any) -> Any:
    import agents

    agents.set_tracing_disabled(True)
    agent = agents.Agent(
        name="guide", instructions="You answer in one sentence.", model=model,
        model_settings=agents.ModelSettings(max_tokens=80, temperature=0), **options,
    )  # fmt: skip
    return agents.Runner.run_sync(agent, "Describe Paris.").final_output


@check("openai-agents", "chat completions: text, output_type")
def agents_chat(server: Server) -> None:
    import openai
    from agents import OpenAIChatCompletionsModel

    client = openai.AsyncOpenAI(base_url=server.v1, api_key="none")
    model = OpenAIChatCompletionsModel(server.chat, client)
    assert agents_run(server, model)
    assert agents_run(server, model, output_type=City).name in ("Paris", "Rome")


@check("openai-agents", "responses: text, output_type, a tool")
def agents_responses(server: Server) -> None:
    import agents
    import openai

    client = openai.AsyncOpenAI(base_url=server.v1, api_key="none")
    model = agents.OpenAIResponsesModel(server.chat, client)
    assert agents_run(server, model)
    assert agents_run(server, model, output_type=City).name in ("Paris", "Rome")
    assert agents_run(server, model, tools=[agents.function_tool(weather)])


def node(server: Server, folder: Path) -> list[tuple[str, str, str, str, float]]:
    """Return the rows of `serve_clients.mjs`, which prints one a line, its cells between tabs."""
    script = folder / "serve_clients.mjs"  # node finds packages beside the script
    script.write_text((HERE / "serve_clients.mjs").read_text())
    done = subprocess.run(
        ["node", script.name, server.url, server.chat, server.embed], cwd=folder, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    sys.stderr.write(done.stderr)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [(package, version, what, result, float(seconds)) for package, version, what, result, seconds in rows]


def run_checks(server: Server, only: str) -> list[tuple[str, str, str, str, float]]:
    """Return a row for each check: package, version, what, result, seconds."""
    rows = []
    for package, what, function in CHECKS:
        if only not in package:
            continue
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            rows.append((package, "-", what, "not installed", 0.0))
            continue
        begin = time.perf_counter()
        try:
            function(server)
            result = "passes"
        except Exception as error:  # of any client: the table tells it
            result = f"{type(error).__name__}: {error}".replace("\n", " ")[:400]
        rows.append((package, version, what, result, time.perf_counter() - begin))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--chat", default="smollm2")
    parser.add_argument("--embed", default="minilm")
    parser.add_argument("--only", default="", help="part of a package's name")
    parser.add_argument("--node", type=Path, help="folder with node_modules")
    args = parser.parse_args()
    server = Server(args.url.rstrip("/"), args.chat, args.embed)
    rows = run_checks(server, args.only) + (node(server, args.node) if args.node else [])
    print("| client | version | check | result | s |\n|---|---|---|---|---|")
    for package, version, what, result, seconds in rows:
        print(f"| {package} | {version} | {what} | {result} | {seconds:.1f} |")
    sys.exit(any(result not in ("passes", "not installed") for *_, result, _ in rows))


if __name__ == "__main__":
    main()
