"""Pipelines by task: classes, masks, entities, questions, texts, features."""

from transformers import pipeline

classify = pipeline("text-classification", model=f"{models}/classifier", dtype="auto")
fill = pipeline("fill-mask", model=f"{models}/bert", dtype="auto")
tag = pipeline("ner", model=f"{models}/tagger", dtype="auto", aggregation_strategy="simple")
generate = pipeline("text-generation", model=f"{models}/gpt2", dtype="auto")
features = pipeline("feature-extraction", model=f"{models}/bert", dtype="auto")
answer = {
    "classes": classify(["The film was a joy.", "A dull plot."]),
    "every": classify("A dull plot.", top_k=None),
    "masks": [(one["token_str"], one["score"]) for one in fill("The film was [MASK].", top_k=2)],
    "entities": [(one["entity_group"], one["start"], one["end"]) for one in tag("Anna lives in Berlin.")],
    "texts": generate("The film", max_new_tokens=4, do_sample=False)[0]["generated_text"],
    "widths": [len(row) for row in features("A dull plot.")[0]],
}
