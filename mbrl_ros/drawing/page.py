"""A page without scripts: charts as inline SVG, tables and sentences, light, dark and printed.

A line of any length is drawn as its envelope: the lowest and the highest value of every pixel column, so that no peak
is lost and a chart has the same size for a minute and an hour. Colours are near those of Okabe & Ito (2008), which
colour-blind people tell apart; beyond seven, lines differ by their dashes.
"""
from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mbrl_ros.types import Array

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 900, 64, 12, 8, 24  # [px]
COLUMNS = WIDTH - LEFT - RIGHT
DASHES = ("", "6 2", "2 2", "8 2 2 2")
DARK = ("--ink:#e6e9ed;--soft:#9aa4af;--paper:#15181c;--line:#353b43;--shade:#1d2228;--c0:#56b4e9;--c1:#e8853b;"
        "--c2:#35c49a;--c3:#cc79a7;--c4:#f0e442;--c5:#8fc7ea;--c6:#b5b5b5;--bad:#ff8a80")
STYLE = f"""
:root{{--ink:#1b1f24;--soft:#57606a;--paper:#fff;--line:#d0d7de;--shade:#f3f5f7;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#aa4499;--c4:#b8860b;--c5:#3f9fd5;--c6:#555;--bad:#b3261e}}
@media screen and (prefers-color-scheme:dark){{:root{{{DARK}}}}}
@media print{{svg,tr,li{{break-inside:avoid}}body{{font-size:10pt}}}}
body{{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62em;
margin:1.5em auto;padding:0 1em}}
h1{{font-size:1.5em}}summary,h2{{font-size:1.15em;font-weight:600;margin:1.2em 0 .4em}}summary{{cursor:pointer}}
p.what{{margin:.1em 0}}li{{margin:.25em 0}}li.bad::marker{{content:"\\25B2\\00a0";color:var(--bad)}}
svg{{width:100%;height:auto;display:block;margin:.2em 0 .8em}}text{{fill:var(--soft);font-size:11px}}
table{{border-collapse:collapse;font-size:.9em;margin:.4em 0}}
td,th{{padding:.15em .7em;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}}
td.n{{text-align:right;font-variant-numeric:tabular-nums}}.wide{{overflow-x:auto}}
.key{{font-size:.85em;color:var(--soft);margin:0}}.key b{{font-weight:400;margin-right:1.2em;white-space:nowrap}}
.key svg{{display:inline;width:26px;height:8px;margin:0 .35em 0 0}}
"""


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    x: Array  # (T,), growing
    y: Array  # (T,); NaN is a gap
    color: int = 0
    dots: bool = False  # few points, each of which counts


@dataclass(frozen=True)
class Chart:
    """Lines over one axis of time [s]."""

    title: str
    unit: str
    lines: Sequence[Line]
    span: tuple[float, float]
    log: bool = False
    height: int = 150
    spans: Sequence[tuple[float, float, str]] = ()  # shaded, with a word at the top
    marks: Sequence[tuple[float, str]] = ()  # upright lines
    levels: Sequence[tuple[float, str]] = field(default_factory=tuple)  # level lines


def svg(chart: Chart) -> str:
    """The chart with its title and its key."""
    low, high = _range(chart)
    bottom = chart.height - BOTTOM
    begin, end = chart.span
    scale = COLUMNS / max(end - begin, 1e-9)

    def across(x: float) -> float:
        return LEFT + (x - begin) * scale

    def up(y: Array) -> Array:
        shown = np.log10(np.maximum(y, 10**low)) if chart.log else y
        return bottom - (shown - low) / (high - low) * (bottom - TOP)

    parts = [f'<svg viewBox="0 0 {WIDTH} {chart.height}" role="img" aria-label="{html.escape(chart.title)}">']
    for i, (left, right, word) in enumerate(chart.spans):
        x, width = across(max(left, begin)), (min(right, end) - max(left, begin)) * scale
        if i % 2 and width > 0:
            parts.append(f'<rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{bottom - TOP}" '
                         'fill="var(--shade)"/>')
        if width > 7 * len(word):
            parts.append(f'<text x="{x + 3:.1f}" y="{TOP + 10}">{html.escape(word)}</text>')
    for value, text in _ticks(low, high, chart.log):
        y = float(up(np.array(value)))
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="var(--line)"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in _ticks(begin, end, False, 10):
        parts.append(f'<text x="{across(value):.1f}" y="{bottom + 16}" text-anchor="middle">{text} s</text>')
    for value, word in chart.levels:
        y = float(up(np.array(value)))
        if TOP <= y <= bottom:
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="var(--bad)" stroke-dasharray="4 3"/>'
                         f'<text x="{WIDTH - RIGHT}" y="{y - 3:.1f}" text-anchor="end">{html.escape(word)}</text>')
    for line in chart.lines:
        parts.append(_drawn(line, begin, scale, up))
    for x, word in chart.marks:
        parts.append(f'<path d="M{across(x):.1f} {TOP}V{bottom}" stroke="var(--bad)"><title>{html.escape(word)}</title>'
                     "</path>")
    keys = "".join(f'<b><svg viewBox="0 0 26 8"><path d="M0 4H26" {_stroke(line)}/></svg>{html.escape(line.name)}</b>'
                   for line in chart.lines)
    return (f'<p class="what"><strong>{html.escape(chart.title)}</strong> [{html.escape(chart.unit)}]</p>'
            f'<p class="key">{keys}</p>{"".join(parts)}</svg>')


def _stroke(line: Line) -> str:
    dash = DASHES[line.color // 7 % len(DASHES)]
    return f'fill="none" stroke="var(--c{line.color % 7})" stroke-width="1.3"' + (
        f' stroke-dasharray="{dash}"' if dash else "")


def _drawn(line: Line, begin: float, scale: float, up: Callable[[Array], Array]) -> str:
    x, y = LEFT + (np.asarray(line.x, float) - begin) * scale, up(np.asarray(line.y, float))
    if line.dots:
        d = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y, strict=True) if np.isfinite(b))
        return f'<path d="{d}" {_stroke(line)} stroke-linecap="round" style="stroke-width:3"/>'
    x, y = envelope(x, y)
    way, pen = list[str](), "M"
    for a, b, there in zip(x, y, np.isfinite(y), strict=True):
        if there:
            way.append(f"{pen}{a:.1f} {b:.1f}")
        pen = "L" if there else "M"
    return f'<path d="{"".join(way)}" {_stroke(line)}/>'


def envelope(x: Array, y: Array) -> tuple[Array, Array]:
    """Of points (T,) [px], growing in x, at most four in every column of a pixel: its first and last, its lowest and
    highest, in their order; a column with a gap in it keeps one. As they are where there are few."""
    if len(x) <= 2 * COLUMNS:
        return x, y
    column = np.floor(x).astype(int)
    starts = np.flatnonzero(np.diff(column, prepend=column[0] - 1))
    kept = []
    for begin, end in zip(starts, [*starts[1:], len(x)], strict=True):
        part = y[begin:end]
        gaps = ~np.isfinite(part)
        picked = {0, len(part) - 1}
        if not gaps.all():
            picked |= {int(np.nanargmin(part)), int(np.nanargmax(part))}
        if gaps.any():
            picked.add(int(np.argmax(gaps)))
        kept += [begin + i for i in sorted(picked)]
    return x[kept], y[kept]


def _range(chart: Chart) -> tuple[float, float]:
    """The ends of the upright axis, as logarithms where it has them."""
    values = [v[np.isfinite(v)] for v in (np.asarray(line.y, float) for line in chart.lines)]
    all_of = np.concatenate([np.zeros(0), *values])
    if chart.log:
        all_of = np.log10(all_of[all_of > 0])
    low, high = (float(all_of.min()), float(all_of.max())) if len(all_of) else (0.0, 1.0)
    if chart.log:
        low = max(low, high - 6)
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def _ticks(low: float, high: float, log: bool, most: int = 5) -> list[tuple[float, str]]:
    """Round numbers between two ends, and how they are written."""
    if log:
        powers = range(int(np.ceil(low)), int(np.floor(high)) + 1)
        if len(powers) >= 2:
            return [(10.0**p, f"{10.0**p:g}") for p in powers]
        return [(10.0**v, f"{10.0**v:.2g}") for v in np.linspace(low, high, 3)]
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * next(f for f in (1, 2, 5, 10) if f * power >= rough)
    values = step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)
    return [(float(v), f"{v:.10g}" if abs(v) > 1e-9 * step else "0") for v in values]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Numbers to the right."""
    def cell(value: object) -> str:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return f'<td{" class=n" if number else ""}>{html.escape(text)}</td>'

    body = "".join(f"<tr>{''.join(cell(v) for v in row)}</tr>" for row in rows)
    heads = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def section(title: str, parts: Sequence[str], unfolded: bool = True) -> str:
    """What folds away."""
    if not parts:
        return ""
    return f"<details{' open' if unfolded else ''}><summary>{html.escape(title)}</summary>{''.join(parts)}</details>"


def listed(sentences: Sequence[tuple[bool, str]]) -> str:
    """Sentences, each with whether it is about something bad."""
    return "<ul>" + "".join(f"<li{' class=bad' if bad else ''}>{html.escape(text)}</li>"
                            for bad, text in sentences) + "</ul>"


def page(title: str, parts: Sequence[str]) -> str:
    """The whole file."""
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" '
            f'content="light dark"><style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>'
            f'{"".join(parts)}</body></html>\n')
