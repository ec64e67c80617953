"""/inspect: what the page shows of models: attention, facts, the machine."""

from __future__ import annotations

from .attention import ROUTES as ATTENTION
from .models import ROUTES as MODELS

ROUTES = [*ATTENTION, *MODELS]
