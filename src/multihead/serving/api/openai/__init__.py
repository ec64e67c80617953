"""OpenAI's interface for text: chat completions, completions, responses."""

from __future__ import annotations

from .chat import ROUTES as CHAT
from .completions import ROUTES as COMPLETIONS

ROUTES = [*CHAT, *COMPLETIONS]
