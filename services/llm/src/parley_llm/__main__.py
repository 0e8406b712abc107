"""The command `parley-llm`: reads the settings and runs the service."""

import argparse
import os
from importlib.metadata import version

from parley_common.boot import Runtime, add_settings_arguments, answer_questions, load_or_exit, run
from parley_common.reload import Reloading
from parley_common.settings import Loaded

from parley_llm.config import LLMSettings
from parley_llm.env import load_settings
from parley_llm.rpc.servicer import SERVICE
from parley_llm.server import APPLIES, LLMService


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    installed = version("parley-llm")
    parser = argparse.ArgumentParser(prog="parley-llm", description="One door to every OpenAI-compatible model.")
    add_settings_arguments(parser, installed)
    parsed = parser.parse_args(arguments)

    def load() -> Loaded[LLMSettings]:
        return load_settings(os.environ, parsed.config)

    if answer_questions(parsed, LLMSettings, load):
        return 0
    loaded: Loaded[LLMSettings] = load_or_exit(load)
    settings = loaded.settings

    def build(runtime: Runtime) -> LLMService:
        return LLMService(settings, runtime)

    return run(
        "llm",
        installed,
        settings,
        settings.ops_port,
        build,
        grpc_services=(SERVICE,),
        reloading=Reloading(loaded, load, APPLIES),
    )


if __name__ == "__main__":
    raise SystemExit(main())
