"""The command line; see `_app`."""
