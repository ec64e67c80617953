"""The page in Chromium: what a person does with it, against running servers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from multihead.serving.settings import ModelSettings, ServerSettings

from .conftest import RunningServer, running

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
TABS = ("chat", "complete", "compare", "translate", "summarize", "classify", "answer", "entities", "fill-mask",
        "similarity", "tokens", "attention", "model")  # fmt: skip
WIDE = """() => document.documentElement.scrollWidth > innerWidth
    || [...document.querySelectorAll('.tab-body')].some((node) => node.scrollWidth > node.clientWidth)"""
HARD = """<img src=x onerror="window.broken=1"> <script>window.broken=1</script> [bad](javascript:window.broken=1)
[good](https://example.org/a) ![seen](https://example.org/spy.png)

| <b>a</b> | b |
|---|---|
| <iframe src="/"></iframe> | `<i>` |

```html
<script>window.broken = 1</script>
```
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Opened:
    """A page in a fresh profile, whose faults are kept."""

    def __init__(self, browser: Any, url: str, path: str, **options: Any) -> None:
        self.url, self.faults, self.expected = url, list[str](), ()
        self.context = browser.new_context(viewport={"width": 1200, "height": 800}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda found: found.type in ("error", "warning") and self.faults.append(found.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self.check_request)
        self.page.goto(url + path)
        self.page.wait_for_selector(".tab")

    def check_request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.faults.append(f"asked {request.url}")

    def tab(self, name: str) -> Any:
        self.page.evaluate("name => { location.hash = name }", name)
        self.page.wait_for_selector(f"#tabs a[href='#{name}'][aria-current]")
        return self.page

    def say(self, text: str) -> None:
        """Send a message, and wait for the end of the answer."""
        self.page.fill("textarea[aria-label=Message]", text)
        self.page.keyboard.press("Enter")
        self.finished()

    def finished(self) -> None:
        self.page.wait_for_selector("[aria-label='Send (Enter)']")
        self.page.wait_for_selector(".message.assistant .actions")


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    opened: list[Opened] = []

    def build(server: RunningServer, path: str = "/", **options: Any) -> Opened:
        opened.append(Opened(browser, server.url, path, **options))
        return opened[-1]

    yield build
    for each in opened:
        each.context.close()
        faults = [fault for fault in each.faults if not any(part in fault for part in each.expected)]
        assert not faults


def limit(page: Any, tab: str, tokens: int) -> None:
    """Set the longest answer of a tab."""
    page.evaluate(f"localStorage.setItem('multihead.sampling.{tab}', JSON.stringify({{max_tokens: {tokens}}}))")
    page.reload()
    page.wait_for_selector(".tab")


def test_a_chat_streams_branches_and_stays(server: RunningServer, open_page: Any) -> None:
    opened = open_page(server)
    page = opened.page
    limit(page, "chat", 12)
    opened.say("What is a fox?")
    assert "tokens/s" in page.inner_text(".message.assistant .stats")
    assert page.inner_text(".message.assistant .message-who") == "chat"
    assert "of 512 tokens" in page.inner_text(".gauge")
    page.click("[aria-label=Regenerate]")
    page.wait_for_selector("text=2 / 2")
    page.click("[aria-label='Previous branch']")
    page.wait_for_selector("text=1 / 2")
    page.click(".message.user [aria-label=Edit]", force=True)
    page.fill("textarea.edit", "What is a dog?")
    page.keyboard.press("Control+Enter")
    opened.finished()
    assert page.inner_text(".message.user .message-body") == "What is a dog?"
    before = page.inner_text(".message.assistant .markdown")
    page.click("[aria-label='Continue the answer']")
    opened.finished()
    page.click("[aria-label='Raw text']")
    assert len(page.inner_text(".message.assistant pre.raw")) >= len(before.strip())
    page.reload()
    page.fill("[aria-label='Search conversations']", "dog")
    page.click(".conversation")
    page.wait_for_selector("text=What is a dog?")
    page.fill("[aria-label='Search conversations']", "nothing like it")
    page.wait_for_selector("text=Nothing found.")


def test_texts_of_models_stay_texts(server: RunningServer, open_page: Any) -> None:
    opened = open_page(server)
    page = opened.page
    chunks = [{"choices": [{"index": 0, "delta": {"content": HARD[i : i + 7]}}]} for i in range(0, len(HARD), 7)]
    chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=stream))
    opened.say('<img src=y onerror="window.broken=1">')
    assert page.evaluate("window.broken") is None
    assert page.locator(".chat-log :is(img, script, iframe, b)").count() == 0
    assert '<img src=x onerror="window.broken=1">' in page.inner_text(".message.assistant .markdown")
    links = page.locator(".markdown a").evaluate_all("all => all.map(a => [a.getAttribute('href'), a.rel])")
    assert [href for href, _ in links] == ["https://example.org/a", "https://example.org/spy.png"]
    assert all("noopener" in rel and "noreferrer" in rel for _, rel in links)
    assert page.locator(".markdown table td").count() == 2
    assert "<script>" in page.inner_text("figure.code pre")
    assert page.locator(".conversation").inner_text().startswith("<img src=y")


def test_thoughts_and_tool_calls_are_shown(server: RunningServer, open_page: Any) -> None:
    opened = open_page(server)
    call = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    deltas = [{"reasoning_content": "Where is it?"}, {"content": "I look."}, {"tool_calls": [call]}]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks[-1]["choices"][0]["finish_reason"] = "tool_calls"
    stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    bodies: list[dict[str, Any]] = []

    def answer(route: Any) -> None:
        bodies.append(route.request.post_data_json)
        route.fulfill(content_type="text/event-stream", body=stream)

    page = opened.page
    page.route("**/v1/chat/completions", answer)
    opened.say("What is the weather?")
    assert not page.locator("details.thinking").evaluate("node => node.open")
    assert '"city": "Rome"' in page.inner_text(".tool-call")
    page.fill(".tool-call textarea", "12 degrees")
    page.click("text=Send result")
    page.wait_for_function("document.querySelectorAll('.message.assistant').length === 2")
    opened.finished()
    assert [each["role"] for each in bodies[-1]["messages"]] == ["user", "assistant", "tool"]
    assert bodies[-1]["messages"][2] == {"role": "tool", "tool_call_id": "c1", "content": "12 degrees"}


def test_token_probabilities_with_the_keyboard(server: RunningServer, open_page: Any) -> None:
    opened = open_page(server)
    limit(opened.page, "complete", 10)
    page = opened.tab("complete")
    page.keyboard.type("the fox jumps")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=10 tokens")
    scored = page.locator(".token:not(.plain)")
    assert scored.count() == 10
    scored.nth(3).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(".popover")
    shares = [
        float(text.split(" %")[0].lstrip("<> ")) for text in page.locator(".popover .bar-value").all_inner_texts()
    ]
    assert 8 <= len(shares) <= 9
    assert sum(shares) <= 100.5
    page.keyboard.press("Escape")
    assert page.locator(".popover").count() == 0
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    before = page.locator(".token").all_inner_texts()
    page.keyboard.press("Enter")  # another token, from which the text goes on
    page.wait_for_function("old => document.querySelectorAll('.token').length > old", arg=len(before))
    page.wait_for_selector("text=Continue")
    after = page.locator(".token").all_inner_texts()
    assert after[:5] == before[:5]
    page.click("text=Undo")
    assert page.locator(".token").all_inner_texts() == before
    page.click("text=Score this text")
    page.wait_for_selector("text=perplexity")


def test_every_tab_answers(task_server: RunningServer, open_page: Any) -> None:
    opened = open_page(task_server)
    fields = {  # tab -> texts of its fields, what its answer has
        "translate": ({"Text": "the fox"}, ".output-text"),
        "classify": ({"Text": "the fox jumps"}, ".bars li"),
        "answer": ({"Question": "the fox", "Text": "the fox jumps over the dog"}, ".big-answer"),
        "entities": ({"Text": "the fox jumps"}, ".context"),
        "fill-mask": ({"Text": "the ___ jumps"}, ".bars li"),
        "similarity": ({"Texts": "the fox\nthe dog"}, "table.matrix td"),
        "tokens": ({"Text": "the fox"}, "ol.pieces li"),
        "attention": ({"Text": "the fox jumps"}, ".head canvas"),
    }
    for tab, (texts, answer) in fields.items():
        page = opened.tab(tab)
        for label, text in texts.items():
            page.get_by_label(label, exact=True).fill(text)
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(f".result {answer}, .error")
        assert page.locator(".error").all_inner_texts() == [], tab
    page.locator(".head[data-layer='0'][data-head='1']").click()
    page.wait_for_selector("text=Layer 0, head 1")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=Layer 0, head 0")
    page.click(".segments >> text=Matrix")
    page.wait_for_selector("canvas.matrix-large")
    page = opened.tab("model")
    page.wait_for_selector(".about .card")
    page.wait_for_selector("text=torch")


@pytest.mark.real
def test_real_models_answer_in_every_tab(real_server: RunningServer, open_page: Any) -> None:
    opened = open_page(real_server)
    said = {"translate": "jardim", "answer": "Collins", "classify": "positive", "similarity": "1.00"}
    for tab, word in said.items():
        page = opened.tab(tab)
        page.click(".examples button >> nth=0")
        page.wait_for_selector(f".result >> text={word}")
        assert page.locator(".error").count() == 0


def test_the_keyboard_reaches_everything(server: RunningServer, open_page: Any) -> None:
    page = open_page(server).page
    page.keyboard.press("Control+k")
    page.keyboard.type("atten")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1 >> text=Attention")
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+2")
    page.wait_for_selector("h1 >> text=Complete")
    page.locator(".picker").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=menu]")
    assert page.evaluate("document.activeElement.getAttribute('role')").startswith("menuitem")
    page.keyboard.press("Escape")
    assert page.locator("[role=menu]").count() == 0
    page.keyboard.press("?")
    page.wait_for_selector("dialog >> text=Keys")
    page.keyboard.press("Escape")
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, select, textarea, a[href]')].filter(
        (node) => !(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length)).length""")
    assert nameless == 0


def test_a_phone_needs_no_sideways_scrolling(task_server: RunningServer, open_page: Any) -> None:
    opened = open_page(task_server)
    page = opened.page
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_selector("#side", state="hidden")
    page.click("#menu-button")
    page.wait_for_selector("#side", state="visible")
    page.keyboard.press("Escape")
    page.wait_for_selector("#side", state="hidden")
    for tab in TABS:
        page.evaluate("name => { location.hash = name }", tab)
        page.wait_for_function("name => document.querySelector(`#tabs a[href='#${name}'][aria-current]`)", arg=tab)
        wide = page.evaluate(WIDE)
        assert not wide, tab


def test_colors_follow_the_system_and_the_switch(server: RunningServer, open_page: Any) -> None:
    page = open_page(server, color_scheme="dark").page
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(20, 23, 28)"
    page.click("#theme")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.reload()
    page.wait_for_selector(".tab")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"


def test_a_lost_server_is_said_in_plain_words(server: RunningServer, open_page: Any) -> None:
    opened = open_page(server)
    opened.expected = ("ERR_INTERNET_DISCONNECTED",)
    opened.context.set_offline(True)
    opened.page.fill("textarea[aria-label=Message]", "Are you there?")
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_selector(".error >> text=The server cannot be reached.")


def test_a_link_fills_a_tab_and_runs_nothing(server: RunningServer, open_page: Any) -> None:
    page = open_page(server, "/#complete?text=the%20fox").page
    page.wait_for_selector("h1 >> text=Complete")
    assert page.input_value("textarea.paper") == "the fox"
    assert page.locator(".token:not(.plain)").count() == 0


def test_a_key_is_asked_for_and_kept_in_the_tab(chat_model: Path, tmp_path: Path, open_page: Any) -> None:
    (tmp_path / "keys").write_text("ann:admin:secret\n")
    model = ModelSettings(source=str(chat_model), name="chat", precision="float32", preload=False)
    with running(ServerSettings(models=(model,), keys_file=tmp_path / "keys")) as server:
        opened = open_page(server)
        opened.expected = ("401",)
        page = opened.page
        page.click("text=Enter a key")
        page.keyboard.type("secret")
        page.keyboard.press("Enter")
        page.wait_for_selector(".picker >> text=chat")
        assert page.evaluate("[sessionStorage.length, JSON.stringify(localStorage).includes('secret')]") == [1, False]
        opened.context.close()
