"""Interfaces of single forward passes: embeddings, reranking, labels, tokens."""

from __future__ import annotations

from .cohere import ROUTES as COHERE
from .decisions import ROUTES as DECISIONS
from .ollama import ROUTES as OLLAMA
from .openai import ROUTES as OPENAI
from .pooling import ROUTES as POOLING
from .rerank import ROUTES as RERANK
from .tei import ROUTES as TEI
from .tokens import ROUTES as TOKENS

ROUTES = [*OPENAI, *COHERE, *RERANK, *POOLING, *TOKENS, *TEI, *OLLAMA, *DECISIONS]
