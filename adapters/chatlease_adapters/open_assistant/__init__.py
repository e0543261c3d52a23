"""Open-Assistant: the adapter, where its logins come from, and (in `service`) a local service to try it on."""

from ._adapter import OpenAssistant
from ._cookies import CookieSource

__all__ = ["CookieSource", "OpenAssistant"]
