"""Real web3 libraries as the journey's clients: web3.py in this process, ethers and viem in a node process."""
