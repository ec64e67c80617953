"""Notices of pipelines in a response header, where the body of an interface has no place for them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..pipelines.answers import Metadata

HEADER = "X-Multihead-Notices"
MOST = 4096  # bytes of the header: many proxies take no more than 8 KB of headers


def notice_headers(metadata: Metadata) -> Mapping[str, str]:
    """Return the header with notices, a JSON list of {"input", "text"} in ASCII; no header without notices.

    What does not fit is counted: the last entry is {"more": N}.
    """
    if not metadata.notice_count:
        return {}
    rows: list[str] = []
    size = 2
    for notice in metadata.notices:
        row = json.dumps({"input": notice.number, "text": notice.text})
        size += len(row) + 2
        if size > MOST - 32:  # room for the count
            break
        rows.append(row)
    if len(rows) < metadata.notice_count:
        rows.append(json.dumps({"more": metadata.notice_count - len(rows)}))
    return {HEADER: f"[{', '.join(rows)}]"}
