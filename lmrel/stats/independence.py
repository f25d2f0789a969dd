"""Whether repeated draws are what they are taken for: independent ones, at settings that differ, in no order.

Outputs of other tools often hold answers or verdicts alone; what can be told from those is tried here, and from texts
where all have one. A share of pairs that agree is over pairs of different draws, so an unbiased estimate of the sum of
products of answers' probabilities, for each problem, and then a mean over problems.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import fft, stats

from lmrel.errors import InputError, needs_columns, visible
from lmrel.stats.inference import ALIKE, clustered_wilson, t_interval, variance_of_mean, with_interval
from lmrel.stats.metrics import BUT_TEMPERATURE, SETTING, are_counts, check_runs, clusters, has_answers

LEVEL = 0.001  # of all findings about one table of draws together
KNOBS = ["top_k", "top_p", "min_p", "repetition_penalty"]
FIRST = 40  # runs whose order is tried: the exact distributions of more take long
LEAST_P = 1e-12  # what is left of a tail beside the rounding of a Fourier transform
COLUMNS = ["check", "temperature", "other", "first", "second"]
COLUMNS += ["estimate", "expected", "low", "high", "p", "problems"]
TWICE = "the draws hold a run of a problem twice at one setting; each needs a number of its own."
Row = dict[str, Any]


@dataclass(frozen=True)
class _Draws:
    """Draws of one model, task, prompt and decoder at several `temperatures`, each number standing for one answer.

    `codes` is (problems, temperatures, runs), -1 where there is no draw. Only where the draws are `ordered` does a
    run's number say anything.
    """

    temperatures: list[float]
    codes: np.ndarray
    clusters: np.ndarray
    ordered: bool

    @cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """How often an answer was given to a problem at each temperature (answers, temperatures), and which problem."""
        problem, temperature, _ = there = np.nonzero(self.codes >= 0)
        named, answer = np.unique(problem * (self.codes.max() + 1) + self.codes[there], return_inverse=True)
        shape = (len(named), len(self.temperatures))
        counts = np.bincount(answer * shape[1] + temperature, minlength=shape[0] * shape[1]).reshape(shape)
        return counts.astype(float), named // (self.codes.max() + 1)

    def same_run(self, one: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        """How many runs of each problem are there at two temperatures, and how many gave one answer at both."""
        first, second = self.codes[:, one], self.codes[:, other]
        both = (first >= 0) & (second >= 0)
        return both.sum(axis=1), (both & (first == second)).sum(axis=1)

    def agree(self, one: int, other: int) -> np.ndarray:
        """The share of each problem's pairs of draws, one at each of two temperatures, that agree; NaN where none is.

        Both draws are of different runs, as those of one may share their random numbers. Of counts all pairs are taken.
        """
        counts, problem = self.counts
        size = np.bincount(problem, counts[:, one]), np.bincount(problem, counts[:, other])
        alike = np.bincount(problem, counts[:, one] * counts[:, other])
        both, same = self.same_run(one, other) if self.ordered or one == other else (0, 0)
        pairs = size[0] * size[1] - both
        return np.divide(alike - same, pairs, out=np.full(len(alike), np.nan), where=pairs > 0)

    def step(self, one: int, other: int) -> float:
        """The x of `checks` for two temperatures: their difference over their sum."""
        cold, hot = self.temperatures[one], self.temperatures[other]
        return (hot - cold) / (hot + cold)

    def varied(self, at: int) -> Iterator[np.ndarray]:
        """The first draws of each problem at a temperature, in their order, where these are not all alike."""
        for codes in self.codes[:, at]:
            draws = codes[codes >= 0][:FIRST]
            if len(draws) and draws.min() < draws.max():
                yield draws


@needs_columns(*BUT_TEMPERATURE, "temperature", "problem_id", "run", "correct", "extracted")
def checks(draws: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """What speaks against independent draws at settings that differ: a row per model, task, setting and check.

    Columns ``check, temperature, other`` (temperature), ``first, second`` (runs), ``estimate, expected, low, high`` (of
    the former minus the latter, 95 % over problems or their clusters), ``p``, ``problems`` and ``flagged``. What has a
    ``p`` is flagged below `level` divided by the number of such rows, so that independent draws of any number of models
    raise an alarm with a chance of at most `level`. Draws are compared by their texts if all have one, else by their
    answers (right ones are one answer), else by their verdicts.

    - ``copies``: draws at a temperature T agree more often than its neighbours a and b allow, a < T < b. With p(T) for
      the chances of the answers, and W and A for the shares that agree within T and across two, W - A(a, T) - A(T, b) +
      A(a, b) estimates (p(T) - p(a)) (p(T) - p(b)), a sum over answers, which is not above zero where p goes from a to
      b without turning back. For one draw from the softmax of any logits over T this is a theorem: p' at two
      temperatures have a product of the sign of Var + (m - x) (m - y) > 0, where x and y are the mean logits there, and
      m and Var belong to the sum of both inverse temperatures, so that m exceeds x and y. Of long texts it is assumed
      of the mean over problems. A random walk has zero. What repeats share and their neighbours do not (one draw, a
      cache, a state of the server) adds to W alone. So temperatures may have any effect and any spacing, which the
      comparison of distances over one step and two, the more obvious test, does not allow. The hottest T has no b: W is
      at most A(a, T), if answers are known. The coldest cannot be tried. Draws without an answer agree with none, as
      they are of many kinds. One-sided t test; without a temperature, of the mean over all of them.
    - ``no effect``: half the squared distance between two temperatures, (W + W') / 2 - A, is below x^2 / 10 of the
      pairs that disagree, with x = (T' - T) / (T' + T) and the mean over pairs of temperatures weighted by x^2. Softmax
      has three to four times that, for two answers whose logits differ by anything alike often. Where all draws agree
      nothing can be told, and nothing is said. One-sided t test.
    - ``same runs``: a run gave at two temperatures the same far more often than different runs did, as with one seed
      for both and the temperature ignored. One seed is no fault: then runs that differ must do so less than x / 4 times
      as often, of which softmax has more than four times as much. The larger p of a t test of this and of an exact one.
    - ``in order``: neighbouring runs agree more often than others, as in blocks or a drift; ``trend``: accuracy changes
      from the first run to the last; ``pair``: two runs agree more often than other pairs, p times their number. For
      each temperature, since runs of several may share random numbers; exact for orders of the runs of a problem.
    - ``greedy``: the share of problems whose greedy draws differ. Any is flagged.

    Simulated, with 100 problems, 10 draws at each of T = 0, 0.2 ... 1 and four answers with normal logits, independent
    draws raise an alarm in less than 10 % of the cases at a `level` of 0.05. At the default level each of these is
    found in more than 80 %: repeats that are copies of one draw, all those of a temperature, or of two thirds of the
    problems at all of them; one seed with the temperature ignored; two runs of a temperature, or all in twos, alike;
    and accuracy that falls by 20 points over the runs. With T = 0.1, 0.2 ... 1, one that is ignored with new seeds is
    found in more than 30 %.
    """
    keys = _keys(draws)
    rows = [
        dict(zip(keys, key, strict=True)) | row
        for key, some in draws.groupby(keys, dropna=False)
        for row in _rows(some)
    ]
    found = pd.DataFrame(rows, columns=[*keys, *COLUMNS])
    flagged = found["p"] * found["p"].notna().sum() < level
    return found.assign(flagged=flagged | ((found["check"] == "greedy") & (found["estimate"] > 0)))


def _keys(draws: pd.DataFrame) -> list[str]:
    """What tells settings apart but for the temperature; the decoder's id, in which that is, only where it must."""
    keys = [name for name in (*BUT_TEMPERATURE, "task", *KNOBS) if name in draws]
    several = "decoder" in draws and draws.groupby([*keys, "temperature"], dropna=False)["decoder"].nunique().max() > 1
    return [*keys, "decoder"] if several else keys


def _rows(some: pd.DataFrame) -> Iterator[Row]:
    if some.duplicated(["problem_id", "temperature", "run"]).any():
        raise InputError(TWICE)
    temperatures, temperature = np.unique(some["temperature"], return_inverse=True)
    problem, run = pd.factorize(some["problem_id"])[0], pd.factorize(some["run"], sort=True)[0]
    cluster = pd.Series(clusters(some).to_numpy()).groupby(problem).first().to_numpy()
    right = some["correct"].to_numpy(bool)
    answers = np.where(right, 0, pd.factorize(some["extracted"])[0] + 2)  # 1 is no answer
    texts = "text" in some and bool(some["text"].notna().all())
    finest = pd.factorize(some["text"])[0] if texts else answers
    apart = np.where((answers == 1) & ~texts, answers.max() + 1 + np.arange(len(some)), finest)

    ordered = not are_counts(some)

    def drawn(values: np.ndarray) -> _Draws:
        codes = np.full((len(cluster), len(temperatures), run.max() + 1), -1, dtype=np.int64)
        codes[problem, temperature, run] = values
        return _Draws(temperatures.tolist(), codes, cluster, ordered)

    said, verdicts = drawn(finest), drawn(right)
    yield from _copies(drawn(apart), texts or has_answers(some))
    yield from _no_effect(drawn(answers))
    yield from _greedy(said)
    yield from _same_runs(said) if ordered else ()
    for at in np.flatnonzero(temperatures > 0).tolist() if ordered else ():
        yield from _in_order(said, at)
        yield from _trend(verdicts, at)
        yield from _pair(said, at)


def _row(drawn: _Draws, check: str, at: Sequence[int], estimate: Any, expected: Any, sign: int = 1) -> Iterator[Row]:
    """A row on one number a problem, with the p of a t test of whether it is above the expected one (below: -1)."""
    excess = estimate - expected
    there = ~np.isnan(excess)
    values, units = excess[there], drawn.clusters[there]
    if (n := len(set(units))) < 2:
        return
    mean, low, high = t_interval(values, clusters=units)
    error = math.sqrt(variance_of_mean(values, units)[0])
    p = float(stats.t.sf(sign * mean / error, n - 1)) if np.ptp(values) > ALIKE else float(sign * mean < ALIKE)
    yield {
        "check": check,
        **dict(zip(("temperature", "other"), (drawn.temperatures[i] for i in at), strict=False)),
        **{"estimate": estimate[there].mean(), "expected": expected[there].mean(), "low": low, "high": high},
        **{"p": max(p, 0.5**n), "problems": len(values)},  # few that are all alike prove little
    }


def _copies(drawn: _Draws, answered: bool) -> Iterator[Row]:
    agree, temperatures, excess = drawn.agree, drawn.temperatures, []
    for at in range(1, len(temperatures)):
        if at + 1 < len(temperatures):
            allowed = agree(at - 1, at) + agree(at, at + 1) - agree(at - 1, at + 1)
        elif temperatures[at - 1] > 0 and answered:  # a greedy draw alone may be an answer that is rare
            allowed = agree(at - 1, at)
        else:
            continue
        excess.append((agree(at, at), allowed))
        yield from _row(drawn, "copies", [at, at - 1], *excess[-1])
    if len(excess) > 1:
        within, allowed = _together(excess, [1.0] * len(excess))
        yield from _row(drawn, "copies", [], within, allowed)


def _together(found: list[tuple[np.ndarray, np.ndarray]], weights: Sequence[float]) -> list[np.ndarray]:
    """The weighted means of pairs of numbers of each problem, over those of which both are known."""
    known = ~np.isnan([one - other for one, other in found])
    weight = known * np.array(weights)[:, None]
    sums = [(weight * np.nan_to_num(each)).sum(axis=0) for each in zip(*found, strict=True)]
    every = weight.sum(axis=0)
    return [np.divide(one, every, out=np.full(len(every), np.nan), where=every > 0) for one in sums]


def _no_effect(drawn: _Draws) -> Iterator[Row]:
    above, agree, found, weights = [at for at, t in enumerate(drawn.temperatures) if t > 0], drawn.agree, [], []
    for one, other in combinations(above, 2):
        across = agree(one, other)
        weights.append(drawn.step(one, other) ** 2)
        found.append(((agree(one, one) + agree(other, other)) / 2 - across, weights[-1] / 10 * (1 - across)))
    if found:
        distance, least = _together(found, weights)
        yield from _row(drawn, "no effect", [above[0], above[-1]], distance, least, -1)


def _same_runs(drawn: _Draws) -> Iterator[Row]:
    above = [at for at, t in enumerate(drawn.temperatures) if t > 0]
    for one, other in dict.fromkeys([*pairwise(above), (above[0], above[-1])] if len(above) > 1 else []):
        across, (both, same) = drawn.agree(one, other), drawn.same_run(one, other)
        share = np.divide(same, both, out=np.full(len(both), np.nan), where=both > 0)
        found: Counter[tuple[Any, ...]] = Counter()
        alike = 0
        for first, second in drawn.codes[:, [one, other]]:
            there = np.flatnonzero((first >= 0) & (second >= 0))[:FIRST]
            here, then = Counter(first[there].tolist()), Counter(second[there].tolist())
            found[len(there), tuple(sorted((n, then[answer]) for answer, n in here.items() if answer in then))] += 1
            alike += int((first[there] == second[there]).sum())
        p, limit = _tails(_matching, found, alike)[0], drawn.step(one, other) / 4 * (1 - across)
        for row in _row(drawn, "same runs", [one, other], share, across):
            yield row | {"p": max(p, *(less["p"] for less in _row(drawn, "", [], 1 - share, limit, -1)))}


def _in_order(drawn: _Draws, at: int) -> Iterator[Row]:
    found: Counter[tuple[tuple[int, ...]]] = Counter()
    alike, expected, pairs = 0, 0.0, 0
    for draws in drawn.varied(at):
        counts = np.unique(draws, return_counts=True)[1]
        found[tuple(sorted(counts.tolist())),] += 1
        alike += int((draws[1:] == draws[:-1]).sum())
        expected += float((counts * (counts - 1)).sum() / len(draws))
        pairs += len(draws) - 1
    if pairs:
        shares = {"temperature": drawn.temperatures[at], "estimate": alike / pairs, "expected": expected / pairs}
        p = _tails(_neighbouring, found, alike)[0]
        yield {"check": "in order", **shares, "p": p, "problems": found.total()}


def _trend(right: _Draws, at: int) -> Iterator[Row]:
    found: Counter[tuple[int, int]] = Counter()
    places, change = 0, 0.0
    for draws in right.varied(at):
        n, c = len(draws), int(draws.sum())
        place = int(np.flatnonzero(draws).sum())
        found[c, n] += 1
        places += place - c * (c - 1) // 2
        change += (place - c * (n - 1) / 2) * 12 / (n * (n + 1))  # the slope of one problem, times n - 1
    if found:
        asked = (right.codes[:, at] >= 0).any(axis=1).sum()
        shares = {"temperature": right.temperatures[at], "estimate": change / asked, "expected": 0.0}
        p = min(1.0, 2 * min(_tails(_places, found, places)))
        yield {"check": "trend", **shares, "p": p, "problems": found.total()}


def _pair(drawn: _Draws, at: int) -> Iterator[Row]:
    codes = drawn.codes[:, at, :FIRST]
    first, second = np.triu_indices(codes.shape[1], 1)
    there = (codes[:, first] >= 0) & (codes[:, second] >= 0)
    alike = there & (codes[:, first] == codes[:, second])
    pairs = there.sum(axis=1)
    share = np.divide(alike.sum(axis=1), pairs, out=np.zeros(len(pairs)), where=pairs > 0)
    variance = share * (1 - share) @ there
    if not variance.any():
        return
    excess = (alike.sum(axis=0) - share @ there)[variance > 0] / np.sqrt(variance[variance > 0])
    most = np.flatnonzero(variance > 0)[excess.argmax()]
    varied = there[:, most] & (share > 0) & (share < 1)
    p = _tails(lambda q: np.array([1 - q, q]), Counter((q,) for q in share[varied]), int(alike[varied, most].sum()))[0]
    yield {
        **{"check": "pair", "temperature": drawn.temperatures[at], "first": first[most], "second": second[most]},
        **{"estimate": alike[varied, most].mean(), "expected": share[varied].mean()},
        **{"p": min(1.0, p * len(excess)), "problems": int(varied.sum())},
    }


def _greedy(drawn: _Draws) -> Iterator[Row]:
    codes = drawn.codes[:, 0]
    several = (codes >= 0).sum(axis=1) > 1
    if drawn.temperatures[0] == 0 and several.any():
        differ = codes.max(axis=1) > np.where(codes < 0, codes.max(), codes).min(axis=1)
        share, low, high = clustered_wilson(differ[several].astype(float), clusters=drawn.clusters[several])
        found = {"estimate": share, "expected": 0.0, "low": low, "high": high, "problems": int(several.sum())}
        yield {"check": "greedy", "temperature": 0.0, **found}


def _tails(of: Callable[..., np.ndarray], found: Counter[Any], observed: int) -> tuple[float, float]:
    """The chances of at least and at most `observed` for a sum of independent whole numbers.

    `of` makes the distribution of each, over 0, 1 and so on, from the arguments of which `found` counts the numbers.
    """
    parts = [(of(*arguments), times) for arguments, times in found.items()]
    most = sum((len(part) - 1) * times for part, times in parts)
    size = fft.next_fast_len(most + 1, real=True)
    spectrum = np.ones(size // 2 + 1, dtype=complex)
    for part, times in parts:
        spectrum *= fft.rfft(part, size) ** times
    chances = fft.irfft(spectrum, size)[: most + 1].clip(0)
    upper, lower = (float(np.clip(some.sum(), LEAST_P, 1)) for some in (chances[observed:], chances[: observed + 1]))
    return upper, lower


def _from_marked(marked: Sequence[int]) -> np.ndarray:
    """The distribution of a number K, from the sums over all arrangements of K choose 0, 1, 2 and so on."""
    last = len(marked)
    ways = [sum((-1) ** (i - k) * math.comb(i, k) * marked[i] for i in range(k, last)) for k in range(last)]
    return np.array([way / marked[0] for way in ways])


@cache
def _neighbouring(counts: tuple[int, ...]) -> np.ndarray:
    """How many neighbours are equal in a random order of draws, of which so many each are alike."""
    ways = [1]  # to put blocks of equal draws in a row, by the number of blocks: inner borders are the marked ones
    for count in counts:
        own = [0, *(math.comb(count - 1, blocks - 1) for blocks in range(1, count + 1))]
        ways = [
            sum(math.comb(m, i) * own[i] * ways[m - i] for i in range(len(own)) if 0 <= m - i < len(ways))
            for m in range(len(ways) + count)
        ]
    return _from_marked(ways[:0:-1])


@cache
def _matching(n: int, counts: tuple[tuple[int, int], ...]) -> np.ndarray:
    """How many of `n` draws in a random order meet an equal one, of answers given so often here and there."""
    rooks = [1]
    for one, other in counts:
        own = [math.comb(one, j) * math.comb(other, j) * math.factorial(j) for j in range(min(one, other) + 1)]
        rooks = [
            sum(own[j] * rooks[m - j] for j in range(len(own)) if 0 <= m - j < len(rooks))
            for m in range(len(rooks) + len(own) - 1)
        ]
    return _from_marked([ways * math.factorial(n - j) for j, ways in enumerate(rooks)])


@cache
def _places(c: int, n: int) -> np.ndarray:
    """The sum of the places of `c` of `n` draws in a random order, above its least value (Wilcoxon's statistic)."""
    ways = np.zeros((c + 1, c * (n - c) + 1))
    ways[0, 0] = 1.0
    for place in range(n):  # the j-th of them may stand from place j - 1 on
        for j in range(min(c, place + 1), 0, -1):
            if (shift := place - j + 1) <= n - c:
                ways[j, shift:] += ways[j - 1, : ways.shape[1] - shift]
    return ways[c] / math.comb(n, c)


def doubts(draws: pd.DataFrame, level: float = LEVEL) -> list[str]:
    """What `checks` flagged of draws, and `copies` found, in a sentence each, without a full stop."""
    texts = "text" in draws and draws["text"].notna().all() and not are_counts(draws)
    said = [copies(draws, level)] if texts else []
    found = checks(draws, level)
    groups = found.assign(name=_names(found))[found["flagged"]].groupby(["name", "check"], sort=False)
    return list(filter(None, [*said, *(_sentence(str(name), str(check), some) for (name, check), some in groups)]))


def _names(found: pd.DataFrame) -> pd.Series:
    """A name for each row's group: that of the model, with what else tells its groups apart."""
    others = [name for name in found.columns[: found.columns.get_loc("check")] if found[name].nunique() > 1]
    columns = [found[name].astype(str) for name in dict.fromkeys(["model", *others])]
    return pd.concat(columns, axis=1).agg(", ".join, axis=1).map(visible) if len(found) else found["model"]


def _sentence(name: str, check: str, some: pd.DataFrame) -> str:
    """One sentence about the flagged rows of one check of one group, with the numbers of the most striking."""
    row = some.iloc[int((some["estimate"] - some["expected"]).abs().to_numpy().argmax())]
    share, expected = (f"{100 * row[column]:.1f} %" for column in ("estimate", "expected"))
    at, two = f"T = {row['temperature']:g}", f"T = {row['temperature']:g} and {row['other']:g}"
    if check == "copies":
        listed = ", ".join(f"{t:g}" for t in some["temperature"].dropna())
        where = f"at T = {listed}" if listed else "at all temperatures together"
        return (
            f"the repeats of {name} {where} are not independent: {share} of the pairs agree"
            f"{f' at {at}' if ',' in listed else ''}, where neighbouring temperatures allow {expected}, as of copies "
            "of one draw, a cache or a state of the server; what repeats gain or agree on means nothing here"
        )
    if check == "no effect":
        return f"the temperature of {name} seems to have had no effect: from {at} to {row['other']:g} answers are alike"
    if check == "same runs":
        return (
            f"the temperature of {name} seems to have had no effect, or draws were taken twice: at {two} {share} of "
            f"the draws of one run are the same, and {expected} of those of different runs"
        )
    if check == "in order":
        return (
            f"draws of {name} depend on their order: {share} of neighbouring runs at {at} agree, {expected} of any two"
        )
    if check == "trend":
        change = with_interval(100 * row["estimate"])
        return f"the accuracy of {name} changes from the first run to the last, at {at} by {change} points"
    if check == "pair":
        runs = f"runs {row['first']:g} and {row['second']:g}"
        return f"{runs} of {name} at {at} are copies: {share} of their draws agree, {expected} of any two runs"
    return f"of {name} the greedy draws of {share} of the problems differ from each other"


@needs_columns(*SETTING, "problem_id", "run", "text", empty=True)
def independence(draws: pd.DataFrame) -> pd.DataFrame:
    """A test of whether repeats are copies, as of one seed or a cache: one row per setting with several runs.

    The null hypothesis is that the draws of a problem are independent, and so are problems. A text that is not the
    greedy one parts from it at some token, where it took another than the likeliest, whose probability is at most one
    half; so whatever the model, an independent draw gives that text again with a probability of at most one half. (Not
    so for `typical_p`, which may drop the likeliest token.) Of the problems in which a run left the greedy text, the
    number in which another run wrote the same is therefore at most binomial with 1/2: ``p`` is its tail for the most
    striking pair of runs, times the number of pairs. Real draws agree far less than that, so a false alarm is rarer
    than ``p``; and copies are found as soon as some twenty problems were left.

    Columns: those of the setting, ``runs``, ``problems`` (with several runs), ``identical`` (the problems whose runs
    wrote one text), of that pair ``first, second, left`` (problems in which the first left the greedy text) and
    ``same`` (in which the second wrote what it wrote), and ``p``: 1 where no problem was left, or none has a greedy
    draw. Raises `InputError` for draws without texts.
    """
    check_runs(draws, "independence")
    if lacking := int(draws["text"].isna().sum()):
        raise InputError(f"independence compares texts, and {lacking:,} of {len(draws):,} draws have none.")
    asked = [*BUT_TEMPERATURE, "problem_id"]
    greedy = pd.MultiIndex.from_frame(draws.loc[draws["temperature"] == 0, [*asked, "text"]])
    has_greedy = pd.MultiIndex.from_frame(draws[asked]).isin(greedy.droplevel("text"))
    as_greedy = pd.MultiIndex.from_frame(draws[[*asked, "text"]]).isin(greedy)
    coded = draws.assign(code=pd.factorize(draws["text"])[0], left=has_greedy & ~as_greedy)
    if coded.duplicated([*SETTING, "problem_id", "run"]).any():
        raise InputError(TWICE)
    rows: list[dict[Any, Any]] = []
    for _, some in coded[coded["temperature"] > 0].groupby(SETTING):
        wide = some.pivot(index="problem_id", columns="run", values=["code", "left"])
        codes, left = wide["code"].fillna(-1).to_numpy(int), wide["left"].eq(True).to_numpy()
        several = (codes >= 0).sum(axis=1) > 1
        if not several.any():
            continue
        alike = some.groupby("problem_id")["code"].nunique().to_numpy() == 1
        counts = {"runs": some["run"].nunique(), "problems": several.sum(), "identical": (alike & several).sum()}
        rows.append(some[SETTING].iloc[0].to_dict() | counts | _most_alike(codes, left, list(wide["code"])))
    found = ["runs", "problems", "identical", "first", "second", "left", "same", "p"]
    return pd.DataFrame(rows, columns=[*SETTING, *found])


def _most_alike(codes: np.ndarray, gone: np.ndarray, runs: list[int]) -> dict[str, Any]:
    """The most striking pair of `runs`: `codes` of texts (problems, runs), -1 for none; `gone` left the greedy one."""
    found: list[tuple[float, int, int, int, int]] = []
    for one in range(len(runs) - 1):
        drawn = gone[:, [one]] & (codes[:, one + 1 :] >= 0)
        left, same = drawn.sum(axis=0), (drawn & (codes[:, one + 1 :] == codes[:, [one]])).sum(axis=0)
        tails = stats.binom.sf(same - 1, left, 0.5)
        other = int(tails.argmin())
        found.append((float(tails[other]), one, one + 1 + other, int(left[other]), int(same[other])))
    p, one, other, left, same = min(found)
    pairs = math.comb(len(runs), 2)
    return {"first": runs[one], "second": runs[other], "left": left, "same": same, "p": min(1.0, pairs * p)}


def copies(draws: pd.DataFrame, level: float = 0.001) -> str:
    """One sentence about the setting whose repeats look most like copies; nothing where none has ``p`` below `level`.

    `level` is shared among the settings; see `independence`.
    """
    found = independence(draws).sort_values("p")
    if found.empty or found["p"].iloc[0] * len(found) >= level:
        return ""
    row = found.iloc[0]
    return (
        f"the repeats of {row['model']} at temperature {row['temperature']:g} are copies, as of one seed or a cache: "
        f"runs {row['first']} and {row['second']} wrote the same in {row['same']} of the {row['left']} problems in "
        f"which the former left the greedy text, independent draws would in at most half, and all runs wrote one text "
        f"in {row['identical']} of {row['problems']} problems; what repeats gain or agree on means nothing here"
    )
