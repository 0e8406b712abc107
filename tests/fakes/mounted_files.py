"""A directory of files that changes as a mounted Secret or ConfigMap does in Kubernetes.

The files are links through `..data`, itself a link to a directory with the current version. An update makes a new
directory and renames a new link over `..data`: all files change at once, no file is ever written to (Kubernetes,
`pkg/volume/util/atomic_writer.go`).
"""

import shutil
from pathlib import Path


class MountedFiles:
    """The mounted directory. All versions have the same file names."""

    def __init__(self, directory: Path, **files: str) -> None:
        """Mount the first version; names are file names, `.` written as `__`."""
        self._directory = directory
        self._version = 0
        directory.mkdir(parents=True)
        self.update(**files)
        for name in files:
            self.path(name).symlink_to(Path("..data") / self.path(name).name)

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self._directory / name.replace("__", ".")

    def update(self, **files: str) -> None:
        """Put new contents in the place of all files."""
        before = self._directory / f"..version-{self._version}"
        self._version += 1
        version = self._directory / f"..version-{self._version}"
        version.mkdir()
        for name, content in files.items():
            (version / self.path(name).name).write_text(content, encoding="utf-8")
        link = self._directory / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self._directory / "..data")
        if before.exists():
            shutil.rmtree(before)
