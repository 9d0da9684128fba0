"""Makes an SVG of what `clew view` draws: docs/images/circuit.svg, in the guide, is of circuits in the lab.

clew demo circuit --dir DIR
.venv/bin/python tools/picture.py docs/images/circuit.svg 100 DIR/circuits.jsonl --name build-circuit --limit 2

docs/images/onion.svg, in the README, is of a request to an onion service:

.venv/bin/python examples/onion_request.py
.venv/bin/python tools/picture.py docs/images/onion.svg 118 onion_request.jsonl --name fetch-page --limit 1

Args: the SVG to write, how many columns wide, then the arguments of `clew view`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMN = 12.2  # the width of a character in rich's SVG

# Readable on GitHub's light and dark pages: a dark terminal.
THEME = TerminalTheme(
    (24, 28, 36),
    (205, 211, 222),
    [
        (24, 28, 36),
        (240, 113, 120),
        (160, 200, 120),
        (230, 190, 110),
        (110, 170, 240),
        (190, 150, 230),
        (100, 200, 200),
        (205, 211, 222),
    ],
    [
        (110, 120, 135),
        (255, 130, 135),
        (180, 220, 140),
        (245, 210, 130),
        (130, 190, 255),
        (210, 170, 250),
        (120, 220, 220),
        (255, 255, 255),
    ],
)


def main() -> None:
    target, columns, *arguments = sys.argv[1:]
    command = [sys.executable, "-m", "clew.cli.main", "view", "--color", "always", "--width", columns, *arguments]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    console = Console(record=True, width=int(columns), file=StringIO(), legacy_windows=False)
    console.print(Text.from_ansi(drawn.rstrip()), end="")
    files = [argument for argument in arguments if argument.endswith((".jsonl", ".json", ".pb"))]
    title = " ".join(["clew view", *(Path(file).name for file in files)])
    svg = console.export_svg(title=title, theme=THEME)
    # Whoever looks at the picture asks nobody for a font.
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<text class="([^"]+)" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', place_words, svg)
    Path(target).write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def place_words(text: re.Match[str]) -> str:
    """A run of text as one element for each piece between wider gaps: not every viewer keeps spaces."""
    style, x, y, content = text.groups()
    content = content.replace("&#160;", "\N{NO-BREAK SPACE}")
    elements = []
    for piece in re.finditer(r"[^\N{NO-BREAK SPACE}]+(?:\N{NO-BREAK SPACE}[^\N{NO-BREAK SPACE}]+)*", content):
        # An entity is one character on the terminal.
        column = len(re.sub(r"&[^;]+;", "x", content[: piece.start()]))
        columns = len(re.sub(r"&[^;]+;", "x", piece[0]))
        at, length = float(x) + column * COLUMN, columns * COLUMN
        elements.append(
            f'<text class="{style}" x="{at:g}" y="{y}" textLength="{length:g}" lengthAdjust="spacingAndGlyphs">'
            f"{piece[0].replace(chr(160), '&#160;')}</text>"
        )
    return "".join(elements)


if __name__ == "__main__":
    main()
