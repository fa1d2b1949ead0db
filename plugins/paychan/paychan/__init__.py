"""The parts of the payment-channel plugin; `channel.py` beside this folder puts them together."""
