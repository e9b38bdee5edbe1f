"""The tables of MLflow's database that runs are written to and found in, as far as they matter."""

from __future__ import annotations

import sqlalchemy as sa

__all__ = [
    "DATASETS", "EXPERIMENTS", "INPUTS", "LATEST", "METADATA", "METRICS", "PARAMS", "RUNS", "TAGS",
]  # fmt: skip

_ID_LENGTH = 32  # characters

METADATA = sa.MetaData()
RUNS = sa.Table(
    "runs",
    METADATA,
    sa.Column("run_uuid", sa.String(_ID_LENGTH), primary_key=True),
    sa.Column("name", sa.String(250)),
    sa.Column("source_type", sa.String(20)),
    sa.Column("source_name", sa.String(500)),
    sa.Column("entry_point_name", sa.String(50)),
    sa.Column("user_id", sa.String(256)),
    sa.Column("status", sa.String(20)),
    sa.Column("start_time", sa.BigInteger),
    sa.Column("end_time", sa.BigInteger),
    sa.Column("deleted_time", sa.BigInteger),
    sa.Column("source_version", sa.String(50)),
    sa.Column("lifecycle_stage", sa.String(20)),
    sa.Column("artifact_uri", sa.String(200)),
    sa.Column("experiment_id", sa.Integer),
)


def _texts_of_runs(name: str) -> sa.Table:
    """Parameters or tags."""
    return sa.Table(
        name,
        METADATA,
        sa.Column("key", sa.String(250), primary_key=True),
        sa.Column("value", sa.String(8000)),
        sa.Column("run_uuid", sa.String(_ID_LENGTH), primary_key=True),
    )


def _numbers_of_runs(name: str) -> sa.Table:
    """Metrics at every step, or at the latest."""
    return sa.Table(
        name,
        METADATA,
        sa.Column("key", sa.String(250), primary_key=True),
        sa.Column("value", sa.Float(53), primary_key=True),
        sa.Column("timestamp", sa.BigInteger, primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True),
        sa.Column("is_nan", sa.Boolean, primary_key=True),
        sa.Column("run_uuid", sa.String(_ID_LENGTH), primary_key=True),
    )


TAGS, PARAMS = _texts_of_runs("tags"), _texts_of_runs("params")
METRICS, LATEST = _numbers_of_runs("metrics"), _numbers_of_runs("latest_metrics")
DATASETS = sa.Table(
    "datasets",
    METADATA,
    sa.Column("dataset_uuid", sa.String(36)),
    sa.Column("experiment_id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(500), primary_key=True),
    sa.Column("digest", sa.String(36), primary_key=True),
    sa.Column("dataset_source_type", sa.String(36)),
    sa.Column("dataset_source", sa.UnicodeText),
    sa.Column("dataset_schema", sa.UnicodeText),
    sa.Column("dataset_profile", sa.UnicodeText),
)
INPUTS = sa.Table(
    "inputs",
    METADATA,
    sa.Column("input_uuid", sa.String(36)),
    sa.Column("source_type", sa.String(36), primary_key=True),
    sa.Column("source_id", sa.String(36), primary_key=True),
    sa.Column("destination_type", sa.String(36), primary_key=True),
    sa.Column("destination_id", sa.String(36), primary_key=True),
    sa.Column("step", sa.BigInteger),
)
EXPERIMENTS = sa.table(
    "experiments",
    *(sa.column(name) for name in ("experiment_id", "artifact_location", "lifecycle_stage")),
)
