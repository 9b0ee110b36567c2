"""The configuration: `load` reads the file and nothing else, `check_files` looks at what it names."""

from sidecar.config.file import load
from sidecar.config.file_checks import FileReport
from sidecar.config.named_files import check_files, inspect_files

__all__ = ["FileReport", "check_files", "inspect_files", "load"]
