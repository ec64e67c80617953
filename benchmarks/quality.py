"""How good the answers are: real data, every model that the package index carries, the reference on the same weights.

python benchmarks/quality.py --data FOLDER [--count N] [--reference N] [--only sst2 xquad scitldr multi30k]

FOLDER holds sst2, xquad, scitldr and multi30k. Scores are those of the field: accuracy; exact match and F1 by SQuAD's
rules (Rajpurkar et al., 2016); ROUGE (rouge-score); BLEU and chrF (sacrebleu). The reference reads the same prompts in
float32, the first `--reference` rows of each set, because it takes them one by one; ours is scored on them too.
"""

from __future__ import annotations

import argparse
import json
import re
import string
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from multihead import AutoModelForCausalLM, AutoTokenizer, pipeline
from multihead.pipelines.defaults import ENGLISH_PORTUGUESE, MINILM, PORTUGUESE_ENGLISH, SMOLLM2
from peers import machine

Scores = dict[str, float]
ROWS: list[tuple[str, str, str, int, Scores]] = []


def told(task: str, who: str, how: str, count: int, scores: Scores) -> None:
    ROWS.append((task, who, how, count, scores))
    shown = "  ".join(f"{name} {value:.1f}" for name, value in scores.items())
    print(f"{task:<28}{who:<34}{how:<20}{count:>6}  {shown}", flush=True)


class Reference:
    """The reference's model of the same weights, by way of a folder that both read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.folder = tempfile.mkdtemp()
        AutoModelForCausalLM.from_pretrained(SMOLLM2.name, dtype="float32").save_pretrained(self.folder)
        AutoTokenizer.from_pretrained(SMOLLM2.name).save_pretrained(self.folder)
        import transformers

        transformers.utils.logging.set_verbosity_error()
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(self.folder).eval()

    def written(self, pipe: Any, items: Sequence[Any]) -> list[Any]:
        """What our pipeline makes of what the reference's `generate` writes to the same prompts."""
        import torch

        o, found = pipe.given(), []
        config = pipe.settled(o)
        for item in items:
            accepted = pipe.accept(item, o)
            pieces = pipe.pieces([accepted], o)[0]
            texts = []
            for piece in pieces:
                ids = torch.tensor([list(piece.ids)])
                with torch.no_grad():
                    out = self.model.generate(
                        ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
                        eos_token_id=list(config.ends), max_new_tokens=config.max_new_tokens,
                    )  # fmt: skip
                texts.append([out[0, ids.shape[1] :].tolist()])
            found.append(pipe.finish(accepted, pieces, texts, o))
        return found

    def weighed(self, pipe: Any, texts: Sequence[str]) -> list[str]:
        """Labels by the reference's own scores of the same words after the same prompts."""
        import torch

        o = pipe.given()

        def scores(text: str) -> Any:
            with torch.no_grad():
                rows = []
                for piece in pipe.pieces([text], o)[0]:
                    logits = self.model(torch.tensor([list(piece.ids)])).logits[0].log_softmax(-1)
                    own = logits[list(piece.note.places), list(piece.note.tokens)]
                    rows.append(own.mean()[None] if piece.note.whole else own)
                return torch.cat(rows)

        blank, names = scores(pipe.neutral), list(pipe.labels)
        return [names[int((scores(text) - blank).argmax())] for text in texts]


def accuracy(found: Sequence[str], wanted: Sequence[str]) -> Scores:
    return {"accuracy": 100 * sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)}


def sst2(data: Path, count: int, other: Reference | None) -> None:
    rows = [line.split("\t") for line in (data / "sst2" / "dev.tsv").read_text().splitlines()[1:]][:count]
    texts, wanted = [text for _, text in rows], [label.upper() for label, _ in rows]
    for dtype in ("float32", None):
        pipe: Any = pipeline("sentiment-analysis", SMOLLM2.name, dtype=dtype)
        found = [answer["label"] for answer in pipe(texts)]
        told(
            "SST-2 dev, sentiment",
            "SmolLM2-135M, prompt",
            f"ours {pipe.precision}",
            len(texts),
            accuracy(found, wanted),
        )
        if other and dtype:
            part = other.count
            theirs = other.weighed(pipe, texts[:part])
            told("", "", "reference float32", part, accuracy(theirs, wanted[:part]))
            told("", "", "ours, those rows", part, accuracy(found[:part], wanted[:part]))
    vectors: Any = pipeline("zero-shot-classification", MINILM.name)
    labels = {"a negative review": "NEGATIVE", "a positive review": "POSITIVE"}
    answers = vectors(texts, list(labels), hypothesis_template="This is {}.")
    found = [labels[answer["labels"][0]] for answer in answers]
    told("", "MiniLM, vectors of labels", f"ours {vectors.precision}", len(texts), accuracy(found, wanted))


def normal(text: str) -> list[str]:
    """Words as SQuAD compares them."""
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def squad(found: Sequence[str], wanted: Sequence[Sequence[str]]) -> Scores:
    exact = f1 = 0.0
    for answer, golds in zip(found, wanted, strict=True):
        exact += max(normal(answer) == normal(gold) for gold in golds)
        f1 += max(overlap(normal(answer), normal(gold)) for gold in golds)
    return {"exact match": 100 * exact / len(found), "F1": 100 * f1 / len(found)}


def overlap(a: Sequence[str], b: Sequence[str]) -> float:
    same = sum((Counter(a) & Counter(b)).values())
    return 0.0 if not same else 2 * same / (len(a) + len(b))


def xquad(data: Path, count: int, other: Reference | None) -> None:
    articles = json.loads((data / "xquad" / "xquad.en.json").read_text())["data"]
    rows = [(q, p["context"]) for a in articles for p in a["paragraphs"] for q in p["qas"]][:count]
    items = [{"question": q["question"], "context": context} for q, context in rows]
    wanted = [[answer["text"] for answer in q["answers"]] for q, _ in rows]
    pipe: Any = pipeline("question-answering", SMOLLM2.name)
    found = [answer["answer"] for answer in pipe(items)]
    told("XQuAD en, answers", "SmolLM2-135M, prompt", f"ours {pipe.precision}", len(items), squad(found, wanted))
    if other:
        pipe = pipeline("question-answering", SMOLLM2.name, dtype="float32")
        part = other.count
        told(
            "",
            "",
            "reference float32",
            part,
            squad([a["answer"] for a in other.written(pipe, items[:part])], wanted[:part]),
        )
        told("", "", "ours float32", part, squad([a["answer"] for a in pipe(items[:part])], wanted[:part]))


def rouge(found: Sequence[str], wanted: Sequence[Sequence[str]]) -> Scores:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    best = [scorer.score_multi(list(golds), text) for text, golds in zip(found, wanted, strict=True)]
    return {f"ROUGE-{name[5:]}": 100 * sum(b[name].fmeasure for b in best) / len(best) for name in scorer.rouge_types}


def scitldr(data: Path, count: int, other: Reference | None) -> None:
    rows = [json.loads(line) for line in (data / "scitldr" / "dev.jsonl").read_text().splitlines()][:count]
    texts, wanted = [" ".join(row["source"]) for row in rows], [row["target"] for row in rows]
    pipe: Any = pipeline("summarization", SMOLLM2.name)
    found = [answer["summary_text"] for answer in pipe(texts)]
    told("SciTLDR dev, summaries", "SmolLM2-135M, prompt", f"ours {pipe.precision}", len(texts), rouge(found, wanted))
    told("", "first sentence", "baseline", len(texts), rouge([row["source"][0] for row in rows], wanted))
    if other:
        pipe = pipeline("summarization", SMOLLM2.name, dtype="float32")
        part = other.count
        theirs = [answer[0]["summary_text"] for answer in other.written(pipe, texts[:part])]
        told("", "", "reference float32", part, rouge(theirs, wanted[:part]))
        told("", "", "ours float32", part, rouge([a["summary_text"] for a in pipe(texts[:part])], wanted[:part]))


def bleu(found: Sequence[str], wanted: Sequence[str]) -> Scores:
    import sacrebleu

    return {
        "BLEU": sacrebleu.corpus_bleu(list(found), [list(wanted)]).score,
        "chrF": sacrebleu.corpus_chrf(list(found), [list(wanted)]).score,
    }


def multi30k(data: Path, count: int, other: Reference | None) -> None:
    """No model here writes German or French but the language model; the small translators go there and back."""
    sides = {
        s: (data / "multi30k" / f"test_2016_flickr.{s}").read_text().splitlines()[:count] for s in ("en", "de", "fr")
    }
    there: Any = pipeline("translation_en_to_pt", ENGLISH_PORTUGUESE.name)
    back: Any = pipeline("translation_pt_to_en", PORTUGUESE_ENGLISH.name)
    half = [answer["translation_text"] for answer in there(sides["en"])]
    found = [answer["translation_text"] for answer in back(half)]
    told("Multi30k 2016, translation", "Marian tiny11, en-pt-en", f"ours {there.precision}", len(found),
         bleu(found, sides["en"]))  # fmt: skip
    for side in ("fr", "de"):
        pipe: Any = pipeline(f"translation_en_to_{side}", SMOLLM2.name)
        found = [answer["translation_text"] for answer in pipe(sides["en"], max_new_tokens=64)]
        told("", f"SmolLM2-135M, prompt, en-{side}", f"ours {pipe.precision}", len(found), bleu(found, sides[side]))


SETS: dict[str, Callable[[Path, int, Reference | None], None]] = {
    "sst2": sst2, "xquad": xquad, "scitldr": scitldr, "multi30k": multi30k,
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--count", type=int, default=10_000, help="rows of each set at most")
    options.add_argument("--reference", type=int, default=0, help="rows that the reference answers too; 0 for none")
    options.add_argument("--only", nargs="*", choices=list(SETS), default=list(SETS))
    options.add_argument("--json", type=Path, help="write the scores here")
    chosen = options.parse_args()
    other = Reference(chosen.reference) if chosen.reference else None
    for name in chosen.only:
        began = time.perf_counter()
        SETS[name](chosen.data, chosen.count, other)
        print(f"  {name}: {time.perf_counter() - began:.0f} s")
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": machine(), "rows": ROWS}, indent=2) + "\n")


if __name__ == "__main__":
    main()
