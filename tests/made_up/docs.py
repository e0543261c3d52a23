"""The documentation of a made-up service, as its vendor would write it: all that an adapter's author gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from .bodies import Scribe
from .examples import Examples
from .frames import Framer
from .operations import Operation, operations
from .plan import Plan
from .problems import problem, status_of
from .refused import Refused
from .server import run_header
from .words import a, plural


def documentation(plan: Plan) -> str:
    """Return the page, as Markdown."""
    return "\n".join(line for part in _Page(plan).parts() for line in part) + "\n"


class _Page:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.scribe = Scribe(plan)
        self.examples = Examples(plan)
        self.calls = operations(plan)
        self.chat, self.prompt, self.run = plan.nouns.chat, plan.nouns.prompt, plan.nouns.run

    def parts(self) -> Iterator[Iterator[str]]:
        yield self._intro()
        yield self._login()
        yield self._bodies()
        for operation in self.calls.values():
            yield self._call(operation)
        yield self._states()
        yield self._stream()
        yield self._options()
        yield self._good_to_know()
        yield self._errors()

    def _title(self, words: str) -> Iterator[str]:
        yield ""
        yield f"## {words}"
        yield ""

    def _intro(self) -> Iterator[str]:
        plan = self.plan
        yield f"# The {plan.vendor} API"
        yield ""
        prompt, model = a(self.prompt).capitalize(), a(plan.nouns.model)
        yield f"{plan.vendor} keeps {plural(self.chat)}. {prompt} is something that you say in {a(self.chat)};"
        yield f"{a(self.run)} is what {plan.vendor} writes about it, by {model}. Paths are relative to the address of"
        yield "your server, `http://HOST:PORT`."

    def _login(self) -> Iterator[str]:
        yield from self._title("Authentication")
        yield "Every call carries your key:"
        yield ""
        yield f"    {self.examples.login()}"
        yield ""
        yield "You see only what your own key made. A key that we do not know is refused"
        yield f"(`{self.plan.codes['login']}`)."

    def _bodies(self) -> Iterator[str]:
        yield from self._title("Requests and replies")
        asking = {
            "json": "The body of a request is a JSON object (`application/json`).",
            "wrapped": "The body of a request is a JSON object with one key, which names what it is about.",
            "form": "The body of a request is a form (`application/x-www-form-urlencoded`).",
        }
        yield asking[self.plan.looks.asking]
        yield "Fields that are not documented are refused, and so are values of another type. What may be left out is"
        yield "left out, not sent as null. Replies are JSON, and may have more fields than are named here; ignore them."
        if self.plan.looks.envelope == "pairs":
            yield "An object in a reply is written as a list of pairs of name and value, because order matters to us."
        if self.plan.looks.ids == "number":
            where = "in replies" if self.plan.looks.asking == "form" else "in replies and in bodies of requests"
            chosen = ", but for those that you choose" if self.plan.manners.key == "id" else ""
            yield f"Ids are JSON numbers, {where}{chosen}."
        if self.plan.looks.ids == "slug":
            yield "Ids are text with any characters; in a path or a query they are percent-encoded as a whole."

    # ---------------------------------------------------------------------------------------------------------- calls

    def _call(self, operation: Operation) -> Iterator[str]:
        yield from self._title(self._heading(operation))
        yield self._what(operation)
        yield ""
        yield from self._fields(operation)
        yield "```http"
        yield self.examples.request(operation)
        yield "```"
        yield ""
        yield "```http"
        yield self.examples.reply(operation).rstrip()
        yield "```"

    def _heading(self, operation: Operation) -> str:
        chat, prompt, run = self.chat, self.prompt, self.run
        return {
            "create_chat": f"Create {a(chat)}",
            "send_prompt": f"Add {a(prompt)}",
            "queue_assistant": f"Ask for {a(run)}",
            "open_stream": f"Watch {a(run)} being written",
            "read_run": f"Look at {a(run)}",
            "read_text": f"Get the text of {a(run)}",
            "list_runs": f"List the {plural(run)} of {a(chat)}",
            "stop_run": f"Stop {a(run)}",
            "delete_chat": f"Delete {a(chat)}",
            "list_chats": f"List your {plural(chat)}",
            "models": f"List the {plural(self.plan.nouns.model)}",
        }[operation.step]

    def _what(self, operation: Operation) -> str:
        path = operation.path.replace("{chat}", f"{{{self.chat} id}}").replace("{run}", f"{{{self.run} id}}")
        words = f"`{operation.method} {path}`. {' '.join(self._said(operation))}"
        return words.rstrip()

    def _said(self, operation: Operation) -> Iterator[str]:
        order = "newest" if self.plan.manners.newest_first else "oldest"
        said: Mapping[str, Callable[[], Iterable[str]]] = {
            "create_chat": self._said_of_creation,
            "send_prompt": lambda: ["Nothing is written about it before you ask for that."],
            "queue_assistant": self._said_of_queueing,
            "open_stream": self._said_of_streams,
            "read_text": lambda: [f"The reply is plain text (UTF-8). Only for {a(self.run)} that went well."],
            "list_runs": lambda: [f"All of them, the {order} first."],
            "stop_run": self._said_of_stopping,
            "delete_chat": self._said_of_deletion,
            "list_chats": self._said_of_listing,
        }
        yield from said.get(operation.step, list[str])()

    def _said_of_queueing(self) -> Iterator[str]:
        if not self.plan.manners.streams_at_once:
            yield f"The {self.run} is begun in the background, and goes on whether you watch it or not."
            return
        yield f"The reply is the stream (see below); the id of the {self.run} is in the header"
        yield f"`{run_header(self.plan)}`, percent-encoded. The {self.run} goes on when you leave."

    def _said_of_creation(self) -> Iterator[str]:
        if self.plan.manners.key == "id":
            taken = self.plan.codes["exists"]
            yield f"You choose the id of {a(self.chat)}: any UUID that is not taken (else `{taken}`)."
        if self.plan.manners.key == "field":
            yield f"`{self.scribe.name('key')}` is yours, is kept with the {self.chat}, and is shown in the list."

    def _said_of_streams(self) -> Iterator[str]:
        if self.plan.manners.finished_stream == "refused":
            yield f"{a(self.run).capitalize()} that is over is refused (`{self.plan.codes['over']}`)."
        else:
            yield f"The stream of {a(self.run)} that is over gives it all once more."

    def _said_of_stopping(self) -> Iterator[str]:
        if self.plan.manners.stop == "chat":
            yield f"Stops whatever is being written in the {self.chat}; no error if there is nothing."
        else:
            yield f"{a(self.run).capitalize()} that is over is refused (`{self.plan.codes['over']}`)."
        yield "What was stopped never has a text."

    def _said_of_deletion(self) -> Iterator[str]:
        plan = self.plan
        yield f"The {self.chat} and all that is in it are gone for good."
        if plan.manners.second_delete_gone:
            yield f"One that does not exist is refused (`{plan.codes['no_chat']}`)."
        else:
            yield "Deleting one that does not exist succeeds as well."
        yield {
            "safe": f"{a(self.run).capitalize()} that is being written is stopped.",
            "harmful": f"{a(self.run).capitalize()} being written goes on, is billed, and cannot be stopped any more.",
            "refused": f"Refused while {a(self.run)} is being written (`{plan.codes['busy']}`).",
        }[plan.manners.deletion]

    def _said_of_listing(self) -> Iterator[str]:
        plan, name = self.plan, self.scribe.name
        yield "The newest first."
        size = plan.manners.page_size
        match plan.manners.paging:
            case "cursor":
                yield f"At most {size} at a time; `{name('next')}` is the `{name('cursor')}` that continues, null at"
                yield "the end."
            case "link":
                yield f'At most {size} at a time; a header `Link: <PATH?QUERY>; rel="next"` leads on where there is'
                yield "more."
            case "page":
                yield f"In pages of {size}: `{name('page')}` counts from 1, and a page that is not full is the last."
            case "offset":
                yield f"At most {size} at a time, from `{name('offset')}` on (0 if left out); fewer mean the end."
            case _:
                yield "All of them at once."
        if plan.manners.shows_count:
            yield f"`{name('count')}` says how many {plural(self.prompt)} it holds."
        if plan.looks.moment != "none":
            yield f"`{name('created')}` is {self._moment()}."

    def _moment(self) -> str:
        return {
            "iso": "the time of its creation, as ISO 8601",
            "naive": "the time of its creation, as ISO 8601 in UTC, without a mark of the zone",
            "seconds": "the time of its creation, in seconds since 1970 (UTC)",
            "millis": "the time of its creation, in milliseconds since 1970 (UTC)",
            "none": "",
        }[self.plan.looks.moment]

    def _fields(self, operation: Operation) -> Iterator[str]:
        rows = [(each, "yes") for each in operation.body]
        rows += [(each, "no") for each in operation.optional]
        rows += [(each, "in the query" if each == "chat" else "in the query, no") for each in operation.query]
        if not rows:
            return
        yield "| field | needed | what it is |"
        yield "| --- | --- | --- |"
        for meaning, needed in rows:
            yield f"| `{self.scribe.name(meaning)}` | {needed} | {self._meaning(operation, meaning)} |"
        yield ""

    def _meaning(self, operation: Operation, meaning: str) -> str:
        chat, prompt, run = self.chat, self.prompt, self.run
        return {
            "chat": f"the id of the {chat}" + (", chosen by you" if operation.step == "create_chat" else ""),
            "prompt": f"the id of the {prompt}",
            "run": f"the id of the {run}",
            "parent": f"the id of the {run} before this {prompt}; has to be named where there is one, else left out",
            "text": f"what the {prompt} says",
            "label": f"any text of yours, at most 100 characters; shown with the {run}",
            "key": "any text of yours, at most 100 characters",
            "model": f"the {self.plan.nouns.model}, by its id; `{self.plan.models[0]}` if left out",
            "temperature": "a number from 0 to 2",
            "top_p": "a number from 0 to 1",
            "max_new_tokens": "a whole number from 1 to 4096",
            "system_prompt": "text: how to write",
            "cursor": "where the list goes on",
            "page": "a whole number, from 1",
            "offset": "a whole number, from 0",
        }[meaning]

    # ----------------------------------------------------------------------------------------------------- the others

    def _states(self) -> Iterator[str]:
        words = {
            "pending": "waits for its turn",
            "going": "is being written",
            "answered": "is written; its text is there",
            "failed": "was given up by us",
            "cancelled": "was stopped",
        }
        yield from self._title(f"The states of {a(self.run)}")
        yield f"| `{self.scribe.name('state')}` | the {self.run} |"
        yield "| --- | --- |"
        for state, meaning in words.items():
            yield f"| {', '.join(f'`{each}`' for each in self.plan.states[state])} | {meaning} |"
        yield ""
        why = f"`{self.scribe.name('why')}` says why it was given up, and is null otherwise."
        text = f"`{self.scribe.name('answer')}` is its text, null until it is written. "
        yield why if self.plan.manners.text_apart else text + why

    def _stream(self) -> Iterator[str]:
        looks, name, events = self.plan.looks, self.scribe.name, self.plan.events
        yield from self._title("The stream")
        yield {
            "sse-event": "Server-sent events; the name of the event says what it is, and the data is a JSON object.",
            "sse-type": "Server-sent events without names; the data is a JSON object, whose "
            f"`{name('type')}` says what it is.",
            "sse-done": "Server-sent events without names; the data is a JSON object with one key, which says what it "
            "is. The last data of a good stream is the text `[DONE]`.",
            "ndjson-type": f"One JSON object a line (`application/x-ndjson`); its `{name('type')}` says what it is.",
            "ndjson-key": "One JSON object a line (`application/x-ndjson`), with one key, which says what it is.",
        }[looks.wire]
        kept = "Empty lines and comments" if looks.wire.startswith("sse") else "Empty lines"
        yield f"{kept} keep the connection open. Other kinds than these may come; ignore them."
        yield ""
        yield "| kind | what it says |"
        yield "| --- | --- |"
        if looks.waits == "places":
            first = "the first is 1" if looks.first_place else "0 is the next to be written"
            yield f"| `{events['wait']}` | it waits: `{name('position')}` ({first}) of `{name('size')}` |"
        elif looks.waits == "plain":
            yield f"| `{events['wait']}` | it waits |"
        if looks.cumulative:
            yield f"| `{events['token']}` | `{name('sofar')}` is the whole text until now |"
        else:
            yield f"| `{events['token']}` | `{name('piece')}` is the next piece of the text |"
        if looks.ends_with == "final":
            yield f"| `{events['final']}` | the end: `{name('answer')}` is the whole text |"
        elif looks.ends_with == "end" and looks.wire != "sse-done":
            yield f"| `{events['end']}` | the end |"
        yield f"| `{events['failed']}` | it was given up: `{name('code')}`, and `{name('said')}` for people; the end |"
        yield ""
        yield from self._ends()
        yield ""
        yield "```"
        failed = Framer(self.plan).failed("ran_out_of_ink", f"the {self.run} was given up").decode()
        yield failed.replace("\r", "").rstrip()
        yield "```"

    def _ends(self) -> Iterator[str]:
        looks = self.plan.looks
        marked = looks.wire == "sse-done" or looks.ends_with != "nothing"
        if not marked:
            yield f"There is no mark at the end: the connection is closed when the {self.run} is over."
        yield f"The stream of {a(self.run)} that is stopped, or whose {self.chat} is deleted, just ends."
        yield "This is how a failure looks:"

    def _options(self) -> Iterator[str]:
        yield from self._title("Limits")
        if self.plan.manners.one_run:
            yield f"An account may have one {self.run} under way, in all its {plural(self.chat)} together;"
            yield f"a second one is refused (`{self.plan.codes['busy']}`)."
        else:
            yield f"{a(self.chat).capitalize()} may have one {self.run} under way, and a second one is refused"
            yield f"(`{self.plan.codes['busy']}`). There is no limit for an account."

    def _good_to_know(self) -> Iterator[str]:
        yield from self._title("What there is not")
        missing = [
            f"a list of your {plural(self.chat)}" if self.plan.manners.paging == "none" else "",
            f"a call that stops {a(self.run)}" if self.plan.manners.stop == "none" else "",
            f"a call that looks at one {self.run} alone" if not self.plan.manners.one_by_one else "",
            f"a call that only adds {a(self.prompt)}" if self.plan.manners.joined else "",
            f"a way to join the stream of {a(self.run)} later" if self.plan.manners.streams_at_once else "",
        ]
        yield "; ".join(each for each in missing if each) or "Nothing that you would miss."

    def _errors(self) -> Iterator[str]:
        plan = self.plan
        yield from self._title("Errors")
        if plan.looks.always_200:
            yield "The HTTP status is always 200, unless something between us breaks. A refusal is told by its body:"
        else:
            yield "A refusal has a status of 400 or more, and this body:"
        yield ""
        status, kind, body = problem(plan, Refused("no_chat", f"there is no such {plan.nouns.chat}"))
        yield "```http"
        yield f"HTTP/1.1 {status}\nContent-Type: {kind}\n\n{body.decode().rstrip()}"
        yield "```"
        yield ""
        yield "| code | when |" if plan.looks.always_200 else "| code | status | when |"
        yield from self._codes()

    def _codes(self) -> Iterator[str]:
        when = {
            "login": "the key is missing or unknown",
            "no_chat": f"there is no such {self.chat}, or it is not yours",
            "no_prompt": f"there is no such {self.prompt}",
            "no_run": f"there is no such {self.run}",
            "no_model": f"there is no such {self.plan.nouns.model}",
            "no_route": "there is no such endpoint: neither path nor method is ours",
            "invalid": "the request is not what this page says",
            "busy": f"{a(self.run)} is under way",
            "over": f"the {self.run} is over",
            "exists": "there is one already",
            "broken": "we failed; the call may have had its effect",
        }
        yield "| --- | --- |" if self.plan.looks.always_200 else "| --- | --- | --- |"
        for failure, meaning in when.items():
            status = "" if self.plan.looks.always_200 else f" {status_of(self.plan, failure)} |"
            yield f"| `{self.plan.codes[failure]}` |{status} {meaning} |"
