"""What stands between permission and the L1 node: the cache, in-flight sharing and the splitting of log ranges, made and joined.

Here the block tracker's news become the epoch that the links of `middleware/` ask, and the nodes' own words decide whether
anything may be remembered at all ([cache] enabled = "auto").
"""

from __future__ import annotations

import tempfile
from typing import BinaryIO

from middleware.cache import Cache
from middleware.cache_switch import CacheSwitch, Standing, is_throwaway
from middleware.chain import Link
from middleware.epoch import Epoch
from middleware.in_flight import InFlight
from middleware.log_ranges import LogRanges
from middleware.methods import MethodTable
from proxy.config import Config
from proxy.upstream.block_tracker import Reorg
from proxy.upstream.envelope import travels_alone
from proxy.upstream.l1 import L1


class NodeAnswers:
    """The links in the order a passed call takes them; their figures are read by the metrics."""

    def __init__(self, l1: L1, table: MethodTable, config: Config) -> None:
        settings = config.cache
        self._l1 = l1
        self._enabled = settings.enabled
        self.epoch = Epoch(l1.blocks)
        l1.blocks.on_change(lambda event: self.epoch.moved(back=isinstance(event, Reorg)))
        switch = CacheSwitch(settings.enabled, self._standing)
        self.cache = Cache(self.epoch, switch, table, travels_alone, settings.bytes)
        self.in_flight = InFlight(self.epoch, switch, travels_alone)
        self.log_ranges = LogRanges(l1.call, self._file, config.limits.response)

    def links(self) -> list[Link]:
        """Return the links; where nothing may be remembered, the cache is not in anybody's way."""
        sparing: list[Link] = [self.cache, self.in_flight] if self._enabled else []
        return [*sparing, self.log_ranges]

    def _file(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self._l1.keeping.folder, prefix="answer-")

    def _standing(self) -> Standing:
        l1 = self._l1
        versions = [node.identity.client_version for node in l1.nodes if node.identity is not None]
        reachable = bool(versions) and l1.trouble is None
        return Standing(reachable, throwaway=not versions or is_throwaway(versions, l1.chain_id))
