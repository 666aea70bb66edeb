"""Texts from the outside, made fit for a database column."""


def clean(text: str, limit: int | None = None) -> str:
    """Without NUL (PostgreSQL refuses it) and lone surrogates (not UTF-8), and at most `limit` bytes of UTF-8."""
    if limit is None and text.isascii() and "\0" not in text:
        return text  # nearly all are: a sixth of the time
    raw = text.replace("\0", "").encode("utf-8", "replace")
    return raw[:limit].decode("utf-8", "ignore") if limit is not None else raw.decode("utf-8")
