"""What stands without an L1 node: the data directory's databases, the authority over them, the keys, what is installed.

A daemon builds its services on it; a command without a daemon works on it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from middleware.methods import MethodClass, MethodTable
from middleware.waist import Handler
from proxy.authority.assembly import Authority, open_authority
from proxy.config import Config
from proxy.host.catalog import Catalog
from proxy.host.deposits import locked_by_operations
from proxy.host.indexes import Indexes
from proxy.host.installer import Installer
from proxy.host.operation_records import OperationRecords
from proxy.host.ports import CheckGateway
from proxy.host.registry import Registry
from proxy.host.state import States
from proxy.methods import account_administration, administration, plugin_administration
from proxy.storage.directory import DataDirectory
from proxy.upstream.identity import read_pin
from proxy.wallet import paths
from proxy.wallet.keyring import Keyring
from proxy.wallet.keystore import Keystore


@dataclass(frozen=True)
class Ground:
    """The parts that need no chain."""

    directory: DataDirectory
    config: Config
    authority: Authority
    keyring: Keyring
    catalog: Catalog

    def actions(self, plugin_id: str) -> Sequence[str] | None:
        """Return the names of an installed plugin's actions; None when it is not installed."""
        plugin = self.catalog.get(plugin_id)
        return None if plugin is None else [action.name for action in plugin.manifest.action]

    def authority_handlers(self, dapp_url: Callable[[], str]) -> dict[str, Handler]:
        """Return the owner's methods on permissions, tokens, rules, questions and the audit log."""
        return administration.admin_handlers(self.authority, self.actions, self.keyring.addresses, dapp_url)


def open_ground(
    directory: DataDirectory,
    config: Config,
    notice: Callable[[str], None],
    check_gateway: CheckGateway | None = None,
) -> Ground:
    """Open everything of a locked data directory; `check_gateway` looks at a contract on L1 before it is approved."""
    owner, chain = directory.owner_database, directory.chain_database
    authority = open_authority(owner, chain, directory.path, notice, config.limits)
    keyring = Keyring(Keystore(directory.keystore))
    registry = Registry(owner.space("plugins"), directory.plugins)

    def chain_id() -> int | None:
        pinned = read_pin(directory.pin)
        return None if pinned is None else pinned.chain_id

    installer = Installer(
        registry,
        paths,
        authority.audit,
        accounts=keyring.addresses,
        chain_id=chain_id,
        layer1_allowed=lambda method: MethodTable().classify(method) is MethodClass.PASS,
        check_gateway=check_gateway,
        indexes=Indexes(config.plugins.pypi, config.plugins.npm, directory.path / "cache"),
    )
    catalog = Catalog(
        registry,
        installer,
        States(chain.space("state")),
        authority.permissions,
        authority.audit,
        directory.logs,
        chain_id,
        lambda plugin_id: locked_by_operations(OperationRecords(chain.space("operations")).of(plugin_id)),
        rules=(authority.rules,),
    )
    return Ground(directory, config, authority, keyring, catalog)


def offline_handlers(ground: Ground) -> dict[str, Handler]:
    """Return the admin methods that work without a daemon."""
    port = ground.config.listen.port
    return {
        **ground.authority_handlers(lambda: f"http://127.0.0.1:{port}"),
        **account_administration.admin_handlers(ground.keyring, None),
        **plugin_administration.admin_handlers(ground.catalog, None),
    }
