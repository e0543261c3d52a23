"""The command line; `_app` puts it together.

Rules that live here:

* Nothing of it is imported by the engine, and it is the only place that imports typer and rich, which are an extra.
  Without the extra there is one line that says how to install it.
* Answers and what programs read go to stdout; states, notes and errors go to stderr.
* An error is one sentence, then what to do next. `_exits` has the exit codes.
"""

from __future__ import annotations

import importlib
import os
import sys

_EXTRA = frozenset({"typer", "rich"})
_NO_EXTRA = "chatlease: the command line needs the extra cli: pip install 'chatlease[cli]'\n"


def main() -> None:
    """Run the command line of this process; ends it with one of the documented exit codes."""
    try:
        application = importlib.import_module("chatlease._cli._app")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(_NO_EXTRA)
        sys.exit(2)
    _stand_in_for_closed_streams()
    application.run()


def _stand_in_for_closed_streams() -> None:
    # Where a stream was closed before the start (``>&-``), the interpreter has None.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  (till the end)
