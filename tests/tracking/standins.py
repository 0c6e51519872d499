"""Modules that stand in for the tracking libraries: each writes down its calls and does nothing.

They take what the real ones take, and no more: `test_real_tools` compares them with those.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pytest


class Call(NamedTuple):
    what: str
    given: dict[str, Any]


class Calls(list[Call]):
    """The calls, in order."""

    def of(self, what: str) -> list[dict[str, Any]]:
        return [call.given for call in self if call.what == what]

    @property
    def names(self) -> list[str]:
        return [call.what for call in self]

    def note(self, what: str, **given: Any) -> None:
        self.append(Call(what, given))


def module(name: str, **parts: Any) -> ModuleType:
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None, origin="stand-in")
    vars(made).update(parts)
    return made


def trackio(calls: Calls) -> dict[str, ModuleType]:
    class Run:
        def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
            calls.note("log", metrics=metrics, step=step)

        def log_artifact(self, artifact_or_path: str, type: str | None = None) -> None:  # noqa: A002
            calls.note("log_artifact", path=artifact_or_path, type=type)

    def init(project: str, name: str, config: dict[str, Any], embed: bool) -> Run:
        print("* Trackio project initialized")  # noqa: T201 - as trackio does
        calls.note("init", project=project, name=name, config=config)
        return Run()

    def finish() -> None:
        calls.note("finish")

    def markdown(text: str) -> str:
        return text

    return {"trackio": module("trackio", init=init, finish=finish, Markdown=markdown, Run=Run)}


def wandb(calls: Calls) -> dict[str, ModuleType]:
    class Run:
        def __init__(self) -> None:
            self.summary = SimpleNamespace(
                update=lambda found: calls.note("summary", found=dict(found))
            )

        def define_metric(
            self, name: str, step_metric: str | None = None, hidden: bool | None = None
        ) -> None:
            calls.note("define_metric", name=name, step_metric=step_metric)

        def log(self, data: dict[str, Any]) -> None:
            calls.note("log", metrics=data)

        def log_artifact(self, artifact_or_path: str, type: str | None = None) -> None:  # noqa: A002
            calls.note("log_artifact", path=artifact_or_path, type=type)

        def finish(self, exit_code: int | None = None) -> None:
            calls.note("finish", exit_code=exit_code)

    def init(
        project: str,
        name: str,
        config: dict[str, Any],
        reinit: str,
        save_code: bool,
        settings: dict[str, Any],
    ) -> Run:
        calls.note(
            "init",
            project=project,
            name=name,
            config=config,
            reinit=reinit,
            save_code=save_code,
            settings=settings,
        )
        return Run()

    return {"wandb": module("wandb", init=init, Settings=dict, Run=Run)}


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class Param(NamedTuple):
    key: str
    value: str


class RunTag(NamedTuple):
    key: str
    value: str


def mlflow(calls: Calls) -> dict[str, ModuleType]:
    class MlflowClient:
        def get_experiment_by_name(self, name: str) -> None:
            calls.note("get_experiment_by_name", name=name)

        def create_experiment(self, name: str) -> str:
            calls.note("create_experiment", name=name)
            return "7"

        def create_run(self, experiment_id: str, run_name: str | None = None) -> Any:
            calls.note("init", experiment=experiment_id, name=run_name)
            return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

        def log_batch(
            self,
            run_id: str,
            metrics: list[Metric] = [],  # noqa: B006
            params: list[Param] = [],  # noqa: B006
            tags: list[RunTag] = [],  # noqa: B006
        ) -> None:
            assert len(params) <= 100
            calls.note("log", metrics=metrics, params=params, tags=tags)

        def log_artifact(self, run_id: str, local_path: str) -> None:
            calls.note("log_artifact", path=local_path)

        def set_terminated(self, run_id: str, status: str | None = None) -> None:
            calls.note("finish", status=status)

    entities = module("mlflow.entities", Metric=Metric, Param=Param, RunTag=RunTag)
    return {
        "mlflow": module("mlflow", MlflowClient=MlflowClient, entities=entities),
        "mlflow.entities": entities,
    }


STAND_INS = {"trackio": trackio, "wandb": wandb, "mlflow": mlflow}


def install(name: str, patch: pytest.MonkeyPatch) -> Calls:
    """Put a stand-in where an import finds it."""
    calls = Calls()
    for module_name, made in STAND_INS[name](calls).items():
        patch.setitem(sys.modules, module_name, made)
    return calls
