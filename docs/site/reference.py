"""Directives that write the reference of the command line and of the configuration from the code."""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class Commands(SphinxDirective):
    """All commands of `rooms` with their arguments and options, as `--help` has them."""

    def run(self) -> list[nodes.Node]:
        """Return a section for every command."""
        import typer

        from engine.cli import app

        group: Any = typer.main.get_command(app)
        sections: list[nodes.Node] = []
        for name in group.list_commands(None):
            command = group.commands[name]
            section = nodes.section(ids=[f"rooms-{name}"], names=[f"rooms {name}"])
            section += nodes.title("", f"rooms {name}")
            section += nodes.paragraph("", inspect.cleandoc(command.help or ""))
            rows = [
                (_flags(parameter), _description(parameter))
                for parameter in command.params
                if not getattr(parameter, "hidden", False)
            ]
            section += _table(self, ("option", "what it does"), rows)
            sections.append(section)
        return sections


class Configuration(SphinxDirective):
    """All keys of a configuration file, with their type and default."""

    def run(self) -> list[nodes.Node]:
        """Return a section for every part of the configuration."""
        from pydantic import BaseModel

        from engine.config import FitConfig

        sections: list[nodes.Node] = []
        plain = []
        for name, field in FitConfig.model_fields.items():
            part = field.annotation
            if inspect.isclass(part) and issubclass(part, BaseModel):
                section = nodes.section(ids=[f"config-{name}"], names=[f"config {name}"])
                section += nodes.title("", name)
                self.state.nested_parse(StringList(inspect.cleandoc(part.__doc__ or "").splitlines()), 0, section)
                rows = [(key, _default(value), _type(value)) for key, value in part.model_fields.items()]
                section += _table(self, ("key", "default", "type"), rows)
                sections.append(section)
            else:
                plain.append((name, _default(field), _type(field)))
        top = nodes.section(ids=["config-top"], names=["config top"])
        top += nodes.title("", "At the top")
        top += _table(self, ("key", "default", "type"), plain)
        return [top, *sections]


def _flags(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(names) if parameter.param_type_name == "option" else str(parameter.name).upper()


def _description(parameter: Any) -> str:
    return str(getattr(parameter, "help", None) or "")


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    return "" if value is None else str(value)


def _type(field: Any) -> str:
    limits = [str(limit) for limit in field.metadata if type(limit).__module__.startswith("annotated_types")]
    return ", ".join([_type_words(field.annotation), *limits])


def _type_words(annotation: Any) -> str:
    """Return a type in words: the values of a Literal, the types of a union, the class of anything else."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_words(arguments[0])
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(_type_words(part) for part in arguments if part is not NoneType)
    if origin is not None:
        return f"{origin.__name__} of " + ": ".join(_type_words(part) for part in arguments if part is not Ellipsis)
    return str(getattr(annotation, "__name__", annotation))


def _table(directive: SphinxDirective, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> nodes.Node:
    table, group = nodes.table(), nodes.tgroup(cols=len(head))
    table += group
    for _ in head:
        group += nodes.colspec(colwidth=100 // len(head))
    header, body = nodes.thead(), nodes.tbody()
    group += [header, body]
    for part, lines in ((header, [head]), (body, rows)):
        for line in lines:
            row = nodes.row()
            for column, text in enumerate(line):
                is_code = part is body and column == 0
                content = nodes.literal("", text) if is_code else nodes.Text(text)
                row += nodes.entry("", nodes.paragraph("", "", content))
            part += row
    return table


def setup(app: Any) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("rooms-commands", Commands)
    app.add_directive("rooms-configuration", Configuration)
    return {"parallel_read_safe": True}
