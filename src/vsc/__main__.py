"""`python -m vsc` and `torchrun -m vsc`: the command line."""

import sys

from vsc.cli import main

sys.exit(main())
