"""Ray: the cluster, its workers, and the ways to run a study on it."""
