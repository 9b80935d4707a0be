"""Many runs, one table: every category, fold and seed of a data set, or the ablations of Table 5."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ssn_edge.errors import InputError
from ssn_edge.values import size_hw
from ssn_train.data.datasets import DataLayout, DataSet, Selection, open_dataset
from ssn_train.options.recipe import ABLATIONS, SUPERVISED_ONLY
from ssn_train.options.settings import Settings, fingerprint
from ssn_train.report import line_figures, tables
from ssn_train.report.tables import Figure, Row, Table
from ssn_train.training import training_run
from ssn_train.training.checkpoint import MODEL_FILE, RESUME_FILE

FULL = "ours"
"""The row of SuperSimpleNet itself among the ablations; Table 5's name."""

Values = Dict[Tuple[Optional[str], Optional[str]], Dict[int, Dict[str, float]]]
"""(ablation, category) -> seed -> metric -> per cent, mean over folds."""


@dataclass(frozen=True)
class Cell:
    """One run of the protocol."""

    ablation: Optional[str]
    category: Optional[str]
    fold: Optional[int]
    seed: int

    @property
    def folder(self) -> Path:
        fold = None if self.fold is None else f"fold-{self.fold}"
        parts = (self.ablation, self.category, fold, f"seed-{self.seed}")
        return Path(*(part for part in parts if part))

    def __str__(self) -> str:
        return ", ".join(self.folder.parts)


@dataclass(frozen=True)
class Task:
    """What to run: ``name`` of the data, ``preset`` (its entry in presets.json, or empty), and
    ``sizes`` by category where the size was not chosen by hand."""

    name: str
    settings: Settings
    cells: Sequence[Cell]
    preset: Mapping[str, Any]
    sizes: Mapping[str, str]
    changed: Sequence[str]
    """The preset's options that were overridden, as text."""

    def settings_of(self, cell: Cell) -> Settings:
        chosen = dataclasses.replace(
            self.settings.selection, category=cell.category, fold=cell.fold or 0
        )
        ablation = None if cell.ablation in (None, FULL) else cell.ablation
        settings = dataclasses.replace(
            self.settings, seed=cell.seed, ablation=ablation, selection=chosen
        )
        size = self.sizes.get(cell.category or "")
        if not size:
            return settings
        return dataclasses.replace(settings, size=size_hw("presets.json", size, square=True))


def cells(
    layout: DataLayout, categories: Optional[str], folds: str, ablation: Optional[str], seeds: Sequence[int]
) -> List[Cell]:
    """All runs asked for: comma-separated names or ``all``. InputError for unknown ones."""
    chosen = _choose("--categories", categories, layout.categories) if categories else [None]
    numbers: List[Optional[int]] = [None]
    if layout.folds > 1:
        numbers = [int(k) for k in _choose("--folds", folds, [str(k) for k in range(layout.folds)])]
    elif folds not in ("0", "all"):
        raise InputError(f"--folds {folds}: {layout.root} ({layout.name}) has none; leave it out")
    names: List[Optional[str]] = [None]
    if ablation is not None:
        names = list(_choose("--ablation", ablation, [FULL, *ABLATIONS]))
    return [Cell(*parts) for parts in itertools.product(names, chosen, numbers, seeds)]


def check(task: Task, dataset: DataSet, all_ablations: bool) -> Task:
    """Refuse before the first run what cannot be trained on ``dataset``, the first cell's; of all
    ablations keep those that can."""
    supervised = any(sample.label for sample in dataset.train)
    if all_ablations and not supervised:
        kept = [cell for cell in task.cells if cell.ablation not in SUPERVISED_ONLY]
        task = dataclasses.replace(task, cells=kept)
    for cell in task.cells:
        task.settings_of(cell).recipe(supervised)
    return task


def _choose(option: str, text: str, known: Sequence[str]) -> List[str]:
    names = list(known) if text == "all" else text.split(",")
    for name in names or [text]:
        if name not in known:
            choice = ", ".join(known) or "nothing to choose from here"
            raise InputError(f"{option} {name}: not there; choose from {choice}, or all")
    return names


def run_all(task: Task, data: Path, out: Path, device: str, workers: int, log) -> List[Path]:
    """Train and evaluate every cell that is not finished, then write the tables into ``out``.

    ``log(line)`` is told about progress. Raises Interrupted (the same command goes on), InputError
    where a finished run was made with other settings.
    """
    started, done = time.monotonic(), 0
    datasets: Dict[Selection, DataSet] = {}  # each listed once, not once a seed
    for number, cell in enumerate(task.cells, 1):
        run = out / cell.folder
        settings = task.settings_of(cell)
        if settings.selection not in datasets:
            datasets[settings.selection] = open_dataset(data, settings.selection)
        dataset = datasets[settings.selection]
        if (run / MODEL_FILE).exists():
            _check_finished(run, settings, dataset)
            continue
        left = ""
        if done:
            seconds = (time.monotonic() - started) / done * (len(task.cells) - number + 1)
            left = f", about {seconds / 60:.0f} min left"
        log(f"[{number}/{len(task.cells)}] {cell}{left}")
        waiting = (run / RESUME_FILE).exists()
        training_run.train(dataset, settings, run, device, workers, waiting)
        done += 1
    return write_tables(task, out)


def _check_finished(run: Path, settings: Settings, dataset: DataSet) -> None:
    """InputError unless the finished run had these settings and these files."""
    document = _metrics(run)
    stored = document["run"]
    settings.settled(stored["supervised"]).check_same(stored["settings"], f"{run}: finished already, but")
    if document.get("data") != fingerprint([*dataset.train, *dataset.test]):
        raise InputError(
            f"{run}: finished already with other files than {dataset.root}; choose another --out"
        )


def write_tables(task: Task, out: Path) -> List[Path]:
    """``table.*``, and with ablations beside SuperSimpleNet ``changes.*``, from the finished runs."""
    documents = {cell: _metrics(out / cell.folder) for cell in task.cells}
    metrics = _metric_names(task, documents)
    values = _per_seed(documents, metrics)
    notes = _notes(task, documents)
    ablations = list(dict.fromkeys(cell.ablation for cell in task.cells))
    if ablations == [None]:
        return tables.write(out, "table", _by_category(task, values, metrics, notes))
    rows = {str(name): _average(values, name, metrics) for name in ablations}
    title = f"Ablations on {task.preset.get('data', task.name)}"
    whole = Table(title, metrics, [_row(name, seeds) for name, seeds in rows.items()], notes)
    paths = tables.write(out, "table", whole)
    if FULL in rows and len(rows) > 1:
        supervised = any(d["run"]["supervised"] for d in documents.values())
        changes = _changes(rows, metrics, supervised, title, notes)
        paths += tables.write(out, "changes", changes)
    return paths


def _metric_names(task: Task, documents: Mapping[Cell, Any]) -> List[str]:
    wanted = task.preset.get("metrics", ["I-AUROC", "AP-det", "AUPRO"])
    found = [_figures(document) for document in documents.values()]
    names = [name for name in wanted if all(figures.get(name) is not None for figures in found)]
    if not names:
        raise InputError(
            "nothing to put into a table: not every test set has good and defective photos; the runs "
            "are finished and keep their own metrics.json"
        )
    return names


def _figures(document: Mapping[str, Any]) -> Dict[str, Any]:
    """The metrics, and the line's figures (line_figures.NAMES), which a preset may name too."""
    return {**line_figures.shares(document.get("line")), **document["metrics"]}


def _per_seed(documents: Mapping[Cell, Any], metrics: Sequence[str]) -> Values:
    """Means over the folds. Without a classification head the map's maximum is the image's score."""
    found: Dict[Tuple[Optional[str], Optional[str], int, str], List[float]] = {}
    for cell, document in documents.items():
        head = ABLATIONS[cell.ablation].cls_head if cell.ablation in ABLATIONS else True
        for metric in metrics:
            by_map = metric in ("I-AUROC", "AP-det") and not head
            value = _figures(document)[f"{metric} (map maximum)" if by_map else metric]
            key = (cell.ablation, cell.category, cell.seed, metric)
            found.setdefault(key, []).append(100 * value)
    values: Values = {}
    for (ablation, category, seed, metric), over_folds in found.items():
        seeds = values.setdefault((ablation, category), {})
        seeds.setdefault(seed, {})[metric] = mean(over_folds)
    return values


def _average(values: Values, ablation: Optional[str], metrics: Sequence[str]) -> Dict[str, List[float]]:
    """A value per seed, mean over the categories."""
    chosen = [seeds for (name, _), seeds in values.items() if name == ablation]
    return {m: [mean(s[seed][m] for s in chosen) for seed in chosen[0]] for m in metrics}


def _row(name: str, seeds: Mapping[str, Sequence[float]]) -> Row:
    return Row(name, {metric: Figure(found) for metric, found in seeds.items()})


def _by_category(task: Task, values: Values, metrics: Sequence[str], notes: Sequence[str]) -> Table:
    reference = tables.paper().get(task.preset.get("table") or "", {"metrics": []})
    single = task.name.lower() if len(reference.get("rows", {})) > 1 else tables.AVERAGE
    rows = []
    for (_, category), seeds in values.items():
        name = category or single
        figures = {
            m: Figure([found[m] for found in seeds.values()], *tables.published(reference, name, m))
            for m in metrics
        }
        rows.append(Row(name, figures))
    if len(rows) > 1:
        complete = set(reference.get("rows", {})) - {tables.AVERAGE} <= {row.name for row in rows}
        rows = tables.with_average(rows, metrics, reference if complete else {"metrics": []})
    title = task.preset.get("data", task.name)
    if task.preset.get("table"):
        title += f" (the paper's Table {task.preset['table']})"
    return Table(title, metrics, rows, notes)


def _changes(
    rows: Mapping[str, Mapping[str, Sequence[float]]],
    metrics: Sequence[str],
    supervised: bool,
    title: str,
    notes: Sequence[str],
) -> Table:
    """Each ablation minus SuperSimpleNet, seed by seed, beside the same difference in Table 5."""
    reference = tables.paper()["5"]
    kind = "supervised" if supervised else "unsupervised"

    def of_paper(name: str, metric: str) -> Optional[float]:
        theirs, _ = tables.published(reference, name, f"{kind} {metric}")
        full, _ = tables.published(reference, FULL, f"{kind} {metric}")
        return None if theirs is None or full is None else theirs - full

    changed = []
    for name, seeds in rows.items():
        if name != FULL:
            differences = {m: [x - y for x, y in zip(seeds[m], rows[FULL][m])] for m in metrics}
            figures = {m: Figure(d, of_paper(name, m)) for m, d in differences.items()}
            changed.append(Row(name, figures))
    note = f"paper: the same difference in Table 5, {kind}, means over its data sets"
    return Table(f"{title}: change against SuperSimpleNet", metrics, changed, [note, *notes])


def _notes(task: Task, documents: Mapping[Cell, Any]) -> List[str]:
    seeds = sorted({cell.seed for cell in task.cells})
    folds = sorted({cell.fold for cell in task.cells if cell.fold is not None})
    runs = [document["run"] for document in documents.values()]
    kinds = "supervised" if any(r["supervised"] for r in runs) else "unsupervised"
    first = runs[0]
    over = "one seed" if len(seeds) == 1 else f"mean and standard deviation over {len(seeds)} seeds"
    each = f", each the mean of {len(folds)} folds" if len(folds) > 1 else ""
    steps = sorted({run["steps"] for run in runs})
    length = f"{steps[0]}" + (f" to {steps[-1]}" if len(steps) > 1 else "")
    lines = [
        f"{kinds}; final step; {over} ({', '.join(map(str, seeds))}){each}",
        f"{first['settings']['backbone']}, {length} steps of batch {first['settings']['batch']}, "
        f"torch {first['versions']['torch']}, {first['device'] or 'CPU'}",
        f"▲ ▼ mark a difference of more than {tables.SPREADS} standard deviations of our seeds, = a smaller "
        "one; from a single seed nothing can be told",
    ]
    if task.changed:
        lines.append(f"not the preset's protocol: {', '.join(task.changed)}")
    return lines


def _metrics(run: Path) -> Dict[str, Any]:
    try:
        return json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{run}: its metrics.json cannot be read ({error}); remove the folder") from None
