"""Passwords in the addresses of stores, which no message, folder or report may hold."""

from __future__ import annotations

import re

__all__ = ["HIDDEN", "hide_password"]

HIDDEN = "***"


def hide_password(text: str) -> str:
    """`scheme://user:secret@host` and `?password=secret` with the secret taken out, wherever they
    stand in a text; a secret may hold `/`, `:` and `@`."""
    text = re.sub(r"(\w+://[^:/\s]*):\S+@", rf"\1:{HIDDEN}@", text)
    return re.sub(r"(?i)([?&]\w*(?:password|passwd|pwd|token)=)[^&\s]+", rf"\1{HIDDEN}", text)
