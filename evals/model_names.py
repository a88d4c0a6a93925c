"""What the name of a model to evaluate stands for."""

from __future__ import annotations

from pathlib import Path

BUNDLED_FOLDER = Path(__file__).resolve().parent.parent / "model" / "demo"
HUGGING_FACE = "hf:"


def is_endpoint(name: str) -> bool:
    """Whether a name is an endpoint's address."""
    return name.startswith(("http://", "https://"))


def find_checkpoint(name: str) -> str:
    """The folder of a bundled checkpoint named without its path; any other name as it is."""
    bundled = BUNDLED_FOLDER / Path(name).name
    if (
        not Path(name).exists()
        and (bundled / "config.json").is_file()
        and name.removeprefix("model/demo/") == bundled.name
    ):
        return str(bundled)
    return name


def bundled_checkpoints() -> tuple[str, ...]:
    """Names of the checkpoints that come with the project, the subject of the comparison first."""
    names = sorted(path.parent.name for path in BUNDLED_FOLDER.glob("*-demo/config.json"))
    return tuple(sorted(names, key=lambda name: name != "persimmon-demo"))


def is_bundled(name: str) -> bool:
    """Whether a name, with or without `hf:`, is a bundled checkpoint's."""
    path = Path(find_checkpoint(name.removeprefix(HUGGING_FACE)))
    return path.is_dir() and path.resolve().is_relative_to(BUNDLED_FOLDER)
