"""Libraries that are written over the reference, over it and over multihead: their quick-starts, with equal numbers.

    python -m benchmarks.compat                    # those that are installed
    python -m benchmarks.compat trl_sft lm_eval    # some programs
    python -m benchmarks.compat --venv FOLDER      # install the libraries into a virtual environment first

Each program of `compat_programs/` runs offline on tiny checkpoints, in two processes of its own: as it is, and by
`python -m multihead.alias`. It leaves `answer`: numbers and texts. The table says whether each ran, and whether the
answers are equal: numbers to `TOLERANCE`, all else exactly.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PROGRAMS = Path(__file__).parent / "compat_programs"
ROOT = Path(__file__).parent.parent
TOLERANCE = 1e-3  # of numbers, relative to those above 1
SECONDS = 600
PACKAGES = {  # program -> distributions, the first of which is the library
    "sentence_transformers_train": ("sentence-transformers", "datasets", "accelerate"),
    "sentence_transformers_cross": ("sentence-transformers", "datasets", "accelerate"),
    "trl_sft": ("trl", "peft"), "trl_dpo": ("trl",), "trl_reward": ("trl",),
    "lm_eval_scores": ("lm-eval",),
    "langchain_chain": ("langchain-huggingface",),
    "peft_adapters": ("peft",),
    "setfit_train": ("setfit",),
    "accelerate_loop": ("accelerate",),
    "evaluate_metrics": ("evaluate", "datasets"),
    "keybert_words": ("keybert",),
    "bertopic_topics": ("bertopic",),
    "llama_index_models": ("llama-index-embeddings-huggingface", "llama-index-llms-huggingface"),
    "haystack_rag": ("haystack-ai", "transformers-haystack"),
    "captum_path": ("captum",), "bertviz_views": ("bertviz",), "nnsight_trace": ("nnsight",),
    "transformer_lens_cache": ("transformer-lens",), "forward_hooks": ("torch",),
}  # fmt: skip


class Outcome(NamedTuple):
    """Answer of a program in a process, or the last line of its error."""

    answer: Any
    error: str | None


def run_here(program: str, models: str, work: str, out: str) -> None:
    """Run a program in this process and write its answer."""
    import runpy

    sys.path[0] = ""  # this folder has modules with names of other packages
    sys.argv = [program, models, work]
    answer = runpy.run_path(program, run_name="__main__")["answer"]
    Path(out).write_text(json.dumps(answer, default=str), encoding="utf-8")


def run_apart(python: str, words: Sequence[str], program: Path, models: Path, work: Path) -> Outcome:
    """Run a program in a process of its own, offline."""
    work.mkdir(parents=True)
    out = work / "answer.json"
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_DISABLED": "true",
        "HF_HOME": str(work / "cache"), "TRANSFORMERS_VERBOSITY": "error", "TRL_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    arguments = ["--run", str(program), str(models), str(work / "files"), str(out)]
    try:
        done = subprocess.run(
            [python, *words, str(Path(__file__).resolve()), *arguments], capture_output=True, text=True, check=False,
            env=environment, timeout=SECONDS, cwd=work,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(None, f"no answer after {SECONDS} s")
    (work / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode or not out.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no answer"]
        return Outcome(None, lines[-1][:300])
    return Outcome(json.loads(out.read_text(encoding="utf-8")), None)


def difference(found: Any, expected: Any, path: str = "answer") -> str | None:
    """Return where two answers differ and how; None if they are equal."""
    if isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        pairs = [(f"{path}.{name}", found[name], expected[name]) for name in expected]
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        pairs = [(f"{path}[{n}]", one, other) for n, (one, other) in enumerate(zip(found, expected, strict=True))]
    elif isinstance(expected, float) and isinstance(found, (int, float)):
        near = math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        both = math.isnan(found) and math.isnan(expected)
        return None if near or both else f"{path}: {found:.6g}, not {expected:.6g}"
    else:
        return None if found == expected else f"{path}: {str(found)[:80]}, not {str(expected)[:80]}"
    return next((text for name, one, other in pairs if (text := difference(one, other, name))), None)


def version(python: str, package: str) -> str | None:
    """Return the installed version of a package for an interpreter."""
    if python == sys.executable:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def install(folder: Path, names: Sequence[str]) -> str:
    """Make a virtual environment with the libraries, beside this interpreter's packages; returns its interpreter."""
    venv.create(folder, with_pip=True, system_site_packages=False)
    python = next(folder.glob("*/python*"))
    inner = next(folder.glob("lib/python*/site-packages"))
    (inner / "base.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    for name in names:
        for package in PACKAGES[name]:
            words = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), package]
            subprocess.run(words, check=False)
    return str(python)


def compare(python: str, name: str, models: Path, work: Path) -> tuple[str, str, str, str, str]:
    """Run a program twice, and return its row of the table."""
    versions = {package: version(python, package) for package in PACKAGES[name]}
    library = PACKAGES[name][0]
    if missing := [package for package, found in versions.items() if found is None]:
        return name, library, "–", "–", f"left out: {', '.join(missing)} is not installed"
    program = PROGRAMS / f"{name}.py"
    expected = run_apart(python, [], program, models, work / name / "reference")
    found = run_apart(python, ["-m", "multihead.alias"], program, models, work / name / "multihead")
    note = found.error or ""
    if expected.error is None and found.error is None:
        note = difference(found.answer, expected.answer) or ""
    if expected.error is not None:
        note = f"reference: {expected.error}" + (f"; multihead: {found.error}" if found.error else "")
    passed = "yes" if found.error is None and not (note and expected.error is None) else "no"
    return name, f"{library} {versions[library]}", "no" if expected.error else "yes", passed, note


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", default=list(PACKAGES), help="names of programs")
    parser.add_argument("--venv", type=Path, help="install the libraries into this folder first")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the libraries")
    parser.add_argument("--work", type=Path, help="keep answers and logs in this folder")
    options = parser.parse_args()
    python = install(options.venv, options.programs) if options.venv else options.python
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        models = work / "models"
        if not models.is_dir():
            subprocess.run([sys.executable, "-m", "tests.compat.tiny_models", str(models)], check=True, cwd=ROOT)
        print("| program | library | reference | multihead | difference |\n|---|---|---|---|---|")
        for name in options.programs:
            print(f"| {' | '.join(compare(python, name, models, work))} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run_here(*sys.argv[2:6])
    else:
        main()
