"""A model in MLflow's registry: one version of the same files and question, however often they are told; the alias
`champion`.

Each step looks first whether an earlier try has done it, so that a delivery may break off anywhere:

    logged model (found by its digest) → its files → version (found so too) → tags → alias → the last tag

The version's tag `champion.rule` is written last and says what became of the alias. Where it is there, for the
same score, the alias is left as it is: somebody may have moved it by hand since.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from minivlm.files import sha256_tree
from minivlm.tracking import pyfunc
from minivlm.tracking.champion import ALIAS, FIGURES, Score, judge, score_of
from minivlm.tracking.journal import JOURNAL_TAG, LostFileError, Operation
from minivlm.tracking.lineage import NOTE_TAG

MODEL_TAG = "minivlm.model"  # the digest of files, question and length, on a logged model and on a version
RULE_TAG = "champion.rule"
_VERSIONS_TAG = "mlflow.modelVersions"  # what the page of a logged model lists
_PARENT_TAG = "mlflow.parentRunId"
# Tags of the run that a version takes over, and those that a logged model does.
_OF_VERSION = ("reproduction", "git.commit", "git.dirty")
_OF_MODEL = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit")
_ABOUT = """\
A vision-language model trained by minivlm: a picture and a question in Chinese → a caption. Each version is the
second stage's model of one reproduction, with its scores, its run and the commit that made it.

**The alias `champion`** moves to a new version when its `attribute_recall` on the held-out pictures is higher than
the present champion's (`cider` where rows have no scenes), over the same pictures. The tag `champion.rule` of each
version says what was decided. Ties, other figures and other pictures move nothing.

```python
import mlflow
model = mlflow.pyfunc.load_model("models:/{name}@champion")
model.predict([{{"image": open("photo.jpg", "rb").read()}}])
```
"""


class Registry:
    """Registers models for a journal written since `created` (seconds since 1970)."""

    def __init__(self, client: Any, experiment_id: str, created: float) -> None:
        self._client, self._experiment_id, self._created = client, experiment_id, created

    def register(self, operation: Operation, run_id: str) -> None:
        """Make the version that an operation `model` of the run tells of, or find it, and judge it.

        LostFileError when the files beside the journal are gone or others; else whatever the client raises.
        """
        version = self._version(operation) or self._make_version(operation, run_id)
        score = _score(operation)
        if float(version.tags.get(JOURNAL_TAG, 0)) > self._created:
            return  # a newer one has told of it already
        self._describe(version, operation)
        if RULE_TAG not in version.tags or score_of(version.tags) != score:
            self._judge(version, score)

    def _version(self, operation: Operation) -> Any:
        """The first version of the same digest; None when there is none."""
        same = f"name = '{operation['name']}' and tags.`{MODEL_TAG}` = '{operation['digest']}'"
        return min(self._client.search_model_versions(same), key=lambda v: int(v.version), default=None)

    def _make_version(self, operation: Operation, run_id: str) -> Any:
        logged, name = self._logged_model(operation, run_id), operation["name"]
        tags, score = self._client.get_run(run_id).data.tags, _score(operation)
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._create_registered_model(name)
        return self._client.create_model_version(
            name,
            # Not models:/<id>, which a store on this machine would look up where MLFLOW_TRACKING_URI says.
            source=logged.artifact_location,
            run_id=run_id,
            model_id=logged.model_id,
            tags=(score.tags() if score else {}) | _taken(tags, _OF_VERSION) | {MODEL_TAG: operation["digest"]},
            description=operation["description"],
            await_creation_for=0,
        )

    def _create_registered_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, description=_ABOUT.format(name=name))
        except MlflowException as error:  # someone on another machine was quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _logged_model(self, operation: Operation, run_id: str) -> Any:
        """MLflow's model with all its files, of this try or of an earlier one."""
        run = self._client.get_run(run_id)
        parent_id = run.data.tags.get(_PARENT_TAG)
        model = self._find_logged_model(operation["digest"])
        if model is None:
            tags = _taken(run.data.tags, _OF_MODEL) | {NOTE_TAG: operation["description"]}
            model = self._client.create_logged_model(
                self._experiment_id,
                operation["stage"],
                run_id,
                tags | {MODEL_TAG: operation["digest"]},
                self._client.get_run(parent_id).data.params if parent_id else {},
            )
        if model.status != "READY":
            self._upload(operation, run_id, model.model_id)
            self._tell_figures(operation, run_id, model.model_id)
            model = self._client.finalize_logged_model(model.model_id, "READY")
        for each in filter(None, (run_id, parent_id)):
            self._link(each, model.model_id)
        return model

    def _find_logged_model(self, digest: str) -> Any:
        """The model of this digest, with all its files if there is one; None when there is none."""
        same = f"tags.`{MODEL_TAG}` = '{digest}'"
        found = self._client.search_logged_models([self._experiment_id], filter_string=same)
        return min(found, key=lambda model: model.status != "READY", default=None)

    def _upload(self, operation: Operation, run_id: str, model_id: str) -> None:
        source = Path(operation["model"])
        if not source.is_dir() or sha256_tree(source) != operation["files"]:
            raise LostFileError(f"{source}: gone, or not the files of the model any more")
        folder = source.parent / "mlflow" / "model"  # beside the journal: the same disk, and removed with it
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.parent.mkdir()
        pyfunc.write(folder, operation, run_id, model_id)
        self._client.log_model_artifacts(model_id, str(folder))
        shutil.rmtree(folder.parent)

    def _tell_figures(self, operation: Operation, run_id: str, model_id: str) -> None:
        """Say of the run's figures that they are this model's: the same points, which the run has once."""
        from mlflow.entities import Metric

        run, points = self._client.get_run(run_id), []
        used = [each.dataset for each in run.inputs.dataset_inputs] if run.inputs else []
        datasets = {Path(dataset.name).stem: (dataset.name, dataset.digest) for dataset in used}
        for key in run.data.metrics:
            stage, _, name = key.partition(".")
            if stage == operation["stage"] and "shuffled" not in key and "by_attribute" not in key:
                last = self._client.get_metric_history(run_id, key)[-1]
                rows = datasets.get(name.partition(".")[0], ())
                points.append(Metric(key, last.value, last.timestamp, last.step, model_id, *rows))
        if points:
            self._client.log_batch(run_id, metrics=points)

    def _link(self, run_id: str, model_id: str) -> None:
        """Show the model on the run, once: MLflow would add it each time."""
        from mlflow.entities import LoggedModelOutput

        outputs = self._client.get_run(run_id).outputs
        if not outputs or model_id not in [output.model_id for output in outputs.model_outputs]:
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])

    def _describe(self, version: Any, operation: Operation) -> None:
        """Say on the version and on its logged model what the newest evaluation says of them.

        The logged model's page says that it is not registered, unless it names the version.
        """
        said = operation["description"]
        self._client.set_model_version_tag(version.name, version.version, JOURNAL_TAG, repr(self._created))
        if version.description != said:
            self._client.update_model_version(version.name, version.version, said)
        model = self._find_logged_model(operation["digest"])
        if model is not None:  # it may be another experiment's
            listed = json.dumps([{"name": version.name, "version": str(version.version)}])
            self._client.set_logged_model_tags(model.model_id, {_VERSIONS_TAG: listed, NOTE_TAG: said})

    def _judge(self, version: Any, score: Score | None) -> None:
        """Write the score on the version, move the alias if the rule says so, and write down what it said."""
        name, number = version.name, version.version
        if RULE_TAG in version.tags:  # of another score
            self._client.delete_model_version_tag(name, number, RULE_TAG)
        tags = score.tags() if score else {}
        for key in set(FIGURES) & version.tags.keys() - tags.keys():
            self._client.delete_model_version_tag(name, number, key)
        for key, value in tags.items():
            self._client.set_model_version_tag(name, number, key, value)
        holder = self._client.get_registered_model(name).aliases.get(ALIAS)
        if holder is not None and int(holder) == int(number):
            why = "is champion already"  # judged anew, or by an earlier try that got so far
        else:
            its_tags = {} if holder is None else self._client.get_model_version(name, holder).tags
            moves, why = judge(score, holder, score_of(its_tags))
            if moves:
                self._client.set_registered_model_alias(name, ALIAS, number)
        self._client.set_model_version_tag(name, number, RULE_TAG, why)


def _score(operation: Operation) -> Score | None:
    return Score(*operation["score"]) if operation["score"] else None


def _taken(tags: dict[str, str], keys: tuple[str, ...]) -> dict[str, str]:
    return {key: tags[key] for key in keys if key in tags}
