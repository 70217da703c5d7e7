#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws latency against load: `bench/plot.py [latest.json [latency.svg]]`, from the results of the workload open_loop."""

import json
import math
import pathlib
import statistics
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 70, 150, 44, 50
COLOURS = {"sparx": "#c0392b", "nginx": "#1e8449", "cowboy": "#2471a3"}
DASHES = {"p50": "", "p99": "6 4"}


def points(raw):
    """{(server, percentile): [(requests/s, ms), ...]} in the order of loads; without the peak, which was measured without pauses."""
    lines = {}
    for load, servers in raw.items():
        if load == "peak":
            continue
        for name, rounds in servers.items():
            rate = statistics.median(one["rate"] for one in rounds)
            for percentile in DASHES:
                lines.setdefault((name, percentile), []).append((rate, statistics.median(one[percentile] for one in rounds)))
    return lines


def nice(most):
    """A step for about five marks up to `most`."""
    step = 10 ** math.floor(math.log10(most / 5))
    return next(step * factor for factor in (1, 2, 5, 10) if most / (step * factor) <= 6)


class Axes:
    """Converts requests/s and ms (logarithmic) to positions in the picture."""

    def __init__(self, lines):
        rates = [rate for line in lines.values() for rate, _ in line]
        times = [max(time, 0.001) for line in lines.values() for _, time in line]
        self.step = nice(max(rates))
        self.most = math.ceil(max(rates) / self.step) * self.step
        self.low, self.high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
        self.high = max(self.high, self.low + 1)

    def x(self, rate):
        return LEFT + rate / self.most * (WIDTH - LEFT - RIGHT)

    def y(self, time):
        share = (math.log10(max(time, 0.001)) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def text(x, y, words, anchor="start", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{words}</text>'


def line(x1, y1, x2, y2, colour, dash="", width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"/>'


def grid(axes):
    parts = []
    for power in range(axes.low, axes.high + 1):
        y = axes.y(10**power)
        parts += [line(LEFT, y, WIDTH - RIGHT, y, "#ccc"), text(LEFT - 8, y + 4, f"{10.0 ** power:g} ms", "end")]
    for number in range(round(axes.most / axes.step) + 1):
        rate = number * axes.step
        parts += [
            line(axes.x(rate), TOP, axes.x(rate), HEIGHT - BOTTOM, "#eee"),
            text(axes.x(rate), HEIGHT - BOTTOM + 18, f"{rate:,.0f}", "middle"),
        ]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "answered requests per second", "middle"))
    return parts


def svg(title, lines):
    axes = Axes(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 24, title, more=' font-size="15"'),
        *grid(axes),
    ]
    for number, ((name, percentile), places) in enumerate(lines.items()):
        colour, dash = COLOURS.get(name, "#555"), DASHES[percentile]
        path = " ".join(f"{axes.x(rate):.1f},{axes.y(time):.1f}" for rate, time in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        parts += [f'<circle cx="{axes.x(rate):.1f}" cy="{axes.y(time):.1f}" r="3" fill="{colour}"/>' for rate, time in places]
        y = TOP + 12 + 20 * number
        parts += [line(WIDTH - RIGHT + 15, y, WIDTH - RIGHT + 45, y, colour, dash, 2), text(WIDTH - RIGHT + 52, y + 4, f"{name} {percentile}")]
    return "\n".join(parts + ["</svg>"]) + "\n"


def draw(source, target):
    tables = json.loads(pathlib.Path(source).read_text())["tables"]
    found = [table for table in tables if table.get("workload") == "open_loop"]
    if not found:
        sys.exit(f"plot: {source} has no results of the workload open_loop")
    pathlib.Path(target).write_text(svg(found[0]["title"], points(found[0]["raw"])))


if __name__ == "__main__":
    results = pathlib.Path(__file__).resolve().parent / "_results"
    names = sys.argv[1:] + [results / "latest.json", results / "latency.svg"][len(sys.argv) - 1 :]
    draw(*names)
