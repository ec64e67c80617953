"""Tables and plots of measured results, written into docs/performance.md between their marks.

python benchmarks/report.py benchmarks/results/*.json [--page docs/performance.md] [--pictures docs/pictures]

Results are what `encoders.py --json`, `generate.py --json` and `multihead bench --json` write. A part of the page
between `<!-- NAME -->` and `<!-- end -->` is replaced; NAME is encoders, minilm, decoder or translation. Needs
matplotlib.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from multihead.cli.bench import command as bench
from multihead.cli.bench.command import rounded

FIXED = re.compile(r"BERT base, (\d+) x (\d+) tokens")
OURS, MARIAN = "multihead", "Marian's base size"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def made_on(machine: Mapping[str, Any], more: Mapping[str, Any]) -> str:
    """Where and with what, in a sentence."""
    names = {name: value for name, value in {**machine, **more}.items() if name not in ("cpu", "cores", "python")}
    versions = ", ".join(f"{name} {value}" for name, value in names.items() if name not in ("title", "threads"))
    return f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {versions}."


def encoders(results: Sequence[Mapping[str, Any]]) -> str:
    """BERT of fixed lengths: a row a peer, a column a shape."""
    found = {m.groups(): r for r in results if (m := FIXED.fullmatch(r["title"]))}
    shapes = [shape for shape in found if shape in {("1", "16"), ("1", "128"), ("32", "128")}]
    last = found[shapes[-1]]
    peers = sorted(last["peers"], key=lambda name: -last["peers"][name]["median"])
    natural = next((r for r in results if r["title"].endswith("natural lengths")), None)
    columns = [*(found[shape] for shape in shapes), *([natural] if natural else [])]
    rows = []
    for peer in peers:
        cells = [encoder_cell(column["peers"].get(peer)) for column in columns]
        share = last["peers"][peer]["share"]
        rows.append([peer, *cells, "" if share is None else f"{share:.0%}"])
    shown = [f"{rows} x {length}" for rows, length in shapes]
    shown += [natural["title"].removeprefix("BERT base, ")] if natural else []
    head = ["sequences a second", *shown, "of the roofline, 32 x 128"]
    reached = ", ".join(
        f"{name} {last['roofline'][name] / 1e9:.0f}" for name in ("fp32", "bf16", "int8") if name in last["roofline"]
    )
    limits = f"The roofline: torch's own product reached {reached} GFLOP/s in the same turns; memory was read at "
    return f"{table(head, rows)}\n\n{limits}{last['roofline']['bytes'] / 1e9:.0f} GB/s."


def encoder_cell(cell: Mapping[str, Any] | None) -> str:
    """Speed, beside it the ratio to the base and the largest difference of a score."""
    if cell is None:
        return ""
    ratio = "" if cell["ratio"] is None else f"{cell['ratio']:.2f}"
    apart = "" if not cell["difference"] else f"; {cell['difference']:.1g}"
    return f"{rounded(cell['median'])} ({ratio}{apart})"


def minilm(results: Sequence[Mapping[str, Any]]) -> str:
    result = next(r for r in results if r["title"].startswith("MiniLM"))
    peers = result["peers"]
    base = peers["sentence-transformers bf16"]["median"]
    order = sorted(peers, key=lambda name: -peers[name]["median"])
    rows = [[name, rounded(peers[name]["median"]), f"{peers[name]['median'] / base:.2f}"] for name in order]
    return table(["texts a second", "", "to sentence-transformers bf16"], rows)


def generated(results: Sequence[Mapping[str, Any]], family: str, base: str) -> str:
    """A row a case, a column a peer."""
    found = [r for r in results if r["title"].startswith(family) and base in r["median"]]
    names = list(dict.fromkeys(name for r in found for name in r["median"]))
    rows = []
    for result in found:
        best = max(result["median"], key=result["median"].__getitem__)
        cells = []
        for name in names:
            value = result["median"].get(name)
            told = "" if value is None else f"{rounded(value)} ({value / result['median'][base]:.2f})"
            cells.append(f"**{told}**" if name == best else told)
        rows.append([f"{result['title'].removeprefix(family).strip(', ')} ({result['counted']})", *cells])
    return table(["", *names], rows)


def growth(results: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """How peers' cost grows with the length of one text, and with texts of 128 tokens; whether there was enough."""
    found = {tuple(map(int, m.groups())): r for r in results if (m := FIXED.fullmatch(r["title"]))}
    panels = {
        ("tokens of one text", "ms a text"): sorted((n, r, 1) for (rows, n), r in found.items() if rows == 1),
        ("texts of 128 tokens", "ms a text"): sorted((rows, r, rows) for (rows, n), r in found.items() if n == 128),
    }
    if any(len(points) < 3 for points in panels.values()):
        return False
    page = Figure(figsize=(11.5, 4.2), layout="constrained")
    axes = page.subplots(1, 2)
    names = list(dict.fromkeys(name for r in found.values() for name in r["peers"]))
    for panel, ((across, up), points) in zip(axes, panels.items(), strict=True):
        for colour, name in enumerate(names):
            there = [(x, 1000 / r["peers"][name]["median"]) for x, r, _ in points if name in r["peers"]]
            style = "o-" if name.startswith(OURS) else "s--"
            panel.plot(*zip(*there, strict=True), style, color=f"C{colour}", ms=4, lw=1.4, label=name)
        bench.set_axes(panel, [x for x, _, _ in points], across, up)
    axes[0].set_title("BERT base: time for each text", loc="left", fontsize=10)
    page.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    page.savefig(path)
    return True


def replaced(page: str, name: str, text: str) -> str:
    """The page with the part of a name replaced. Raises SystemExit where there is no such part."""
    marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"The page has no part <!-- {name} --> ... <!-- end -->.")
    return marked.sub(lambda match: f"{match[1]}\n{text}\n{match[2]}", page, count=1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("--page", type=Path, default=Path("docs/performance.md"))
    options.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    chosen = options.parse_args()
    page = chosen.page.read_text(encoding="utf-8")
    for path in chosen.files:
        told = json.loads(path.read_text(encoding="utf-8"))
        if "models" in told:
            bench.draw(told["models"], chosen.pictures / "cost.svg")
            continue
        results = told["results"]
        titles = [r["title"] for r in results]
        more = next((r for r in results if r["title"] == "Versions"), {})
        on = made_on(told["machine"], more)
        if sum(bool(FIXED.fullmatch(title)) for title in titles) >= 3:
            if growth(results, chosen.pictures / "encoders.svg"):
                print(f"{path}: drawn to {chosen.pictures / 'encoders.svg'}")
            page = replaced(page, "encoders", f"{on}\n\n{encoders(results)}")
        if any(title.startswith("MiniLM") for title in titles):
            page = replaced(page, "minilm", f"{on}\n\n{minilm(results)}")
        if any(title.startswith("SmolLM2") for title in titles):
            page = replaced(page, "decoder", f"{on}\n\n{generated(results, 'SmolLM2', 'reference-alone float32')}")
        if any(title.startswith("Marian") for title in titles):
            page = replaced(page, "translation", f"{on}\n\n{generated(results, MARIAN, 'ctranslate2 int8')}")
    chosen.page.write_text(page, encoding="utf-8")
    print(f"{chosen.page}: written")


if __name__ == "__main__":
    main()
