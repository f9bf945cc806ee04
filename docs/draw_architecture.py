"""Draws ``docs/architecture.svg``: the rooms of ``src/rolevault``, their files, which room
imports from which, and the path of a request through them.

Run ``python docs/draw_architecture.py`` after a change. Everything in the picture is read from
the source: the rooms and their order from the imports, the texts from the docstrings. A test
fails when the picture is out of date.
"""

import ast
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "rolevault"
PICTURE = DOCS / "architecture.svg"

WIDTH = 870
LEFT, RIGHT = 24, 774  # the edges of the rooms
RAIL = LEFT + 28  # the line that follows a request
TEXT = LEFT + 54
FILE = TEXT + 132  # where the text beside a file on that line begins
LANE = 15  # between two arrows that pass rooms, on the right
HEAD, STEP, PILL, GAP = 38, 29, 24, 7
CHARACTER = 7.25  # the width of a character in the font of the files

STYLE = """
  .page { fill: #ffffff; stroke: #d1d9e0 }
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif }
  .about { fill: #59636e }
  .name { fill: #1f2328; font-weight: 600; font-size: 15px }
  .file { fill: #1f2328; font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  .step { fill: #0550ae; font-weight: 600 }
  .room { fill: #f6f8fa; stroke: #d1d9e0 }
  .base { fill: none; stroke: #afb8c1; stroke-dasharray: 5 4 }
  .pill { fill: #ffffff; stroke: #d1d9e0 }
  .rail { fill: none; stroke: #0969da; stroke-width: 4; stroke-linecap: round }
  .stop { fill: #0969da }
  .number { fill: #ffffff; font-size: 12px; font-weight: 700; text-anchor: middle }
  .arrow { fill: none; stroke: #818b98; stroke-width: 1.5 }
  .head { fill: #818b98 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #3d444d }
    .about { fill: #9198a1 }
    .name, .file { fill: #f0f6fc }
    .step { fill: #79c0ff }
    .room { fill: #151b23; stroke: #3d444d }
    .base { stroke: #656c76 }
    .pill { fill: #0d1117; stroke: #3d444d }
    .rail { stroke: #1f6feb }
    .stop { fill: #1f6feb }
    .arrow { stroke: #7d8590 }
    .head { fill: #7d8590 }
  }
"""


class Source(NamedTuple):
    """What the picture says.

    :param rooms: from top to bottom. A room imports from the rooms below it.
    :param base: the modules that every room may import, and that import no room.
    :param imports: pairs of rooms; the first one imports from the second one.
    :param steps: the path of a request: the files in their order, each with what it does.
    """

    rooms: list[str]
    base: list[str]
    imports: set[tuple[str, str]]
    steps: dict[str, str]


class Place(NamedTuple):
    """Where a room was drawn: its upper and its lower edge."""

    top: float
    bottom: float


def read_source() -> Source:
    """What the imports and the docstrings say.

    :raises ValueError: the rooms import each other in a circle.
    """
    names = {each.stem for each in SOURCE.iterdir() if docstring_file(each.stem).is_file()}
    names -= {"__init__", "__main__", "_version"}
    imports = set()
    for path in SOURCE.rglob("*.py"):
        importer = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                dotted = [f"{node.module}.{alias.name}".split(".") for alias in node.names]
                imports |= {(importer, parts[1]) for parts in dotted if parts[0] == "rolevault"}
    imports = {(a, b) for a, b in imports if a != b and {a, b} <= names}

    base = {name for name in names if not (SOURCE / name).is_dir()} - {a for a, _ in imports}
    rooms: list[str] = []
    left = names - base
    while left:
        used = {b for a, b in imports if a in left}
        if not left - used:
            raise ValueError(f"these rooms import each other: {sorted(left)}")
        rooms.append(min(left - used))
        left.remove(rooms[-1])

    numbered = r"^\d+\. ``([\w/]+\.py)``: (.+?)\.$"
    listed = re.findall(numbered, docstring("__init__"), re.MULTILINE)
    steps = {file: text.replace("``", "") for file, text in listed}
    return Source(rooms, sorted(base), imports, steps)


def docstring_file(name: str) -> Path:
    return SOURCE / name / "__init__.py" if (SOURCE / name).is_dir() else SOURCE / f"{name}.py"


def docstring(name: str) -> str:
    """The docstring of a room or a module."""
    return ast.get_docstring(ast.parse(docstring_file(name).read_text(encoding="utf-8"))) or ""


def about(name: str) -> str:
    """The first sentence of a docstring, without its full stop."""
    text = " ".join(docstring(name).partition("\n\n")[0].split()).replace("``", "")
    return text.partition(". ")[0].rstrip(".")


def files_of(room: str) -> list[str]:
    """The files of a room, in the order in which its docstring names them."""
    if not (SOURCE / room).is_dir():
        return []
    names = {path.stem for path in (SOURCE / room).glob("*.py")} - {"__init__"}
    named = [name for name in re.findall(r"``(\w+)``", docstring(room)) if name in names]
    return [f"{name}.py" for name in dict.fromkeys([*named, *sorted(names)])]


def draw() -> str:
    """The picture as SVG."""
    source = read_source()
    body: list[str] = []
    stops: list[float] = []
    places: dict[str, Place] = {}
    y = 24.0
    for room in source.rooms:
        content, height = draw_room(room, y, source.steps, stops)
        places[room] = Place(y, y + height)
        body += content
        y += height + 28
    body += draw_arrows(source, places)
    if stops:
        body.append(f'<path class="rail" d="M{RAIL} {stops[0]:g}V{stops[-1]:g}"/>')
    for number, stop in enumerate(stops, 1):
        body.append(draw_stop(RAIL, stop, str(number)))
    content, y = draw_base(source.base, y)
    body += content
    content, y = draw_legend(len(stops), y)
    body += content
    size = f'width="{WIDTH}" height="{y:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {y:g}" role="img">\n'
        "<title>The rooms of rolevault, and the path of a request through them</title>\n"
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
        'markerHeight="6" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>\n'
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y - 1:g}" rx="10"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def draw_room(
    room: str, top: float, steps: dict[str, str], stops: list[float]
) -> tuple[list[str], float]:
    """One room and its height. The heights of the steps in it are appended to ``stops``."""
    files = files_of(room)
    title = room if files else f"{room}.py"
    drawn = [
        f'<text x="{TEXT}" y="{top + 27:g}"><tspan class="name">{title}</tspan>'
        f'<tspan class="about" dx="12">{escape(about(room))}</tspan></text>'
    ]
    y = top + HEAD + 2
    for file in files:
        if f"{room}/{file}" in steps:
            text = escape(steps[f"{room}/{file}"])
            drawn.append(
                f'<text class="file step" x="{TEXT}" y="{y + 16:g}">{file}</text>'
                f'<text class="about" x="{FILE}" y="{y + 16:g}">{text}</text>'
            )
            stops.append(y + 12)
            y += STEP
    y += 4 if y > top + HEAD + 2 else 0
    x = float(TEXT)
    others = [file for file in files if f"{room}/{file}" not in steps]
    for file in others:
        width = len(file) * CHARACTER + 20
        if x + width > RIGHT - 14:
            x, y = float(TEXT), y + PILL + GAP
        drawn.append(
            f'<rect class="pill" x="{x:g}" y="{y:g}" width="{width:g}" height="{PILL}" rx="12"/>'
            f'<text class="file" x="{x + 10:g}" y="{y + 16:g}">{file}</text>'
        )
        x += width + GAP
    height = y + (PILL + 14 if others else 4) - top
    box = (
        f'<rect class="room" x="{LEFT}" y="{top:g}" width="{RIGHT - LEFT}" '
        f'height="{height:g}" rx="8"/>'
    )
    return [box, *drawn], height


def draw_stop(x: float, y: float, number: str) -> str:
    return (
        f'<circle class="stop" cx="{x:g}" cy="{y:g}" r="11"/>'
        f'<text class="number" x="{x:g}" y="{y + 4:g}">{number}</text>'
    )


def draw_arrows(source: Source, places: dict[str, Place]) -> list[str]:
    """A straight arrow to the next room. To a room further down, one arrow on the right, which
    the rooms that import from it join.
    """
    rank = {room: index for index, room in enumerate(source.rooms)}
    pairs = sorted((rank[a], rank[b]) for a, b in source.imports if a in rank and b in rank)
    drawn = []
    importers: dict[int, list[int]] = {}
    for a, b in pairs:
        if b == a + 1:
            x, upper, lower = (LEFT + RIGHT) / 2, places[source.rooms[a]], places[source.rooms[b]]
            drawn.append(draw_arrow(f"M{x:g} {upper.bottom:g}V{lower.top - 1:g}"))
        else:
            importers.setdefault(b, []).append(a)

    # The longer an arrow, the further out it runs. Arrows that do not overlap share a lane.
    lanes: dict[int, int] = {}
    for b in sorted(importers, key=lambda b: (b - importers[b][0], b)):
        taken = {lanes[c] for c in lanes if importers[c][0] < b and importers[b][0] < c}
        lanes[b] = min(set(range(len(lanes) + 1)) - taken)

    ends: dict[tuple[int, int], float] = {}  # where an arrow leaves or, (b, b), reaches a room
    for index, room in enumerate(source.rooms):
        leaving = [b for b in importers if index in importers[b]]
        leaving.sort(key=lambda b: -lanes[b])
        points = [(index, b) for b in leaving]
        if index in importers:
            points.insert(0, (index, index))
        top, bottom = places[room]
        for n, point in enumerate(points, 1):
            ends[point] = top + (bottom - top) * n / (len(points) + 1)
    for b, lane in sorted(lanes.items()):
        x = RIGHT + 20 + lane * LANE
        first, *others = importers[b]
        down = f"M{RIGHT} {ends[first, b]:g}H{x - 6}q6 0 6 6V{ends[b, b] - 6:g}q0 6 -6 6"
        drawn.append(draw_arrow(f"{down}H{RIGHT + 1}"))
        for a in others:
            y = ends[a, b]
            drawn.append(
                f'<path class="arrow" d="M{RIGHT} {y:g}H{x}"/>'
                f'<circle class="head" cx="{x}" cy="{y:g}" r="3"/>'
            )
    return drawn


def draw_arrow(path: str) -> str:
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def draw_base(base: list[str], top: float) -> tuple[list[str], float]:
    """The modules below all rooms, and where they end."""
    drawn = [
        f'<text x="{TEXT}" y="{top + 26:g}"><tspan class="name">for every room</tspan>'
        f'<tspan class="about" dx="12">these import no room</tspan></text>'
    ]
    y = top + HEAD + 2
    width = max(len(name) for name in base) * CHARACTER + 42
    for name in base:
        drawn.append(
            f'<rect class="pill" x="{TEXT}" y="{y:g}" width="{width:g}" height="{PILL}" rx="12"/>'
            f'<text class="file" x="{TEXT + 10}" y="{y + 16:g}">{name}.py</text>'
            f'<text class="about" x="{TEXT + width + 12:g}" y="{y + 16:g}">'
            f"{escape(re.split('[,:]', about(name))[0])}</text>"
        )
        y += PILL + GAP
    height = y + 7 - top
    box = (
        f'<rect class="base" x="{LEFT}" y="{top:g}" width="{RIGHT - LEFT}" height="{height:g}" '
        'rx="8"/>'
    )
    return [box, *drawn], top + height


def draw_legend(steps: int, top: float) -> tuple[list[str], float]:
    """What the signs mean, and where the picture ends."""
    y = top + 30
    return [
        f'<path class="rail" d="M{RAIL} {y:g}h34"/>',
        draw_stop(RAIL, y, "1"),
        draw_stop(RAIL + 34, y, str(steps)),
        f'<text class="about" x="{RAIL + 56}" y="{y + 4:g}">the path of a request, from install() '
        "to its signature</text>",
        draw_arrow(f"M{RAIL + 430} {y:g}h30"),
        f'<text class="about" x="{RAIL + 470}" y="{y + 4:g}">imports from</text>',
    ], y + 28


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8", newline="\n")
