"""The one place that knows LevelDB."""

from proxy.storage.leveldb import Batch, Damaged, Database, Space, StorageError

__all__ = ["Batch", "Damaged", "Database", "Space", "StorageError"]
