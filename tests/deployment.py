"""deploy/README.md, for tests that do what it says, word for word."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "deploy" / "README.md").read_text("utf-8")


def section(title: str) -> str:
    """What is below a heading, up to the next of its kind or above."""
    (level, text), *more = re.findall(rf"^(##+) {re.escape(title)}\n(.*)\Z", README, re.MULTILINE | re.DOTALL)
    assert not more
    return re.split(rf"^#{{2,{len(level)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(language: str, title: str) -> list[str]:
    """The blocks of a section in this language; "" for commands."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
