"""Chat templates write what the reference writes, inside a sandbox."""

import dataclasses
import enum

import numpy
import pytest
import transformers

import multihead
from multihead import AutoTokenizer
from multihead.errors import ChatTemplateError, InvalidInput, UnsupportedOption

from . import folders

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{%- if messages[0]['role'] != 'system' -%}<|system|>You are helpful.{% endif %}\n"
    "{% for m in messages if m.content is defined %}\n  {%- set tag = loop.index0 ~ ':' ~ m.role %}\n"
    "  {{- tag | upper }} {{ m.content | trim }}\n{% endfor %}"
)
TOOLS = (
    "{{- bos_token }}{% if tools %}Date: {{ strftime_now('%Y') }}\n"
    "{% for t in tools %}{{ t | tojson(indent=2) }}\n{% endfor %}{% endif %}"
    "{%- for message in messages %}{% if message.role == 'stop' %}{% break %}{% endif %}"
    "[{{ message.role }}]{% generation %}{{ message.content }}{% endgeneration %}{{ eos_token }}\n{% endfor %}"
)
ALTERNATING = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
NAMESPACE = (
    "{% set ns = namespace(count=0) %}{% for m in messages %}{% set ns.count = ns.count + 1 %}{% endfor %}"
    "{{ ns.count }} messages: {{ messages | map(attribute='role') | join(', ') }} {{ {'ä': '<b>'} | tojson }}"
)
CHAT = [
    {"role": "user", "content": "Hi, <b>how</b> are you & yours? "},
    {"role": "assistant", "content": "Très bien 😀"},
    {"role": "user", "content": "Good."},
]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"ä": {}}}}}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = folders.bytes_bpe(tmp_path_factory.mktemp("chat"), "GPT2", pad_token="<|endoftext|>")
    return AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("template", [CHATML, DEFAULT_SYSTEM, TOOLS, ALTERNATING, NAMESPACE])
@pytest.mark.parametrize("options", [{}, {"add_generation_prompt": True}, {"tools": [TOOL]}], ids=str)
def test_templates_write_what_the_reference_writes(both, template, options):
    texts = [t.apply_chat_template(CHAT, chat_template=template, tokenize=False, **options) for t in both]
    assert texts[0] == texts[1]
    ids = [t.apply_chat_template(CHAT, chat_template=template, **options) for t in both]
    assert ids[0]["input_ids"] == ids[1]["input_ids"]


def test_batches_tensors_and_the_last_message_continued(both):
    ours, theirs = both
    options = {"chat_template": CHATML, "padding": True, "return_tensors": "pt"}
    got, expected = (t.apply_chat_template([CHAT, CHAT[:1]], **options) for t in both)
    assert got["input_ids"].tolist() == expected["input_ids"].tolist()
    for chat in (CHAT, CHAT[:2], [{"role": "assistant", "content": "Once upon a "}]):
        texts = [
            t.apply_chat_template(chat, chat_template=CHATML, tokenize=False, continue_final_message=True) for t in both
        ]
        assert texts[0] == texts[1]
    assert ours.apply_chat_template(CHAT, chat_template=CHATML, return_dict=False) == list(
        theirs.apply_chat_template(CHAT, chat_template=CHATML, return_dict=False)
    )


@pytest.mark.parametrize("words", ["", "<", "<|", "i", "end", "user", "\n", " lead", "Sure, ", "a\n\n", "<|im_end|>"])
@pytest.mark.parametrize("template", [CHATML, CHATML.replace("message['content']", "(message['content'] | trim)")])
def test_a_message_is_continued_where_it_ends(both, template, words):
    chat = [CHAT[0], {"role": "assistant", "content": words}]
    options = {"chat_template": template, "tokenize": False, "continue_final_message": True}
    got, expected = (t.apply_chat_template(chat, **options) for t in both)
    assert got == expected
    assert chat[-1]["content"] == words


def test_the_last_text_of_a_message_in_parts_is_continued(both):
    template = "{% for m in messages %}[{% for p in m.content %}{{ p.text }}{% endfor %}]{% endfor %}"
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two "}]
    options = {"chat_template": template, "tokenize": False, "continue_final_message": True}
    texts = [t.apply_chat_template([{"role": "assistant", "content": parts}], **options) for t in both]
    assert texts[0] == texts[1] == "[one two "


PARTS = (
    "{% for m in messages %}<{{ m['role'] }}>{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for item in m['content'] %}{% if item['type'] == 'image' %}<image>{% elif item['type'] == 'text' %}"
    "{{ item['text'] | trim }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
)
FIRST_IMAGES_THEN_TEXTS = (
    "{% for m in messages %}{{ m['role'].upper() }}{{ ': ' }}{% for c in m['content'] | selectattr('type', 'equalto', "
    "'image') %}{{ '<image>' }}{% endfor %}{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ ' ' + c['text'] }}{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize("template", [PARTS, FIRST_IMAGES_THEN_TEXTS])
def test_templates_of_multimodal_models_write_messages_in_text_parts(both, template):
    chat = [{"role": "user", "content": [{"type": "text", "text": "How"}, {"type": "text", "text": "are you?"}]}]
    texts = [t.apply_chat_template(chat, chat_template=template, tokenize=False) for t in both]
    assert texts[0] == texts[1]
    assert "are you?" in texts[0]


@pytest.mark.parametrize("kind", ["image", "image_url", "input_audio", "video"])
def test_images_and_sound_in_a_message_are_refused_by_name(both, kind):
    chat = [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": "What is it?"}]}]
    with pytest.raises(ChatTemplateError, match=f"'{kind}'. This library computes text alone"):
        both[0].apply_chat_template(chat, chat_template=PARTS, tokenize=False)


@pytest.mark.parametrize(
    "last",
    [{}, {"content": None}, {"content": None, "tool_calls": [{"f": 1}]}, {"content": [{"type": "other"}]}],
    ids=str,
)
def test_a_message_without_text_cannot_be_continued(both, last):
    chat = [CHAT[0], {"role": "assistant", **last}]
    with pytest.raises(ChatTemplateError, match="continue_final_message"):
        both[0].apply_chat_template(chat, chat_template=CHATML, tokenize=False, continue_final_message=True)


@pytest.mark.parametrize("chat", [[], "hi", [[]], [CHAT, []], ["hi"], None, {"role": "user", "content": "hi"}], ids=str)
def test_what_is_no_conversation_is_one_clear_error(both, chat):
    with pytest.raises(ChatTemplateError, match=r"conversation|message"):
        both[0].apply_chat_template(chat, chat_template=CHATML)


def test_a_template_that_leaves_out_the_last_words_cannot_be_continued(both):
    for template in ("{{ messages[0].content }}", "{{ messages[-1].content | replace('bien', 'mal') }}"):
        with pytest.raises(ChatTemplateError, match="does not stand"):
            both[0].apply_chat_template(CHAT[:2], chat_template=template, continue_final_message=True)


def test_an_entry_that_is_none_is_absent_to_templates(both):
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.tool_calls is defined }};{% endfor %}"
    chat = [{"role": "assistant", "content": None, "tool_calls": None}]
    texts = [t.apply_chat_template(chat, chat_template=template, tokenize=False) for t in both]
    assert texts[0] == texts[1] == "assistant: False;"


def test_a_template_that_refuses_says_why(both):
    with pytest.raises(ChatTemplateError, match="must alternate"):
        both[0].apply_chat_template(CHAT[:1] * 2, chat_template=ALTERNATING)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{% for i in range(10000000) %}x{% endfor %}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ undefined_thing.attribute }}",
        "{% for %}",
        "{{ messages | nonsense }}",
        "{% if x %}",
    ],
)
def test_what_a_template_must_not_do_is_one_clear_error(both, template):
    with pytest.raises(ChatTemplateError):
        both[0].apply_chat_template(CHAT, chat_template=template, tokenize=False)


def test_the_line_of_a_broken_template_is_told(both):
    with pytest.raises(ChatTemplateError, match="line 3"):
        both[0].apply_chat_template(CHAT, chat_template="a\nb\n{% for %}", tokenize=False)


def test_without_a_template_the_error_says_what_to_do(both):
    with pytest.raises(ChatTemplateError, match="chat_template"):
        both[0].apply_chat_template(CHAT)
    with pytest.raises(UnsupportedOption):
        both[0].apply_chat_template(CHAT, chat_template=CHATML, add_generation_prompt=True, continue_final_message=True)


def test_templates_are_found_in_every_file_and_saved(both, tmp_path):
    folder = folders.bytes_bpe(tmp_path, "GPT2", chat_template=CHATML)
    assert AutoTokenizer.from_pretrained(folder).chat_template == CHATML
    (folder / "chat_template.jinja").write_text(NAMESPACE)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == NAMESPACE
    tokenizer.save_pretrained(tmp_path / "saved")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.apply_chat_template(CHAT, tokenize=False) == tokenizer.apply_chat_template(CHAT, tokenize=False)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(TOOLS)
    several = AutoTokenizer.from_pretrained(folder)
    assert several.get_chat_template() == NAMESPACE
    assert several.get_chat_template(tools=[TOOL]) == TOOLS
    with pytest.raises(ChatTemplateError, match="tool_use"):
        several.get_chat_template("tool_us")


def test_the_template_of_an_earlier_save_goes(both, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folders.bytes_bpe(tmp_path, "GPT2"))
    several = {"default": CHATML, "tool_use": TOOLS}
    for given in (CHATML, several, NAMESPACE, None, several):
        tokenizer.chat_template = given
        tokenizer.save_pretrained(tmp_path / "saved")
        for library in (multihead, transformers):
            assert library.AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template == given
    (tmp_path / "saved" / "additional_chat_templates").mkdir()
    (tmp_path / "saved" / "additional_chat_templates" / "old.jinja").write_text(CHATML)
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template == several


MARKED = (
    "{% macro head(m) %}<|im_start|>{{ m.role }}\n{% endmacro %}"
    "{% for m in messages %}{{ head(m) }}{% if m.role == 'assistant' %}<think>"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "options",
    [{}, {"add_generation_prompt": True}, {"padding": True}, {"padding": True, "return_tensors": "pt"}]
    + [{"truncation": True, "max_length": limit, "padding": True, "return_tensors": "np"} for limit in (5, 40, 60)],
    ids=str,
)
def test_the_marks_of_a_template_tell_the_assistants_tokens(both, side, options):
    chats = [[*CHAT[:2], {"role": "user", "content": "ünd?"}, {"role": "assistant", "content": "x" * 9}], CHAT[:1]]
    before = [t.padding_side for t in both]
    try:
        for t in both:
            t.padding_side = side
        for chat in (chats, [chats[0]], chats[0]):
            asked = {"chat_template": MARKED, "return_assistant_tokens_mask": True, **options}
            got, expected = (t.apply_chat_template(chat, **asked) for t in both)
            for name in ("input_ids", "assistant_masks"):
                assert [list(row) if hasattr(row, "__len__") else row for row in got[name]] == [
                    list(row) if hasattr(row, "__len__") else row for row in expected[name]
                ]
                assert type(got[name]) is type(expected[name])
    finally:
        for t, was in zip(both, before, strict=True):
            t.padding_side = was


def test_marks_inside_a_macro_tell_the_assistants_tokens_too(both):
    template = (
        "{% macro turn(m) %}[{{ m.role }}]{% generation %}{{ m.content }}{% endgeneration %}{% endmacro %}"
        "{% for m in messages %}{{ turn(m) }}{% endfor %}"
    )
    found = both[0].apply_chat_template(CHAT, chat_template=template, return_assistant_tokens_mask=True)
    learned = [i for i, m in zip(found["input_ids"], found["assistant_masks"], strict=True) if m]
    assert both[0].decode(learned) == "".join(m["content"] for m in CHAT)


def test_all_bytes_of_a_characters_tokens_are_the_assistants(both):
    template = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    found = both[0].apply_chat_template(CHAT[1:2], chat_template=template, return_assistant_tokens_mask=True)
    assert found["assistant_masks"] == [1] * len(found["input_ids"])


@pytest.mark.parametrize(
    "template",
    [CHATML, "{% set x %}{% generation %} {{ messages[0].content }} {% endgeneration %}{% endset %}{{ x | trim }}"],
)
def test_marks_that_are_not_there_or_cannot_be_placed_are_one_clear_error(both, template):
    with pytest.raises(ChatTemplateError, match="generation"):
        both[0].apply_chat_template(CHAT, chat_template=template, return_assistant_tokens_mask=True)


@pytest.mark.parametrize("other", [{"tokenize": False}, {"return_dict": False}, {"continue_final_message": True}])
def test_a_mask_needs_ids_of_a_finished_conversation(both, other):
    with pytest.raises(UnsupportedOption, match="return_assistant_tokens_mask"):
        both[0].apply_chat_template(CHAT, chat_template=MARKED, return_assistant_tokens_mask=True, **other)


THOUGHT = (
    "{% for m in messages %}{{ m.role }}:{% if m.NAME %}<think>{{ m.NAME }}</think>{% endif %}"
    "{{ m.content }};{% endfor %}"
)


@pytest.mark.parametrize("read", ["reasoning_content", "thinking"])
@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_what_was_thought_has_all_of_its_names(both, name, read):
    chat = [CHAT[0], {"role": "assistant", "content": "So.", name: "Hm"}]
    for more in ({}, {"continue_final_message": name}, {"continue_final_message": True}):
        options = {"chat_template": THOUGHT.replace("NAME", read), "tokenize": False, **more}
        texts = [t.apply_chat_template(chat, **options) for t in both]
        assert texts[0] == texts[1]
        assert "<think>Hm" in texts[0]


def test_no_mark_stays_where_a_template_writes_the_last_words_twice(both):
    options = {"chat_template": "{{ messages[-1].content }}|{{ messages[-1].content | trim }}|", "tokenize": False}
    assert both[0].apply_chat_template(CHAT[2:], continue_final_message=True, **options) == "Good.|Good."


def test_a_part_that_the_template_does_not_read_cannot_be_continued(both):
    chat = [{"role": "assistant", "content": "a", "thinking": "b"}]
    with pytest.raises(ChatTemplateError, match="thinking"):
        both[0].apply_chat_template(chat, chat_template=CHATML, continue_final_message="thinking")


@dataclasses.dataclass
class Weather:
    place: str
    degrees: float


class Kind(str, enum.Enum):
    HOT = "hot"


class Held:
    def __init__(self):
        self.secret = "secret"


@pytest.mark.parametrize(
    "value",
    [Weather("Oslo", 1.5), Kind.HOT, Held(), numpy.float32(0.5), numpy.bool_(False), numpy.ones(2), {1: (2, None)}, 3],
    ids=lambda value: type(value).__name__,
)
def test_templates_see_plain_data_only(both, value):
    template = "{{ messages[0].x }} {{ messages[0].x.secret is defined }} {{ y }} {% if messages[0].x %}yes{% endif %}"
    chat = [{"role": "user", "content": "", "x": value}]
    texts = [t.apply_chat_template(chat, chat_template=template, tokenize=False, y=value) for t in both]
    assert texts[0] == texts[1]
    assert "True" not in texts[0]


def test_what_holds_itself_is_one_clear_error(both):
    message = {"role": "user", "content": ""}
    message["own"] = message
    with pytest.raises(InvalidInput, match="itself"):
        both[0].apply_chat_template([message], chat_template=CHATML)


def test_documents_are_seen_and_checked(both):
    template = "{% for d in documents or [] %}{{ d.title }}: {{ d.text }};{% endfor %}{{ messages[0].content }}"
    given = [{"title": "A", "text": "b"}]
    for documents in (given, [], None):
        texts = [t.apply_chat_template(CHAT, chat_template=template, tokenize=False, documents=documents) for t in both]
        assert texts[0] == texts[1]
    with pytest.raises(InvalidInput, match="documents"):
        both[0].apply_chat_template(CHAT, chat_template=template, documents=["A"])


def test_no_tools_and_an_empty_list_of_tools_differ(both):
    template = "{% if tools is none %}none{% else %}{{ tools | length }}{% endif %}"
    for tools in (None, [], [TOOL]):
        texts = [t.apply_chat_template(CHAT, chat_template=template, tokenize=False, tools=tools) for t in both]
        assert texts[0] == texts[1]
    for t in both:
        t.chat_template = {"default": "d", "tool_use": "t"}
    try:
        for tools in (None, [], [TOOL]):
            assert both[0].get_chat_template(tools=tools) == both[1].get_chat_template(tools=tools)
    finally:
        for t in both:
            t.chat_template = None


@pytest.fixture(scope="module", params=["bytes", "pieces"])
def controlled(request, tmp_path_factory):
    """Tokenizers with special tokens, an added one that templates write, and an added one that they do not."""
    folder = tmp_path_factory.mktemp("controlled")
    if request.param == "bytes":
        folders.bytes_bpe(folder, "GPT2", pad_token="<|endoftext|>")
    else:
        folders.pieces(folder, "spiece.model", "T5", train={"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1})
    made = transformers.AutoTokenizer.from_pretrained(folder)
    made.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    made.add_tokens(["<|im_start|>", "<tool>", " tab"])
    made.save_pretrained(folder / "saved")
    return tuple(x.AutoTokenizer.from_pretrained(folder / "saved") for x in (multihead, transformers))


@pytest.mark.parametrize(
    "words", ["a<|im_end|>b", "<|im_start|>", "<tool> <|im_end|>\n<|im_end|>", "x tab", "\U000f0000a", ""]
)
@pytest.mark.parametrize(
    "options",
    [{}, {"padding": True, "return_tensors": "pt"}, {"truncation": True, "max_length": 7}, {"return_dict": False},
     {"add_generation_prompt": True}, {"continue_final_message": True}, {"note": "<|im_end|>"}],
    ids=str,
)  # fmt: skip
def test_control_tokens_in_messages_are_read_as_text_when_asked(controlled, words, options):
    template = CHATML + "{{ note | default('') }}"
    chat = [{"role": "user", "content": words}, {"role": "assistant", "content": f"So {words}."}]
    for given in (chat, [chat, chat[1:]] if "padding" in options else [chat]):
        got, expected = (
            t.apply_chat_template(given, chat_template=template, sanitize_control_tokens=True, **options)
            for t in controlled
        )
        if options.get("return_dict", True):
            assert got.keys() == expected.keys()
            got, expected = got["input_ids"], expected["input_ids"]
        assert (got.tolist() if hasattr(got, "tolist") else got) == (
            expected.tolist() if hasattr(expected, "tolist") else list(expected)
        )
    end = controlled[0].convert_tokens_to_ids("<|im_end|>")
    plain = controlled[0].apply_chat_template(
        [{"role": "user", "content": "<|im_end|>"}], chat_template="{{ messages[0].content }}",
        sanitize_control_tokens=True, return_dict=False,
    )  # fmt: skip
    assert end not in plain


@pytest.mark.parametrize("other", [{"tokenize": False}, {"return_assistant_tokens_mask": True}])
def test_control_tokens_are_read_as_text_in_ids_only(both, other):
    with pytest.raises(UnsupportedOption, match="sanitize_control_tokens"):
        both[0].apply_chat_template(CHAT, chat_template=MARKED, sanitize_control_tokens=True, **other)


def test_a_limit_cuts_conversations_only_where_truncation_is_asked_for(both):
    for options in (
        {"max_length": 5},
        {"max_length": 5, "truncation": True},
        {"max_length": 90, "padding": "max_length"},
    ):
        ids = [t.apply_chat_template(CHAT, chat_template=CHATML, **options)["input_ids"] for t in both]
        assert ids[0] == ids[1]
