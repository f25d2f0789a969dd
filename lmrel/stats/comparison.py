"""Two runs in one call: which loses more between two temperatures, how sure that is, and what would settle it.

Everything is paired by problem, so that what makes a problem hard cancels, and problems of one cluster count as one.
Rates are shares in [0, 1]; sentences and tables say them in per cent, and differences in percentage points.
"""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmrel import records
from lmrel.errors import InputError, check_choice, quoted, visible
from lmrel.files import as_path, read_object
from lmrel.parameters import Comparing
from lmrel.stats import agreement, design
from lmrel.stats.contrasts import floor
from lmrel.stats.independence import doubts
from lmrel.stats.inference import (
    ALIKE,
    LEVEL,
    bounded_interval,
    clustered_wilson,
    unseen_share,
    variance_of_mean,
    with_interval,
)
from lmrel.stats.metrics import SETTING, has_answers

ACROSS = ("prompt_style", "system", "answer", "decoder")  # what must be alike, unless told
NEEDED = (*SETTING, "problem_id", "run", "expected", "text", "extracted", "correct")
WORSE = ("runaway",)  # outcomes of which less is better: their opposite is compared
DROP = "drop"
Side = dict[float, pd.DataFrame]  # one run's draws by temperature


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What `compare` found of runs a and b. Printed, it is a sentence and a table; differences are a minus b.

    `table` has columns ``quantity, of, estimate, low, high`` with 95 % intervals over problems; ``of`` is ``a``, ``b``
    or ``difference``. `wins` has the numbers of problems in which a is better, b is, or neither, a row per
    temperature. `difference` with `low` and `high` is a's drop minus b's, and `equivalent` whether two one-sided tests
    place it within `margin`, at 5 %. `variances` are those that `power` takes. `needed` has a row for each aim, to find
    the `difference` and to show equivalence within the `margin`: the ``problems`` that it takes with these `runs`, the
    ``runs`` with these problems (NaN where none suffice) and ``least_problems``, with any number of runs (NaN where
    single draws do not tell), each for a chance of 80 %. `notes` say what a reader should know before all this.
    """

    names: tuple[str, str]
    metric: str
    temperatures: tuple[float, float]
    margin: float
    problems: int
    runs: int  # the fewest draws of a problem at the higher temperature
    difference: float
    low: float
    high: float
    equivalent: bool
    table: pd.DataFrame
    wins: pd.DataFrame
    variances: dict[str, float]
    needed: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The verdict on a: ``loses more`` or ``less``, ``equivalent within ±5 points``, both, or ``not settled``."""
        within = f"within ±{100 * self.margin:g} points"
        if self.low > 0 or self.high < 0:
            return f"loses {'more' if self.low > 0 else 'less'}" + (f", but {within}" if self.equivalent else "")
        return f"equivalent {within}" if self.equivalent else "not settled"

    @property
    def drops(self) -> pd.DataFrame:
        """The drop of each run, under its name, and their difference: columns ``of, estimate, low, high``."""
        found = self.table.loc[self.table["quantity"] == DROP, ["of", "estimate", "low", "high"]]
        return found.assign(of=[*self.names, "difference"])

    @property
    def sentence(self) -> str:
        """The finding with its interval, and where it is not settled what would settle it."""
        cold, hot = map("{:g}".format, self.temperatures)
        a, b, difference = (_points(*row) for row in self.drops[["estimate", "low", "high"]].to_numpy())
        if self.verdict.startswith("loses"):
            said = f"{self.names[0]} {self.verdict}"
        else:
            same = f"the two are {self.verdict}, where the 90 % interval of two one-sided tests lies"
            said = same if self.equivalent else "which of them loses more is not settled"
        return (
            f"From T = {cold} to T = {hot}, {self.metric} drops by {a} points in {self.names[0]} and by {b} in "
            f"{self.names[1]}, a difference of {difference} (95 % intervals over {self.problems:,} problems): {said}."
            + (f" {self.outlook}" if self.verdict == "not settled" and len(self.needed) else "")
        )

    @property
    def outlook(self) -> str:
        """How many problems or runs would find the observed difference, or show equivalence, in a sentence."""
        aims = {
            "difference": f"to find a difference of {abs(100 * self.difference):.1f} points",
            "equivalence": f"to show equivalence within ±{100 * self.margin:g} points",
        }
        parts = []
        for aim, problems, runs, least in self.needed.itertuples(index=False):
            parts.append(f"{aims[aim]}, {problems:,.0f} problems with these runs")
            if not math.isnan(least):
                alone = "no number of runs is enough" if math.isnan(runs) else f"{runs:,.0f} runs are enough"
                parts[-1] += f" (with these problems {alone}; with any number of runs {least:,.0f} problems)"
        return f"For a chance of 80 % it takes, {'; '.join(parts)}."

    def shown(self) -> pd.DataFrame:
        """The table as text: a row per quantity, a column for each run and one for their difference, a minus b."""
        rows = {}
        for quantity, some in self.table.groupby("quantity", sort=False):
            change = [True, True, True] if quantity == DROP else [False, False, True]
            found = some[["estimate", "low", "high"]].to_numpy()
            cells = [_points(*row) if points else _percent(*row) for points, row in zip(change, found, strict=True)]
            rows[f"drop of {self.metric}, points" if quantity == DROP else str(quantity)] = cells
        for temperature, a, b, alike in self.wins.itertuples(index=False):
            rows[f"problems in which it is better at T = {temperature:g}"] = [f"{a:,}", f"{b:,}", f"{alike:,} alike"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=[*self.names, "difference, points"])

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(f"Note: {note}" for note in self.notes), "", self.shown().to_string()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows; names and texts are escaped."""
        lines = [f"<p>{html.escape(line)}</p>" for line in (self.sentence, *(f"Note: {note}" for note in self.notes))]
        return "\n".join([*lines, self.shown().to_html()])


def compare(
    a: pd.DataFrame | str | Path,
    b: pd.DataFrame | str | Path,
    *,
    temperatures: tuple[float, float] = (0.0, 1.0),
    metric: str = "correct",
    margin: float = 0.05,
    across: Collection[str] = (),
) -> Comparison:
    """Which of two runs loses more of `metric` from the first of `temperatures` to the second, problem by problem.

    `a` and `b` are tables of draws, with the columns of `records.DRAWS_SCHEMA`, or folders of runs. `metric` is a
    column of outcomes in [0, 1] of which more is better, such as ``correct``, ``compliant`` or ``finished``; for
    ``runaway`` its opposite is compared. `margin` is the difference of drops below which runs count as equivalent, as a
    share: 0.05 is five percentage points.

    Both runs must have asked the same problems, in the same prompt style and system message, read by the same rule
    and drawn by the same decoders; `across` names what may differ (``"prompt_style"``, ``"system"``, ``"answer"``,
    ``"decoder"``), where that is the comparison. Raises `InputError` for what cannot be compared.
    """
    asked = Comparing(temperatures, metric, margin)
    if len(asked.temperatures) != 2:
        raise InputError(f"temperatures is {quoted(temperatures)}; it must be two, such as (0, 1).")
    across = [across] if isinstance(across, str) else list(across)
    for name in across:
        check_choice("across", name, ACROSS)
    (first, first_name), (second, second_name) = _table("a", a), _table("b", b)
    if first_name == second_name:
        first_name, second_name = f"{first_name} (a)", f"{second_name} (b)"
    sides = [_sides("a", first, asked), _sides("b", second, asked)]
    _check_alike(sides[0], sides[1], asked, across)
    known = [draws.set_index("problem_id")["cluster"].dropna() for draws in (first, second) if "cluster" in draws]
    clusters = pd.concat(known).to_dict() if known else {}
    notes = [*_unknown(sides, (first_name, second_name), across), *_copies(sides)]
    return _compared([_clustered(side, clusters) for side in sides], (first_name, second_name), asked, notes)


def _table(name: str, given: Any) -> tuple[pd.DataFrame, str]:
    """The draws of a run, from its folder or as they are, and what the run is called."""
    if isinstance(given, str | Path):
        folder = as_path(name, given)
        parameters = read_object(folder / records.RUN, "parameters")["parameters"]
        system = parameters.get("system") if isinstance(parameters, dict) else None
        return records.read_draws(folder).assign(system=system or ""), visible(folder.resolve().name)
    if not isinstance(given, pd.DataFrame):
        raise InputError(f"{name} is {quoted(given)}; it must be a table of draws or the folder of a run.")
    models = given["model"].unique().tolist() if "model" in given else []
    return given, visible(str(models[0])) if len(models) == 1 else name


def _sides(name: str, draws: pd.DataFrame, asked: Comparing) -> Side:
    """The draws of run `name` by temperature, checked: at the two, and at 0 if there are any.

    Their outcomes stand in ``metric``, as numbers of which more is better.
    """
    if missing := [column for column in (*NEEDED, asked.metric) if column not in draws]:
        raise InputError(f"{name} has no column {missing[0]!r}; it must be a table of draws, as lmrel.sample makes.")
    if not draws["correct"].isin([0, 1]).all():
        raise InputError(f"{name} has draws that are neither right nor wrong.")
    known = sorted(draws["temperature"].unique().tolist())
    found = {}
    for temperature in dict.fromkeys([*asked.temperatures, *(t for t in known if t == 0)]):
        where = f"{name} at temperature {temperature:g}"
        side = draws[draws["temperature"] == temperature]
        if side.empty:
            raise InputError(f"{where} has no draw; its temperatures are {quoted(known)}.")
        for column in (each for each in (*SETTING, "system", "answer") if each in side):
            if len(several := side[column].unique().tolist()) > 1:
                raise InputError(
                    f"{where} has several values of {column}, {quoted(several)}; "
                    f"pick one, as in {name}[{name}[{column!r}] == {quoted(several[0])}]."
                )
        if side.duplicated(["problem_id", "run"]).any():
            raise InputError(f"{where} has a run of a problem twice; each draw of a problem needs a number of its own.")
        outcomes = pd.to_numeric(side[asked.metric].astype(object), errors="coerce").astype(float)
        if bad := int((~outcomes.between(0.0, 1.0)).sum()):
            raise InputError(f"{where} has {bad} draws whose {asked.metric} is missing or no number from 0 to 1.")
        outcomes = 1.0 - outcomes if asked.metric in WORSE else outcomes
        found[temperature] = side.assign(metric=outcomes, correct=side["correct"].astype(bool))
    before, after = (f"{name} at temperature {temperature:g}" for temperature in asked.temperatures)
    _check_problems(before, after, *(found[temperature] for temperature in asked.temperatures))
    return found


def _check_problems(one: str, other: str, first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Refuse two tables of other problems: other ids, or other questions or right answers under one id."""
    ids, others = set(first["problem_id"]), set(second["problem_id"])
    if not ids & others:
        raise InputError(f"{one} and {other} have no problem in common.")
    if ids != others:
        alone, both = min(ids ^ others, key=str), len(ids & others)
        raise InputError(
            f"{one} has {len(ids):,} problems and {other} {len(others):,}, of which {both:,} are in both: "
            f"give the same of both; {quoted(alone)} is in one only."
        )
    for column, what in (("expected", "right answer"), ("cluster", "question")):
        if column in first and column in second:
            asked = pd.concat([table[["problem_id", column]].dropna() for table in (first, second)])
            values = asked.groupby("problem_id")[column].unique()
            if len(differ := values[values.map(len) > 1]):
                name, found = quoted(differ.index[0]), quoted(differ.iloc[0].tolist())
                raise InputError(f"{one} and {other} have another {what} for problem {name}: {found}.")


def _check_alike(a: Side, b: Side, asked: Comparing, across: Collection[str]) -> None:
    """Refuse runs of other problems, and of another prompt, rule or decoder unless `across` names it."""
    for temperature in asked.temperatures:
        first, second = a[temperature], b[temperature]
        _check_problems("a", "b", first, second)
        for column in ACROSS:
            if column not in across and column in first and column in second:
                one, other = first[column].iloc[0], second[column].iloc[0]
                if one != other:
                    raise InputError(
                        f"at temperature {temperature:g} the {column} of a is {quoted(one)} and that of b "
                        f"{quoted(other)}; if that is what you compare, say across=[{column!r}]."
                    )


def _clustered(side: Side, clusters: Mapping[Any, Any]) -> Side:
    """A run with the cluster of each problem, by its id; a problem of none that is known is one by itself."""
    return {t: draws.assign(cluster=[clusters.get(p, p) for p in draws["problem_id"]]) for t, draws in side.items()}


def _unknown(sides: list[Side], names: tuple[str, str], across: Collection[str]) -> list[str]:
    """What to say of a run that another tool drew: what was not said of it is not known to be alike."""
    notes = []
    for side, name in zip(sides, names, strict=True):
        draws = pd.concat(list(side.values()))
        for column in ("prompt_style", "decoder"):
            if column not in across and (draws[column] == records.UNKNOWN).any():
                notes.append(f"the {column.replace('_', ' ')} of {name} is not known, so it was not compared.")
        if draws["text"].isna().any():
            notes.append(f"{name} has no texts, so that its repeats are copies shows in their answers at most.")
    return notes


def _copies(sides: list[Side]) -> list[str]:
    """What to say of draws that are not independent, or copies of those of the other run."""
    notes = [f"{said}." for side in sides for said in doubts(pd.concat(list(side.values())))]
    sides = [side for side in sides if not any(draws["text"].isna().any() for draws in side.values())]
    texts = [pd.concat([draws[[*SETTING, "problem_id", "run", "text"]] for draws in side.values()]) for side in sides]
    if len(texts) < 2:
        return notes
    first, second = (table.set_index(["temperature", "problem_id", "run"])["text"].sort_index() for table in texts)
    if first.equals(second):
        # Two prompts of a model may well have the same answers, if these are short and the problems easy.
        alike = all(texts[0][name].iloc[0] == texts[1][name].iloc[0] for name in SETTING if name != "temperature")
        notes.append(f"all texts of the two runs are the same{': they are one run, or copies' if alike else ''}.")
    return notes


def _compared(sides: list[Side], names: tuple[str, str], asked: Comparing, notes: list[str]) -> Comparison:
    """The comparison of two runs that can be compared: `sides` hold both temperatures, and 0 where a run has it."""
    (cold, hot), higher = asked.temperatures, max(asked.temperatures)
    clusters = sides[0][cold].groupby("problem_id")["cluster"].first()
    if (units := clusters.nunique()) < 2:
        raise InputError("all problems are of one cluster; at least 2 are needed to say what others would change.")
    k = int(min(side[higher].groupby("problem_id").size().min() for side in sides))
    metric = f"not {asked.metric}" if asked.metric in WORSE else visible(asked.metric)
    means = {t: [side[t].groupby("problem_id")["metric"].mean() for side in sides] for t in asked.temperatures}
    drops = [means[cold][i] - means[hot][i] for i in (0, 1)]
    repeats = [_repeats(side, higher, k) for side in sides]
    quantities = {f"{metric} at T = {t:g}": means[t] for t in asked.temperatures} | {DROP: drops}
    quantities |= {name: [each[name] for each in repeats] for name in repeats[0] if name in repeats[1]}
    rows = []
    for quantity, values in quantities.items():
        for of, one in zip("ab", values, strict=True):
            interval = bounded_interval if quantity == DROP else _share_interval
            rows.append((quantity, of, *interval(one, clusters)))
        reach = 2.0 if quantity == DROP else 1.0
        rows.append((quantity, "difference", *bounded_interval(values[0] - values[1], clusters, reach)))
    differences = drops[0] - drops[1]
    difference, low, high = bounded_interval(differences, clusters, 2.0)
    _, low_90, high_90 = bounded_interval(differences, clusters, 2.0, level=0.9)  # inside the margin: both tests at 5 %
    equivalent = max(-low_90, high_90) < asked.margin
    variances = design.variances([(side[cold], side[hot]) for side in sides], "metric")
    variance = variance_of_mean(differences.to_numpy(), clusters)[0] * len(differences)
    sizes = {"difference": difference, "equivalence": asked.margin}
    wins = [(t, *_wins(*both)) for t, both in means.items()]
    lowest = min(float(one.mean()) for both in means.values() for one in both)
    notes = [*notes, floor(lowest, asked.margin) if equivalent else ""]
    if k == 1:
        notes.append("a problem has one draw at the higher temperature; what more would gain or agree on is not known.")
    if np.ptp(differences) < ALIKE:
        unseen = f"of others up to {unseen_share(units, LEVEL):.1%} may differ, on which the interval rests."
        notes.append(f"the difference of drops is the same in all {len(differences):,} problems; {unseen}")
    return Comparison(
        names=names,
        metric=metric,
        temperatures=(cold, hot),
        margin=asked.margin,
        problems=len(differences),
        runs=k,
        difference=difference,
        low=low,
        high=high,
        equivalent=equivalent,
        table=pd.DataFrame(rows, columns=["quantity", "of", "estimate", "low", "high"]),
        wins=pd.DataFrame(wins, columns=["temperature", "a", "b", "alike"]),
        variances=variances,
        needed=_needed(sizes, variance, variances, len(differences)),
        notes=tuple(filter(None, notes)),
    )


def _repeats(side: Side, temperature: float, k: int) -> dict[str, pd.Series]:
    """What repeated draws at `temperature` gain and agree on, and how many left the greedy answer, by problem."""
    draws = side[temperature]
    groups, at = draws.groupby("problem_id"), f"at T = {temperature:g}"
    found = {}
    if k > 1:
        right = groups["correct"].agg(["size", "sum"]).astype(int)
        passed = [agreement.pass_at_k(n, c, k) for n, c in right.itertuples(index=False)]
        found = {f"right in one of {k} draws {at} (pass@{k})": pd.Series(passed, right.index)}
    if not has_answers(draws):
        return found
    if k > 1:
        answers = groups["extracted"].agg(lambda some: agreement.same_at_k(some.astype(object).fillna("").tolist(), k))
        found |= {f"same answer in {k} draws {at}": answers.astype(float)}
    if 0.0 in side and set(side[0.0]["problem_id"]) >= set(draws["problem_id"]):
        columns = [*SETTING, "problem_id", "correct", "extracted"]
        others = agreement.against_greedy(pd.concat([side[0.0][columns].drop_duplicates("problem_id"), draws[columns]]))
        found[f"other answer than greedy {at}"] = others.groupby("problem_id")["flipped"].mean()
    return found


def _share_interval(values: pd.Series, clusters: pd.Series) -> tuple[float, float, float]:
    return clustered_wilson(values.to_numpy(float), clusters=clusters)


def _wins(a: pd.Series, b: pd.Series) -> tuple[int, int, int]:
    """The numbers of problems in which the one is better, the other is, or neither."""
    better, worse = int((a - b > ALIKE).sum()), int((b - a > ALIKE).sum())
    return better, worse, len(a) - better - worse


def _needed(sizes: Mapping[str, float], variance: float, variances: Mapping[str, float], problems: int) -> pd.DataFrame:
    """`Comparison.needed` for aims of these `sizes`; `variance` is that of a problem's difference with these runs."""
    rows = []
    for aim, size in sizes.items():
        if variance < ALIKE**2 or abs(size) < design.LEAST_DIFFERENCE:
            continue  # nothing varies, or there is no difference to find
        equivalence = aim == "equivalence"
        now = design.problems_needed(size, 1, variance, 0.0, equivalence=equivalence)
        more: tuple[float, float] = (math.nan, math.nan)
        if not math.isnan(variances["sampling"]):
            enough = design.runs_needed(size, problems, **variances, equivalence=equivalence)
            least = design.problems_needed(size, math.inf, **variances, equivalence=equivalence)
            more = (math.nan if enough is None else enough, least)
        rows.append((aim, now, *more))
    return pd.DataFrame(rows, columns=["aim", "problems", "runs", "least_problems"])


def _points(estimate: float, low: float, high: float) -> str:
    return with_interval(100 * estimate, 100 * low, 100 * high)


def _percent(estimate: float, low: float, high: float) -> str:
    return with_interval(100 * estimate, 100 * low, 100 * high, form="{:.1f} %", ends="{:.1f}")
