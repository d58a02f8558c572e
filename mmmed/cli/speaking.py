"""How the command line speaks: text for people, JSON for programs, and errors as one sentence."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

console = Console()


def _note(message: Warning | str, *_: Any, **__: Any) -> None:
    Console(stderr=True).print(
        f"note: {message}", style="yellow", markup=False, highlight=False, soft_wrap=True
    )


def speaks_plainly(command: Callable) -> Callable:
    """Wrong input ends in one sentence and exit code 2; warnings are shown without the line of code they came
    from."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        warnings.showwarning = _note
        try:
            return command(*arguments, **options)
        except (ValueError, ImportError, OSError) as error:
            Console(stderr=True).print(
                f"mmmed: {error}", style="red", markup=False, highlight=False, soft_wrap=True
            )
            raise typer.Exit(2) from error

    return run


def say(content: Any, as_json: bool) -> None:
    """Text for people, or one JSON document on standard output for programs."""
    if as_json:
        typer.echo(json.dumps(content, indent=1, default=_plain, allow_nan=True))
    else:
        console.print(content, markup=False, highlight=False, soft_wrap=True)


def _plain(value: Any) -> Any:
    """Numbers of numpy as numbers of Python; anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)
