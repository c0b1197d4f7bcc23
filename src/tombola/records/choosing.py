"""Choosing: the best of a run's tickets, by its headline metric on validation data alone. Needs no
torch.

The test split chooses nothing, so that the test result of the chosen ticket is not that of a
network which was picked for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tombola.ground import metrics
from tombola.ground.errors import ConfigError, InputError, near
from tombola.ground.metrics import ACCURACY, Metric
from tombola.records.layout import Layout, is_run

# What reads records is imported where they are read: the file of a ticket alone is described
# without, in two thirds of the time.
if TYPE_CHECKING:
    from tombola.records.records import Record, Records
    from tombola.records.seals import Seals


def best(
    records: Iterable[Record],
    *,
    arms: Collection[str] | None = None,
    at: float | None = None,
    replicate: int | None = None,
    round: int | None = None,
    metric: Metric = ACCURACY,
) -> Record:
    """Return the record of the ticket that is best on validation data; among equals the sparsest.

    Args:
        records: Of a run.
        arms: Of these arms; of all if not given.
        at: Of at most this density, 0 to 1.
        replicate: Of this one.
        round: Of this one; 0 is the dense network, which is chosen only when it is asked for.
        metric: By which one is better than another.

    Raises:
        InputError: No evaluated ticket is so, or there is more than one and no validation data to
            choose by.

    >>> known = {"arm": "lth", "replicate": 0, "evaluated": True}
    >>> rounds = [(1, 0.8, 0.91), (2, 0.64, 0.93), (3, 0.51, 0.90)]
    >>> records = [known | {"round": r, "density": d, "valid_accuracy": a} for r, d, a in rounds]
    >>> best(records)["round"], best(records, at=0.6)["round"]
    (2, 3)
    """
    candidates = []
    for record in records:
        round_fits = record["round"] > 0 if round is None else record["round"] == round
        arm_fits = arms is None or record["arm"] in arms
        density_fits = at is None or _is_at_most(record, at)
        replicate_fits = replicate is None or record["replicate"] == replicate
        if record["evaluated"] and round_fits and arm_fits and density_fits and replicate_fits:
            candidates.append(record)
    if not candidates:
        raise _no_ticket(arms, {"density": at, "replicate": replicate, "round": round})
    if len(candidates) == 1:
        return candidates[0]
    # Without validation data only the test split could decide, which it must not.
    if any(record.get(metric.valid) is None for record in candidates):
        raise InputError(
            f"the run has no validation {metric.title} to choose a ticket by (data.valid: 0), and "
            "the test split chooses none; name its arm, replicate and round"
        )
    return max(candidates, key=functools.partial(_rank, metric))


def _no_ticket(arms: Collection[str] | None, asked_for: Mapping[str, float | None]) -> InputError:
    # The message repeats what was asked for, so that a typo is seen at once.
    conditions = []
    if arms is not None:
        names = [arms] if isinstance(arms, str) else arms
        conditions.append(f"arm {', '.join(names)}")
    for name, value in asked_for.items():
        if value is not None:
            conditions.append(f"{name} {value}")
    if not conditions:
        return InputError("the run has no evaluated ticket")
    return InputError(f"the run has no evaluated ticket of {', '.join(conditions)}")


def _rank(metric: Metric, record: Record) -> tuple[float, float, int]:
    return metric.sign * record[metric.valid], -record["density"], -record["replicate"]


def searching(definitions: Mapping[str, Any], *, dense: bool = False) -> list[str]:
    """Return the arms that find tickets of their own, by their definitions: neither controls nor
    networks.

    >>> searching({"dense": {"method": "dense"}, "lth": {"method": "lth"}, "random": {"of": "lth"}})
    ['lth']
    """
    names = []
    for name, definition in definitions.items():
        settings = definition if isinstance(definition, Mapping) else {}
        if settings.get("of") is None and (dense or _has_tickets(settings.get("method"))):
            names.append(name)
    return names


def _has_tickets(method: object) -> bool:
    """Whether a method's arms have tickets: those of a method of the user's own count as well."""
    from tombola import methods

    kind = methods.shipped(method) if isinstance(method, str) else None
    return kind is None or kind.has_tickets


def worth_keeping(
    records: Sequence[Record], at: Iterable[float] = (), metric: Metric = ACCURACY
) -> list[Record]:
    """Return the evaluated rounds of an arm whose trained weights are worth keeping.

    They are the last one, the one that is best on validation data, of all and of those of at most
    some densities, and the sparsest that is as good as the dense network there.

    Args:
        records: Of one arm and replicate, by round.
        at: Densities at which tickets are compared.
        metric: By which one is better than another.

    >>> accuracies = [0.92, 0.94, 0.93, 0.91, 0.90, 0.88]
    >>> records = []
    >>> for index, accuracy in enumerate(accuracies):
    ...     records.append({"arm": "lth", "replicate": 0, "evaluated": True, "round": index,
    ...                     "density": 0.8**index, "valid_accuracy": accuracy})
    >>> [record["round"] for record in worth_keeping(records)]
    [1, 2, 5]
    >>> [record["round"] for record in worth_keeping(records, [0.5])]
    [1, 2, 4, 5]
    """
    tickets = []
    of_dense = None
    for record in records:
        if record["evaluated"] and record["round"] > 0:
            tickets.append(record)
        elif record["evaluated"]:
            of_dense = record[metric.valid]
    if not tickets:
        return []
    chosen = {tickets[-1]["round"]}

    # The best of all, and the best that is sparse enough for each density.
    validated = [record for record in tickets if record.get(metric.valid) is not None]
    for density in (1.0, *at):
        sparse_enough = [record for record in validated if _is_at_most(record, density)]
        if sparse_enough:
            best_ticket = max(sparse_enough, key=functools.partial(_rank, metric))
            chosen.add(best_ticket["round"])

    # The sparsest that loses nothing to the dense network: what a user would ship.
    as_good = []
    for record in validated:
        if of_dense is not None and metric.sign * (record[metric.valid] - of_dense) >= 0:
            as_good.append(record)
    if as_good:
        sparsest = min(as_good, key=lambda record: (record["density"], record["round"]))
        chosen.add(sparsest["round"])
    return [record for record in tickets if record["round"] in chosen]


def kept(
    keep: str, arms: Iterable[Sequence[Record]], at: Iterable[float], metric: Metric = ACCURACY
) -> list[Record]:
    """Return the evaluated rounds whose trained weights a recipe says to keep (``keep``).

    Args:
        keep: "all", "best", "last" or "none".
        arms: For each arm of each replicate its evaluated records, by round.
        at: Densities at which tickets are compared.
        metric: By which one is better than another.

    >>> rounds = [{"round": r, "density": 0.8**r, "evaluated": True, "valid_accuracy": 0.9}
    ...           for r in range(4)]
    >>> [record["round"] for record in kept("last", [rounds], [])]
    [3]
    """
    choices: dict[str, Callable[[Sequence[Record]], Sequence[Record]]] = {
        "all": lambda records: records,
        "best": lambda records: worth_keeping(records, at, metric),
        "last": lambda records: records[-1:],
        "none": lambda _: [],
    }
    chosen: list[Record] = []
    for records in arms:
        chosen += choices[keep](records)
    return chosen


def _is_at_most(record: Record, density: float) -> bool:
    """Whether a ticket has at most a density, up to rounding: 0.8 * 0.8 is a little over 0.64."""
    return float(record["density"]) <= density * (1 + 1e-9)


# Files of a run
# --------------------------------------------------------------------------------------------------

_RUNS = Path("runs")  # where runs are by default
_LEVELS = 5  # folders above a ticket in which its run is looked for


def run_folder(path: Path) -> Path | None:
    """Return the run folder that is meant by a path, the name of a run in ``runs``, or the
    beginning of one; ``None`` where there is none.

    Raises:
        InputError: Several runs begin so.
    """
    try:
        for folder in (path, _RUNS / path):
            if is_run(folder):
                return folder
        if path.exists() or len(path.parts) != 1:
            return None
        matching = _runs(path.name)
    except (OSError, ValueError):  # no file can have such a name
        return None
    if len(matching) > 1:
        names = ", ".join(run.name for run in matching)
        raise InputError(f"several runs in '{_RUNS}' begin with '{path}': {names}")
    return matching[0] if matching else None


def _runs(beginning: str = "") -> list[Path]:
    """Return the runs whose names begin so."""
    if not _RUNS.is_dir():
        return []
    named = [folder for folder in sorted(_RUNS.iterdir()) if folder.name.startswith(beginning)]
    return list(filter(is_run, named))


def named_run(path: Path) -> Path:
    """Return the folder of a run that a user names, see `run_folder`.

    Raises:
        InputError: There is none, or several runs begin so.
    """
    folder = run_folder(path)
    if folder is not None or path.exists() or len(path.parts) != 1:
        return path if folder is None else folder  # whoever reads it says what is wrong with it
    known = [run.name for run in _runs()]
    raise InputError(
        f"'{path}' is no run folder, and no run in '{_RUNS}' begins so; tombola runs lists them."
        f"{near(str(path), known)}"
    )


def run_above(path: Path) -> Path | None:
    """Return the run folder that a file of a run lies in, ``None`` where there is none."""
    for folder in list(path.resolve().parents)[:_LEVELS]:
        if is_run(folder):
            return folder
    return None


def ticket_path(run: Path, record: Record) -> Path:
    """Return where a run keeps the ticket of a record."""
    key = record["arm"], record["replicate"], record["round"]
    return Layout.of(run).ticket(*key, record["density"])


def training_path(run: Path, record: Record) -> Path:
    """Return where a run keeps the trained weights of a record, if it does."""
    return Layout.of(run).trainings / f"{record.get('training_digest')}.training"


def best_of_run(run: Path) -> Record:
    """Return the record of a run's best ticket: of all arms that search, see `best`.

    Raises:
        InputError: There is none, or the folder is damaged.
    """
    return best(records_of(run).all(), arms=searching(_definitions(run)), metric=metrics_of(run)[0])


def ticket_files(paths: Iterable[Path], tickets_of: Callable[[Path], Sequence[Path]]) -> list[Path]:
    """Return the ticket files that a user names.

    Args:
        paths: Ticket files; or run folders, or what names one, see `run_folder`.
        tickets_of: Which tickets a run stands for.
    """
    files: list[Path] = []
    for path in paths:
        run = run_folder(path)
        files += [path] if run is None else tickets_of(run)
    return files


def best_ticket_of_run(run: Path) -> list[Path]:
    """Return the file of a run's best ticket, the only one of a list; see `best_of_run`."""
    return [ticket_path(run, best_of_run(run))]


def tickets_of_run(run: Path) -> list[Path]:
    """Return all ticket files of a run, by name.

    Raises:
        InputError: There is none.
    """
    paths = [path for path, _ in Layout.of(run).ticket_files()]
    if not paths:
        raise InputError(f"'{run}' has no tickets; a packed run has none")
    return paths


def best_tickets_of_run(run: Path) -> list[Path]:
    """Return the tickets of each searching arm's best round, of all replicates.

    Raises:
        InputError: There is none, or the folder is damaged.
    """
    records = records_of(run)
    paths: list[Path] = []
    for arm in searching(_definitions(run)):
        of_arm = [record for record in records if record["arm"] == arm]
        if any(record["evaluated"] and record["round"] > 0 for record in of_arm):
            best_round = best(of_arm, metric=metrics_of(run)[0])["round"]
            for record in of_arm:
                if record["round"] == best_round:
                    paths.append(ticket_path(run, record))
    if not paths:
        raise InputError(f"'{run}' has no evaluated ticket")
    return paths


def seals_of(run: Path) -> Seals:
    """Return what checks the files of a run folder.

    Raises:
        InputError: Its ``run.json`` is damaged.
    """
    from tombola.records.seals import Seals

    path = Layout.of(run).about
    about = Seals(run, required=False).read_json(path)
    if not isinstance(about, dict) or not isinstance(about.get("digest"), str):
        raise ConfigError(f"'{path}' is damaged: it has no digest of the recipe")
    if "seals" in about:
        Seals(run).read_json(path)  # then it must have one itself
    return Seals(run, about["digest"], required="seals" in about)


def metrics_of(run: Path) -> tuple[Metric, ...]:
    """Return what a run's task measured, the headline first.

    Raises:
        InputError: Its ``run.json`` is damaged.
    """
    from tombola.records.seals import Seals

    path = Layout.of(run).about
    try:
        return metrics.read(Seals(run, required=False).read_json(path).get("metrics"))
    except (TypeError, AttributeError, ConfigError) as error:
        raise ConfigError(f"'{path}' is damaged: its metrics are none") from error


def records_of(run: Path) -> Records:
    """Return the records of a run folder, checked.

    Raises:
        InputError: A line is damaged.
    """
    from tombola.records.records import Records

    path = Layout.of(run).records
    return Records(path, repair=False, seals=seals_of(run), metrics=metrics_of(run))


def _definitions(run: Path) -> dict[str, Any]:
    path = Layout.of(run).arms
    try:
        definitions = seals_of(run).read_json(path)
    except FileNotFoundError as error:
        raise ConfigError(f"'{path}' is not there") from error
    if not isinstance(definitions, dict):
        raise ConfigError(f"'{path}' is damaged: it is no mapping of arms")
    return definitions
