"""The one place that knows LevelDB."""

from proxy.storage.leveldb import Batch, Database, Space, StorageError

__all__ = ["Batch", "Database", "Space", "StorageError"]
