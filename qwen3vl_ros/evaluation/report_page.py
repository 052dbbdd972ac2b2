# SPDX-License-Identifier: Apache-2.0
"""An evaluation as one HTML page that needs nothing beside it: numbers, categories, worst cases.

Words of models and of annotations are untrusted: they are escaped, and nothing on the page runs.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from .journal import Identity
from .meanings import MEANINGS
from .numbers import Numbers, Results
from .worst_cases import ANSWER_COLOUR, TRUTH_COLOUR, WorstCase, truth_in_words

_SHARES = ("iou_mean", "accuracy_", "ap", "absent_answered", "objects_", "points_", "count_right")
_ALSO_SHARES = ("words_", "answers_right", "time_", "size_median", "lifted_size")
_LONGEST_WORDS = 300
# Told of every group.
_COUNTS = ("questions", "unreadable", "no_room", "incomplete", "mended", "seconds_median")

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem;
  padding: 0 1rem; color: #1c2024; background: #fff; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; text-align: left;
  vertical-align: top; border-bottom: 1px solid #e5e8eb; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.m, .quiet { color: #5b6670; } code { font-size: 12px; word-break: break-all; }
td.n, th.n { text-align: right; } th { font-weight: 600; font-size: 13px; }
.groups span { display: inline-block; white-space: nowrap; margin-right: 1.1rem;
  color: #5b6670; font-size: 14px; } .groups b { color: #1c2024; }
.worst { display: grid; gap: 1.5rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); }
figure { margin: 0; } img { width: 100%; border-radius: 4px; }
figcaption { font-size: 13px; } b.truth { color: #0072b2; } b.answer { color: #a06d00; }
.bars td { padding-top: 0; padding-bottom: 0; } .bar { background: #0072b2; height: .7rem; }
@media (prefers-color-scheme: dark) { body { color: #e6e9ec; background: #15181b; }
  td, th { border-color: #2c3238; } td.m, .quiet, .groups span { color: #9aa5af; }
  .groups b { color: #e6e9ec; }
  b.truth, .bar { color: #56b4e9; } .bar { background: #56b4e9; } b.answer { color: #e69f00; } }
"""


def report_page(
    results: Results,
    *,
    identity: Identity,
    remarks: Sequence[str],
    worst: Sequence[WorstCase],
) -> str:
    """The page.

    Args:
        results: the numbers.
        identity: which model was asked about which data.
        remarks: on the data, one sentence each.
        worst: cases to show, worst first.
    """
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(_title(identity))}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(_title(identity))}</h1>",
            '<p class="quiet">Written by <code>qwen3vl evaluate</code>; every answer is in the '
            "JSON file beside this page.</p>",
            *_groups(results.groups),
            *_worst(worst),
            *_categories(results.categories),
            *_meanings(results.groups),
            "<h2>What was asked about what</h2><table>",
            *_identity_rows(identity),
            "</table>",
            *(f'<p class="quiet">{escape(remark)}.</p>' for remark in remarks),
            "</body></html>",
            "",
        ]
    )


def shown(name: str, value: float | int | None) -> str:
    """A number as people read it: shares in percent.

    >>> shown("iou_mean", 0.7431), shown("center_median_m", 0.0984), shown("questions", 574)
    ('74.3 %', '0.098', '574')
    """
    if value is None:
        return "not given" if name.endswith("_own") else "too seldom"
    if isinstance(value, int):
        return str(value)
    if name.startswith((*_SHARES, *_ALSO_SHARES)) or name == "lifted":
        return f"{100 * value:.1f} %"
    return f"{value:.1f}" if name.endswith("_deg") else f"{value:.3f}"


def _title(identity: Identity) -> str:
    model, data = identity.get("model", {}), identity.get("data", {})
    name = model.get("model_id") or model.get("model") or model.get("model_type", "a model")
    return f"{name} on {data.get('annotations', data.get('kind', 'data'))}"


def _groups(groups: Mapping[str, Numbers]) -> Iterator[str]:
    """A row for each group: how often it went how, and what is told of its kind of question."""
    yield '<table class="groups"><tr><th></th>'
    yield from (f'<th class="n">{escape(_spoken(name))}</th>' for name in _COUNTS)
    yield "<th>numbers</th></tr>"
    for group, numbers in groups.items():
        yield f"<tr><td><b>{escape(group)}</b></td>"
        yield from (f'<td class="n">{shown(name, numbers[name])}</td>' for name in _COUNTS)
        told = (
            f"<span>{escape(name)} <b>{escape(shown(name, value))}</b></span>"
            for name, value in numbers.items()
            if name not in (*_COUNTS, "pictures")
        )
        yield f"<td>{' '.join(told)}</td></tr>"
    yield "</table>"


def _meanings(groups: Mapping[str, Numbers]) -> Iterator[str]:
    names = dict.fromkeys(name for numbers in groups.values() for name in numbers)
    yield "<h2>What the numbers say</h2><table>"
    for name in names:
        yield f'<tr><td>{escape(name)}</td><td class="m">{escape(MEANINGS[name])}</td></tr>'
    yield "</table>"


def _spoken(name: str) -> str:
    return name.replace("seconds_median", "seconds").replace("_", " ")


def _categories(categories: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for group, precisions in categories.items():
        if len(precisions) < 2:
            continue
        yield f"<h2>{escape(group)}: average precision by category</h2><table class='bars'>"
        for name, precision in sorted(precisions.items(), key=lambda item: -item[1]):
            bar = f'<div class="bar" style="width:{24 * precision:.2f}rem"></div>'
            yield (
                f'<tr><td>{escape(name)}</td><td class="n">{100 * precision:.1f} %</td>'
                f"<td>{bar}</td></tr>"
            )
        yield "</table>"


def _worst(worst: Sequence[WorstCase]) -> Iterator[str]:
    if not worst:
        return
    truth, answer = (_hex(colour) for colour in (TRUTH_COLOUR, ANSWER_COLOUR))
    yield (
        f'<h2>Worst cases</h2><p class="quiet">Truth in <b style="color:{truth}">blue</b>, answer '
        f'in <b style="color:{answer}">orange</b>; of each group in turn, unreadable answers '
        'first, then the least right.</p><div class="worst">'
    )
    for one in worst:
        query = one.case.query
        asked = ", ".join(query.categories) or query.text or query.task.value
        said = one.given.remark if one.given.fault is not None else one.given.words
        said = said if len(said) <= _LONGEST_WORDS else f"{said[:_LONGEST_WORDS]} ..."
        how = one.given.fault.value if one.given.fault is not None else f"score {one.score:.2f}"
        notes = "".join(f"<br>{escape(note)}" for note in one.given.notes)
        data = base64.b64encode(one.jpeg).decode("ascii")
        yield (
            f'<figure><img alt="{escape(asked)}" src="data:image/jpeg;base64,{data}"><figcaption>'
            f"<b>{escape(asked)}</b> ({escape(one.case.group)}): {escape(how)}<br>"
            f'<b class="truth">truth</b> {escape(truth_in_words(one.case.truth))}<br>'
            f'<b class="answer">answer</b> <code>{escape(said)}</code>{notes}'
            "</figcaption></figure>"
        )
    yield "</div>"


def _identity_rows(identity: Identity) -> Iterator[str]:
    for part, values in identity.items():
        for name, value in values.items():
            yield (
                f'<tr><td class="m">{escape(part)}</td><td>{escape(name)}</td>'
                f"<td><code>{escape(value)}</code></td></tr>"
            )


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
