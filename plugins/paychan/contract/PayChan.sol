// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Payment channels between users and one hub, in ETH.
///
/// A channel holds what its owner and the hub paid in. Off chain each side gives the other *vouchers*: signed, cumulative
/// totals that only grow. `sent` is what the user has paid the hub, `received` what the hub has paid the user. Nobody can gain
/// by presenting an old voucher against the other side, because each side presents the vouchers it was given, and in the
/// challenge window the highest one counts. What a side can be paid never exceeds what the channel holds.
///
/// Payments to an owner never block the other side: what an owner refuses to take is kept for `collect`.
contract PayChan {
    enum Status { None, Open, Closing, Closed }

    struct Channel {
        address owner;      // the main account: paid in, is paid out
        Status status;
        uint64 closesAt;    // chain time; set while Closing
        address signer;     // the user's state key: signs vouchers, owns nothing
        uint256 userIn;     // paid in by the owner
        uint256 hubIn;      // paid in by the hub as collateral
        uint256 userOut;    // taken out by the owner while open
        uint256 sent;       // highest voucher of the user, presented in a close
        uint256 received;   // highest voucher of the hub, presented in a close
        uint256 locked;     // of userIn, what has not been released yet (for wallets that show what is locked)
    }

    // Emitted for the proxy: Deposited minus Released is what an owner has locked here; it ends at zero.
    event Deposited(address indexed user, uint256 amount);
    event Released(address indexed user, uint256 amount);
    event Withdrawn(address indexed user, uint256 amount);

    event Opened(address indexed user, bytes32 indexed channel, address signer);
    event Funded(address indexed user, bytes32 indexed channel, uint256 amount);
    event CloseStarted(address indexed user, bytes32 indexed channel, uint64 closesAt);
    event Answered(address indexed user, bytes32 indexed channel, uint256 sent, uint256 received);
    event Closed(address indexed user, bytes32 indexed channel, uint256 toUser, uint256 toHub);

    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant VOUCHER_TYPE =
        keccak256("Voucher(bytes32 channel,address payer,uint64 nonce,uint256 amount,bytes32 order)");
    bytes32 private constant WITHDRAWAL_TYPE = keccak256("Withdrawal(bytes32 channel,uint256 total,uint256 deadline)");
    bytes32 private constant FINAL_TYPE = keccak256("Final(bytes32 channel,uint256 sent,uint256 received)");
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    uint256 private constant PAYMENT_GAS = 100_000; // enough for a smart account, too little to grief a settlement

    address public immutable hub;
    uint64 public immutable challengeWindow; // seconds

    mapping(bytes32 => Channel) private _channels;
    mapping(address => bytes32) public channelOf; // an owner's newest channel
    mapping(address => uint256) public opened;    // how many channels an owner ever had: no id is used twice
    mapping(address => uint256) public owed;      // payments that were refused

    constructor(address hub_, uint64 challengeWindow_) {
        require(hub_ != address(0), "the hub is the zero address");
        require(challengeWindow_ > 0, "the challenge window is zero");
        hub = hub_;
        challengeWindow = challengeWindow_;
    }

    function channels(bytes32 id) external view returns (Channel memory) {
        return _channels[id];
    }

    /// Open the sender's channel with its state key, or pay more into it. Zero opens one that can only receive.
    function open(address signer) external payable {
        bytes32 id = channelOf[msg.sender];
        Channel storage channel = _channels[id];
        if (channel.status == Status.None || channel.status == Status.Closed) {
            require(signer != address(0) && signer != hub, "the signer must be the user's own key");
            id = keccak256(abi.encode(block.chainid, address(this), msg.sender, ++opened[msg.sender]));
            channelOf[msg.sender] = id;
            channel = _channels[id];
            channel.owner = msg.sender;
            channel.signer = signer;
            channel.status = Status.Open;
            emit Opened(msg.sender, id, signer);
        }
        require(channel.status == Status.Open, "the channel is closing");
        require(channel.signer == signer, "the channel has another signer");
        channel.userIn += msg.value;
        channel.locked += msg.value;
        emit Deposited(msg.sender, msg.value);
    }

    /// The hub adds collateral, out of which the user can be paid.
    function fund(bytes32 id) external payable {
        Channel storage channel = _channels[id];
        require(msg.sender == hub, "only the hub funds");
        require(channel.status == Status.Open, "the channel is not open");
        channel.hubIn += msg.value;
        emit Funded(channel.owner, id, msg.value);
    }

    /// Take money out of an open channel with the hub's consent. `total` is cumulative: executed twice, it pays once.
    /// Anyone may submit it; the owner is paid.
    function withdraw(bytes32 id, uint256 total, uint256 deadline, bytes calldata hubSignature) external {
        Channel storage channel = _channels[id];
        require(channel.status == Status.Open, "the channel is not open");
        bytes32 content = keccak256(abi.encode(WITHDRAWAL_TYPE, id, total, deadline));
        require(_recover(content, hubSignature) == hub, "the hub did not sign this withdrawal");
        if (total <= channel.userOut) return;
        require(block.timestamp <= deadline, "the withdrawal has expired");
        uint256 amount = total - channel.userOut;
        require(amount <= channel.userIn + channel.hubIn - channel.userOut, "more than the channel holds");
        channel.userOut = total;
        _payOwner(channel, amount, amount);
    }

    /// Close at once with both signatures. Anyone may submit; a second time nothing happens.
    function closeTogether(
        bytes32 id,
        uint256 sent,
        uint256 received,
        bytes calldata signerSignature,
        bytes calldata hubSignature
    ) external {
        Channel storage channel = _channels[id];
        require(channel.status != Status.None, "no such channel");
        bytes32 content = keccak256(abi.encode(FINAL_TYPE, id, sent, received));
        require(_recover(content, signerSignature) == channel.signer, "the user did not sign this close");
        require(_recover(content, hubSignature) == hub, "the hub did not sign this close");
        if (channel.status == Status.Closed) return;
        _bounded(sent);
        _bounded(received);
        channel.sent = sent;
        channel.received = received;
        _finish(id, channel);
    }

    /// Begin to close without the other side, presenting the best voucher it gave (amount 0: none).
    function startClose(
        bytes32 id,
        address payer,
        uint64 nonce,
        uint256 amount,
        bytes32 order,
        bytes calldata signature
    ) external {
        Channel storage channel = _channels[id];
        require(
            msg.sender == channel.owner || msg.sender == channel.signer || msg.sender == hub,
            "only owner, signer or hub close"
        );
        require(channel.status == Status.Open, "the channel is not open");
        channel.status = Status.Closing;
        channel.closesAt = uint64(block.timestamp) + challengeWindow;
        emit CloseStarted(channel.owner, id, channel.closesAt);
        if (amount > 0) _present(id, channel, payer, nonce, amount, order, signature);
    }

    /// Present a voucher while the window is open. Anyone may; a lower one than known changes nothing.
    function answer(
        bytes32 id,
        address payer,
        uint64 nonce,
        uint256 amount,
        bytes32 order,
        bytes calldata signature
    ) external {
        Channel storage channel = _channels[id];
        require(channel.status == Status.Closing, "the channel is not closing");
        require(block.timestamp < channel.closesAt, "the challenge window is over");
        _present(id, channel, payer, nonce, amount, order, signature);
    }

    /// Pay both sides after the window. Anyone may; a second time nothing happens.
    function settle(bytes32 id) external {
        Channel storage channel = _channels[id];
        if (channel.status == Status.Closed) return;
        require(channel.status == Status.Closing, "the channel is not closing");
        require(block.timestamp >= channel.closesAt, "the challenge window is still open");
        _finish(id, channel);
    }

    /// Take a payment that was refused before.
    function collect() external {
        uint256 amount = owed[msg.sender];
        require(amount > 0, "nothing is owed to the sender");
        owed[msg.sender] = 0;
        (bool paid, ) = msg.sender.call{value: amount}("");
        require(paid, "the sender refuses the payment");
    }

    function _present(
        bytes32 id,
        Channel storage channel,
        address payer,
        uint64 nonce,
        uint256 amount,
        bytes32 order,
        bytes calldata signature
    ) private {
        require(payer == hub || payer == channel.signer, "the payer is no side of the channel");
        _bounded(amount);
        bytes32 content = keccak256(abi.encode(VOUCHER_TYPE, id, payer, nonce, amount, order));
        require(_recover(content, signature) == payer, "the payer did not sign this voucher");
        if (payer == hub) {
            if (amount > channel.received) channel.received = amount;
        } else if (amount > channel.sent) {
            channel.sent = amount;
        }
        emit Answered(channel.owner, id, channel.sent, channel.received);
    }

    function _finish(bytes32 id, Channel storage channel) private {
        uint256 total = channel.userIn + channel.hubIn - channel.userOut;
        uint256 plus = channel.userIn + channel.received;
        uint256 minus = channel.userOut + channel.sent;
        uint256 toUser = plus > minus ? plus - minus : 0;
        if (toUser > total) toUser = total;
        channel.status = Status.Closed;
        emit Closed(channel.owner, id, toUser, total - toUser);
        _payOwner(channel, toUser, channel.locked);
        _pay(hub, total - toUser);
    }

    function _payOwner(Channel storage channel, uint256 amount, uint256 release) private {
        if (release > channel.locked) release = channel.locked;
        channel.locked -= release;
        emit Released(channel.owner, release);
        emit Withdrawn(channel.owner, amount);
        _pay(channel.owner, amount);
    }

    function _pay(address to, uint256 amount) private {
        if (amount == 0) return;
        require(gasleft() > PAYMENT_GAS + PAYMENT_GAS / 4, "too little gas to pay out");
        bool paid;
        assembly ("memory-safe") {
            paid := call(PAYMENT_GAS, to, amount, 0, 0, 0, 0) // nothing it returns is copied
        }
        if (!paid) owed[to] += amount;
    }

    /// Below 2^128, so that no sum of amounts can overflow and block a settlement.
    function _bounded(uint256 amount) private pure {
        require(amount < 2 ** 128, "no such amount of ETH exists");
    }

    /// The signer of `content` in this contract's EIP-712 domain; 65 bytes, low s, v of 27 or 28, or it reverts.
    function _recover(bytes32 content, bytes calldata signature) private view returns (address) {
        require(signature.length == 65, "a signature has 65 bytes");
        bytes32 r = bytes32(signature[0:32]);
        bytes32 s = bytes32(signature[32:64]);
        uint8 v = uint8(signature[64]);
        require(uint256(s) <= HALF_ORDER && (v == 27 || v == 28), "a malleable signature");
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPE, keccak256("l2proxy paychan"), keccak256("1"), block.chainid, address(this))
        );
        address signer = ecrecover(keccak256(abi.encodePacked("\x19\x01", domain, content)), v, r, s);
        require(signer != address(0), "a signature of nobody");
        return signer;
    }
}
