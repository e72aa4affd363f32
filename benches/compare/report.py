"""What the rounds of the contests say: medians, spreads and ratios, and the page that shows them."""

from statistics import median

DISTURBED = 0.85  # of its highest peak: a machine that has nothing else to do does not fall below


def multiply_adds(training, side):
    """Of one image: 416,520 forward and 1,131,960 in training at 28 x 28, where conv1's input needs no gradient."""
    conv1 = side**2 * 6 * 25
    conv2 = (side // 2 - 4) ** 2 * 16 * 6 * 25
    linear = 16 * ((side // 2 - 4) // 2) ** 2 * 120 + 120 * 84 + 84 * 10
    forward = conv1 + conv2 + linear
    return 3 * forward - conv1 if training else forward


class Values:
    """A value a round, with its median and spread."""

    def __init__(self, values):
        self.values = list(values)
        self.median, self.low, self.high = median(self.values), min(self.values), max(self.values)

    def __truediv__(self, other):
        return Values(mine / its for mine, its in zip(self.values, other.values))

    def text(self, form):
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"


def column(contest, index):
    """The answers that an entrant gave in the rounds."""
    return [answers[index] for answers in contest["rounds"]]


def speed(contest, index):
    return Values(answer["images"] / answer["seconds"] for answer in column(contest, index))


def share_of_peak(contest, index):
    entrant = contest["entrants"][index]
    gflop = 2e-9 * multiply_adds(entrant["training"], entrant["side"])
    return Values(
        gflop * answer["images"] / answer["seconds"] / answer["peak_gflops"] for answer in column(contest, index)
    )


def comparisons(contest):
    """The duel's rows: (what, unit's form, lenet, rival, how many times as good lenet is, share of the peak)."""
    if "median_us" not in contest["rounds"][0][0]:
        mine, its = speed(contest, 0), speed(contest, 1)
        return [("images/s", ",.0f", mine, its, mine / its, share_of_peak(contest, 0))]
    rows = []
    for key, what in [("median_us", "µs, median"), ("p99_us", "µs, 99th percentile")]:
        mine, its = (Values(answer[key] for answer in column(contest, index)) for index in (0, 1))
        rows.append((what, ",.1f", mine, its, its / mine, None))
    return rows


def way(contest):
    """How the rival was fastest, where it had a choice."""
    chosen = contest["rounds"][0][1].get("way")
    return f" ({chosen})" if chosen else ""


def in_a_line(contest):
    if "unavailable" in contest:
        return contest["unavailable"]
    if contest["series"]:
        speeds = [speed(contest, index).median for index in range(len(contest["entrants"]))]
        return ", ".join(f"{each['label']}: {value:,.0f}" for each, value in zip(contest["entrants"], speeds))
    rival = contest["entrants"][1]["label"] + way(contest)
    return "; ".join(
        f"{mine.median:{form}} against {its.median:{form}} of {rival} in {what}: {ratio.text('.2f')} times"
        for what, form, mine, its, ratio, _ in comparisons(contest)
    )


def peaks(contests):
    """By number of threads, what the CPU could do over all the measurements."""
    found = {}
    for contest in contests:
        for answers in contest.get("rounds", []):
            for entrant, answer in zip(contest["entrants"], answers):
                found.setdefault(entrant["threads"], []).append(answer["peak_gflops"])
    return {threads: Values(found[threads]) for threads in sorted(found)}


def mark(contest, indices, highest):
    """What a row about these entrants is marked with when the machine was disturbed in a round of theirs."""
    for index in indices:
        enough = DISTURBED * highest[contest["entrants"][index]["threads"]].high
        if any(answer["peak_gflops"] < enough for answer in column(contest, index)):
            return " (*)"
    return ""


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def duel_rows(contest, highest):
    rival = contest["entrants"][1]["label"]
    if "unavailable" in contest:
        yield [contest["title"], rival, "", contest["unavailable"], "", ""]
        return
    for what, form, mine, its, ratio, share in comparisons(contest):
        yield [
            f"{contest['title']}, {what}{mark(contest, (0, 1), highest)}",
            rival + way(contest),
            mine.text(form),
            its.text(form),
            f"**{ratio.median:.2f}** ({ratio.low:.2f} to {ratio.high:.2f})",
            share.text(".0%") if share else "",
        ]


def series_table(contest, highest):
    rows = []
    for index, entrant in enumerate(contest["entrants"]):
        images = speed(contest, index)
        step = Values(entrant["batch"] / value * 1e6 for value in images.values)
        label = entrant["label"] + mark(contest, (index,), highest)
        rows.append([label, images.text(",.0f"), step.text(",.0f"), share_of_peak(contest, index).text(".0%")])
    return table([contest["series"], "images/s", "µs a call", "of the FMA peak"], rows)


def markdown(results, drawn):
    contests = results["contests"]
    highest = peaks(contests)
    duels = [row for contest in contests if not contest["series"] for row in duel_rows(contest, highest)]
    parts = [
        "# Benchmarks",
        f"lenet beside its peers. Generated by `{results['command']}` on {results['date']}; "
        "[`results.json`](results.json) has every value of every round.",
        table(["", ""], [[key, value] for key, value in results["machine"].items()]),
        f"Medians of {results['rounds']} rounds of {results['seconds']:g} s, smallest and largest value in brackets. "
        "The entrants take turns, so a ratio compares what was measured next to each other; it is above 1 where lenet "
        "is faster. *Of the FMA peak*: two FLOP a multiply-add of the network (416,520 an image, 1,131,960 in "
        "training, at 28 x 28) over what nothing but multiply-adds in registers reached on as many threads just "
        "before; lenet makes do with about half of them (Winograd), so it may be above 100%. "
        f"Where that once fell below {DISTURBED:.0%} of its highest, the machine had other work: (*).",
        "The calls are alike: training is forward, loss, backward and optimizer; prediction gives classes and "
        "probabilities; fit includes shuffling, gathering, conversion from bytes, loss and accuracy. Of several ways "
        "that a rival has, the fastest was found out first and is named in brackets. For PyTorch glibc is told to keep "
        "freed memory, which makes it faster. Rivals are called from Python, as their users do; for a single image "
        "that counts.",
        table(
            ["FMA peak", "GFLOP/s"],
            [[f"{threads} thread{'s' * (threads > 1)}", peak.text(".0f")] for threads, peak in highest.items()],
        ),
    ]
    if duels:
        header = ["what", "rival", "lenet", "rival's", "ratio", "of the FMA peak"]
        parts += ["## lenet and rivals", table(header, duels)]
    for contest in contests:
        if contest["series"]:
            parts += [f"## lenet: {contest['title']}", series_table(contest, highest)]
    if drawn:
        parts += ["## Charts", *(f"![{title}]({name})" for name, title in drawn)]
    return "\n\n".join(parts) + "\n"
