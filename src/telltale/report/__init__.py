"""The report: one page on studies, or on an explanation, and their figures and tables as files.

Made of their files alone; loads no model, runs nothing, asks nothing of the network. Of a study
`charts` and `heat` draw, `tables` and `examples` list, and `page` puts all together; of an
explanation `layer_charts`, `pair_map`, `layer_tables` and `explained` do, and of tuning
`tuned_charts`, `tuned_tables`, `tuned_words` and `tuned`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.evidence import explanation
from telltale.evidence.tuned import is_tuned, read_tuned
from telltale.study import records
from telltale.study.reading import read_study

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from telltale.evidence.explanation import Explanation
    from telltale.evidence.tuned import RegimesCompared, TuneResult

__all__ = ["figure_folders", "write_explanation", "write_figures", "write_report", "write_tuned"]


def write_report(studies: Sequence[Path], to: Path) -> None:
    """Write a page on some studies, finished or not, each in a section; or on something else.

    Args:
        studies: their folders; or the folder of one explanation, or of one tuning.
        to: the HTML file; what was there is replaced in one step.

    Raises:
        InputError: no study is given, a folder is none, an explanation or a tuning is not alone, or
            the file cannot be there.
        TelltaleError: a study's file is damaged.
        OSError: the file cannot be written.
    """
    from telltale.report.page import page
    from telltale.support.files import write_text

    if not studies:
        raise InputError("no study to report on; give a search's `out`")
    explained = [folder for folder in studies if _is_explained(folder)]
    of_tuning = [folder for folder in studies if is_tuned(folder)]
    if alone := (explained + of_tuning)[:1] if len(studies) > 1 else []:
        kind = "an explanation" if explained else "a tuning"
        raise InputError(
            f"{alone[0]} holds {kind}, which has a page of its own; give its folder "
            "alone, and the other folders in another call"
        )
    _check_place(to)
    if explained:
        write_explanation(explanation.read_explanation(explained[0]), to)
    elif of_tuning:
        write_tuned(read_tuned(of_tuning[0]), to)
    else:
        write_text(to, page([read_study(study) for study in studies]))


def write_explanation(explained: Explanation, to: Path) -> None:
    """Write the page of an explanation.

    Args:
        explained: what is known of layers.
        to: the HTML file; what was there is replaced in one step.

    Raises:
        InputError: the file cannot be there.
        OSError: the file cannot be written.
    """
    from telltale.report.explained import explanation_page
    from telltale.support.files import write_text

    _check_place(to)
    write_text(to, explanation_page(explained))


def write_tuned(found: TuneResult | RegimesCompared, to: Path) -> None:
    """Write the page of a tuning, or of regimes beside each other.

    Args:
        found: what ``tune.json`` or ``comparison.json`` holds.
        to: the HTML file; what was there is replaced in one step.

    Raises:
        InputError: the file cannot be there.
        OSError: the file cannot be written.
    """
    from telltale.report.tuned import tuned_page
    from telltale.support.files import write_text

    _check_place(to)
    write_text(to, tuned_page(found))


def _is_explained(folder: Path) -> bool:
    """Whether a folder holds an explanation and no study."""
    return (folder / explanation.FILE).is_file() and not (folder / records.FILE).exists()


def _check_place(to: Path) -> None:
    if to.is_dir():
        raise InputError(f"cannot write {to}: it is a folder; give a file's name")
    if not to.absolute().parent.is_dir():
        raise InputError(f"cannot write {to}: there is no folder {to.parent}; make it first")


def write_figures(study: Path, folder: Path) -> list[Path]:
    """Write the figures of a study, or of an explanation, as SVG and PNG, and tables as CSV.

    Args:
        study: its folder.
        folder: where they go; made where it is not there.

    Returns:
        The files that were written.

    Raises:
        InputError: the folder is no study, or what makes PNG files is not installed.
        TelltaleError: the study's file is damaged.
    """
    from telltale.report.figures import write_explanation_figures, write_study_figures

    if _is_explained(study):
        return write_explanation_figures(explanation.read_explanation(study), folder)
    return write_study_figures(read_study(study), folder)


def figure_folders(studies: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where each study's figures go: the folder itself, or one in it for each of several."""
    if len(studies) == 1:
        return {studies[0]: folder}
    return {
        study: folder / f"{number}-{study.absolute().name}"
        for number, study in enumerate(studies, start=1)
    }
