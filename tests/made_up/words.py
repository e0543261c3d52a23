"""What a made-up service may call things; ``{chat}``, ``{prompt}``, ``{run}`` are its own nouns."""

from __future__ import annotations

from collections.abc import Mapping

STARTS = ("Vel", "Oru", "Kand", "Thes", "Mir", "Zoph", "Brun", "Quil", "Esk", "Lum", "Tar", "Wyn")
ENDS = ("trano", "bex", "ivo", "ora", "dal", "mere", "quist", "lane", "ux", "ander", "ifer", "oko")

CHATS = ("conversation", "dialogue", "desk", "salon", "talk", "parlour", "booth", "visit", "journal", "channel")
PROMPTS = ("question", "utterance", "note", "line", "entry", "request", "inquiry", "remark")
RUNS = ("reply", "generation", "job", "completion", "task", "response", "performance", "draft")
MODELS = ("model", "voice", "brain", "persona", "assistant", "author", "oracle")
PREFIXES = ("", "/api", "/v2", "/api/v1", "/public/rest", "/x")

FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "handle", "ref", "uid", "key"),
    "chat": ("{chat}_id", "{chat}", "{chat}_ref", "in_{chat}"),
    "prompt": ("{prompt}_id", "{prompt}", "{prompt}_ref", "to_{prompt}"),
    "run": ("{run}_id", "{run}", "{run}_ref", "of_{run}"),
    "parent": ("follows", "previous_{run}", "in_reply_to", "after_{run}"),
    "text": ("content", "text", "body", "words", "wording"),
    "answer": ("output", "result_text", "answer", "full_text", "written"),
    "model": ("{model}", "{model}_name", "using", "by_{model}"),
    "state": ("state", "status", "phase", "stage", "progress"),
    "why": ("reason", "failure", "because", "end_reason"),
    "key": ("external_id", "client_tag", "correlation_key", "your_reference"),
    "label": ("label", "client_{prompt}", "nonce", "your_{prompt}_id"),
    "count": ("{prompt}_count", "length", "number_of_{prompt}s", "size"),
    "created": ("created_at", "opened", "born", "since", "start_time"),
    "position": ("place", "position", "rank", "slot"),
    "size": ("waiting_in_all", "queue_length", "line_length", "total"),
    "piece": ("piece", "delta", "fragment", "more"),
    "sofar": ("so_far", "text_until_now", "grown_text", "partial"),
    "code": ("code", "slug", "kind_of_error", "error_name", "symbol"),
    "said": ("message", "description", "explanation", "human", "info"),
    "next": ("next", "next_cursor", "more_after", "continuation"),
    "cursor": ("cursor", "after", "continue_from", "page_token"),
    "page": ("page", "page_number", "sheet"),
    "offset": ("offset", "skip", "start_at"),
    "type": ("type", "kind", "event", "what", "is"),
    "note": ("cost", "region", "trace_code", "shard", "quality"),
    "owner": ("owner", "account_label", "tenant", "workspace"),
    "temperature": ("temperature", "heat", "randomness", "creativity"),
    "top_p": ("top_p", "nucleus", "probability_mass"),
    "max_new_tokens": ("max_tokens", "length_limit", "longest"),
    "system_prompt": ("instructions", "persona_text", "house_rules"),
}

EVENTS: Mapping[str, tuple[str, ...]] = {
    "wait": ("queued", "in_line", "waiting", "hold_on"),
    "token": ("piece", "delta", "chunk", "growth"),
    "note": ("meta", "usage", "telemetry", "footnote"),
    "ping": ("ping", "heartbeat", "still_here"),
    "final": ("complete", "whole", "result", "finished_text"),
    "end": ("end", "done", "bye", "closed"),
    "failed": ("error", "failure", "abort", "broken"),
}

STATES: Mapping[str, tuple[str, ...]] = {
    "pending": ("queued", "waiting", "scheduled", "accepted", "in_line"),
    "going": ("running", "writing", "active", "in_progress", "speaking"),
    "answered": ("done", "complete", "succeeded", "finished", "ready"),
    "failed": ("failed", "error", "broken", "crashed"),
    "cancelled": ("cancelled", "stopped", "halted", "aborted"),
}

VERBS: Mapping[str, tuple[str, ...]] = {
    "create_chat": ("create", "open", "begin", "new"),
    "send_prompt": ("add", "say", "post", "write"),
    "queue_assistant": ("start", "request", "order", "launch"),
    "open_stream": ("stream", "events", "listen", "follow", "feed"),
    "read_run": ("get", "show", "inspect", "fetch"),
    "read_text": ("text", "output", "document"),
    "list_runs": ("list", "all", "index"),
    "stop_run": ("cancel", "halt", "stop", "interrupt"),
    "delete_chat": ("delete", "remove", "close", "drop"),
    "list_chats": ("list", "search", "index"),
    "models": ("list", "all", "index"),
}

FAILURES: Mapping[str, tuple[str, ...]] = {
    "login": ("not_logged_in", "bad_credentials", "unauthorized", "who_are_you"),
    "no_chat": ("{chat}_not_found", "unknown_{chat}", "no_such_{chat}"),
    "no_prompt": ("{prompt}_not_found", "unknown_{prompt}", "no_such_{prompt}"),
    "no_run": ("{run}_not_found", "unknown_{run}", "no_such_{run}"),
    "no_model": ("{model}_not_found", "unknown_{model}", "no_such_{model}"),
    "no_route": ("endpoint_not_found", "no_route", "unknown_method"),
    "invalid": ("invalid_request", "validation_failed", "malformed"),
    "busy": ("{chat}_busy", "{run}_in_progress", "one_at_a_time"),
    "over": ("{run}_is_over", "already_finished", "nothing_to_do"),
    "exists": ("already_exists", "{chat}_exists", "duplicate"),
    "broken": ("internal", "our_fault", "unexpected"),
}


def plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def cased(name: str, casing: str) -> str:
    """Write ``snake_case`` words in another way."""
    first, *others = name.split("_")
    joined = {
        "snake": name,
        "kebab": name.replace("_", "-"),
        "camel": first + "".join(each.capitalize() for each in others),
        "pascal": "".join(each.capitalize() for each in (first, *others)),
        "shouting": name.upper(),
    }
    return joined[casing]


def a(noun: str) -> str:
    """Put the article before a noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
