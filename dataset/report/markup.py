"""The parts that the page is made of: escaped text, tables, bars and curves as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 180, 124, 22, 18  # units of an SVG, and the room of the numbers beside the axes


class Markup(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return a value as HTML: numbers with three decimals, "–" for None."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup("–")
    return Markup(escape(f"{value:.3f}" if isinstance(value, float) else str(value)))


def element(tag: str, *parts: object, attributes: str = "") -> Markup:
    """Return an element; `attributes` are HTML, with what users named in it escaped."""
    return Markup(f"<{tag}{' ' if attributes else ''}{attributes}>{''.join(map(text, parts))}</{tag}>")


def section(title: str, *parts: object) -> Markup:
    """Return a section with its heading."""
    return element("section", element("h2", title), *parts)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], kind: str = "") -> Markup:
    """Return a table that scrolls where the window is narrow; the first cell of a row names it."""
    top = element("tr", *(element("th", element("span", name), attributes='scope="col"') for name in head))
    body = (element("tr", element("th", row[0], attributes='scope="row"'), *map(_cell, row[1:]), "\n") for row in rows)
    whole = element("table", element("thead", top), element("tbody", *body), attributes=f'class="{kind}"')
    return element("div", whole, attributes='class="scroll"')


def _cell(value: object) -> Markup:
    return value if isinstance(value, Markup) and value.startswith("<td") else element("td", value)


def bar(fraction: float | None, label: object) -> Markup:
    """Return a cell with a bar of a length in [0, 1] behind a label."""
    width = 100 * min(max(fraction or 0.0, 0.0), 1.0)
    return element("td", label, attributes=f'class="bar" style="background-size:{width:.1f}% 100%"')


def shade(fraction: float, label: object, hue: str) -> Markup:
    """Return a cell that is darker the larger a fraction in [0, 1] is; `hue` is "r,g,b"."""
    return element("td", label, attributes=f'style="background:rgba({hue},{0.75 * fraction:.2f})"' if fraction else "")


def cards(items: Iterable[Markup]) -> Markup:
    """Return figures beside each other, as many in a row as the window holds."""
    return element("div", *items, attributes='class="cards"')


def curve(title: str, x: np.ndarray, y: np.ndarray, names: tuple[str, str], mark: float | None = None) -> Markup:
    """Return a figure of a curve y [P] in [0, 1] over x [P], rising, with a vertical line at `mark`."""
    low, high = float(x[0]), float(x[-1])
    across, up = _WIDTH - _LEFT - 4, _HEIGHT - _BOTTOM - 4
    columns = _LEFT + (x - low) / (high - low) * across
    points = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(columns, 4 + (1 - y) * up, strict=True))
    right, base = _LEFT + across, 4 + up
    lines = [f'<path class="frame" d="M{_LEFT} 4V{base}H{right}M{_LEFT} {4 + up / 2}H{right}"/>']
    if mark is not None:
        at = _LEFT + (mark - low) / (high - low) * across
        lines.append(f'<path class="mark" d="M{at:.1f} 4V{base}"/>')
    lines.append(f'<polyline points="{points}"/>')
    labels = [(_LEFT - 4, 10, "end", "1"), (_LEFT - 4, base, "end", "0"), (_LEFT, base + 13, "start", f"{low:g}")]
    labels += [(right, base + 13, "end", f"{high:g}"), ((_LEFT + right) // 2, base + 13, "middle", names[0])]
    lines += [f'<text x="{a}" y="{b}" text-anchor="{anchor}">{text(label)}</text>' for a, b, anchor, label in labels]
    described = escape(f"{title}: {names[1]} over {names[0]}")
    drawing = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{described}">{"".join(lines)}</svg>'
    return element("figure", Markup(drawing), element("figcaption", title))
