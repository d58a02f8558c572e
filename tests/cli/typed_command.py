"""The command as it is typed: what it says, and the one sentence that a wrong call ends in."""

from typer.testing import CliRunner

from mmmed.cli.app import app

runner = CliRunner()


def run(*words: object, code: int = 0) -> str:
    """The output of a command that ends with this code."""
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def refused(*words: object) -> str:
    """What is said where nothing can be done: one sentence, no traceback."""
    said = " ".join(run(*words, code=2).split())
    assert said.startswith("mmmed: ")
    assert "Traceback" not in said
    return said
