"""`python -m proxy` is the `l2proxy` command."""

import sys

from proxy.cli import main

sys.exit(main())
