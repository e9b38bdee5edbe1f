"""Passwords in the addresses of stores, which must stay out of messages, folders and reports."""

from __future__ import annotations

import re

__all__ = ["HIDDEN", "hide_password"]

HIDDEN = "***"


def hide_password(text: str) -> str:
    """Replace the secret in every `scheme://user:secret@host` and `?password=secret` of a text; a
    secret may contain `/`, `:` and `@`."""
    text = re.sub(r"(\w+://[^:/\s]*):\S+@", rf"\1:{HIDDEN}@", text)
    return re.sub(r"(?i)([?&]\w*(?:password|passwd|pwd|token)=)[^&\s]+", rf"\1{HIDDEN}", text)
