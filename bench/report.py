"""Results as a table that reads as plain text and is Markdown: `python -m bench.report RESULTS.json [--into PAGE.md]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import marks
from bench.results import Cell, Results, RowResult, decode

REFERENCES = ("haproxy", "haproxy-jwt", "haproxy-splice")
BEGIN, END = "<!-- results: python -m bench.report -->", "<!-- end of results -->"
NONE = "–"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table whose columns are padded; the first `left` are aligned to the left, numbers to the right."""
    widths = [max(len(line[at]) for line in [header, *rows]) for at in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |\n"

    rule = ["-" * width if at < left else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    return line(header) + line(rule) + "".join(line(row) for row in rows)


def number(value: float) -> str:
    """Three figures: more would promise what the method can't keep."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(cell: Cell, row: RowResult, reference: str) -> str:
    other = row.median(reference)
    return f"{cell.median / other:.2f}" if other else NONE


def _lines(row: RowResult, results: Results) -> list[list[str]]:
    lines = []
    for peer, title in results.titles.items():
        if peer in row.failed:
            lines.append(["", title, "failed", *[NONE] * (1 + len(REFERENCES))])
        elif (cell := row.cells.get(peer)) is not None:
            spread = f"{number(min(cell.samples))}–{number(max(cell.samples))}"
            ratios = [_ratio(cell, row, reference) for reference in REFERENCES]
            lines.append(["", title, number(cell.median), spread, *ratios])
    if lines:
        lines[0][0] = f"{row.title} ({row.unit})"
    return lines


def render(results: Results) -> str:
    """The table, what failed or was missing, where it was measured."""
    header = ["row (unit)", "proxy", "median", "least–most"]
    header += [f"÷ {results.titles.get(reference, reference)}" for reference in REFERENCES]
    lines = [line for row in results.rows for line in _lines(row, results)]
    failures = [
        f"- failed: {row.name}, {results.titles.get(peer, peer)}: {why}"
        for row in results.rows
        for peer, why in row.failed.items()
    ]
    missing = [f"- left out: {peer}: {why}" for peer, why in results.missing.items()]
    machine = [f"- {name}: {value}" for name, value in results.machine.items()]
    versions = [f"- {results.titles.get(peer, peer)}: {value}" for peer, value in results.versions.items()]
    scale = ", ".join(f"{name} {value:,}" for name, value in results.scale.items())
    notes = [f"- measured: {results.started}; {scale}", *machine, *versions, *missing, *failures]
    return table(header, lines, left=2) + "\n" + "\n".join(notes) + "\n"


def fill(page: str, text: str) -> str:
    """`page` with `text` between its two marker lines. Raises `ValueError` where the page has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Render the results of a run.")
    parser.add_argument("results", type=Path, help="what `python -m bench --json` wrote")
    parser.add_argument("--into", type=Path, metavar="PAGE.md", help="put the table between the markers of this page")
    options = parser.parse_args(arguments)
    results = decode(options.results.read_bytes())
    text = render(results)
    judgements = [marks.judge(mark, results) for mark in marks.MARKS]
    text += "\nMarks:\n\n" + "".join(f"- {line}\n" for line in marks.render(judgements).splitlines())
    if options.into is None:
        sys.stdout.write(text)
    else:
        options.into.write_text(fill(options.into.read_text(), text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
