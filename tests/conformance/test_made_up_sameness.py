"""What counts as the same code in two adapters, and what does not."""

from __future__ import annotations

import re

import pytest

from tests.made_up.known import ADAPTERS, known
from tests.made_up.sameness import LEAST, same

ONE = '''
async def listed(self, call):
    """List them all."""
    cursor = None
    for _ in range(1000):
        page = await self._page(call, cursor)
        for chat in page.chats:
            yield Listing(chat.id, chat.title is None)
        if page.next is None:
            return
        cursor = page.next
    raise Wrong("a listing that ends")
'''


def renamed(source: str) -> str:
    """Give everything that has a name, and every constant, another one."""
    words = re.sub(
        r"\b(?!(?:async|await|def|for|in|if|is|None|return|raise|yield|while|not)\b)([a-z_]\w*)", r"x_\1", source
    )
    return words.replace("1000", "7").replace("List them all", "Other words")


def test_a_copy_with_other_names_is_found() -> None:
    [found] = same({"a": ONE}, {"b": renamed(ONE)})
    assert found.here.startswith("a:2 listed")
    assert found.there.startswith("b:2 x_listed")
    assert found.size >= LEAST


def test_a_copy_inside_other_code_is_found() -> None:
    body = "\n".join(ONE.splitlines()[3:])
    assert same({"a": ONE}, {"b": f"async def other(self):\n    await something(1, 2)\n{body}\n    await more()"})


def test_a_copy_of_which_a_part_was_changed_is_found_by_the_rest() -> None:
    steps = "".join(f"    step_{number}(a, b.c)\n" for number in range(LEAST))
    changed = f"def f():\n    first = thing()\n{steps}"
    assert same({"a": f"def f():\n{steps}"}, {"b": changed})
    fewer = "".join(f"    step_{number}(a, b.c)\n" for number in range(LEAST - 1))
    assert not same({"a": f"def f():\n{fewer}"}, {"b": f"def g():\n{fewer}"})


def test_one_long_statement_counts_by_its_lines() -> None:
    lines = "".join(f"        {name}=f({name}),\n" for name in "abcdef")
    assert same({"a": f"def f():\n    return g(\n{lines}    )"}, {"b": f"def h():\n    return i(\n{lines}    )"})


def test_other_code_of_the_same_length_is_not_the_same() -> None:
    assert not same(
        {"a": ONE}, {"b": ONE.replace("for chat in page.chats", "while page.chats").replace("if page", "if not page")}
    )


@pytest.mark.parametrize(
    "data",
    [
        "class A(Struct):\n" + "".join(f"    {name}: str\n" for name in "abcdefgh"),
        "def f(self, a, b, c):\n" + "".join(f"    self._{name} = {name}\n" for name in "abcdefgh"),
        "".join(f"{name.upper()} = decoder({name})\n" for name in "abcdefgh"),
        "async def delete_chat(self, call, chat):\n    return await self._http.ask(call, chat)\n",
    ],
    ids=["fields", "moves", "constants", "contract"],
)
def test_data_and_what_the_contract_dictates_are_no_code(data: str) -> None:
    assert not same({"a": data}, {"b": data})


def test_a_small_helper_of_the_same_name_is_a_double() -> None:
    helper = "def _aware(moment):\n    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)\n"
    [found] = same({"a": helper}, {"b": helper.replace("moment", "time")})
    assert "_aware" in str(found)
    assert not same({"a": helper}, {"b": helper.replace("_aware", "_other")})
    inside = f"def f():\n    {helper}".replace("\n    return", "\n        return")
    assert not same({"a": inside}, {"b": inside.replace("def f", "def g")})
    calls = "def login(key):\n    return Credential(headers={'X': key})\n"
    assert not same({"a": calls}, {"b": calls})


def test_an_adapter_is_the_same_as_itself() -> None:
    """The detector sees real code: every adapter, compared with its own copy, is full of doubles."""
    for name, sources in known().items():
        assert len(same(sources, sources)) >= 3, name
    assert len(known()) >= 3 + len([*ADAPTERS.glob("seed_*.py")])
