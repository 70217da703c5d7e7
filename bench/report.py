# SPDX-License-Identifier: Apache-2.0
"""Tables of results, as Markdown and as data."""

import statistics


class Table:
    """A workload's result: rows of cells for people, and `raw` for programs."""

    def __init__(self, title, columns, rows, raw, note=""):
        self.title, self.columns, self.rows, self.raw, self.note = title, columns, rows, raw, note
        self.workload = ""

    def markdown(self):
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines.append("| " + " | ".join(self.columns) + " |")
        lines.append("| --- |" + " ---: |" * (len(self.columns) - 1))
        lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


def median(results, key):
    """The median of one figure over the rounds, or None where no round has it."""
    values = [result[key] for result in results if result.get(key) is not None]
    return statistics.median(values) if values else None


def medians(results):
    """The median of every numeric figure over the rounds."""
    return {key: median(results, key) for key in results[0] if isinstance(results[0][key], (int, float))}


def count(value):
    """1234567 -> 1,234,567"""
    return "–" if value is None else f"{value:,.0f}"


def ratio(value, base):
    return "–" if not value or not base else f"{value / base:.2f}"


def milliseconds(value):
    return "–" if value is None else f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def mebibytes(value):
    return "–" if value is None else f"{value / 2**20:.1f} MiB"


def brief(result):
    """One line of progress."""
    shown = {"rate": "{:,.0f}/s", "p50": "p50 {:.3f} ms", "p99": "p99 {:.3f} ms", "mib_per_s": "{:,.0f} MiB/s", "errors": "{} errors"}
    return "  ".join(form.format(result[key]) for key, form in shown.items() if result.get(key))


RATE_COLUMNS = ["server", "requests/s", "of nginx", "of Cowboy", "p50", "p99", "p99.9", "CPU µs/request"]


def rate_row(label, name, results, base):
    """A row of RATE_COLUMNS; base is {server name: its median rate}."""
    figures = medians(results[name])
    cpu = ", ".join(f"{part} {figures[key]:.1f}" for key in figures if key.startswith("cpu_") for part in [key[4:]])
    errors = sum(result.get("errors", 0) for result in results[name])
    return [
        label,
        count(figures["rate"]) + (f" ({errors} errors)" if errors else ""),
        ratio(figures["rate"], base.get("nginx")),
        ratio(figures["rate"], base.get("cowboy")),
        milliseconds(figures.get("p50")),
        milliseconds(figures.get("p99")),
        milliseconds(figures.get("p999")),
        cpu or "–",
    ]


def markdown(machine, tables):
    head = (
        f"{machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, Erlang/OTP {machine['otp']}, "
        f"Elixir {machine['elixir']}, {machine['date']}"
        + (f", at {machine['commit']}" if machine["commit"] else "")
        + ". Server and load generator share the machine."
    )
    return "\n".join([head, ""] + [table.markdown() for table in tables])


def data(machine, tables):
    return {"machine": machine, "tables": [{"workload": table.workload, "title": table.title, "raw": table.raw} for table in tables]}
