"""Groups of texts by their embeddings, each with its central text and its distinctive words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidInput, UnsupportedOption, nearest
from ..sentences.encoder import SentenceEncoder
from .duplicates import embed_rows
from .embedding import EmbeddingOptions
from .index import document_prompt, load_encoder
from .packages import import_package
from .rows import check_several
from .vectors import Vectors

METHODS = ("kmeans", "agglomerative", "hdbscan", "communities")
PAIRWISE = 20_000  # rows at most for methods that hold all pairs
SAMPLE = 5_000  # rows of which a silhouette is computed
CHOICES = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20)  # numbers of clusters that are tried
BLOCK = 1024
WORD = re.compile(r"[^\W\d_]{2,}")
HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")  # written without spaces: pairs of characters instead of words


@dataclass(frozen=True)
class Cluster:
    """Group of texts.

    Args:
        label: number, 0 for the largest cluster. rows: numbers of its rows, ascending. center: its most central row.
        words: that tell it from the other clusters, the most distinctive first.
    """

    label: int
    rows: list[int]
    center: int
    words: list[str]


@dataclass(frozen=True)
class Clusters:
    """Result of `cluster_texts`.

    Args:
        labels: of each row; -1 for a row in no cluster, None for a row without an embedding.
        clusters: the largest first. silhouette: mean silhouette by cosine distance of at most 5,000 rows
            (Rousseeuw, 1987), from -1 to 1; None for fewer than two clusters. errors: number of a row -> why it has no
            embedding.
    """

    labels: list[int | None]
    clusters: list[Cluster]
    silhouette: float | None
    errors: dict[int, Exception]


def cluster_texts(
    texts: Iterable[Any],
    encoder: SentenceEncoder | str,
    *,
    k: int | None = None,
    threshold: float | None = None,
    method: str | None = None,
    min_size: int = 5,
    words: int = 5,
    seed: int = 0,
    prompt: str | None = None,
    truncate_dim: int | None = None,
    truncation: bool = True,
) -> Clusters:
    """Group texts by the cosine of their embeddings.

    Args:
        encoder: or its name. k: number of clusters, for kmeans (the default method) and agglomerative. Without `k` and
            `threshold`, the number from 2 to 20 with the best silhouette.
        threshold: cosine to the center of a cluster, for communities (the default method with it), or between
            clusters, for agglomerative.
        method: kmeans, agglomerative, hdbscan or communities. min_size: of a cluster, for hdbscan and communities;
            rows outside of all have the label -1. words: distinctive words of a cluster. seed: of kmeans.
        prompt, truncate_dim, truncation: as `deduplicate` has them.

    Raises:
        InvalidInput: fewer texts with an embedding than clusters. UnsupportedOption: options that do not fit, or
            without the package scikit-learn.
    """
    check_several(texts)
    texts, encoder = list(texts), load_encoder(encoder)
    method = check_method(method, k, threshold, min_size)
    options = EmbeddingOptions(
        prompt=document_prompt(encoder, prompt), truncation=truncation, normalize=True, truncate_dim=truncate_dim
    )
    found = embed_rows(encoder, texts, range(len(texts)), options)
    if not found.rows:
        raise InvalidInput("There is no text with an embedding to group.")
    labels = by_size(cluster_vectors(found.vectors, method, k=k, threshold=threshold, min_size=min_size, seed=seed))
    own: list[int | None] = [None] * len(texts)
    for row, label in zip(found.rows, labels.tolist(), strict=True):
        own[row] = label
    described = describe_clusters(found.vectors, labels, found.rows, texts, words)
    return Clusters(own, described, silhouette(found.vectors, labels, seed), found.errors)


def check_method(method: str | None, k: int | None, threshold: float | None, min_size: int) -> str:
    """Return the method. Raises UnsupportedOption for options that do not fit it."""
    if method is None:
        method = "kmeans" if threshold is None else "communities"
    if method not in METHODS:
        raise UnsupportedOption(f"method {method!r} groups nothing here. {nearest(str(method), METHODS)}")
    if k is not None and (threshold is not None or method not in ("kmeans", "agglomerative")):
        raise UnsupportedOption(f"k is a number of clusters of kmeans and agglomerative; {method} finds its own.")
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise UnsupportedOption(f"k is a whole number from 1, not {k!r}.")
    if threshold is not None and (method in ("kmeans", "hdbscan") or not -1 <= threshold <= 1):
        raise UnsupportedOption(
            f"threshold is a cosine for communities and agglomerative, not {threshold!r} for {method}."
        )
    if threshold is None and method == "communities":
        raise UnsupportedOption("communities need a threshold, the cosine to the center of a cluster.")
    if min_size < 2:
        raise UnsupportedOption(f"min_size is a whole number from 2, not {min_size!r}.")
    return method


def cluster_vectors(
    vectors: Vectors, method: str, *, k: int | None, threshold: float | None, min_size: int, seed: int
) -> Vectors:
    """Return the label (rows,) of each vector of length 1; -1 for none."""
    if method == "communities":
        assert threshold is not None
        return communities(vectors, threshold, min_size)
    if k is not None and k > len(vectors):
        raise InvalidInput(f"{k} clusters need as many texts, and {len(vectors)} have an embedding.")
    if method == "kmeans":
        return kmeans(vectors, k, seed)
    if len(vectors) > PAIRWISE:
        raise UnsupportedOption(f"{method} compares all pairs, so it takes {PAIRWISE:,} rows at most. Use kmeans.")
    library = import_package("sklearn.cluster", "Clustering", "cluster")
    if method == "hdbscan":
        if len(vectors) < min_size:
            return np.full(len(vectors), -1)
        return np.asarray(library.HDBSCAN(min_cluster_size=min_size, copy=True).fit_predict(vectors))
    if len(vectors) < 2:
        return np.zeros(len(vectors), int)
    if k is None and threshold is None:
        return best_by_silhouette(vectors, lambda n: _agglomerative(library, vectors, n, None), seed)
    return _agglomerative(library, vectors, k, threshold)


def _agglomerative(library: Any, vectors: Vectors, k: int | None, threshold: float | None) -> Vectors:
    distance = None if threshold is None else 1 - threshold
    model = library.AgglomerativeClustering(k, metric="cosine", linkage="average", distance_threshold=distance)
    return np.asarray(model.fit_predict(vectors))


def kmeans(vectors: Vectors, k: int | None, seed: int) -> Vectors:
    """Return labels by k-means; without `k`, of the number of clusters with the best silhouette."""
    library = import_package("sklearn.cluster", "Clustering", "cluster")

    def labels(number: int) -> Vectors:
        own = library.KMeans if len(vectors) <= PAIRWISE else library.MiniBatchKMeans
        number = min(number, len(np.unique(vectors, axis=0)))  # equal rows are one point
        return np.asarray(own(number, n_init=4, random_state=seed).fit_predict(vectors))

    return labels(k) if k is not None else best_by_silhouette(vectors, labels, seed)


def best_by_silhouette(vectors: Vectors, labels: Any, seed: int) -> Vectors:
    """Return the labels of the number of clusters whose silhouette is best; one cluster for rows that are all equal."""
    best, score = np.zeros(len(vectors), int), -math.inf
    for number in (n for n in CHOICES if n < len(vectors)):
        own = labels(number)
        found = silhouette(vectors, own, seed)
        if found is not None and found > score:
            best, score = own, found
    return best


def silhouette(vectors: Vectors, labels: Vectors, seed: int) -> float | None:
    """Return the mean silhouette of the rows in clusters by cosine distance, or None if it has no meaning."""
    inside = np.flatnonzero(labels >= 0)
    if len(inside) > SAMPLE:
        inside = np.random.default_rng(seed).choice(inside, SAMPLE, replace=False)
    if not 2 <= len(np.unique(labels[inside])) < len(inside):
        return None
    metrics = import_package("sklearn.metrics", "The silhouette of clusters", "cluster")
    return float(metrics.silhouette_score(vectors[inside], labels[inside], metric="cosine"))


def communities(vectors: Vectors, threshold: float, min_size: int) -> Vectors:
    """Return labels by community detection, as sentence-transformers finds them (sbert.net, fast clustering).

    A community is a center with the rows whose cosine to it is `threshold` or more. The largest communities take their
    rows first, and one that is left with fewer than `min_size` rows is none. Memory is that of a block of rows.
    """
    counts = np.concatenate([(scores >= threshold).sum(1) for scores in _scores(vectors)] or [np.zeros(0, int)])
    labels = np.full(len(vectors), -1)
    number = 0
    for center in np.argsort(-counts, kind="stable"):
        if counts[center] < min_size:
            break
        if labels[center] >= 0:
            continue
        members = np.flatnonzero((vectors @ vectors[center] >= threshold) & (labels < 0))
        members = np.union1d(members, [center])
        if len(members) >= min_size:
            labels[members] = number
            number += 1
    return labels


def _scores(vectors: Vectors) -> Iterator[Vectors]:
    for begin in range(0, len(vectors), BLOCK):
        yield vectors[begin : begin + BLOCK] @ vectors.T


def by_size(labels: Vectors) -> Vectors:
    """Return labels in which 0 is the largest cluster; of equal ones that with the first row."""
    names, first, counts = np.unique(labels, return_index=True, return_counts=True)
    order = sorted((-count, place, name) for name, place, count in zip(names, first, counts, strict=True) if name >= 0)
    new = {name: number for number, (_, _, name) in enumerate(order)}
    return np.array([new.get(label, -1) for label in labels], int)


def describe_clusters(
    vectors: Vectors, labels: Vectors, rows: Sequence[int], texts: Sequence[str], words: int
) -> list[Cluster]:
    """Return the clusters with their central rows and distinctive words."""
    total = int(labels.max(initial=-1)) + 1
    counts = [Counter[str]() for _ in range(total)]
    for place, label in enumerate(labels):
        if label >= 0:
            counts[label].update(set(words_of(texts[rows[place]])))
    found = []
    for label in range(total):
        places = np.flatnonzero(labels == label)
        own = vectors[places]
        center = places[int(np.argmax(own @ own.mean(axis=0)))]
        found.append(
            Cluster(label, [rows[n] for n in places.tolist()], rows[center], distinctive_words(counts, label, words))
        )
    return found


def words_of(text: str) -> list[str]:
    """Return the words of a text in small letters; pairs of characters where words are not separated."""
    words = []
    for word in WORD.findall(text.casefold()):
        words += [word[n : n + 2] for n in range(len(word) - 1)] if HAN.search(word) else [word]
    return words


def distinctive_words(counts: Sequence[Counter[str]], label: int, most: int) -> list[str]:
    """Return the words whose log-odds in a cluster differ most from those in the others.

    Z-scores with the counts of all clusters as prior (Monroe et al., 2008, "Fightin' Words"), without a list of stop
    words. A single cluster has none.
    """
    if len(counts) < 2:
        return []
    every: Counter[str] = sum(counts, Counter())
    own, total = counts[label], sum(every.values())
    size, prior = sum(own.values()), 0.01 * total
    scores = {}
    for word, count in own.items():
        if count < 2 and size > 50:
            continue
        weight = 0.01 * every[word]
        inside = (count + weight) / max(size + prior - count - weight, 1e-9)
        outside = (every[word] - count + weight) / max(total - size + prior - every[word] + count - weight, 1e-9)
        deviation = math.sqrt(1 / (count + weight) + 1 / (every[word] - count + weight))
        scores[word] = (math.log(inside) - math.log(outside)) / deviation
    ranked = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
    return [word for word, score in ranked[:most] if score > 0]
