"""`l2proxy doctor`: looks at this machine, the data directory, the nodes and the daemon, and says what to do.

Each module looks at one thing and yields `Finding`s; nothing here changes anything, and a check that cannot be made is a
finding itself.
"""
