"""Result of an evaluation as JSON, as a page and as a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..files import export_text
from .page import report_page
from .pictures import draw_report
from .records import EvaluationRecord


class Evaluation(EvaluationRecord):
    """Result of `evaluate`: its numbers, and reports of them."""

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the results as JSON, and write them to a file if one is named."""
        return export_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return a page that needs no network, and write it to a file if one is named."""
        return export_text(report_page(self), path)

    def to_png(self, path: str | os.PathLike[str]) -> None:
        """Draw metrics, reliability and confusion to a picture. Raises UnsupportedOption without matplotlib."""
        draw_report(self, Path(path))
