"""The layout of texts, Markdown and HTML stays; what the model reads are whole passages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.errors import InvalidInput
from multihead.pipelines.translation.html_layout import html_passages
from multihead.pipelines.translation.layout import text_passages
from multihead.pipelines.translation.pipeline import passages_of
from multihead.pipelines.translation.protected_words import blank
from multihead.pipelines.translation.units import Document

from .conftest import exact

WRAPPED = """Dear customer,

the parcel that you ordered last week has been handed over to the carrier, and
it will arrive in the next three days. If nobody is at home, the driver leaves
it with a neighbour.

  - The first item is rather long and goes on and on until it must be wrapped to
    a second line.
  - Short item
"""
VERSE = """Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date;
"""


def texts(text, **options):
    return [passage.text for passage in text_passages(text, **options)]


def render(text, layout, change):
    passages = passages_of(text, layout)
    document = Document(text, passages)
    for passage in passages:
        passage.text = change(passage.text)
    return document.render([passage.render([]) for passage in passages])


def test_hard_wrapped_paragraphs_are_one_passage():
    assert texts(WRAPPED) == [
        "Dear customer,",
        "the parcel that you ordered last week has been handed over to the carrier, and it will arrive in the next "
        "three days. If nobody is at home, the driver leaves it with a neighbour.",
        "The first item is rather long and goes on and on until it must be wrapped to a second line.",
        "Short item",
    ]


def test_a_paragraph_is_wrapped_to_its_width_again():
    assert render(WRAPPED, "text", lambda text: text) == WRAPPED
    long = render(WRAPPED, "text", lambda text: text.replace("driver", "courier of the company"))
    assert max(map(len, long.splitlines())) <= 80
    assert "    a second line." in long


@pytest.mark.parametrize(
    ("text", "passages"),
    [
        (VERSE, VERSE.splitlines()),
        ("Name:\tAnna\tAge:\t34", ["Name:", "Anna", "Age:", "34"]),
        ("City   Porto      Country   Portugal", ["City", "Porto", "Country", "Portugal"]),
        ("Two spaces.  Then  more.", ["Two spaces.  Then  more."]),
        ("# Title\n* one\n2. two\n- [ ] three\n> four", ["Title", "one", "two", "three", "four"]),
        ("| A | B |\n|---|--:|\n| one | |", ["A", "B", "one"]),
        ("A | B\n--|--\none | two", ["A", "B", "one", "two"]),
        ("Run:\n```sh\nls -la\n```\nDone.", ["Run:", "Done."]),
        ("Title\n=====\n* * *\nText", ["Title", "Text"]),
        ("3 - 2\n-5 degrees", ["3 - 2", "-5 degrees"]),
        ("", []),
    ],
)  # fmt: skip
def test_lines_lists_tables_and_code(text, passages):
    assert texts(text) == passages


def test_markdown_keeps_code_links_and_front_matter():
    text = "---\ntitle: x\n---\n# The **first**\n\nRead [it](a.md)\nnow.\n\n    code here\n\n[1]: http://x.org y\n"
    passages = text_passages(text, markdown=True)
    assert [passage.text for passage in passages] == ["The **first**", "Read [it](a.md) now."]
    assert [passages[1].text[a:b] for a, b in passages[1].markup] == ["[", "](a.md)"]


def test_markdown_translates_footnotes_and_definitions():
    text = "Term\n: Meaning\n\nA line[^1].\n\n[^1]: A note.\n[page]: https://x.org"
    passages = text_passages(text, markdown=True)
    assert [passage.text for passage in passages] == ["Term", "Meaning", "A line[^1].", "A note."]
    assert [passage.text[a:b] for passage in passages for a, b in passage.markup] == ["[^1]"]


def test_html_passages_are_blocks_with_their_inline_tags():
    page = (
        '<head><title>My page</title><style>p {}</style></head><!-- no --><p class="a">Click <a href="x">here</a> to\n'
        "  see &amp; buy &eacute;clairs.</p><pre>no</pre><p translate=no>no</p><li><code>x=1</code> is code</li>"
    )
    passages = html_passages(page)
    assert [passage.text for passage in passages] == [
        "My page", 'Click <a href="x">here</a> to see & buy éclairs.', "is code"
    ]  # fmt: skip
    shouted = render(page, "html", lambda text: text.replace("Click", "Press").replace("see & buy", "look & < pay"))
    assert shouted == page.replace("Click", "Press").replace(
        "to\n  see &amp; buy &eacute;clairs", "to look &amp; &lt; pay éclairs"
    )


@given(
    st.text(st.sampled_from("ab A.|-`#>\t\n <>/&*[]()~1\r\u2028é"), max_size=80),
    st.sampled_from(["text", "markdown", "html"]),
)
@settings(max_examples=300, deadline=None)
def test_passages_are_in_order_and_one_line_each(text, layout):
    position = 0
    for passage in passages_of(text, layout):
        assert position <= passage.start < passage.end <= len(text)
        assert "\n" not in blank(passage.text, passage.markup)  # a tag may have line ends
        position = passage.end


def test_a_layout_that_does_not_exist_is_refused(marian):
    with pytest.raises(InvalidInput, match="layout is one of 'text', 'markdown', 'html'"):
        exact("translation", marian)("The fox", layout="latex")


def test_windows_line_ends_stay(marian):
    (answer,) = exact("translation", marian, max_new_tokens=4)("The fox\r\nThe dog\r\n")
    assert answer["translation_text"].count("\r\n") == 2
