"""OpenAI's interface for text: chat completions, completions, responses."""

from __future__ import annotations

from .chat import ROUTES as CHAT
from .completions import ROUTES as COMPLETIONS
from .responses import ROUTES as RESPONSES
from .template import ROUTES as TEMPLATE

ROUTES = [*CHAT, *COMPLETIONS, *RESPONSES, *TEMPLATE]
