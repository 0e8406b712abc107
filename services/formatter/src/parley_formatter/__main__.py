"""Entry point of `parley-formatter`: settings, then the service until a signal."""

from __future__ import annotations

import argparse
import os
import sys

from parley_common.boot import add_settings_arguments, answer_questions, load_or_exit, run
from parley_common.reload import Reloading
from parley_common.settings import Loaded

from parley_formatter import __version__
from parley_formatter.config import FormatterSettings, load_settings


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="parley-formatter", description="Builds prompts and formats answers.")
    add_settings_arguments(parser, __version__)
    arguments = parser.parse_args(argv)

    def load() -> Loaded[FormatterSettings]:
        return load_settings(os.environ, arguments.config)

    if answer_questions(arguments, FormatterSettings, load):
        return 0
    loaded: Loaded[FormatterSettings] = load_or_exit(load)
    settings = loaded.settings
    # The server is imported only to be run: checks and schemas need none of it.
    from parley_formatter.prompts.library import prompt_files
    from parley_formatter.server import APPLIES, SERVICE, FormatterService

    return run(
        "formatter",
        __version__,
        settings,
        settings.ops_port,
        lambda runtime: FormatterService(settings, runtime),
        grpc_services=(SERVICE,),
        reloading=Reloading(loaded, load, APPLIES, also=lambda settings: prompt_files(settings.prompts_dir)),
    )


if __name__ == "__main__":
    sys.exit(main())
