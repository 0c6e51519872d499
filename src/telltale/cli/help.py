"""The sections in which ``--help`` lists the options of a command that has many."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

# Every option of such a command, in the order in which they are shown. What a command lacks is
# passed over. Not typer's rich_help_panel: panels are not shown in plain text, and have no order.
SECTIONS = {
    "Most used": (
        "--out --tasks --data --methods --depths --shots --limit --held-out --objective "
        "--tolerance --max-removed --remove --against --pick --pairs --show --device --dtype"
    ),
    "Examples": (
        "--data-dir --split --seed --question-field --choices-field --answer-field "
        "--passage-field --answer-form --skip-bad-rows"
    ),
    "Asking": (
        "--protocol --prompt --scoring --extract --scorer --metric --stop --max-new-tokens "
        "--truncate"
    ),
    "Search": (
        "--search --speed --shortlist --guard --protect --paper --resume-anyway --track --dry-run "
        "--plan"
    ),
    "Tuning": (
        "--train --regime --compare --seeds --output --rank --alpha --dropout --targets "
        "--learning-rate --epochs --max-steps --batch-size --micro-batch --loss --patience "
        "--four-bit"
    ),
    "Targets": "--target-speedup --max-latency-ms --max-memory --max-parameters --price",
    "Evidence": "--final --max-loss --confidence --text --sizes --resamples",
    "Timing": "--prompt-lengths --batch-sizes --new-tokens --repeats",
    "Model and machine": (
        "--model --adapter --engine --threads --memory --revision --trust-remote-code --help"
    ),
}


class InSections(TyperCommand):
    """A command that lists its options by `SECTIONS`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then every section that has an option of this command."""
        parameters = self.get_params(ctx)
        options = {name: one for one in parameters for name in one.opts}
        shown = {
            "Arguments": [one for one in parameters if one.param_type_name == "argument"],
            **{
                title: [options[name] for name in names.split() if name in options]
                for title, names in SECTIONS.items()
            },
        }
        for title, some in shown.items():
            rows = [row for one in some if (row := one.get_help_record(ctx)) is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
