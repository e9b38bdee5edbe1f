"""`python -m studies` is the command `dynloss`."""

import sys
from importlib.util import find_spec

if __name__ == "__main__":
    try:
        from dynloss_core.command import main
    except ImportError as error:
        spec = find_spec("dynloss_core")
        path = (spec.origin or list(spec.submodule_search_locations or ())) if spec else "missing"
        sys.stderr.write(f"dynloss: {error}: the dynloss_core imported here is {path}\n")
        sys.exit(2)
    main()
