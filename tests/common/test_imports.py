"""What importing the shared package costs a service."""

import subprocess
import sys

import pytest

_IMPORT_ALL = """
import importlib, pkgutil, sys
import parley_common
for module in pkgutil.walk_packages(parley_common.__path__, "parley_common."):
    importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""


@pytest.fixture(scope="module")
def imported() -> set[str]:
    done = subprocess.run([sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "library", ["fastapi", "openai", "httpx", "httpx2", "redis", "jinja2", "lark_oapi", "wechatpy"]
)
def test_libraries_of_single_services_stay_out(imported: set[str], library: str) -> None:
    assert library not in imported


@pytest.mark.parametrize("package", ["parley", "parley_gateway", "parley_llm", "parley_formatter"])
def test_the_shared_package_knows_no_service(imported: set[str], package: str) -> None:
    assert package not in imported


def test_everything_was_imported(imported: set[str]) -> None:
    assert {"parley_common.boot", "parley_common.grpc_server", "parley_common.settings"} <= imported
