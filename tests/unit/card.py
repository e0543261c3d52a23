"""The path of a whole session, as the design card spells it."""

PATH = ["new", "cookies-ready", "chat-created", "prompt-sent", "assistant-queued", "streaming", "deleted"]
