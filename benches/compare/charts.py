"""The charts of the results, as small SVG files that come out the same from the same values."""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

import report

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"
STYLE = {
    "svg.hashsalt": "lenet",  # else ids are drawn anew each time
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
}
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")
TIMES = FuncFormatter(lambda value, _: f"{value:g}")


def save(figure, path):
    # The white ground makes them readable on a dark page too.
    figure.savefig(path, facecolor="white", bbox_inches="tight", metadata={"Date": None, "Creator": None})


def whiskers(values):
    return [[each.median - each.low for each in values], [each.high - each.median for each in values]]


def draw_ratios(contests, path):
    bars = []
    for contest in contests:
        rival = contest["entrants"][1]["label"]
        for what, _, _, _, ratio, _ in report.comparisons(contest):
            percentile = ", 99th percentile" if "99th" in what else ""
            bars.append((f"{contest['title']}{percentile}: {rival}", ratio))
    bars.reverse()
    ratios = [ratio for _, ratio in bars]
    figure = Figure(figsize=(6, 0.6 + 0.24 * len(bars)))
    axes = figure.subplots()
    medians = [ratio.median for ratio in ratios]
    # From 1, where both are as fast: on a logarithmic axis a bar has no other beginning.
    axes.barh([label for label, _ in bars], [value - 1 for value in medians], left=1, color=BLUE, height=0.65)
    axes.errorbar(medians, range(len(bars)), xerr=whiskers(ratios), fmt="none", ecolor="black")
    for row, ratio in enumerate(ratios):
        end = max(ratio.high, 1)  # to the right of the bar, also of one that goes to the left
        axes.annotate(f"{ratio.median:.2g}", (end, row), (4, 0), textcoords="offset points", va="center")
    axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(TIMES)
    axes.set_xlabel("times as fast as the rival (bar: median, line: smallest to largest)")
    axes.grid(axis="y", visible=False)
    save(figure, path)


def images_a_second(_, speed):
    return speed


def microseconds_a_step(entrant, speed):
    return entrant["batch"] / speed * 1e6


# By a contest's series: file, title, the entrants' field along x, what x and y are, y of entrant and speed, log-log
SERIES = {
    "threads": ("threads.svg", "Throughput over threads", "threads", "threads", "images/s", images_a_second, False),
    "batch size": (
        "batch_size.svg",
        "Cost of a step against its batch size",
        "batch",
        "images a batch",
        "µs a step",
        microseconds_a_step,
        True,
    ),
    "image size": (
        "image_size.svg",
        "Throughput against image size",
        "side",
        "image side, pixels",
        "images/s",
        images_a_second,
        True,
    ),
}


def draw_series(contests, folder, name, _title, key, xlabel, ylabel, value, logarithmic):
    """A line for each contest."""
    figure = Figure(figsize=(5, 3))
    axes = figure.subplots()
    for contest, colour, marker in zip(contests, (BLUE, ORANGE), "os"):
        entrants = contest["entrants"]
        x = [entrant[key] for entrant in entrants]
        y = [
            report.Values(value(entrant, speed) for speed in report.speed(contest, index).values)
            for index, entrant in enumerate(entrants)
        ]
        medians = [each.median for each in y]
        axes.errorbar(x, medians, yerr=whiskers(y), color=colour, marker=marker, capsize=2, label=contest["title"])
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xticks(x, [str(size) for size in x])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.legend(frameon=False)
    save(figure, folder / name)


def draw(contests, folder):
    """Draws what there are results for; returns (file name, title) of each chart."""
    drawn = []
    held = [contest for contest in contests if "rounds" in contest]
    duels = [contest for contest in held if not contest["series"] and contest["entrants"][1]["worker"] != "lenet"]
    with matplotlib.rc_context(STYLE):
        if duels:
            draw_ratios(duels, folder / "ratios.svg")
            drawn.append(("ratios.svg", "lenet's speed over its rivals'"))
        for series, details in SERIES.items():
            lines = [contest for contest in held if contest["series"] == series]
            if lines:
                draw_series(lines, folder, *details)
                drawn.append(details[:2])
    return drawn
