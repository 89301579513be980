"""Carries out suites of checks, each in a guest of its own, one after the other; the first check that fails ends its suite."""
import argparse
import random
import sys
import time
import traceback

from cuts import CutChecks
from guest import Guest
from server import Failure, Unanswered
from unit import UnitChecks

SUITES = {
    'unit-bookworm': ('bookworm', lambda guest, options: UnitChecks(guest)),
    'unit-trixie': ('trixie', lambda guest, options: UnitChecks(guest)),
    'sqlite': ('bookworm', lambda guest, options: CutChecks(guest, 'sqlite', options.cuts, options.random)),
    'postgres': ('bookworm', lambda guest, options: CutChecks(guest, 'postgres', options.cuts, options.random)),
    'docker': ('bookworm', lambda guest, options: CutChecks(guest, 'docker', options.cuts, options.random)),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('program')
    parser.add_argument('suites', nargs='*', default=list(SUITES))
    parser.add_argument('--cuts', type=int, default=10, help='how often the power is cut in each suite')
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 32), help='what chance begins with')
    parser.add_argument('--keep', action='store_true', help='leave the guest of a suite that fails as it is')
    options = parser.parse_intermixed_args()
    unknown = [suite for suite in options.suites if suite not in SUITES]
    if unknown:
        parser.error(f'no suite {" ".join(unknown)}: {", ".join(SUITES)}')
    failed = [suite for suite in options.suites if not passes(suite, options)]
    print(f'{len(options.suites) - len(failed)} passed, {len(failed)} failed', flush=True)
    sys.exit(1 if failed else 0)


def passes(suite, options):
    release, checks_of = SUITES[suite]
    options.random = random.Random(options.seed)
    print(f'{suite}, seed {options.seed}', flush=True)
    guest = Guest(f'power-{suite}', release)
    guest.program = options.program
    guest.purge()
    has_passed = False
    try:
        for title, check in checks_of(guest, options).checks():
            begun = time.monotonic()
            check()
            print(f'  {title}: {time.monotonic() - begun:.0f} s', flush=True)
        has_passed = True
    except (Failure, Unanswered) as failure:
        print(f'  not so: {title}\n{failure}', flush=True)
    except Exception:
        print(f'  not so: {title}\n{traceback.format_exc()}', flush=True)
        raise
    finally:
        if has_passed or not options.keep:
            guest.purge()
    return has_passed


main()
