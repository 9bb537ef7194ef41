"""The part `explain` of policy.yaml: columns of the event that explanations may try other values of."""

from __future__ import annotations

from tidegate.kernel.features import Features
from tidegate.kernel.language.bind import near
from tidegate.kernel.language.expressions import columns_of
from tidegate.kernel.language.yamltext import Yaml

#: Kinds of fields that have other values to try.
_KINDS = ("long", "boolean", "enum", "string")


def check_explained(root: Yaml, features: Features) -> None:
    """
    Raises:
        DetectorError: a column is none of the stream's, personal, of no kind to try other values of, or one that
            windows or joins look up rows by: what they would have found can't be told.
    """
    named = root.items().get("explain")
    fields = {field.name: field for field in features.stream.fields}
    looked_up = {column for entity in features.plan.entities for column in entity.columns}
    for name in looked_up & features.derived.keys():
        looked_up |= columns_of(features.derived[name])
    looked_up |= {column for join in features.joins.joins for column in join.keys}
    for node in named.list() if named else []:
        name = node.words()
        if name not in fields:
            node.fail(f"the column {name!r}", near(name, fields))
        if fields[name].personal or fields[name].kind not in _KINDS or name == "event_id":
            node.fail(f"the column {name!r}", "a number, boolean or text of the event that is nobody's secret")
        if name in looked_up:
            node.fail(f"the column {name!r}, which windows or joins look rows up by", "one that they do not")
