"""Tokens of texts: vLLM's /tokenize and /detokenize, llama.cpp's (`content`), TEI's (`inputs`) and /decode."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ....pipelines.generation_base import context_length
from ....pipelines.streaming_batcher import check_unicode
from ...body import Body, read_body
from ...errors import ApiError
from ...generation.prompts import Template, chat_prompt
from ...models.choice import model_for
from ...models.embedding_inputs import prompt_text
from ...models.served_model import ServedModel
from ...responses import json_response
from ...routing import route
from ...state import state_of
from .errors import tei_error
from .inputs import has_field, read_texts, read_texts_or_ids

NEUTRAL_OF_TEXTS = {"add_generation_prompt": True, "continue_final_message": False}


class TokenizeBody(Body):
    """Body of vLLM's /tokenize: a text, or a conversation.

    Args:
        add_special_tokens: default: to a text, and not to a conversation, whose template writes its own.
    """

    NOT_COMPUTED: ClassVar = {
        "chat_template": "templates from requests are not taken.",
        "mm_processor_kwargs": "there are texts only.",
    }
    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = Field(None, min_length=1)
    add_special_tokens: bool | None = None
    return_token_strs: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def ids(self, model: ServedModel) -> list[int]:
        """Return the token ids. Raises ApiError, ChatTemplateError."""
        if self.messages is not None:
            template = Template(
                variables=self.chat_template_kwargs or {}, add_generation_prompt=self.add_generation_prompt,
                continue_final_message=self.continue_final_message, add_special_tokens=bool(self.add_special_tokens),
            )  # fmt: skip
            return chat_prompt(model, self.messages, self.tools, template)
        given = self.model_fields_set - {"model", "prompt", "messages", "add_special_tokens", "return_token_strs"}
        name = next(
            (each for each in sorted(given) if getattr(self, each) not in (None, NEUTRAL_OF_TEXTS.get(each))), ""
        )
        if name:
            raise ApiError(f"{name} is of conversations: send `messages`.", param=name, code="unsupported_parameter")
        special = True if self.add_special_tokens is None else self.add_special_tokens
        check_unicode(self.prompt)
        found: list[int] = model.tokenizer.encode_ids([self.prompt or ""], special=special)[0]
        return found


class DetokenizeBody(Body):
    tokens: list[int]
    model: str | None = None


class LlamaTokenizeBody(Body):
    """Body of llama.cpp's /tokenize.

    Args:
        add_special: add the tokens that begin and end texts. with_pieces: tell the text of each token too.
    """

    NEUTRAL: ClassVar = {"parse_special": (True,)}
    content: str
    add_special: bool = False
    with_pieces: bool = False
    model: str | None = None


class TeiTokenizeBody(Body):
    inputs: Any
    add_special_tokens: bool = True
    prompt_name: str | None = None
    model: str | None = None


class DecodeBody(Body):
    ids: Any
    skip_special_tokens: bool = True
    model: str | None = None


async def tokenize(request: Request) -> Response:
    body = await read_body(request, TokenizeBody)
    if (body.prompt is None) == (body.messages is None):
        raise ApiError("Send `prompt`, a text, or `messages`, a conversation; not both.", param="prompt")
    model = await state_of(request).models.get(body.model)
    ids = await model.batcher.in_thread(lambda: body.ids(model))
    strings = {"token_strs": model.tokenizer.convert_ids_to_tokens(ids)} if body.return_token_strs else {}
    return json_response({"count": len(ids), "max_model_len": longest_text(model), "tokens": ids, **strings})


async def detokenize(request: Request) -> Response:
    body = await read_body(request, DetokenizeBody)
    model = await state_of(request).models.get(body.model)
    text = await model.batcher.in_thread(lambda: decode_ids(model, body.tokens, False))
    return json_response({"prompt": text, "content": text})


async def tokenize_content(request: Request) -> Response:
    """Return token ids as llama.cpp does. A piece that is no text of its own is a list of its bytes."""
    body = await read_body(request, LlamaTokenizeBody)
    model = await state_of(request).models.get(body.model)

    def work() -> Response:
        check_unicode(body.content)
        ids = model.tokenizer.encode_ids([body.content], special=body.add_special)[0]
        if not body.with_pieces:
            return json_response({"tokens": ids})
        return json_response({"tokens": [{"id": one, "piece": piece_of(model, one)} for one in ids]})

    return await model.batcher.in_thread(work)


async def tokenizer_info(request: Request) -> Response:
    """Describe the tokenizer as vLLM does; clients that count or cut texts themselves read it (lm-eval)."""
    model = await state_of(request).models.get(request.query_params.get("model"))
    tokenizer = model.tokenizer
    names = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
    return json_response({
        "tokenizer_class": type(tokenizer).__name__, **{name: getattr(tokenizer, name) for name in names},
        "model_max_length": longest_text(model), "chat_template": tokenizer.chat_template,
    })  # fmt: skip


def longest_text(model: ServedModel) -> int | None:
    """Return the most tokens that a model reads, None for no limit."""
    return context_length(model.pipe.model.config) if model.generates else model.tokenizer.limit


def piece_of(model: ServedModel, token: int) -> str | list[int]:
    """Return the text of a token, or its bytes where they are a part of a character."""
    data = model.token_texts.bytes(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


async def tokenize_parts(request: Request) -> Response:
    """Return each token with its place in its text, as TEI does."""
    body = await read_body(request, TeiTokenizeBody)
    state = state_of(request)
    texts = read_texts(body.inputs, state.settings.max_inputs, "inputs")
    model = await model_for(state.models, body.model, "sentence-similarity")
    encoder = getattr(model.pipe, "encoder", None)
    before = "" if body.prompt_name is None else prompt_of(encoder, body.prompt_name)

    def work() -> Response:
        check_unicode(texts)
        encodings = model.tokenizer.run(
            [before + text for text in texts], words=False, special=body.add_special_tokens, limits=None
        )
        return json_response([token_parts(before + text, each) for text, each in zip(texts, encodings, strict=True)])

    return await model.batcher.in_thread(work)


def prompt_of(encoder: Any, name: str) -> str:
    """Return the text before each text. Raises ApiError for a model without prompts."""
    if not hasattr(encoder, "prompts"):
        raise ApiError("This model has no prompts.", param="prompt_name")
    return prompt_text(encoder, name)


def token_parts(text: str, encoding: Any) -> list[dict[str, Any]]:
    """Return the tokens of an encoding: `start` and `stop` are characters, null for special tokens."""
    parts: list[dict[str, Any]] = []
    rows = zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    for number, token, (start, stop), special in rows:
        place = {"start": None, "stop": None} if special else {"start": start, "stop": stop}
        shown = token if special else text[start:stop]
        parts.append({"id": number, "text": shown, "special": bool(special), **place})
    return parts


async def decode(request: Request) -> Response:
    body = await read_body(request, DecodeBody)
    state = state_of(request)
    rows = read_texts_or_ids(body.ids, state.settings.max_inputs, "ids")
    if isinstance(rows[0], str):
        raise ApiError("ids is a list of token ids, or a list of such lists.", param="ids")
    model = await model_for(state.models, body.model, "sentence-similarity")
    skip = body.skip_special_tokens
    return json_response(await model.batcher.in_thread(lambda: [decode_ids(model, own, skip) for own in rows]))


def decode_ids(model: ServedModel, ids: Any, skip: bool) -> str:
    """Return the text of token ids. Raises ApiError for one that the tokenizer does not have."""
    most = len(model.tokenizer)
    if wrong := next((number for number in ids if not 0 <= number < most), None):
        raise ApiError(f"There is no token {wrong}: this tokenizer has ids from 0 to {most - 1}.", param="tokens")
    text: str = model.tokenizer.decode(list(ids), skip_special_tokens=skip)
    return text


VLLM = route("/tokenize", tokenize, bodies=[TokenizeBody])
LLAMA = route("/tokenize", tokenize_content, bodies=[LlamaTokenizeBody])
TEI = route("/tokenize", tokenize_parts, shape=tei_error, bodies=[TeiTokenizeBody])


async def tokenize_either(request: Request) -> Response:
    """Answer /tokenize in the shape of the body: TEI's has `inputs`, llama.cpp's has `content`."""
    data = await request.body()
    own = TEI if has_field(data, "inputs") else LLAMA if has_field(data, "content") else VLLM
    response: Response = await own.endpoint(request)
    return response


ROUTES = [
    route("/tokenize", tokenize_either, others=[VLLM, LLAMA, TEI]),
    route("/detokenize", detokenize, bodies=[DetokenizeBody]),
    route("/tokenizer_info", tokenizer_info, ("GET",)),
    route("/decode", decode, shape=tei_error, bodies=[DecodeBody]),
]  # fmt: skip
