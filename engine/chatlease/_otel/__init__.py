"""What `chatlease.otel` is made of: trace events become spans and metrics of OpenTelemetry.

Rules that live here:

* Everything comes from trace events alone, their times too: a span begins and ends when the engine's clock said so.
* Nothing is ever made the current span. What a hook does is not seen by the bot, and the bot's own spans never become
  children of ours.
* A key of an event becomes an attribute only where `_keys.ATTRIBUTES` names it, so that a new key is never sent
  anywhere by accident. No text of a prompt or an answer is in any event.
* What is held is bounded: so many open sessions, so many events of a sweep, so many names of models.
"""
