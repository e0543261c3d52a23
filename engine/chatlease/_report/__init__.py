"""A trace as one self-contained HTML page, for a browser without a network.

`read` reads trace files, in one pass, into a document, and `write` writes its page. What it shows comes from the model
of a trace (`chatlease._traces`) by way of that one JSON document (`_document.py`); the page itself is in ``page/``:
markup, style, and plain JavaScript.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ._document import Document, Sums
from ._kept import MOST, read
from ._page import page

__all__ = ["MOST", "Document", "Sums", "page", "read", "write"]


def write(destination: Path, document: Document) -> None:
    """
    Write the page of a document.

    Args:
        destination: The page; replaced as a whole when it exists, with mode 0600, as the traces have. Of a symbolic
            link, what it points to is replaced.
        document: What `read` made of trace files.

    Raises:
        OSError: The page cannot be written.
    """
    text = page(document)
    destination = Path(os.path.realpath(destination))
    handle, name = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(name).replace(destination)
    except BaseException:
        Path(name).unlink()
        raise
