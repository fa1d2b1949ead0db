"""The demo: the whole journey of two users through real processes and real doors, with every wei checked.

Uses the daemon only from outside: its command line, its admin socket, its dapp door.
"""
