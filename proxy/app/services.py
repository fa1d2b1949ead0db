"""The services of a running daemon, handed to one another: L1, wallet, operations, plugins, subscriptions.

They know each other only through the Protocols in their own files; this module is where the real ones meet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from middleware.chain import Chain, Link
from middleware.errors import RpcError
from middleware.idempotency import params_digest
from middleware.invocation import Invocation
from middleware.methods import MethodClass, MethodTable
from middleware.permission import UnknownSites
from middleware.waist import Answer, Context, Handler, Origin, Request, Result
from proxy.app.ground import Ground
from proxy.app.node_answers import NodeAnswers
from proxy.authority.origins import BadOrigin, parse_web_origin
from proxy.host.deposits import Deposits
from proxy.host.gateway_events import GatewayEvents
from proxy.host.gateways import Gateways
from proxy.host.guards import Guards
from proxy.host.operation_book import Book
from proxy.host.operations import Operations
from proxy.host.plugins import Plugins
from proxy.host.ports import Ports
from proxy.host.services.digests import warm_up
from proxy.host.services.typed_reading import TypedReading
from proxy.host.services.worker import Worker
from proxy.methods import (
    account_administration,
    accounts,
    discovery,
    filters,
    layer2,
    permissions,
    plugin_adding,
    plugin_administration,
    status,
    subscriptions,
)
from proxy.storage.counter import counters_folder
from proxy.storage.reserve import Reserve
from proxy.upstream.l1 import L1
from proxy.wallet import paths
from proxy.wallet.crypto import Crypto
from proxy.wallet.ledger import Ledger
from proxy.wallet.own_keys import OwnKeys
from proxy.wallet.transactions import Transactions


class Services:
    """Everything behind the doors."""

    def __init__(
        self,
        ground: Ground,
        l1: L1,
        gateways: Gateways,
        table: MethodTable,
        notice: Callable[[str], None],
        allow_unsandboxed: Collection[str] = (),
    ) -> None:
        chain = ground.directory.chain_database
        self.ground, self.l1, self.table = ground, l1, table
        self.authority, self.keyring = ground.authority, ground.keyring
        self._chain: Chain | None = None
        self.own_ports: frozenset[int] = frozenset()  # where the doors listen, once they are open
        self.transactions = Transactions(l1, self.keyring, Ledger(chain.space("transactions")))
        own, reserve = OwnKeys(self.keyring), Reserve(ground.directory.path / "reserve")
        self.operations = Operations(
            chain.space("operations"),
            self.transactions,
            l1,
            self.authority.approvals,
            self.keyring,
            gateways,
            ground.catalog.get,
            ground.config.l1.confirmations,
            own=own,
            own_transactions=Transactions(l1, own, Ledger(chain.space("own transactions"))),
            audit=self.authority.audit,
            give_room=reserve.give,
            book=Book(chain.space("operations book"), counters_folder()),
        )
        deposits = Deposits(GatewayEvents(l1, self._confirmations), self.operations.records_of)
        crypto = Crypto()
        ports = Ports(
            signer=self.keyring,
            crypto=crypto,
            paths=paths,
            approvals=self.authority.approvals,
            permissions=self.authority.permissions,
            audit=self.authority.audit,
            l1=l1,
            dispatch=self.dispatch,
            operations=self.operations,
            deposits=deposits,
            layer1_allowed=lambda method: table.classify(method) is MethodClass.PASS,
            check_gateway=gateways.check,
            notice=notice,
            limits=ground.config.limits,
            counters=counters_folder(),
            phrase_imported=lambda: self.keyring.keystore.phrase_imported,
            own_ports=lambda: self.own_ports,
        )
        self.plugins = Plugins(ground.catalog, ports, unsandboxed=allow_unsandboxed)
        self.plugins.on_late_answer(self._record_late)
        self.deposits = deposits
        self.guards = Guards(
            l1, self.operations, deposits, self.keyring, own, self.plugins.all, notice, keep_room=reserve.keep
        )
        self.subscriptions = subscriptions.Subscriptions(
            l1,
            self.authority.permissions,
            self.plugins,
            self.operations,
            limit=ground.config.limits.subscriptions,
            token_alive=self.authority.tokens.alive,
        )
        self.filters = filters.Filters(l1, limit=ground.config.limits.subscriptions)
        self.node_answers = NodeAnswers(l1, table, ground.config)
        self.keyring.on_lock(self.authority.locked)
        self._typed = TypedReading(crypto, Worker(warm_up, crypto))  # dapps wait behind no plugin

    def _confirmations(self) -> int:
        return 1 if self.l1.is_dev else self.ground.config.l1.confirmations

    def _record_late(self, origin: Origin, invocation: Invocation, answer: Result | RpcError) -> None:
        self.authority.invocations.finish(origin, invocation, params_digest(invocation), answer)

    def bind(self, chain: Chain) -> None:
        """Say which chain the plugins' own calls enter: the same as everybody's."""
        self._chain = chain

    async def dispatch(self, request: Request, context: Context) -> Answer:
        """Enter the chain as a plugin does."""
        if self._chain is None:
            raise RuntimeError("the chain is not built yet")
        return await self._chain(request, context)

    async def start(self) -> None:
        """Go on with what was under way when the last daemon ended, then host the plugins."""
        await self.operations.start(hold=True)
        await self.plugins.start()
        self.guards.start()

    async def close(self) -> None:
        """End everything, plugins first: they use all the rest."""
        await self.authority.close()
        await self.guards.close()
        await self.plugins.close()
        await self.operations.close()
        await self.subscriptions.close()
        self._typed.close()

    def links(self, unknown_sites: UnknownSites) -> list[Link]:
        """Return the links between a door and the terminal: the authority's first, those that spare the node last."""
        authority = self.authority.links(self.table, self.plugins, lambda: self.keyring.locked, unknown_sites)
        return [*authority, *self.node_answers.links()]

    def may_ask(self, page: str) -> bool:
        """Tell whether a page may raise a question: it is connected, or can be."""
        try:
            origin: Origin = parse_web_origin(page)
        except BadOrigin:
            return False
        return self.authority.permissions.connectable(origin)

    def dapp_handlers(self) -> dict[str, Handler]:
        """Return every method of a dapp that the proxy answers itself."""
        authority = self.authority
        return {
            **accounts.handlers(
                self.keyring, self.transactions, self.l1, authority.permissions, authority.approvals, self._typed.read
            ),
            **permissions.handlers(
                authority.permissions, authority.approvals, self.ground.actions, self.keyring.addresses
            ),
            **layer2.handlers(self.plugins, authority.permissions, self.operations, self.deposits),
            **discovery.handlers(self.plugins.all, authority.permissions, self.table),
            **plugin_adding.handlers(self.plugins, authority.approvals),
            **subscriptions.handlers(self.subscriptions),
            **filters.handlers(self.filters),
        }

    def read_already(self) -> dict[str, Callable[[Request, Context], Awaitable[Result]]]:
        """Return those of the dapp's methods that take their request as a link has read it."""
        return layer2.read_already(self.plugins)

    def admin_handlers(
        self, doors: Callable[[], dict[str, Any]], standing: Callable[[], Awaitable[dict[str, Any]]] | None = None
    ) -> dict[str, Handler]:
        """Return every method of the owner; `doors` returns the ready line, `standing` what status shows beside it."""
        return {
            **self.ground.authority_handlers(lambda: str(doors()["dapp"])),
            **status.admin_handlers(
                self.l1, self.keyring, self.authority, self.plugins, doors, standing or status.nothing_more
            ),
            **account_administration.admin_handlers(self.keyring, self.l1),
            **plugin_administration.admin_handlers(self.ground.catalog, self.plugins),
        }
