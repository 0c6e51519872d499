"""The report: one page on studies, or on an explanation, and their figures and tables as files.

Made of their files alone; loads no model, runs nothing, asks nothing of the network. Of a study
`charts` and `heat` draw, `tables` and `examples` list, and `page` puts all together; of an
explanation `layer_charts`, `pair_map`, `layer_tables` and `explained` do; of methods compared
`compared`; of recipes on other tasks `transferred`; of tuning `tuned_charts`, `tuned_tables`,
`tuned_words` and `tuned`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from telltale.errors import InputError
from telltale.evidence import explanation, methods, transfers
from telltale.evidence.tuned import is_tuned, read_tuned
from telltale.study import records
from telltale.study.reading import read_study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from telltale.evidence.explanation import Explanation
    from telltale.evidence.methods import Compared
    from telltale.evidence.transfers import Transferred
    from telltale.evidence.tuned import RegimesCompared, TuneResult

__all__ = [
    "figure_folders",
    "write_comparison",
    "write_explanation",
    "write_figures",
    "write_report",
    "write_transfer",
    "write_tuned",
]

Found = TypeVar("Found")

# What has a page of its own, as a message names it.
EXPLANATION, COMPARISON, TUNING = "an explanation", "a comparison", "a tuning"
TRANSFER = "a transfer"


def write_report(studies: Sequence[Path], to: Path) -> None:
    """Write a page on some studies, finished or not, each in a section; or on something else.

    Args:
        studies: their folders; or the folder of one explanation, of one comparison of methods, of
            one transfer, or of one tuning.
        to: the HTML file; what was there is replaced in one step.

    Raises:
        InputError: no study is given, a folder is none, what has a page of its own is not alone, or
            the file cannot be there.
        TelltaleError: a study's file is damaged.
        OSError: the file cannot be written.
    """
    from telltale.report.page import page
    from telltale.support.files import write_text

    if not studies:
        raise InputError("no study to report on; give a search's `out`")
    others = [(folder, kind) for folder in studies if (kind := _kind_of(folder)) is not None]
    if others and len(studies) > 1:
        raise InputError(
            f"{others[0][0]} holds {others[0][1]}, which has a page of its own; give its folder "
            "alone, and the other folders in another call"
        )
    _check_place(to)
    if others:
        folder, kind = others[0]
        _write_page(kind, folder, to)
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

    _write(explanation_page, explained, to)


def write_comparison(compared: Compared, to: Path) -> None:
    """Write the page of methods that were compared.

    Args:
        compared: what was found.
        to: the HTML file; what was there is replaced in one step.

    Raises:
        InputError: the file cannot be there.
        OSError: the file cannot be written.
    """
    from telltale.report.compared import comparison_page

    _write(comparison_page, compared, to)


def write_transfer(transferred: Transferred, to: Path) -> None:
    """Write the page of recipes on several tasks.

    Args:
        transferred: what was found.
        to: the HTML file; what was there is replaced in one step.

    Raises:
        InputError: the file cannot be there.
        OSError: the file cannot be written.
    """
    from telltale.report.transferred import transfer_page

    _write(transfer_page, transferred, to)


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

    _write(tuned_page, found, to)


def _kind_of(folder: Path) -> str | None:
    """What a folder holds that has a page of its own; None of a study, and of nothing known."""
    if (folder / records.FILE).exists():
        return None
    if (folder / explanation.FILE).is_file():
        return EXPLANATION
    if (folder / methods.FILE).is_file():
        return COMPARISON
    if (folder / transfers.FILE).is_file():
        return TRANSFER
    return TUNING if is_tuned(folder) else None


def _write_page(kind: str, folder: Path, to: Path) -> None:
    if kind == EXPLANATION:
        write_explanation(explanation.read_explanation(folder), to)
    elif kind == COMPARISON:
        write_comparison(methods.read_compared(folder), to)
    elif kind == TRANSFER:
        write_transfer(transfers.read_transferred(folder), to)
    else:
        write_tuned(read_tuned(folder), to)


def _write(page: Callable[[Found], str], found: Found, to: Path) -> None:
    from telltale.support.files import write_text

    _check_place(to)
    write_text(to, page(found))


def _check_place(to: Path) -> None:
    if to.is_dir():
        raise InputError(f"cannot write {to}: it is a folder; give a file's name")
    if not to.absolute().parent.is_dir():
        raise InputError(f"cannot write {to}: there is no folder {to.parent}; make it first")


def write_figures(study: Path, folder: Path) -> list[Path]:
    """Write the figures of a study, or of what else a folder holds, as SVG, PNG and CSV.

    Args:
        study: its folder.
        folder: where they go; made where it is not there.

    Returns:
        The files that were written.

    Raises:
        InputError: the folder is no study, or what makes PNG files is not installed.
        TelltaleError: the study's file is damaged.
    """
    from telltale.report.figures import (
        write_comparison_figures,
        write_explanation_figures,
        write_study_figures,
        write_transfer_figures,
    )

    kind = _kind_of(study)
    if kind == COMPARISON:
        return write_comparison_figures(methods.read_compared(study), folder)
    if kind == EXPLANATION:
        return write_explanation_figures(explanation.read_explanation(study), folder)
    if kind == TRANSFER:
        return write_transfer_figures(transfers.read_transferred(study), folder)
    if kind == TUNING:
        raise InputError(f"{study} holds {TUNING}, whose figures are in its page; ask for that")
    return write_study_figures(read_study(study), folder)


def figure_folders(studies: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where each study's figures go: the folder itself, or one in it for each of several."""
    if len(studies) == 1:
        return {studies[0]: folder}
    return {
        study: folder / f"{number}-{study.absolute().name}"
        for number, study in enumerate(studies, start=1)
    }
