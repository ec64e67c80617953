"""Templates have a budget: whatever would not end, or would fill the memory, is one clear error."""

from __future__ import annotations

import resource
from datetime import datetime

import jinja2.sandbox
import pytest

from multihead.errors import ChatTemplateError
from multihead.tokenizers import budget
from multihead.tokenizers.chat import render

HUGE = "1500000000"
LONG = "{% set a = 'aaaaaaaaaa' * 100000 %}"


def doubled(first: str, step: str) -> str:
    return "{% set ns = namespace(x=" + first + ") %}{% for i in range(60) %}" + step + "{% endfor %}{{ ns.x|string }}"


ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for i in [9, 9] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}{% endfor %}",
    "{% set x %}{% for i in range(99999) %}" + "z" * 20_000 + "{% endfor %}{% endset %}{{ x|length }}",
    "{% set a = range(99999)|list %}{% for i in range(99999) %}{% if 1.5 in a %}{% endif %}{% endfor %}",
    LONG + "{% for i in range(99999) %}{% set b = a[::-1] %}{% endfor %}",
    LONG + "{% for i in range(99999) %}{% set b = a|upper|trim|e %}{% endfor %}",
    "{% set a = [range(1000)|list] * 2000 %}{{ a|sum(start=[])|length }}",
    doubled("'ab'", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
]
TOO_LARGE = [
    "{{ 10 ** 5000 }}",
    "{{ 'a'.zfill(HUGE)|length }}",
    "{{ 'a'.ljust(HUGE)|length }}",
    "{{ 'a'|center(HUGE)|length }}",
    "{{ ('a' * HUGE)|length }}",
    "{{ (HUGE * [1])|length }}",
    "{{ '%HUGEd' % 1 }}",
    "{{ '%*d' % (HUGE, 1) }}",
    "{{ '%HUGEd'|format(1) }}",
    "{{ '{:HUGE}'.format(1) }}",
    "{{ '{:{}}'.format(1, HUGE) }}",
    "{{ '{:{}}'.format(1, 'HUGE') }}",
    "{{ '{0:{1[a]}}'.format(1, {'a': HUGE}) }}",
    "{{ '{x:HUGE}'.format_map({'x': 1}) }}",
    "{{ ['a']|tojson(indent=HUGE) }}",
    "{{ ['a', 'b']|tojson(separators=('a' * 1000000, 'b')) }}",
    "{{ 'a'|indent(HUGE, true) }}",
    "{{ ('a\n' * 1000000)|indent(999, true) }}",
    "{{ [1]|batch(HUGE, 1)|list }}",
    "{{ [1]|slice(HUGE)|list }}",
    "{{ 1.5|round(HUGE, 'ceil') }}",
    "{{ lipsum(n=HUGE) }}",
    "{{ (1).to_bytes(HUGE, 'big')|length }}",
    "{{ 'a'.encode().zfill(HUGE)|length }}",
    "{{ ('a'|e).center(HUGE)|length }}",
    "{{ ('a'|attr('zfill'))(HUGE) }}",
    "{{ {}.fromkeys(range(100000), 'a' * 10000) }}",
    LONG + "{{ a.replace('a', a) }}",
    LONG + "{{ a|replace('', a) }}",
    LONG + "{{ a.translate({97: a}) }}",
    LONG + "{{ a.join(a) }}",
    LONG + "{{ a|join(a) }}",
    LONG + "{{ [a] * 100 }}",
    LONG + "{{ ('%s' * 1000) % ((a,) * 1000) }}",
    LONG + "{{ ('%(x)s' * 1000) % {'x': a} }}",
    LONG + "{{ ('{0[0]}' * 1000).format([a]) }}",
    "{% set a = '\t' * 1000000 %}{{ a.expandtabs(10000) }}",
    "{{ strftime_now('%9999999d' * 100000)|length }}",
    "{{ strftime_now('%-9999999d' * 100)|length }}",
    "{{ strftime_now('%_999999999Y') }}",
    "{{ strftime_now('x' * 1000000)|length }}",
    doubled("'ab'", "{% set ns.x = ns.x ~ ns.x %}"),
    doubled("'ab'", "{% set ns.x = ns.x + ns.x %}"),
    doubled("3", "{% set ns.x = ns.x * ns.x %}"),
    doubled("[1]", "{% set ns.x = [ns.x, ns.x] %}"),
    doubled("[1]", "{% set ns.x = (ns.x, ns.x) %}"),
    doubled("[1]", "{% set ns.x = {'a': ns.x, 'b': ns.x} %}"),
    doubled("[1]", "{% set ns.x = dict(a=ns.x, b=ns.x) %}"),
]
BROKEN = [
    "{% break %}",
    "{{ " + "x + " * 3000 + "1 }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ x" + "[0]" * 30_000 + " }}",
    "{% if x %}" * 150 + "{% endif %}" * 150,
    "{% for a in b %}" * 50 + "{% endfor %}" * 50,
    "{% macro f(a, a) %}{% endmacro %}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{{ " + "9" * 5000 + " }}",
    "{{ 1e400|int }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("source", ENDLESS, ids=range(len(ENDLESS)))
def test_a_template_that_does_not_end_is_stopped(source, monkeypatch):
    monkeypatch.setattr(budget, "STEPS", 100_000)
    monkeypatch.setattr(budget, "SECONDS", 0.5)
    with pytest.raises(ChatTemplateError, match="does not come to an end"):
        render(source, {"messages": []})


@pytest.mark.parametrize("source", TOO_LARGE, ids=range(len(TOO_LARGE)))
def test_a_template_that_would_make_something_huge_is_refused_before_it_does(source):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ChatTemplateError):
        render(source.replace("HUGE", HUGE), {"messages": []})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB


@pytest.mark.parametrize("source", BROKEN, ids=range(len(BROKEN)))
def test_what_jinja_and_python_cannot_read_is_one_clear_error(source):
    with pytest.raises(ChatTemplateError):
        render(source, {"messages": [], "x": None, "b": [1]})


def test_the_time_that_a_template_computes_is_limited_whatever_it_does(monkeypatch):
    monkeypatch.setattr(budget, "SECONDS", 0.0)
    with pytest.raises(ChatTemplateError, match="line 1"):
        render("{% for i in range(1000) %}{{ i }}{% endfor %}", {})


@pytest.mark.parametrize(
    "source",
    [
        "{{ [[1], [2]]|sum(start=[]) }} {{ [3, 1]|sum }} {{ messages|sum(attribute='n') }}",
        "{{ messages|groupby('role')|list }} {{ messages|map(attribute='n')|list|sort(reverse=true) }}",
        "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|join(' | ') }}",
        "{% for m in messages[1:] %}{{ loop.index }}{{ m['role'] ~ 1 ~ none }}{% else %}none{% endfor %}",
        "{{ '%5d|%-5s|%*d' % (3, 'a', 4, 2) }} {{ '{0:>{w}} {0!r}'.format('ä', w=4) }} {{ 'a'.center(9) }}|",
        "{{ 'a b'.split() }} {{ 'a,b'.split(',')|join('-') }} {{ ','.join(['x', 'y']) }} {{ 'aba'.replace('a', 'c') }}",
        "{{ messages|tojson(indent=2) }} {{ messages|tojson }} {{ {'b': 1, 'a': 2}|dictsort }} {{ 'a\nb'|indent(3) }}",
        "{% set ns = namespace(a=[]) %}{% for m in messages %}{% set ns.a = ns.a + [m.n] %}{% endfor %}{{ ns.a }}",
        "{{ [1, 2, 3]|batch(2, 0)|list }} {{ 'x'|e }} {{ '<b>'|e ~ '<i>' }} {{ 2 ** 10 - 3 * 4 / 2 }} {{ -7 // 2 }}",
        "{% macro f(a, b=2) %}{{ a + b }}{{ caller() if caller }}{% endmacro %}{{ f(1) }}{% call f(3) %}!{% endcall %}",
        "{% set x %}a{{ 1 }}{% endset %}{{ x|upper }}{% filter upper %}abc{% endfilter %}{{ (1, 2) == (1, 2) }}",
        "{{ messages|map('tojson')|list }}{{ messages|first }}{{ messages|last }}{{ messages|length }}{{ nil }}",
        "{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }}{% if loop.last %}.{% endif %}{% endfor %}{{ 1 if nil else 2 }}",
        "{{ messages|rejectattr('n')|list }}{{ range(3)|list }}{{ 'abc'[::-1] }}{{ 7 % 4 }}{{ 3.7|round }}",
        "{% for i in range(9) if i is odd %}{% if i > 5 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ 3 is in [3] }}",
    ],
)  # fmt: skip
def test_honest_templates_write_what_they_write_without_a_budget(source):
    from jinja2.ext import loopcontrols

    from multihead.tokenizers.chat import tojson

    plain = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    plain.filters["tojson"] = tojson
    messages = [{"role": "user", "content": "Hi ä", "n": 3}, {"role": "assistant", "content": "<Hm>", "n": 0}]
    assert render(source, {"messages": messages}) == plain.from_string(source).render(messages=messages)


def test_dates_are_told_in_honest_forms():
    today = datetime.now()
    for form in ("%d %b %Y", "%-d %B %Y", "%H 100%%", "%A, %Y1"):
        assert render("{{ strftime_now(form) }}", {"form": form}) in {
            today.strftime(form),
            datetime.now().strftime(form),
        }
