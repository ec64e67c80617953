"""KeyBERT: key phrases by a sentence encoder and by a pipeline."""

import sys

from keybert import KeyBERT
from sentence_transformers import SentenceTransformer
from transformers import pipeline

models, work = sys.argv[1:3]
text = "Where does the river begin? It begins in the mountains of the north. Anna lives in Berlin and works for a bank."
answer = []
for model in (
    SentenceTransformer(f"{models}/bert", device="cpu"),
    pipeline("feature-extraction", model=f"{models}/bert"),
):
    words = KeyBERT(model).extract_keywords(text, keyphrase_ngram_range=(1, 2), use_mmr=True, diversity=0.5, top_n=4)
    answer.append([[word, float(score)] for word, score in words])
