# SPDX-License-Identifier: Apache-2.0
"""The main path of an evaluation: cases are asked, answers become numbers, numbers a report.

Three files stand together: `NAME.json` with every number and answer, `NAME.html` for people, and
`NAME.answers.jsonl`, the answers as they came, by which an interrupted evaluation goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .. import __version__
from ..perception import Perception
from .asking import ask, ask_at_once
from .case import Case, DataSet
from .given import Given, given_as_json
from .journal import Identity, Journal
from .numbers import Results, results_of
from .report_page import report_page
from .worst_cases import worst_cases

FORMAT_VERSION = 1
ANSWERS_SUFFIX = ".answers.jsonl"
PAGE_SUFFIX = ".html"
SHOWN_CASES = 12

# Called after every answer, and once before the first, with answers kept and cases in all.
Progress = Callable[[int, int], None]


def evaluate(
    perception: Perception,
    data: DataSet,
    *,
    model: Mapping[str, str],
    output: Path,
    others: Sequence[Perception] = (),
    restart: bool = False,
    progress: Progress = lambda done, total: None,
) -> Results:
    """Ask what was not asked yet, and write the report.

    Args:
        perception: the model.
        data: the questions.
        model: which model that is, in words by their names.
        output: the JSON file; the other two stand beside it.
        others: of the same model, to be asked at the same time.
        restart: forget what was kept of an earlier run.
        progress: how far the asking is.

    Raises:
        DatasetError: what was kept is of another model or other data.
        FrameError, EngineError, RemoteError: as `Perception.ground`; what was kept stays.
    """
    answers = output.with_suffix(ANSWERS_SUFFIX)
    if restart:
        answers.unlink(missing_ok=True)
    identity: Identity = {"model": model, "data": data.identity}
    journal = Journal.open(answers, identity)
    total = len(data.cases)
    done = sum(case.case_id in journal.given for case in data.cases)
    progress(done, total)
    asking = (
        ask_at_once((perception, *others), data.cases, journal)
        if others
        else ask(perception, data.cases, journal)
    )
    for _ in asking:
        done += 1
        progress(done, total)
    results = results_of(data.cases, journal.given)
    write_report(results, data, journal.given, identity=identity, output=output)
    return results


def write_report(
    results: Results,
    data: DataSet,
    given: Mapping[str, Given],
    *,
    identity: Identity,
    output: Path,
) -> None:
    """Write the JSON file and the page beside it."""
    values = {
        "format_version": FORMAT_VERSION,
        "qwen3vl_ros": __version__,
        **identity,
        "remarks": list(data.remarks),
        "groups": results.groups,
        "categories": results.categories,
        "cases": [
            _case_as_json(case, given[case.case_id], results.scores[case.case_id])
            for case in data.cases
        ],
    }
    text = json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False)
    _write(output, text + "\n")
    page = report_page(
        results,
        identity=identity,
        remarks=data.remarks,
        worst=worst_cases(data.cases, given, results.scores, most=SHOWN_CASES),
    )
    _write(output.with_suffix(PAGE_SUFFIX), page)


def _case_as_json(case: Case, given: Given, score: float) -> Mapping[str, object]:
    asked: str | Sequence[str] = list(case.query.categories) or case.query.text
    return {
        "picture": case.picture_id,
        "group": case.group,
        "task": case.query.task.value,
        "asked": asked,
        "score": round(score, 6),
        **given_as_json(given),
    }


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Half a surrogate pair in a model's words is no UTF-8.
    file.write_bytes(text.encode("utf-8", "replace"))
