"""The keystore: one file with the phrase and imported keys sealed under a password, and the public addresses in clear.

At rest only; the unlocked keys live in `keyring`. Every write builds the whole file, opens what it built, and then
replaces the old one atomically (security.md 16, 23). Addresses can be read while locked; opening checks that they are the
addresses of the sealed keys. It must never log or raise anything secret.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.storage.files import write_atomic
from proxy.wallet.addresses import address_of
from proxy.wallet.derivation import Node, main_parent
from proxy.wallet.phrases import check_phrase, seed
from proxy.wallet.sealing import DEFAULT_N, Derivation, SealError, seal, unseal

FORMAT = "l2proxy keystore"
VERSION = 1
PHRASE = "phrase"


class KeystoreError(Exception):
    """The keystore cannot be used; one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """One main account. `index`: i of m/44'/60'/0'/0/i, None for an imported key."""

    address: str
    index: int | None

    @property
    def name(self) -> str:
        """The name its key is sealed under (the phrase's for derived ones)."""
        return PHRASE if self.index is not None else f"imported/{self.address}"

    def to_json(self) -> dict[str, Any]:
        """Return the stored, public form."""
        return {"address": self.address, "index": self.index}


@dataclass(frozen=True, slots=True)
class Secrets:
    """What an opened keystore holds: the root of the phrase's tree and imported private keys by address."""

    master: Node = field(repr=False)
    imported: dict[str, bytes] = field(repr=False)
    accounts: tuple[Account, ...]


class Keystore:
    """The keystore file at `path`. `scrypt_n` is for new files (None: the contract's); existing ones say their own."""

    def __init__(self, path: Path, scrypt_n: int | None = None) -> None:
        self.path = path
        self._scrypt_n = DEFAULT_N if scrypt_n is None else scrypt_n
        self._accounts: tuple[Account, ...] | None = None

    @property
    def exists(self) -> bool:
        """Tell whether there is a keystore file."""
        return self.path.exists()

    def accounts(self) -> tuple[Account, ...]:
        """Return the main accounts, readable while locked; empty when there is no keystore."""
        if self._accounts is None:
            if not self.exists:
                return ()
            self._accounts = _accounts(self._read())
        return self._accounts

    @property
    def phrase_imported(self) -> bool:
        """Tell whether the owner brought the phrase along: its keys may have been used elsewhere (hardening.md 24)."""
        return self.exists and self._read().get("imported") is True

    def create(self, phrase: str, password: str, *, imported: bool = False) -> Account:
        """Seal `phrase` into a new file and return main account 0. Raise `KeystoreError` if a keystore exists already.

        `imported`: the phrase was not made just now. Raise `PhraseError` when the phrase is no BIP-39 phrase. Takes about a second.
        """
        if self.exists:
            raise KeystoreError(f"there is a keystore at {self.path} already; it is left as it is")
        if not password:
            raise KeystoreError("the password is empty")
        phrase = check_phrase(phrase)
        account = Account(address_of(main_parent(Node.master(seed(phrase))).child(0).private_key), 0)
        derivation = Derivation.fresh(self._scrypt_n)
        key = derivation.key(password)
        sealed = {PHRASE: seal(key, PHRASE, phrase.encode("utf-8"))}
        self._write(derivation, key, sealed, (account,), imported=imported)
        return account

    def open(self, password: str) -> Secrets:
        """Return the secrets. Raise `WrongPassword`, or `KeystoreError` for a damaged file. Takes about a second."""
        return self._open(password)[0]

    def add_derived(self, password: str) -> Account:
        """Add the main account with the next index and return it."""
        secrets, document, key = self._open(password)
        index = 1 + max((account.index for account in secrets.accounts if account.index is not None), default=-1)
        account = Account(address_of(main_parent(secrets.master).child(index).private_key), index)
        self._refuse_known(account.address)
        self._rewrite(document, key, dict(document["sealed"]), (*secrets.accounts, account))
        return account

    def add_imported(self, password: str, private_key: bytes) -> Account:
        """Seal an imported private key and return its account. Raise `KeystoreError` when the account is there already."""
        secrets, document, key = self._open(password)
        account = Account(address_of(private_key), None)
        self._refuse_known(account.address)
        sealed = {**document["sealed"], account.name: seal(key, account.name, private_key)}
        self._rewrite(document, key, sealed, (*secrets.accounts, account))
        return account

    def private_key(self, password: str, address: str) -> bytes:
        """Return the private key of a main account, for export. Raise `KeystoreError` for an unknown address."""
        secrets = self.open(password)
        for account in secrets.accounts:
            if account.address == address:
                if account.index is None:
                    return secrets.imported[address]
                return main_parent(secrets.master).child(account.index).private_key
        raise KeystoreError(f"{address} is no account of this keystore; `l2proxy account list` shows them")

    def _open(self, password: str) -> tuple[Secrets, dict[str, Any], bytes]:
        if not self.exists:
            raise KeystoreError(f"there is no keystore at {self.path}; `l2proxy init` makes one")
        document = self._read()
        try:
            key = Derivation.from_json(document["kdf"]).key(password)
            return self._unseal(document, key), document, key
        except SealError as error:
            if type(error) is SealError:
                raise KeystoreError(f"the keystore {self.path} cannot be used: {error}") from error
            raise

    def _unseal(self, document: dict[str, Any], key: bytes) -> Secrets:
        accounts = _accounts(document)
        master = Node.master(seed(unseal(key, PHRASE, document["sealed"].get(PHRASE)).decode("utf-8")))
        parent = main_parent(master)
        imported: dict[str, bytes] = {}
        for account in accounts:
            if account.index is None:
                imported[account.address] = unseal(key, account.name, document["sealed"].get(account.name))
                private_key = imported[account.address]
            else:
                private_key = parent.child(account.index).private_key
            if address_of(private_key) != account.address:
                raise SealError(f"{account.address} is not the address of its key")
        return Secrets(master, imported, accounts)

    def _refuse_known(self, address: str) -> None:
        if any(account.address == address for account in self.accounts()):
            raise KeystoreError(f"{address} is an account of this keystore already")

    def _rewrite(
        self, document: dict[str, Any], key: bytes, sealed: dict[str, Any], accounts: tuple[Account, ...]
    ) -> None:
        imported = document.get("imported") is True
        self._write(Derivation.from_json(document["kdf"]), key, sealed, accounts, imported=imported)

    def _write(
        self,
        derivation: Derivation,
        key: bytes,
        sealed: dict[str, Any],
        accounts: tuple[Account, ...],
        *,
        imported: bool,
    ) -> None:
        document = {
            "format": FORMAT,
            "version": VERSION,
            "accounts": [account.to_json() for account in accounts],
            "kdf": derivation.to_json(),
            "sealed": sealed,
        }
        if imported:
            document["imported"] = True
        data = json.dumps(document, indent=1).encode() + b"\n"
        self._unseal(self._parse(data), key)  # what cannot be opened again never replaces what can
        write_atomic(self.path, data)
        self._accounts = accounts

    def _read(self) -> dict[str, Any]:
        try:
            return self._parse(self.path.read_bytes())
        except OSError as error:
            raise KeystoreError(f"the keystore {self.path} cannot be read: {error.strerror}") from error

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise KeystoreError(f"{self.path} is not a keystore of l2proxy, or is damaged")
        if document.get("version") != VERSION or not isinstance(document.get("sealed"), dict):
            raise KeystoreError(f"{self.path} has a form this version of l2proxy does not know")
        return document


def _accounts(document: dict[str, Any]) -> tuple[Account, ...]:
    rows = document.get("accounts")
    accounts = []
    for row in rows if isinstance(rows, list) else []:
        address, index = (row.get("address"), row.get("index")) if isinstance(row, dict) else (None, None)
        if not isinstance(address, str) or not (index is None or (type(index) is int and 0 <= index < 1 << 31)):
            raise KeystoreError("the list of accounts in the keystore is damaged")
        accounts.append(Account(address, index))
    return tuple(accounts)
