"""The verbs of mmmed as a command: `mmmed quickstart`, `mmmed audit`, `mmmed finetune`, ..."""


def main() -> None:
    """Entry point of the command `mmmed`."""
    from mmmed.cli.app import app

    app()


__all__ = ["main"]
