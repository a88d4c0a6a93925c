"""From labelled texts to a finished folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.checkpoint.fingerprint import file_sha256
from model.checkpoint.head import HeadWeights, write_head
from model.checkpoint.source import PROJECT, CheckpointSource, resolve
from model.finetune.classify.baselines import majority, tf_idf
from model.finetune.classify.labelled import BadRows, LabelledData, Problem, read_labelled
from model.finetune.classify.measure import Measurement, measure
from model.finetune.classify.probe import fit_probe, weights_of_classes
from model.finetune.classify.settings import ClassifySettings
from model.finetune.classify.split import Split, split_texts
from model.finetune.classify.states import hidden_states
from model.finetune.settings import SettingsError
from model.interface import ClassificationHead, Engine, EngineError, EngineInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` in a stage; `total` is the most there may be where training may stop earlier."""

    stage: str
    done: int
    total: int


class TrainingCancelled(EngineError):
    """The caller wanted no more; nothing was written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedHead:
    """A finished folder.

    Attributes:
        folder: with the head, `metrics.json`, tables and pictures.
        info: the head in it.
        split: what it was trained and measured on.
        measured: on the test texts; `baselines`: the same of "always the commonest label" and of TF-IDF.
        skipped: rows of the data and of the test file that were left out, as `bad_rows` allows, by file.
    """

    folder: Path
    info: ClassificationHead
    split: Split
    measured: Measurement
    baselines: dict[str, Measurement]
    skipped: dict[Path, tuple[Problem, ...]]


def train_head(
    settings: ClassifySettings,
    *,
    engine: Engine | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> TrainedHead:
    """Train, measure and write `settings.output`, which appears whole or not at all.

    Args:
        engine: of `settings.model`, if one runs: a probe's hidden states are asked of it, behind all other requests.
            Without one, the checkpoint is opened.
        on_progress: called from this thread.
        cancelled: asked between steps; once it is true, TrainingCancelled is raised.

    Raises:
        BadRows, DataError: the data cannot be used.
        SettingsError, CheckpointError, EngineError: as the sentence says.
        TrainingCancelled: see above.
    """
    if settings.output.exists():
        raise SettingsError(f"output={str(settings.output)!r} is there already: choose another folder or remove it")

    def tell(stage: str, done: int, total: int) -> None:
        if cancelled():
            raise TrainingCancelled("the training was cancelled: nothing was written")
        on_progress(Progress(stage, done, total))

    tell("reading", 0, 1)
    files = {path: _read(path, settings) for path in (settings.data, settings.test) if path is not None}
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{settings.output.name}-", dir=settings.output.parent) as scratch:
        folder = Path(scratch) / "finished"
        folder.mkdir()
        trained = (_lora if settings.method == "lora" else _probe)(settings, engine, files, folder, tell)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # whatever the umask
        folder.rename(settings.output)
    return trained


Tell = Callable[[str, int, int], None]
Files = dict[Path, LabelledData]


def _probe(settings: ClassifySettings, engine: Engine | None, files: Files, folder: Path, tell: Tell) -> TrainedHead:
    with _engine_of(settings, engine) as running:
        info = running.info
        limit = min(info.context_length, (info.num_blocks - 1) * info.block_size)
        split, skipped = _split(settings, files, lambda text: len(running.tokenizer.encode_prompt(text)), limit)
        class_weights = weights_of_classes(split.train.targets, len(split.labels), settings.class_weights)
        parts = (split.train, split.validation, split.test)
        texts = [text for part in parts for text in part.texts]
        states = hidden_states(
            running, texts, cache=settings.cache, on_chunk=lambda done: tell("hidden states", done, len(texts))
        )
    train, validation, test = np.split(states, np.cumsum([len(part.texts) for part in parts])[:-1])
    probe = fit_probe(
        train,
        split.train.targets,
        validation,
        split.validation.targets,
        class_weights=class_weights,
        patience=settings.patience,
        on_step=lambda done, total: tell("fitting", done, total),
    )
    head = HeadWeights.of(
        probe.weight,
        name=settings.head_name,
        labels=split.labels,
        problem_type="single_label",
        source=str(settings.output),
    )
    source = _source(info)
    tell("writing", 0, 1)
    write_head(folder, head, base_name=source.name, base_sha256=info.weights_sha256)
    if settings.whole:
        from model.finetune.classify.write import write_whole_probe

        write_whole_probe(folder, source.folder, head.weight, split.labels)
    fit = {"chosen": asdict(probe.best), "path": [asdict(step) for step in probe.path]}
    base = _base(source, info.weights_sha256, dtype=info.dtype, rope_position_dtype=info.rope_position_dtype)
    return _finish(settings, folder, head.info, split, skipped, files, source, base, fit, head.logits(list(test)), tell)


def _lora(settings: ClassifySettings, engine: Engine | None, files: Files, folder: Path, tell: Tell) -> TrainedHead:
    if engine is not None:
        raise SettingsError("method='lora' trains weights of its own and not a running engine's: give no engine")
    from model.checkpoint.fingerprint import weights_sha256
    from model.finetune.classify.lora import LoraBase, train_lora
    from model.open_engine import open_engine

    source = resolve(settings.model, revision=settings.revision)
    base = LoraBase(source.folder)
    split, skipped = _split(settings, files, lambda text: len(base.encode(text)), base.context_length)
    class_weights = weights_of_classes(split.train.targets, len(split.labels), settings.class_weights)
    fit = train_lora(base, split, folder, settings=settings, class_weights=class_weights, tell=tell)
    # Measured as it will be used: from the folder, by our engine.
    trained = open_engine(str(folder), device=settings.device, dtype=fit["dtype"])
    try:
        logits = trained.classify(split.test.texts, priority="interactive")
        (own,) = trained.heads.values()
    finally:
        trained.close()
    info = ClassificationHead(
        name=settings.output.name,
        labels=own.labels,
        problem_type=own.problem_type,
        source=str(settings.output),
        weight_sha256=own.weight_sha256,
    )
    described = _base(source, weights_sha256(source.folder), dtype=fit["dtype"], rope_position_dtype="float32")
    return _finish(settings, folder, info, split, skipped, files, source, described, fit, logits, tell)


def _finish(
    settings: ClassifySettings,
    folder: Path,
    info: ClassificationHead,
    split: Split,
    skipped: dict[Path, tuple[Problem, ...]],
    files: Files,
    source: CheckpointSource,
    base: dict[str, Any],
    fit: dict[str, Any],
    logits: Sequence[NDArray[np.float32]],
    tell: Tell,
) -> TrainedHead:
    """Measure and write down."""
    from model.finetune.classify.write import write_card, write_report

    tell("measuring", 0, 1)
    probabilities = info.scores(np.stack(logits))
    seed = settings.seed
    measured = measure(split.test.targets, probabilities.argmax(axis=1), probabilities, labels=split.labels, seed=seed)
    class_weights = weights_of_classes(split.train.targets, len(split.labels), settings.class_weights)
    baselines = {
        "the commonest label": majority(split, seed=seed),
        "TF-IDF and logistic regression": tf_idf(split, class_weights=class_weights, seed=seed),
    }
    record = {
        "name": info.name,
        "labels": list(split.labels),
        "base": base,
        "settings": _settings_record(settings),
        "data": [_file_record(path, data, skipped[path]) for path, data in files.items()],
        "split": split.counts(),
        "removed_as_test_has_them": split.num_removed,
        "class_weights": class_weights.tolist(),
        "fit": fit,
        "test": measured.as_dict(),
        "baselines": {name: one.as_dict() for name, one in baselines.items()},
        "versions": {name: version(name) for name in LIBRARIES},
    }
    write_report(folder, record, measured)
    write_card(
        folder,
        name=info.name,
        base=source.folder,
        base_name=source.name,
        record=record,
        measured=measured,
        baselines=baselines,
    )
    tell("measuring", 1, 1)
    return TrainedHead(
        folder=settings.output,
        info=info,
        split=split,
        measured=measured,
        baselines=baselines,
        skipped=skipped,
    )


def _read(path: Path, settings: ClassifySettings) -> LabelledData:
    return read_labelled(path, text_column=settings.text_column, label_column=settings.label_column)


def _split(
    settings: ClassifySettings, files: Files, count_tokens: Callable[[str], int], limit: int
) -> tuple[Split, dict[Path, tuple[Problem, ...]]]:
    """The three parts, and the rows left out of each file.

    Raises:
        BadRows: there are such rows, and they are to be refused.
    """
    skipped, kept = {}, {}
    for path, data in files.items():
        counts = [count_tokens(one.text) for one in data.texts]
        too_long = [
            Problem(one.line, f"the text has {count} tokens but the model takes at most {limit}: shorten it")
            for one, count in zip(data.texts, counts, strict=True)
            if count > limit
        ]
        problems = tuple(sorted([*data.problems, *too_long], key=lambda problem: problem.line))
        if problems and settings.bad_rows == "refuse":
            raise BadRows(path, problems)
        skipped[path] = problems
        kept[path] = [one for one, count in zip(data.texts, counts, strict=True) if count <= limit]
    split = split_texts(
        kept[settings.data],
        None if settings.test is None else kept[settings.test],
        validation_share=settings.validation_share,
        test_share=settings.test_share,
        seed=settings.seed,
    )
    return split, skipped


@contextmanager
def _engine_of(settings: ClassifySettings, engine: Engine | None) -> Iterator[Engine]:
    """The one given, which stays open, or one opened for this."""
    if engine is not None:
        yield engine
        return
    from model.open_engine import open_engine

    opened = open_engine(settings.model, revision=settings.revision, device=settings.device, dtype=settings.dtype)
    try:
        yield opened
    finally:
        opened.close()


def _source(info: EngineInfo) -> CheckpointSource:
    """Where the base's files are; folders inside the project are named from there, wherever this process runs."""
    inside = PROJECT / info.source
    return resolve(str(inside) if inside.is_dir() else info.source, revision=info.revision)


def _base(source: CheckpointSource, sha256: str, *, dtype: str, rope_position_dtype: str) -> dict[str, Any]:
    return {
        "source": source.name,
        "revision": source.revision,
        "weights_sha256": sha256,
        "dtype": dtype,
        "rope_position_dtype": rope_position_dtype,
    }


def _settings_record(settings: ClassifySettings) -> dict[str, Any]:
    """Without the base, which is described beside them, and without where this machine keeps its files."""
    chosen = {key: value for key, value in asdict(settings).items() if key not in ("model", "revision", "cache")}
    for name in ("data", "test", "output"):
        chosen[name] = None if chosen[name] is None else chosen[name].name
    return dict(json.loads(json.dumps(chosen)))


def _file_record(path: Path, data: LabelledData, skipped: Sequence[Problem]) -> dict[str, Any]:
    return {
        "file": path.name,
        "sha256": file_sha256(path),
        "texts": len(data.texts),
        "repeated_rows": data.num_repeated,
        "skipped_rows": [{"line": problem.line, "reason": problem.sentence} for problem in skipped],
    }
