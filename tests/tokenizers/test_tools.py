# ruff: noqa: UP006, UP007, UP035, UP045 -- the older names of types are tested, too
"""Functions as tools are described as the reference describes them."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union

import pytest
import torch
from transformers.utils import get_json_schema

from multihead import AutoTokenizer
from multihead.errors import UnsupportedOption
from multihead.tokenizers.tools import describe_function

from . import folders


class Unit(enum.Enum):
    """Of a temperature."""

    CELSIUS = "C"
    KELVIN = 0


class Empty(enum.Enum):
    """Without members."""


class Held(enum.Enum):
    """Of a value that JSON has not."""

    ONE = [1]


class Own:
    """A class."""


TYPES = [
    int, str, float, bool, None, Any, list, dict, tuple, List, Dict, Tuple, list[int], list[list[str]], dict[str, int],
    dict[int, Any], tuple[int, str], tuple[()], Optional[int], Optional[list[int]], int | str, int | None,
    Union[int, str, None], list | tuple, list[int] | int, Literal["a", "b"], Literal[1, "a", None, True],
    Optional[Literal["a"]], Unit, Unit | int, Annotated[int, "x"], int | Any, Optional[Any], "int", torch.Tensor,
    dict[str, list[int] | None],
]  # fmt: skip
REFUSED = [Own, list[Own], Empty, Held, tuple[int], tuple[int, ...], set, object, Literal[b"x"], "Nope"]
DOCS = [
    "Does it.\n\nArgs:\n    x: what\n    y: how much",
    "Does it.\n\nArgs:\n    x: what\n      it is: more\n    and more\n    y:\n        how\n\n        much  \n",
    'Does\nit: at length. \n\nArgs:\n    y: b (choices: [1, 2])\n    x: a (Choices: ["t", " c "])\n    z: none\n\n'
    "Returns:\n    what: it is\n    found\n\nRaises:\n    ValueError: never",
    "Args: inline\n\nArgs:\nx: a\ny: b\nReturns:\n    c",
]


def tool(hint: Any, default: Any = None) -> Any:
    def weather(x: str, y: int = 1) -> str: ...

    weather.__annotations__ = {"x": hint, "y": "int", "return": hint}
    weather.__doc__ = DOCS[0]
    return weather


@pytest.mark.parametrize("hint", TYPES, ids=str)
def test_types_are_described_as_the_reference_does(hint):
    assert describe_function(tool(hint)) == get_json_schema(tool(hint))


@pytest.mark.parametrize("hint", REFUSED, ids=str)
def test_types_that_json_does_not_have_are_refused_by_name(hint):
    with pytest.raises(Exception):  # noqa: B017, PT011
        get_json_schema(tool(hint))
    with pytest.raises(UnsupportedOption, match="weather"):
        describe_function(tool(hint))


@pytest.mark.parametrize("doc", DOCS)
def test_docstrings_are_read_as_the_reference_does(doc):
    function = tool(str)
    function.__doc__ = doc
    assert describe_function(function) == get_json_schema(function)


class Service:
    def ask(self, what: str, *rest: int, times: int = 1, **more: str):
        """Asks.

        Args:
            what: the question
            rest: numbers
            times: how often
            more: else
        """

    @classmethod
    def make(cls, kind: Own | None = None) -> Own:
        """Makes. Args: none"""


def test_methods_leave_themselves_out_and_results_may_be_of_any_type():
    assert describe_function(Service().ask) == get_json_schema(Service().ask)
    assert describe_function(Service.ask) == get_json_schema(Service.ask)

    def make() -> Own:
        """Makes one."""

    assert describe_function(make) == get_json_schema(make)


def without_words(x: str): ...


def without_type(x):
    """Does.

    Args:
        x: what
    """


def without_description(x: str):
    """Does."""


def with_broken_choices(x: str):
    """Does.

    Args:
        x: what (choices: [a])
    """


@pytest.mark.parametrize(
    "function", [without_words, without_type, without_description, with_broken_choices, Service.make]
)
def test_a_function_that_does_not_say_what_it_takes_is_refused_by_name(function):
    with pytest.raises(UnsupportedOption, match=function.__name__):
        describe_function(function)


def test_templates_read_functions_as_schemas(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folders.bytes_bpe(tmp_path, "GPT2"))
    options = {"chat_template": "{% for t in tools %}{{ t | tojson }}{% endfor %}", "tokenize": False}
    chat, function = [{"role": "user", "content": "x"}], tool(int)
    assert tokenizer.apply_chat_template(chat, tools=[function], **options) == (
        tokenizer.apply_chat_template(chat, tools=[get_json_schema(function)], **options)
    )
    for wrong in ([Service()], [len], ["weather"], "weather", {"name": "weather"}, 3):
        with pytest.raises(UnsupportedOption, match="tool"):
            tokenizer.apply_chat_template(chat, tools=wrong, **options)
