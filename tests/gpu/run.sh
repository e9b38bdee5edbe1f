#!/usr/bin/env bash
# The GPU kit: `bash tests/gpu/run.sh [FOLDER]`, or with --cpu tiny and without a GPU. It takes
# $PYTHON, or the project's environment if there is one, or the machine's python3.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
if [[ -z ${PYTHON:-} && -x $root/.venv/bin/python ]]; then
    python=$root/.venv/bin/python
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -P -m tests.gpu.kit "$@"  # -P: a folder `tests` beside the caller is not ours
