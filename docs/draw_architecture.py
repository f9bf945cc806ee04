"""Draws ``docs/architecture.svg``: the rooms of ``src/rolevault``, their files, who imports whom,
and the path of a request through them.

``python docs/draw_architecture.py`` reads the imports and the docstrings of the source, so that
the picture cannot say anything else than the code. The suite fails when it is out of date.
"""

import ast
import re
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "rolevault"
PICTURE = DOCS / "architecture.svg"

#: From top to bottom: a room imports from the rooms below it.
ROOMS = ("aio", "_boto", "_signin", "_roles", "_vault", "_prompt", "_concurrency")

WIDTH = 860
LEFT, RIGHT = 20, 690  # the edges of the rooms; arrows that pass a room run beside RIGHT
LINE, PILL, GAP = 20, 24, 8
CHARACTER = 7.25  # the width of a character of the files' font

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, sans-serif; fill: #1f2328 }
  .file { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  .name { font-weight: 600; font-size: 14px }
  .about { fill: #59636e }
  .number { font-size: 11px; font-weight: 700; fill: #ffffff; text-anchor: middle }
  .room { fill: #f6f8fa; stroke: #d1d9e0 }
  .pill { fill: #ffffff; stroke: #d1d9e0 }
  .path { fill: #ddf4ff; stroke: #0969da }
  .badge { fill: #0969da }
  .arrow { fill: none; stroke: #818b98; stroke-width: 1.3 }
  .head { fill: #818b98 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .about { fill: #9198a1 }
    .room { fill: #151b23; stroke: #3d444d }
    .pill { fill: #0d1117; stroke: #3d444d }
    .path { fill: #0c2d6b; stroke: #4493f8 }
    .number { fill: #0d1117 }
    .badge { fill: #4493f8 }
    .arrow { stroke: #9198a1 }
    .head { fill: #9198a1 }
  }
"""


def files_of(room: str) -> list[str]:
    """The files of a room, in the order in which its docstring names them."""
    if not (SOURCE / room).is_dir():
        return [f"{room}.py"]
    names = {path.stem for path in (SOURCE / room).glob("*.py")} - {"__init__"}
    text = docstring(SOURCE / room / "__init__.py")
    named = [name for name in re.findall(r"``(\w+)``", text) if name in names]
    ordered = dict.fromkeys([*named, *sorted(names)])
    return [f"{name}.py" for name in ordered]


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def path_of_a_request() -> dict[str, int]:
    """The numbered files in the docstring of the package."""
    numbered = re.findall(r"^(\d+)\. ``([\w/]+\.py)``", docstring(SOURCE / "__init__.py"), re.M)
    return {file: int(number) for number, file in numbered}


def imports() -> set[tuple[str, str]]:
    """Which room imports from which other one, as the code says it."""
    found: set[tuple[str, str]] = set()
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rolevault."):
                found.add((room, str(node.module).split(".")[1]))
    return {(a, b) for a, b in found if a != b and a in ROOMS and b in ROOMS}


def draw() -> str:
    """The picture as SVG."""
    numbers, body, y = path_of_a_request(), [], 20
    places: dict[str, tuple[int, int]] = {}
    for room in ROOMS:
        about = docstring(
            SOURCE / room / "__init__.py" if (SOURCE / room).is_dir() else SOURCE / f"{room}.py"
        ).partition(".\n")[0]
        about = " ".join(about.partition("\n\n")[0].rstrip(".").replace("``", "").split())
        rows: list[list[str]] = [[]]
        x = float(LEFT + 16)
        pills: list[str] = []
        top = y + 14 + LINE + GAP
        for file in files_of(room):
            number = numbers.get(f"{room}/{file}")
            width = len(file) * CHARACTER + 20 + (20 if number else 0)
            if x + width > RIGHT - 12:
                x, top = float(LEFT + 16), top + PILL + GAP
                rows.append([])
            pills.append(pill(file, number, x, top, width))
            x += width + GAP
        bottom = top + PILL + 14
        body.append(
            f'<rect class="room" x="{LEFT}" y="{y}" width="{RIGHT - LEFT}" '
            f'height="{bottom - y}" rx="8"/>'
        )
        body.append(
            f'<text x="{LEFT + 16}" y="{y + 14 + 13}"><tspan class="name">{room}</tspan>'
            f'<tspan class="about" dx="10">{escape(about)}</tspan></text>'
        )
        body += pills
        places[room] = (y, bottom)
        y = bottom + 26
    body += arrows(places)
    body.append(
        f'<text class="about" x="{LEFT}" y="{y + 6}">'
        f'<tspan class="name">1 to {len(numbers)}</tspan><tspan dx="8">the path of a request, from '
        "install() to its signature. An arrow: imports from.</tspan></text>"
    )
    body.append(
        f'<text class="about" x="{LEFT}" y="{y + 6 + LINE}">Every room may import errors.py and '
        "_botocore_private.py, which import no room.</text>"
    )
    height = y + 6 + LINE + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="The rooms of rolevault">\n'
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse"><path class="head" d="M0 0L8 4L0 8z"/>'
        "</marker></defs>\n" + "\n".join(body) + "\n</svg>\n"
    )


def pill(file: str, number: int | None, x: float, y: int, width: float) -> str:
    """One file; one on the path of a request has its number before it."""
    text = x + 10 + (20 if number else 0)
    drawn = (
        f'<rect class="{"path" if number else "pill"}" x="{x:g}" y="{y}" width="{width:g}" '
        f'height="{PILL}" rx="12"/>'
        f'<text class="file" x="{text:g}" y="{y + 16}">{file}</text>'
    )
    if number:
        drawn += (
            f'<circle class="badge" cx="{x + 15:g}" cy="{y + 12}" r="8.5"/>'
            f'<text class="number" x="{x + 15:g}" y="{y + 16}">{number}</text>'
        )
    return drawn


def arrows(places: dict[str, tuple[int, int]]) -> list[str]:
    """Straight to the next room; beside the rooms to one further down, each in a lane of its
    own.
    """
    drawn = []
    pairs = sorted(imports(), key=lambda pair: (ROOMS.index(pair[0]), ROOMS.index(pair[1])))
    far = [(a, b) for a, b in pairs if ROOMS.index(b) - ROOMS.index(a) > 1]
    leaving = {room: [pair for pair in far if pair[0] == room] for room in ROOMS}
    arriving = {room: [pair for pair in far if pair[1] == room] for room in ROOMS}
    # The longer an arrow, the further out it runs.
    far.sort(key=lambda pair: (ROOMS.index(pair[1]) - ROOMS.index(pair[0]), ROOMS.index(pair[0])))
    for a, b in pairs:
        if (a, b) not in far:
            x = (LEFT + RIGHT) // 2
            drawn.append(arrow(f"M{x} {places[a][1]}V{places[b][0]}"))
    for lane, (a, b) in enumerate(far):
        start = spread(places[a], leaving[a].index((a, b)) + len(arriving[a]), a, leaving, arriving)
        end = spread(places[b], arriving[b].index((a, b)), b, leaving, arriving)
        out = RIGHT + 18 + lane * 12
        drawn.append(
            arrow(
                f"M{RIGHT} {start:g}H{out - 6}q6 0 6 6V{end - 6:g}q0 6 -6 6H{RIGHT}",
            )
        )
    return drawn


def spread(
    place: tuple[int, int],
    index: int,
    room: str,
    leaving: dict[str, list[tuple[str, str]]],
    arriving: dict[str, list[tuple[str, str]]],
) -> float:
    """The height at which one of a room's arrows begins or ends."""
    count = len(leaving[room]) + len(arriving[room])
    top, bottom = place
    return top + (bottom - top) * (index + 1) / (count + 1)


def arrow(path: str) -> str:
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8", newline="\n")
