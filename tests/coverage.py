"""Reads what cargo-llvm-cov wrote as lcov, and fails if too little of the library is run by its tests.

Overall at least 90 of 100 lines; in the rooms that read what strangers wrote, every line, or a comment
"Not covered: " with the reason in front of the lines that are not.
"""

import sys
from pathlib import Path

OVERALL = 0.90
WHOLE = ["src/ffi/", "src/checkpoint.rs", "src/dataset.rs", "src/durable_file.rs"]
REASON = "// Not covered: "


def executions(lcov: str) -> dict[Path, dict[int, int]]:
    """How often each line of each file was run; a line may be listed more than once."""
    files: dict[Path, dict[int, int]] = {}
    for line in lcov.splitlines():
        key, _, value = line.partition(":")
        if key == "SF":
            counts = files.setdefault(Path(value), {})
        elif key == "DA":
            number, count = map(int, value.split(",")[:2])
            counts[number] = max(count, counts.get(number, 0))
    return files


def unexplained(path: Path, counts: dict[int, int]) -> list[int]:
    """Lines that were not run, unless the reason is between them and the last line that was."""
    text = path.read_text().splitlines()
    found, explained = [], False
    for number, line in enumerate(text, start=1):
        count = counts.get(number)
        if count:
            explained = False
        elif line.strip().startswith(REASON):
            explained = True
        elif count == 0 and not explained:
            found.append(number)
    return found


def main() -> None:
    root = Path(__file__).parent.parent
    files = executions(Path(sys.argv[1]).read_text())
    files = {path.relative_to(root): counts for path, counts in files.items()}
    failed = False
    run = total = 0
    for path, counts in sorted(files.items()):
        run_here = sum(count > 0 for count in counts.values())
        run, total = run + run_here, total + len(counts)
        print(f"{100 * run_here / len(counts):6.1f} % of {len(counts):4} lines  {path}")
        if any(str(path).startswith(room) for room in WHOLE):
            for number in unexplained(root / path, counts):
                failed = True
                print(f"         line {number} was not run, and no comment says why")
    print(f"{100 * run / total:6.1f} % of {total:4} lines")
    if failed or run < OVERALL * total:
        sys.exit("too little of the library was run")


if __name__ == "__main__":
    main()
