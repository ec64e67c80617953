"""Ollama's interface for text: /api/chat, /api/generate, and what models there are."""

from __future__ import annotations

from .generate import ROUTES as GENERATE
from .models import ROUTES as MODELS

ROUTES = [*GENERATE, *MODELS]
