"""Ray: the cluster, its workers, and the ways to drive a study there."""
