"""`admin_*` methods of the authority: approvals, sites, permissions, tokens, rules, the audit log.

Answered on the admin socket and, without a daemon, in the command's own process under the data directory's lock. Whatever
the owner decides here stands in the audit log before it takes effect (security.md 14). The dapp doors have none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from middleware.waist import Handler
from proxy.authority.assembly import Authority
from proxy.methods.administration_approvals import approval_handlers
from proxy.methods.administration_grants import grant_handlers
from proxy.methods.administration_records import record_handlers


def admin_handlers(
    authority: Authority,
    actions: Callable[[str], Sequence[str] | None],
    addresses: Callable[[], Sequence[str]],
    dapp_url: Callable[[], str],
) -> dict[str, Handler]:
    """Return every method. `actions`: names of an installed plugin's actions (None: not installed); `addresses`: the main
    accounts; `dapp_url`: where the dapp door answers, such as http://127.0.0.1:8645.
    """
    return {
        **approval_handlers(authority),
        **grant_handlers(authority, actions, addresses, dapp_url),
        **record_handlers(authority),
    }
