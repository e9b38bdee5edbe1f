"""What a worker of a Ray that this machine starts imports while it waits for its first block.

Ray imports this module by its name, which alone begins it.
"""

from __future__ import annotations

from dynloss_core.garbage_collection import collect_rarely

collect_rarely()

import studies.cluster.trainable  # noqa: E402, F401  all that it needs, with garbage left alone
