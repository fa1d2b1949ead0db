// SPDX-License-Identifier: MIT
// What the comparison with anvil deploys: storage, events, and every way to fail. Probe.json is its output; see probe.py.
pragma solidity 0.8.37;

contract Probe {
    uint256 public number = 7;
    mapping(address => uint256) public paid;

    event Stored(address indexed by, uint256 indexed value, string note);
    event Plain(uint256 value);

    error Custom(uint256 code, string why);

    constructor() payable {}

    function store(uint256 value, string calldata note) external payable {
        number = value;
        paid[msg.sender] += msg.value;
        emit Stored(msg.sender, value, note);
        emit Plain(value);
    }

    function environment() external view returns (address, uint256, uint256, uint256, uint256, bytes32) {
        return (msg.sender, block.chainid, block.number, block.timestamp, gasleft(), blockhash(block.number - 1));
    }

    function transientOpcodes() external returns (uint256 result) {
        assembly {
            tstore(1, 42)
            mcopy(0, 0, 32)
            result := tload(1)
        }
    }

    function failReason() external pure { revert("not today"); }
    function failEmpty() external pure { revert(); }
    function failCustom() external pure { revert Custom(5, "custom"); }
    function failPanic(uint256 value) external pure returns (uint256) { return 1 / value; }
    function failInvalid() external pure { assembly { invalid() } }
    function failOutOfGas() external pure { while (true) {} }
}
