"""Models by name: one load for many, least recently used first out, nothing unloaded under a request."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from multihead.serving.errors import ApiError
from multihead.serving.models import load_events, registry
from multihead.serving.models.memory import file_bytes
from multihead.serving.models.registry import ModelRegistry
from multihead.serving.models.served_model import ServedModel
from multihead.serving.request_info import RequestInfo, _current
from multihead.serving.settings import ModelSettings, ServerSettings
from multihead.serving.start import begin_load


def made(folders: dict[str, Path], **settings: Any) -> ModelRegistry:
    models = [
        ModelSettings(source=str(path), name=name, preload=False, precision="float32") for name, path in folders.items()
    ]
    return ModelRegistry(ServerSettings(models=tuple(models), **settings).check())


@asynccontextmanager
async def request() -> AsyncIterator[RequestInfo]:
    """A request: models that it gets are held until it ends."""
    info = RequestInfo(id="test")
    token = _current.set(info)
    try:
        yield info
    finally:
        _current.reset(token)
        info.release()


async def until(done: Any) -> None:
    while not done():
        await asyncio.sleep(0.01)


async def changes(models: ModelRegistry, found: list[tuple[str, str]]) -> None:
    async for event in models.events.watch(60):
        if event is not None and "percent" not in event:
            found.append((event["model"], event["status"]))


def test_one_load_serves_all_who_wait(bert: Path) -> None:
    async def go() -> None:
        models = made({"bert": bert})
        first = asyncio.create_task(models.get("bert"))
        await asyncio.sleep(0)
        others = [asyncio.create_task(models.get("bert")) for _ in range(20)]
        await asyncio.sleep(0)
        first.cancel()  # the client that began the load goes away
        found = await asyncio.gather(*others)
        assert len(set(map(id, found))) == 1
        assert models.loads == 1
        await models.close()

    asyncio.run(go())


def test_least_recently_used_model_makes_room(bert: Path, classifier: Path, marian: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(registry, "ROOM_SECONDS", 0.3)
    folders = {"bert": bert, "classifier": classifier, "marian": marian}

    async def sizes() -> dict[str, int]:
        models = made(folders)
        found = {name: (await models.get(name)).weight_bytes for name in folders}
        await models.close()
        return found

    async def go() -> None:
        size = await sizes()
        models = made(folders, model_memory=sum(size.values()) - 1)
        watched: list[tuple[str, str]] = []
        watch = asyncio.create_task(changes(models, watched))
        await asyncio.sleep(0)
        await models.get("bert")
        await models.get("classifier")
        await models.get("bert")
        await models.get("marian")
        assert set(models.loaded) == {"bert", "marian"}, "classifier was used least recently"
        async with request():
            await models.get("bert")
            async with request():
                await models.get("marian")
                with pytest.raises(ApiError) as refused:
                    await models.get("classifier")
                assert refused.value.status == 503
                assert set(models.loaded) == {"bert", "marian"}, "both are in use"
            await models.get("classifier")
            assert set(models.loaded) == {"bert", "classifier"}
        assert models.bytes == size["bert"] + size["classifier"]
        while watched[-1] != ("classifier", "loaded"):
            await asyncio.sleep(0.001)
        watch.cancel()
        kinds = [pair for pair in watched if pair[0] == "classifier"]
        assert kinds[:4] == [("classifier", kind) for kind in ("loading", "loaded", "unloading", "unloaded")]
        await models.close()
        small = made(folders, model_memory=100)
        with pytest.raises(ApiError) as refused:
            await small.get("bert")
        assert refused.value.status == 507

    asyncio.run(go())


def test_failed_loads_are_remembered_for_a_while(tmp_path: Path, bert: Path, monkeypatch: Any) -> None:
    async def go() -> None:
        models = made({"bert": tmp_path / "secret-folder"})
        watched: list[tuple[str, str]] = []
        watch = asyncio.create_task(changes(models, watched))
        await asyncio.sleep(0)
        for _ in range(3):
            with pytest.raises(ApiError) as failed:
                await models.get("bert")
            assert failed.value.status == 503
            assert "secret-folder" not in str(failed.value)
            assert 0 < int(failed.value.headers["Retry-After"]) <= registry.FAILURE_SECONDS
        while len(watched) < 2:
            await asyncio.sleep(0.001)
        assert watched == [("bert", "loading"), ("bert", "failed")]
        shutil.copytree(bert, tmp_path / "secret-folder")
        await models.reload("bert")
        assert (await models.get("bert")).id == "bert"
        assert not models.failed
        watch.cancel()
        await models.close()

    asyncio.run(go())


def test_idle_models_are_unloaded(bert: Path, classifier: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(registry, "TEND_SECONDS", 0.01)

    async def go() -> None:
        models = made({"bert": bert, "classifier": classifier}, idle_timeout=0.05)
        tending = asyncio.create_task(models.tend())
        await models.get("classifier")
        models.keep("classifier", -1)
        async with request():
            await models.get("bert")
            await asyncio.sleep(0.2)
            assert "bert" in models.loaded, "a request uses it"
        await asyncio.wait_for(until(lambda: "bert" not in models.loaded), 10)
        assert "classifier" in models.loaded, "it is kept for ever"
        models.keep("classifier", 0)
        await asyncio.wait_for(until(lambda: not models.loaded), 10)
        tending.cancel()
        await models.close()

    asyncio.run(go())


def test_reload_leaves_running_requests_their_model(bert: Path) -> None:
    async def go() -> None:
        models = made({"bert": bert})
        async with request():
            before = await models.get("bert")
            after = await models.reload("bert")
            assert after is not before
            assert await models.get("bert") is after
            assert models.retired == [before]
            assert before.pipeline("fill-mask")("a [MASK]"), "still open"
        await models._close_retired()
        assert models.retired == []
        await models.close()

    asyncio.run(go())


def test_two_tasks_may_close_what_is_retired(bert: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        models = made({"bert": bert, "classifier": classifier})
        both = [await models.load("bert"), await models.load("classifier")]
        closed, slow = [], threading.Event()
        for model in both:
            monkeypatch.setattr(model, "close", lambda model=model: (slow.wait(10), closed.append(model.id)))
        models.loaded.clear()
        models.retired += both
        closings = [asyncio.create_task(models._close_retired()) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert models.bytes == sum(model.weight_bytes for model in both), "their memory is not free yet"
        slow.set()
        await asyncio.gather(*closings)
        assert sorted(closed) == ["bert", "classifier"]
        assert models.bytes == 0

    asyncio.run(go())


def test_tending_survives_a_model_that_cannot_be_closed(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "TEND_SECONDS", 0.01)

    async def go() -> None:
        models = made({"bert": bert}, idle_timeout=0.05)
        model, tending = await models.load("bert"), asyncio.create_task(models.tend())
        monkeypatch.setattr(model, "close", lambda: 1 / 0)
        await asyncio.wait_for(until(lambda: not models.loaded and not models.retired), 10)
        await models.load("bert")
        await asyncio.wait_for(until(lambda: not models.loaded), 10)
        tending.cancel()
        await models.close()

    asyncio.run(go())


def test_reloads_at_once_load_one_after_the_other(bert: Path) -> None:
    async def go() -> None:
        models = made({"bert": bert})
        found = await asyncio.gather(*(models.reload("bert") for _ in range(3)))
        assert models.loaded["bert"] is found[-1]
        assert models.loading == []
        assert models.loads == 3
        await models.close()

    asyncio.run(go())


def test_weights_that_a_folder_has_in_two_formats_are_counted_once(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    shutil.copytree(bert, folder)
    before = file_bytes(str(folder))
    assert before == (folder / "model.safetensors").stat().st_size
    (folder / "pytorch_model.bin").write_bytes(bytes(before))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(bytes(100))
    assert file_bytes(str(folder)) == before + 100


@pytest.mark.parametrize("early", [False, True], ids=["by the registry", "before the server"])
def test_a_load_tells_how_far_it_is(bert: Path, early: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(load_events, "SHARE_SECONDS", 0)
    watched, load = threading.Event(), ServedModel.load

    def load_watched(*values: Any) -> ServedModel:
        watched.wait(60)
        return load(*values)

    monkeypatch.setattr(ServedModel, "load", load_watched)

    async def go() -> None:
        settings = ServerSettings(models=(ModelSettings(source=str(bert), precision="bf16"),)).check()
        models = ModelRegistry(settings, begin_load(settings) if early else None)
        found: list[dict[str, Any]] = []

        async def watch() -> None:
            async for event in models.events.watch(60):
                found.append(event or {})

        watching = asyncio.create_task(watch())
        getting = asyncio.create_task(models.get())
        await until(lambda: found)
        watched.set()
        await getting
        await until(lambda: found[-1]["status"] == "loaded")
        watching.cancel()
        shares = [(event["stage"], event["percent"]) for event in found if "percent" in event]
        for stage in ("reading", "preparing"):
            own = [percent for name, percent in shares if name == stage]
            assert own == sorted(own)
            assert len(own) > 1
            assert own[-1] == 100
        assert [event["status"] for event in found] == ["loading"] * (len(found) - 1) + ["loaded"]
        await models.close()

    asyncio.run(go())
