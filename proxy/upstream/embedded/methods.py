"""The table of every method the embedded L1 serves, with its parameters.

`dispatch` looks names up here; what is not here answers 4200. The functions stand in the module of their subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.upstream.embedded import accounts, development, execution, fees, identity, logs, lookup
from proxy.upstream.embedded.call_object import call, overrides
from proxy.upstream.embedded.params import (
    Param,
    address,
    block,
    block_tag_or_number,
    boolean,
    data,
    hash32,
    loose_integer,
    storage_slot,
    uint64,
)


@dataclass(frozen=True)
class Method:
    """A served method: called with the node and its decoded parameters, answers a JSON value in wire form."""

    run: Callable[..., object]
    params: tuple[Param, ...] = ()


_STATE_AT = Param("block", block, "latest")
_WHICH_BLOCK = Param("block", block)
_NUMBER = Param("block", block_tag_or_number)
_HASH = Param("hash", hash32)
_ADDRESS = Param("address", address)
_FULL = Param("full", boolean, False)
_INDEX = Param("index", uint64)
_MESSAGE = (Param("transaction", call), _STATE_AT, Param("state overrides", overrides, None))

IDENTITY: Mapping[str, Method] = {
    "web3_clientVersion": Method(identity.client),
    "web3_sha3": Method(identity.sha3, (Param("data", data),)),
    "net_version": Method(identity.network),
    "net_listening": Method(identity.listening),
    "net_peerCount": Method(identity.peers),
    "eth_chainId": Method(identity.chain_id),
    "eth_syncing": Method(identity.syncing),
    "eth_accounts": Method(identity.accounts),
    "eth_mining": Method(identity.mining),
}

LOOKUP: Mapping[str, Method] = {
    "eth_blockNumber": Method(lookup.block_number),
    "eth_getBlockByNumber": Method(lookup.get_block, (_NUMBER, _FULL)),
    "eth_getBlockByHash": Method(lookup.get_block, (_HASH, _FULL)),
    "eth_getBlockReceipts": Method(lookup.block_receipts, (_WHICH_BLOCK,)),
    "eth_getBlockTransactionCountByNumber": Method(lookup.transaction_count, (_NUMBER,)),
    "eth_getBlockTransactionCountByHash": Method(lookup.transaction_count, (_HASH,)),
    "eth_getUncleCountByBlockNumber": Method(lookup.uncle_count, (_NUMBER,)),
    "eth_getUncleCountByBlockHash": Method(lookup.uncle_count, (_HASH,)),
    "eth_getUncleByBlockNumberAndIndex": Method(lookup.uncle, (_NUMBER, _INDEX)),
    "eth_getUncleByBlockHashAndIndex": Method(lookup.uncle, (_HASH, _INDEX)),
    "eth_getTransactionByHash": Method(lookup.transaction, (_HASH,)),
    "eth_getTransactionByBlockNumberAndIndex": Method(lookup.transaction_at, (_NUMBER, _INDEX)),
    "eth_getTransactionByBlockHashAndIndex": Method(lookup.transaction_at, (_HASH, _INDEX)),
    "eth_getRawTransactionByHash": Method(lookup.raw_transaction, (_HASH,)),
    "eth_getTransactionReceipt": Method(lookup.receipt, (_HASH,)),
    "eth_getLogs": Method(logs.get_logs, (Param("filter", logs.log_filter),)),
}

STATE: Mapping[str, Method] = {
    "eth_getBalance": Method(accounts.balance, (_ADDRESS, _STATE_AT)),
    "eth_getCode": Method(accounts.code, (_ADDRESS, _STATE_AT)),
    "eth_getTransactionCount": Method(accounts.nonce, (_ADDRESS, _STATE_AT)),
    "eth_getStorageAt": Method(accounts.storage, (_ADDRESS, Param("slot", storage_slot), _STATE_AT)),
    "eth_getProof": Method(accounts.proof, (_ADDRESS, Param("slots", accounts.slots), _STATE_AT)),
    "eth_call": Method(execution.eth_call, _MESSAGE),
    "eth_estimateGas": Method(execution.eth_estimate_gas, _MESSAGE),
    "eth_createAccessList": Method(execution.eth_create_access_list, _MESSAGE),
    "eth_sendRawTransaction": Method(accounts.send_raw, (Param("transaction", data),)),
}

FEES: Mapping[str, Method] = {
    "eth_gasPrice": Method(fees.gas_price),
    "eth_maxPriorityFeePerGas": Method(fees.max_priority_fee),
    "eth_baseFee": Method(fees.base_fee),
    "eth_blobBaseFee": Method(fees.blob_base_fee),
    "eth_feeHistory": Method(
        fees.fee_history,
        (Param("block count", loose_integer), _NUMBER, Param("percentiles", fees.percentiles, None)),
    ),
}

_WEI = Param("wei", loose_integer)
_SECONDS = Param("seconds", loose_integer)
_SET_BALANCE = Method(development.set_balance, (_ADDRESS, _WEI))
_SET_CODE = Method(development.set_code, (_ADDRESS, Param("code", data)))
_SET_NONCE = Method(development.set_nonce, (_ADDRESS, Param("nonce", loose_integer)))
_SET_STORAGE = Method(development.set_storage, (_ADDRESS, Param("slot", storage_slot), Param("value", hash32)))
_MINE_MANY = Method(development.mine_many, (Param("blocks", loose_integer, 1), Param("interval", loose_integer, 0)))

DEVELOPMENT: Mapping[str, Method] = {
    "evm_mine": Method(development.mine, (Param("options", development.mine_options, None),)),
    "anvil_mine": _MINE_MANY,
    "hardhat_mine": _MINE_MANY,
    "evm_snapshot": Method(development.snapshot),
    "evm_revert": Method(development.revert, (Param("snapshot", loose_integer),)),
    "evm_increaseTime": Method(development.increase_time, (_SECONDS,)),
    "evm_setNextBlockTimestamp": Method(development.next_timestamp, (_SECONDS,)),
    "evm_setAutomine": Method(development.set_automine, (Param("enabled", boolean),)),
    "anvil_setBalance": _SET_BALANCE,
    "hardhat_setBalance": _SET_BALANCE,
    "anvil_setCode": _SET_CODE,
    "hardhat_setCode": _SET_CODE,
    "anvil_setNonce": _SET_NONCE,
    "hardhat_setNonce": _SET_NONCE,
    "anvil_setStorageAt": _SET_STORAGE,
    "hardhat_setStorageAt": _SET_STORAGE,
}

METHODS: Mapping[str, Method] = {**IDENTITY, **LOOKUP, **STATE, **FEES, **DEVELOPMENT}
