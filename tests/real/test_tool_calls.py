"""SmolLM2 writes valid calls under a grammar, streamed through the parser."""

from __future__ import annotations

import json

import pytest

from multihead import AutoModelForCausalLM, AutoTokenizer
from multihead.generation.streaming import Detokenizer
from multihead.pipelines.defaults import SMOLLM2
from multihead.serving.parsers import choose_parser, tool_grammar

from .test_real_weights import fetched

pytestmark = [pytest.mark.real, pytest.mark.slow]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tells the weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "maxLength": 20},
                    "unit": {"enum": ["celsius", "fahrenheit"]},
                    "days": {"type": "integer", "minimum": 1, "maximum": 7},
                },
                "required": ["city", "unit", "days"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "Tells the time."}},
]
SYSTEM = (
    f"You may call these functions: {json.dumps(TOOLS)}. For each call, write "
    '<tool_call>\n{"name": ..., "arguments": ...}\n</tool_call>.'
)
CHAT = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": "What is the weather in Oslo for the next three days, in celsius?"},
]


@pytest.fixture(scope="module")
def smollm2():
    path = fetched(SMOLLM2.name)
    return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize(("choice", "seed"), [("required", 1), ({"name": "get_weather"}, None), ("auto", 3)])
def test_calls_fit_their_schema(smollm2, choice, seed):
    model, tokenizer = smollm2
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    grammar = tool_grammar("hermes", TOOLS, choice, False, tokenizer=tokenizer)
    options = {"do_sample": True, "seed": seed, "temperature": 1.2} if seed else {"do_sample": False}
    out = model.generate(ids, grammar=grammar, tokenizer=tokenizer, max_new_tokens=80, **options)
    parser = choose_parser(tokenizer, family="llama", tools=TOOLS, tool_parser="hermes", prompt=prompt)
    words = Detokenizer(tokenizer, skip_special_tokens=True)
    texts = [words.add(token) for token in out[0, ids.shape[1] :].tolist()]
    deltas = [*map(parser.feed, [*texts, words.finish()]), parser.finish()]
    content, pieces = "".join(delta.content for delta in deltas), [piece for delta in deltas for piece in delta.calls]
    assert bool(content) != bool(pieces) or choice == "auto"
    if pieces:
        name, arguments = "".join(piece.name for piece in pieces), "".join(piece.arguments for piece in pieces)
        check(name, json.loads(arguments))
        assert name == "get_weather" or choice in ("auto", "required")
    else:
        assert choice == "auto"


def check(name, found):
    """Compare arguments with the schema."""
    if name == "now":
        assert found == {}
        return
    assert name == "get_weather"
    assert set(found) == {"city", "unit", "days"}
    assert len(found["city"]) <= 20
    assert found["unit"] in ("celsius", "fahrenheit")
    assert found["days"] in range(1, 8)
