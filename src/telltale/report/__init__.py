"""The report: one page on one or more studies, and their figures and tables as files.

Made of the studies' files alone; loads no model, runs nothing, asks nothing of the network. In
`facts` a study becomes plain values, from which all else is made: `charts` and `heat` draw them,
`tables` and `examples` list them, `page` puts them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.study.reading import read_study

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["figure_folders", "write_figures", "write_report"]


def write_report(studies: Sequence[Path], to: Path) -> None:
    """Write a page on some studies, finished or not, each in a section of its own.

    Args:
        studies: their folders.
        to: the HTML file; what was there is replaced in one step.

    Raises:
        InputError: no study is given, a folder is none, or the file cannot be there.
        TelltaleError: a study's file is damaged.
        OSError: the file cannot be written.
    """
    from telltale.report.page import page
    from telltale.support.files import write_text

    if not studies:
        raise InputError("no study to report on; give a search's `out`")
    if to.is_dir():
        raise InputError(f"cannot write {to}: it is a folder; give a file's name")
    if not to.absolute().parent.is_dir():
        raise InputError(f"cannot write {to}: there is no folder {to.parent}; make it first")
    write_text(to, page([read_study(study) for study in studies]))


def write_figures(study: Path, folder: Path) -> list[Path]:
    """Write a study's figures as SVG and PNG, and its tables as CSV.

    Args:
        study: its folder.
        folder: where they go; made where it is not there.

    Returns:
        The files that were written.

    Raises:
        InputError: the folder is no study, or what makes PNG files is not installed.
        TelltaleError: the study's file is damaged.
    """
    from telltale.report.figures import write_study_figures

    return write_study_figures(read_study(study), folder)


def figure_folders(studies: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where each study's figures go: the folder itself, or one in it for each of several."""
    if len(studies) == 1:
        return {studies[0]: folder}
    return {
        study: folder / f"{number}-{study.absolute().name}"
        for number, study in enumerate(studies, start=1)
    }
