"""The command that runs a Java program from its source, and whether this machine can."""

import shutil
from pathlib import Path

import pytest

needs_jdk = pytest.mark.skipif(
    shutil.which("javac") is None, reason="needs a JDK, version 11 or newer (Debian: default-jdk-headless)"
)


def java_command(program: Path, *arguments: str) -> list[str]:
    """Return the command; sources are UTF-8, which older versions take from the locale instead."""
    return ["java", "-Dfile.encoding=UTF-8", "-XX:TieredStopAtLevel=1", str(program), *arguments]
