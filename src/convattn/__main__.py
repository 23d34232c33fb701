"""`python -m convattn`, for torchrun: torchrun -m convattn train ..."""

from __future__ import annotations

import sys

from convattn.cli import main

sys.exit(main())
