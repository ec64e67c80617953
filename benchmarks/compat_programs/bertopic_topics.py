"""BERTopic: topics of a few texts, named by a text-generation pipeline."""

import sys

from bertopic import BERTopic
from bertopic.representation import TextGeneration
from sentence_transformers import SentenceTransformer
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from transformers import pipeline

models, work = sys.argv[1:3]
texts = [
    "the film was a joy",
    "a dull plot",
    "the river begins in the north",
    "anna lives in berlin",
    "bake bread with salt",
] * 6
texts = [f"{text} {number}" for number, text in enumerate(texts)]
naming = TextGeneration(
    pipeline("text-generation", model=f"{models}/llama"),
    prompt="[KEYWORDS] are",
    pipeline_kwargs={"do_sample": False, "max_new_tokens": 4},
)
model = BERTopic(
    embedding_model=SentenceTransformer(f"{models}/bert", device="cpu"), umap_model=PCA(4, random_state=0),
    hdbscan_model=KMeans(3, random_state=0, n_init=3), representation_model=naming,
)  # fmt: skip
topics, _ = model.fit_transform(texts)
answer = {
    "topics": [int(one) for one in topics],
    "names": [[w for w, _ in model.get_topic(one)] for one in sorted(set(topics))],
}
