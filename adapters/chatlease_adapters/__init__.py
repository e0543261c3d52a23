"""Adapters of chatlease, one package or module a service; importing this imports none of them."""
