"""Feeds broken inputs to the command line and counts what comes of them.

    python tests/robustness/fuzz.py --inputs 3000              # all areas, two processes
    python tests/robustness/fuzz.py --area click_log --inputs 200
    python tests/robustness/fuzz.py --only click_log:17        # one input again, with its whole output

Sound behaviour is to accept and do the work, or to refuse with exit code 2 and a message. Everything else is a
finding: a traceback or another exit code, a hang, an acceptance of what the schema forbids, files left by a refused
command. Each input is drawn from (seed, area, number) alone, so a finding can be repeated by its name.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.robustness.cases import AREAS
from tests.robustness.runner import Outcome, Result, preload, run_command

FINDINGS = (Outcome.TRACEBACK, Outcome.HANG, Outcome.SILENT, Outcome.LEFTOVER)
LIMIT_S = 20.0


def try_input(area: str, number: int, seed: int, materials: Path, scratch: Path) -> tuple[str, Result]:
    """Make one broken input, run its command, and judge it; returns what was changed and the result."""
    rng = random.Random(f"{seed} {area} {number}")
    folder = scratch / f"{area}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        child_file = folder / "case"
        case = _made_in_a_child(area, rng, materials, folder, child_file)
        result = run_command(case["arguments"], folder, limit_s=LIMIT_S, accepted_codes=tuple(case["accepted_codes"]))
        if result.outcome == Outcome.ACCEPTED and case["forbidden"]:
            result = Result(Outcome.SILENT, result.seconds, result.output)
        if result.outcome == Outcome.REFUSED and any(Path(path).exists() for path in case["absent"]):
            result = Result(Outcome.LEFTOVER, result.seconds, result.output)
        return case["change"], result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made_in_a_child(area: str, rng: random.Random, materials: Path, folder: Path, file: Path) -> dict:
    """The case, made in a process of its own: tables use thread pools, which the parent must not start."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            case = AREAS[area](materials, folder, rng)
            made = {
                "arguments": case.arguments,
                "change": case.change,
                "forbidden": case.forbidden,
                "absent": [str(path) for path in case.absent],
                "accepted_codes": case.accepted_codes,
            }
            file.write_text(json.dumps(made), encoding="utf-8")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError(f"the input {folder.name} could not be made")
    made = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    return made


def inputs_of(areas: Iterable[str], count: int) -> list[tuple[str, int]]:
    """``count`` inputs, the areas in turn."""
    names = list(areas)
    return [(names[i % len(names)], i // len(names)) for i in range(count)]


def try_all(
    inputs: list[tuple[str, int]], seed: int, materials: Path, scratch: Path, *, processes: int = 1
) -> list[tuple[str, int, str, Result]]:
    """Try inputs side by side; results in the order of the inputs. Findings are printed as they come."""
    scratch.mkdir(parents=True, exist_ok=True)
    children = []
    for part in range(processes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with (scratch / f"results-{part}").open("w", encoding="utf-8") as file:
                    for place in range(part, len(inputs), processes):
                        area, number = inputs[place]
                        change, result = try_input(area, number, seed, materials, scratch)
                        if result.outcome in FINDINGS:
                            tail = result.output.strip()[-1500:]
                            name = f"{area}:{number} (seed {seed})"
                            print(f"\n{name} {result.outcome}, {result.seconds:.1f} s: {change}\n{tail}", flush=True)
                        row = [place, change, result.outcome, result.seconds, result.output[-4000:]]
                        file.write(json.dumps(row) + "\n")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        if status != 0:
            raise RuntimeError("a process of the fuzzer ended early: see above")
    found = {}
    for part in range(processes):
        for line in (scratch / f"results-{part}").read_text(encoding="utf-8").splitlines():
            place, change, outcome, seconds, output = json.loads(line)
            found[place] = (*inputs[place], change, Result(Outcome(outcome), seconds, output))
    return [found[place] for place in range(len(inputs))]


def report(results: list[tuple[str, int, str, Result]]) -> str:
    """Counts by area and outcome."""
    counts = Counter((area, result.outcome) for area, _, _, result in results)
    areas = sorted({area for area, *_ in results})
    lines = [" " * 20 + "".join(f"{outcome:>19}" for outcome in Outcome)]
    lines += [f"{area:20}" + "".join(f"{counts[area, outcome]:19}" for outcome in Outcome) for area in areas]
    total = Counter(result.outcome for *_, result in results)
    lines.append(f"{'all':20}" + "".join(f"{total[outcome]:19}" for outcome in Outcome))
    slowest = max(results, key=lambda row: row[3].seconds)
    lines.append(f"slowest: {slowest[0]}:{slowest[1]}, {slowest[3].seconds:.1f} s: {slowest[2][:100]}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=300, help="How many, over all areas.")
    parser.add_argument("--area", action="append", choices=sorted(AREAS), help="Only this area; repeatable.")
    parser.add_argument("--only", metavar="AREA:NUMBER", help="One input, with its whole output.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--materials", type=Path, help="Folder of sound inputs, kept; default: made anew.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        materials = given.materials or Path(scratch) / "materials"
        _make_materials(materials)
        preload()
        if given.only:
            area, number = given.only.split(":")
            change, result = try_input(area, int(number), given.seed, materials, Path(scratch))
            print(f"{change}\n{result.outcome}, {result.seconds:.1f} s\n{result.output}")
            return
        inputs = inputs_of(given.area or AREAS, given.inputs)
        print(f"seed {given.seed}, {len(inputs):,} inputs", flush=True)
        results = try_all(inputs, given.seed, materials, Path(scratch) / "work", processes=given.processes)
    print(report(results))
    sys.exit(any(result.outcome in FINDINGS for *_, result in results))


def _make_materials(folder: Path) -> None:
    """In a child, as it starts thread pools."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            from tests.robustness.materials import make_materials

            make_materials(folder.resolve())
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise SystemExit("the sound inputs could not be made: see above")


if __name__ == "__main__":
    main()
