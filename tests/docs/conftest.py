"""The documentation as data: pages, their tables and fenced blocks, and sites made from a page's examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

#: What an example's site has unless the page shows a `site.yaml` of its own.
SITE = "rest: {port: 0}\nadmin: {port: 0}\ntimezone: America/Chicago\n"
#: The channel around an example of steps.
AROUND = """\
name: {name}
source: {{channel: {{}}}}
transform:
{steps}
destinations:
  - name: out
    to: {{discard: {{}}}}
"""

_FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FOLDERS = ("transforms/", "tables/", "channels/")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``info`` is what stands behind the fence: ``yaml channel``."""

    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def role(self) -> str:
        return self.info.partition(" ")[2]


@dataclass(frozen=True)
class Page:
    """A Markdown file of the documentation."""

    path: Path
    text: str
    blocks: tuple[Block, ...] = field(default=())

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def tables(self, first: str) -> list[list[list[str]]]:
        """The rows (without head) of every table whose first column is called ``first``."""
        found: list[list[list[str]]] = []
        lines = self.prose.splitlines()
        for number, line in enumerate(lines):
            if line.startswith("|") and cells(line)[0] == first:
                rows = []
                for row in lines[number + 2 :]:
                    if not row.startswith("|"):
                        break
                    rows.append(cells(row))
                found.append(rows)
        return found

    def rows(self, first: str) -> list[list[str]]:
        return [row for table in self.tables(first) for row in table]

    def section(self, heading: str) -> str:
        """What stands below a heading up to the next of its level or above."""
        level = heading.partition(" ")[0]
        begin = self.text.index(f"\n{heading}\n") + len(heading) + 2
        end = re.compile(rf"^#{{1,{len(level)}}} ", re.MULTILINE).search(self.text, begin)
        return self.text[begin : end.start() if end else None]


def cells(line: str) -> list[str]:
    """The cells of a table's row; ``\\|`` is a bar in a cell."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def read_page(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    return Page(path, text, tuple(Block(*found) for found in _FENCE.findall(text)))


def all_pages() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield ROOT / "CHANGELOG.md"
    yield from sorted((ROOT / "engine" / "sites").rglob("*.md"))
    yield from sorted(DOCS.rglob("*.md"))


class Examples:
    """The site that one page's examples make: files under their names, steps each in a channel of its own."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self.folder = page, folder
        #: Name of the channel, what goes in, what comes out: (channel, Block, Block).
        self.runs: list[tuple[str, Block, Block]] = []
        self.channels: list[str] = []
        for name in ("channels", "transforms", "tables"):
            (folder / name).mkdir(parents=True)
        self.write("site.yaml", SITE)
        for number, block in enumerate(page.blocks):
            self.place(block, page.blocks[number + 1 : number + 3])

    def place(self, block: Block, following: tuple[Block, ...]) -> None:
        if block.role == "site.yaml" or block.role.startswith(_FOLDERS):
            self.write(block.role, block.text)
            if block.role.startswith("channels/"):
                self.channels.append(Path(block.role).stem)
        elif block.info == "yaml channel":
            found = re.search(r"^name: (\S+)", block.text, re.MULTILINE)
            assert found, f"{self.page.name}: a channel without a name"
            self.channel(found[1], block.text)
        elif block.info == "yaml steps":
            name = f"example-{len(self.channels) + 1}"
            indented = "".join(f"  {line}" for line in block.text.splitlines(keepends=True))
            self.channel(name, AROUND.format(name=name, steps=indented))
            if [each.role for each in following] == ["in", "out"]:
                self.runs.append((name, following[0], following[1]))

    def channel(self, name: str, text: str) -> None:
        self.channels.append(name)
        self.write(f"channels/{name}.yaml", text)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    @property
    def env(self) -> dict[str, str]:
        """A value for every `${NAME}` that the examples read."""
        names = re.findall(r"\$\{([A-Z_][A-Z0-9_]*)\}", self.page.text)
        return dict.fromkeys(names, "stand-in-for-a-secret")


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def pages() -> dict[str, Page]:
    """Every page by its name below the repository: ``docs/channel.md``."""
    return {page.name: page for page in map(read_page, all_pages())}


@pytest.fixture
def examples(page: Page, tmp_path: Path) -> Examples:
    return Examples(page, tmp_path / "site")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with ``page`` runs once for every page."""
    if "page" in metafunc.fixturenames:
        found = [read_page(path) for path in all_pages()]
        metafunc.parametrize("page", found, ids=[page.name for page in found])
