"""Files and folders that are either complete or not there: the only room that renames, flushes, locks and names them."""

from Agg2ExpLib.storage.files import new_file, write_file, write_table
from Agg2ExpLib.storage.folders import (
    Kind,
    clear_folder,
    discard_folder,
    open_folder,
    partial_folder,
    replace_folder,
    write_folder,
)
from Agg2ExpLib.storage.locks import FolderLock
from Agg2ExpLib.storage.names import file_key, path_within, region_names, safe_file_name

__all__ = [
    "FolderLock",
    "Kind",
    "clear_folder",
    "discard_folder",
    "file_key",
    "new_file",
    "open_folder",
    "partial_folder",
    "path_within",
    "region_names",
    "replace_folder",
    "safe_file_name",
    "write_file",
    "write_folder",
    "write_table",
]
